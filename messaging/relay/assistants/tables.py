"""What assistants say of themselves, for operators to see, with the queries on it. Times are milliseconds since 1970."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary, String, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.accounts.tables import AccountRow
from messaging.relay.database import Base, RowId

MAX_RELEASES = 50  # of one assistant that are remembered; the one that was seen longest ago goes


class AssistantReportRow(Base):
    """What an assistant last said of itself: evidence over a nonce of the relay's, and its load. A hint, as all that comes from it."""

    __tablename__ = "assistant_reports"
    account_id: Mapped[int] = mapped_column(RowId, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    nonce: Mapped[bytes | None] = mapped_column(LargeBinary)  # 32 bytes, asked for next
    nonce_at: Mapped[int | None] = mapped_column(BigInteger)
    evidence_nonce: Mapped[bytes | None] = mapped_column(LargeBinary)  # that the bundle answers
    evidence_at: Mapped[int | None] = mapped_column(BigInteger)  # when that nonce was drawn: the evidence is not older
    bundle: Mapped[bytes | None] = mapped_column(LargeBinary)  # attestation.Bundle, encoded and deflated
    reported_at: Mapped[int | None] = mapped_column(BigInteger)
    load: Mapped[dict[str, Any]] = mapped_column(JSON)


class AssistantReleaseRow(Base):
    """A release that an assistant has named in its reports, and the measurement that it named with it. Its word, and no proof."""

    __tablename__ = "assistant_releases"
    account_id: Mapped[int] = mapped_column(RowId, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    release: Mapped[str] = mapped_column(String(128), primary_key=True)
    measurement: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)  # 48 bytes
    first_seen_at: Mapped[int] = mapped_column(BigInteger)
    last_seen_at: Mapped[int] = mapped_column(BigInteger)


@dataclass(frozen=True, slots=True)
class Asked:
    """A nonce, and when it was drawn."""

    nonce: bytes = field(repr=False)
    at: int


async def lock_assistant(db: AsyncConnection, account_id: int, name: str) -> bool:
    """Lock the account until the transaction ends; ``False`` if it is not the assistant of this name."""
    row = AccountRow
    query = select(row.id).where(row.id == account_id, row.assistant_name == name).with_for_update()
    return (await db.execute(query)).one_or_none() is not None


async def asked(db: AsyncConnection, account_id: int) -> Asked | None:
    """The nonce that the next report has to answer, if one was drawn."""
    row = AssistantReportRow
    query = select(row.nonce, row.nonce_at).where(row.account_id == account_id)
    nonce, at = (await db.execute(query)).one_or_none() or (None, None)
    return None if nonce is None or at is None else Asked(nonce, at)


async def write_report(db: AsyncConnection, account_id: int, values: Mapping[str, Any]) -> None:
    """Change what is kept of an assistant's reports; the account is locked."""
    row = AssistantReportRow
    changed = await db.execute(update(row).where(row.account_id == account_id).values(values))
    if changed.rowcount == 0:
        await db.execute(insert(row).values({"account_id": account_id, "load": {}, **values}))


async def note_release(db: AsyncConnection, account_id: int, release: str, measurement: bytes, *, now: int) -> None:
    """Remember that an assistant has named this release now; the account is locked."""
    row = AssistantReleaseRow
    own = row.account_id == account_id
    same = update(row).where(own, row.release == release, row.measurement == measurement)
    if (await db.execute(same.values(last_seen_at=now))).rowcount:
        return
    key = {"account_id": account_id, "release": release, "measurement": measurement}
    await db.execute(insert(row).values(key | {"first_seen_at": now, "last_seen_at": now}))
    newest_first = (row.last_seen_at.desc(), row.release, row.measurement)
    query = select(row.release, row.measurement).where(own).order_by(*newest_first).offset(MAX_RELEASES)
    for beyond in (await db.execute(query)).all():
        await db.execute(delete(row).where(own, row.release == beyond[0], row.measurement == beyond[1]))
