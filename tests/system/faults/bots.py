"""Bots under faults: what serves them is killed again and again, and what came of every message is judged.

    python -m tests.system.faults.bots --users 50 --messages 10000 --kills 15

prints a report in JSON, and ends with 1 if a promise was broken.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict

from tests.system.faults.bot_harness import PARTS, Deployment, deployment
from tests.system.faults.parts import Part
from tests.system.faults.promises import Report

POLL_SECONDS = 0.1
EARLIEST, LATEST = 0.02, 0.9  # of all messages, when something is killed
DOWN_SECONDS = 1.0  # at most, until what was killed is started again


async def torment(
    on: Deployment,
    *,
    messages: int,
    kills: int,
    pause: float,
    patience: float,
    dice: random.Random,
    only: Sequence[str] = PARTS,
) -> Report:
    """Have all users say their share of ``messages``, kill each part so many times meanwhile, and judge what came of it.

    Args:
        only: which parts are killed.
        pause: seconds between two messages of one user, on average.
        patience: seconds for which is waited, after the last message, until everything is handled.
    """
    report, began = Report(users=len(on.users)), time.monotonic()
    share = messages // len(on.users)
    async with asyncio.TaskGroup() as tasks:
        for name in only:
            tasks.create_task(_kill_now_and_then(on, on.parts[name], messages, kills, dice))
        await asyncio.gather(*(user.say(share, lambda: dice.expovariate(1 / pause)) for user in on.users))
        report.seconds_saying = round(time.monotonic() - began, 1)
    await _until(on.is_done, patience)
    report.seconds = round(time.monotonic() - began, 1)
    report.said, report.refused = on.said, sum(user.refused for user in on.users)
    report.kills = {name: sum(len(part.kills) for part in parts) for name, parts in on.parts.items()}
    report.sdk, report.gateway = on.sdk.findings(), on.gateway.findings()
    report.left_running = await on.left_running()
    return report


async def _kill_now_and_then(
    on: Deployment, parts: Sequence[Part], messages: int, kills: int, dice: random.Random
) -> None:
    """Kill when so many messages have been said as the dice say; start again sooner or later."""
    for said in sorted(round(messages * dice.uniform(EARLIEST, LATEST)) for _ in range(kills)):
        while on.said < said:
            await asyncio.sleep(POLL_SECONDS * dice.random())
        part = dice.choice(parts)
        await part.kill()
        await asyncio.sleep(DOWN_SECONDS * dice.random())
        await part.start()


async def _until(holds: Callable[[], bool], seconds: float) -> None:
    """What does not come to hold shows in the report."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(POLL_SECONDS)


# --- the command ---


async def _measure(arguments: argparse.Namespace) -> Report:
    dice = random.Random(arguments.seed)  # noqa: S311 - no secret
    async with deployment(users=arguments.users, sqlite=arguments.sqlite) as on:
        return await torment(
            on,
            messages=arguments.messages,
            kills=arguments.kills,
            pause=arguments.pause,
            patience=arguments.patience,
            dice=dice,
            only=arguments.only,
        )


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description="Kills what serves bots, and says what became of each message.")
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--messages", type=int, default=10_000, help="of all users together")
    parser.add_argument("--kills", type=int, default=15, help="of each part")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="kill these alone (default: all)")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two messages of one user")
    parser.add_argument("--patience", type=float, default=900, help="seconds to wait until everything is handled")
    parser.add_argument("--sqlite", action="store_true", help="one relay on SQLite, instead of two on PostgreSQL")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    report = asyncio.run(_measure(arguments))
    sys.stdout.write(json.dumps({"seed": arguments.seed, **asdict(report)}, indent=2) + "\n")
    return 1 if report.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
