"""What an application stores for one local device, as protocols that it implements over its database.

A store belongs to one local device. Records are secret: keep them under authenticated encryption, because libsignal does not
notice every altered bit. Never restore an older session record, and never delete one while its account lives: both would
lead to message keys being used twice. Archive instead.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from uuid import UUID

from signal_protocol.types import Address, KyberUse


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record and how often it was written: 1 at first, and one more each time."""

    record: bytes = field(repr=False)
    version: int


@dataclass(frozen=True, slots=True)
class StoredKyberPrekey:
    """The record of one of our Kyber prekeys, and whether it serves many first messages."""

    record: bytes = field(repr=False)
    last_resort: bool


class ProtocolTransaction(Protocol):
    """One open transaction. All it writes becomes visible together, or not at all."""

    async def load_session(self, remote: Address) -> StoredRecord | None:
        """Return the session record for a device."""

    async def save_session(self, remote: Address, record: bytes, *, expected: int | None) -> bool:
        """Write the record if its version is still ``expected`` (``None``: if there is none); say whether it was."""

    async def session_devices(self, service_id: str) -> list[Address]:
        """Return the devices of an account for which there is a session record."""

    async def load_identity(self, service_id: str) -> bytes | None:
        """Return the identity key that is trusted for an account."""

    async def save_identity(self, service_id: str, identity_key: bytes) -> None:
        """Trust this identity key and no other."""

    async def load_one_time_prekey(self, key_id: int) -> bytes | None:
        """Return our record."""

    async def save_one_time_prekey(self, key_id: int, record: bytes) -> None:
        """Store our record."""

    async def delete_one_time_prekey(self, key_id: int) -> bool:
        """Delete our record; say whether it was there."""

    async def load_signed_prekey(self, key_id: int) -> bytes | None:
        """Return our record."""

    async def save_signed_prekey(self, key_id: int, record: bytes) -> None:
        """Store our record."""

    async def load_kyber_prekey(self, key_id: int) -> StoredKyberPrekey | None:
        """Return our record."""

    async def save_kyber_prekey(self, key_id: int, record: bytes, *, last_resort: bool) -> None:
        """Store our record."""

    async def delete_kyber_prekey(self, key_id: int) -> bool:
        """Delete our record; say whether it was there."""

    async def mark_kyber_prekey_used(self, use: KyberUse) -> bool:
        """Remember the use of a last-resort key under a unique constraint; say whether it is the first such use."""

    async def load_sender_key(self, sender: Address, distribution_id: UUID) -> StoredRecord | None:
        """Return the sender key record of a device, our own included, for a group."""

    async def save_sender_key(
        self, sender: Address, distribution_id: UUID, record: bytes, *, expected: int | None
    ) -> bool:
        """Write the record under the condition of :meth:`save_session`."""


Transaction = TypeVar("Transaction", bound=ProtocolTransaction)
Transaction_co = TypeVar("Transaction_co", bound=ProtocolTransaction, covariant=True)


class ProtocolStore(Protocol[Transaction_co]):
    """Opens transactions."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction_co]:
        """Return a transaction that commits at the end of its block, and rolls back if the block raises."""
