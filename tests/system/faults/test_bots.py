"""Bots lose nothing, whatever of what serves them is killed: the SDK's process, the gateway, a webhook's target, relays.

``SUBROSA_FAULTS_SEED`` repeats a run's choice of faults, ``SUBROSA_BOT_FAULTS_REPORT`` names a file for the report.
"""

import json
import os
import random
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.system.faults.bot_harness import PARTS, deployment
from tests.system.faults.bots import torment
from tests.system.faults.promises import Report


def check(report: Report, *, messages: int, kills: int) -> None:
    """Print the report, and look at what was promised."""
    text = json.dumps(asdict(report), indent=2)
    print(text)  # noqa: T201
    if path := os.environ.get("SUBROSA_BOT_FAULTS_REPORT"):
        Path(path).write_text(text + "\n")
    assert report.said == report.sdk.handled + report.gateway.handled == messages
    assert report.kills == dict.fromkeys(PARTS, kills)
    assert report.broken == {}


async def test_each_part_is_killed_twice(dice: random.Random) -> None:
    async with deployment(users=4, sqlite=True) as on:
        report = await torment(on, messages=120, kills=2, pause=0.2, patience=60, dice=dice)
    check(report, messages=120, kills=2)


@pytest.mark.long
async def test_fifty_users_say_ten_thousand_messages(dice: random.Random) -> None:
    async with deployment(users=50, sqlite=False) as on:
        report = await torment(on, messages=10_000, kills=15, pause=0.5, patience=900, dice=dice)
    check(report, messages=10_000, kills=15)
