"""What waits for a second operator: how long its row is kept."""

from sqlalchemy import insert, select

from messaging.relay.admin.limits import PROPOSAL_KEPT, PROPOSAL_LIFETIME
from messaging.relay.admin.operator_tables import OperatorRow
from messaging.relay.admin.proposals import ProposalRow, add_proposal, decide
from messaging.relay.database import Database

KEPT = int((PROPOSAL_LIFETIME + PROPOSAL_KEPT).total_seconds() * 1000)
AN_OPERATOR = {"handle": bytes(32), "name": "olga", "folded_name": "olga", "role": "owner", "created_at": 0}


async def test_a_proposal_is_kept_a_month_after_its_end_decided_or_not(database: Database) -> None:
    async def add(now: int) -> int:
        async with database.begin() as db:
            return await add_proposal(db, "limits.change", {}, "asked", "x", by=operator, name="olga", now=now)

    async with database.begin() as db:
        operator = (await db.execute(insert(OperatorRow).values(AN_OPERATOR).returning(OperatorRow.id))).scalar_one()
    old, decided, young = await add(0), await add(0), await add(1)
    async with database.begin() as db:
        await decide(db, decided, by=operator + 1, name="sam", now=2)
    before = await add(KEPT - 1)
    assert await numbers(database) == {old, decided, young, before}
    last = await add(KEPT)
    assert await numbers(database) == {young, before, last}


async def numbers(database: Database) -> set[int]:
    async with database.read() as db:
        return set(await db.scalars(select(ProposalRow.id)))
