"""What stands before every request of the console, and behind every answer.

In this order: the name under which it was reached, so that no page of somebody's whose name leads here gets in; for what changes
something, the page that sent it (``Sec-Fetch-Site`` or ``Origin``), because a cookie comes with requests of other pages too; then who
it is. A path that is not listed as open is open to nobody without a sign-in or a token. Outcomes become pages, or JSON for programs.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from messaging.console.parts import AT_RISK, CONSOLE, OPERATOR, RECORD, SIGN_IN, Site
from messaging.console.rendering import error_page, said_to
from messaging.relay.admin.door import operator_of
from messaging.relay.admin.errors import (
    AdminError,
    InvalidInput,
    NothingThere,
    NotPermitted,
    NotSignedIn,
    SecondOperatorNeeded,
)
from messaging.relay.admin.sign_ins import Method
from messaging.serving.logs import get_logger, milliseconds_since
from messaging.wire.errors import WireError
from messaging.wire.json import InvalidEntity, json_body

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API: Final = "/api/"
COMPANY_RETURN: Final = "/oidc/return"  # where another site leads browsers to
SIGN_IN_PATH, ACCOUNT_PATH, SIGN_OUT_PATH = "/sign-in", "/account", "/sign-out"
FIGURES_PATH: Final = "/live.json"  # what an open page asks for again and again, whether or not anybody sits before it
# Routes as they are written where they are added: what is compared is the route that was found, not the path that was sent.
OPEN: Final = frozenset(
    {
        SIGN_IN_PATH,
        "/sign-in/options",
        "/sign-in/passkey",
        "/sign-in/recovery",
        "/enrol",
        "/enrol/options",
        "/enrol/passkey",
        "/oidc/begin",
        COMPANY_RETURN,
        "/assets/{digest}/{name}",
        "/preferences",
        "/health",
    }
)
# All that somebody may do who came with a recovery code.
FOR_RECOVERY: Final = frozenset({ACCOUNT_PATH, "/account/passkeys/options", "/account/passkeys", SIGN_OUT_PATH})
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
BODY_SECONDS: Final = 30
_CHARSET: Final = "utf-8"
_VIA: Final = "api"  # what the audit log says of tokens; a header of the caller's is no proof of more
_KINDS: Final = frozenset({"application/x-www-form-urlencoded", "application/json"})
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), geolocation=(), "
    "microphone=()",
    "Referrer-Policy": "no-referrer",
    "Server": "subrosa",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_YEAR = 365 * 24 * 3600


class WrongHost(AdminError):
    """The request names a host that is not ours (RFC 9110, section 15.5.20)."""

    code, status, sentence = "wrong_host", 421, "This is not the address of the console."


class WrongOrigin(AdminError):
    """Something that would change something, and does not come from our own pages."""

    code, status, sentence = "wrong_origin", 403, "This came from another page than the console's own."


class WrongKind(AdminError):
    """A body that is neither a form nor JSON, or not in UTF-8."""

    code, status, sentence = "wrong_kind", 415, "Send a form, or JSON."


class TooLarge(AdminError):
    """A body above ``limits.MAX_BODY``."""

    code, status, sentence = "too_large", 413, "That is too much at once."


class TooSlow(AdminError):
    """A body that did not come within ``BODY_SECONDS``."""

    code, status, sentence = "too_slow", 408, "That took too long."


class WrongMethod(AdminError):
    """The path is known, and not with this method."""

    code, status, sentence = "wrong_method", 405, "This address is not used like that."


class Failed(AdminError):
    """A fault of ours."""

    code, status, sentence = "internal", 500, "Something went wrong here. It is in the log."


class Unavailable(AdminError):
    """The database is away, or takes no changes. Whether what was asked for was done is not known."""

    code, status = "unavailable", 503
    sentence = "The database gives no answer now, or takes no changes. Look whether it was done before you try again."


def middlewares() -> list[Middleware]:
    """All of them, the outermost first."""
    return [answered, ours, same_origin, with_body, admitted]


# --- answers ---


@web.middleware
async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give an answer, whatever happens; a line in the log says which route, and nothing else about it."""
    started = time.perf_counter()
    try:
        response = await handler(request)
        if isinstance(response, web.HTTPException):  # aiohttp wants them raised
            raise response  # noqa: TRY301
    except AdminError as error:
        response = _refusal(request, error)
    except InvalidEntity as error:
        response = _refusal(request, InvalidInput(error.fields))
    except WireError:
        response = _refusal(request, InvalidInput(()))
    except web.HTTPException as error:
        response = _of_aiohttp(request, error)
    except Exception as error:
        if request.transport is None or request.transport.is_closing():
            raise  # nobody is there to be answered
        get_logger().error("request_failed", route=_route(request), verb=request.method, error=type(error).__name__)
        is_away = isinstance(error, DBAPIError | PoolTimeout | OSError)
        response = _refusal(request, Unavailable() if is_away else Failed())
    duration = milliseconds_since(started)
    get_logger().debug(
        "answered", route=_route(request), verb=request.method, status=response.status, duration_ms=duration
    )
    return response


def _of_aiohttp(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    match error.status:
        case HTTPStatus.NOT_FOUND:
            return _refusal(request, NothingThere())
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return _refusal(request, WrongMethod())
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return _refusal(request, TooLarge())
        case status if status < HTTPStatus.BAD_REQUEST:
            raise error  # a redirection
        case _:
            return _refusal(request, InvalidInput(()))


def _refusal(request: web.Request, error: AdminError) -> web.StreamResponse:
    if type(error) is NotSignedIn and not wants_json(request):  # not of its kinds: those have just tried
        return _to_sign_in(request)
    as_json = wants_json(request) or isinstance(error, WrongHost)
    response = _json_refusal(request, error) if as_json else error_page(request, error)
    if isinstance(error, TooLarge | TooSlow | WrongHost):
        response.force_close()  # the rest of the body is not read
    return response


def _json_refusal(request: web.Request, error: AdminError) -> web.Response:
    """What a program is told, in English, or a script of a page, which shows it: in the language of the page."""
    message = str(error) if request.path.startswith(API) else said_to(request, str(error))
    fields = {"fields": list(error.fields)} if isinstance(error, InvalidInput) else {}
    waits = {"proposal": error.proposal} if isinstance(error, SecondOperatorNeeded) else {}
    return web.Response(
        status=error.status,
        body=json_body({"code": error.code, "message": message, **fields, **waits}),
        content_type="application/json",
    )


def _to_sign_in(request: web.Request) -> web.Response:
    if request.headers.get("HX-Request") == "true":  # htmx would put the page of a redirection into a part of this one
        return web.Response(status=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": SIGN_IN_PATH})
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": SIGN_IN_PATH})


def wants_json(request: web.Request) -> bool:
    """Whether a program asks, and not a browser for a page."""
    return (
        request.path.startswith(API)
        or request.content_type == "application/json"
        or "application/json" in request.headers.get("Accept", "")
    )


async def harden(request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers on an answer that is about to begin. What is not said to be kept is not kept."""
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    if request.app[CONSOLE].site.is_secure:
        response.headers["Strict-Transport-Security"] = f"max-age={_YEAR}"


# --- where it comes from ---


@web.middleware
async def ours(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request for another host, or as to a proxy."""
    names = request.headers.getall("Host", [])
    if (
        len(names) != 1
        or names[0].lower() not in request.app[CONSOLE].site.hosts
        or not request.raw_path.startswith("/")
    ):
        raise WrongHost
    return await handler(request)


@web.middleware
async def same_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what another page has sent, unless it is a link that somebody follows. What comes with a token comes from no page."""
    if _has_token(request):
        return await handler(request)
    if request.method not in SAFE_METHODS:
        check_origin(request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin"), request.app[CONSOLE].site)
    elif _route(request) != COMPANY_RETURN:
        check_fetch(*(request.headers.get(f"Sec-Fetch-{what}") for what in ("Site", "Mode", "Dest")))
    return await handler(request)


def check_origin(fetch_site: str | None, origin: str | None, site: Site) -> None:
    """See that one of our own pages has sent something.

    A browser that says so in ``Sec-Fetch-Site`` is believed; ``Origin`` may then be ``null``, which a form of a page without referrer sends.

    Raises:
        WrongOrigin: another page has, or it is not said which.
    """
    is_ours = origin is not None and origin in site.origins
    is_said = fetch_site == "same-origin" and (is_ours or origin in (None, "null"))
    if not (is_said if fetch_site is not None else is_ours):
        raise WrongOrigin


def check_fetch(site: str | None, mode: str | None, dest: str | None) -> None:
    """See that no other page has fetched something in an operator's name: reading may be written down, as theirs.

    Not every browser says so; a link that leads here, in a window of its own, may stand anywhere (Fetch Metadata Request Headers).

    Raises:
        WrongOrigin: another page has.
    """
    if site not in (None, "same-origin", "none") and (mode, dest) != ("navigate", "document"):
        raise WrongOrigin


@web.middleware
async def with_body(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Read the body, within a size and a time; only forms and JSON, only in UTF-8."""
    if request.method not in SAFE_METHODS and request.can_read_body:
        if request.content_type not in _KINDS or (request.charset or _CHARSET).lower() != _CHARSET:
            raise WrongKind
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.read()
        except TimeoutError:
            raise TooSlow from None
        if not _is_utf8(body):
            raise InvalidInput(())
    return await handler(request)


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- who it is ---


@web.middleware
async def admitted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find out who asks."""
    console, route = request.app[CONSOLE], _route(request)
    if _has_token(request):
        request[OPERATOR] = await console.door.bearer(_token(request), address_of(request), _VIA)
        return await handler(request)
    try:
        await by_cookie(request)
    except NotSignedIn:
        if route not in OPEN:
            raise
    if route in OPEN:
        request.pop(OPERATOR, None)  # an open page says nothing to anybody in particular
        return await handler(request)
    if request[SIGN_IN].method is Method.RECOVERY and route not in FOR_RECOVERY:
        if request.method in SAFE_METHODS and not wants_json(request):
            raise web.HTTPSeeOther(ACCOUNT_PATH)
        # It raises, and leaves the note that they may not.
        await console.door.see_may_change(request[RECORD], request[SIGN_IN], "sign_in.recovery")
        raise NotPermitted
    return await handler(request)


async def by_cookie(request: web.Request) -> None:
    """Find out who asks, as it is now.

    Raises:
        NotSignedIn: nobody, or they are signed in no more, or disabled.
    """
    console = request.app[CONSOLE]
    value = request.cookies.get(cookie_name(console.site))
    if not value or not value.isascii():
        raise NotSignedIn
    record, sign_in = await console.door.who(value, is_use=_route(request) != FIGURES_PATH)
    request[RECORD], request[SIGN_IN] = record, sign_in
    request[OPERATOR] = operator_of(record, sign_in, console.door.now())
    if request.method in SAFE_METHODS and not wants_json(request) and "HX-Request" not in request.headers:
        request[AT_RISK] = await console.door.is_at_risk(record.id)


def _has_token(request: web.Request) -> bool:
    """Whether it comes with a token; then its cookies count for nothing. Tokens are for the API alone."""
    return _route(request).startswith(API) and "Authorization" in request.headers


def _token(request: web.Request) -> str:
    scheme, _, token = request.headers["Authorization"].partition(" ")
    if not request.headers["Authorization"].isascii() or not hmac.compare_digest(scheme.lower().encode(), b"bearer"):
        raise NotSignedIn
    return token.strip()


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical


def address_of(request: web.Request) -> str:
    """Whom limits count: behind a proxy, the address that the proxy saw, which stands last in the last line (RFC 9110, section 5.3)."""
    forwarded = ""
    if request.app[CONSOLE].settings.plain_http_behind_a_proxy:
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return forwarded.rpartition(",")[2].strip() or request.remote or ""


# --- the cookie ---


def cookie_name(site: Site) -> str:
    """Where there is TLS, a name that only this host can set, for all its paths (RFC 6265bis, section 4.1.3.2)."""
    return "__Host-subrosa" if site.is_secure else "subrosa"


def set_sign_in(response: web.Response, site: Site, value: str) -> None:
    """Give the browser the value of a sign-in that has just begun; it forgets it when it is closed."""
    response.set_cookie(cookie_name(site), value, path="/", httponly=True, samesite="Strict", secure=site.is_secure)


def clear_sign_in(response: web.Response, site: Site) -> None:
    """Have the browser forget it now."""
    response.del_cookie(cookie_name(site), path="/", httponly=True, samesite="Strict", secure=site.is_secure)
