"""A bot on the command line: run it, check it, see what was set aside. What goes wrong is said in a sentence, with what to do."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from importlib import import_module

from attestation import AttestationError
from messaging.client.bot.account import Account
from messaging.client.bot.bot import Bot
from messaging.client.bot.inbox import Inbox, ParkedEvent
from messaging.client.bot.logs import LOGGER, say
from messaging.client.bot.settings import (
    CA,
    HOME,
    INVITE,
    PASSPHRASE,
    POLICY,
    POLICY_KEY,
    REFUSE_NEW_KEYS,
    RELAY,
    NoInvite,
    Settings,
)
from messaging.client.connection import Relay
from messaging.client.errors import ClientError, RegistrationRefused, RelayUnreachable
from messaging.client.stores import Store
from signal_protocol.errors import SignalError

FIRST_PAUSE = 1.0  # seconds until a relay is tried again that cannot be reached at the start; doubled each time
LONGEST_PAUSE = 30.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_EPILOG = f"""environment, where Bot(...) does not say it:
  {RELAY}           address of the relay
  {CA}              file with its certificate authority, where that is not a public one
  {INVITE}          an invite for a bot; used once, at the first start
  {HOME}        folder of the bot (default: ~/.local/share/subrosa/bots/NAME)
  {PASSPHRASE}  opens its store; without one the key is in a file of that folder
  {POLICY}          file that says which enclaves it may ask, signed by {POLICY_KEY}
  {REFUSE_NEW_KEYS}  set to 1, whoever has new keys is not answered until you trust them
"""


def run(bot: Bot, argv: Sequence[str] | None, *, workers: int, grace: float) -> int:
    """Do what the options say; returns the exit code."""
    options = _parser(bot).parse_args(sys.argv[1:] if argv is None else argv)
    _log(logging.DEBUG if options.verbose else logging.INFO)
    try:
        return asyncio.run(_do(bot, options, workers, grace))
    except RegistrationRefused as error:
        _tell_error(bot, f"{error}: is the invite for a bot, unused, and of this relay?")
    except (ClientError, SignalError, AttestationError) as error:
        _tell_error(bot, str(error))
    except KeyboardInterrupt:
        return 130
    return 1


async def _do(bot: Bot, options: argparse.Namespace, workers: int, grace: float) -> int:
    if options.parked or options.replay or options.drop:
        return await _look_at_parked(bot.settings(os.environ, offline=True), options)
    settings = bot.settings(os.environ)
    if options.check:
        return await _check(settings)
    await _serve(bot, settings, workers, grace)
    return 0


# --- running ---


async def _serve(bot: Bot, settings: Settings, workers: int, grace: float) -> None:
    if settings.invite is None and not settings.store_path.exists():
        raise NoInvite
    with _stopped_by_signals(bot):
        await _until_reached(bot, settings, lambda account: _connected(bot, account, workers, grace))


async def _connected(bot: Bot, account: Account, workers: int, grace: float) -> None:
    sys.stdout.write(f"{bot.name} is connected. Write to it at {account.me}; Ctrl-C stops it.\n")
    sys.stdout.flush()
    await bot.serve(account, workers=workers, grace=grace)


async def _until_reached(bot: Bot, settings: Settings, use: Callable[[Account], Awaitable[None]]) -> None:
    """Try until the relay is there: both may be started at the same time."""
    pause = FIRST_PAUSE
    while not bot.stopped:
        try:
            async with _open_account(settings) as account:
                return await use(account)
        except RelayUnreachable as error:
            _tell_error(bot, f"{error}. It is tried again.")
        await bot.stopping(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    return None


def _open_account(settings: Settings) -> AbstractAsyncContextManager[Account]:
    """Imported when it is needed: it needs the worker for cryptography, which tests of a bot do not."""
    opened: AbstractAsyncContextManager[Account] = import_module("messaging.client.bot.session").open_account(settings)
    return opened


@contextlib.contextmanager
def _stopped_by_signals(bot: Bot) -> Iterator[None]:
    """The first signal lets handlers end, the second one does not."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop(number: signal.Signals) -> None:
        say(logging.INFO, "stopping", signal=number.name)
        if bot.stopped and task is not None:
            task.cancel()
        bot.stop()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


# --- looking ---


async def _check(settings: Settings) -> int:
    settings.prepare_home()
    async with Relay(settings.relay, ca_file=settings.ca) as relay:
        await relay.server_info()
    sys.stdout.write(f"the relay at {settings.relay} answers\n")
    if not settings.store_path.exists():
        if settings.invite is None:
            raise NoInvite
        sys.stdout.write("the bot has no account yet, and an invite to get one with\n")
        return 0
    async with _open_account(settings) as account:
        waiting, parked = account.inbox.waiting, account.inbox.parked_count
        sys.stdout.write(f"the bot's account is {account.me}; {waiting} events wait, {parked} are parked\n")
    return 0


async def _look_at_parked(settings: Settings, options: argparse.Namespace) -> int:
    if not settings.store_path.exists():
        sys.stdout.write("this bot has never run: nothing is parked\n")
        return 0
    key = await asyncio.to_thread(settings.store_key)
    async with Store.open(settings.store_path, key) as store:
        inbox = await Inbox.open(store)
        wanted = {*options.replay, *options.drop}
        changed = await inbox.replay(*options.replay) + await inbox.drop(*options.drop)
        if options.parked:
            await _list_parked(inbox)
    if changed < len(wanted):
        sys.stderr.write("some of these numbers are not parked: see --parked\n")
        return 1
    return 0


async def _list_parked(inbox: Inbox) -> None:
    last = 0
    while page := await inbox.parked(after=last):
        sys.stdout.write("".join(map(_line, page)))
        last = page[-1].number
    if not last:
        sys.stdout.write("nothing is parked\n")


def _line(parked: ParkedEvent) -> str:
    """Nothing of what was said."""
    at = datetime.fromtimestamp(parked.parked_at / 1000, UTC).isoformat(timespec="seconds")
    return f"{parked.number}  {parked.event.kind}  parked {at} after {parked.attempts} attempts: {parked.reason}\n"


def _parser(bot: Bot) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=f"Runs the bot {bot.name}.", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="see whether it could run, and end")
    parser.add_argument(
        "--parked", action="store_true", help="list events that failed too often, without their content"
    )
    for option, what in (("--replay", "have these handled again at the next start"), ("--drop", "forget these")):
        parser.add_argument(option, type=int, nargs="+", metavar="N", default=[], help=what)
    parser.add_argument("--verbose", action="store_true", help="log each event, without its content")
    return parser


def _log(level: int) -> None:
    """To standard error, unless the program has its own way."""
    logger = logging.getLogger(LOGGER)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(level)


def _tell_error(bot: Bot, sentence: str) -> None:
    sys.stderr.write(f"{bot.name}: {sentence}\n")
    sys.stderr.flush()
