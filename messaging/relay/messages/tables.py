"""Tables of mailboxes and envelopes, with the queries on them.

A mailbox numbers its envelopes. The number is given under the lock of the mailbox's row, which is held until the commit:
the order of numbers is the order in which envelopes become visible, so a reader that has seen n never finds n - 1 later.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import BigInteger, LargeBinary, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.database import Base, RowId


class MailboxRow(Base):
    """The queue of one registration of one device. Ids are never used again."""

    __tablename__ = "mailboxes"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's own idiom
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    last_sequence: Mapped[int] = mapped_column(BigInteger, default=0)


class EnvelopeRow(Base):
    """One envelope that its device has not acknowledged, as the bytes that the device will get.

    The primary key is the only index, and there is no foreign key: an insert follows an update of the mailbox's row in
    the same transaction, which has shown that the mailbox exists.
    """

    __tablename__ = "envelopes"
    mailbox_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    expires_at: Mapped[int] = mapped_column(BigInteger)  # milliseconds since 1970
    data: Mapped[bytes] = mapped_column(LargeBinary)


@dataclass(frozen=True, slots=True)
class StoredEnvelope:
    """An envelope at its place in the queue; ``data`` is what the device gets."""

    sequence: int
    data: bytes = field(repr=False)


async def create_mailbox(db: AsyncConnection) -> int:
    """Add an empty mailbox; returns its id."""
    mailbox_id: int = (
        await db.execute(insert(MailboxRow).values(last_sequence=0).returning(MailboxRow.id))
    ).scalar_one()
    return mailbox_id


async def lock_mailboxes(db: AsyncConnection, mailbox_ids: Sequence[int]) -> None:
    """Lock these mailboxes until the transaction ends, always in the order of their ids: no two wait for each other."""
    row = MailboxRow
    await db.execute(select(row.id).where(row.id.in_(mailbox_ids)).order_by(row.id).with_for_update())


async def delete_mailboxes(db: AsyncConnection, mailbox_ids: Sequence[int]) -> None:
    """Remove mailboxes, which the caller has locked, and all that is in them."""
    await db.execute(delete(EnvelopeRow).where(EnvelopeRow.mailbox_id.in_(mailbox_ids)))
    await db.execute(delete(MailboxRow).where(MailboxRow.id.in_(mailbox_ids)))


async def append_envelopes(
    db: AsyncConnection, envelopes: Mapping[int, bytes], *, expires_at: int
) -> Mapping[int, int]:
    """Append one envelope to each mailbox; returns the sequence of each.

    A mailbox that is not there any more has no sequence in the result, and then nothing was appended anywhere.
    """
    row = MailboxRow
    if len(envelopes) > 1:
        await lock_mailboxes(db, sorted(envelopes))
    number = update(row).where(row.id.in_(envelopes)).values(last_sequence=row.last_sequence + 1)
    sequences = dict((await db.execute(number.returning(row.id, row.last_sequence))).all())
    if len(sequences) == len(envelopes):
        values = [
            {"mailbox_id": box, "sequence": sequence, "expires_at": expires_at, "data": envelopes[box]}
            for box, sequence in sequences.items()
        ]
        await db.execute(insert(EnvelopeRow), values)
    return sequences


async def read_envelopes(
    db: AsyncConnection, mailbox_id: int, *, after: int, limit: int, now: int
) -> list[StoredEnvelope]:
    """The first ``limit`` envelopes behind ``after`` that have not expired."""
    row = EnvelopeRow
    query = (
        select(row.sequence, row.data)
        .where(row.mailbox_id == mailbox_id, row.sequence > after, row.expires_at > now)
        .order_by(row.sequence)
        .limit(limit)
    )
    return [StoredEnvelope(sequence, data) for sequence, data in await db.execute(query)]


async def delete_envelopes(db: AsyncConnection, mailbox_id: int, sequences: Collection[int]) -> None:
    """Forget envelopes that the device has acknowledged."""
    row = EnvelopeRow
    await db.execute(delete(row).where(row.mailbox_id == mailbox_id, row.sequence.in_(sequences)))


async def last_sequences(db: AsyncConnection, mailbox_ids: Collection[int]) -> dict[int, int]:
    """The last number given in each mailbox; a mailbox that is not there any more is not in the result."""
    row = MailboxRow
    found = await db.execute(select(row.id, row.last_sequence).where(row.id.in_(mailbox_ids)))
    return dict(found.all())


async def mailboxes_behind(db: AsyncConnection, mailbox_id: int, *, limit: int) -> list[int]:
    """The next ``limit`` mailbox ids greater than ``mailbox_id``."""
    row = MailboxRow
    return list(await db.scalars(select(row.id).where(row.id > mailbox_id).order_by(row.id).limit(limit)))


async def delete_expired(db: AsyncConnection, *, first: int, last: int, now: int) -> int:
    """Forget expired envelopes of a range of mailboxes; returns how many."""
    row = EnvelopeRow
    expired = delete(row).where(row.mailbox_id.between(first, last), row.expires_at <= now)
    return (await db.execute(expired)).rowcount
