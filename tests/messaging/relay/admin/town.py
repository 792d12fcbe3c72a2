"""A populated database: at least one row in every table, and of what operators act on several, in each state."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

import messaging.relay.app  # noqa: F401 - defines all tables
from messaging.relay.accounts.authentication import day_of
from messaging.relay.accounts.invite_service import make_invite
from messaging.relay.accounts.invites import Role as AccountRole
from messaging.relay.accounts.invites import Terms
from messaging.relay.accounts.linking_tables import ProvisioningRow, UsedLinkTokenRow
from messaging.relay.accounts.tables import (
    DeletedAccountRow,
    DeviceRow,
    VerificationSessionRow,
    insert_account,
    update_account,
)
from messaging.relay.accounts.usernames import UsernameRow
from messaging.relay.admin.desk import Desk, Operator, account_subject
from messaging.relay.admin.operator_tables import (
    ChallengeRow,
    EnrolmentRow,
    OperatorRow,
    PasskeyRow,
    RecoveryCodeRow,
    SignInRow,
    TokenRow,
    TryRow,
)
from messaging.relay.admin.permissions import GRANTED, Role
from messaging.relay.admin.proposals import ProposalRow
from messaging.relay.assistants.tables import AssistantReleaseRow, AssistantReportRow
from messaging.relay.attachments.tables import AttachmentRow, PieceRow, hash_key
from messaging.relay.database import Base, Database
from messaging.relay.delivery.wakeups import LocalWakeups
from messaging.relay.grants import GrantRow
from messaging.relay.keys.generation import GenerationRow
from messaging.relay.keys.tables import (
    LastResortKyberPreKeyRow,
    OneTimeKyberPreKeyRow,
    OneTimePreKeyRow,
    SignedPreKeyRow,
)
from messaging.relay.messages.idempotency import RememberedSendRow
from messaging.relay.messages.reports import REPORT_LIFETIME, SpamReportRow, hash_reporter
from messaging.relay.messages.tables import (
    EnvelopeRow,
    NewEnvelope,
    PayloadRow,
    append_envelopes,
    create_mailbox,
    insert_gaps,
)
from messaging.relay.metrics import Figures
from messaging.relay.node_tables import NodeRow
from messaging.relay.nodes import State, database_time
from messaging.relay.operator_settings import LIMITS, REMOTE_CONFIG, write_setting
from messaging.relay.profiles.tables import ProfileRow
from messaging.relay.server_secret import ServerSecret
from messaging.wire.envelope import Envelope, EnvelopeType, encode_envelope
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import MAX_DELIVERIES

DAY = 24 * 60 * 60 * 1000
SECRET = ServerSecret.derive(b"s" * 32)
AUDIT = frozenset({"audit_entries", "audit_turn"})
CONTENT = b"CANARY of what nobody may see"
NUMBER = "+4915550000101"


@dataclass
class Resident:
    """An account. ``devices`` are mailboxes by device id."""

    id: int
    aci: UUID
    devices: dict[int, int]
    number: str | None = None


@dataclass
class Town:
    """Who lives there, and a desk that looks at all of it. ``now`` is in milliseconds since 1970."""

    desk: Desk
    now: int
    people: list[Resident] = field(default_factory=list)
    bots: list[Resident] = field(default_factory=list)
    suspended: list[Resident] = field(default_factory=list)
    assistants: list[Resident] = field(default_factory=list)
    deleted: UUID = field(default_factory=uuid4)
    invites: list[int] = field(default_factory=list)
    nodes: list[UUID] = field(default_factory=list)
    operators: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def operator(self, role: Role = Role.OWNER) -> Operator:
        """The first operator, as somebody with this role."""
        return Operator(self.operators[0], "olga", GRANTED[role], "api", fresh=True)


async def a_town(database: Database) -> Town:
    """Populate an empty database."""
    now = time.time_ns() // 1_000_000
    desk = Desk(database, database.writer.url, LocalWakeups(), SECRET, None, lambda: now)
    town = Town(desk, now)
    async with database.begin() as db:
        for place in range(3):
            town.people.append(await a_resident(db, town, number=f"{NUMBER[:-1]}{place}", devices=3))
        town.bots = [await a_resident(db, town, role="bot") for _ in range(2)]
        town.suspended = [await a_resident(db, town, suspended_at=now - DAY) for _ in range(2)]
        town.assistants = [await a_resident(db, town, assistant_name=name) for name in ("rose", "thorn")]
        await update_account(db, town.assistants[1].id, {"drained": True})
        await _belongings(db, town)
        await _server(db, town)
    return town


async def a_resident(
    db: AsyncConnection, town: Town, *, number: str | None = None, devices: int = 1, **columns: Any
) -> Resident:
    """An account with devices, keys, and mail: of each device three envelopes, of which one is parked."""
    aci, today = uuid4(), day_of(town.now)
    number = number or f"+4915559{uuid4().int % 10**8:08}"
    values = {
        "aci": aci,
        "aci_identity_key": b"\x05" * 33,
        "unrestricted_access": False,
        "created_on": today,
        **columns,
    }
    if "assistant_name" not in columns:
        values |= {"pni": uuid4(), "pni_identity_key": b"\x05" * 33, "number_hash": SECRET.number_hash(number)}
    resident = Resident(await insert_account(db, values), aci, {}, number)
    for device_id in range(1, devices + 1):
        mailbox = resident.devices[device_id] = await create_mailbox(db)
        device: dict[str, Any] = {
            "account_id": resident.id,
            "device_id": device_id,
            "mailbox_id": mailbox,
            "registration_id": 7,
        }
        device |= {"password_salt": b"s", "password_hash": b"h", "name": b"n" * 9, "capabilities": {"spqr": True}}
        await db.execute(insert(DeviceRow).values({**device, "created_on": today, "seen_on": today}))
        await _keys(db, resident.id, device_id)
        await _mail(db, town, resident, mailbox)
    return resident


async def _keys(db: AsyncConnection, account_id: int, device_id: int) -> None:
    for row in (SignedPreKeyRow, LastResortKyberPreKeyRow, OneTimeKyberPreKeyRow, OneTimePreKeyRow):
        key = {"account_id": account_id, "device_id": device_id, "identity": "aci", "key_id": 1, "public_key": b"k"}
        signature = {} if row is OneTimePreKeyRow else {"signature": b"s"}
        await db.execute(insert(row).values({**key, **signature}))


async def _mail(db: AsyncConnection, town: Town, resident: Resident, mailbox: int) -> None:
    payload_id = mailbox + 1000
    await db.execute(insert(PayloadRow).values(id=payload_id, expires_at=town.now + DAY, data=CONTENT))
    for place in range(3):
        envelope = Envelope(
            type=EnvelopeType.UNIDENTIFIED_SENDER,
            destination=ServiceId(resident.aci),
            guid=uuid4(),
            client_timestamp=1,
            server_timestamp=town.now - (2 - place) * DAY,
            content=CONTENT,
        )
        data, is_shared = encode_envelope(envelope), place == 1
        stored = NewEnvelope(data, b"p", payload_id) if is_shared else NewEnvelope(data)
        await append_envelopes(db, {mailbox: stored}, expires_at=town.now + DAY // 2 + place * 5 * DAY)
    row = EnvelopeRow
    parked = update(row).where(row.mailbox_id == mailbox, row.sequence == 1)
    await db.execute(parked.values(deliveries=MAX_DELIVERIES))
    await insert_gaps(db, [(mailbox, 1, 1)], reason="parked")


async def _belongings(db: AsyncConnection, town: Town) -> None:
    person, other, now = town.people[0], town.people[1], town.now
    avatar = hash_key("avatar")
    profile = {"account_id": person.id, "version": "v", "changed_at": now, "commitment": b"c" * 9, "name": b"n" * 81}
    await db.execute(insert(ProfileRow).values({**profile, "avatar": "avatar", "avatar_hash": avatar}))
    attachment = {"key_hash": avatar, "length": 50, "received": 50, "expires_at": now + DAY, "lasting": True}
    await db.execute(insert(AttachmentRow).values(attachment))
    await db.execute(insert(PieceRow).values(key_hash=avatar, start=0, size=50, name="piece"))
    username = {"username_hash": b"u" * 32, "account_id": person.id, "confirmed": True}
    await db.execute(insert(UsernameRow).values({**username, "link_handle": uuid4(), "encrypted_username": b"e" * 20}))
    for account in (person, town.bots[0]):
        grant = {"account_id": account.id, "limit_name": "messages", "size": 300.0, "refill": 0.5}
        await db.execute(insert(GrantRow).values(grant))
    for place, reporter in enumerate((other.aci, other.aci, town.bots[0].aci)):
        await a_report(db, town, person.aci, reporter, at=now - place * DAY)
    await a_report(db, town, other.aci, person.aci, at=now)
    await a_report(db, town, town.deleted, person.aci, at=now)
    tombstone = {"number_hash": b"t" * 32, "aci": town.deleted, "pni": uuid4(), "expires_at": now + DAY}
    await db.execute(insert(DeletedAccountRow).values(tombstone))
    # As it is after an account was begun anew by somebody who had not proved the number.
    await db.execute(
        insert(DeletedAccountRow).values(
            {**tombstone, "number_hash": SECRET.number_hash(person.number or ""), "aci": uuid4()}
        )
    )
    session = {
        "id_hash": b"v",
        "number_hash": SECRET.number_hash(person.number or ""),
        "sealed_number": b"n",
        "attempts": 1,
    }
    session |= {"expires_at": now + DAY, "verified": True, "codes_sent": 1, "next_code_at": 0, "code_expires_at": 0}
    await db.execute(insert(VerificationSessionRow).values(session))
    token = {"token_hash": b"l", "account_id": person.id, "device_id": 2, "expires_at": now + DAY}
    await db.execute(insert(UsedLinkTokenRow).values(token))
    for assistant in town.assistants:
        report = {"account_id": assistant.id, "reported_at": now, "bundle": b"b" * 40, "load": {"running": 1}}
        await db.execute(insert(AssistantReportRow).values(report))
        release = {"account_id": assistant.id, "release": "1.0", "measurement": b"m" * 48}
        await db.execute(insert(AssistantReleaseRow).values({**release, "first_seen_at": now, "last_seen_at": now}))
    for terms in (
        Terms(AccountRole.MEMBER, 3, DAY),
        Terms(AccountRole.BOT, 1, DAY),
        Terms(AccountRole.MEMBER, 1, DAY, person.number),
    ):
        town.invites.append((await make_invite(db, SECRET, terms, now=now)).invite.id)


async def a_report(db: AsyncConnection, town: Town, reported: UUID, reporter: UUID, *, at: int) -> None:
    """A report of spam, taken at this time."""
    values = {
        "reported": reported,
        "report_hash": uuid4().bytes,
        "reporter_hash": hash_reporter(town.desk.secret, reporter),
    }
    await db.execute(insert(SpamReportRow).values({**values, "expires_at": at + REPORT_LIFETIME}))


async def _server(db: AsyncConnection, town: Town) -> None:
    now, person = town.now, town.people[0]
    await db.execute(insert(ProvisioningRow).values(address_hash=b"a", message=b"m", expires_at=now - 1))
    sent = {"key_hash": b"k", "request_hash": b"r", "answer": b"a", "expires_at": now - 1}
    await db.execute(insert(RememberedSendRow).values(sent))
    await db.execute(insert(GenerationRow).values(relay=uuid4(), number=3))
    figures = Figures(sweeps=4, swept_rows=9).snapshot({"sockets": 2}).as_document()
    for place, name in enumerate(("north", "south", "west")):
        node = uuid4()
        values = {"id": node, "name": name, "version": "1", "started_at": 1, "seen_at": await database_time(db)}
        values |= {"state": State.READY.value, "drain_asked_at": 1 if place == 2 else None, "figures": figures}
        await db.execute(insert(NodeRow).values(values))
        town.nodes.append(node)
    document = {"everybody": {"messages": {"size": 100.0, "refill": 2.0}}}
    for version in range(2):
        await write_setting(db, LIMITS, document if version else {}, after=version, at=now, by="olga")
        value = {"value": "on", "percentage": 5 + version, "accounts": [str(person.aci)]}
        await write_setting(db, REMOTE_CONFIG, {"new.look": value}, after=version, at=now, by="olga")
    for place, name in enumerate(("olga", "otto", "sam")):
        operator = {"handle": uuid4().bytes * 2, "name": name, "folded_name": name, "created_at": now}
        role = (Role.OWNER if place < 2 else Role.SUPPORT).value
        found = await db.execute(insert(OperatorRow).values({**operator, "role": role}).returning(OperatorRow.id))
        town.operators.append(found.scalar_one())
    for number in town.operators:
        key = {
            "credential_id": uuid4().bytes,
            "operator_id": number,
            "public_key": b"k",
            "sign_count": 0,
            "name": "key",
        }
        await db.execute(insert(PasskeyRow).values({**key, "created_at": now}))
        await db.execute(insert(RecoveryCodeRow).values(code_hash=uuid4().bytes, operator_id=number))
        sign_in = {
            "id_hash": uuid4().bytes * 2,
            "operator_id": number,
            "method": "passkey",
            "browser": "Firefox on Linux",
        }
        await db.execute(insert(SignInRow).values({**sign_in, "began_at": now, "seen_at": now}))
        token = {"token_hash": uuid4().bytes, "operator_id": number, "name": "script", "permissions": "health.see"}
        token |= {"created_at": now, "expires_at": now + DAY, "revoked": False}
        town.tokens.append((await db.execute(insert(TokenRow).values(token).returning(TokenRow.id))).scalar_one())
    enrolment = {"code_hash": b"e", "role": "viewer", "made_by": "olga", "expires_at": now + DAY}
    await db.execute(insert(EnrolmentRow).values(enrolment))
    await db.execute(insert(ChallengeRow).values(challenge_hash=b"c", purpose="sign in", expires_at=now + DAY))
    await db.execute(insert(TryRow).values(who_hash=b"w", minute=1, count=1))
    proposal = {"action": "accounts.delete", "parameters": {"aci": str(person.aci)}, "reason": "asked", "at": now}
    proposal |= {"subject": account_subject(person.aci), "operator_id": town.operators[1], "operator": "otto"}
    await db.execute(insert(ProposalRow).values(proposal))


async def dump(database: Database) -> dict[str, Counter[str]]:
    """Every row of every table but those of the audit log."""
    async with database.read() as db:
        return {
            table.name: Counter([repr(tuple(row)) for row in await db.execute(select(table))])
            for table in Base.metadata.sorted_tables
            if table.name not in AUDIT
        }


async def refuse_entries(database: Database) -> None:
    """Let nothing be added to the audit log any more."""
    statements = ["CREATE TRIGGER no_entries BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(ABORT, 'no'); END"]
    async with database.begin() as db:
        if db.dialect.name == "postgresql":
            function = "CREATE FUNCTION no_entries() RETURNS trigger LANGUAGE plpgsql AS"
            statements = [
                f"{function} $$ BEGIN RAISE EXCEPTION 'no'; END $$",
                "CREATE TRIGGER no_entries BEFORE INSERT ON audit_entries EXECUTE FUNCTION no_entries()",
            ]
        for statement in statements:
            await db.execute(text(statement))
