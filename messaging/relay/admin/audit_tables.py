"""The table of the audit log. Rows are added and never changed: triggers in the database refuse anything else."""

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import JSON, BigInteger, LargeBinary, Select, SmallInteger, String, Text, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.admin.audit import Entry, Outcome, Said, link
from messaging.relay.admin.errors import AuditBroken
from messaging.relay.database import Base, Database

_PAGE = 500


class AuditRow(Base):
    """One entry."""

    __tablename__ = "audit_entries"
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[int] = mapped_column(BigInteger, index=True)
    operator: Mapped[str] = mapped_column(String(64), index=True)
    via: Mapped[str] = mapped_column(String(16))
    action: Mapped[str] = mapped_column(String(64), index=True)
    outcome: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(String(128), index=True)
    reason: Mapped[str] = mapped_column(Text)
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
    previous: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    seal: Mapped[bytes] = mapped_column(LargeBinary)


class AuditTurnRow(Base):
    """One row, which is locked by whoever adds an entry: no two follow the same one."""

    __tablename__ = "audit_turn"
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    entries: Mapped[int] = mapped_column(BigInteger)


async def append(db: AsyncConnection, said: Said, key: bytes) -> Entry:
    """Add an entry in the caller's transaction: it is there if and only if what it tells of is."""
    turn = AuditTurnRow
    await db.execute(update(turn).where(turn.id == 1).values(entries=turn.entries + 1))
    entry = link(said, after=await last_entry(db), key=key)
    await db.execute(insert(AuditRow).values(_values(entry)))
    return entry


async def last_entry(db: AsyncConnection) -> Entry | None:
    """The head of the log."""
    found = (await db.execute(_all().order_by(AuditRow.sequence.desc()).limit(1))).one_or_none()
    return None if found is None else _entry(found)


async def entries_before(
    db: AsyncConnection,
    sequence: int | None,
    *,
    limit: int,
    operator: str | None = None,
    action: str | None = None,
    subject: str | None = None,
) -> list[Entry]:
    """The latest entries below ``sequence``, newest first, of those that match."""
    row, query = AuditRow, _all()
    for column, wanted in ((row.operator, operator), (row.action, action), (row.subject, subject)):
        query = query if wanted is None else query.where(column == wanted)
    if sequence is not None:
        query = query.where(row.sequence < sequence)
    return [_entry(found) for found in await db.execute(query.order_by(row.sequence.desc()).limit(limit))]


async def entries_after(db: AsyncConnection, sequence: int, *, limit: int) -> list[Entry]:
    """The first entries above ``sequence``, in their order."""
    query = _all().where(AuditRow.sequence > sequence).order_by(AuditRow.sequence).limit(limit)
    return [_entry(found) for found in await db.execute(query)]


async def all_entries(database: Database) -> AsyncIterator[Entry]:
    """Every entry in its order, a page at a time, each page in a look of its own: a long log takes longer than one may last."""
    after = 0
    while True:
        async with database.read() as db:
            page = await entries_after(db, after, limit=_PAGE)
        for entry in page:
            yield entry
        if len(page) < _PAGE:
            return
        after = page[-1].sequence


async def entries_written(db: AsyncConnection) -> int | None:
    """How many entries there should be, as those who wrote them have counted; ``None`` if somebody has removed that."""
    return (await db.execute(select(AuditTurnRow.entries).where(AuditTurnRow.id == 1))).scalar_one_or_none()


def _all() -> Select[Any]:
    return select(AuditRow.__table__)


def _entry(row: Any) -> Entry:  # noqa: ANN401 - a row of _all
    if row.outcome not in frozenset(Outcome) or not isinstance(row.detail, dict):
        raise AuditBroken(f"Entry {row.sequence} was changed.")  # no version writes such a row
    said = Said(
        at=row.at,
        operator=row.operator,
        via=row.via,
        action=row.action,
        outcome=Outcome(row.outcome),
        subject=row.subject,
        reason=row.reason,
        detail=row.detail,
    )
    return Entry(row.sequence, said, row.previous, row.digest, row.seal)


def _values(entry: Entry) -> dict[str, Any]:
    said = entry.said
    return {
        "sequence": entry.sequence,
        "at": said.at,
        "operator": said.operator,
        "via": said.via,
        "action": said.action,
        "outcome": said.outcome.value,
        "subject": said.subject,
        "reason": said.reason,
        "detail": dict(said.detail),
        "previous": entry.previous,
        "digest": entry.digest,
        "seal": entry.seal,
    }
