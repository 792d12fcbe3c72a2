"""Upload, count and fetch of prekeys."""

import asyncio
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.access import check_access
from messaging.relay.accounts.tables import (
    Account,
    Device,
    devices_of,
    find_account,
    find_account_by_id,
    lock_device,
)
from messaging.relay.database import Database
from messaging.relay.errors import MalformedRequest, NotAuthenticated, NotFound
from messaging.relay.http import Caller
from messaging.relay.keys.signatures import check_distinct, check_prekeys
from messaging.relay.keys.tables import (
    KeyOwner,
    LastResortKyberPreKeyRow,
    OneTimeKyberPreKeyRow,
    OneTimePreKeyRow,
    SignedPreKeyRow,
    count_one_time_keys,
    read_last_resort_prekey,
    read_signed_prekey,
    replace_key,
    replace_one_time_keys,
    take_one_time_kyber_prekey,
    take_one_time_prekey,
)
from messaging.relay.limits import Limit, RateLimits
from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.keys import (
    KyberPreKey,
    PreKey,
    PreKeyCount,
    PreKeyResponse,
    PreKeyResponseItem,
    SetKeysRequest,
    SignedPreKey,
)


@dataclass(frozen=True, slots=True)
class KeyService:
    """Keeps the public halves of prekeys, and hands them out."""

    database: Database
    limits: RateLimits

    async def upload(self, keys: SetKeysRequest, owner: Caller, identity: IdentityKind) -> None:
        """Store what ``keys`` holds in place of what was stored.

        Raises:
            MalformedRequest: the PNI of an account without a number.
            InvalidSignedKey: a key out of form, or a signature that is not the identity key's.
            NotAuthenticated: the device was registered anew meanwhile.
        """
        check_distinct(keys.pre_keys, "preKeys")
        check_distinct(keys.pq_pre_keys, "pqPreKeys")
        async with self.database.read() as db:
            identity_key = await self._identity_key(db, owner, identity)
        every: list[PreKey | SignedPreKey | KyberPreKey] = [*keys.pre_keys, *keys.pq_pre_keys]
        every += [key for key in (keys.signed_pre_key, keys.pq_last_resort_pre_key) if key is not None]
        await asyncio.to_thread(check_prekeys, identity_key, every)  # 0.1 ms a signature, up to 102 of them
        async with self.database.begin() as db:
            # The lock also shows that the identity key, checked before, is still this device's.
            if not await lock_device(db, owner):
                raise NotAuthenticated
            await store_keys(db, KeyOwner(owner.account_id, owner.device_id, identity), keys)

    async def count(self, owner: Caller, identity: IdentityKind) -> PreKeyCount:
        """How many one-time prekeys are left.

        Raises:
            MalformedRequest: the PNI of an account without a number.
        """
        keys = KeyOwner(owner.account_id, owner.device_id, identity)
        async with self.database.read() as db:
            await self._identity_key(db, owner, identity)
            return PreKeyCount(
                count=await count_one_time_keys(db, OneTimePreKeyRow, keys),
                pq_count=await count_one_time_keys(db, OneTimeKyberPreKeyRow, keys),
            )

    async def fetch(
        self, target: ServiceId, device_id: int | None, *, caller: Caller | None, access_key: bytes | None
    ) -> PreKeyResponse:
        """What is needed to begin sessions with one device of ``target``, or with all (``None``).

        Raises:
            NotFound: no such account or device, told to an authenticated caller only.
            NotAuthenticated: neither a caller nor the target's access key.
            RateLimited: this caller fetched from this target too often.
        """
        async with self.database.begin() as db:
            account = await find_account(db, target)
            check_access(account, target, caller=caller, access_key=access_key)
            if account is None:
                raise NotFound
            devices = [d for d in await devices_of(db, account.id) if device_id in (None, d.device_id)]
            if not devices:
                raise NotFound if caller else NotAuthenticated
            if caller:
                registration = devices[0].registration_id if device_id else 0
                self.limits.take(Limit.PREKEYS, caller.aci, caller.device_id, target, device_id, registration)
            items = [await _take_bundle(db, account, device, target.kind) for device in devices]
        identity_key, available = account.identity_key(target.kind), tuple(item for item in items if item)
        if identity_key is None or not available:
            raise NotFound
        return PreKeyResponse(identity_key=identity_key, devices=available)

    async def _identity_key(self, db: AsyncConnection, owner: Caller, identity: IdentityKind) -> bytes:
        account = await find_account_by_id(db, owner.account_id)
        if account is None:
            raise NotAuthenticated
        identity_key = account.identity_key(identity)
        if identity_key is None:
            raise MalformedRequest
        return identity_key


async def store_keys(db: AsyncConnection, owner: KeyOwner, keys: SetKeysRequest) -> None:
    """Store keys that are checked already; the device is locked, or new in this transaction."""
    if keys.pre_keys:
        await replace_one_time_keys(db, OneTimePreKeyRow, owner, keys.pre_keys)
    if keys.signed_pre_key:
        await replace_key(db, SignedPreKeyRow, owner, keys.signed_pre_key)
    if keys.pq_pre_keys:
        await replace_one_time_keys(db, OneTimeKyberPreKeyRow, owner, keys.pq_pre_keys)
    if keys.pq_last_resort_pre_key:
        await replace_key(db, LastResortKyberPreKeyRow, owner, keys.pq_last_resort_pre_key)


async def _take_bundle(
    db: AsyncConnection, account: Account, device: Device, identity: IdentityKind
) -> PreKeyResponseItem | None:
    owner = KeyOwner(account.id, device.device_id, identity)
    signed = await read_signed_prekey(db, owner)
    kyber = await take_one_time_kyber_prekey(db, owner) or await read_last_resort_prekey(db, owner)
    if signed is None or kyber is None:
        return None
    return PreKeyResponseItem(
        device_id=device.device_id,
        registration_id=device.registration_id_for(identity),
        signed_pre_key=signed,
        pre_key=await take_one_time_prekey(db, owner),
        pq_pre_key=kyber,
    )
