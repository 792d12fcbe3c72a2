"""What waits for a second operator: proposed by one, approved or rejected by another, done once.

After a day nobody can decide on it any more; a month later its row is deleted, when the next one is added. What was done stays in the
audit log.
Which actions wait is a setting: the names in ``second_operator``. Who proposed something may not approve it, however they are signed in;
they may withdraw it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, ForeignKey, String, Text, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.admin.errors import Conflict, NothingThere, NotPermitted
from messaging.relay.admin.limits import MAX_OWN_PROPOSALS, MAX_PROPOSALS, PROPOSAL_KEPT, PROPOSAL_LIFETIME
from messaging.relay.database import Base, RowId
from messaging.relay.operator_settings import read_setting

SETTING = "second_operator"
_UNDOES: Final = {"config.undo": "config.change", "limits.undo": "limits.change"}  # undoing is a change, too
_MILLISECOND = timedelta(milliseconds=1)
_LIFETIME, _KEPT = PROPOSAL_LIFETIME // _MILLISECOND, PROPOSAL_KEPT // _MILLISECOND


class ProposalRow(Base):
    """An action that waits, or was decided on."""

    __tablename__ = "proposals"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    action: Mapped[str] = mapped_column(String(64))
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    reason: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(String(128))
    operator_id: Mapped[int] = mapped_column(RowId, ForeignKey("operators.id", ondelete="CASCADE"))
    operator: Mapped[str] = mapped_column(String(64))
    at: Mapped[int] = mapped_column(BigInteger)
    decided_by: Mapped[str | None] = mapped_column(String(64))
    decided_at: Mapped[int | None] = mapped_column(BigInteger)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What waits. ``at`` is in milliseconds since 1970."""

    id: int
    action: str
    parameters: Mapping[str, Any] = field(repr=False)
    reason: str = field(repr=False)
    subject: str
    operator_id: int
    operator: str
    at: int


async def needs_second(db: AsyncConnection, action: str) -> bool:
    """Whether the setting says that this action, or the one that it undoes, waits for a second operator."""
    setting = await read_setting(db, SETTING)
    return setting is not None and not {action, _UNDOES.get(action)}.isdisjoint(setting.document.get("actions", ()))


async def add_proposal(
    db: AsyncConnection,
    action: str,
    parameters: Mapping[str, Any],
    reason: str,
    subject: str,
    *,
    by: int,
    name: str,
    now: int,
) -> int:
    """Let something wait, and forget what is long over; returns its number.

    Raises:
        Conflict: too many wait already, of all operators or of this one.
    """
    row = ProposalRow
    await db.execute(delete(row).where(row.at <= now - _LIFETIME - _KEPT))
    waiting = select(func.count()).select_from(row).where(row.decided_at.is_(None), row.at > now - _LIFETIME)
    if (await db.execute(waiting)).scalar_one() >= MAX_PROPOSALS:
        raise Conflict("Too many proposals wait already.")
    if (await db.execute(waiting.where(row.operator_id == by))).scalar_one() >= MAX_OWN_PROPOSALS:
        raise Conflict("Too many of your proposals wait already. Withdraw one first.")
    values = {
        "action": action,
        "parameters": dict(parameters),
        "reason": reason,
        "subject": subject,
        "operator_id": by,
        "operator": name,
        "at": now,
    }
    number: int = (await db.execute(insert(row).values(values).returning(row.id))).scalar_one()
    return number


async def waiting_proposals(db: AsyncConnection, *, now: int) -> list[Proposal]:
    """All that can still be decided on, oldest first."""
    row = ProposalRow
    query = _proposals().where(row.decided_at.is_(None), row.at > now - _LIFETIME).order_by(row.id)
    return [Proposal(*found) for found in await db.execute(query)]


async def find_proposal(db: AsyncConnection, number: int) -> Proposal | None:
    """One of them, decided on or not."""
    found = (await db.execute(_proposals().where(ProposalRow.id == number))).one_or_none()
    return None if found is None else Proposal(*found)


async def reject_proposals_of(db: AsyncConnection, operator_id: int, *, name: str, now: int) -> int:
    """Let nobody do what this operator has proposed; returns how much of it waited. ``name`` is who decides."""
    row = ProposalRow
    waiting = (row.operator_id == operator_id, row.decided_at.is_(None), row.at > now - _LIFETIME)
    return int((await db.execute(update(row).where(*waiting).values(decided_by=name, decided_at=now))).rowcount)


async def decide(
    db: AsyncConnection, number: int, *, by: int, name: str, now: int, withdraws: bool = False
) -> Proposal:
    """Mark a proposal as decided by ``by``, in the transaction that does what follows from it: no two decide.

    ``withdraws``: it may be their own.

    Raises:
        NothingThere: there is none with this number, or it is too old.
        NotPermitted: it is their own.
        Conflict: somebody has decided already.
    """
    row, proposal = ProposalRow, await find_proposal(db, number)
    if proposal is None or proposal.at <= now - _LIFETIME:
        raise NothingThere
    if proposal.operator_id == by and not withdraws:
        raise NotPermitted("Another operator has to decide on your proposal.")
    decided = update(row).where(row.id == number, row.decided_at.is_(None)).values(decided_by=name, decided_at=now)
    if (await db.execute(decided)).rowcount == 0:
        raise Conflict("Somebody has decided on this already.")
    return proposal


def _proposals() -> Any:  # noqa: ANN401 - a select of these columns
    row = ProposalRow
    return select(row.id, row.action, row.parameters, row.reason, row.subject, row.operator_id, row.operator, row.at)
