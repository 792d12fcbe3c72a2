"""Handles the events of a store in a process that is killed again and again, until all is done: run by ``test_inbox_crash``.

Arguments: store, how many events, the number of one that kills whoever handles it or -1, and by how many milliseconds each process
lives longer than the one before, or 0 if each lives as long as it takes. Standard output tells what each process did.
"""

import asyncio
import os
import random
import signal
import sys
import time
from itertools import count
from pathlib import Path

from messaging.client.bot.inbox import Inbox
from messaging.client.stores import Store
from tests.messaging.client.bot.events import KEY, a_message

CONVERSATIONS = [bytes([number]) * 32 for number in range(4)]


async def handle_all(path: Path, events: int, poison: int) -> None:
    """Journal what is missing, some in one transaction, and handle all."""
    async with Store.open(path, KEY) as store:
        inbox = await Inbox.open(store)
        for start in range(0, events, 4):
            async with store.transaction() as transaction:
                for number in range(start, start + 4):
                    inbox.journal(transaction, a_message(CONVERSATIONS[number % len(CONVERSATIONS)], number))
        while taken := await inbox.take(4, lease=60, per_conversation=2):
            numbers = [leased.event.timestamp - a_message(CONVERSATIONS[0], 0).timestamp for leased in taken]
            for number in numbers:
                say(f"began {number}")
            if poison in numbers:
                os.kill(os.getpid(), signal.SIGKILL)
            await inbox.handled(*taken)
            for number in numbers:
                say(f"ended {number}")


def say(line: str) -> None:
    """At once, and whole."""
    os.write(1, f"{line}\n".encode())


def live(path: Path, events: int, poison: int, longest: int) -> bool:
    """One process, which lives for ``longest`` milliseconds at most; says whether it came to its end."""
    say("process")
    child = os.fork()
    if not child:
        asyncio.run(handle_all(path, events, poison))
        os._exit(0)
    if longest:
        time.sleep(random.uniform(0, longest) / 1000)  # noqa: S311
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == 0


def main(path: Path, events: int, poison: int, step: int) -> None:
    """One process after the other, until one has come to its end."""
    lives = count(1)
    while not live(path, events, poison, step * next(lives)):
        pass


if __name__ == "__main__":
    random.seed(8)
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
