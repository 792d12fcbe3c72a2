"""Everything that the server holds about one account, table by table, as an authority would get it; and what it does not hold.

A table that says something about accounts stands in ``COVERED``, any other in ``NOT_LINKED`` with the reason: a test fails for one
that is in neither. Of keys, tokens and ciphertext the report has counts and sizes.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Text, case, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.authentication import day_of
from messaging.relay.accounts.invite_tables import InviteRow
from messaging.relay.accounts.linking_tables import UsedLinkTokenRow
from messaging.relay.accounts.tables import (
    Account,
    AccountRow,
    DeletedAccountRow,
    Device,
    DeviceRow,
    VerificationSessionRow,
    devices_of,
    find_account,
    number_hash_of,
)
from messaging.relay.accounts.usernames import UsernameRow
from messaging.relay.admin.account_facts import kind_of, profile_size
from messaging.relay.admin.audit_tables import AuditRow
from messaging.relay.admin.desk import account_subject
from messaging.relay.admin.parameters import day_text
from messaging.relay.admin.proposals import ProposalRow
from messaging.relay.assistants.tables import AssistantReleaseRow, AssistantReportRow
from messaging.relay.attachments.tables import AttachmentRow, PieceRow
from messaging.relay.grants import grants_of
from messaging.relay.keys.tables import (
    LastResortKyberPreKeyRow,
    OneTimeKyberPreKeyRow,
    OneTimePreKeyRow,
    SignedPreKeyRow,
)
from messaging.relay.messages.reports import REPORT_LIFETIME, SpamReportRow, hash_reporter
from messaging.relay.messages.tables import EnvelopeRow, GapRow, MailboxRow, PayloadRow, is_parked
from messaging.relay.operator_settings import REMOTE_CONFIG, SettingRow, read_setting
from messaging.relay.profiles.tables import ProfileRow
from messaging.relay.server_secret import ServerSecret
from messaging.wire.envelope import decode_envelope
from messaging.wire.identifiers import ServiceId
from messaging.wire.json import Entity

NOT_HELD: Final = (
    "The content of any message, file, group or profile: the server has ciphertext and no key of a user's.",
    "The telephone number: the server has a keyed hash, by which a number that is given can be compared.",
    "The name, picture, contacts, groups and conversations.",
    "Who wrote to the account under sealed sender, and to whom it wrote: what was delivered is forgotten.",
    "Network addresses, and times of use: of each device the day on which it was last seen is kept.",
    "What was asked of an assistant, and what it answered.",
    "Which invite it used, and which attachments it sent or fetched: neither is written down.",
)

NOT_LINKED: Final[Mapping[str, str]] = {
    "admin_tokens": "Tokens of operators.",
    "audit_turn": "How many entries the audit log has.",
    "challenges": "Sign-ins of operators that have begun.",
    "enrolments": "Operators that are to come.",
    "generations": "How far relay processes are with one-time prekeys.",
    "nodes": "Relay processes and their figures.",
    "operators": "Operators.",
    "passkeys": "Passkeys of operators.",
    "provisioning": "Addresses at which new devices wait, as hashes; whose they are going to be is not known.",
    "recovery_codes": "Recovery codes of operators.",
    "remembered_sends": "Sends under a key that their client chose, as hashes; whose they were cannot be told without that key.",
    "sign_in_tries": "Failed tries of operators to sign in.",
    "sign_ins": "Operators who are signed in.",
}


class Held(Entity):
    """What one table holds about the account: rows, and what they say. Times are milliseconds since 1970, days are UTC."""

    table: str
    what: str
    rows: int
    facts: dict[str, Any]


class AccountReport(Entity):
    """The report. ``exists``: the account is registered; of one that is not, what is left is reported."""

    aci: UUID
    at: int
    exists: bool
    held: tuple[Held, ...]
    not_held: tuple[str, ...] = NOT_HELD


@dataclass(frozen=True, slots=True)
class _Subject:
    """Whom it is about. Without ``account`` there is none with this ACI."""

    secret: ServerSecret = field(repr=False)
    aci: UUID
    account: Account | None
    number_hash: bytes | None = field(repr=False)
    devices: tuple[Device, ...]
    now: int

    @property
    def id(self) -> int:
        """The row id; no account has 0."""
        return 0 if self.account is None else self.account.id

    @property
    def mailboxes(self) -> list[int]:
        """The mailboxes of its devices."""
        return [device.mailbox_id for device in self.devices]


_Found = tuple[int, dict[str, Any]]  # rows, and what they say
_Look = Callable[[AsyncConnection, _Subject], Awaitable[_Found]]


async def report_account(db: AsyncConnection, secret: ServerSecret, aci: UUID, *, now: int) -> AccountReport:
    """The report on whoever has, or had, this ACI."""
    account = await find_account(db, ServiceId(aci))
    number_hash = None if account is None else await number_hash_of(db, account.id)
    devices = () if account is None else tuple(await devices_of(db, account.id))
    subject = _Subject(secret, aci, account, number_hash, devices, now)
    held = []
    for table, (what, look) in COVERED.items():
        rows, facts = await look(db, subject)
        held.append(Held(table=table, what=what, rows=rows, facts=facts))
    return AccountReport(aci=aci, at=now, exists=account is not None, held=tuple(held))


async def _account(db: AsyncConnection, subject: _Subject) -> _Found:
    row = AccountRow
    query = select(
        row.assistant_name,
        row.created_on,
        row.discoverable,
        row.lock_hash.is_not(None),
        row.recovery_hash.is_not(None),
        row.accepting,
        row.drained,
    ).where(row.id == subject.id)
    found, account = (await db.execute(query)).one_or_none(), subject.account
    if found is None or account is None:
        return 0, {}
    assistant, created_on, discoverable, locked, recovery, accepting, drained = found
    keys = (account.aci_identity_key, account.pni_identity_key)
    facts = {
        "aci": str(account.aci),
        "pni": None if account.pni is None else str(account.pni),
        "kind": kind_of(account.role, assistant),
        "role": account.role,
        "created": day_text(created_on),
        "suspendedAt": account.suspended_at,
        "numberKeptAsHash": subject.number_hash is not None,
        "foundByNumber": bool(discoverable),
        "publicIdentityKeys": sum(key is not None for key in keys),
        "accessKey": account.access_key is not None,
        "sealedSenderFromAnyone": account.unrestricted_access,
        "registrationLock": bool(locked),
        "recoveryPassword": bool(recovery),
    }
    if assistant is not None:
        facts |= {"assistant": assistant, "accepting": bool(accepting), "drained": bool(drained)}
    return 1, facts


async def _devices(db: AsyncConnection, subject: _Subject) -> _Found:
    row = DeviceRow
    query = select(
        row.device_id,
        row.registration_id,
        row.pni_registration_id,
        func.coalesce(func.length(row.name), 0),
        row.capabilities,
        row.created_on,
        row.seen_on,
    )
    devices = [
        {
            "deviceId": device_id,
            "registrationId": registration_id,
            "pniRegistrationId": pni_registration_id,
            "encryptedNameBytes": name,
            "capabilities": sorted(each for each, has in capabilities.items() if has),
            "created": day_text(created_on),
            "lastSeen": day_text(seen_on),
        }
        for device_id, registration_id, pni_registration_id, name, capabilities, created_on, seen_on in await db.execute(
            query.where(row.account_id == subject.id).order_by(row.device_id)
        )
    ]
    return len(devices), {"devices": devices, "passwords": "kept as salted hashes"}


_Keys = type[SignedPreKeyRow | LastResortKyberPreKeyRow | OneTimePreKeyRow | OneTimeKyberPreKeyRow]


def _prekeys(row: _Keys) -> _Look:
    async def look(db: AsyncConnection, subject: _Subject) -> _Found:
        query = select(row.device_id, row.identity, func.count()).where(row.account_id == subject.id)
        found = (await db.execute(query.group_by(row.device_id, row.identity).order_by(row.device_id))).all()
        counts = [{"deviceId": device, "identity": identity, "keys": count} for device, identity, count in found]
        return sum(count for _, _, count in found), {"publicKeys": counts}

    return look


async def _mailboxes(db: AsyncConnection, subject: _Subject) -> _Found:
    row, of_device = MailboxRow, {device.mailbox_id: device.device_id for device in subject.devices}
    query = select(row.id, row.last_sequence, row.connections, row.version).where(row.id.in_(subject.mailboxes))
    boxes = [
        {"deviceId": of_device[box], "envelopesEver": last, "connectionsEver": connections, "changes": version}
        for box, last, connections, version in await db.execute(query.order_by(row.id))
    ]
    return len(boxes), {"mailboxes": boxes}


async def _envelopes(db: AsyncConnection, subject: _Subject) -> _Found:
    row, total, devices = EnvelopeRow, 0, []
    size = func.length(row.data) + func.coalesce(func.length(row.prefix), 0)
    parked = func.sum(case((is_parked(), 1), else_=0))
    for device in subject.devices:
        mine = row.mailbox_id == device.mailbox_id
        query = select(func.count(), func.sum(size), parked, func.min(row.sequence), func.max(row.sequence)).where(mine)
        count, size_of_all, parked_of_all, first, last = (await db.execute(query)).one()
        if count == 0:
            continue
        ends = select(row.data).where(mine, row.sequence.in_([first, last])).order_by(row.sequence)
        days = [day_text(day_of(decode_envelope(data).server_timestamp)) for data in await db.scalars(ends)]
        facts = {"deviceId": device.device_id, "waiting": count, "waitingBytes": int(size_of_all)}
        devices.append({**facts, "parked": int(parked_of_all), "oldestDay": days[0], "newestDay": days[-1]})
        total += count
    return total, {"devices": devices}


async def _payloads(db: AsyncConnection, subject: _Subject) -> _Found:
    row, envelope = PayloadRow, EnvelopeRow
    mine = select(envelope.payload_id).where(
        envelope.mailbox_id.in_(subject.mailboxes), envelope.payload_id.is_not(None)
    )
    query = select(func.count(), func.coalesce(func.sum(func.length(row.data)), 0)).where(row.id.in_(mine))
    count, size = (await db.execute(query)).one()
    return count, {"sharedBytes": int(size)}


async def _gaps(db: AsyncConnection, subject: _Subject) -> _Found:
    row = GapRow
    missed = func.sum(row.last - row.first + 1)
    query = select(row.reason, func.count(), missed).where(row.mailbox_id.in_(subject.mailboxes)).group_by(row.reason)
    found = (await db.execute(query.order_by(row.reason))).all()
    return sum(count for _, count, _ in found), {"envelopesMissed": {reason: int(total) for reason, _, total in found}}


async def _profiles(db: AsyncConnection, subject: _Subject) -> _Found:
    row = ProfileRow
    query = select(row.changed_at, profile_size(), row.avatar.is_not(None)).where(row.account_id == subject.id)
    versions = [
        {"changedAt": changed_at, "encryptedBytes": size, "avatar": bool(avatar)}
        for changed_at, size, avatar in await db.execute(query.order_by(row.changed_at))
    ]
    return len(versions), {"versions": versions}


async def _usernames(db: AsyncConnection, subject: _Subject) -> _Found:
    row = UsernameRow
    query = select(
        row.confirmed,
        row.expires_at,
        row.link_handle.is_not(None),
        func.coalesce(func.length(row.encrypted_username), 0),
    ).where(row.account_id == subject.id)
    hashes = [
        {"confirmed": bool(confirmed), "expiresAt": expires_at, "link": bool(link), "encryptedBytes": size}
        for confirmed, expires_at, link, size in await db.execute(query)
    ]
    return len(hashes), {"hashes": hashes}


def _avatars(subject: _Subject) -> Any:  # noqa: ANN401 - a select
    return select(ProfileRow.avatar_hash).where(
        ProfileRow.account_id == subject.id, ProfileRow.avatar_hash.is_not(None)
    )


async def _attachments(db: AsyncConnection, subject: _Subject) -> _Found:
    row = AttachmentRow
    query = select(row.length, row.received, row.expires_at).where(row.key_hash.in_(_avatars(subject)))
    avatars = [
        {"encryptedBytes": length, "receivedBytes": received, "expiresAt": expires_at}
        for length, received, expires_at in await db.execute(query)
    ]
    return len(avatars), {"avatars": avatars, "others": "whose they are is not stored"}


async def _pieces(db: AsyncConnection, subject: _Subject) -> _Found:
    row = PieceRow
    query = select(func.count(), func.coalesce(func.sum(row.size), 0)).where(row.key_hash.in_(_avatars(subject)))
    count, size = (await db.execute(query)).one()
    return count, {"encryptedBytes": int(size)}


async def _invites(db: AsyncConnection, subject: _Subject) -> _Found:
    if subject.number_hash is None:
        return 0, {}
    row = InviteRow
    query = select(row.id, row.role, row.created_at, row.expires_at, row.uses_left, row.revoked)
    bound = [
        {"id": number, "role": role, "createdAt": created, "expiresAt": expires, "usesLeft": uses, "revoked": revoked}
        for number, role, created, expires, uses, revoked in await db.execute(
            query.where(row.number_hash == subject.number_hash).order_by(row.id)
        )
    ]
    return len(bound), {"boundToItsNumber": bound}


async def _reports(db: AsyncConnection, subject: _Subject) -> _Found:
    row, made_by = SpamReportRow, hash_reporter(subject.secret, subject.aci)
    against = select(
        func.count(),
        func.count(row.reporter_hash.distinct()),
        func.min(row.expires_at),
        func.max(row.expires_at),
    ).where(row.reported == subject.aci)
    of_account: tuple[Any, ...] = (await db.execute(against)).one()
    count, reporters, first, last = of_account
    made = (await db.execute(select(func.count()).select_from(row).where(row.reporter_hash == made_by))).scalar_one()
    return count + made, {
        "against": count,
        "differentReporters": reporters,
        "firstAt": None if first is None else first - REPORT_LIFETIME,
        "lastAt": None if last is None else last - REPORT_LIFETIME,
        "madeByIt": made,
    }


async def _granted(db: AsyncConnection, subject: _Subject) -> _Found:
    found = await grants_of(db, subject.id)
    return len(found), {
        "limits": [{"limit": name, "atOnce": each.size, "refillSeconds": each.refill} for name, each in found]
    }


async def _tombstones(db: AsyncConnection, subject: _Subject) -> _Found:
    row = DeletedAccountRow
    own = _either(row.aci == subject.aci, row.number_hash, subject.number_hash)
    found = list(await db.scalars(select(row.expires_at).where(own)))
    return len(found), {"tombstones": [{"expiresAt": expires_at} for expires_at in found]}


async def _sessions(db: AsyncConnection, subject: _Subject) -> _Found:
    row = VerificationSessionRow
    own = _either(row.account_id == subject.id, row.number_hash, subject.number_hash)
    query = select(row.verified, row.codes_sent, row.attempts, row.expires_at).where(own)
    sessions = [
        {"verified": bool(verified), "codesSent": codes, "attempts": attempts, "expiresAt": expires_at}
        for verified, codes, attempts, expires_at in await db.execute(query)
    ]
    return len(sessions), {"sessions": sessions, "number": "sealed until the session ends"}


def _either(own: ColumnElement[bool], column: Any, number_hash: bytes | None) -> ColumnElement[bool]:  # noqa: ANN401
    return own if number_hash is None else or_(own, column == number_hash)


async def _link_tokens(db: AsyncConnection, subject: _Subject) -> _Found:
    row = UsedLinkTokenRow
    query = select(row.device_id, row.expires_at).where(row.account_id == subject.id).order_by(row.device_id)
    used = [{"deviceId": device_id, "expiresAt": expires_at} for device_id, expires_at in await db.execute(query)]
    return len(used), {"used": used}


async def _assistant_reports(db: AsyncConnection, subject: _Subject) -> _Found:
    row = AssistantReportRow
    size = func.coalesce(func.length(row.bundle), 0)
    found = (
        await db.execute(select(row.reported_at, size, row.load).where(row.account_id == subject.id))
    ).one_or_none()
    if found is None:
        return 0, {}
    return 1, {"reportedAt": found[0], "evidenceBytes": found[1], "load": found[2]}


async def _assistant_releases(db: AsyncConnection, subject: _Subject) -> _Found:
    row = AssistantReleaseRow
    query = select(row.release, row.first_seen_at, row.last_seen_at).where(row.account_id == subject.id)
    releases = [
        {"release": release, "firstSeenAt": first, "lastSeenAt": last}
        for release, first, last in await db.execute(query.order_by(row.last_seen_at))
    ]
    return len(releases), {"releases": releases}


async def _settings(db: AsyncConnection, subject: _Subject) -> _Found:
    row = SettingRow
    named = cast(row.document, Text).contains(str(subject.aci))
    query = select(func.count()).select_from(row).where(row.name == REMOTE_CONFIG, named)
    versions = (await db.execute(query)).scalar_one()
    setting = await read_setting(db, REMOTE_CONFIG)
    values = {} if setting is None else setting.document
    own = sorted(name for name, each in values.items() if each and str(subject.aci) in each.get("accounts", ()))
    return versions, {"valuesForItNow": own}


async def _audit(db: AsyncConnection, subject: _Subject) -> _Found:
    row = AuditRow
    query = select(func.count(), func.min(row.at), func.max(row.at)).where(row.subject == account_subject(subject.aci))
    count, first, last = (await db.execute(query)).one()
    return count, {"firstAt": first, "lastAt": last}


async def _proposals(db: AsyncConnection, subject: _Subject) -> _Found:
    row = ProposalRow
    query = select(row.action, row.at).where(row.subject == account_subject(subject.aci)).order_by(row.id)
    found = [{"action": action, "at": at} for action, at in await db.execute(query)]
    return len(found), {"proposals": found}


COVERED: Final[Mapping[str, tuple[str, _Look]]] = {
    "accounts": ("The account", _account),
    "devices": ("Its devices", _devices),
    "signed_prekeys": ("Public signed prekeys", _prekeys(SignedPreKeyRow)),
    "last_resort_kyber_prekeys": ("Public Kyber prekeys of last resort", _prekeys(LastResortKyberPreKeyRow)),
    "one_time_prekeys": ("Public one-time prekeys that nobody has fetched yet", _prekeys(OneTimePreKeyRow)),
    "one_time_kyber_prekeys": ("The same for Kyber", _prekeys(OneTimeKyberPreKeyRow)),
    "mailboxes": ("The queue of each device", _mailboxes),
    "envelopes": ("Encrypted messages that its devices have not fetched yet", _envelopes),
    "payloads": ("Parts of them that several recipients share", _payloads),
    "gaps": ("Messages that its devices are still to be told they missed", _gaps),
    "profiles": ("Versions of its profile, encrypted", _profiles),
    "usernames": ("Hashes of usernames that it has, had or reserved", _usernames),
    "attachments": ("The avatar of its profile, encrypted", _attachments),
    "attachment_pieces": ("Pieces of that avatar in the storage", _pieces),
    "invites": ("Invites that are bound to its number", _invites),
    "spam_reports": ("Reports of spam in the last 30 days", _reports),
    "grants": ("Limits that an operator has granted to it", _granted),
    "deleted_accounts": ("What keeps its ids for who has its number, after it was deleted", _tombstones),
    "verification_sessions": ("Verifications of its number that have not expired", _sessions),
    "used_link_tokens": ("Devices that were linked in the last minutes", _link_tokens),
    "assistant_reports": ("What it says of itself, if it is an assistant", _assistant_reports),
    "assistant_releases": ("Releases that it has named, if it is an assistant", _assistant_releases),
    "operator_settings": ("Versions of the remote configuration that name it", _settings),
    "audit_entries": ("Entries of the audit log about it, this look included", _audit),
    "proposals": ("What operators have proposed to do with it", _proposals),
}
