"""What a registered account may see and change of itself: attributes, locks, devices, its report, its end."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.authentication import DAY
from messaging.relay.accounts.locks import lock_columns, recovery_columns
from messaging.relay.accounts.tables import (
    Account,
    AccountDetails,
    DeviceDetails,
    account_details,
    account_has_changed,
    bury,
    delete_account,
    delete_device,
    device_details,
    devices_of,
    lock_account_by_id,
    lock_device,
    mailbox_ids,
    number_hash_of,
    update_account,
    update_device,
)
from messaging.relay.database import Database
from messaging.relay.delivery.wakeups import CredentialsReplaced, Suspended, Wakeups
from messaging.relay.errors import Forbidden, NotAuthenticated, NotFound
from messaging.relay.http import Caller
from messaging.relay.messages.tables import count_envelopes, delete_mailboxes, lock_mailboxes
from messaging.wire.accounts import AccountAttributes, DeviceInfo
from messaging.wire.identifiers import PRIMARY_DEVICE

TOMBSTONE_LIFETIME = 30 * DAY  # Signal-Server


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the relay keeps of an account and that has a meaning to a person."""

    report_id: UUID
    at: int
    account: AccountDetails
    devices: list[DeviceDetails]
    waiting: dict[int, int]  # envelopes by device


@dataclass(frozen=True, slots=True)
class AccountService:
    """Changes accounts. ``now`` gives milliseconds since 1970."""

    database: Database
    wakeups: Wakeups
    now: Callable[[], int]
    new_uuid: Callable[[], UUID] = uuid4

    async def set_attributes(self, caller: Caller, attributes: AccountAttributes) -> None:
        """Replace the attributes of the calling device, and those of the account if it is the primary one.

        Raises:
            NotAuthenticated: the device was registered anew meanwhile.
        """
        device: dict[str, Any] = {
            "registration_id": attributes.registration_id,
            "capabilities": attributes.capabilities,
        }
        if attributes.pni_registration_id is not None and caller.pni is not None:
            device["pni_registration_id"] = attributes.pni_registration_id
        if attributes.name is not None:
            device["name"] = attributes.name
        account: dict[str, Any] = {
            "access_key": attributes.unidentified_access_key,
            "unrestricted_access": attributes.unrestricted_unidentified_access,
        }
        if caller.device_id == PRIMARY_DEVICE:
            account["discoverable"] = attributes.discoverable_by_phone_number
            account |= lock_columns(attributes.registration_lock)
            if attributes.recovery_password:
                account |= recovery_columns(attributes.recovery_password)
        await self._change(caller, account, device)

    async def set_capabilities(self, caller: Caller, capabilities: dict[str, bool]) -> None:
        """Replace the capabilities of the calling device."""
        await self._change(caller, {}, {"capabilities": capabilities})

    async def set_lock(self, caller: Caller, lock: str | None) -> None:
        """Set the registration lock, or remove it.

        Raises:
            NotAuthenticated: not the primary device.
        """
        if caller.device_id != PRIMARY_DEVICE:
            raise NotAuthenticated
        await self._change(caller, lock_columns(lock), {})

    async def set_discoverable(self, caller: Caller, *, discoverable: bool) -> None:
        """Say whether others may find the account by its number."""
        await self._change(caller, {"discoverable": discoverable}, {})

    async def set_name(self, caller: Caller, name: bytes, device_id: int) -> None:
        """Set the encrypted name of a device: its own, or from the primary device any.

        Raises:
            Forbidden: another device's, and not from the primary one.
            NotFound: no such device.
        """
        if caller.device_id not in (PRIMARY_DEVICE, device_id):
            raise Forbidden
        async with self.database.begin() as db:
            if not await lock_device(db, caller):
                raise NotAuthenticated
            if not await update_device(db, caller.account_id, device_id, {"name": name}):
                raise NotFound

    async def devices(self, caller: Caller) -> list[DeviceDetails]:
        """All devices of the account."""
        async with self.database.read() as db:
            return await device_details(db, caller.account_id)

    async def remove_device(self, caller: Caller, device_id: int) -> None:
        """Remove a linked device, with its keys and what waits for it; its sockets close everywhere.

        Raises:
            NotAuthenticated: another device's, and not from the primary one.
            Forbidden: the primary device.
        """
        if caller.device_id not in (PRIMARY_DEVICE, device_id):
            raise NotAuthenticated
        if device_id == PRIMARY_DEVICE:
            raise Forbidden
        async with self.database.begin() as db:
            if await lock_account_by_id(db, caller.account_id) is None or not await lock_device(db, caller):
                raise NotAuthenticated
            gone = await remove_devices(db, caller.account_id, {device_id})
        self._disconnect(gone)

    async def delete(self, caller: Caller) -> None:
        """Delete the account and everything in it. For a month a tombstone keeps its ids for who has its number.

        A bot leaves none: nobody shall come back under its ids without its mark.

        Raises:
            NotAuthenticated: not the primary device.
        """
        if caller.device_id != PRIMARY_DEVICE:
            raise NotAuthenticated
        async with self.database.begin() as db:
            account = await lock_account_by_id(db, caller.account_id)
            if account is None or not await lock_device(db, caller):
                raise NotAuthenticated
            gone = await erase_account(db, account, now=self.now())
        self._disconnect(gone)

    async def report(self, caller: Caller) -> Report:
        """Everything the relay holds on the account.

        Raises:
            NotAuthenticated: the account is gone.
        """
        async with self.database.read() as db:
            account = await account_details(db, caller.account_id)
            devices = await device_details(db, caller.account_id)
            mailboxes = {each.mailbox_id: each.device_id for each in await devices_of(db, caller.account_id)}
            waiting = await count_envelopes(db, list(mailboxes))
        if account is None:
            raise NotAuthenticated
        by_device = {device_id: waiting.get(mailbox, 0) for mailbox, device_id in mailboxes.items()}
        return Report(self.new_uuid(), self.now(), account, devices, by_device)

    async def _change(self, caller: Caller, account: dict[str, Any], device: dict[str, Any]) -> None:
        async with self.database.begin() as db:
            if not await lock_device(db, caller):
                raise NotAuthenticated
            if account:
                await update_account(db, caller.account_id, account)
            if device:
                await update_device(db, caller.account_id, caller.device_id, device)
            await account_has_changed(db, caller.account_id)

    def _disconnect(self, mailboxes: list[int]) -> None:
        disconnect(self.wakeups, mailboxes)


async def remove_devices(db: AsyncConnection, account_id: int, device_ids: Collection[int]) -> list[int]:
    """Remove devices of an account that is locked, with their keys and what waits for them.

    Returns their mailboxes: whoever commits disconnects them.
    """
    devices = await devices_of(db, account_id)
    gone = [device for device in devices if device.device_id in device_ids]
    await lock_mailboxes(db, mailbox_ids(devices))
    for device in gone:
        await delete_device(db, account_id, device.device_id)
    await delete_mailboxes(db, mailbox_ids(gone))
    await account_has_changed(db, account_id)
    return mailbox_ids(gone)


async def erase_account(db: AsyncConnection, account: Account, *, now: int) -> list[int]:
    """Delete an account that is locked, and everything in it; a person's number keeps a tombstone for a month.

    Returns the mailboxes of its devices: whoever commits disconnects them.
    """
    number_hash = await number_hash_of(db, account.id)
    if number_hash is not None and not account.is_bot:
        await bury(db, number_hash, account, expires_at=now + TOMBSTONE_LIFETIME)
    gone = mailbox_ids(await devices_of(db, account.id))
    await lock_mailboxes(db, gone)
    await delete_account(db, account.id)
    await delete_mailboxes(db, gone)
    return gone


async def set_suspended(db: AsyncConnection, account_id: int, at: int | None) -> list[int]:
    """Suspend an account that is locked, or with ``None`` let it go on. It keeps all that it has.

    Sends that were planned before are planned again, and then refused, or not any more. Returns the mailboxes of its devices:
    whoever commits a suspension lets them know (:func:`shut_out`).
    """
    await update_account(db, account_id, {"suspended_at": at})
    await account_has_changed(db, account_id)
    return mailbox_ids(await devices_of(db, account_id))


def disconnect(wakeups: Wakeups, mailboxes: Iterable[int]) -> None:
    """Let the sockets of these mailboxes close, on all relays."""
    for mailbox_id in mailboxes:
        wakeups.announce(mailbox_id, CredentialsReplaced())


def shut_out(wakeups: Wakeups, mailboxes: Iterable[int]) -> None:
    """Let the sockets of these mailboxes of a suspended account close, on all relays; their devices look again now and then."""
    for mailbox_id in mailboxes:
        wakeups.announce(mailbox_id, Suspended())


def info_of(device: DeviceDetails) -> DeviceInfo:
    """A device as its account sees it."""
    return DeviceInfo(
        id=device.device_id,
        name=device.name,
        last_seen=device.seen_on,
        created=device.created_on,
        registration_id=device.registration_id,
    )
