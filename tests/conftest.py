"""Fixtures for everybody: databases, brokers, and relays on free ports, in this process.

``relay`` runs a test twice: on SQLite with notices in the process, and on PostgreSQL with Valkey.
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from messaging.relay.database import normalise_url
from messaging.relay.migrate import migrate
from tests.relays import BACKENDS, Relays, StartedRelay, TlsFiles
from tests.servers import Postgres, running_postgres, running_valkey

# One thread for each engine, in this process and in those that it starts: several engines at once would spin on the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--long`` runs the slow tests too; ``dev.py check --long`` passes it on."""
    parser.addoption("--long", action="store_true", help="run the tests marked as long too")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes are numbered and not shown: many are random, and all processes of one run have to call a test the same."""
    return "bytes" if isinstance(val, bytes) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests out, unless they were asked for; pytest counts them as deselected.

    Those of the whole system come first: each takes long, and one that began last would be waited for alone.
    """
    items.sort(key=lambda item: "system" not in item.path.parts)
    if config.getoption("--long"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """One Valkey for all tests."""
    with running_valkey() as url:
        yield url


@pytest.fixture(scope="session")
async def postgres_template(postgres: Postgres) -> AsyncIterator[str]:
    """A database with the present schema, to make others from."""
    name = await postgres.create()
    await migrate(normalise_url(postgres.url_of(name)))
    yield name
    await postgres.drop(name)


@pytest.fixture(scope="session")
async def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the present schema, to make others from."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    await migrate(normalise_url(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate for localhost and 127.0.0.1, made now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return TlsFiles(folder / "certificate.pem", folder / "key.pem", certificate.public_bytes(Encoding.DER))


@pytest.fixture
async def relays(
    tmp_path: Path,
    sqlite_template: Path,
    postgres: Postgres,
    postgres_template: str,
    valkey_url: str,
    tls_files: TlsFiles,
) -> AsyncIterator[Relays]:
    """Starts as many relays as a test wants."""
    async with AsyncExitStack() as databases, AsyncExitStack() as running:
        yield Relays(databases, running, tmp_path, sqlite_template, postgres, postgres_template, valkey_url, tls_files)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The two ways to run a relay."""
    return str(request.param)


@pytest.fixture
async def relay(relays: Relays, backend: str) -> StartedRelay:
    """A relay on plain HTTP, on a free port of the loopback, without rate limits."""
    return await relays.start(backend)


@pytest.fixture
async def tls_relay(relays: Relays, backend: str) -> StartedRelay:
    """The same over TLS."""
    return await relays.start(backend, tls=True)
