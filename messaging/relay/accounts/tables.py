"""Tables of accounts, devices and verification sessions, with the queries on them.

A phone number is stored as a keyed hash only; while a verification session lives, also sealed under a key that is not in
the database. Times are milliseconds since 1970.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    LargeBinary,
    SmallInteger,
    String,
    Uuid,
    delete,
    exists,
    false,
    func,
    insert,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.accounts.invites import Role
from messaging.relay.accounts.passwords import PasswordHash
from messaging.relay.database import Base, RowId, in_postgresql, in_sqlite, index_of_some
from messaging.relay.http import Caller
from messaging.relay.messages.tables import MailboxRow, change_versions
from messaging.wire.identifiers import IdentityKind, ServiceId

_AT_ONCE = 1000  # rows asked for in one statement


class AccountRow(Base):
    """An account: of a person, by the hash of a number, or of an assistant, by a name."""

    __tablename__ = "accounts"
    __table_args__ = (
        index_of_some("ix_accounts_bots", "id", where="role = 'bot'"),
        index_of_some("ix_accounts_suspended", "id", where="suspended_at IS NOT NULL"),
        {"sqlite_autoincrement": True},
    )
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    aci: Mapped[UUID] = mapped_column(Uuid, unique=True)
    pni: Mapped[UUID | None] = mapped_column(Uuid, unique=True)
    number_hash: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    assistant_name: Mapped[str | None] = mapped_column(String(64), unique=True)
    aci_identity_key: Mapped[bytes] = mapped_column(LargeBinary)
    pni_identity_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    access_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    unrestricted_access: Mapped[bool]
    discoverable: Mapped[bool] = mapped_column(server_default=true())
    created_on: Mapped[int] = mapped_column(BigInteger, server_default="0")  # the day's first millisecond
    lock_salt: Mapped[bytes | None] = mapped_column(LargeBinary)
    lock_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    recovery_salt: Mapped[bytes | None] = mapped_column(LargeBinary)
    recovery_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    role: Mapped[str | None] = mapped_column(String(16), server_default="member")  # accounts.invites.Role
    accepting: Mapped[bool] = mapped_column(server_default=true())  # of an assistant: it does not drain
    drained: Mapped[bool] = mapped_column(
        server_default=false()
    )  # of an assistant: an operator lets it have nothing new
    suspended_at: Mapped[int | None] = mapped_column(BigInteger)  # by an operator; milliseconds since 1970


class DeviceRow(Base):
    """A device. ``mailbox_id`` is new at each registration, and so tells one registration from the next."""

    __tablename__ = "devices"
    account_id: Mapped[int] = mapped_column(RowId, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    device_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    mailbox_id: Mapped[int] = mapped_column(RowId, ForeignKey("mailboxes.id"), unique=True)
    registration_id: Mapped[int] = mapped_column(SmallInteger)
    pni_registration_id: Mapped[int | None] = mapped_column(SmallInteger)
    password_salt: Mapped[bytes] = mapped_column(LargeBinary)
    password_hash: Mapped[bytes] = mapped_column(LargeBinary)
    name: Mapped[bytes | None] = mapped_column(LargeBinary)  # encrypted by the device
    capabilities: Mapped[dict[str, bool]] = mapped_column(JSON)
    created_on: Mapped[int] = mapped_column(BigInteger, server_default="0")  # the day's first millisecond
    seen_on: Mapped[int] = mapped_column(BigInteger, server_default="0")  # the same of the day it was last seen


class DeletedAccountRow(Base):
    """A tombstone: whoever registers the number again soon is the same account to everybody else (Signal-Server)."""

    __tablename__ = "deleted_accounts"
    number_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    aci: Mapped[UUID] = mapped_column(Uuid, index=True)
    pni: Mapped[UUID | None] = mapped_column(Uuid)
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)


class VerificationSessionRow(Base):
    """A verification session; its id, which whoever holds it may use, is kept as a hash."""

    __tablename__ = "verification_sessions"
    id_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    number_hash: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_number: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)
    verified: Mapped[bool]
    codes_sent: Mapped[int] = mapped_column(SmallInteger)
    next_code_at: Mapped[int] = mapped_column(BigInteger)
    code_mac: Mapped[bytes | None] = mapped_column(LargeBinary)
    code_expires_at: Mapped[int] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(SmallInteger)
    role: Mapped[str | None] = mapped_column(String(16))
    new_account_only: Mapped[bool] = mapped_column(server_default=false())
    account_id: Mapped[int | None] = mapped_column(BigInteger)  # the one that the session has registered


@dataclass(frozen=True, slots=True)
class Account:
    """What the other domains need to know of an account."""

    id: int
    aci: UUID
    pni: UUID | None
    aci_identity_key: bytes
    pni_identity_key: bytes | None
    access_key: bytes | None = field(repr=False)
    unrestricted_access: bool
    role: str | None
    suspended_at: int | None

    @property
    def is_suspended(self) -> bool:
        """Whether an operator has stopped it: it may neither connect nor send."""
        return self.suspended_at is not None

    @property
    def is_bot(self) -> bool:
        """Whether others are to see that no person writes here."""
        return self.role == Role.BOT

    @property
    def is_assistant(self) -> bool:
        """Whether it has no number: every person's account has one."""
        return self.pni is None

    def identity_key(self, kind: IdentityKind) -> bytes | None:
        """The public identity key of one identity; ``None`` for the PNI of an account without a number."""
        return self.aci_identity_key if kind is IdentityKind.ACI else self.pni_identity_key


@dataclass(frozen=True, slots=True)
class Device:
    """What the other domains need to know of a device."""

    device_id: int
    mailbox_id: int
    registration_id: int
    pni_registration_id: int | None

    def registration_id_for(self, kind: IdentityKind) -> int:
        """The registration id under one identity."""
        number = self.registration_id if kind is IdentityKind.ACI else self.pni_registration_id
        return 0 if number is None else number


_ACCOUNT = (
    AccountRow.id,
    AccountRow.aci,
    AccountRow.pni,
    AccountRow.aci_identity_key,
    AccountRow.pni_identity_key,
    AccountRow.access_key,
    AccountRow.unrestricted_access,
    AccountRow.role,
    AccountRow.suspended_at,
)


async def find_account(db: AsyncConnection, service_id: ServiceId) -> Account | None:
    """The account that ``service_id`` names."""
    column = AccountRow.aci if service_id.kind is IdentityKind.ACI else AccountRow.pni
    found = (await db.execute(select(*_ACCOUNT).where(column == service_id.uuid))).one_or_none()
    return None if found is None else Account(*found)


async def find_accounts(db: AsyncConnection, service_ids: Iterable[ServiceId]) -> dict[ServiceId, Account]:
    """The accounts that exist, by the identity that names them."""
    found: dict[ServiceId, Account] = {}
    wanted = list(service_ids)
    for kind, column in ((IdentityKind.ACI, AccountRow.aci), (IdentityKind.PNI, AccountRow.pni)):
        uuids = [service_id.uuid for service_id in wanted if service_id.kind is kind]
        for start in range(0, len(uuids), _AT_ONCE):
            some = column.in_(uuids[start : start + _AT_ONCE])
            rows: list[tuple[Any, ...]] = [
                tuple(row) for row in await db.execute(select(column, *_ACCOUNT).where(some))
            ]
            for uuid, *account in rows:
                found[ServiceId(UUID(str(uuid)), kind)] = Account(*account)
    return found


async def find_account_by_id(db: AsyncConnection, account_id: int) -> Account | None:
    """The account with this row id."""
    found = (await db.execute(select(*_ACCOUNT).where(AccountRow.id == account_id))).one_or_none()
    return None if found is None else Account(*found)


async def lock_account(db: AsyncConnection, *, number_hash: bytes | None, assistant_name: str | None) -> Account | None:
    """The account with this number or this name, locked until the transaction ends."""
    owner = (
        AccountRow.assistant_name == assistant_name if number_hash is None else AccountRow.number_hash == number_hash
    )
    found = (await db.execute(select(*_ACCOUNT).where(owner).with_for_update())).one_or_none()
    return None if found is None else Account(*found)


async def number_has_account(db: AsyncConnection, number_hash: bytes) -> bool:
    """Whether an account with this number exists."""
    return bool((await db.execute(select(exists().where(AccountRow.number_hash == number_hash)))).scalar_one())


async def insert_account(db: AsyncConnection, values: dict[str, Any]) -> int:
    """Add an account; returns its row id."""
    added: int = (await db.execute(insert(AccountRow).values(values).returning(AccountRow.id))).scalar_one()
    return added


async def update_account(db: AsyncConnection, account_id: int, values: dict[str, Any]) -> None:
    """Change an account."""
    await db.execute(update(AccountRow).where(AccountRow.id == account_id).values(values))


@dataclass(frozen=True, slots=True)
class Assistant:
    """What everybody may know of an assistant, and the mailboxes of its devices.

    ``accepting``: it does not drain, and no operator has drained it.
    """

    name: str
    aci: UUID
    accepting: bool
    mailboxes: tuple[int, ...]


async def assistants(db: AsyncConnection) -> list[Assistant]:
    """All assistants, in the order of their names."""
    account, device = AccountRow, DeviceRow
    query = (
        select(account.assistant_name, account.aci, account.accepting & ~account.drained, device.mailbox_id)
        .outerjoin(device, device.account_id == account.id)
        .where(account.assistant_name.is_not(None))
        .order_by(account.assistant_name, device.device_id)
    )
    rows: list[tuple[Any, ...]] = [tuple(row) for row in await db.execute(query)]
    return [
        Assistant(name, aci, accepting, tuple(row[-1] for row in group if row[-1] is not None))
        for (name, aci, accepting), group in groupby(rows, key=lambda row: row[:-1])
    ]


async def set_accepting(db: AsyncConnection, account_id: int, name: str, *, accepting: bool) -> bool:
    """Note whether an assistant takes new requests; ``False`` if the account is not the assistant of this name."""
    row = AccountRow
    changed = update(row).where(row.id == account_id, row.assistant_name == name).values(accepting=accepting)
    return (await db.execute(changed)).rowcount > 0


async def devices_of(db: AsyncConnection, account_id: int) -> list[Device]:
    """All devices of an account, in the order of their ids."""
    row = DeviceRow
    query = select(row.device_id, row.mailbox_id, row.registration_id, row.pni_registration_id)
    found = await db.execute(query.where(row.account_id == account_id).order_by(row.device_id))
    return [Device(*columns) for columns in found]


async def mailboxes_of(db: AsyncConnection, acis: Collection[UUID]) -> dict[UUID, list[int]]:
    """The mailboxes of all devices of several accounts."""
    found: dict[UUID, list[int]] = {}
    ordered = sorted(acis)
    query = select(AccountRow.aci, DeviceRow.mailbox_id).join(DeviceRow, DeviceRow.account_id == AccountRow.id)
    for start in range(0, len(ordered), _AT_ONCE):
        for aci, mailbox_id in await db.execute(query.where(AccountRow.aci.in_(ordered[start : start + _AT_ONCE]))):
            found.setdefault(aci, []).append(mailbox_id)
    return found


async def find_listed(
    db: AsyncConnection, service_ids: Iterable[ServiceId]
) -> list[tuple[ServiceId, Account, tuple[Device, ...], dict[int, int]]]:
    """The accounts that exist, with their devices and the versions of these devices' mailboxes, all of one moment."""
    wanted, listed = list(service_ids), []
    device, mailbox = DeviceRow, MailboxRow
    columns = (device.device_id, device.mailbox_id, device.registration_id, device.pni_registration_id, mailbox.version)
    for kind, column in ((IdentityKind.ACI, AccountRow.aci), (IdentityKind.PNI, AccountRow.pni)):
        uuids = [service_id.uuid for service_id in wanted if service_id.kind is kind]
        for start in range(0, len(uuids), _AT_ONCE):
            query = (
                select(column, *_ACCOUNT, *columns)
                .outerjoin(device, device.account_id == AccountRow.id)
                .outerjoin(mailbox, mailbox.id == device.mailbox_id)
                .where(column.in_(uuids[start : start + _AT_ONCE]))
                .order_by(AccountRow.id, device.device_id)
            )
            rows: list[tuple[Any, ...]] = [tuple(row) for row in await db.execute(query)]
            for (uuid, *account), group in groupby(rows, key=lambda row: row[: 1 + len(_ACCOUNT)]):
                of_account = [row[1 + len(_ACCOUNT) :] for row in group]
                found = [each for each in of_account if each[0] is not None]
                devices = tuple(Device(*each[:4]) for each in found)
                versions = {each[1]: each[4] for each in found}
                listed.append((ServiceId(UUID(str(uuid)), kind), Account(*account), devices, versions))
    return listed


async def account_has_changed(db: AsyncConnection, account_id: int) -> None:
    """Tell those who plan sends from memory that what they know of an account, or of its devices, is out of date."""
    await change_versions(db, [device.mailbox_id for device in await devices_of(db, account_id)])


async def insert_device(db: AsyncConnection, values: dict[str, Any]) -> None:
    """Add a device."""
    await db.execute(insert(DeviceRow).values(values))


async def delete_devices(db: AsyncConnection, account_id: int) -> None:
    """Remove all devices of an account, and with them their prekeys."""
    await db.execute(delete(DeviceRow).where(DeviceRow.account_id == account_id))


async def delete_device(db: AsyncConnection, account_id: int, device_id: int) -> None:
    """Remove one device, and with it its prekeys."""
    row = DeviceRow
    await db.execute(delete(row).where(row.account_id == account_id, row.device_id == device_id))


async def update_device(db: AsyncConnection, account_id: int, device_id: int, values: dict[str, Any]) -> bool:
    """Change a device; ``False`` if there is none."""
    row = DeviceRow
    changed = update(row).where(row.account_id == account_id, row.device_id == device_id).values(values)
    return (await db.execute(changed)).rowcount > 0


async def lock_account_by_id(db: AsyncConnection, account_id: int) -> Account | None:
    """The account, locked until the transaction ends: its devices do not change meanwhile."""
    found = (await db.execute(select(*_ACCOUNT).where(AccountRow.id == account_id).with_for_update())).one_or_none()
    return None if found is None else Account(*found)


async def delete_account(db: AsyncConnection, account_id: int) -> None:
    """Remove an account and its devices; its mailboxes are removed by the caller."""
    await db.execute(delete(AccountRow).where(AccountRow.id == account_id))


@dataclass(frozen=True, slots=True)
class DeviceDetails:
    """What an account may know of its own devices. Days are milliseconds since 1970."""

    device_id: int
    name: bytes | None = field(repr=False)
    registration_id: int
    capabilities: dict[str, bool]
    created_on: int
    seen_on: int


async def device_details(db: AsyncConnection, account_id: int) -> list[DeviceDetails]:
    """All devices of an account, in the order of their ids."""
    row = DeviceRow
    query = select(row.device_id, row.name, row.registration_id, row.capabilities, row.created_on, row.seen_on)
    found = await db.execute(query.where(row.account_id == account_id).order_by(row.device_id))
    return [DeviceDetails(*columns) for columns in found]


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """What the relay keeps of an account beside keys: for its own report, and for who wants to register it anew."""

    created_on: int
    role: str | None
    discoverable: bool
    unrestricted_access: bool
    lock: PasswordHash | None = field(repr=False)
    recovery: PasswordHash | None = field(repr=False)
    seen_on: int


async def account_details(db: AsyncConnection, account_id: int) -> AccountDetails | None:
    """The details of an account; ``seen_on`` is that of the device seen last."""
    row = AccountRow
    seen_on = select(func.max(DeviceRow.seen_on)).where(DeviceRow.account_id == account_id).scalar_subquery()
    query = select(
        row.created_on,
        row.role,
        row.discoverable,
        row.unrestricted_access,
        row.lock_salt,
        row.lock_hash,
        row.recovery_salt,
        row.recovery_hash,
        seen_on,
    ).where(row.id == account_id)
    found = (await db.execute(query)).one_or_none()
    if found is None:
        return None
    created_on, role, discoverable, unrestricted, lock_salt, lock_hash, recovery_salt, recovery_hash, seen = found
    return AccountDetails(
        created_on,
        role,
        discoverable,
        unrestricted,
        lock=None if lock_hash is None else PasswordHash(lock_salt, lock_hash),
        recovery=None if recovery_hash is None else PasswordHash(recovery_salt, recovery_hash),
        seen_on=seen or 0,
    )


async def mailboxes_of_suspended(db: AsyncConnection, mailbox_ids: Collection[int]) -> set[int]:
    """Those of the mailboxes whose accounts are suspended."""
    joined = "devices JOIN accounts ON accounts.id = account_id"
    query = f"SELECT mailbox_id FROM {joined} WHERE suspended_at IS NOT NULL AND mailbox_id"  # noqa: S608 - texts of ours
    if db.dialect.name == "postgresql":  # one array, as where progress is read: this is asked with it
        rows = await in_postgresql(db, f"{query} = ANY($1::bigint[])", list(mailbox_ids))
    else:
        query = f"{query} IN (SELECT value FROM json_each(?))"  # noqa: S608 - a text of ours
        ids = json.dumps(list(mailbox_ids))
        rows = await in_sqlite(db, lambda connection: connection.execute(query, (ids,)).fetchall())
    return {mailbox_id for (mailbox_id,) in rows}


@dataclass(frozen=True, slots=True)
class AccountSummary:
    """An account in a list for operators. ``created_on`` is a day, in milliseconds since 1970."""

    id: int
    aci: UUID
    role: str | None
    assistant_name: str | None
    created_on: int
    suspended_at: int | None


async def account_summaries(
    db: AsyncConnection,
    *,
    aci: UUID | None = None,
    number_hash: bytes | None = None,
    bots: bool = False,
    suspended: bool = False,
    before: int | None = None,
    limit: int,
) -> list[AccountSummary]:
    """The newest accounts that match all that is given, with smaller row ids than ``before``."""
    row = AccountRow
    query = select(row.id, row.aci, row.role, row.assistant_name, row.created_on, row.suspended_at)
    for column, wanted in ((row.aci, aci), (row.number_hash, number_hash)):
        query = query if wanted is None else query.where(column == wanted)
    if bots:
        query = query.where(row.role == literal_column(f"'{Role.BOT}'"))  # as its index says it
    if suspended:
        query = query.where(row.suspended_at.is_not(None))
    if before is not None:
        query = query.where(row.id < before)
    return [AccountSummary(*found) for found in await db.execute(query.order_by(row.id.desc()).limit(limit))]


async def mark_seen(db: AsyncConnection, caller: Caller, day: int) -> None:
    """Note the day on which a device was last seen."""
    row = DeviceRow
    await db.execute(update(row).where(row.mailbox_id == caller.mailbox_id, row.seen_on < day).values(seen_on=day))


async def bury(db: AsyncConnection, number_hash: bytes, account: Account, *, expires_at: int) -> None:
    """Leave a tombstone for the account of a number."""
    await db.execute(delete(DeletedAccountRow).where(DeletedAccountRow.number_hash == number_hash))
    values = {"number_hash": number_hash, "aci": account.aci, "pni": account.pni, "expires_at": expires_at}
    await db.execute(insert(DeletedAccountRow).values(values))


async def exhume(db: AsyncConnection, number_hash: bytes, *, now: int) -> tuple[UUID, UUID | None] | None:
    """Take the tombstone of a number away; its ACI and PNI, ``None`` if there is none or it has expired."""
    row = DeletedAccountRow
    taken = delete(row).where(row.number_hash == number_hash).returning(row.aci, row.pni, row.expires_at)
    found = (await db.execute(taken)).one_or_none()
    return None if found is None or found[2] <= now else (found[0], found[1])


async def delete_expired_tombstones(db: AsyncConnection, *, now: int) -> int:
    """Forget tombstones that have expired; returns how many."""
    return (await db.execute(delete(DeletedAccountRow).where(DeletedAccountRow.expires_at <= now))).rowcount


async def number_hash_of(db: AsyncConnection, account_id: int) -> bytes | None:
    """The hash of the account's number, ``None`` without one."""
    found: bytes | None = (
        await db.execute(select(AccountRow.number_hash).where(AccountRow.id == account_id))
    ).scalar_one_or_none()
    return found


async def lock_device(db: AsyncConnection, caller: Caller) -> bool:
    """Lock the caller's device until the transaction ends; ``False`` if it was registered anew since it authenticated."""
    row = DeviceRow
    query = select(row.mailbox_id).where(
        row.account_id == caller.account_id,
        row.device_id == caller.device_id,
        row.mailbox_id == caller.mailbox_id,
    )
    return (await db.execute(query.with_for_update())).one_or_none() is not None


@dataclass(frozen=True, slots=True)
class StoredCredentials:
    """A device with what its password is checked against."""

    caller: Caller
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    seen_on: int
    suspended: bool


_CREDENTIALS = """
SELECT w.place, a.id, a.aci, a.pni, d.device_id, d.mailbox_id, d.password_salt, d.password_hash, d.seen_on, a.role, a.suspended_at
FROM unnest($1::uuid[], $2::int[]) WITH ORDINALITY AS w(aci, device_id, place)
JOIN accounts a ON a.aci = w.aci JOIN devices d ON d.account_id = a.id AND d.device_id = w.device_id
"""


async def find_all_credentials(
    db: AsyncConnection, wanted: Sequence[tuple[UUID, int]]
) -> list[StoredCredentials | None]:
    """Devices by account and number; ``None`` for one that does not exist."""
    if db.dialect.name != "postgresql":
        return [await find_credentials(db, aci, device_id) for aci, device_id in wanted]
    found: list[StoredCredentials | None] = [None] * len(wanted)
    for place, *columns in await in_postgresql(db, _CREDENTIALS, *map(list, zip(*wanted, strict=True))):
        found[place - 1] = _credentials(*columns)
    return found


async def find_credentials(db: AsyncConnection, aci: UUID, device_id: int) -> StoredCredentials | None:
    """The device, if it exists."""
    query = (
        select(
            AccountRow.id,
            AccountRow.aci,
            AccountRow.pni,
            DeviceRow.device_id,
            DeviceRow.mailbox_id,
            DeviceRow.password_salt,
            DeviceRow.password_hash,
            DeviceRow.seen_on,
            AccountRow.role,
            AccountRow.suspended_at,
        )
        .join(DeviceRow, DeviceRow.account_id == AccountRow.id)
        .where(AccountRow.aci == aci, DeviceRow.device_id == device_id)
    )
    found: tuple[Any, ...] | None = (await db.execute(query)).one_or_none()
    return None if found is None else _credentials(*found)


def _credentials(
    account_id: int,
    aci: UUID,
    pni: UUID | None,
    device_id: int,
    mailbox_id: int,
    salt: bytes,
    digest: bytes,
    seen_on: int,
    role: str | None,
    suspended_at: int | None,
) -> StoredCredentials:
    caller = Caller(account_id, aci, pni, device_id, mailbox_id, is_bot=role == Role.BOT)
    return StoredCredentials(caller, salt, digest, seen_on, suspended_at is not None)


_SESSION = (
    VerificationSessionRow.number_hash,
    VerificationSessionRow.sealed_number,
    VerificationSessionRow.expires_at,
    VerificationSessionRow.verified,
    VerificationSessionRow.codes_sent,
    VerificationSessionRow.next_code_at,
    VerificationSessionRow.code_mac,
    VerificationSessionRow.code_expires_at,
    VerificationSessionRow.attempts,
    VerificationSessionRow.role,
    VerificationSessionRow.new_account_only,
    VerificationSessionRow.account_id,
)


async def insert_verification(db: AsyncConnection, id_hash: bytes, columns: dict[str, Any]) -> None:
    """Add a verification session."""
    await db.execute(insert(VerificationSessionRow).values(id_hash=id_hash, **columns))


async def lock_verification(db: AsyncConnection, id_hash: bytes, *, now: int) -> dict[str, Any] | None:
    """The columns of a session that has not expired, locked until the transaction ends."""
    row = VerificationSessionRow
    query = select(*_SESSION).where(row.id_hash == id_hash, row.expires_at > now).with_for_update()
    found = (await db.execute(query)).mappings().one_or_none()
    return None if found is None else dict(found)


async def update_verification(db: AsyncConnection, id_hash: bytes, columns: dict[str, Any]) -> None:
    """Change a session."""
    row = VerificationSessionRow
    await db.execute(update(row).where(row.id_hash == id_hash).values(**columns))


async def delete_expired_verifications(db: AsyncConnection, *, now: int) -> int:
    """Forget sessions that have expired; returns how many."""
    return (await db.execute(delete(VerificationSessionRow).where(VerificationSessionRow.expires_at <= now))).rowcount


def mailbox_ids(devices: Iterable[Device]) -> list[int]:
    """Their mailboxes, sorted: the order in which mailboxes are locked."""
    return sorted(device.mailbox_id for device in devices)
