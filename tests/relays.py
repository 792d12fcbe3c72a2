"""Relays in this process for tests: each on a free port of the loopback, with a database of its own."""

import json
import secrets
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from messaging.relay.app import RunningRelay, open_relay
from messaging.relay.buckets import LocalBuckets
from messaging.relay.limits import DEFAULTS, Bucket, RateLimits
from messaging.relay.settings import Settings
from tests.servers import Postgres

UNLIMITED = {limit: Bucket(1_000_000_000, 0.000_001, fail_open=True) for limit in DEFAULTS}
BACKENDS = ["sqlite", "postgresql"]


def unlimited() -> RateLimits:
    """Limits that nobody meets, for a service without a relay."""
    return RateLimits(UNLIMITED, LocalBuckets(lambda: 0.0))


@dataclass(frozen=True)
class TlsFiles:
    """A certificate for this machine; it is its own root."""

    certificate: Path
    key: Path
    root_der: bytes = field(repr=False)


@dataclass(frozen=True)
class StartedRelay:
    """A relay in this process, with what a test needs to speak to it and to look behind it."""

    running: RunningRelay
    settings: Settings
    codes: Path
    assistant_token: str
    tls: TlsFiles | None = None

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def port(self) -> int:
        return self.running.port

    def last_code(self, number: str) -> str:
        """The code that was sent to ``number`` last."""
        lines = [json.loads(line) for line in self.codes.read_text().splitlines()]
        return str([line["code"] for line in lines if line["number"] == number][-1])


@dataclass
class Relays:
    """Starts relays; all are stopped when the test is over, and then their databases dropped."""

    databases: AsyncExitStack
    running: AsyncExitStack
    folder: Path
    sqlite_template: Path
    postgres: Postgres
    postgres_template: str
    valkey_url: str
    tls: TlsFiles

    async def stop(self) -> None:
        """Stop all relays that run."""
        await self.running.aclose()

    async def settings(self, backend: str, *, tls: bool = False, **overrides: Any) -> Settings:
        """Settings for a relay on an empty database of its own."""
        folder = self.folder / secrets.token_hex(4)
        folder.mkdir()
        secret, token = folder / "secret", folder / "token"
        secret.write_bytes(secrets.token_bytes(32))
        token.write_text(secrets.token_hex(16))
        values: dict[str, Any] = {
            "port": 0,
            "database_url": await self.database(backend, folder),
            "redis_url": self.valkey_url if backend == "postgresql" else None,
            "verification": f"file:{folder / 'codes'}",
            "secret_file": secret,
            "assistant_token_file": token,
            "limits": UNLIMITED,
            "attachments_url": (folder / "attachments").as_uri(),
            "tls_certificate": self.tls.certificate if tls else None,
            "tls_key": self.tls.key if tls else None,
        }
        return Settings(**{**values, **overrides})

    async def database(self, backend: str, folder: Path) -> str:
        """The URL of a fresh database with the present schema."""
        if backend == "sqlite":
            shutil.copy(self.sqlite_template, folder / "relay.db")
            return f"sqlite:///{folder / 'relay.db'}"
        name = await self.postgres.create(self.postgres_template)
        self.databases.push_async_callback(self.postgres.drop, name)
        return self.postgres.url_of(name)

    async def start(self, backend: str, *, tls: bool = False, **overrides: Any) -> StartedRelay:
        """Start a relay on a database of its own."""
        return await self.serve(await self.settings(backend, tls=tls, **overrides))

    async def serve(self, settings: Settings) -> StartedRelay:
        """Start a relay with these settings, perhaps another one's."""
        running = await self.running.enter_async_context(open_relay(settings))
        codes = Path(settings.verification.removeprefix("file:"))
        token = settings.assistant_token_file.read_text() if settings.assistant_token_file else ""
        return StartedRelay(running, settings, codes, token, self.tls if settings.tls_key else None)
