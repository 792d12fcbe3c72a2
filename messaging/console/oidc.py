"""The company's own sign-in, as an option: OpenID Connect Core 1.0, authorization code flow with PKCE, for operators who are bound to it.

Who the provider says somebody is, is looked up among operators; nobody becomes one by it. What a flow has to remember (state, nonce and
verifier) is derived from one challenge, which is good once; the browser keeps it in a cookie for the five minutes of the flow.

The file (TOML) has ``issuer``, ``client_id``, ``client_secret_file``, and ``scopes`` if more than ``openid`` are needed.
"""

import asyncio
import base64
import binascii
import hmac
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import aiohttp
from aiohttp import web
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import KeySet

from messaging.console.browsers import browser_of
from messaging.console.guards import ACCOUNT_PATH, COMPANY_RETURN, address_of, set_sign_in
from messaging.console.parts import CONSOLE, RECORD, SIGN_IN, Site
from messaging.console.rendering import render
from messaging.relay.admin.door import NotRight
from messaging.relay.admin.errors import AdminError
from messaging.relay.admin.keeping import VALUE_BYTES
from messaging.relay.errors import StartupError
from messaging.serving.http import is_loopback

_SIGNING_IN, _BINDING = "oidc", "oidc bind"
_ALGORITHMS: Final = ("RS256", "ES256", "EdDSA", "PS256")  # no "none", and none with a shared secret
_SECONDS: Final = 10
_MAX_ANSWER: Final = 256 * 1024
_KEYS_SECONDS: Final = 300  # for so long keys are believed; an unknown one has them fetched anew
_LEEWAY: Final = 60  # seconds by which clocks may differ
_COOKIE_SECONDS: Final = 300
_MAX_SUBJECT: Final = 255  # characters (OpenID Connect Core, section 2)


class ProviderAway(AdminError):
    """The company's provider does not answer, or not as it should."""

    code, status, sentence = "provider_away", 502, "The company's sign-in does not answer. Use a passkey."


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """What the file says."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    scopes: tuple[str, ...] = ("openid",)


def read_oidc(path: Path | None) -> OidcSettings | None:
    """The settings in this file.

    Raises:
        StartupError: it cannot be read, or says what cannot be.
    """
    if path is None:
        return None
    try:
        said = tomllib.loads(path.read_text())
        secret = (path.parent / said["client_secret_file"]).read_text().strip()
        scopes = tuple(dict.fromkeys(["openid", *map(str, said.get("scopes", []))]))
        settings = OidcSettings(str(said["issuer"]), str(said["client_id"]), secret, scopes)
    except OSError as error:
        raise StartupError(f"cannot read the OIDC file, or the secret it names: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError, UnicodeDecodeError):
        raise StartupError("the OIDC file needs issuer, client_id and client_secret_file") from None
    if not is_trusted_address(settings.issuer):
        raise StartupError("the OIDC issuer must be https://...")
    return settings


def is_trusted_address(url: str) -> bool:
    """Whether what comes from there comes from whom it names: through TLS, or from this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


@dataclass(frozen=True, slots=True)
class Flow:
    """One sign-in under way; all is derived from ``seed``, 32 random bytes. ``operator_id``: who binds an account of theirs."""

    seed: bytes = field(repr=False)
    operator_id: int | None = None

    @property
    def state(self) -> str:
        """What the provider gives back (RFC 6749, section 10.12)."""
        return self._derive("state")

    @property
    def nonce(self) -> str:
        """What stands in the token (OpenID Connect Core, section 3.1.2.1)."""
        return self._derive("nonce")

    @property
    def verifier(self) -> str:
        """What shows that whoever has begun the flow ends it (RFC 7636)."""
        return self._derive("verifier")

    @property
    def challenge(self) -> str:
        """The hash of the verifier."""
        return _letters(sha256(self.verifier.encode()).digest())

    @property
    def cookie(self) -> str:
        """What the browser keeps."""
        return f"{_letters(self.seed)}.{self.operator_id or ''}"

    @classmethod
    def of_cookie(cls, text: str) -> "Flow":
        """Undo :attr:`cookie`.

        Raises:
            NotRight: it is not such a one.
        """
        seed, _, operator_id = text.partition(".")
        try:
            raw = base64.b64decode(seed + "=", altchars=b"-_", validate=True)
            flow = cls(raw, int(operator_id) if operator_id else None)
        except (ValueError, binascii.Error):
            raise NotRight from None
        if len(raw) != VALUE_BYTES:
            raise NotRight
        return flow

    def _derive(self, what: str) -> str:
        return _letters(hmac.digest(self.seed, what.encode(), sha256))


def _letters(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _claims_of(token: str, keys: KeySet) -> Mapping[str, Any]:
    try:
        return jwt.decode(token, keys, algorithms=_ALGORITHMS).claims
    except InvalidKeyIdError:
        raise
    except Exception:  # noqa: BLE001 - whatever is wrong with a token, it is refused
        raise NotRight from None


class Provider:
    """The company's provider, through its discovery document. ``now`` gives milliseconds since 1970."""

    def __init__(self, settings: OidcSettings, http: aiohttp.ClientSession, now: Callable[[], int]) -> None:
        self.settings = settings
        self._http = http
        self._now = now
        self._known: Mapping[str, Any] | None = None
        self._keys: KeySet | None = None
        self._keys_at = 0
        self._turn = asyncio.Lock()

    async def address(self, flow: Flow, back: str) -> str:
        """Where the browser goes to sign in; it comes back to ``back``.

        Raises:
            ProviderAway: see :class:`ProviderAway`.
        """
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": back,
            "scope": " ".join(self.settings.scopes),
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": flow.challenge,
            "code_challenge_method": "S256",
        }
        endpoint = (await self._document())["authorization_endpoint"]
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def subject(self, flow: Flow, code: str, back: str) -> str:
        """Who has signed in.

        Raises:
            NotRight: the provider knows nothing of this, or its token does not hold.
            ProviderAway: see :class:`ProviderAway`.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "client_id": self.settings.client_id,
            "client_secret": self.settings.client_secret,
            "code_verifier": flow.verifier,
        }
        answer = await self._fetch("POST", (await self._document())["token_endpoint"], form)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise NotRight
        try:
            claims = _claims_of(token, await self._key_set())
        except InvalidKeyIdError:  # they may have changed
            claims = await self._with_new_keys(token)
        return self.checked(claims, flow.nonce)

    async def _with_new_keys(self, token: str) -> Mapping[str, Any]:
        keys = await self._key_set(anew=True)
        try:
            return _claims_of(token, keys)
        except InvalidKeyIdError:
            raise NotRight from None

    def checked(self, claims: Mapping[str, Any], nonce: str) -> str:
        """The subject of a token whose signature holds (OpenID Connect Core, section 3.1.3.7).

        Raises:
            NotRight: it is another's, for another client or flow, or not of now.
        """
        now, audience = self._now() // 1000, claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        subject, expires, issued = claims.get("sub"), claims.get("exp"), claims.get("iat")
        good = (
            claims.get("iss") == self.settings.issuer
            and self.settings.client_id in audiences
            and (len(audiences) == 1 or claims.get("azp") == self.settings.client_id)
            and hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode())
            and isinstance(expires, int)
            and now - _LEEWAY < expires
            and isinstance(issued, int)
            and issued < now + _LEEWAY
        )
        if not good or not isinstance(subject, str) or not 1 <= len(subject) <= _MAX_SUBJECT:
            raise NotRight
        return subject

    async def _document(self) -> Mapping[str, Any]:
        async with self._turn:
            if self._known is None:
                where = f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
                found = await self._fetch("GET", where)
                ends = [found.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
                if found.get("issuer") != self.settings.issuer or not all(
                    isinstance(end, str) and is_trusted_address(end) for end in ends
                ):
                    raise ProviderAway
                self._known = found
            return self._known

    async def _key_set(self, *, anew: bool = False) -> KeySet:
        where = (await self._document())["jwks_uri"]
        now = self._now()
        if self._keys is None or anew or now - self._keys_at >= _KEYS_SECONDS * 1000:
            try:
                self._keys = KeySet.import_key_set(await self._fetch("GET", where))  # type: ignore[arg-type]
            except (ValueError, TypeError, KeyError):
                raise ProviderAway from None
            self._keys_at = now
        return self._keys

    async def _fetch(self, method: str, url: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
        bound = aiohttp.ClientTimeout(total=_SECONDS)
        try:
            async with self._http.request(method, url, data=form, timeout=bound, allow_redirects=False) as answer:
                body = await answer.content.read(_MAX_ANSWER + 1)
                while len(body) <= _MAX_ANSWER and (more := await answer.content.read(_MAX_ANSWER)):
                    body += more
                if answer.status == HTTPStatus.BAD_REQUEST and method == "POST":
                    raise NotRight  # a code that is good for nothing (RFC 6749, section 5.2)
                if answer.status != HTTPStatus.OK or len(body) > _MAX_ANSWER:
                    raise ProviderAway
                said = json.loads(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            raise ProviderAway from None
        if not isinstance(said, dict):
            raise ProviderAway
        return said


PROVIDER: Final = web.AppKey("provider", Provider)


def routes() -> list[web.RouteDef]:
    """The flow's two ends, and its beginning by who binds an account. The application has a ``PROVIDER``."""
    return [
        web.post("/oidc/begin", post_begin),
        web.post("/account/company", post_bind),
        web.get(COMPANY_RETURN, get_return),
    ]


async def post_begin(request: web.Request) -> web.StreamResponse:
    """Begin to sign in."""
    return await _begin(request, _SIGNING_IN, None)


async def post_bind(request: web.Request) -> web.StreamResponse:
    """Begin to bind an account at the provider to one's own here."""
    await request.app[CONSOLE].door.see_may_change(request[RECORD], request[SIGN_IN], "oidc.bind")
    return await _begin(request, _BINDING, request[RECORD].id)


async def _begin(request: web.Request, purpose: str, operator_id: int | None) -> web.StreamResponse:
    console = request.app[CONSOLE]
    seed = await console.door.begin(purpose, operator_id, address_of(request))
    flow = Flow(seed, operator_id)
    address = await request.app[PROVIDER].address(flow, _back(console.site))
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": address})
    name, options = _cookie(console.site)
    response.set_cookie(name, flow.cookie, max_age=_COOKIE_SECONDS, **options)
    return response


async def get_return(request: web.Request) -> web.StreamResponse:
    """The browser comes back from the provider."""
    console, provider = request.app[CONSOLE], request.app[PROVIDER]
    flow = Flow.of_cookie(request.cookies.get(_cookie(console.site)[0], ""))
    state, code = request.query.get("state", ""), request.query.get("code", "")
    # Before it counts as a try: any page can have a browser ask for this address, and lock its operator out.
    if not hmac.compare_digest(state.encode(errors="replace"), flow.state.encode()) or not code:
        raise NotRight
    async with console.door.trying(address_of(request)):
        purpose = _SIGNING_IN if flow.operator_id is None else _BINDING
        await console.door.take(flow.seed, purpose, flow.operator_id)
        who = await provider.subject(flow, code, _back(console.site))
        return await _finish(request, flow, console.door.subject_of(provider.settings.issuer, who))


async def _finish(request: web.Request, flow: Flow, subject: str) -> web.StreamResponse:
    console = request.app[CONSOLE]
    if flow.operator_id is not None:
        await console.door.finish_binding(flow.operator_id, subject)
        return _arrived(request, ACCOUNT_PATH)
    entered = await console.door.enter_by_oidc(subject, browser_of(request.headers.get("User-Agent", "")))
    response = _arrived(request, "/")
    set_sign_in(response, console.site, entered.value)
    return response


def _arrived(request: web.Request, then: str) -> web.Response:
    """A page and no redirection: the browser would send no cookie with what follows from another site."""
    response = render(request, "oidc_return.html", {"next": then})
    name, options = _cookie(request.app[CONSOLE].site)
    response.del_cookie(name, **options)
    return response


def _back(site: Site) -> str:
    return f"{site.origin}{COMPANY_RETURN}"


def _cookie(site: Site) -> tuple[str, dict[str, Any]]:
    """The name of the flow's cookie, and what browsers are told of it."""
    # Lax, because the way back from the provider is a link of another site; it signs nobody in by itself.
    options = {"path": "/", "httponly": True, "samesite": "Lax", "secure": site.is_secure}
    return ("__Host-subrosa-company" if site.is_secure else "subrosa-company"), options
