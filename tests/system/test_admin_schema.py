"""Whatever is sent to the admin API, it answers as its reference says: no fault, no status that is not documented."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from messaging.console import api
from messaging.relay.admin.permissions import Role
from messaging.relay.limits import Bucket
from tests.consoles import StartedConsole, start_console
from tests.messaging.console.test_api import Program, program_of
from tests.messaging.relay.admin.town import a_town
from tests.relays import Relays
from tests.system.schemas import assert_as_documented

# What would end the token, or have everything wait for somebody else.
LEFT_OUT = ("operators.disable", "operators.change_role", "tokens.revoke", "approvals.require")


@pytest.fixture(autouse=True)
def as_often_as_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit on calls: what is behind it is what is looked at."""
    monkeypatch.setattr(api, "CALLS", Bucket(1_000_000, 0.000_001))


async def check(console: StartedConsole, folder: Path, *, examples: int, phases: str) -> None:
    owner = await console.owner("Ada")
    await a_town(console.database)
    token = (await program_of(console, owner, Role.OWNER)).token
    left_out = [part for name in LEFT_OUT for part in ("--exclude-path", f"/api/v1/actions/{name}")]
    document = f"{console.running.url}/api/v1/openapi.json"
    await assert_as_documented(document, f"Bearer {token}", folder, phases=phases, examples=examples, left_out=left_out)
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
