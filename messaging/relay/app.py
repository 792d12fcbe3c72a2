"""The whole relay, put together: settings in, a running server out, and an orderly end."""

import asyncio
import importlib.metadata
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from sqlalchemy.engine import URL

from messaging.relay.accounts.account import AccountService
from messaging.relay.accounts.authentication import Authentication
from messaging.relay.accounts.certificates import CertificateService
from messaging.relay.accounts.device_handlers import device_routes
from messaging.relay.accounts.directory import Directory
from messaging.relay.accounts.handlers import account_routes, registration_routes, verification_routes
from messaging.relay.accounts.invite_service import InviteService
from messaging.relay.accounts.linking import LinkingService
from messaging.relay.accounts.providers import CodeProvider, ConsoleProvider, FileProvider
from messaging.relay.accounts.registration import RegistrationService
from messaging.relay.accounts.service import VerificationService
from messaging.relay.accounts.username_handlers import username_routes
from messaging.relay.accounts.usernames import UsernameService
from messaging.relay.accounts.webhook import WebhookProvider, parse_url, read_webhook_secret
from messaging.relay.assistants.handlers import AssistantService, assistant_routes, server_info_routes
from messaging.relay.assistants.reports import ReportService, report_routes
from messaging.relay.attachments.handlers import attachment_routes
from messaging.relay.attachments.service import AttachmentService
from messaging.relay.attachments.storage import Storage, open_storage
from messaging.relay.attachments.transfer import Transfers
from messaging.relay.buckets import LocalBuckets, RedisBuckets, SettledBuckets
from messaging.relay.clock import Clock
from messaging.relay.database import Database, normalise_url, open_database, sqlite_path
from messaging.relay.delivery.acknowledgements import Acknowledgements
from messaging.relay.delivery.mailbox import Mailboxes
from messaging.relay.delivery.openings import Openings
from messaging.relay.delivery.parking import ParkingService
from messaging.relay.delivery.provisioning import ProvisioningSockets
from messaging.relay.delivery.redis import Channels, RedisWakeups
from messaging.relay.delivery.socket import Sockets
from messaging.relay.delivery.sweep import Sweep
from messaging.relay.delivery.wakeups import LocalWakeups, Wakeups
from messaging.relay.delivery.watch import MailboxWatch
from messaging.relay.errors import StartupError
from messaging.relay.grants import GrantBook
from messaging.relay.health import HealthService, health_routes
from messaging.relay.http import Dispatcher, Route
from messaging.relay.keys.generation import Generation, open_generation
from messaging.relay.keys.handlers import key_routes
from messaging.relay.keys.service import KeyService
from messaging.relay.limits import BucketNames, Buckets, LiveSizes, RateLimits, Sizes
from messaging.relay.messages.handlers import message_routes
from messaging.relay.messages.multi_recipient import MultiRecipientService
from messaging.relay.messages.repair import RepairingSender
from messaging.relay.messages.reports import SpamReports
from messaging.relay.messages.service import MessageService
from messaging.relay.messages.writer import EnvelopeWriter
from messaging.relay.metrics import Figures, Snapshot
from messaging.relay.metrics_server import Exporter, metrics_server
from messaging.relay.migrate import migrate, require_current
from messaging.relay.nodes import Heartbeat
from messaging.relay.openapi import openapi_route
from messaging.relay.operator_settings import LIMITS, REMOTE_CONFIG, SettingsBook
from messaging.relay.preflight import check_promises, wait_for_database
from messaging.relay.profiles.handlers import profile_routes
from messaging.relay.profiles.service import ProfileService
from messaging.relay.remote_config import LiveConfig, config_routes
from messaging.relay.server import Entrance, refused, tls_context
from messaging.relay.server_secret import ServerSecret, secret_of
from messaging.relay.settings import Settings
from messaging.relay.tasks import running
from messaging.relay.tracing import open_traffic
from messaging.relay.traffic import Traffic
from messaging.serving.http import Bounds, HttpServer, is_loopback
from messaging.wire.limits import MAX_BODY, MAX_CONTENT, MAX_DEVICES, MAX_FRAME, MAX_PREKEYS, MAX_UNACKNOWLEDGED
from messaging.wire.server_info import AssistantInfo, ServerInfo, ServerLimits

DISTRIBUTION = "subrosa"
DRAIN_SECONDS = 15
BACKLOG = 4096  # connections that wait to be accepted
MIN_TOKEN = 16


@dataclass(frozen=True, slots=True)
class RunningRelay:
    """A relay that serves. ``url`` is where, with the port that was taken; ``drains`` is set when it is to end by itself."""

    url: str
    port: int
    trust_root: bytes
    metrics_port: int | None = None
    drains: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def open_relay(settings: Settings, say: Callable[[str], None] = lambda _: None) -> AsyncIterator[RunningRelay]:
    """Serve while the block lasts. At its end sockets are closed, and what was begun is finished.

    ``say`` is told, in sentences, what takes long.

    Raises:
        StartupError: a setting that cannot work, or a database or address that cannot be had.
    """
    tls = _tls_of(settings)
    url = normalise_url(settings.database_url)
    secret = secret_of(settings.secret_file, sqlite_path(url), create=True)
    token = None if settings.assistant_token_file is None else _read_token(settings.assistant_token_file)
    storage = open_storage(attachments_url_of(settings, url))
    database, local = open_database(url), LocalWakeups()
    provider = _provider_of(settings)
    await wait_for_database(url, settings.database_wait, say)
    await (migrate(url) if settings.migrate else require_current(url))

    figures = Figures()
    wakeups = local if settings.redis_url is None else _redis(settings.redis_url, secret, local, figures)
    here = LocalBuckets(time.monotonic)
    levels = here if settings.redis_url is None else _settled(settings.redis_url, secret, here)
    async with (
        _closing(database),
        _closing(levels),
        open_generation(database, generation_file_of(settings, url)) as generation,
        open_traffic(
            settings.otlp_endpoint, settings.otlp_ratio, node=settings.node_name, version=version()
        ) as traffic,
    ):
        await check_promises(database, say)
        parts = Parts(
            settings,
            database,
            wakeups,
            local,
            here,
            levels,
            secret,
            generation,
            provider,
            token,
            storage,
            figures,
            traffic,
        )
        await parts.changed.read()  # what operators have set and granted stands from the first request on
        await parts.grants.read()
        entrance = parts.entrance()
        working = running(*parts.background(entrance), failed=parts.fail)
        async with working, _showing_metrics(settings, parts, url) as metrics_port:
            async with _listening(settings, tls, entrance, parts.stopping) as port:
                url_here = url_of(settings.host, port, secure=tls is not None)
                parts.public_url = settings.public_url or url_here
                parts.heartbeat.begin()
                yield RunningRelay(url_here, port, parts.certificates.trust_root, metrics_port, parts.drains)
            await parts.writer.settle()
            await parts.acknowledgements.settle()
            await parts.heartbeat.leave()


class Parts:
    """The services of one relay, each made of what it uses."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        wakeups: Wakeups,
        listeners: LocalWakeups,
        here: LocalBuckets,
        levels: Buckets,
        secret: ServerSecret,
        generation: Generation,
        provider: CodeProvider | None,
        token: bytes | None,
        storage: Storage,
        figures: Figures,
        traffic: Traffic,
    ) -> None:
        now = Clock()
        self.figures = figures
        self._storage = storage
        self.now = now
        self.public_url = ""  # known when the port is
        self._settings = settings
        self._database = database
        self._wakeups = wakeups
        self._listeners = listeners
        self._levels = levels
        self._token = token
        self.stopping = asyncio.Event()
        # A part has ended by a fault: not ready any more, until the process is started anew.
        self.broken = asyncio.Event()
        self.drains = asyncio.Event()  # an operator has asked for it, and it is this process's turn
        self.grants = GrantBook(database)
        sizes, self.config = LiveSizes(Sizes(settings.limits, settings.bot_limits)), LiveConfig(settings.remote_config)
        self.changed = SettingsBook(database, {LIMITS: sizes.apply, REMOTE_CONFIG: self.config.apply})
        self.limits = RateLimits(sizes.everybody, levels, self.grants.find, sizes.bots)
        # All requests are counted in this process: who floods one relay shall not cost a call to Redis each time.
        self.requests = RateLimits(sizes.everybody, here, bots=sizes.bots)
        self.authentication = Authentication(database, now)
        self.certificates = CertificateService(database, secret, now, settings.certificate_key_id)
        invites = InviteService(database, secret, now_milliseconds)
        self.verification = VerificationService(database, provider, invites, secret, self.limits, now)
        self.registration = RegistrationService(database, self.verification, wakeups, secret, self.limits, now)
        self.accounts = AccountService(database, wakeups, now)
        self.linking = LinkingService(database, secret, self.limits, now, self.stopping)
        self.keys = KeyService(database, self.limits, wakeups, generation)
        self.reports = SpamReports(database, secret, self.limits, now)
        self.directory = Directory(database)
        self.writer = EnvelopeWriter(database, wakeups, listeners, figures=figures)
        self.acknowledgements = Acknowledgements(database, wakeups, now, settings.envelope_lifetime, figures)
        self.messages = MessageService(
            database, self.directory, self.writer, self.limits, self.reports, now, settings.envelope_lifetime
        )
        self.attachments = AttachmentService(
            database,
            storage,
            self.limits,
            secret.upload_key,
            now,
            settings.max_attachment,
            settings.attachment_lifetime,
        )
        self.profiles = ProfileService(database, self.attachments, self.limits, now)
        self.usernames = UsernameService(database, self.limits, now)
        self.parking = ParkingService(database, wakeups, now)
        self.openings = Openings(database, now)
        self.mailboxes = Mailboxes(database, now)
        self.traffic = traffic
        self.sockets: Sockets | None = None
        self.heartbeat = Heartbeat(
            database, settings.node_name, version(), self.snapshot, self.stopping, self.broken, self.drains.set
        )

    def background(self, entrance: Entrance) -> list[Coroutine[Any, Any, None]]:
        """What runs beside requests, from the start of the relay to its end."""
        sweep = Sweep(self._database, self.now, [self.attachments.sweep], self.figures)
        work = [
            self.writer.run(),
            self.acknowledgements.run(),
            self.openings.run(),
            self.authentication.run(),
            self.traffic.run(),
            sweep.run(),
            self.grants.run(),
            self.changed.run(),
            MailboxWatch(self.mailboxes, self._listeners).run(),
            entrance.sockets.run(),
            self.heartbeat.run(),
        ]
        if isinstance(self._wakeups, RedisWakeups):
            work.append(self._wakeups.run())
        if isinstance(self._levels, SettledBuckets):
            work.append(self._levels.run())
        return work

    def fail(self) -> None:
        """A part has ended by a fault."""
        self.figures.background_failures += 1
        self.broken.set()

    def snapshot(self) -> Snapshot:
        """The figures of this process as they stand."""
        self.figures.pool_waits = self._database.pool_waits
        gauges = {
            "ready": int(not (self.stopping.is_set() or self.broken.is_set())),
            "sockets": 0 if self.sockets is None else len(self.sockets.alive),
            "sends_waiting": self.writer.waiting,
            "redis_away": int(isinstance(self._wakeups, RedisWakeups) and self._wakeups.away),
        }
        return self.figures.snapshot(gauges, self.traffic.totals())

    def exporter(self, path: Path | None) -> Exporter:
        """What tells Prometheus. ``path`` is the file of an SQLite database."""
        kept = {"database": None if path is None else path.parent, "attachments": self._storage.folder}
        folders = {name: folder for name, folder in kept.items() if folder is not None}
        return Exporter(self._database, path, folders, self._settings.node_name, version(), self.snapshot)

    def routes(self) -> list[Route]:
        """All endpoints."""
        sender = RepairingSender(self.messages, self.keys, self.limits)
        many = MultiRecipientService(self.messages)
        who = self.authentication
        routes = [
            *message_routes(sender, many, self.reports, self.parking, who),
            *key_routes(self.keys, who),
            *registration_routes(self.registration, self.certificates, who),
            *account_routes(self.accounts, who),
            *device_routes(self.accounts, self.linking, who),
            *username_routes(self.usernames, who),
            *profile_routes(self.profiles, who, lambda: self.public_url),
            *config_routes(self.config, self.limits, who),
            *attachment_routes(self.attachments, who, lambda: self.public_url),
            *verification_routes(self.verification),
            *assistant_routes(AssistantService(self._database, self.registration, self._wakeups, self._token), who),
            *report_routes(ReportService(self._database, self.registration.now, self.limits), who),
            *health_routes(HealthService(self._database, self.stopping, self.broken)),
            *server_info_routes(self._database, _describe(self.certificates.trust_root, self._settings)),
        ]
        return [*routes, openapi_route(routes, version=version())]

    def entrance(self) -> Entrance:
        """Where requests and sockets come in."""
        now = self.now
        dispatcher = Dispatcher(self.routes(), now, self.requests, self.traffic)
        self.sockets = sockets = Sockets(
            self.authentication,
            dispatcher,
            self.openings,
            self.mailboxes,
            self.acknowledgements,
            self._wakeups,
            self.keys,
            now,
            figures=self.figures,
        )
        provisioning = ProvisioningSockets(self.linking, now)
        transfers = Transfers(self.attachments, self.requests)
        return Entrance(dispatcher, sockets, provisioning, transfers, self._settings.plain_http_behind_a_proxy)


async def run_relay(
    settings: Settings,
    ready: Callable[[RunningRelay], None],
    stop: asyncio.Event,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until ``stop`` is set, or an operator has the relay drain.

    ``ready`` is called once, when the relay answers; ``say`` is told what takes long.

    Raises:
        StartupError: see :func:`open_relay`.
    """
    async with open_relay(settings, say) as relay:
        ready(relay)
        ends = [asyncio.create_task(event.wait()) for event in (stop, relay.drains)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for each in ends:
            each.cancel()


def now_milliseconds() -> int:
    """The time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def version() -> str:
    """The installed version."""
    return importlib.metadata.version(DISTRIBUTION)


@asynccontextmanager
async def _closing(resource: Database | LocalBuckets | SettledBuckets) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await resource.close()


@asynccontextmanager
async def _showing_metrics(settings: Settings, parts: Parts, url: URL) -> AsyncIterator[int | None]:
    if settings.metrics_port is None:
        yield None
        return
    exporter, shared = parts.exporter(sqlite_path(url)), settings.metrics_port_shared
    async with metrics_server(exporter, settings.metrics_host, settings.metrics_port, shared=shared) as port:
        yield port


@asynccontextmanager
async def _listening(
    settings: Settings, tls: ssl.SSLContext | None, entrance: Entrance, stopping: asyncio.Event
) -> AsyncIterator[int]:
    runner = web.ServerRunner(HttpServer(entrance.handle, refused, Bounds(MAX_BODY)), shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    try:
        site = _site(runner, settings, tls)
        try:
            await site.start()
        except OSError as error:
            raise StartupError(f"cannot listen on this host and port: {error.strerror}") from None
        yield runner.addresses[0][1]
        stopping.set()  # from now on not ready: whoever sends requests here has a moment to notice
        await asyncio.sleep(settings.drain_delay / timedelta(seconds=1))
        await site.stop()
        await entrance.sockets.close()
    finally:
        await runner.cleanup()


def _site(runner: web.ServerRunner, settings: Settings, tls: ssl.SSLContext | None) -> web.BaseSite:
    if settings.listen_fd is None:
        return web.TCPSite(runner, settings.host, settings.port, ssl_context=tls, backlog=BACKLOG)
    try:
        return web.SockSite(runner, socket.socket(fileno=settings.listen_fd), ssl_context=tls, backlog=BACKLOG)
    except OSError as error:
        raise StartupError(f"--listen-fd is no socket to listen on: {error.strerror}") from None


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


def _provider_of(settings: Settings) -> CodeProvider | None:
    """Who sends codes; ``None`` where invites take their place."""
    kind, _, rest = settings.verification.partition(":")
    match kind, rest, settings.webhook_secret_file:
        case "console", "", _:
            return ConsoleProvider()
        case "invite", "", _:
            return None
        case "file", path, _ if path:
            return FileProvider(Path(path))
        case "webhook", url, Path() as file if url:
            return WebhookProvider(parse_url(url), read_webhook_secret(file), now_milliseconds)
        case "webhook", url, None if url:
            raise StartupError("--verification webhook:URL needs --webhook-secret-file")
        case _:
            raise StartupError("verification must be console, file:PATH, invite or webhook:URL")


def generation_file_of(settings: Settings, url: URL) -> Path:
    """The file by which a restored backup is noticed.

    Raises:
        StartupError: it has to be named.
    """
    if settings.generation_file is not None:
        return settings.generation_file
    database = sqlite_path(url)
    beside = settings.secret_file if database is None or settings.secret_file else database
    if beside is None:
        raise StartupError("--generation-file must name a file outside the database")
    return beside.with_name(f"{beside.name}.generation")


def attachments_url_of(settings: Settings, url: URL) -> str:
    """Where attachments are kept.

    Raises:
        StartupError: it has to be named.
    """
    if settings.attachments_url is not None:
        return settings.attachments_url
    database = sqlite_path(url)
    if database is None:
        raise StartupError("with PostgreSQL, --attachments-url must be file:///FOLDER or s3://BUCKET/PREFIX")
    return database.resolve().with_name("attachments").as_uri()


def _read_token(path: Path) -> bytes:
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise StartupError(f"cannot read the assistant token file: {error.strerror}") from None
    if len(token) < MIN_TOKEN:
        raise StartupError(f"the assistant token must have at least {MIN_TOKEN} characters")
    return token


def _redis(url: str, secret: ServerSecret, local: LocalWakeups, figures: Figures) -> RedisWakeups:
    try:
        return RedisWakeups(url, Channels.under(secret.limit_name_key), local, figures)
    except ValueError:
        raise StartupError("the Redis URL must be redis://, rediss:// or unix://") from None


def _settled(url: str, secret: ServerSecret, here: LocalBuckets) -> SettledBuckets:
    return SettledBuckets(RedisBuckets(url, BucketNames(secret.limit_name_key)), here)


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


def url_of(host: str, port: int, *, secure: bool) -> str:
    """Where a relay is reached at this address."""
    return f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
