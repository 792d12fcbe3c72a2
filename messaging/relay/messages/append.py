"""Appending many sends to many mailboxes in one transaction: each send as a whole or not at all.

A send is planned from memory (``accounts.directory``) and may be out of date. Here, under the locks of its mailboxes, it is
compared with the database: if a mailbox is gone, or what senders know of its account has changed, or the send has been
made before under its idempotency key, then nothing of it is stored and it has no result. The other sends do not notice.

On PostgreSQL the whole batch is one statement, and so one round trip and one commit. On SQLite it is one visit to the thread that
has the file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from sqlite3 import Connection
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.database import in_postgresql, in_sqlite
from messaging.relay.messages.idempotency import Once
from messaging.relay.messages.tables import NewEnvelope


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox, with the version of it that a plan rests on; ``None`` where any will do."""

    mailbox_id: int
    version: int | None


@dataclass(frozen=True, slots=True)
class Payload:
    """What several envelopes of one send share."""

    id: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Remembered:
    """The answer that is kept under an idempotency key, until ``expires_at``."""

    once: Once
    answer: bytes = field(repr=False)
    expires_at: int


@dataclass(frozen=True, slots=True)
class Append:
    """One send, of at most one envelope to a mailbox.

    ``rests_on`` are mailboxes that it does not change, the sender's own say, but that must be as they were.
    """

    envelopes: Sequence[tuple[Place, NewEnvelope]]
    expires_at: int
    rests_on: Sequence[Place] = ()
    payload: Payload | None = None
    remembered: Remembered | None = None

    @property
    def size(self) -> int:
        """Bytes to be stored, about."""
        size = 0 if self.payload is None else len(self.payload.data)
        for _, envelope in self.envelopes:
            size += len(envelope.data) + len(envelope.prefix or b"")
        return size


Sequences = Mapping[int, int]  # mailbox -> the sequence that its envelope got


async def append(db: AsyncConnection, sends: Sequence[Append]) -> list[Sequences | None]:
    """Append what can be appended; ``None`` for a send of which nothing was stored.

    On PostgreSQL ``db`` may be in a transaction or commit each statement; on SQLite it is in a transaction.
    """
    first = _without_repetitions(sends)
    append_to = _append_postgresql if db.dialect.name == "postgresql" else _append_sqlite
    results = iter(await append_to(db, [send for send, is_first in zip(sends, first, strict=True) if is_first]))
    return [next(results) if is_first else None for is_first in first]


def _without_repetitions(sends: Sequence[Append]) -> list[bool]:
    """Which sends are the first ones under their idempotency keys."""
    seen: set[bytes] = set()
    first = []
    for send in sends:
        key = None if send.remembered is None else send.remembered.once.key_hash
        first.append(key is None or key not in seen)
        if key is not None:
            seen.add(key)
    return first


# Sends are numbered by their place in the batch. Mailboxes are locked in the order of their ids, and keys in that of their
# hashes, so that no two batches wait for each other. A version of -1 stands for any.
_POSTGRESQL = """
WITH entry AS MATERIALIZED (
    SELECT place, send, box, version FROM unnest($1::int[], $2::bigint[], $3::bigint[])
        WITH ORDINALITY AS e(send, box, version, place)
), locked AS MATERIALIZED (
    SELECT id, last_sequence, version FROM mailboxes WHERE id = ANY($4::bigint[]) ORDER BY id FOR UPDATE
), stale AS MATERIALIZED (
    SELECT e.send FROM entry e LEFT JOIN locked l ON l.id = e.box AND e.version IN (-1, l.version) WHERE l.id IS NULL
    UNION ALL
    SELECT r.send FROM unnest($5::int[], $6::bigint[], $7::bigint[]) AS r(send, box, version)
        LEFT JOIN mailboxes m ON m.id = r.box AND r.version IN (-1, m.version) WHERE m.id IS NULL
), kept AS (
    INSERT INTO remembered_sends (key_hash, request_hash, answer, expires_at)
        SELECT k.key_hash, k.request_hash, k.answer, k.expires_at
        FROM unnest($8::int[], $9::bytea[], $10::bytea[], $11::bytea[], $12::bigint[])
            AS k(send, key_hash, request_hash, answer, expires_at)
        WHERE k.send NOT IN (SELECT send FROM stale)
        ORDER BY k.key_hash ON CONFLICT DO NOTHING RETURNING key_hash
), refused AS MATERIALIZED (
    SELECT send FROM stale
    UNION ALL
    SELECT k.send FROM unnest($8::int[], $9::bytea[]) AS k(send, key_hash)
        WHERE k.key_hash NOT IN (SELECT key_hash FROM kept)
), placed AS MATERIALIZED (
    SELECT e.place, e.send, e.box, l.last_sequence + row_number() OVER (PARTITION BY e.box ORDER BY e.place) AS sequence
    FROM entry e JOIN locked l ON l.id = e.box WHERE e.send NOT IN (SELECT send FROM refused)
), numbered AS (
    UPDATE mailboxes m SET last_sequence = p.last
    FROM (SELECT box, max(sequence) AS last FROM placed GROUP BY box) p WHERE m.id = p.box
), shared AS (
    INSERT INTO payloads (id, expires_at, data)
        SELECT s.id, s.expires_at, s.data FROM unnest($13::int[], $14::bigint[], $15::bigint[], $16::bytea[])
            AS s(send, id, expires_at, data)
        WHERE s.send NOT IN (SELECT send FROM refused)
), stored AS (
    INSERT INTO envelopes (mailbox_id, sequence, expires_at, data, prefix, payload_id)
        SELECT p.box, p.sequence, d.expires_at, d.data, d.prefix, d.payload_id
        FROM unnest($17::bigint[], $18::bytea[], $19::bytea[], $20::bigint[])
            WITH ORDINALITY AS d(expires_at, data, prefix, payload_id, place)
        JOIN placed p ON p.place = d.place
)
SELECT a.send, p.box, p.sequence
FROM generate_series(0, $21::int - 1) AS a(send) LEFT JOIN placed p ON p.send = a.send
WHERE a.send NOT IN (SELECT send FROM refused)
"""


# The same for what most sends are, one envelope for a mailbox that no other of the batch goes to: half of the time.
_POSTGRESQL_SIMPLE = """
WITH entry AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[])
        AS e(box, version, sender_box, sender_version, expires_at, data)
), locked AS MATERIALIZED (
    SELECT m.id, e.expires_at, e.data FROM entry e JOIN mailboxes m ON m.id = e.box AND e.version IN (-1, m.version)
    WHERE e.sender_box IS NULL
        OR EXISTS (SELECT FROM mailboxes s WHERE s.id = e.sender_box AND e.sender_version IN (-1, s.version))
    ORDER BY m.id FOR UPDATE OF m
), numbered AS (
    UPDATE mailboxes m SET last_sequence = m.last_sequence + 1 FROM locked l WHERE m.id = l.id
    RETURNING m.id, m.last_sequence, l.expires_at, l.data
)
INSERT INTO envelopes (mailbox_id, sequence, expires_at, data)
    SELECT id, last_sequence, expires_at, data FROM numbered RETURNING mailbox_id, sequence
"""


# And for one sealed envelope alone, which is what there is while few people write.
_POSTGRESQL_ONE = """
WITH numbered AS (
    UPDATE mailboxes SET last_sequence = last_sequence + 1
    WHERE id = $1 AND $2::bigint IN (-1, version) RETURNING last_sequence
)
INSERT INTO envelopes (mailbox_id, sequence, expires_at, data)
    SELECT $1, last_sequence, $3, $4 FROM numbered RETURNING mailbox_id, sequence
"""


def _are_simple(sends: Sequence[Append]) -> bool:
    boxes = set()
    for send in sends:
        if len(send.envelopes) != 1 or len(send.rests_on) > 1 or send.payload or send.remembered:
            return False
        boxes.add(send.envelopes[0][0].mailbox_id)
    return len(boxes) == len(sends)


async def _append_simple_postgresql(db: AsyncConnection, sends: Sequence[Append]) -> list[Sequences | None]:
    if len(sends) == 1 and not sends[0].rests_on:
        ((place, envelope),) = sends[0].envelopes
        values = (place.mailbox_id, _version_of(place), sends[0].expires_at, envelope.data)
        return [dict(await in_postgresql(db, _POSTGRESQL_ONE, *values)) or None]
    columns: tuple[list[Any], ...] = ([], [], [], [], [], [])
    for send in sends:
        ((place, envelope),) = send.envelopes
        sender = send.rests_on[0] if send.rests_on else None
        _add(
            columns,
            place.mailbox_id,
            _version_of(place),
            None if sender is None else sender.mailbox_id,
            None if sender is None else _version_of(sender),
            send.expires_at,
            envelope.data,
        )
    given = dict(await in_postgresql(db, _POSTGRESQL_SIMPLE, *columns))
    return [{box: given[box]} if box in given else None for box in columns[0]]


def _version_of(place: Place) -> int:
    return -1 if place.version is None else place.version


async def _append_postgresql(db: AsyncConnection, sends: Sequence[Append]) -> list[Sequences | None]:
    if _are_simple(sends):
        return await _append_simple_postgresql(db, sends)
    numbers, boxes, versions, expiries, data, prefixes, payload_ids = [], [], [], [], [], [], []
    resting: tuple[list[int], list[int], list[int]] = ([], [], [])
    keys: tuple[list[int], list[bytes], list[bytes], list[bytes], list[int]] = ([], [], [], [], [])
    payloads: tuple[list[int], list[int], list[int], list[bytes]] = ([], [], [], [])
    for number, send in enumerate(sends):
        for place, envelope in send.envelopes:
            numbers.append(number)
            boxes.append(place.mailbox_id)
            versions.append(_version_of(place))
            expiries.append(send.expires_at)
            data.append(envelope.data)
            prefixes.append(envelope.prefix)
            payload_ids.append(envelope.payload_id)
        for place in send.rests_on:
            _add(resting, number, place.mailbox_id, _version_of(place))
        if send.remembered is not None:
            kept = send.remembered
            _add(keys, number, kept.once.key_hash, kept.once.request_hash, kept.answer, kept.expires_at)
        if send.payload is not None:
            _add(payloads, number, send.payload.id, send.expires_at, send.payload.data)
    rows = await in_postgresql(
        db,
        _POSTGRESQL,
        numbers,
        boxes,
        versions,
        sorted(set(boxes)),
        *resting,
        *keys,
        *payloads,
        expiries,
        data,
        prefixes,
        payload_ids,
        len(sends),
    )
    results: list[dict[int, int] | None] = [None] * len(sends)
    for number, box, sequence in rows:
        given = results[number]
        if given is None:
            given = results[number] = {}
        if box is not None:
            given[box] = sequence
    return list(results)


def _add(columns: tuple[list[Any], ...], *values: object) -> None:
    for column, value in zip(columns, values, strict=True):
        column.append(value)


async def _append_sqlite(db: AsyncConnection, sends: Sequence[Append]) -> list[Sequences | None]:
    return await in_sqlite(db, lambda connection: _append_here(connection, sends))


def _append_here(connection: Connection, sends: Sequence[Append]) -> list[Sequences | None]:
    """The same, in SQLite's thread, with the file locked by the transaction."""
    mailboxes = _mailboxes(connection, sends)
    results: list[Sequences | None] = []
    for send in sends:
        places = [*(place for place, _ in send.envelopes), *send.rests_on]
        if all(_is_as_it_was(place, mailboxes) for place in places) and _remember(connection, send.remembered):
            given = {}
            for place, _ in send.envelopes:
                mailbox = mailboxes[place.mailbox_id]
                mailbox.last_sequence += 1
                given[place.mailbox_id] = mailbox.last_sequence
            results.append(given)
        else:
            results.append(None)
    _store(connection, sends, results)
    changed = [(each.last_sequence, box) for box, each in mailboxes.items() if each.last_sequence != each.was]
    connection.executemany("UPDATE mailboxes SET last_sequence = ? WHERE id = ?", changed)
    return results


@dataclass(slots=True)
class _Mailbox:
    version: int
    was: int
    last_sequence: int


def _mailboxes(connection: Connection, sends: Sequence[Append]) -> dict[int, _Mailbox]:
    wanted = {place.mailbox_id for send in sends for place, _ in send.envelopes}
    wanted |= {place.mailbox_id for send in sends for place in send.rests_on}
    query = "SELECT id, version, last_sequence FROM mailboxes WHERE id IN (SELECT value FROM json_each(?))"
    rows = connection.execute(query, (json.dumps(list(wanted)),))
    return {box: _Mailbox(version, last, last) for box, version, last in rows}


def _is_as_it_was(place: Place, mailboxes: Mapping[int, _Mailbox]) -> bool:
    mailbox = mailboxes.get(place.mailbox_id)
    return mailbox is not None and place.version in (None, mailbox.version)


def _remember(connection: Connection, remembered: Remembered | None) -> bool:
    if remembered is None:
        return True
    keep = "INSERT INTO remembered_sends (key_hash, request_hash, answer, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
    once = remembered.once
    values = (once.key_hash, once.request_hash, remembered.answer, remembered.expires_at)
    return connection.execute(keep, values).rowcount > 0


def _store(connection: Connection, sends: Sequence[Append], results: Sequence[Sequences | None]) -> None:
    payloads, rows = [], []
    for send, given in zip(sends, results, strict=True):
        if given is None:
            continue
        if send.payload is not None:
            payloads.append((send.payload.id, send.expires_at, send.payload.data))
        for place, new in send.envelopes:
            sequence = given[place.mailbox_id]
            rows.append((place.mailbox_id, sequence, send.expires_at, new.data, new.prefix, new.payload_id))
    connection.executemany("INSERT INTO payloads (id, expires_at, data) VALUES (?, ?, ?)", payloads)
    connection.executemany(
        "INSERT INTO envelopes (mailbox_id, sequence, expires_at, data, prefix, payload_id) VALUES (?, ?, ?, ?, ?, ?)",
        rows,
    )
