"""A bot's process is killed at any moment: every event is handled, in order, and what was handled is not handled again."""

import subprocess
import sys
from pathlib import Path

from messaging.client.bot.inbox import MAX_ATTEMPTS, PROCESS_ENDED, Inbox
from messaging.client.stores import Store
from tests.messaging.client.bot.events import KEY, a_message
from tests.messaging.client.bot.killed import CONVERSATIONS

EVENTS = 200
MODULE = "tests.messaging.client.bot.killed"


def run(store: Path, *, poison: int = -1, step: int = 0) -> list[str]:
    """What all processes said until all was done."""
    command = [sys.executable, "-m", MODULE, str(store), str(EVENTS), str(poison), str(step)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout.splitlines()


def test_what_is_killed_again_and_again_handles_everything_in_order(tmp_path: Path) -> None:
    said = run(tmp_path / "store.db", step=20)
    assert said.count("process") > 2
    ended: set[int] = set()
    first: list[int] = []
    for what, number in (line.split() for line in said if line != "process"):
        if what == "ended":
            ended.add(int(number))
            continue
        assert int(number) not in ended
        if int(number) not in first:
            first.append(int(number))
    for conversation in range(len(CONVERSATIONS)):
        theirs = [number for number in first if number % len(CONVERSATIONS) == conversation]
        assert theirs == list(range(conversation, EVENTS, len(CONVERSATIONS)))


async def test_an_event_that_kills_the_process_is_parked_in_the_end_and_all_others_are_handled(tmp_path: Path) -> None:
    path, poison = tmp_path / "store.db", 5
    said = run(path, poison=poison)
    assert (
        said.count(f"began {poison}") == 1 + MAX_ATTEMPTS
    )  # it was new in the first process, which wrote nothing down
    assert {line for line in said if line.startswith("ended")} == {f"ended {n}" for n in range(EVENTS) if n != poison}
    async with Store.open(path, KEY) as store:
        inbox = await Inbox.open(store)
        [parked] = await inbox.parked()
        assert (parked.event, parked.reason) == (a_message(CONVERSATIONS[1], poison), PROCESS_ENDED)
        assert inbox.waiting == 0
