"""The whole relay, put together: settings in, a running server out, and an orderly end."""

import asyncio
import importlib.metadata
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from messaging.relay.accounts.authentication import Authentication
from messaging.relay.accounts.certificates import CertificateService
from messaging.relay.accounts.handlers import account_routes, verification_routes
from messaging.relay.accounts.invite_service import InviteService
from messaging.relay.accounts.providers import CodeProvider, ConsoleProvider, FileProvider
from messaging.relay.accounts.registration import RegistrationService
from messaging.relay.accounts.service import VerificationService
from messaging.relay.accounts.webhook import WebhookProvider, parse_url, read_webhook_secret
from messaging.relay.assistants.handlers import AssistantService, assistant_routes, server_info_routes
from messaging.relay.database import Database, normalise_url, open_database, sqlite_path
from messaging.relay.delivery.mailbox import Mailboxes, sweep_regularly
from messaging.relay.delivery.redis import RedisWakeups
from messaging.relay.delivery.socket import Sockets
from messaging.relay.delivery.wakeups import LocalWakeups, Wakeups
from messaging.relay.delivery.watch import MailboxWatch
from messaging.relay.errors import StartupError
from messaging.relay.http import Dispatcher
from messaging.relay.keys.handlers import key_routes
from messaging.relay.keys.service import KeyService
from messaging.relay.limits import RateLimits
from messaging.relay.logs import get_logger
from messaging.relay.messages.handlers import message_routes
from messaging.relay.messages.service import MessageService
from messaging.relay.migrate import migrate, require_current
from messaging.relay.server import Entrance, HttpServer, is_loopback, tls_context
from messaging.relay.server_secret import ServerSecret, secret_of
from messaging.relay.settings import Settings
from messaging.wire.limits import MAX_CONTENT, MAX_DEVICES, MAX_FRAME, MAX_PREKEYS, MAX_UNACKNOWLEDGED
from messaging.wire.server_info import AssistantInfo, ServerInfo, ServerLimits

DISTRIBUTION = "subrosa"
DRAIN_SECONDS = 15
MIN_TOKEN = 16


@dataclass(frozen=True, slots=True)
class RunningRelay:
    """A relay that serves. ``url`` is where, with the port that was taken."""

    url: str
    port: int
    trust_root: bytes


@asynccontextmanager
async def open_relay(settings: Settings) -> AsyncIterator[RunningRelay]:
    """Serve while the block lasts. At its end sockets are closed, and what was begun is finished.

    Raises:
        StartupError: a setting that cannot work, or a database or address that cannot be had.
    """
    tls = _tls_of(settings)
    url = normalise_url(settings.database_url)
    secret = secret_of(settings.secret_file, sqlite_path(url), create=True)
    token = None if settings.assistant_token_file is None else _read_token(settings.assistant_token_file)
    database, local = open_database(url), LocalWakeups()
    provider = _provider_of(settings, database, secret)
    await (migrate(url) if settings.migrate else require_current(url))

    redis = None if settings.redis_url is None else _redis(settings.redis_url, local)
    wakeups: Wakeups = local if redis is None else redis
    limits = RateLimits(settings.limits, time.monotonic)
    authentication = Authentication(database)
    certificates = CertificateService(database, secret, now_milliseconds)
    verification = VerificationService(database, provider, secret, limits, now_milliseconds)
    registration = RegistrationService(database, verification, wakeups, secret, limits)
    messages = MessageService(database, wakeups, limits, now_milliseconds, settings.envelope_lifetime)
    mailboxes = Mailboxes(database, now_milliseconds)
    dispatcher = Dispatcher(
        [
            *message_routes(messages, authentication),
            *key_routes(KeyService(database, limits), authentication),
            *account_routes(registration, certificates, authentication),
            *verification_routes(verification),
            *assistant_routes(AssistantService(registration, token)),
            *server_info_routes(database, _describe(certificates.trust_root, settings)),
        ],
        now_milliseconds,
    )
    sockets = Sockets(authentication, dispatcher, mailboxes, wakeups, now_milliseconds)
    background = [sweep_regularly(mailboxes), MailboxWatch(mailboxes, local).run()]
    if redis is not None:
        background.append(redis.run())
    async with (
        _closing(database),
        _running(background),
        _listening(settings, tls, Entrance(dispatcher, sockets)) as port,
    ):
        yield RunningRelay(_url_of(settings.host, port, tls), port, certificates.trust_root)


async def run_relay(settings: Settings, ready: Callable[[RunningRelay], None], stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set. ``ready`` is called once, when the relay answers.

    Raises:
        StartupError: see :func:`open_relay`.
    """
    async with open_relay(settings) as relay:
        ready(relay)
        await stop.wait()


def now_milliseconds() -> int:
    """The time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def version() -> str:
    """The installed version."""
    return importlib.metadata.version(DISTRIBUTION)


@asynccontextmanager
async def _closing(database: Database) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await database.close()


@asynccontextmanager
async def _running(work: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each) for each in work]
    for task in tasks:
        task.add_done_callback(_report)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        get_logger().error("background_failed", error=type(error).__name__)


@asynccontextmanager
async def _listening(settings: Settings, tls: ssl.SSLContext | None, entrance: Entrance) -> AsyncIterator[int]:
    runner = web.ServerRunner(HttpServer(entrance.handle), shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            raise StartupError(f"cannot listen on this host and port: {error.strerror}") from None
        yield runner.addresses[0][1]
        await site.stop()
        await entrance.sockets.close()
    finally:
        await runner.cleanup()


def _tls_of(settings: Settings) -> ssl.SSLContext | None:
    match settings.tls_certificate, settings.tls_key:
        case Path() as certificate, Path() as key:
            return tls_context(certificate, key)
        case None, None:
            if is_loopback(settings.host) or settings.plain_http_behind_a_proxy:
                return None
            raise StartupError(
                "an address that others can reach needs --tls-cert and --tls-key, "
                "or --insecure-plain-http-behind-a-proxy where a proxy does TLS"
            )
        case _:
            raise StartupError("--tls-cert and --tls-key go together")


def _provider_of(settings: Settings, database: Database, secret: ServerSecret) -> CodeProvider | InviteService:
    kind, _, rest = settings.verification.partition(":")
    match kind, rest, settings.webhook_secret_file:
        case "console", "", _:
            return ConsoleProvider()
        case "invite", "", _:
            return InviteService(database, secret, now_milliseconds)
        case "file", path, _ if path:
            return FileProvider(Path(path))
        case "webhook", url, Path() as file if url:
            return WebhookProvider(parse_url(url), read_webhook_secret(file), now_milliseconds)
        case "webhook", url, None if url:
            raise StartupError("--verification webhook:URL needs --webhook-secret-file")
        case _:
            raise StartupError("verification must be console, file:PATH, invite or webhook:URL")


def _read_token(path: Path) -> bytes:
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise StartupError(f"cannot read the assistant token file: {error.strerror}") from None
    if len(token) < MIN_TOKEN:
        raise StartupError(f"the assistant token must have at least {MIN_TOKEN} characters")
    return token


def _redis(url: str, local: LocalWakeups) -> RedisWakeups:
    try:
        return RedisWakeups(url, local)
    except ValueError:
        raise StartupError("the Redis URL must be redis://, rediss:// or unix://") from None


def _describe(trust_root: bytes, settings: Settings) -> Callable[[tuple[AssistantInfo, ...]], ServerInfo]:
    limits = ServerLimits(
        max_content=MAX_CONTENT,
        max_frame=MAX_FRAME,
        max_devices=MAX_DEVICES,
        max_prekeys=MAX_PREKEYS,
        max_unacknowledged=MAX_UNACKNOWLEDGED,
        envelope_lifetime_seconds=settings.envelope_lifetime // timedelta(seconds=1),
    )

    def describe(assistants: tuple[AssistantInfo, ...]) -> ServerInfo:
        return ServerInfo(
            version=version(), source=settings.source_url, trust_root=trust_root, assistants=assistants, limits=limits
        )

    return describe


def _url_of(host: str, port: int, tls: ssl.SSLContext | None) -> str:
    return f"{'http' if tls is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"
