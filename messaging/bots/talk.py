"""``subrosa bot talk``: a conversation with a bot in a terminal, to try it. Who talks is an account of its own, kept in a folder."""

import argparse
import asyncio
import json
import math
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

from messaging.client import ClientError, Device, NotRegistered, Relay, Store
from messaging.client.account import Account
from messaging.client.bot.session import Session, open_account
from messaging.client.bot.settings import Settings
from messaging.client.events import Event, MessageDeleted, MessageEdited, MessageReceived, Reacted
from messaging.wire.errors import WireError
from messaging.wire.identifiers import ServiceId
from signal_protocol.errors import SignalError
from signal_protocol.operations import SignalCrypto

LEASE = 60.0  # seconds in which an event is shown
SILENCE = 2.0  # seconds after which no answer is expected any more
CODES = "SUBROSA_CODES"
DEFAULT_HOME = Path("~/.local/share/subrosa/talk")

DESCRIPTION = """\
Talk with a bot in this terminal: type a line, and what the bot says appears. Who talks is an account of its own, which lives in a folder
and is made at the first start: with an invite for a person, where the relay takes these, or with the file of codes of a relay that runs
with --verification file:PATH, as the one of `python3 dev.py run` does.

  subrosa bot talk 9d0652a3-dcc3-4d11-975f-74d61598733f
  subrosa bot talk 9d0652a3-dcc3-4d11-975f-74d61598733f --say /start      say one thing, show one answer, and end
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb; the relay, its certificate and the invite may stand in the environment."""
    parser.description, parser.formatter_class = DESCRIPTION, argparse.RawDescriptionHelpFormatter
    parser.add_argument("bot", metavar="ACCOUNT", help="the bot's account id, which it prints when it starts")
    parser.add_argument("--relay", metavar="URL", help="of the relay (or SUBROSA_RELAY)")
    parser.add_argument("--ca", metavar="FILE", type=Path, help="its root certificate (or SUBROSA_CA)")
    parser.add_argument("--invite", metavar="CODE", help="for the first start (or SUBROSA_INVITE)")
    parser.add_argument("--codes", metavar="FILE", type=Path, help="verification codes (or SUBROSA_CODES)")
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME, help=f"(default: {DEFAULT_HOME})")
    parser.add_argument("--say", metavar="TEXT", help="say this, show the first answer, and end")
    parser.add_argument("--wait", metavar="SECONDS", type=float, default=30.0, help="for that answer (default: 30)")


def main(arguments: argparse.Namespace) -> int:
    """Talk until the input ends; returns the exit code."""
    try:
        return asyncio.run(_talk(arguments))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except TimeoutError:
        return _fail(f"no answer within {arguments.wait:g} seconds; is the bot running?")
    except (ClientError, SignalError) as error:
        return _fail(str(error))
    except WireError:
        return _fail("this is no account id: it looks like 9d0652a3-dcc3-4d11-975f-74d61598733f")


async def _talk(arguments: argparse.Namespace) -> int:
    bot = ServiceId.parse(arguments.bot)
    settings = Settings.read(
        "talk",
        os.environ,
        relay=arguments.relay,
        ca=arguments.ca,
        invite=arguments.invite,
        home=arguments.home.expanduser(),
    )
    if codes := arguments.codes or os.environ.get(CODES):
        await _register(settings, Path(codes))
    async with open_account(settings) as session:
        key = await _conversation_with(session, bot)
        if arguments.say is not None:
            await _pass_over(session)
            await session.write(key, arguments.say)
            async with asyncio.timeout(arguments.wait):
                await _show(session, key, until=lambda event: isinstance(event, MessageReceived))
            return 0
        sys.stderr.write(f"You are connected, as {session.me}. Type, and end with Ctrl-D.\n")
        heard = asyncio.Event()

        def hear(_: Event) -> bool:
            heard.set()
            return False

        showing = asyncio.create_task(_show(session, key, until=hear))
        try:
            async for line in _lines():
                await session.write(key, line)
            await _silence(heard)
        finally:
            showing.cancel()
    return 0


async def _pass_over(session: Session) -> None:
    """What was said before is no answer to what is said now."""
    while leased := await session.inbox.take(100, lease=LEASE):
        await session.inbox.handled(*leased)


async def _register(settings: Settings, codes: Path) -> None:
    """Make the account, if there is none, with a number that no telephone has."""
    key = await asyncio.to_thread(settings.store_key)
    number = f"+49155500{secrets.randbelow(10**5):05}"

    async def code() -> str:
        said = [json.loads(line) for line in (await asyncio.to_thread(codes.read_text)).splitlines()]
        return next((str(each["code"]) for each in said if each["number"] == number), "")

    async with Store.open(settings.store_path, key) as store:
        with suppress(NotRegistered):
            await Account.load(store)
            return
        async with Relay(settings.relay, ca_file=settings.ca) as relay, SignalCrypto.start() as crypto:
            await Device.register(store, relay, crypto, number=number, code=code)


async def _silence(heard: asyncio.Event) -> None:
    """Wait until nothing has come for a moment: what was said last may have an answer."""
    with suppress(TimeoutError):
        while True:
            heard.clear()
            async with asyncio.timeout(SILENCE):
                await heard.wait()


async def _conversation_with(session: Session, bot: ServiceId) -> bytes:
    members = {session.me, bot}
    known = (each for each in session.conversations if set(each.members) == members)
    conversation = next(known, None) or await session.create("", [bot])
    return conversation.key


async def _show(session: Session, key: bytes, *, until: Callable[[Event], bool]) -> None:
    """Print what comes, until something has come."""
    while True:
        for leased in await session.inbox.take(1, lease=LEASE, wait=math.inf):
            event = leased.event
            text = _text(event)
            if event.conversation == key and text is not None:
                sys.stdout.write(text + "\n")
                sys.stdout.flush()
            await session.inbox.handled(leased)
            if event.conversation == key and until(event):
                return


def _text(event: Event) -> str | None:
    match event:
        case MessageReceived():
            files = "".join(f"\n[{each.file_name or 'a file'}, {each.size} bytes]" for each in event.attachments)
            return _printable(event.text + files)
        case MessageEdited():
            return _printable(f"(edited) {event.text}")
        case MessageDeleted():
            return "(a message was deleted)"
        case Reacted():
            return _printable(f"(reaction) {event.emoji}") if not event.removed else None
        case _:
            return None


def _printable(text: str) -> str:
    """Nothing of it steers the terminal."""
    return "".join(character for character in text if character == "\n" or character.isprintable())


async def _lines() -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            if text := line.decode(errors="replace").strip():
                yield text
    finally:
        transport.close()


def _fail(sentence: str) -> int:
    sys.stderr.write(f"subrosa bot talk: {sentence}\n")
    return 1
