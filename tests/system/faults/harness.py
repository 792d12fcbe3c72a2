"""A small deployment that can fail in every part: relays as processes behind fault proxies, a durable PostgreSQL, a Valkey."""

import asyncio
import random
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
from redis import Redis

from benchmarks._accounts import register
from messaging.relay.settings import Settings
from tests.processes import RelayProcess, start_relay
from tests.servers import PostgresServer, Valkey, own_postgres, own_valkey
from tests.system.faults.load import ANSWER_SECONDS, Pair
from tests.system.faults.proxy import FaultProxy

DURABLE = {
    "listen_addresses": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "100",
    "shared_buffers": "64MB",
}
LIMITS = Path(__file__).parents[3] / "benchmarks" / "limits.toml"
DELIVERY_SECONDS = 60
MODULE = ("-m", "messaging.relay")


class Relay:
    """One relay process, and the proxy through which it is reached."""

    def __init__(
        self, settings: Settings, limits: Path = LIMITS, *options: str, program: Sequence[str] = MODULE
    ) -> None:
        self.proxy = FaultProxy()
        self._settings = settings
        self._options = ("--limits", str(limits), *options)
        self._program = program
        self._process: RelayProcess | None = None

    async def start(self) -> None:
        """Start it, and let the proxy lead there."""
        self._process = await start_relay(self._settings, *self._options, quiet=True, program=self._program)
        self.proxy.target = self._process.started.port

    async def kill(self) -> None:
        """End it with no warning."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.process.wait()

    async def ended(self) -> int:
        """With which code it has ended, when it has."""
        assert self._process is not None
        return await self._process.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None and self._process.process.returncode is None:
            self._process.process.send_signal(number)


class Deployment:
    """All of it, with the people who talk through it."""

    def __init__(self, relays: list[Relay], postgres: PostgresServer | None, valkey: Valkey | None, pairs: int) -> None:
        self.relays = relays
        self.postgres = postgres
        self.valkey = valkey
        self.pairs = [Pair(f"s{number}", f"r{number}") for number in range(pairs)]
        self.accepted_while_stopped = 0

    def url(self) -> str:
        """One of the relays, through its proxy."""
        return f"http://127.0.0.1:{random.choice(self.relays).proxy.port}"  # noqa: S311 - no secret

    @property
    def accepted(self) -> int:
        """How many messages have been accepted."""
        return sum(len(pair.accepted) for pair in self.pairs)

    def flush_valkey(self) -> None:
        """Empty the Valkey, scripts too."""
        if self.valkey is not None:
            with Redis.from_url(self.valkey.url) as client:
                client.flushall()
                client.script_flush()

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[None]:
        """Everybody sends and receives while the block lasts; afterwards what was accepted is waited for."""
        stop = asyncio.Event()
        timeout = aiohttp.ClientTimeout(total=None, sock_read=ANSWER_SECONDS, connect=ANSWER_SECONDS)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            receiving = [asyncio.create_task(pair.receive(session, self.url)) for pair in self.pairs]
            sending = [asyncio.create_task(pair.send(session, self.url, stop)) for pair in self.pairs]
            try:
                yield
                stop.set()
                await asyncio.gather(*sending)
                await self._all_delivered(receiving)
            finally:
                for task in [*receiving, *sending]:
                    task.cancel()
                await asyncio.gather(*receiving, *sending, return_exceptions=True)

    async def _all_delivered(self, receiving: Sequence[asyncio.Task[None]]) -> None:
        end = asyncio.get_running_loop().time() + DELIVERY_SECONDS
        while any(pair.missing for pair in self.pairs) and asyncio.get_running_loop().time() < end:
            for each in receiving:
                if each.done():  # by a fault of this test
                    each.result()
            await asyncio.sleep(0.2)


@asynccontextmanager
async def deployment(
    *, relays: int, pairs: int, sqlite: bool = False, options: Sequence[str] = (), program: Sequence[str] = MODULE
) -> AsyncIterator[Deployment]:
    """Start everything; at the end everything that was started is ended. Relays are called ``r0``, ``r1`` and so on."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        postgres = None if sqlite else stack.enter_context(own_postgres(DURABLE))
        valkey = None if sqlite else stack.enter_context(own_valkey())
        database = f"sqlite:///{folder / 'relay.db'}" if postgres is None else postgres.url
        await register(database, [(f"{kind}{number}", 1) for kind in "sr" for number in range(pairs)])
        secret = folder / "secret"
        secret.write_bytes(secrets.token_bytes(32))
        settings = Settings(
            port=0,
            database_url=database,
            redis_url=None if valkey is None else valkey.url,
            secret_file=secret,
            attachments_url=(folder / "attachments").as_uri(),
        )
        started = [
            Relay(settings, LIMITS, "--node-name", f"r{number}", *options, program=program) for number in range(relays)
        ]
        made = Deployment(started, postgres, valkey, pairs)
        try:
            for relay in made.relays:
                await relay.proxy.start()
            await asyncio.gather(*(relay.start() for relay in made.relays))
            yield made
        finally:
            for relay in made.relays:
                await relay.proxy.stop()
                await relay.kill()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder, while the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
