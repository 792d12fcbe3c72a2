"""Whatever is sent to the admin API, it answers as its reference says: no fault, no status that is not documented."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from messaging.console import api
from messaging.relay.admin.permissions import Role
from messaging.relay.limits import Bucket
from tests.consoles import StartedConsole, start_console
from tests.messaging.console.test_api import Program, program_of
from tests.messaging.relay.admin.town import a_town
from tests.relays import Relays
from tests.system.test_schema import INTERPRETERS_FAULT

# What would end the token, or have everything wait for somebody else.
LEFT_OUT = ("operators.disable", "operators.change_role", "tokens.revoke", "approvals.require")


@pytest.fixture(autouse=True)
def as_often_as_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit on calls: what is behind it is what is looked at."""
    monkeypatch.setattr(api, "CALLS", Bucket(1_000_000, 0.000_001))


def run_schemathesis(
    url: str, token: str, folder: Path, *, examples: int, phases: str
) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{url}/api/v1/openapi.json",
        "--header",
        f"Authorization: Bearer {token}",
        "--phases",
        phases,
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        "--max-examples",
        str(examples),
        *(part for name in LEFT_OUT for part in ("--exclude-path", f"/api/v1/actions/{name}")),
        "--seed",
        "1",
        "--workers",
        "2",
        "--generation-database",
        "none",
        "--no-color",
    ]
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=580
    )


async def check(console: StartedConsole, folder: Path, *, examples: int, phases: str) -> None:
    owner = await console.owner("Ada")
    await a_town(console.database)
    token = (await program_of(console, owner, Role.OWNER)).token
    run = partial(run_schemathesis, console.running.url, token, folder, phases=phases)
    result = await asyncio.to_thread(run, examples=examples)
    if INTERPRETERS_FAULT in result.stdout:
        result = await asyncio.to_thread(run, examples=examples)
    assert result.returncode == 0, result.stdout[-60000:] + result.stderr[-2000:]
    program = Program(await console.browser(), token)
    assert (await program.get("/me")).status == 200


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Closes what a test has opened."""
    async with AsyncExitStack() as opened:
        yield opened


async def test_every_answer_is_documented(relays: Relays, tmp_path: Path, stack: AsyncExitStack) -> None:
    await check(await start_console(relays, stack), tmp_path, examples=3, phases="examples,fuzzing")


@pytest.mark.long
async def test_every_answer_is_documented_at_length(
    relays: Relays, backend: str, tmp_path: Path, stack: AsyncExitStack
) -> None:
    await check(await start_console(relays, stack, backend), tmp_path, examples=40, phases="examples,coverage,fuzzing")
