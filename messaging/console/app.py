"""The whole console, put together: settings in, a running server out, and an orderly end."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from sqlalchemy.engine import URL

from messaging.console import account, api, oidc, pages, rendering, sign_in
from messaging.console.appraisal import open_appraiser
from messaging.console.guards import harden, middlewares
from messaging.console.live import Live
from messaging.console.oidc import Provider, read_oidc
from messaging.console.parts import CONSOLE, Console, Site
from messaging.console.settings import Settings
from messaging.relay.admin.desk import Desk
from messaging.relay.admin.door import Door
from messaging.relay.admin.limits import MAX_BODY
from messaging.relay.attachments.storage import Storage, open_storage
from messaging.relay.clock import Clock
from messaging.relay.database import Database, normalise_url, open_database, sqlite_path
from messaging.relay.delivery.redis import Channels, RedisWakeups
from messaging.relay.delivery.wakeups import LocalWakeups, Wakeups
from messaging.relay.errors import StartupError
from messaging.relay.operator import require_database
from messaging.relay.preflight import wait_for_database
from messaging.relay.server import tls_context
from messaging.relay.server_secret import ServerSecret, secret_of
from messaging.relay.tasks import running
from messaging.serving.http import Bounds, HttpServer, is_loopback
from messaging.serving.logs import get_logger
from messaging.wire.json import json_body

SWEEP_SECONDS = 600
DRAIN_SECONDS = 5
BACKLOG = 256  # connections that wait to be accepted


@dataclass(frozen=True, slots=True)
class RunningConsole:
    """A console that serves. ``url`` is where browsers reach it; ``first_link`` is there while there is no operator."""

    url: str
    port: int
    first_link: str | None = field(default=None, repr=False)


@asynccontextmanager
async def open_console(
    settings: Settings, say: Callable[[str], None] = lambda _: None, now: Callable[[], int] | None = None
) -> AsyncIterator[RunningConsole]:
    """Serve while the block lasts, on the database of a relay that has run.

    ``say`` is told, in sentences, what takes long. ``now`` gives milliseconds since 1970.

    Raises:
        StartupError: a setting that cannot work, or a database or address that cannot be had.
    """
    tls, url = _tls_of(settings), normalise_url(settings.database_url)
    company, appraise = read_oidc(settings.oidc), open_appraiser(settings.policy, settings.policy_key)
    await wait_for_database(url, settings.database_wait, say)
    await require_database(url)
    secret = secret_of(settings.secret_file, sqlite_path(url), create=False)
    storage = _storage_of(settings, url)
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(_listening_socket(settings))
        port = listening.getsockname()[1]
        site = site_of(settings, port)
        database = await stack.enter_async_context(_closing(open_database(url)))
        wakeups, clock = _wakeups_of(settings, secret), now or Clock()
        desk = Desk(database, url, wakeups, secret, storage, clock, settings.redis_url, appraise)
        door, live = Door(database, secret, clock), Live(database, clock)
        console = Console(settings, site, desk, door, live, has_oidc=company is not None)
        provider = None
        if company is not None:
            provider = Provider(company, await stack.enter_async_context(aiohttp.ClientSession()), clock)
        background = [_sweep(door), live.run(), *([wakeups.run()] if isinstance(wakeups, RedisWakeups) else [])]
        await stack.enter_async_context(running(*background))
        await stack.enter_async_context(_serving(application(console, provider), listening, tls))
        code = await door.first_code()
        yield RunningConsole(site.origin, port, None if code is None else f"{site.origin}/enrol#{code}")


def application(console: Console, provider: Provider | None = None) -> web.Application:
    """Everything that is served, behind its guards."""
    app = web.Application(middlewares=middlewares(), client_max_size=MAX_BODY)
    app[CONSOLE] = console
    rendering.set_up(app)
    app.on_response_prepare.append(harden)
    for part in (sign_in, account, pages, api):
        app.add_routes(part.routes())
    if provider is not None:
        app[oidc.PROVIDER] = provider
        app.add_routes(oidc.routes())
    return app


async def run_console(
    settings: Settings,
    ready: Callable[[RunningConsole], None],
    stop: asyncio.Event,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until ``stop`` is set. ``ready`` is called once, when the console answers.

    Raises:
        StartupError: see :func:`open_console`.
    """
    async with open_console(settings, say) as console:
        ready(console)
        await stop.wait()


# --- where it is ---


def site_of(settings: Settings, port: int) -> Site:
    """How browsers reach a console that listens on ``port``.

    Raises:
        StartupError: others can reach it, and it is not said under which name; or a public URL that is none.
    """
    secure = settings.tls_certificate is not None
    scheme, standard = ("https", 443) if secure else ("http", 80)
    here = {f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]")}
    if port == standard:
        here |= {name.rpartition(":")[0] for name in here}
    origins = {f"{scheme}://{name}" for name in here}
    if settings.public_url is None:
        if not is_loopback(settings.host):
            raise StartupError("an address that others can reach needs --public-url: passkeys are bound to its name")
        # A passkey needs a name, and an address is none.
        return Site(
            f"{scheme}://localhost" + ("" if port == standard else f":{port}"), frozenset(here), frozenset(origins)
        )
    origin = origin_of(settings.public_url)
    host = origin.partition("://")[2]
    return Site(origin, frozenset(here | {host}), frozenset({origin}))


def origin_of(url: str) -> str:
    """The origin of a public URL, as browsers write it.

    Raises:
        StartupError: not https (or http of this machine), or with more than a host and a port.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise StartupError("--public-url is not a URL") from None
    host = parts.hostname or ""
    loopback = parts.scheme == "http" and is_loopback(host)
    if (
        not host
        or not (parts.scheme == "https" or loopback)
        or parts.path not in ("", "/")
        or parts.query
        or parts.username
    ):
        raise StartupError("--public-url must be https://HOST, or https://HOST:PORT")
    named = f"[{host}]" if ":" in host else host
    standard = port in (None, 443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{named}" + ("" if standard else f":{port}")


# --- what it stands on ---


def _tls_of(settings: Settings) -> ssl.SSLContext | None:
    certificate, key = settings.tls_certificate, settings.tls_key
    if (certificate is None) != (key is None):
        raise StartupError("--tls-cert and --tls-key go together")
    if certificate is not None and key is not None:
        return tls_context(certificate, key)
    if settings.plain_http_behind_a_proxy:
        return None
    if settings.public_url is not None and origin_of(settings.public_url).startswith("https:"):
        # Somebody else does TLS: unless it is said, all operators have that one's address, and share its limits.
        raise StartupError(
            "a --public-url with https needs --tls-cert and --tls-key, "
            "or --insecure-plain-http-behind-a-proxy where a proxy does TLS"
        )
    if is_loopback(settings.host):
        return None
    raise StartupError(
        "an address that others can reach needs --tls-cert and --tls-key, "
        "or --insecure-plain-http-behind-a-proxy where a proxy does TLS"
    )


def _storage_of(settings: Settings, url: URL) -> Storage | None:
    """Where attachments are; ``None`` if it was not said, and they are not beside the database."""
    if settings.attachments_url is not None:
        return open_storage(settings.attachments_url)
    path = sqlite_path(url)
    return None if path is None else open_storage(path.resolve().with_name("attachments").as_uri())


def _wakeups_of(settings: Settings, secret: ServerSecret) -> Wakeups:
    if settings.redis_url is None:
        return LocalWakeups()
    try:
        return RedisWakeups(settings.redis_url, Channels.under(secret.limit_name_key), LocalWakeups())
    except ValueError:
        raise StartupError("the Redis URL must be redis://, rediss:// or unix://") from None


@contextmanager
def _listening_socket(settings: Settings) -> Iterator[socket.socket]:
    """Bound before anything else: the name of the site has the port in it."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, settings.port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or "there is no such port"
            raise StartupError(f"cannot listen on this host and port: {why}") from None
        yield listening


@asynccontextmanager
async def _closing(database: Database) -> AsyncIterator[Database]:
    try:
        yield database
    finally:
        await database.close()


async def _sweep(door: Door) -> None:
    while True:
        try:
            await door.sweep()
        except Exception as error:  # noqa: BLE001 - the next sweep is minutes away
            get_logger().warning("not_swept", error=type(error).__name__)
        await asyncio.sleep(SWEEP_SECONDS)


# --- HTTP ---


class _Runner(web.AppRunner):
    """Runs an application on the connections that all our servers have."""

    async def _make_server(self) -> web.Server:
        of_application = await super()._make_server()  # starts the application, too
        server = HttpServer(self.app._handle, _refused, Bounds(MAX_BODY))  # type: ignore[arg-type]  # requests of an application
        server.request_factory = of_application.request_factory
        return server


def _refused(status: HTTPStatus) -> web.Response:
    code = "malformed" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "internal"
    headers = {"Server": "subrosa", "Cache-Control": "no-store"}
    return web.Response(status=status, body=json_body({"code": code}), content_type="application/json", headers=headers)


@asynccontextmanager
async def _serving(app: web.Application, listening: socket.socket, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
    runner = _Runner(app, shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listening, ssl_context=tls, backlog=BACKLOG).start()
        yield
    finally:
        await runner.cleanup()
