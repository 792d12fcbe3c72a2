"""``subrosa bot``: make bots, run their gateway, and look after them."""

import argparse
import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from messaging.bots import talk
from messaging.bots.accounts import Accounts, settings_of
from messaging.bots.app import Gateway, Settings, open_gateway, serving
from messaging.bots.control import ask, controlled
from messaging.bots.limits import MAX_FILE, ROTATION_OVERLAP
from messaging.bots.logs import configure_logs
from messaging.bots.operator import NotPossible, Operator
from messaging.bots.records import Bot
from messaging.bots.ssrf import Network
from messaging.bots.tokens import ALL, SCOPES
from messaging.client.bot.settings import Settings as BotSettings
from messaging.client.errors import ClientError
from messaging.serving.logs import get_logger
from signal_protocol.errors import SignalError

HOME = "SUBROSA_GATEWAY_HOME"
MEGABYTE = 1024 * 1024
MAX_MEGABYTES = 4096
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

DESCRIPTION = """\
Bots with end-to-end encryption, in every language. The gateway runs where the bot's owner is: keys and messages stay there, and
programs speak with it over HTTP on this machine, as with Telegram's Bot API.

Whoever runs the relay makes an invite, `subrosa invite create --role bot`. Then, once:

  subrosa bot create "Tea Time" --relay https://relay.example.org --invite CODE

which prints the bot's token, and from then on:

  subrosa bot gateway

  curl http://127.0.0.1:8081/bot$TOKEN/getMe
  curl http://127.0.0.1:8081/bot$TOKEN/getUpdates?timeout=50
  curl http://127.0.0.1:8081/bot$TOKEN/sendMessage -d chat_id=10000000001 -d text=hello

A library for Telegram's bots works when its base URL is http://127.0.0.1:8081/bot. What there is, is told at /openapi.json.

Everything is in one folder, --home: keep it private, and back it up only while the gateway is stopped.
"""

GATEWAY = """\
Run the gateway for all bots of the home, until it is interrupted. What is not confirmed then is given out again later.

Webhooks go to public addresses over TLS. To post to a program on this machine or in your network, name its network:

  subrosa bot gateway --allow-webhook-network 127.0.0.0/8

With SUBROSA_BOT_PASSPHRASE the keys of all databases come from a passphrase, and not from files beside them: set it from the first
start on. With SUBROSA_POLICY and SUBROSA_POLICY_KEY bots may ask the assistants whose machines that policy accepts.

Others cannot reach the gateway: its HTTP is not encrypted, and tokens travel in it. In a container with a network of its own, say
--host 0.0.0.0 --unsafe-listen-beyond-loopback, and let nobody but the bot's program connect.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = parser().parse_args(argv)
    if arguments.action == "talk":
        return talk.main(arguments)
    try:
        if arguments.action == "gateway":
            return asyncio.run(_gateway(arguments))
        done = asyncio.run(_do(arguments.home, arguments.action, arguments.given(arguments)))
    except (ClientError, SignalError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(error.strerror or type(error).__name__)
    except KeyboardInterrupt:
        return 130
    sys.stdout.write((json.dumps(done) if arguments.json else printable(arguments.tell(done))) + "\n")
    return 0


def _fail(sentence: str) -> int:
    sys.stderr.write(f"subrosa bot: {printable(sentence).rstrip('.')}.\n")
    return 1


def printable(text: str) -> str:
    """Without what would tell a terminal to do something: a bot's program chose some of it."""
    return "".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text)


# --- the gateway ---


async def _gateway(arguments: argparse.Namespace) -> int:
    common = _common(arguments.home)
    settings = Settings(
        home=common.home,
        passphrase=common.passphrase,
        host=arguments.host,
        port=arguments.port,
        unsafe_listen_beyond_loopback=arguments.unsafe_listen_beyond_loopback,
        allowed_networks=tuple(arguments.allow_webhook_network),
        webhook_ca=arguments.webhook_ca,
        max_file=arguments.max_file * MEGABYTE,
    )
    settings.check()
    configure_logs()
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    async with _opened(settings, common) as (gateway, accounts):
        operator = Operator(gateway, accounts.open, _folder_in(common), is_serving=True)
        async with controlled(operator, settings.home), serving(gateway) as (host, port):
            for number in gateway.bots:
                gateway.start(number)
            _announce(host, port, len(gateway.bots))
            await stop.wait()
    get_logger().info("gateway_stopped")
    return 0


def _announce(host: str, port: int, bots: int) -> None:
    where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    get_logger().info("gateway_started", count=bots)
    sys.stdout.write(f"{where}\n")
    sys.stdout.flush()


@asynccontextmanager
async def _opened(settings: Settings, common: BotSettings) -> AsyncIterator[tuple[Gateway, Accounts]]:
    async with Accounts.start(common) as accounts, open_gateway(settings, accounts.open) as gateway:
        yield gateway, accounts


def _folder_in(common: BotSettings) -> Callable[[Bot], Path]:
    return lambda bot: settings_of(bot, common).home


def _common(home: Path) -> BotSettings:
    """What holds for the gateway and all its bots: a passphrase, a policy for enclaves, how to take new keys."""
    return BotSettings.read("gateway", os.environ, home=home, offline=True)


# --- everything else ---


async def _do(home: Path, action: str, given: Mapping[str, Any]) -> dict[str, Any]:
    done = await ask(home, action, given)
    if done is not None:
        return done
    configure_logs()
    common = _common(home)
    async with _opened(Settings(home=home, passphrase=common.passphrase), common) as (gateway, accounts):
        return await Operator(gateway, accounts.open, _folder_in(common)).do(action, given)


def _create(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = BotSettings.read(
        arguments.name,
        os.environ,
        relay=arguments.relay,
        ca=arguments.ca,
        invite=arguments.invite,
        home=arguments.home,
    )
    if settings.invite is None:
        raise NotPossible("a bot needs an invite: give --invite, or set SUBROSA_INVITE")
    ca = "" if settings.ca is None else str(settings.ca.expanduser().resolve())
    return {"name": arguments.name, "relay": settings.relay, "invite": settings.invite, "ca": ca}


def _tell_created(done: Mapping[str, Any]) -> str:
    return (
        f"{done['name']} is bot {done['bot']}, @{done['username']}, account {done['account']}.\n\n"
        f"  {done['token']}\n\n"
        "The token is shown this once; whoever has it is the bot. Run `subrosa bot gateway` to use it."
    )


def _tell_list(done: Mapping[str, Any]) -> str:
    lines = []
    for bot in done["bots"]:
        state = "connected" if bot["connected"] else "not running"
        webhook = ", webhook" if bot["webhook"] else ""
        lines.append(f"{bot['bot']}  {bot['name']} (@{bot['username']}), {state}{webhook}")
        lines += [f"    {_token_line(token)}" for token in bot["tokens"]]
    return "\n".join(lines) or "There are no bots: `subrosa bot create --help` says how to make one."


def _token_line(token: Mapping[str, Any]) -> str:
    until = "without end" if token["expiresAt"] is None else f"until {_day(token['expiresAt'])}"
    return f"token {token['id']}: {', '.join(token['scopes'])}; since {_day(token['createdAt'])}, {until}"


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _tell_token(done: Mapping[str, Any]) -> str:
    old = f"\n\nThe old one: {_token_line(done['old'])}." if "old" in done else ""
    return f"  {done['token']}\n\nThe token is shown this once.{old}"


def _tell_parked(done: Mapping[str, Any]) -> str:
    lines = [
        f"{each['id']}  {each['kind']}, failed {each['attempts']} times, last {each['reason']}; "
        f"set aside {_day(each['parkedAt'])}"
        for each in done["parked"]
    ]
    return "\n".join(lines) or "Nothing is set aside."


def _tell_number(done: Mapping[str, Any]) -> str:
    ((what, value),) = done.items()
    return f"{what}: {value}"


# --- the command line ---

Tell = Callable[[Mapping[str, Any]], str]
Read = Callable[[argparse.Namespace], dict[str, Any]]
Actions = Any  # what ``add_subparsers`` returns, for which argparse has no public name


def parser() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--home", type=_path, default=_default_home(), metavar="DIR", help="(default: %(default)s)")
    common.add_argument("--json", action="store_true", help="print one JSON object; times are milliseconds since 1970")
    found = argparse.ArgumentParser(
        prog="subrosa bot", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = found.add_subparsers(required=True, metavar="ACTION")
    _gateway_options(actions, common)
    _create_options(actions, common)
    _add(actions, common, "list", "list", "show all bots and their tokens' ids", tell=_tell_list)
    _token_options(actions, common)
    _parked_options(actions, common)
    talking = actions.add_parser("talk", help="talk with a bot in this terminal")
    talk.add_arguments(talking)
    talking.set_defaults(action="talk")
    return found


def _add(
    actions: Actions,
    common: argparse.ArgumentParser,
    name: str,
    action: str,
    what: str,
    *,
    tell: Tell = _tell_number,
    given: Read = lambda _: {},
    description: str | None = None,
) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = actions.add_parser(
        name,
        parents=[common],
        help=what,
        description=description or f"{what[:1].upper()}{what[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.set_defaults(action=action, tell=tell, given=given)
    return added


def _gateway_options(actions: Actions, common: argparse.ArgumentParser) -> None:
    gateway = _add(actions, common, "gateway", "gateway", "run all bots and answer HTTP", description=GATEWAY)
    gateway.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="(default: 127.0.0.1)")
    gateway.add_argument("--port", type=_port, default=8081, metavar="N", help="(default: 8081)")
    gateway.add_argument(
        "--unsafe-listen-beyond-loopback", action="store_true", help="let others connect, without encryption"
    )
    gateway.add_argument(
        "--allow-webhook-network",
        type=_network,
        action="append",
        default=[],
        metavar="CIDR",
        help="may be posted to although it is private, and without TLS; may be repeated",
    )
    gateway.add_argument("--webhook-ca", type=_path, metavar="FILE", help="certificates that webhook targets may have")
    gateway.add_argument(
        "--max-file",
        type=_size,
        default=MAX_FILE // MEGABYTE,
        metavar="MB",
        help="size of a file to send (default: %(default)s)",
    )


def _create_options(actions: Actions, common: argparse.ArgumentParser) -> None:
    create = _add(actions, common, "create", "create", "make a bot, show its token", tell=_tell_created, given=_create)
    create.add_argument("name", metavar="NAME", help="what everybody sees; its username is made of it")
    create.add_argument("--relay", metavar="URL", help="where the account is registered (or SUBROSA_RELAY)")
    create.add_argument("--invite", metavar="CODE", help="made with --role bot (or SUBROSA_INVITE)")
    create.add_argument("--ca", type=_path, metavar="FILE", help="the relay's root certificate (or SUBROSA_CA)")


def _token_options(actions: Actions, common: argparse.ArgumentParser) -> None:
    token = actions.add_parser("token", help="add, rotate and revoke tokens")
    verbs = token.add_subparsers(required=True, metavar="add | rotate | revoke")
    add = _add(
        verbs,
        common,
        "add",
        "token-add",
        "make a further token and show it",
        tell=_tell_token,
        given=lambda a: {"bot": a.bot, "scopes": a.scope or [ALL], "seconds": a.expires},
    )
    add.add_argument("--scope", action="append", choices=[ALL, *sorted(SCOPES)], help="may be repeated (default: all)")
    add.add_argument("--expires", type=_seconds, metavar="TIME", help="30m, 12h or 7d from now (default: never)")
    rotate = _add(
        verbs,
        common,
        "rotate",
        "token-rotate",
        "make a token in place of another, which stays valid for a while",
        tell=_tell_token,
        given=lambda a: {"bot": a.bot, "token": a.token or "", "overlap": a.overlap},
    )
    rotate.add_argument("--token", metavar="ID", help="of the old one; needed where there are several")
    rotate.add_argument(
        "--overlap",
        type=_seconds,
        default=ROTATION_OVERLAP,
        metavar="TIME",
        help="for which the old one stays valid: 0s, 12h, at most 7d (default: 1d)",
    )
    revoke = _add(
        verbs,
        common,
        "revoke",
        "token-revoke",
        "make a token worthless at once",
        given=lambda a: {"bot": a.bot, "token": a.token},
    )
    revoke.add_argument("token", metavar="ID", help="as `subrosa bot list` shows it")
    for each in (add, rotate, revoke):
        each.add_argument("--bot", required=True, metavar="BOT", help="number or username")


def _parked_options(actions: Actions, common: argparse.ArgumentParser) -> None:
    parked = _add(
        actions,
        common,
        "parked",
        "parked",
        "list what failed so often that it was set aside",
        tell=_tell_parked,
        given=lambda a: {"bot": a.bot, "after": a.after},
    )
    parked.add_argument("--after", type=int, default=0, metavar="ID", help="only what comes behind this one")
    both = []
    for name, what in (("replay", "have what was set aside handled again"), ("drop", "forget what was set aside")):
        both.append(_add(actions, common, name, name, what, given=lambda a: {"bot": a.bot, "ids": a.ids}))
        both[-1].add_argument("ids", type=int, nargs="+", metavar="ID", help="as `subrosa bot parked` shows them")
    for each in (parked, *both):
        each.add_argument("--bot", required=True, metavar="BOT", help="number or username")


def _default_home() -> Path:
    if chosen := os.environ.get(HOME):
        return Path(chosen).expanduser()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "subrosa" / "gateway"


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError("a port is 0 to 65535")
    return int(text)


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_MEGABYTES):
        raise argparse.ArgumentTypeError(f"a size is 1 to {MAX_MEGABYTES} megabytes")
    return int(text)


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a network looks like 10.1.0.0/16") from None


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError("a time looks like 30m, 12h or 7d")
    return int(found[1]) * _UNITS[found[2]]


if __name__ == "__main__":
    sys.exit(main())
