"""``subrosa console``: the operators' console as a process, and its operators from a terminal.

Each option is also an environment variable: ``--port`` is ``SUBROSA_CONSOLE_PORT``, and so on; where that is not set, ``--database-url`` and
the like are what the relay has: ``SUBROSA_DATABASE_URL``.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop
from sqlalchemy.exc import DBAPIError

from messaging.console.app import RunningConsole, origin_of, run_console
from messaging.console.logs import configure_logs
from messaging.console.settings import DEFAULT_PORT, Settings
from messaging.relay.admin.door import Door
from messaging.relay.admin.errors import AdminError
from messaging.relay.admin.limits import MAX_OPERATORS
from messaging.relay.admin.operators import operators_after
from messaging.relay.admin.operators_domain import ENROL_PATH
from messaging.relay.admin.permissions import Role
from messaging.relay.clock import Clock
from messaging.relay.database import normalise_url, sqlite_path
from messaging.relay.errors import StartupError
from messaging.relay.operator import relay_database
from messaging.relay.server_secret import secret_of
from messaging.relay.settings import DEFAULT_DATABASE

DESCRIPTION = """\
The console of a relay's operators: what the server does and holds, what may be done about it, and a record of all of it.
It shows no message, because the server can read none.

Beside a relay on this machine, with its SQLite file, and no other option:

  subrosa console serve

It prints where it listens and, as long as there is no operator, a link with which the first one enrols: good once, for a
day. Whoever opens it becomes the owner, and makes links for others on the page Operators.

For others, over TLS. Passkeys are bound to the name in --public-url: choose one that stays.

  subrosa console serve --host 0.0.0.0 --tls-cert chain.pem --tls-key key.pem --public-url https://console.example \\
      --database-url postgresql://relay@db/relay --secret-file relay.secret

From a terminal, for who has the database and the secret file: a link for somebody new, or for an operator who has lost
every passkey and code; and who there is.

  subrosa console enroll --role viewer
  subrosa console enroll --operator Ada
  subrosa console operators
"""
_COMMON = (
    "--database-url",
    "--secret-file",
    "--redis-url",
    "--attachments-url",
    "--source-url",
)  # what the relay has, too


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    configure_logs()
    try:
        uvloop.run(arguments.command(arguments))
    except (StartupError, AdminError) as error:
        sys.stderr.write(f"console: {error}\n")
        return 1
    except (OSError, DBAPIError) as error:
        sys.stderr.write(f"console: the database cannot be reached or changed ({type(error).__name__})\n")
        return 1
    return 0


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings that the command line and the environment give."""
    return Settings(
        host=arguments.host,
        port=arguments.port,
        tls_certificate=arguments.tls_cert,
        tls_key=arguments.tls_key,
        plain_http_behind_a_proxy=arguments.insecure_plain_http_behind_a_proxy,
        public_url=arguments.public_url,
        database_url=arguments.database_url,
        database_wait=timedelta(seconds=arguments.database_wait),
        secret_file=arguments.secret_file,
        redis_url=arguments.redis_url,
        attachments_url=arguments.attachments_url,
        policy=arguments.policy,
        policy_key=arguments.policy_key,
        oidc=arguments.oidc,
        source_url=arguments.source_url,
    )


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run_console(
        settings_of(arguments), lambda console: _say_ready(console, as_json=arguments.json_ready), stop, _say
    )


def _say_ready(console: RunningConsole, *, as_json: bool) -> None:
    if as_json:
        first = {} if console.first_link is None else {"firstLink": console.first_link}
        lines = [json.dumps({"url": console.url, "port": console.port, **first})]
    else:
        lines = [f"console ready at {console.url} (Ctrl-C stops it)"]
        if console.first_link is not None:
            lines += [
                "There is no operator yet. Become the owner here, once, within a day:",
                "",
                f"  {console.first_link}",
            ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _say(sentence: str) -> None:
    sys.stderr.write(f"console: {sentence}\n")
    sys.stderr.flush()


async def _enroll(arguments: argparse.Namespace) -> None:
    origin = f"http://localhost:{DEFAULT_PORT}" if arguments.public_url is None else origin_of(arguments.public_url)
    role = None if arguments.operator else Role(arguments.role)
    url = normalise_url(arguments.database_url)
    async with relay_database(arguments.database_url) as database:
        secret = secret_of(arguments.secret_file, sqlite_path(url), create=False)
        code = await Door(database, secret, Clock()).invite_by_terminal(role, arguments.operator)
    link = f"{origin}{ENROL_PATH}{code}"
    told = json.dumps({"link": link}) if arguments.json else f"Good once, for a day:\n\n  {link}"
    sys.stdout.write(told + "\n")


async def _operators(arguments: argparse.Namespace) -> None:
    async with relay_database(arguments.database_url) as database, database.read() as db:
        found = await operators_after(db, 0, limit=MAX_OPERATORS)
    if arguments.json:
        told = json.dumps(
            {
                "operators": [
                    {
                        "id": each.id,
                        "name": each.name,
                        "role": each.role.value,
                        "disabled": each.disabled_at is not None,
                    }
                    for each in found
                ]
            }
        )
    else:
        told = "\n".join(
            f"operator {each.id}: {each.name}, {each.role.value}, since {_day(each.created_at)}"
            + ("" if each.disabled_at is None else f", disabled {_day(each.disabled_at)}")
            for each in found
        )
    sys.stdout.write((told or "There are no operators.") + "\n")


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%d")


def _parser(environment: Mapping[str, str] = os.environ) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="subrosa console", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="serve | enroll | operators")

    def command(name: str, run: Any, what: str) -> argparse.ArgumentParser:  # noqa: ANN401 - a coroutine function
        added = commands.add_parser(name, help=what, description=what)
        added.set_defaults(command=run)
        return added

    serve = command("serve", _serve, "run the console")
    enroll = command("enroll", _enroll, "make a link with which somebody becomes an operator, or gets another passkey")
    operators = command("operators", _operators, "show who may sign in")
    _serving_options(serve, environment)
    for each in (enroll, operators):
        _option(each, environment, "--database-url", "the relay's database", default=DEFAULT_DATABASE)
        each.add_argument("--json", action="store_true", help="print one JSON object")
    _option(enroll, environment, "--secret-file", "the relay's; with SQLite the one beside the database", kind=Path)
    _option(enroll, environment, "--public-url", "where operators reach the console: https://console.example")
    whom = enroll.add_mutually_exclusive_group()
    whom.add_argument("--role", choices=[str(role) for role in Role], default=str(Role.OWNER), help="(default: owner)")
    whom.add_argument("--operator", metavar="NAME", help="another passkey for who is an operator already")
    return parser


def _serving_options(serve: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    def option(name: str, explanation: str, *, kind: type = str, default: object = None) -> None:
        _option(serve, environment, name, explanation, kind=kind, default=default)

    option("--host", "address to listen on; beyond this machine it needs TLS and --public-url", default="127.0.0.1")
    option("--port", "port to listen on; 0 takes a free one", kind=int, default=DEFAULT_PORT)
    option("--tls-cert", "certificate chain, PEM", kind=Path)
    option("--tls-key", "private key of the certificate, PEM", kind=Path)
    _switch(
        serve,
        environment,
        "--insecure-plain-http-behind-a-proxy",
        "listen without TLS beyond this machine, and believe X-Forwarded-For: only where a proxy in front does TLS",
    )
    option("--public-url", "where operators reach it, if not at its host and port: https://console.example")
    option("--database-url", "the relay's: sqlite:///PATH or postgresql://USER@HOST/NAME", default=DEFAULT_DATABASE)
    option("--database-wait", "seconds to wait at the start for a database that is away", kind=int, default=60)
    option("--secret-file", "the relay's; with SQLite the one beside the database if this is not given", kind=Path)
    option("--redis-url", "the relay's, if it has one: it tells which devices are connected")
    option("--attachments-url", "the relay's: file:///FOLDER or s3://BUCKET/PREFIX")
    option("--policy", "policy by which evidence of assistants is appraised (see: subrosa policy)", kind=Path)
    option("--policy-key", "public key of who has signed the policy: the key, or a file that holds it")
    option("--source-url", "where users find the source code of this server; on every page", default="")
    option(
        "--oidc",
        "TOML with issuer, client_id and client_secret_file: operators sign in with the company's account",
        kind=Path,
    )
    _switch(serve, environment, "--json-ready", 'when ready, print one JSON line: {"url": ..., "port": ...}')


def _option(
    parser: argparse.ArgumentParser,
    environment: Mapping[str, str],
    name: str,
    explanation: str,
    *,
    kind: type = str,
    default: object = None,
) -> None:
    parser.add_argument(
        name,
        type=kind,
        default=_given(environment, name, default),
        metavar=kind.__name__.upper().replace("STR", "TEXT"),
        help=explanation + ("" if default is None else f" (default: {default})"),
    )


def _switch(parser: argparse.ArgumentParser, environment: Mapping[str, str], name: str, explanation: str) -> None:
    on = str(_given(environment, name, "")).lower() in {"1", "true", "yes"}
    parser.add_argument(name, action="store_true", default=on, help=explanation)


def _given(environment: Mapping[str, str], name: str, default: object) -> object:
    variable = name.removeprefix("--").replace("-", "_").upper()
    shared = environment.get(f"SUBROSA_{variable}", default) if name in _COMMON else default
    return environment.get(f"SUBROSA_CONSOLE_{variable}", shared)


if __name__ == "__main__":
    sys.exit(main())
