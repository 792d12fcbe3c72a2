"""What an operator may set. Read once, in ``relay.app``; others get values, not settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from messaging.relay.limits import BOT_DEFAULTS, DEFAULTS, Bucket, Limit
from messaging.relay.remote_config import ConfigValue

DEFAULT_DATABASE = "sqlite:///var/subrosa.db"
DEFAULT_PORT = 8443


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one relay process. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    plain_http_behind_a_proxy: bool = False
    listen_fd: int | None = None  # an open socket to listen on, instead of host and port
    database_wait: timedelta = timedelta(0)  # how long to wait at the start for a database that is away
    drain_delay: timedelta = timedelta(0)  # how long to go on accepting when about to stop, and no longer ready
    database_url: str = field(default=DEFAULT_DATABASE, repr=False)  # may carry a password
    redis_url: str | None = field(default=None, repr=False)  # may carry a password
    verification: str = field(default="console", repr=False)  # a webhook's URL may carry a secret
    webhook_secret_file: Path | None = None
    secret_file: Path | None = None
    generation_file: Path | None = None
    assistant_token_file: Path | None = None
    limits: Mapping[Limit, Bucket] = field(default_factory=lambda: DEFAULTS)
    bot_limits: Mapping[Limit, Bucket] = field(default_factory=lambda: BOT_DEFAULTS)  # those that bots have instead
    migrate: bool = True
    source_url: str = ""  # where users of this relay find its source code (AGPL, section 13)
    envelope_lifetime: timedelta = timedelta(days=30)
    certificate_key_id: int = 1
    remote_config: dict[str, ConfigValue] = field(default_factory=dict)
    public_url: str | None = None  # where clients reach the relay over HTTP, if not at host and port
    attachments_url: str | None = None  # None: a folder beside the SQLite file
    attachment_lifetime: timedelta = timedelta(days=45)
    max_attachment: int = 100 * 1024 * 1024  # bytes
    node_name: str = "relay"  # what operators call this process
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None  # for Prometheus; None: nowhere
    metrics_port_shared: bool = False  # with the worker that this one replaces
    otlp_endpoint: str | None = field(default=None, repr=False)  # where traces are sent; None: nowhere
    otlp_ratio: float = 0.01  # of requests that are traced
