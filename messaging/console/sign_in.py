"""Signing in and out, and becoming an operator: what browsers send, to ``door``, and what it says, to pages.

Passkeys need a script (``assets/passkey.js``), which speaks JSON; all else are forms. The code of an enrolment link stands behind a ``#``,
so that it is in no request's path.
"""

from http import HTTPStatus
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field

from messaging.console.browsers import browser_of
from messaging.console.guards import ACCOUNT_PATH, SIGN_IN_PATH, SIGN_OUT_PATH, address_of, clear_sign_in, set_sign_in
from messaging.console.parts import CONSOLE, RECORD, SIGN_IN, Console
from messaging.console.passkeys import (
    challenge_of,
    credential_id_of,
    options_of_registration,
    options_of_sign_in,
    registered,
    signed,
)
from messaging.console.rendering import render
from messaging.relay.admin.door import Entered, NotRight
from messaging.relay.admin.errors import TooManyTries
from messaging.relay.admin.limits import MAX_NAME
from messaging.relay.admin.operators import check_name
from messaging.wire.json import Entity, json_body

SIGNING_IN: Final = "sign in"
_ENROLLING: Final = "enrol "
_PURPOSE_LETTERS: Final = 26  # of a code's hash, in the name of a purpose
_MAX_CODE: Final = 128

Code = Annotated[str, Field(max_length=_MAX_CODE)]
Name = Annotated[str, Field(max_length=4 * MAX_NAME)]


class SignedChallenge(Entity):
    """The answer of a browser with a passkey."""

    credential: dict[str, Any]


class Enrolling(Entity):
    """Who wants to enrol. An operator who gets another passkey has a name already."""

    code: Code
    name: Name = ""


class Enrolled(Enrolling):
    """The same with the passkey that was made."""

    passkey_name: Name = ""
    credential: dict[str, Any]


def routes() -> list[web.RouteDef]:
    """All that is open to everybody, and the way out."""
    return [
        web.get(SIGN_IN_PATH, get_sign_in),
        web.post("/sign-in/options", post_options),
        web.post("/sign-in/passkey", post_passkey),
        web.post("/sign-in/recovery", post_recovery),
        web.get("/enrol", get_enrol),
        web.post("/enrol/options", post_enrol_options),
        web.post("/enrol/passkey", post_enrol_passkey),
        web.post(SIGN_OUT_PATH, post_sign_out),
        web.get("/health", get_health),
    ]


async def get_health(_: web.Request) -> web.StreamResponse:
    """That the console answers, and nothing else."""
    return web.json_response({"ok": True})


# --- signing in ---


async def get_sign_in(request: web.Request) -> web.StreamResponse:
    """The page with all ways in."""
    return _under_our_name(request) or _sign_in_page(request)


def _sign_in_page(request: web.Request, wrong: str = "", status: int = HTTPStatus.OK) -> web.Response:
    context = {"has_oidc": request.app[CONSOLE].has_oidc, "wrong": wrong}
    return render(request, "sign_in.html", context, status=status)


async def post_options(request: web.Request) -> web.StreamResponse:
    """Begin: a challenge for any passkey."""
    console = request.app[CONSOLE]
    challenge = await console.door.begin(SIGNING_IN, None, address_of(request))
    return _json(options_of_sign_in(console.site, challenge))


async def post_passkey(request: web.Request) -> web.StreamResponse:
    """Finish: whoever has signed the challenge is signed in, under a new cookie."""
    console, given = request.app[CONSOLE], SignedChallenge.from_json(await request.read())
    door, address = console.door, address_of(request)
    async with door.trying(address):
        challenge, credential_id = challenge_of(given.credential), credential_id_of(given.credential)
        await door.take(challenge, SIGNING_IN, None)
        passkey, record = await door.passkey(credential_id)
        try:
            async with door.trying_to_be(record):
                count = signed(console.site, given.credential, challenge, passkey, record.handle)
                entered = await door.enter(passkey, count, _browser(request), request.get(SIGN_IN))
        except NotRight:
            await door.note_refused(record, "passkey")
            raise
    return _entered(console, entered, "/")


async def post_recovery(request: web.Request) -> web.StreamResponse:
    """Let in who has a recovery code, to their own page and no further."""
    console, form = request.app[CONSOLE], await request.post()
    code, second = str(form.get("code", ""))[:_MAX_CODE], str(form.get("second", ""))[:_MAX_CODE]
    try:
        entered = await console.door.recover(code, second, address_of(request), _browser(request))
    except (NotRight, TooManyTries) as error:
        return _sign_in_page(request, str(error), error.status)
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": ACCOUNT_PATH})
    set_sign_in(response, console.site, entered.value)
    return response


async def post_sign_out(request: web.Request) -> web.StreamResponse:
    """End this sign-in."""
    console = request.app[CONSOLE]
    await console.door.leave(request[RECORD], request[SIGN_IN])
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": SIGN_IN_PATH})
    clear_sign_in(response, console.site)
    return response


# --- becoming an operator ---


async def get_enrol(request: web.Request) -> web.StreamResponse:
    """The page to which an enrolment link leads. What the link says, the script reads."""
    return _under_our_name(request) or render(request, "enrol.html")


async def post_enrol_options(request: web.Request) -> web.StreamResponse:
    """Begin: a challenge for a new passkey, to whoever has a code."""
    console, given = request.app[CONSOLE], Enrolling.from_json(await request.read())
    door, address = console.door, address_of(request)
    async with door.trying(address):
        _, record = await door.enrolment(given.code)
        name = await door.free_name(given.name) if record is None else record.name
    challenge = await door.begin(_purpose(console, given.code), None, address)
    if record is None:
        return _json(options_of_registration(console.site, door.handle_of(given.code), name, challenge, ()))
    known = [each.credential_id for each in (await door.means_of(record)).passkeys]
    return _json(options_of_registration(console.site, record.handle, name, challenge, known))


async def post_enrol_passkey(request: web.Request) -> web.StreamResponse:
    """Finish: an operator, or an operator's new passkey."""
    console, given = request.app[CONSOLE], Enrolled.from_json(await request.read())
    async with console.door.trying(address_of(request)):
        challenge = challenge_of(given.credential)
        await console.door.take(challenge, _purpose(console, given.code), None)
        passkey_name = check_name(given.passkey_name or _browser(request), "passkeyName")
        new = registered(console.site, given.credential, challenge, passkey_name)
        entered = await console.door.enrol(given.code, given.name, new, _browser(request))
    return _entered(console, entered, ACCOUNT_PATH)


def _purpose(console: Console, code: str) -> str:
    """The challenge is for this code and no other."""
    return _ENROLLING + console.door.handle_of(code).hex()[:_PURPOSE_LETTERS]


# --- what these share ---


def _entered(console: Console, entered: Entered, then: str) -> web.Response:
    response = web.Response(body=json_body({"next": then}), content_type="application/json")
    set_sign_in(response, console.site, entered.value)
    return response


def _browser(request: web.Request) -> str:
    return browser_of(request.headers.get("User-Agent", ""))


def _under_our_name(request: web.Request) -> web.Response | None:
    """A passkey belongs to a name: who came by another one is sent to it."""
    site = request.app[CONSOLE].site
    if request.headers.get("Host", "").lower() == site.host:
        return None
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": f"{site.origin}{request.path}"})


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")
