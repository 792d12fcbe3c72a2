"""``python -m messaging.relay``: the relay as a process. Each option is also an environment variable, ``SUBROSA_...``."""

import argparse
import asyncio
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvloop

from messaging.relay.app import BACKLOG, RunningRelay, run_relay, url_of
from messaging.relay.database import normalise_url, sqlite_path
from messaging.relay.errors import StartupError
from messaging.relay.limits import read_limits
from messaging.relay.logs import configure_logs
from messaging.relay.nodes import node_name
from messaging.relay.remote_config import read_remote_config
from messaging.relay.settings import DEFAULT_DATABASE, DEFAULT_PORT, Settings
from messaging.relay.speed import what_is_slow
from messaging.relay.workers import (
    END_SECONDS,
    MAX_WORKERS,
    READY_SECONDS,
    WORKER_VARIABLE,
    Supervisor,
    listening_socket,
    supervise,
    worker_command,
    worker_environment,
)
from signal_protocol.public.certificates import REVOKED_KEY_IDS

MAX_PORT = 65_535
YOUNG_OBJECTS = 20_000  # that are made before the garbage collector looks at them
DESCRIPTION = """\
The Sub Rosa relay: it stores and forwards messages that it cannot read.

Without options it serves this machine only, on plain HTTP, with an SQLite file and no other service:

  subrosa relay

For others, over TLS, with PostgreSQL and Redis or Valkey (any number of relays on the same two):

  subrosa relay --host 0.0.0.0 --tls-cert chain.pem --tls-key key.pem \\
      --database-url postgresql://relay@db/relay --redis-url redis://redis:6379 --secret-file relay.secret \\
      --attachments-url s3://bucket/attachments --public-url https://chat.example

Each option is also an environment variable: --database-url is SUBROSA_DATABASE_URL, and so on.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the relay until SIGTERM or SIGINT; returns the exit code."""
    arguments = _parser().parse_args(argv)
    configure_logs()
    try:
        settings = settings_of(arguments)
        if arguments.workers > 1:
            command = worker_command(sys.argv[1:] if argv is None else argv)
            uvloop.run(_supervise(command, settings, arguments.workers, as_json=arguments.json_ready))
        else:
            uvloop.run(
                _serve(settings, as_json=arguments.json_ready, until_end_of_input=arguments.stop_at_end_of_input)
            )
    except StartupError as error:
        sys.stderr.write(f"relay: {error}\n")
        return 1
    return 0


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings that the command line and the environment give.

    Raises:
        StartupError: a value that cannot be.
    """
    limits = read_limits(arguments.limits)
    return Settings(
        host=arguments.host,
        port=arguments.port,
        tls_certificate=arguments.tls_cert,
        tls_key=arguments.tls_key,
        plain_http_behind_a_proxy=arguments.insecure_plain_http_behind_a_proxy,
        database_url=arguments.database_url,
        redis_url=arguments.redis_url,
        verification=arguments.verification,
        webhook_secret_file=arguments.webhook_secret_file,
        secret_file=arguments.secret_file,
        generation_file=arguments.generation_file,
        assistant_token_file=arguments.assistant_token_file,
        limits=limits.everybody,
        bot_limits=limits.bots,
        migrate=not arguments.no_migrate,
        source_url=arguments.source_url,
        certificate_key_id=certificate_key_id(arguments.certificate_key_id),
        public_url=arguments.public_url,
        remote_config=read_remote_config(arguments.remote_config),
        attachments_url=arguments.attachments_url,
        listen_fd=arguments.listen_fd,
        database_wait=timedelta(seconds=arguments.database_wait),
        drain_delay=timedelta(seconds=arguments.drain_delay),
        otlp_endpoint=arguments.otlp_endpoint,
        otlp_ratio=arguments.otlp_ratio,
        **_of_this_process(arguments),
    )


def _of_this_process(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the processes of one machine have each of its own: the name, and the port of the metrics."""
    number = os.environ.get(WORKER_VARIABLE, "")
    worker = int(number) if number.isascii() and number.isdigit() else None
    return {
        "node_name": node_name(arguments.node_name, socket.gethostname(), worker),
        "metrics_host": arguments.metrics_host,
        "metrics_port": metrics_port(arguments.metrics_port, worker or 1, arguments.workers),
        "metrics_port_shared": worker is not None,
    }


def metrics_port(first: int | None, worker: int, workers: int) -> int | None:
    """The port of the figures of a worker, numbered from 1; with 0 each takes a free one.

    Raises:
        StartupError: there is no such port, of this worker or of another.
    """
    if first is None or first == 0:
        return first
    if not 0 < first <= MAX_PORT - max(worker, workers) + 1:
        raise StartupError(f"--metrics-port must be from 0 to {MAX_PORT}, and leave one for each worker")
    return first + worker - 1


def certificate_key_id(number: int) -> int:
    """A number that a server certificate may have.

    Raises:
        StartupError: not from 1 to 2**31 - 1, or one that libsignal has revoked.
    """
    if not 1 <= number < 2**31 or number in REVOKED_KEY_IDS:
        raise StartupError("--certificate-key-id must be from 1 to 2147483647, and not one that libsignal has revoked")
    return number


async def _serve(settings: Settings, *, as_json: bool, until_end_of_input: bool) -> None:
    stop = _stopped_by_signals()
    if until_end_of_input:
        stop_at_end_of_input(sys.stdin.fileno(), stop)
    for missing in what_is_slow():
        _say(missing)

    def ready(relay: RunningRelay) -> None:
        leave_to_itself_what_lives_long()
        _say_ready(relay.url, relay.port, settings, as_json=as_json)

    await run_relay(settings, ready, stop, _say)


async def _supervise(command: Sequence[str], settings: Settings, count: int, *, as_json: bool) -> None:
    check_workers(count, settings)
    with listening_socket(settings.host, settings.port, BACKLOG) as listening:
        port = listening.getsockname()[1]
        url = url_of(settings.host, port, secure=settings.tls_certificate is not None)
        worker_environment()
        await supervise(
            supervisor_of(command, listening, count, settings),
            lambda: _say_ready(url, port, settings, as_json=as_json),
            _stopped_by_signals(),
        )


def supervisor_of(command: Sequence[str], listening: socket.socket, count: int, settings: Settings) -> Supervisor:
    """A supervisor that lets its workers wait as long as the settings do: for the database, and before they drain."""
    return Supervisor(
        command,
        listening,
        count,
        ready_seconds=settings.database_wait.total_seconds() + READY_SECONDS,
        end_seconds=settings.drain_delay.total_seconds() + END_SECONDS,
    )


def check_workers(count: int, settings: Settings) -> None:
    """Whether these settings can serve several processes.

    Raises:
        StartupError: too many, or the database or the notices are for one process only.
    """
    if count > MAX_WORKERS:
        raise StartupError(f"--workers takes at most {MAX_WORKERS}")
    if sqlite_path(normalise_url(settings.database_url)) is not None:
        raise StartupError(
            "several workers need PostgreSQL: --database-url postgresql://... (SQLite is for one process)"
        )
    if settings.redis_url is None:
        raise StartupError("several workers need --redis-url: it is how one wakes the sockets of another")


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def stop_at_end_of_input(input_fd: int, stop: asyncio.Event) -> None:
    """Set ``stop`` when the input ends."""
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(input_fd)  # what has ended can be read for ever: we would be called without a pause
        stop.set()

    loop.add_reader(input_fd, ended)


def _say(sentence: str) -> None:
    sys.stderr.write(f"relay: {sentence}\n")
    sys.stderr.flush()


def leave_to_itself_what_lives_long() -> None:
    """Spare the garbage collector what was made at the start: looking through it again and again would stop everything."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 50, 100)


def _say_ready(url: str, port: int, settings: Settings, *, as_json: bool) -> None:
    if as_json:
        line = json.dumps({"url": url, "port": port})
    elif url.startswith("http:"):
        why = "behind a proxy" if settings.plain_http_behind_a_proxy else "for this machine only"
        line = f"relay ready at {url} (plain HTTP, {why}; Ctrl-C stops it)"
    else:
        line = f"relay ready at {url} (Ctrl-C stops it)"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def relay_options(prog: str, description: str) -> argparse.ArgumentParser:
    """The relay's own options, for another command that is to understand them as a relay does."""
    parser = _parser()
    parser.prog, parser.description = prog, description
    return parser


def _parser(environment: Mapping[str, str] = os.environ) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="subrosa relay",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a worker is started with our options, less those that are written out: see worker_command
    )

    def option(name: str, explanation: str, *, kind: type = str, default: object = None) -> None:
        variable = "SUBROSA_" + name.removeprefix("--").replace("-", "_").upper()
        parser.add_argument(
            name,
            type=kind,
            default=environment.get(variable, default),
            metavar=kind.__name__.upper().replace("STR", "TEXT"),
            help=f"{explanation}" + ("" if default is None else f" (default: {default})"),
        )

    def switch(name: str, explanation: str) -> None:
        variable = "SUBROSA_" + name.removeprefix("--").replace("-", "_").upper()
        on = environment.get(variable, "").lower() in {"1", "true", "yes"}
        parser.add_argument(name, action="store_true", default=on, help=explanation)

    option("--host", "address to listen on; beyond this machine it needs TLS", default="127.0.0.1")
    option("--port", "port to listen on; 0 takes a free one", kind=int, default=DEFAULT_PORT)
    option("--tls-cert", "certificate chain, PEM", kind=Path)
    option("--tls-key", "private key of the certificate, PEM", kind=Path)
    switch(
        "--insecure-plain-http-behind-a-proxy",
        "listen without TLS beyond this machine: only where a proxy in front does TLS",
    )
    option("--database-url", "sqlite:///PATH or postgresql://USER@HOST/NAME", default=DEFAULT_DATABASE)
    option("--redis-url", "Redis or Valkey that wakes the sockets of other relays; holds no message")
    option(
        "--verification",
        "how a number is verified: console prints codes, file:PATH appends them as JSON lines, webhook:URL posts them, "
        "signed, to a sender of your own, invite sends none and takes the codes of 'subrosa invite'",
        default="console",
    )
    option(
        "--webhook-secret-file",
        "what posts to webhook:URL are signed with: whsec_ and base64 of 24 to 64 bytes",
        kind=Path,
    )
    option(
        "--secret-file",
        "32 random bytes, the same for all relays on one database; keep it outside the database and its backups. "
        "With SQLite it is made beside the file if this is not given",
        kind=Path,
    )
    option(
        "--generation-file",
        "a file by which a restored backup of the database is noticed; keep it outside backups, and writable. "
        "Without this it is beside the secret file",
        kind=Path,
    )
    option("--assistant-token-file", "whoever has this token may enrol assistants; without it nobody may", kind=Path)
    option(
        "--limits",
        "TOML with rate limits: one table per bucket, with size and refill (seconds); below [bots] those of bots alone",
        kind=Path,
    )
    switch("--no-migrate", "do not bring the schema up to date; refuse to start if it is not")
    option("--source-url", "where users find the source code of this relay, told by /v1/server-info", default="")
    option(
        "--certificate-key-id",
        "number of the sealed-sender server certificate; the next number on all relays is a new key",
        kind=int,
        default=1,
    )
    option(
        "--public-url",
        "where clients reach the relay over HTTP, if that is not its host and port: https://chat.example",
    )
    option(
        "--attachments-url",
        "where ciphertext of attachments is kept: file:///FOLDER, or s3://BUCKET/PREFIX with the usual AWS_ variables "
        "(with SQLite the default is a folder beside the file)",
    )
    option(
        "--workers",
        "relay processes behind one port, with PostgreSQL and Redis; SIGHUP renews them one after the other",
        kind=int,
        default=1,
    )
    option("--listen-fd", "an open socket to listen on, by its number, instead of --host and --port", kind=int)
    option("--database-wait", "seconds to wait at the start for a database that is away", kind=int, default=60)
    option(
        "--drain-delay",
        "seconds between SIGTERM, which makes /v1/health/ready say no, and the end of accepting connections",
        kind=int,
        default=0,
    )
    option(
        "--remote-config",
        "TOML with values for clients: one table per name, with value, percentage, accounts",
        kind=Path,
    )
    option("--node-name", "what operators call this process (default: like its machine)")
    option(
        "--metrics-port",
        "port on which Prometheus finds figures; the second of several workers takes the next one, and so on",
        kind=int,
    )
    option(
        "--metrics-host",
        "address of that port; the figures name nobody, and anybody who reaches it sees them",
        default="127.0.0.1",
    )
    option("--otlp-endpoint", "collector of OpenTelemetry to which traces are sent over HTTP: http://HOST:4318")
    option("--otlp-ratio", "share of requests that are traced, from 0 to 1", kind=float, default=0.01)
    switch(
        "--stop-at-end-of-input",
        "stop when standard input ends, as it does when the process that started this one does",
    )
    switch("--json-ready", 'when ready, print one JSON line: {"url": ..., "port": ...}')
    return parser


if __name__ == "__main__":
    sys.exit(main())
