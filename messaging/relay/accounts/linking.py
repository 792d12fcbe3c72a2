"""Linking: a new device shows its address, the primary device leaves a message there with a token, and the token is used once.

The relay carries the message and cannot read it. Whoever waits, waits by asking the database now and then, so it does not
matter which relay hears what.
"""

import asyncio
import base64
import hmac
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.authentication import day_of
from messaging.relay.accounts.linking_tables import (
    delete_address,
    find_used_token,
    insert_address,
    leave_message,
    read_message,
    use_token,
)
from messaging.relay.accounts.passwords import hash_password
from messaging.relay.accounts.tables import (
    Account,
    DeviceDetails,
    account_has_changed,
    device_details,
    find_account,
    insert_device,
    lock_account_by_id,
)
from messaging.relay.database import Database
from messaging.relay.errors import (
    AccountSuspended,
    CapabilityMissing,
    Forbidden,
    InvalidRequest,
    MalformedRequest,
    NotAuthenticated,
    NotFound,
    TooManyDevices,
)
from messaging.relay.http import Caller
from messaging.relay.keys.service import store_keys
from messaging.relay.keys.signatures import check_prekeys
from messaging.relay.keys.tables import KeyOwner
from messaging.relay.limits import Limit, RateLimits
from messaging.relay.messages.tables import create_mailbox
from messaging.relay.server_secret import ServerSecret
from messaging.wire.accounts import LinkDeviceRequest, LinkDeviceResponse, LinkDeviceToken
from messaging.wire.identifiers import PRIMARY_DEVICE, IdentityKind, ServiceId
from messaging.wire.keys import SetKeysRequest
from messaging.wire.limits import MAX_DEVICE_ID, MAX_DEVICES

TOKEN_LIFETIME = 10 * 60 * 1000
PROVISIONING_LIFETIME = 90 * 1000  # of a provisioning socket (Signal-Server)
ASK_SECONDS = 0.25  # between two looks of somebody who waits
MAX_WAIT_SECONDS = 3600
_ADDRESS_BYTES = 16

# A new device must have these if all others have them: an older one would break what the others rely on
# (Signal-Server, ``DeviceCapability``).
NEVER_LOST = frozenset({"spqr", "usernameChangeSyncMessage"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LinkingService:
    """Links devices. ``now`` gives milliseconds since 1970; ``stopping`` ends all waiting."""

    database: Database
    secret: ServerSecret
    limits: RateLimits
    now: Callable[[], int]
    stopping: asyncio.Event

    async def create_token(self, caller: Caller) -> LinkDeviceToken:
        """A token for one new device, good for ten minutes.

        Raises:
            NotAuthenticated: not the primary device.
            TooManyDevices: the account is full.
            RateLimited: too many tokens.
        """
        await self.limits.take(Limit.ALLOCATE_DEVICE, caller.account_id, account=caller.account_id, bot=caller.is_bot)
        if caller.device_id != PRIMARY_DEVICE:
            raise NotAuthenticated
        async with self.database.read() as db:
            check_room(await device_details(db, caller.account_id))
        claims = f"{caller.aci}.{self.now()}"
        token = f"{claims}:{self._mac(claims)}"
        return LinkDeviceToken(verification_code=token, token_identifier=token_identifier(token))

    async def link(self, request: LinkDeviceRequest, password: str) -> LinkDeviceResponse:
        """Add the device that holds a token.

        Raises:
            Forbidden: the token is not one of ours, too old, or used.
            AccountSuspended: an operator has suspended the account.
            TooManyDevices: the account is full.
            CapabilityMissing: all devices of the account have a capability that this one lacks.
            InvalidRequest: the PNI's keys are missing, or there is no PNI.
            InvalidSignedKey: a prekey that the account's identity key did not sign.
            RateLimited: too many devices linked.
        """
        aci, issued = self._check_token(request.verification_code)
        async with self.database.read() as db:
            account = await find_account(db, ServiceId(aci))
        if account is None:
            raise Forbidden
        if account.is_suspended:
            raise AccountSuspended
        await self.limits.take(Limit.VERIFY_DEVICE, account.id, account=account.id, bot=account.is_bot)
        await asyncio.to_thread(check_device_keys, account, request)
        try:
            async with self.database.begin() as db:
                device_id = await self._add(db, account, request, password, expires_at=issued + TOKEN_LIFETIME)
        except IntegrityError:
            raise Forbidden from None  # the token was used
        return LinkDeviceResponse(uuid=account.aci, pni=account.pni, device_id=device_id)

    async def _add(
        self, db: AsyncConnection, account: Account, request: LinkDeviceRequest, password: str, *, expires_at: int
    ) -> int:
        locked = await lock_account_by_id(db, account.id)
        if locked != account:
            raise Forbidden  # registered anew, or suspended, since the keys were checked
        devices = await device_details(db, account.id)
        check_room(devices)
        attributes, hashed = request.account_attributes, hash_password(password)
        check_capabilities(devices, attributes.capabilities)
        device_id = free_device_id(devices)
        today = day_of(self.now())
        await insert_device(
            db,
            {
                "account_id": account.id,
                "device_id": device_id,
                "mailbox_id": await create_mailbox(db),
                "registration_id": attributes.registration_id,
                "pni_registration_id": attributes.pni_registration_id,
                "password_salt": hashed.salt,
                "password_hash": hashed.digest,
                "name": attributes.name,
                "capabilities": attributes.capabilities,
                "created_on": today,
                "seen_on": today,
            },
        )
        for identity, signed, last_resort in (
            (IdentityKind.ACI, request.aci_signed_pre_key, request.aci_pq_last_resort_pre_key),
            (IdentityKind.PNI, request.pni_signed_pre_key, request.pni_pq_last_resort_pre_key),
        ):
            keys = SetKeysRequest(signed_pre_key=signed, pq_last_resort_pre_key=last_resort)
            await store_keys(db, KeyOwner(account.id, device_id, identity), keys)
        await account_has_changed(db, account.id)
        token_hash = hash_token(token_identifier(request.verification_code))
        await use_token(db, token_hash, account_id=account.id, device_id=device_id, expires_at=expires_at)
        return device_id

    async def wait_for_device(self, caller: Caller, identifier: str, seconds: int) -> DeviceDetails | None:
        """The device that was linked with a token; ``None`` if there is none after so many seconds.

        Raises:
            MalformedRequest: not the name of a token, or no time to wait.
            RateLimited: asked too often.
        """
        if not 1 <= seconds <= MAX_WAIT_SECONDS or not 32 <= len(identifier) <= 64:
            raise MalformedRequest
        await self.limits.take(
            Limit.WAIT_FOR_LINKED_DEVICE, caller.account_id, account=caller.account_id, bot=caller.is_bot
        )

        async def look() -> DeviceDetails | None:
            async with self.database.read() as db:
                used = await find_used_token(db, hash_token(identifier))
                if used is None or used.account_id != caller.account_id:
                    return None
                found = await device_details(db, caller.account_id)
            return next((device for device in found if device.device_id == used.device_id), None)

        return await self._wait(look, seconds)

    async def open_address(self, *, remote: str) -> str:
        """An address at which a new device may wait.

        Raises:
            RateLimited: too many from this network address.
        """
        await self.limits.take(Limit.PROVISIONING, remote)
        address = base64.urlsafe_b64encode(secrets.token_bytes(_ADDRESS_BYTES)).decode()
        async with self.database.begin() as db:
            await insert_address(db, hash_token(address), expires_at=self.now() + PROVISIONING_LIFETIME)
        return address

    async def close_address(self, address: str) -> None:
        """Give an address up."""
        async with self.database.begin() as db:
            await delete_address(db, hash_token(address))

    async def wait_at(self, address: str) -> bytes | None:
        """The message left at an address, or ``None`` when its time is over."""

        async def look() -> bytes | None:
            async with self.database.read() as db:
                return await read_message(db, hash_token(address))

        return await self._wait(look, PROVISIONING_LIFETIME / 1000)

    async def leave(self, caller: Caller, address: str, message: bytes) -> None:
        """Leave a message at an address.

        Raises:
            NotFound: nobody waits there, or not any more.
            RateLimited: too many messages.
        """
        await self.limits.take(
            Limit.MESSAGES, caller.account_id, "provisioning", account=caller.account_id, bot=caller.is_bot
        )
        async with self.database.begin() as db:
            if not await leave_message(db, hash_token(address), message, now=self.now()):
                raise NotFound

    async def _wait(self, look: Callable[[], Awaitable[T | None]], seconds: float) -> T | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.stopping.is_set():
                    found = await look()
                    if found is not None:
                        return found
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.stopping.wait(), ASK_SECONDS)
        return None

    def _check_token(self, token: str) -> tuple[UUID, int]:
        claims, colon, mac = token.rpartition(":")
        if not colon or not hmac.compare_digest(mac.encode(), self._mac(claims).encode()):
            raise Forbidden
        aci, _, issued = claims.rpartition(".")
        if not 0 <= self.now() - int(issued) < TOKEN_LIFETIME:
            raise Forbidden
        return UUID(aci), int(issued)

    def _mac(self, claims: str) -> str:
        return base64.urlsafe_b64encode(hmac.digest(self.secret.link_token_key, claims.encode(), sha256)).decode()


def token_identifier(token: str) -> str:
    """The name under which one waits for a token's device; it tells nothing of the token."""
    return base64.urlsafe_b64encode(sha256(token.encode()).digest()).rstrip(b"=").decode()


def hash_token(token: str) -> bytes:
    """What is stored of a name or an address."""
    return sha256(token.encode()).digest()


def check_room(devices: list[DeviceDetails]) -> None:
    """Whether the account may have one more device.

    Raises:
        TooManyDevices: it may not.
    """
    if len(devices) >= MAX_DEVICES:
        raise TooManyDevices(len(devices), MAX_DEVICES)


def check_capabilities(devices: list[DeviceDetails], offered: dict[str, bool]) -> None:
    """Whether the account keeps the capabilities that it must not lose.

    Raises:
        CapabilityMissing: it would lose one.
    """
    for capability in NEVER_LOST:
        if all(device.capabilities.get(capability) for device in devices) and not offered.get(capability):
            raise CapabilityMissing


def free_device_id(devices: list[DeviceDetails]) -> int:
    """The smallest id that no device has."""
    taken = {device.device_id for device in devices}
    return next(number for number in range(PRIMARY_DEVICE + 1, MAX_DEVICE_ID + 1) if number not in taken)


def check_device_keys(account: Account, request: LinkDeviceRequest) -> None:
    """Check the keys of a new device against the account's identities.

    Raises:
        InvalidRequest: the PNI's keys are missing, or there is no PNI.
        InvalidSignedKey: a prekey that the identity key did not sign.
    """
    check_prekeys(account.aci_identity_key, (request.aci_signed_pre_key, request.aci_pq_last_resort_pre_key))
    of_pni = (request.pni_signed_pre_key, request.pni_pq_last_resort_pre_key)
    if (account.pni_identity_key is None) != (of_pni[0] is None):
        raise InvalidRequest("pniSignedPreKey")
    if account.pni_identity_key is not None:
        check_prekeys(account.pni_identity_key, (key for key in of_pni if key is not None))
