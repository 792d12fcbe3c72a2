"""How fast a bot with a thousand conversations starts, how much memory it takes, and how many messages it handles in a second.

    python3 dev.py bench bots [--rounds 3] [--json]

A relay (TLS, SQLite) and the bot are processes of their own; the bot's store is a file, with every commit on the disk. People are real
devices; each has ten conversations with the bot. What they write while the bot is stopped, it handles when it starts again: that is
timed. Beside it, in turns, the crypto worker alone decrypts as many messages, one session for each person. Ratios of one run mean more than
rates: cores are shared with the relay, and with whoever else uses the machine.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from benchmarks._progress import followed
from messaging.client import Device, Relay, Store
from messaging.client.bot import Bot
from messaging.client.chats import Chats
from messaging.demo.services import Folders, bot_invite, running_relay
from messaging.wire.identifiers import ServiceId
from signal_protocol.memory_store import MemoryStore, MemoryTransaction
from signal_protocol.operations import SignalCrypto
from signal_protocol.sessions import SessionService
from signal_protocol.types import Address, Encrypted, LocalDevice

PEOPLE, EACH = 100, 10  # conversations in all: 1,000
MESSAGES = 2_000  # of one round
AT_ONCE = 16  # sends, and decryptions, in flight
FIRST_NUMBER: Final = 4_915_550_010_000  # no telephone has these numbers
TARGETS: Final = {"start_seconds": 5.0, "resident_mib": 250.0, "handled_per_second": 300.0}
READY = "ready"
SETTLING = 5.0  # seconds for the bot to take in the conversations that were begun

Service = SessionService[MemoryTransaction]


# --- the bot, a process of its own ---


def serve(reply: bool) -> None:
    """Say when it is ready; then, for each number on standard input, when so many messages were handled."""
    bot, handled, changed = Bot("bench"), 0, asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    @bot.started()
    async def started() -> None:
        _say(ready=True, account=str(bot.id), conversations=len(bot.conversations))

    @bot.message()
    async def count(message: Any) -> None:  # noqa: ANN401
        nonlocal handled
        if reply:
            await message.reply("noted")
        handled += 1
        changed.set()

    @bot.started()
    async def tell() -> None:
        tasks.append(asyncio.create_task(wait_for_numbers()))

    async def wait_for_numbers() -> None:
        while line := await asyncio.to_thread(sys.stdin.readline):
            while handled < int(line):
                changed.clear()
                await changed.wait()
            _say(handled=handled)

    bot.run([])


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


class BotProcess:
    """The bot as others see it."""

    def __init__(self, process: asyncio.subprocess.Process, began: float) -> None:
        self._process = process
        self._began = began

    @classmethod
    @asynccontextmanager
    async def run(cls, environment: dict[str, str], *, reply: bool = False) -> AsyncIterator["BotProcess"]:
        """Until the end of the block; then it is stopped as an owner stops it."""
        mode = ["--serve", "--reply"] if reply else ["--serve"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.bots", *mode),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
        try:
            yield cls(process, time.perf_counter())
        finally:
            process.terminate()
            if process.stdin is not None:
                process.stdin.close()  # or the thread that reads it would keep the process
            await process.wait()

    async def ready(self) -> tuple[float, dict[str, Any]]:
        """Seconds until it was ready, and what it says of itself."""
        facts = await self._read()
        while not facts.get(READY):
            facts = await self._read()
        return time.perf_counter() - self._began, facts

    async def handled(self, count: int) -> float:
        """Seconds from now until it has handled so many messages since its start."""
        assert self._process.stdin is not None
        began = time.perf_counter()
        self._process.stdin.write(f"{count}\n".encode())
        await self._process.stdin.drain()
        await self._read()
        return time.perf_counter() - began

    def resident(self) -> float:
        """MiB of the bot."""
        return _resident(self._process.pid)

    def worker_resident(self) -> float:
        """MiB of its worker for cryptography."""
        return sum(map(_resident, _children(self._process.pid)))

    async def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while True:
            line = await self._process.stdout.readline()
            if not line:
                raise RuntimeError("the bot has ended")
            if line.startswith(b"{"):
                facts: dict[str, Any] = json.loads(line)
                return facts


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# --- the people ---


@dataclass(slots=True)
class Company:
    """People, each with conversations with the bot."""

    folders: Folders
    relay: Relay
    crypto: SignalCrypto
    stack: AsyncExitStack
    chats: list[Chats] = field(default_factory=list)
    keys: list[tuple[Chats, bytes]] = field(default_factory=list)

    async def join(self, people: int, each: int, bot: ServiceId) -> None:
        """Register everybody, and begin their conversations."""
        for number in followed(range(people), "people"):
            chats = await self._person(FIRST_NUMBER + number)
            for place in range(each):
                begun = await chats.create(f"conversation {place}", [bot])
                self.keys.append((chats, begun.key))

    async def _person(self, number: int) -> Chats:
        store = await self.stack.enter_async_context(Store.open(":memory:", bytes(32)))

        async def code() -> str:
            said = [json.loads(line) for line in self.folders.codes.read_text().splitlines()]
            return next(str(each["code"]) for each in reversed(said) if each["number"] == f"+{number}")

        device = await Device.register(store, self.relay, self.crypto, number=f"+{number}", code=code)
        await self.stack.enter_async_context(device)
        chats = await self.stack.enter_async_context(await Chats.open(device, store))
        receiving = asyncio.create_task(chats.receive())
        self.stack.callback(receiving.cancel)
        return chats

    async def write(self, messages: int) -> None:
        """So many messages, in all conversations in turn."""
        waiting = iter(range(messages))

        async def work() -> None:
            for number in waiting:
                chats, key = self.keys[number % len(self.keys)]
                await chats.write(key, f"message {number}: is the table for four at eight still free on Friday?")

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


# --- the crypto worker alone ---


async def prepared(crypto: SignalCrypto, messages: int) -> tuple[Service, list[tuple[Address, Encrypted]]]:
    """Somebody who has a session with each of many people, and messages of theirs in turn."""
    receiver = await _service(crypto)
    senders = [await _service(crypto) for _ in range(PEOPLE)]
    for number, sender in enumerate(senders):
        await sender.start_session(receiver.local.address, await receiver.make_bundle(key_id=number + 1))
    written = []
    for number in range(messages):
        sender = senders[number % len(senders)]
        written.append((sender.local.address, await sender.encrypt(receiver.local.address, bytes(160))))
    return receiver, written


async def decrypted_per_second(receiver: Service, written: Sequence[tuple[Address, Encrypted]]) -> float:
    """How many of these it decrypts in a second."""
    waiting = iter(written)

    async def work() -> None:
        for address, message in waiting:
            await receiver.decrypt(address, message.kind, message.ciphertext)

    began = time.perf_counter()
    await work()
    return len(written) / (time.perf_counter() - began)


async def _service(crypto: SignalCrypto) -> Service:
    local = LocalDevice(Address(str(uuid4()), 1), await crypto.generate_identity(), registration_id=1)
    return SessionService(crypto, MemoryStore(), local)


# --- measuring ---


async def measure(rounds: int, messages: int) -> dict[str, Any]:
    """All figures: medians, and ratios within rounds."""
    with tempfile.TemporaryDirectory(prefix="subrosa-bench-") as folder:
        folders = Folders(Path(folder) / "server")
        folders.create()
        async with AsyncExitStack() as stack:
            _, url = await stack.enter_async_context(running_relay(folders, 0))
            environment = {
                "SUBROSA_RELAY": url,
                "SUBROSA_CA": str(folders.ca),
                "SUBROSA_INVITE": await bot_invite(folders, 1),
                "SUBROSA_BOT_HOME": str(Path(folder) / "bot"),
            }
            crypto = await stack.enter_async_context(SignalCrypto.start())
            relay = await stack.enter_async_context(Relay(url, ca_file=folders.ca))
            company = Company(folders, relay, crypto, stack)
            async with BotProcess.run(environment) as bot:
                _, facts = await bot.ready()
                await company.join(PEOPLE, EACH, ServiceId.parse(facts["account"]))
                await asyncio.sleep(SETTLING)
            return await _rounds(company, crypto, environment, rounds, messages)


async def _rounds(
    company: Company, crypto: SignalCrypto, environment: dict[str, str], rounds: int, messages: int
) -> dict[str, Any]:
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    conversations = 0
    for _ in followed(range(rounds), "rounds"):
        async with BotProcess.run(environment) as bot:
            seconds, facts = await bot.ready()
            conversations = facts["conversations"]
            note("start_seconds", seconds)
            note("resident_mib", bot.resident())
            note("worker_resident_mib", bot.worker_resident())
        receiver, written = await prepared(crypto, messages)
        alone = await decrypted_per_second(receiver, written)
        note("crypto_alone_per_second", alone)
        for name, reply in (("handled", False), ("answered", True)):
            await company.write(messages)
            async with BotProcess.run(environment, reply=reply) as bot:
                seconds, _ = await bot.ready()
                seconds += await bot.handled(messages)
                rate = messages / (seconds - figures["start_seconds"][-1])
                note(f"{name}_per_second", rate)
                note(f"{name}_to_crypto_alone", rate / alone)
                note(f"resident_mib_{name}", bot.resident())
    return {
        "conversations": conversations,
        "people": PEOPLE,
        "messages": messages,
        **{name: round(statistics.median(values), 3) for name, values in figures.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; or be the bot that is measured."""
    parser = argparse.ArgumentParser(prog="dev.py bench bots", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--messages", type=int, default=MESSAGES, help=f"of one round (default: {MESSAGES})")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--reply", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.serve:
        serve(options.reply)
        return 0
    figures = asyncio.run(measure(options.rounds, options.messages))
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            target = f"   (target {TARGETS[name]:g})" if name in TARGETS else ""
            print(f"{name:<28} {value:>10g}{target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
