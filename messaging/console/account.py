"""An operator's own page: what they sign in with, where they are signed in, their tokens. Everything here is about oneself alone."""

from binascii import Error as NotBase64
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

import segno
from aiohttp import web
from pydantic import Field

from messaging.console.guards import ACCOUNT_PATH, SIGN_IN_PATH, address_of, clear_sign_in
from messaging.console.parts import CONSOLE, RECORD, SIGN_IN
from messaging.console.passkeys import RELYING_PARTY, challenge_of, options_of_registration, registered
from messaging.console.rendering import render
from messaging.relay.admin.errors import InvalidInput, NothingThere
from messaging.relay.admin.limits import MAX_NAME
from messaging.relay.admin.operators import check_name
from messaging.relay.admin.recovery import new_totp_secret, totp_address, totp_letters
from messaging.relay.admin.sign_ins import Method
from messaging.wire.json import Entity, decode_base64, encode_base64, json_body

ADDING = "add a passkey"
_QR_SCALE = 5
_MAX_PENDING = 256


class NewOwnPasskey(Entity):
    """A passkey that was made, and what its owner calls it."""

    passkey_name: Annotated[str, Field(max_length=4 * MAX_NAME)]
    credential: dict[str, Any]


def routes() -> list[web.RouteDef]:
    """All of it."""
    return [
        web.get(ACCOUNT_PATH, get_account),
        web.post("/account/passkeys/options", post_passkey_options),
        web.post("/account/passkeys", post_passkey),
        web.post("/account/passkeys/remove", post_remove_passkey),
        web.post("/account/recovery-codes", post_recovery_codes),
        web.get("/account/totp", get_totp),
        web.post("/account/totp", post_totp),
        web.post("/account/totp/remove", post_remove_totp),
        web.post("/account/company/remove", post_remove_company),
        web.post("/account/sign-ins/end", post_end_sign_in),
    ]


async def get_account(request: web.Request) -> web.StreamResponse:
    """What somebody has."""
    console, sign_in = request.app[CONSOLE], request[SIGN_IN]
    context = {
        "means": await console.door.means_of(request[RECORD]),
        "sign_in": sign_in,
        "is_recovery": sign_in.method is Method.RECOVERY,
        "has_oidc": console.has_oidc,
    }
    return render(request, "account.html", context)


# --- passkeys ---


async def post_passkey_options(request: web.Request) -> web.StreamResponse:
    """Begin to add one."""
    console, record, sign_in = request.app[CONSOLE], request[RECORD], request[SIGN_IN]
    await console.door.see_may_change(record, sign_in, "passkeys.add", recovering=True)
    challenge = await console.door.begin(ADDING, record.id, address_of(request))
    known = [each.credential_id for each in (await console.door.means_of(record)).passkeys]
    options = options_of_registration(console.site, record.handle, record.name, challenge, known)
    return web.Response(text=options, content_type="application/json")


async def post_passkey(request: web.Request) -> web.StreamResponse:
    """Keep one. Who came with a recovery code goes on to sign in with it."""
    console, record, sign_in = request.app[CONSOLE], request[RECORD], request[SIGN_IN]
    given = NewOwnPasskey.from_json(await request.read())
    challenge = challenge_of(given.credential)
    await console.door.take(challenge, ADDING, record.id)
    new = registered(console.site, given.credential, challenge, check_name(given.passkey_name, "passkeyName"))
    await console.door.add_own_passkey(record, sign_in, new)
    recovered = sign_in.method is Method.RECOVERY
    response = web.Response(
        body=json_body({"next": SIGN_IN_PATH if recovered else ACCOUNT_PATH}), content_type="application/json"
    )
    if recovered:
        clear_sign_in(response, console.site)
    return response


async def post_remove_passkey(request: web.Request) -> web.StreamResponse:
    """Forget one."""
    credential_id = _from_hex(_form_text(await request.post(), "passkey"))
    await request.app[CONSOLE].door.remove_own_passkey(request[RECORD], request[SIGN_IN], credential_id)
    return _back()


# --- recovery ---


async def post_recovery_codes(request: web.Request) -> web.StreamResponse:
    """Make new codes, and show them this once."""
    codes = await request.app[CONSOLE].door.make_recovery_codes(request[RECORD], request[SIGN_IN])
    return render(request, "recovery_codes.html", {"codes": codes})


async def get_totp(request: web.Request) -> web.StreamResponse:
    """A new secret for an authenticator app, which the next step confirms. Nothing has changed yet."""
    await request.app[CONSOLE].door.see_may_change(request[RECORD], request[SIGN_IN], "totp.set")
    return _totp_page(request, new_totp_secret())


def _totp_page(request: web.Request, totp_secret: bytes) -> web.Response:
    record = request[RECORD]
    code = segno.make(totp_address(totp_secret, record.name, RELYING_PARTY), error="m")
    context = {
        "image": code.svg_data_uri(scale=_QR_SCALE, light="white", border=2),
        "letters": totp_letters(totp_secret),
        "pending": encode_base64(request.app[CONSOLE].door.pending_totp(record, totp_secret)),
    }
    return render(request, "totp.html", context)


async def post_totp(request: web.Request) -> web.StreamResponse:
    """Confirm it."""
    form = await request.post()
    try:
        pending = decode_base64(_form_text(form, "pending")[:_MAX_PENDING])
    except (ValueError, NotBase64):
        raise InvalidInput(("pending",), "Begin again.") from None
    await request.app[CONSOLE].door.confirm_totp(request[RECORD], request[SIGN_IN], pending, _form_text(form, "code"))
    return _back()


async def post_remove_totp(request: web.Request) -> web.StreamResponse:
    """Ask for no time-based codes any more."""
    await request.app[CONSOLE].door.remove_totp(request[RECORD], request[SIGN_IN])
    return _back()


# --- the rest ---


async def post_remove_company(request: web.Request) -> web.StreamResponse:
    """Sign in through the company's provider no more."""
    await request.app[CONSOLE].door.unbind_own_oidc(request[RECORD], request[SIGN_IN])
    return _back()


async def post_end_sign_in(request: web.Request) -> web.StreamResponse:
    """End one of one's own sign-ins, this one perhaps."""
    await request.app[CONSOLE].door.end_own(request[RECORD], _form_text(await request.post(), "sign_in"))
    return _back()


def _back() -> web.Response:
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": ACCOUNT_PATH})


def _form_text(form: Mapping[str, Any], name: str) -> str:
    """One field of a form.

    Raises:
        InvalidInput: it is not there.
    """
    value = form.get(name)
    if not isinstance(value, str):
        raise InvalidInput((name,))
    return value


def _from_hex(text: str) -> bytes:
    """Bytes that our own form has given.

    Raises:
        NothingThere: it has not.
    """
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise NothingThere from None
