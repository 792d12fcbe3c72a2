"""Nothing is lost, whatever fails: what got a 200 is delivered, in order; nothing is accepted while the store is stopped.

``SUBROSA_FAULTS_SEED`` repeats a run's choice of faults, ``SUBROSA_FAULTS_REPORT`` names a file for the table.
"""

import os
import random
from pathlib import Path

import pytest

from tests.system.faults.faults import (
    OF_RELAYS,
    OF_STORES,
    Table,
    cut_connections,
    flush_valkey,
    freeze_postgres,
    half_open,
    kill_postgres,
    kill_relay,
    kill_valkey,
    torment,
)
from tests.system.faults.harness import deployment

LONG_FAULTS, LONG_MESSAGES = 220, 200_000


def check(table: Table) -> None:
    """Print the table, and look at what was promised."""
    print(table.markdown())  # noqa: T201
    if path := os.environ.get("SUBROSA_FAULTS_REPORT"):
        table.write(Path(path))
    assert table.accepted > 0
    assert table.broken == {}


async def test_one_of_each_kind(dice: random.Random) -> None:
    faults = [kill_relay, freeze_postgres, cut_connections, kill_postgres, kill_valkey, half_open, flush_valkey]
    dice.shuffle(faults)
    async with deployment(relays=2, pairs=8) as on:
        check(await torment(on, faults, dice))


async def test_sqlite_survives_the_sudden_end_of_its_relay(dice: random.Random) -> None:
    async with deployment(relays=1, pairs=6, sqlite=True) as on:
        check(await torment(on, [kill_relay, cut_connections, kill_relay], dice))


@pytest.mark.long
async def test_hundreds_of_faults_under_load(dice: random.Random) -> None:
    async with deployment(relays=2, pairs=48) as on:
        faults = [dice.choice([*OF_RELAYS, *OF_STORES]) for _ in range(LONG_FAULTS)]
        check(await torment(on, faults, dice, messages=LONG_MESSAGES))
