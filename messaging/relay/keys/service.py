"""Upload, count and fetch of prekeys."""

import asyncio
import hmac
from collections.abc import Collection
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
from messaging.relay.delivery.wakeups import PrekeysRunLow, Wakeups
from messaging.relay.errors import KeysDiffer, MalformedRequest, NotAuthenticated, NotFound
from messaging.relay.http import Caller
from messaging.relay.keys.generation import Generation
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
    repeated_use_digest,
)

LOW_WATERMARK = 20  # one-time prekeys of a kind


@dataclass(frozen=True, slots=True)
class KeyService:
    """Keeps the public halves of prekeys, and hands them out."""

    database: Database
    limits: RateLimits
    wakeups: Wakeups
    generation: Generation

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
        async with self.database.read() as db:
            await self._identity_key(db, owner, identity)
            return await _count(db, KeyOwner(owner.account_id, owner.device_id, identity))

    async def low(self, owner: Caller) -> list[tuple[IdentityKind, PreKeyCount]]:
        """The identities of a device under which fewer than ``LOW_WATERMARK`` one-time prekeys of a kind are left."""
        kinds = [IdentityKind.ACI] if owner.pni is None else list(IdentityKind)
        async with self.database.read() as db:
            counts = [(kind, await _count(db, KeyOwner(owner.account_id, owner.device_id, kind))) for kind in kinds]
        return [(kind, count) for kind, count in counts if is_low(count)]

    async def check(self, owner: Caller, identity: IdentityKind, digest: bytes) -> None:
        """Whether the relay has the same repeated-use keys as the device (``wire.keys.repeated_use_digest``).

        Raises:
            KeysDiffer: it has not.
            MalformedRequest: the PNI of an account without a number.
        """
        keys = KeyOwner(owner.account_id, owner.device_id, identity)
        async with self.database.read() as db:
            identity_key = await self._identity_key(db, owner, identity)
            signed, last_resort = await read_signed_prekey(db, keys), await read_last_resort_prekey(db, keys)
        if signed is None or last_resort is None:
            raise KeysDiffer
        if not hmac.compare_digest(repeated_use_digest(identity_key, signed, last_resort), digest):
            raise KeysDiffer

    async def fetch(
        self, target: ServiceId, device_id: int | None, *, caller: Caller | None, access_key: bytes | None
    ) -> PreKeyResponse:
        """What is needed to begin sessions with one device of ``target``, or with all (``None``).

        Raises:
            NotFound: no such account or device, told to an authenticated caller only.
            NotAuthenticated: neither a caller nor the target's access key.
            RateLimited: this caller fetched from this target too often, or of all targets too many; or too many fetched
                without saying who they are.
        """
        async with self.database.read() as db:
            account, devices = await _targets(db, target, device_id, caller=caller, access_key=access_key)
        if caller:
            registration = devices[0].registration_id if device_id else 0
            key = (caller.aci, caller.device_id, target, device_id, registration)
            by, bot = caller.account_id, caller.is_bot
            await self.limits.take(Limit.PREKEYS, *key, account=by, bot=bot)
            await self.limits.take(Limit.PREKEYS_PER_CALLER, by, account=by, bot=bot)
        else:
            # Whoever has a leaked access key could use up all one-time keys: by target, for nobody else is known.
            await self.limits.take(Limit.PREKEYS_PER_TARGET, account.id, account=account.id, bot=account.is_bot)
        return await self._take(account.id, {each.device_id for each in devices}, target.kind)

    async def bundles(
        self, target: ServiceId, device_ids: Collection[int], *, caller: Caller | None, access_key: bytes | None
    ) -> tuple[PreKeyResponseItem, ...]:
        """The bundles of some devices; limits are for the caller to take.

        Raises:
            NotFound, NotAuthenticated: see :meth:`fetch`.
        """
        async with self.database.read() as db:
            account, devices = await _targets(db, target, None, caller=caller, access_key=access_key)
        wanted = {each.device_id for each in devices} & set(device_ids)
        return (await self._take(account.id, wanted, target.kind)).devices

    async def _take(self, account_id: int, device_ids: Collection[int], identity: IdentityKind) -> PreKeyResponse:
        async with self.database.begin() as db:
            # Read again, so that all parts are of one registration.
            account = await find_account_by_id(db, account_id)
            identity_key = None if account is None else account.identity_key(identity)
            if account is None or identity_key is None:
                raise NotFound
            devices = [each for each in await devices_of(db, account_id) if each.device_id in device_ids]
            taken = [await _take_bundle(db, account, device, identity) for device in devices]
        if any(bundle is not None and bundle.used_up for bundle in taken):
            await self.generation.advance()  # before a one-time key is told to anybody
        for device, bundle in zip(devices, taken, strict=True):
            if bundle is not None and is_low(bundle.left):
                self.wakeups.announce(device.mailbox_id, PrekeysRunLow())
        items = tuple(bundle.item for bundle in taken if bundle is not None)
        if not items:
            raise NotFound
        return PreKeyResponse(identity_key=identity_key, devices=items, bot=account.is_bot or None)

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


def is_low(count: PreKeyCount) -> bool:
    """Whether a device should upload one-time prekeys."""
    return min(count.count, count.pq_count) < LOW_WATERMARK


@dataclass(frozen=True, slots=True)
class _Taken:
    """A bundle with what is left of one-time prekeys. ``used_up``: whether it holds one."""

    item: PreKeyResponseItem
    used_up: bool
    left: PreKeyCount


async def _targets(
    db: AsyncConnection,
    target: ServiceId,
    device_id: int | None,
    *,
    caller: Caller | None,
    access_key: bytes | None,
) -> tuple[Account, list[Device]]:
    account = await find_account(db, target)
    check_access(account, target, caller=caller, access_key=access_key)
    if account is None:
        raise NotFound
    devices = [each for each in await devices_of(db, account.id) if device_id in (None, each.device_id)]
    if not devices:
        raise NotFound if caller else NotAuthenticated
    return account, devices


async def _take_bundle(db: AsyncConnection, account: Account, device: Device, identity: IdentityKind) -> _Taken | None:
    owner = KeyOwner(account.id, device.device_id, identity)
    signed = await read_signed_prekey(db, owner)
    one_time_kyber = await take_one_time_kyber_prekey(db, owner)
    kyber = one_time_kyber or await read_last_resort_prekey(db, owner)
    if signed is None or kyber is None:
        return None
    one_time = await take_one_time_prekey(db, owner)
    item = PreKeyResponseItem(
        device_id=device.device_id,
        registration_id=device.registration_id_for(identity),
        signed_pre_key=signed,
        pre_key=one_time,
        pq_pre_key=kyber,
    )
    return _Taken(item, one_time is not None or one_time_kyber is not None, await _count(db, owner))


async def _count(db: AsyncConnection, owner: KeyOwner) -> PreKeyCount:
    return PreKeyCount(
        count=await count_one_time_keys(db, OneTimePreKeyRow, owner),
        pq_count=await count_one_time_keys(db, OneTimeKyberPreKeyRow, owner),
    )
