"""A PostgreSQL as full as that of a large server: accounts, devices, mailboxes, envelopes, and a long audit log that is a true chain.

Rows are small and made by the database itself; the audit log is made here, since its links are. What is seeded has the shape that the
relay gives it, so that queries meet the indexes, the distributions and the few special rows that they would meet there.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Final
from uuid import UUID

import asyncpg

from messaging.relay.admin.audit import Entry, Outcome, Said, link
from messaging.relay.metrics import Figures
from messaging.relay.server_secret import ServerSecret
from messaging.wire.envelope import Envelope, EnvelopeType, encode_envelope
from messaging.wire.identifiers import ServiceId

NUMBER: Final = "+4915550000001"  # of the account that is looked up by its number
USERNAME_HASH: Final = bytes(range(32))  # and by its username
SECOND_DEVICE_EVERY: Final = 4  # of so many accounts one has two devices
HEAVY: Final = 10_000  # envelopes in the mailbox of the account that is looked at
DAY: Final = 24 * 3600 * 1000
_MINUTE: Final = 60 * 1000
_DONE: Final = (
    ("accounts.search", Outcome.READ),
    ("accounts.show", Outcome.READ),
    ("accounts.suspend", Outcome.TRIED),
    ("accounts.suspend", Outcome.DONE),
    ("invites.create", Outcome.DONE),
    ("accounts.report", Outcome.READ),
)

# In braces stand integers, see ``_Numbers``, and the bytes of an envelope. Identifiers are made of numbers, so that a statement can name the rows of another one.
_PEOPLE: Final = (
    "INSERT INTO mailboxes (id, last_sequence) SELECT n, {each} FROM generate_series(1, {devices}) n",
    """INSERT INTO accounts (id, aci, pni, number_hash, aci_identity_key, pni_identity_key, access_key, unrestricted_access,
            created_on, role, suspended_at)
        SELECT n, md5('aci' || n)::uuid, md5('pni' || n)::uuid, sha256(('number' || n)::bytea), decode(md5('a' || n), 'hex'),
            decode(md5('p' || n), 'hex'), decode(md5('k' || n), 'hex'), false, {today} - n % 1000 * {day},
            CASE WHEN n % 1000 = 7 THEN 'bot' ELSE 'member' END, CASE WHEN n % 2000 = 9 THEN {now} - n * 1000 END
        FROM generate_series(1, {accounts}) n""",
    """INSERT INTO devices (account_id, device_id, mailbox_id, registration_id, pni_registration_id, password_salt,
            password_hash, capabilities, created_on, seen_on)
        SELECT account, device, CASE device WHEN 1 THEN account ELSE {accounts} + account / {second} END,
            account % 16380 + 1, account % 16380 + 1, decode(md5('s' || account), 'hex'),
            sha256(('h' || account || device)::bytea), '{{}}', {today} - account % 1000 * {day}, {today} - account % 40 * {day}
        FROM (SELECT n account, 1 device FROM generate_series(1, {accounts}) n
              UNION ALL SELECT n, 2 FROM generate_series({second}, {accounts}, {second}) n) made""",
)
# Assistants, as the last accounts; operators, relay processes, and what waits for a second operator.
_SERVER: Final = (
    """UPDATE accounts SET role = 'member', assistant_name = 'assistant-' || id, number_hash = NULL, pni = NULL
        WHERE id > {accounts} - 20""",
    """INSERT INTO assistant_reports (account_id, reported_at, load)
        SELECT id, {now}, '{{}}' FROM accounts WHERE assistant_name IS NOT NULL""",
    """INSERT INTO assistant_releases (account_id, release, measurement, first_seen_at, last_seen_at)
        SELECT id, '1.' || n, sha384(n::text::bytea), {now} - {day}, {now}
        FROM accounts, generate_series(1, 10) n WHERE assistant_name IS NOT NULL""",
    """INSERT INTO operators (handle, name, folded_name, role, created_at)
        SELECT sha256(('operator' || n)::bytea), 'operator ' || n, 'operator ' || n, 'support', {now}
        FROM generate_series(1, 300) n""",
    """INSERT INTO admin_tokens (token_hash, operator_id, name, permissions, created_at, expires_at, revoked)
        SELECT sha256(('token' || id || n)::bytea), id, 'a script', 'health.see', {now}, {now} + {day}, false
        FROM operators, generate_series(1, 5) n""",
    """INSERT INTO sign_ins (id_hash, operator_id, method, began_at, seen_at, browser)
        SELECT sha256(('sign-in' || id || n)::bytea), id, 'passkey', {now}, {now}, 'Firefox on Linux'
        FROM operators, generate_series(1, 3) n""",
    """INSERT INTO proposals (action, parameters, reason, subject, operator_id, operator, at)
        SELECT 'accounts.delete', json_build_object('aci', md5('aci' || id)::uuid), 'Asked for by a court.',
            'account ' || md5('aci' || id)::uuid, id, name, {now} FROM operators ORDER BY id LIMIT 100""",
    """INSERT INTO operator_settings (name, version, document, changed_at, changed_by)
        SELECT 'remote_config', n, json_build_object('client.look', json_build_object('value', n::text)), {now}, 'operator 1'
        FROM generate_series(1, 300) n""",
)
# One in a thousand is parked: its device has failed to take it too often.
_ENVELOPES: Final = (
    """INSERT INTO envelopes (mailbox_id, sequence, expires_at, data, deliveries)
        SELECT mailbox, place, {now} + (30 - mailbox % 29) * {day}, {envelope},
            CASE WHEN (mailbox * 7 + place) % 1000 = 3 THEN 5 ELSE 0 END
        FROM generate_series(1, {devices}) mailbox, generate_series(1, {each}) place""",
    """INSERT INTO envelopes (mailbox_id, sequence, expires_at, data)
        SELECT {looked_at}, {each} + place, {now} + {day}, {envelope}
        FROM generate_series(1, {heavy}) place""",
    "UPDATE mailboxes SET last_sequence = {each} + {heavy} WHERE id = {looked_at}",
)
_PREKEYS: Final = (
    """INSERT INTO signed_prekeys (account_id, device_id, identity, key_id, public_key, signature)
        SELECT n, 1, identity, 1, decode(md5('signed' || n), 'hex'), decode(md5('signature' || n), 'hex')
        FROM generate_series(1, {accounts}, 10) n, (VALUES ('ACI'), ('PNI')) identities (identity)""",
    """INSERT INTO last_resort_kyber_prekeys (account_id, device_id, identity, key_id, public_key, signature)
        SELECT account_id, device_id, identity, key_id, public_key, signature FROM signed_prekeys""",
    """INSERT INTO one_time_prekeys (account_id, device_id, identity, key_id, public_key)
        SELECT n, 1, 'ACI', key, decode(md5('one' || n || '.' || key), 'hex')
        FROM generate_series(1, {accounts}, 50) n, generate_series(1, 20) key""",
)
_REST: Final = (
    """INSERT INTO usernames (username_hash, account_id, confirmed, expires_at)
        SELECT sha256(('name' || n)::bytea), n, n % 100 <> 0, CASE WHEN n % 100 = 0 THEN {now} + {day} END
        FROM generate_series(1, {accounts}, 5) n""",
    """INSERT INTO spam_reports (reported, report_hash, reporter_hash, expires_at)
        SELECT md5('aci' || n * 31 % 500 + 1)::uuid, sha256(('report' || n)::bytea), sha256(('by' || n % 3000)::bytea),
            {now} + n % 30 * {day}
        FROM generate_series(1, 10000) n""",
    """INSERT INTO deleted_accounts (number_hash, aci, expires_at)
        SELECT sha256(('gone' || n)::bytea), md5('gone' || n)::uuid, {now} + n % 30 * {day}
        FROM generate_series(1, {accounts} / 100) n""",
    """INSERT INTO profiles (account_id, version, changed_at, commitment, name)
        SELECT n, md5('version' || n), {now}, decode(md5('commitment' || n), 'hex'), decode(md5('profile' || n), 'hex')
        FROM generate_series(1, {accounts}, 5) n""",
    """INSERT INTO grants (account_id, limit_name, size, refill)
        SELECT n, 'messages', 300, 0.5 FROM generate_series(1, {accounts}, 1000) n""",
    """INSERT INTO attachments (key_hash, length, received, expires_at, lasting)
        SELECT sha256(('attachment' || n)::bytea), 1000 + n, 1000 + n, {now} + n % 30 * {day}, n % 10 = 0
        FROM generate_series(1, {accounts} / 10) n""",
    """INSERT INTO attachment_pieces (key_hash, start, size, name)
        SELECT key_hash, 0, length, encode(key_hash, 'hex') FROM attachments""",
    """INSERT INTO gaps (mailbox_id, first, last, reason)
        SELECT n, 1, 1, 'parked' FROM generate_series(1, {devices}, 1000) n""",
    """INSERT INTO invites (code_hash, role, uses_left, expires_at, created_at, revoked)
        SELECT sha256(('invite' || n)::bytea), 'member', n % 5, {now} + {day}, {now}, n % 7 = 0
        FROM generate_series(1, 5000) n""",
    # Whoever registers next gets the next number.
    "SELECT setval(pg_get_serial_sequence('accounts', 'id'), {accounts})",
    "SELECT setval(pg_get_serial_sequence('mailboxes', 'id'), {devices})",
)


@dataclass(frozen=True, slots=True)
class Seeded:
    """What is in the database, and the account and the assistant that stand for all where something has to be named."""

    accounts: int
    devices: int
    envelopes: int
    audit_entries: int
    aci: UUID
    assistant: UUID
    seconds: float


@dataclass(frozen=True, slots=True)
class _Numbers:
    """What statements are filled in with."""

    accounts: int
    devices: int
    each: int  # envelopes in every mailbox
    looked_at: int  # the account with a full mailbox and two devices
    now: int
    today: int
    day: int = DAY
    second: int = SECOND_DEVICE_EVERY
    heavy: int = HEAVY

    def fill(self, statement: str) -> str:
        """The statement, with each number as one of 64 bits. All envelopes are alike: nobody reads what is in them."""
        numbers = {each.name: f"{getattr(self, each.name)}::bigint" for each in fields(self)}
        return statement.format(envelope=f"decode('{_an_envelope(self.now).hex()}', 'hex')", **numbers)


async def seed(
    url: str, secret: ServerSecret, *, accounts: int, envelopes: int, audit_entries: int, now: int
) -> Seeded:
    """Fill an empty database that has the present schema.

    Args:
        url: as asyncpg takes it, of a role that may switch off triggers.
        secret: the server's, for the hash of a number and the seals of the audit log.
        accounts: how many; a quarter of them has two devices.
        envelopes: about how many: the same in each mailbox, and ``HEAVY`` more in one.
        audit_entries: how many.
        now: milliseconds since 1970.
    """
    began = time.monotonic()
    devices = accounts + accounts // SECOND_DEVICE_EVERY
    each = max(1, round((envelopes - HEAVY) / devices))
    looked_at = max(1, accounts // 2 // SECOND_DEVICE_EVERY) * SECOND_DEVICE_EVERY
    numbers = _Numbers(accounts, devices, each, looked_at, now, now - now % DAY)
    db = await asyncpg.connect(url)
    try:
        await db.execute("SET session_replication_role = replica")  # no look-up of foreign keys for each row
        await _run(db, f"{accounts:,} accounts", _PEOPLE, numbers)
        await _run(db, f"{devices * each + HEAVY:,} envelopes", _ENVELOPES, numbers)
        await _run(db, "prekeys, usernames, reports", (*_PREKEYS, *_REST, *_SERVER), numbers)
        await _write_nodes(db, now)
        await db.execute("UPDATE accounts SET number_hash = $1 WHERE id = $2", secret.number_hash(NUMBER), looked_at)
        await db.execute("DELETE FROM usernames WHERE account_id = $1", looked_at)
        name = "INSERT INTO usernames (username_hash, account_id, confirmed) VALUES ($1, $2, true)"
        await db.execute(name, USERNAME_HASH, looked_at)
        with _said(f"{audit_entries:,} entries of the audit log"):
            await _write_audit_log(db, secret.audit_key, audit_entries, accounts, now)
        await _run(db, "statistics", ("VACUUM ANALYZE",), numbers)
        aci, assistant = [
            UUID(str(await db.fetchval("SELECT aci FROM accounts WHERE id = $1", number)))
            for number in (looked_at, accounts)
        ]
    finally:
        await db.close()
    return Seeded(accounts, devices, devices * each + HEAVY, audit_entries, aci, assistant, time.monotonic() - began)


def _an_envelope(now: int) -> bytes:
    """From a sealed sender, with a small content."""
    address, guid = ServiceId(UUID(int=1)), UUID(int=2)
    return encode_envelope(
        Envelope(EnvelopeType.UNIDENTIFIED_SENDER, address, guid, now, now, content=bytes(range(48)))
    )


async def _run(db: "asyncpg.Connection", what: str, statements: tuple[str, ...], numbers: _Numbers) -> None:
    with _said(what):
        for statement in statements:
            await db.execute(numbers.fill(statement))


async def _write_nodes(db: "asyncpg.Connection", now: int) -> None:
    """Twenty relay processes that were seen a moment ago."""
    figures = json.dumps(Figures().snapshot({"sockets": 50_000}).as_document())
    query = """INSERT INTO nodes (id, name, version, started_at, seen_at, state, figures)
        SELECT gen_random_uuid(), 'relay-' || n, '0.1.0', $1, $1, 'ready', $2::json FROM generate_series(1, 20) n"""
    await db.execute(query, now, figures)


async def _write_audit_log(db: "asyncpg.Connection", key: bytes, count: int, accounts: int, now: int) -> None:
    rows = [_row(entry) for entry in _chain(key, count, accounts, now)]
    await db.copy_records_to_table("audit_entries", records=rows, columns=_COLUMNS)
    await db.execute("UPDATE audit_turn SET entries = $1", count)


def _chain(key: bytes, count: int, accounts: int, now: int) -> Iterator[Entry]:
    """Entries of the last weeks, a minute apart, by ten operators, about accounts here and there."""
    last: Entry | None = None
    for number in range(count):
        action, outcome = _DONE[number % len(_DONE)]
        said = Said(
            at=now - (count - number) * _MINUTE,
            operator=f"operator {number % 10}",
            via="console",
            action=action,
            outcome=outcome,
            subject=f"account {UUID(int=number * 7919 % accounts)}",
            reason="Asked for by a court." if outcome is Outcome.DONE else "",
            detail={"touched": {"devices": 2}} if outcome is Outcome.DONE else {},
        )
        last = link(said, after=last, key=key)
        yield last


_COLUMNS: Final = (
    *("sequence", "at", "operator", "via", "action", "outcome", "subject", "reason", "detail"),
    *("previous", "digest", "seal"),
)


def _row(entry: Entry) -> tuple[Any, ...]:
    said = entry.said
    told = (said.at, said.operator, said.via, said.action, said.outcome.value, said.subject, said.reason)
    return (entry.sequence, *told, json.dumps(dict(said.detail)), entry.previous, entry.digest, entry.seal)


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Say on standard error what is made, and how long it took."""
    began = time.monotonic()
    sys.stderr.write(f"· {what} ...")
    sys.stderr.flush()
    yield
    sys.stderr.write(f" done in {time.monotonic() - began:.1f} s\n")
