"""Tables of mailboxes and envelopes, with the queries on them.

A mailbox numbers its envelopes. The number is given under the lock of the mailbox's row, which is held until the commit:
the order of numbers is the order in which envelopes become visible, so a reader that has seen n never finds n - 1 later.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from sqlalchemy import (
    BigInteger,
    LargeBinary,
    SmallInteger,
    String,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute, Mapped, mapped_column
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.selectable import ScalarSelect

from messaging.relay.database import Base, RowId, in_postgresql, in_sqlite, index_of_some
from messaging.wire.envelope import content_field
from messaging.wire.limits import MAX_DELIVERIES


class MailboxRow(Base):
    """The queue of one registration of one device. Ids are never used again."""

    __tablename__ = "mailboxes"
    __table_args__ = {"sqlite_autoincrement": True, "postgresql_with": {"fillfactor": 50}}  # noqa: RUF012 - SQLAlchemy's own idiom
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    last_sequence: Mapped[int] = mapped_column(BigInteger, default=0)
    connections: Mapped[int] = mapped_column(BigInteger, server_default="0")  # how often its device has connected
    version: Mapped[int] = mapped_column(
        BigInteger, server_default="0"
    )  # changes when what senders know of the account does


class EnvelopeRow(Base):
    """One envelope that its device has not acknowledged, as the bytes that the device will get.

    The primary key is the only index of most, and there is no foreign key: an insert follows an update of the mailbox's row in
    the same transaction, which has shown that the mailbox exists.
    """

    __tablename__ = "envelopes"
    __table_args__ = (
        index_of_some("ix_envelopes_payload_id", "payload_id", where="payload_id IS NOT NULL"),
        index_of_some("ix_envelopes_parked", "mailbox_id", "sequence", where=f"deliveries >= {MAX_DELIVERIES}"),
    )
    mailbox_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    expires_at: Mapped[int] = mapped_column(BigInteger)  # milliseconds since 1970
    data: Mapped[bytes] = mapped_column(LargeBinary)
    deliveries: Mapped[int] = mapped_column(SmallInteger, server_default="0")  # that failed; parked at MAX_DELIVERIES
    prefix: Mapped[bytes | None] = mapped_column(LargeBinary)  # of a message to many: what this device alone gets
    payload_id: Mapped[int | None] = mapped_column(BigInteger)  # and what it shares


class PayloadRow(Base):
    """What all recipients of one message share, stored once. It goes when no envelope points at it any more."""

    __tablename__ = "payloads"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's own idiom
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class GapRow(Base):
    """Envelopes that their device will not get, and why; told to the device, and gone when it has heard it."""

    __tablename__ = "gaps"
    mailbox_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    first: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    last: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(String(16))


@dataclass(frozen=True, slots=True)
class NewEnvelope:
    """What is stored for one device. With a ``payload_id``, ``data`` has no content: it is ``prefix`` and the payload."""

    data: bytes = field(repr=False)
    prefix: bytes | None = field(default=None, repr=False)
    payload_id: int | None = None


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


async def locked_mailboxes(db: AsyncConnection, mailbox_ids: Collection[int]) -> set[int]:
    """Those of the mailboxes that somebody has locked."""
    row = MailboxRow
    present = select(row.id).where(row.id.in_(mailbox_ids)).order_by(row.id)
    free = set(await db.scalars(present.with_for_update(skip_locked=True)))
    return set(await db.scalars(present)) - free


async def delete_mailboxes(db: AsyncConnection, mailbox_ids: Sequence[int]) -> None:
    """Remove mailboxes, which the caller has locked, and all that is in them."""
    await db.execute(delete(EnvelopeRow).where(EnvelopeRow.mailbox_id.in_(mailbox_ids)))
    await db.execute(delete(GapRow).where(GapRow.mailbox_id.in_(mailbox_ids)))
    await db.execute(delete(MailboxRow).where(MailboxRow.id.in_(mailbox_ids)))


async def change_versions(db: AsyncConnection, mailbox_ids: Sequence[int]) -> None:
    """What senders know of an account has changed: sends that were planned before are not stored any more."""
    row = MailboxRow
    await lock_mailboxes(db, mailbox_ids)
    await db.execute(update(row).where(row.id.in_(mailbox_ids)).values(version=row.version + 1))


async def append_envelopes(
    db: AsyncConnection, envelopes: Mapping[int, NewEnvelope], *, expires_at: int
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
            {"mailbox_id": box, "sequence": sequence, "expires_at": expires_at, **asdict(envelopes[box])}
            for box, sequence in sequences.items()
        ]
        await db.execute(insert(EnvelopeRow), values)
    return sequences


async def read_envelopes(
    db: AsyncConnection, mailbox_id: int, *, after: int, limit: int, now: int
) -> list[StoredEnvelope]:
    """The first ``limit`` envelopes behind ``after`` that have neither expired nor been parked."""
    if db.dialect.name == "postgresql":
        found = await in_postgresql(db, _PAGE, mailbox_id, after, now, MAX_DELIVERIES, limit)
        return [_stored(*columns) for columns in found]
    row, payload = EnvelopeRow, PayloadRow
    query = (
        select(row.sequence, row.data, row.prefix, payload.data)
        .outerjoin(payload, payload.id == row.payload_id)
        .where(row.mailbox_id == mailbox_id, row.sequence > after, row.expires_at > now)
        .where(row.deliveries < MAX_DELIVERIES)
        .order_by(row.sequence)
        .limit(limit)
    )
    return [_stored(*columns) for columns in await db.execute(query)]


_PAGE = """
SELECT e.sequence, e.data, e.prefix, p.data FROM envelopes e LEFT JOIN payloads p ON p.id = e.payload_id
WHERE e.mailbox_id = $1 AND e.sequence > $2 AND e.expires_at > $3 AND e.deliveries < $4 ORDER BY e.sequence LIMIT $5
"""


def _stored(sequence: int, data: bytes, prefix: bytes | None, shared: bytes | None) -> StoredEnvelope:
    return StoredEnvelope(
        sequence, data if prefix is None else whole_envelope(NewEnvelope(data, prefix), shared or b"")
    )


def whole_envelope(envelope: NewEnvelope, shared: bytes) -> bytes:
    """What a device gets: the envelope, with its part of the content and the ``shared`` one if it was stored in parts."""
    if envelope.prefix is None:
        return envelope.data
    size = len(envelope.prefix) + len(shared)
    return b"".join((envelope.data, content_field(size), envelope.prefix, shared))


async def delete_unused_payloads(db: AsyncConnection, *, now: int) -> int:
    """Forget payloads that have expired or that no envelope points at; returns how many.

    A payload and its envelopes are stored in one transaction, so none is between the two.
    """
    used = exists().where(EnvelopeRow.payload_id == PayloadRow.id)
    unused = delete(PayloadRow).where((PayloadRow.expires_at <= now) | ~used)
    return (await db.execute(unused)).rowcount


async def delete_envelopes(db: AsyncConnection, mailbox_id: int, sequences: Collection[int]) -> list[int]:
    """Forget envelopes that the device has acknowledged; returns those that were there."""
    row = EnvelopeRow
    gone = delete(row).where(row.mailbox_id == mailbox_id, row.sequence.in_(sequences)).returning(row.sequence)
    return sorted(await db.scalars(gone))


# By place on the disk, and looked up one by one: a join could be planned as a reading of the whole table.
_FORGET = """
DELETE FROM envelopes WHERE ctid = ANY (ARRAY(
    SELECT e.ctid FROM unnest($1::bigint[], $2::bigint[]) AS k(box, sequence)
    CROSS JOIN LATERAL (SELECT ctid FROM envelopes WHERE mailbox_id = k.box AND sequence = k.sequence OFFSET 0) e
))
"""


async def forget_envelopes(db: AsyncConnection, places: Sequence[tuple[int, int]]) -> None:
    """Forget envelopes of many mailboxes, by mailbox and sequence."""
    if db.dialect.name == "postgresql":
        await in_postgresql(db, _FORGET, *zip(*sorted(places), strict=True))
    else:
        await take_envelopes(db, places)


async def take_envelopes(db: AsyncConnection, places: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """The same; returns those that were there."""
    ordered = sorted(places)
    if db.dialect.name == "postgresql":
        gone = f"{_FORGET} RETURNING mailbox_id, sequence"
        return {tuple(row) for row in await in_postgresql(db, gone, *zip(*ordered, strict=True))}
    one = "DELETE FROM envelopes WHERE mailbox_id = ? AND sequence = ?"
    return await in_sqlite(
        db, lambda connection: {place for place in ordered if connection.execute(one, place).rowcount > 0}
    )


@dataclass(frozen=True, slots=True)
class Connecting:
    """A mailbox whose device connects. ``resume_after`` is the sequence up to which it has everything, if it says so."""

    mailbox_id: int
    resume_after: int | None
    wants_gaps: bool


@dataclass(frozen=True, slots=True)
class Connected:
    """A mailbox whose device has just connected.

    ``connection`` is the number of the connection; of two the later one has the greater. ``empty_up_to``: nothing waits that has
    this sequence or a smaller one.
    """

    connection: int
    last_sequence: int
    empty_up_to: int


# What waits is looked up as of the beginning of the statement, and so is what was given until then: an envelope that is
# committed while the statement waits for the mailbox must not count as seen.
_CONNECT = """
WITH locked AS MATERIALIZED (
    SELECT id FROM mailboxes WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE
), counted AS (
    UPDATE mailboxes m SET connections = m.connections + 1 FROM locked l WHERE m.id = l.id
    RETURNING m.id, m.connections, m.last_sequence
), got AS (
    DELETE FROM envelopes WHERE ctid = ANY (ARRAY(
        SELECT e.ctid FROM unnest($1::bigint[], $2::bigint[]) AS k(box, resume_after)
        CROSS JOIN LATERAL (
            SELECT ctid FROM envelopes
            WHERE mailbox_id = k.box AND sequence <= k.resume_after AND deliveries < $4 OFFSET 0
        ) e
    ))
), untold AS (
    DELETE FROM gaps WHERE mailbox_id = ANY($3::bigint[])
)
SELECT c.id, c.connections, c.last_sequence, coalesce(first.sequence - 1, before.last_sequence)
FROM counted c JOIN mailboxes before ON before.id = c.id LEFT JOIN LATERAL (
    SELECT sequence FROM envelopes WHERE mailbox_id = c.id ORDER BY sequence LIMIT 1
) first ON true
"""


async def connect_mailboxes(db: AsyncConnection, connecting: Sequence[Connecting]) -> dict[int, Connected]:
    """Count a new connection of each mailbox; one that is gone is not in the result.

    What its device says it has is forgotten, except what is parked; and so are gaps that it does not want to hear of.
    """
    if db.dialect.name != "postgresql":
        return await in_sqlite(db, lambda connection: _connect_here(connection, connecting))
    boxes, resuming = [each.mailbox_id for each in connecting], [each.resume_after for each in connecting]
    untold = [each.mailbox_id for each in connecting if not each.wants_gaps]
    rows = await in_postgresql(db, _CONNECT, boxes, resuming, untold, MAX_DELIVERIES)
    return {mailbox_id: Connected(*found) for mailbox_id, *found in rows}


def _connect_here(connection: sqlite3.Connection, connecting: Sequence[Connecting]) -> dict[int, Connected]:
    found = {}
    count = "UPDATE mailboxes SET connections = connections + 1 WHERE id = ? RETURNING connections, last_sequence"
    forget = "DELETE FROM envelopes WHERE mailbox_id = ? AND sequence <= ? AND deliveries < ?"
    first = "SELECT min(sequence) FROM envelopes WHERE mailbox_id = ?"
    for each in connecting:
        counted = connection.execute(count, (each.mailbox_id,)).fetchone()
        if counted is None:
            continue
        if each.resume_after is not None:
            connection.execute(forget, (each.mailbox_id, each.resume_after, MAX_DELIVERIES))
        if not each.wants_gaps:
            connection.execute("DELETE FROM gaps WHERE mailbox_id = ?", (each.mailbox_id,))
        (waits,) = connection.execute(first, (each.mailbox_id,)).fetchone()
        number, last_sequence = counted
        found[each.mailbox_id] = Connected(number, last_sequence, last_sequence if waits is None else waits - 1)
    return found


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a mailbox is: the last sequence given, and the number of the connection opened last."""

    last_sequence: int
    connection: int


async def progress_of(db: AsyncConnection, mailbox_ids: Collection[int]) -> dict[int, Progress]:
    """How far each mailbox is; one that is not there any more is not in the result."""
    query = "SELECT id, last_sequence, connections FROM mailboxes WHERE id"
    if (
        db.dialect.name == "postgresql"
    ):  # one array: hundreds of parameters would be parsed and kept for each number of them
        rows = await in_postgresql(db, f"{query} = ANY($1::bigint[])", list(mailbox_ids))
    else:
        query = f"{query} IN (SELECT value FROM json_each(?))"  # noqa: S608 - a text of ours
        ids = json.dumps(list(mailbox_ids))
        rows = await in_sqlite(db, lambda connection: connection.execute(query, (ids,)).fetchall())
    return {mailbox_id: Progress(last, connection) for mailbox_id, last, connection in rows}


async def count_envelopes(db: AsyncConnection, mailbox_ids: Collection[int]) -> dict[int, int]:
    """How many envelopes wait in each mailbox; an empty one is not in the result."""
    row = EnvelopeRow
    query = select(row.mailbox_id, func.count()).where(row.mailbox_id.in_(mailbox_ids)).group_by(row.mailbox_id)
    return dict((await db.execute(query)).all())


def count_up_to(limit: int, mailbox_id: InstrumentedAttribute[int], *, parked: bool = False) -> ScalarSelect[int]:
    """For a query that has a column of mailboxes: how many envelopes each has, or how many are ``parked``.

    It looks at no more than ``limit`` of them.
    """
    row = EnvelopeRow
    some = select(row.sequence).where(row.mailbox_id == mailbox_id).limit(limit)
    some = some.where(is_parked()) if parked else some
    return select(func.count()).select_from(some.correlate_except(row).subquery()).scalar_subquery()


def is_parked() -> ColumnElement[bool]:
    """For a query of envelopes: those that failed too often, as their index says it."""
    return EnvelopeRow.deliveries >= literal_column(str(MAX_DELIVERIES))


async def mailboxes_behind(db: AsyncConnection, mailbox_id: int, *, limit: int) -> list[int]:
    """The next ``limit`` mailbox ids greater than ``mailbox_id``."""
    row = MailboxRow
    return list(await db.scalars(select(row.id).where(row.id > mailbox_id).order_by(row.id).limit(limit)))


async def delete_expired(db: AsyncConnection, *, first: int, last: int, now: int) -> int:
    """Forget expired envelopes of a range of mailboxes, and note the gaps; returns how many."""
    row = EnvelopeRow
    expired = delete(row).where(row.mailbox_id.between(first, last), row.expires_at <= now)
    gone = (await db.execute(expired.returning(row.mailbox_id, row.sequence, row.deliveries))).all()
    # The device has been told already of what was parked.
    missed = sorted((box, sequence) for box, sequence, deliveries in gone if deliveries < MAX_DELIVERIES)
    await insert_gaps(db, runs_of(missed), reason="expired")
    return len(gone)


def runs_of(places: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Sorted pairs of mailbox and sequence as runs: mailbox, first and last sequence."""
    runs: list[tuple[int, int, int]] = []
    for mailbox, sequence in places:
        if runs and runs[-1][0] == mailbox and runs[-1][2] == sequence - 1:
            runs[-1] = (mailbox, runs[-1][1], sequence)
        else:
            runs.append((mailbox, sequence, sequence))
    return runs


async def insert_gaps(db: AsyncConnection, runs: Sequence[tuple[int, int, int]], *, reason: str) -> None:
    """Note what devices will not get."""
    values = [{"mailbox_id": box, "first": first, "last": last, "reason": reason} for box, first, last in runs]
    if values:
        await db.execute(insert(GapRow), values)


@dataclass(frozen=True, slots=True)
class StoredGap:
    """Sequences that the device will not get."""

    first: int
    last: int
    reason: str


async def read_gaps(db: AsyncConnection, mailbox_id: int, *, limit: int) -> list[StoredGap]:
    """The first ``limit`` gaps that the device has not heard of."""
    row = GapRow
    query = select(row.first, row.last, row.reason).where(row.mailbox_id == mailbox_id).order_by(row.first)
    return [StoredGap(*columns) for columns in await db.execute(query.limit(limit))]


async def delete_gap(db: AsyncConnection, mailbox_id: int, first: int) -> None:
    """Forget a gap that the device has heard of."""
    await db.execute(delete(GapRow).where(GapRow.mailbox_id == mailbox_id, GapRow.first == first))


async def count_failure(db: AsyncConnection, mailbox_id: int, sequences: Collection[int]) -> list[int]:
    """Count a failed delivery of each; returns those that are parked now."""
    row = EnvelopeRow
    failed = update(row).where(row.mailbox_id == mailbox_id, row.sequence.in_(sequences))
    failed = failed.where(row.deliveries < MAX_DELIVERIES).values(deliveries=row.deliveries + 1)
    counted = (await db.execute(failed.returning(row.sequence, row.deliveries))).all()
    return sorted(sequence for sequence, deliveries in counted if deliveries >= MAX_DELIVERIES)


@dataclass(frozen=True, slots=True)
class Parked:
    """An envelope that failed too often."""

    sequence: int
    deliveries: int
    expires_at: int
    envelope: NewEnvelope = field(repr=False)
    size: int


async def parked_envelopes(
    db: AsyncConnection, mailbox_id: int, *, now: int, limit: int, sequence: int | None = None
) -> list[Parked]:
    """Parked envelopes that have not expired, the oldest first; or the one with this sequence."""
    row, payload = EnvelopeRow, PayloadRow
    size = (
        func.length(row.data) + func.coalesce(func.length(row.prefix), 0) + func.coalesce(func.length(payload.data), 0)
    )
    query = (
        select(row.sequence, row.deliveries, row.expires_at, row.data, row.prefix, row.payload_id, size)
        .outerjoin(payload, payload.id == row.payload_id)
        .where(row.mailbox_id == mailbox_id, row.deliveries >= MAX_DELIVERIES, row.expires_at > now)
        .order_by(row.sequence)
        .limit(limit)
    )
    if sequence is not None:
        query = query.where(row.sequence == sequence)
    return [
        Parked(number, deliveries, expires_at, NewEnvelope(data, prefix, payload_id), length)
        for number, deliveries, expires_at, data, prefix, payload_id, length in await db.execute(query)
    ]
