"""The settings of a console, read once. Only ``app`` sees them whole; others get values."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from messaging.relay.settings import DEFAULT_DATABASE

DEFAULT_PORT = 8480


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one console process. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    plain_http_behind_a_proxy: bool = False
    public_url: str | None = None  # where operators reach it, if not at its host and port: https://console.example
    database_url: str = field(default=DEFAULT_DATABASE, repr=False)  # may carry a password
    database_wait: timedelta = timedelta(0)  # how long to wait at the start for a database that is away
    secret_file: Path | None = None
    redis_url: str | None = field(default=None, repr=False)  # may carry a password
    attachments_url: str | None = None  # None: a folder beside the SQLite file
    policy: Path | None = None  # which evidence of assistants is accepted
    policy_key: str | None = None  # of who signed the policy: the key, or a file that holds it
    oidc: Path | None = None  # TOML: see ``oidc``
    source_url: str = ""  # where users of this server find its source code (AGPL, section 13)
