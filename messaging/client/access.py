"""Who may be sent to sealed, without credentials: accounts whose profile key we know, and those that anybody may send to.

Knowing a profile key is the permission: the relay compares a key that is derived from it and does not learn who asks. What was
learnt is kept in the store until the relay refuses it.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from messaging.client.stores import Store, StoreTransaction
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import ACCESS_KEY, PROFILE_KEY

ANY_KEY = bytes(ACCESS_KEY)  # shown to an account with unrestricted access, which takes any; it changes no combined key

_PROFILE_KEYS = "profile key"
_UNRESTRICTED = "unrestricted access"


def access_key_of(profile_key: bytes) -> bytes:
    """The unidentified access key, 16 bytes, of the account with this profile key of 32 bytes.

    Raises:
        ValueError: not 32 bytes.

    Source: libsignal, ``ProfileKey::derive_access_key`` in ``zkgroup``: AES-256-GCM of 16 zero bytes.
    """
    if len(profile_key) != PROFILE_KEY:
        raise ValueError("a profile key is 32 bytes")
    nonce = bytes(12)  # safe: a profile key encrypts nothing else under this nonce, and the text is always the same
    return AESGCM(profile_key).encrypt(nonce, bytes(ACCESS_KEY), None)[:ACCESS_KEY]


def combined(access_keys: Iterable[bytes]) -> bytes:
    """What a send to many shows: the exclusive or of all their access keys (Signal-Server, ``UnidentifiedAccessUtil``)."""
    total = 0
    for key in access_keys:
        total ^= int.from_bytes(key, "big")
    return total.to_bytes(ACCESS_KEY, "big")


def learn(transaction: StoreTransaction, service_id: ServiceId, profile_key: bytes) -> None:
    """Keep the profile key of an account, 32 bytes, in place of an earlier one."""
    if len(profile_key) != PROFILE_KEY:
        raise ValueError("a profile key is 32 bytes")
    transaction.put(_PROFILE_KEYS, str(service_id), record=profile_key)


def find_access_key(transaction: StoreTransaction, service_id: ServiceId) -> bytes | None:
    """What to show for an account: 16 bytes, ``None`` if it cannot be sent to sealed."""
    if transaction.get(_UNRESTRICTED, str(service_id)) is not None:
        return ANY_KEY
    profile_key = transaction.get(_PROFILE_KEYS, str(service_id))
    return None if profile_key is None else access_key_of(profile_key)


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """The access keys that the store knows."""

    store: Store

    async def learn(self, service_id: ServiceId, profile_key: bytes) -> None:
        """As the function of this name, in a transaction of its own."""
        async with self.store.transaction() as transaction:
            learn(transaction, service_id, profile_key)

    async def mark_unrestricted(self, service_id: ServiceId) -> None:
        """Remember that anybody may send to this account sealed, as to an assistant."""
        async with self.store.transaction() as transaction:
            transaction.put(_UNRESTRICTED, str(service_id), record=b"")

    async def find(self, service_id: ServiceId) -> bytes | None:
        """As :func:`find_access_key`."""
        async with self.store.transaction() as transaction:
            return find_access_key(transaction, service_id)

    async def find_all(self, service_ids: Iterable[ServiceId]) -> dict[ServiceId, bytes]:
        """What to show for each of these accounts that can be sent to sealed."""
        async with self.store.transaction() as transaction:
            found = {service_id: find_access_key(transaction, service_id) for service_id in service_ids}
        return {service_id: key for service_id, key in found.items() if key is not None}

    async def forget(self, service_id: ServiceId, refused: bytes) -> None:
        """The relay refused this access key: show it no more. What was learnt since then stays."""
        async with self.store.transaction() as transaction:
            known = find_access_key(transaction, service_id)
            if known is None or not hmac.compare_digest(known, refused):
                return
            if not transaction.delete(_UNRESTRICTED, str(service_id)):
                transaction.delete(_PROFILE_KEYS, str(service_id))
