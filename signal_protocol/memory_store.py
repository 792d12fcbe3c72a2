"""A store that keeps everything in memory and nothing on disk: for enclaves and for tests.

Transactions run one after the other and are all or nothing, for the records here and for whatever an application adds with
``on_commit``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar
from uuid import UUID

from signal_protocol.storage import StoredKyberPrekey, StoredRecord
from signal_protocol.types import Address, KyberUse

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class MemoryStore:
    """The records of one local device. It is a ``ProtocolStore``."""

    def __init__(self) -> None:
        self._committed = _Tables()
        self._lock = asyncio.Lock()
        self._owner: asyncio.Task[object] | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["MemoryTransaction"]:
        """Run a block alone; keep what it wrote only if it ends without an exception.

        Raises:
            RuntimeError: within another transaction of the same task, which would wait for itself.
        """
        if self._owner is not None and self._owner is asyncio.current_task():
            raise RuntimeError("a transaction does not contain another")
        async with self._lock:
            self._owner = asyncio.current_task()
            try:
                transaction = MemoryTransaction(self._committed)
                yield transaction
                transaction.commit()
            finally:
                self._owner = None


class MemoryTransaction:
    """One open transaction of a ``MemoryStore``. It is a ``ProtocolTransaction``."""

    def __init__(self, committed: "_Tables") -> None:
        self._sessions = _Changes(committed.sessions)
        self._identities = _Changes(committed.identities)
        self._one_time_prekeys = _Changes(committed.one_time_prekeys)
        self._signed_prekeys = _Changes(committed.signed_prekeys)
        self._kyber_prekeys = _Changes(committed.kyber_prekeys)
        self._kyber_uses = _Changes(committed.kyber_uses)
        self._sender_keys = _Changes(committed.sender_keys)
        self._actions: list[Callable[[], None]] = []

    def on_commit(self, action: Callable[[], None]) -> None:
        """Run ``action``, which must not raise, when the transaction commits; never if it rolls back."""
        self._actions.append(action)

    def commit(self) -> None:
        """Make everything visible; for ``MemoryStore``."""
        self._sessions.apply()
        self._identities.apply()
        self._one_time_prekeys.apply()
        self._signed_prekeys.apply()
        self._kyber_prekeys.apply()
        self._kyber_uses.apply()
        self._sender_keys.apply()
        for action in self._actions:
            action()

    async def load_session(self, remote: Address) -> StoredRecord | None:
        return self._sessions.get(remote)

    async def save_session(self, remote: Address, record: bytes, *, expected: int | None) -> bool:
        return _compare_and_set(self._sessions, remote, record, expected)

    async def session_devices(self, service_id: str) -> list[Address]:
        return sorted(remote for remote in self._sessions if remote.service_id == service_id)

    async def load_identity(self, service_id: str) -> bytes | None:
        return self._identities.get(service_id)

    async def save_identity(self, service_id: str, identity_key: bytes) -> None:
        self._identities.put(service_id, identity_key)

    async def load_one_time_prekey(self, key_id: int) -> bytes | None:
        return self._one_time_prekeys.get(key_id)

    async def save_one_time_prekey(self, key_id: int, record: bytes) -> None:
        self._one_time_prekeys.put(key_id, record)

    async def delete_one_time_prekey(self, key_id: int) -> bool:
        return self._one_time_prekeys.delete(key_id)

    async def load_signed_prekey(self, key_id: int) -> bytes | None:
        return self._signed_prekeys.get(key_id)

    async def save_signed_prekey(self, key_id: int, record: bytes) -> None:
        self._signed_prekeys.put(key_id, record)

    async def load_kyber_prekey(self, key_id: int) -> StoredKyberPrekey | None:
        return self._kyber_prekeys.get(key_id)

    async def save_kyber_prekey(self, key_id: int, record: bytes, *, last_resort: bool) -> None:
        self._kyber_prekeys.put(key_id, StoredKyberPrekey(record, last_resort))

    async def delete_kyber_prekey(self, key_id: int) -> bool:
        return self._kyber_prekeys.delete(key_id)

    async def mark_kyber_prekey_used(self, use: KyberUse) -> bool:
        is_first = self._kyber_uses.get(use) is None
        self._kyber_uses.put(use, True)
        return is_first

    async def load_sender_key(self, sender: Address, distribution_id: UUID) -> StoredRecord | None:
        return self._sender_keys.get((sender, distribution_id))

    async def save_sender_key(
        self, sender: Address, distribution_id: UUID, record: bytes, *, expected: int | None
    ) -> bool:
        return _compare_and_set(self._sender_keys, (sender, distribution_id), record, expected)


class _Tables:
    """What is committed."""

    def __init__(self) -> None:
        self.sessions: dict[Address, StoredRecord] = {}
        self.identities: dict[str, bytes] = {}
        self.one_time_prekeys: dict[int, bytes] = {}
        self.signed_prekeys: dict[int, bytes] = {}
        self.kyber_prekeys: dict[int, StoredKyberPrekey] = {}
        self.kyber_uses: dict[KyberUse, bool] = {}
        self.sender_keys: dict[tuple[Address, UUID], StoredRecord] = {}


class _Deleted:
    """Stands for a row that a transaction deleted."""


_DELETED: Final = _Deleted()


class _Changes(Generic[Key, Value]):
    """The changes of one transaction to one table."""

    def __init__(self, table: dict[Key, Value]) -> None:
        self._table = table
        self._changed: dict[Key, Value | _Deleted] = {}

    def get(self, key: Key) -> Value | None:
        if key not in self._changed:
            return self._table.get(key)
        value = self._changed[key]
        return None if isinstance(value, _Deleted) else value

    def __iter__(self) -> Iterator[Key]:
        return (key for key in {**self._table, **self._changed} if self.get(key) is not None)

    def put(self, key: Key, value: Value) -> None:
        self._changed[key] = value

    def delete(self, key: Key) -> bool:
        was_there = self.get(key) is not None
        self._changed[key] = _DELETED
        return was_there

    def apply(self) -> None:
        for key, value in self._changed.items():
            if isinstance(value, _Deleted):
                self._table.pop(key, None)
            else:
                self._table[key] = value


def _compare_and_set(changes: _Changes[Key, StoredRecord], key: Key, record: bytes, expected: int | None) -> bool:
    present = changes.get(key)
    version = None if present is None else present.version
    if version != expected:
        return False
    changes.put(key, StoredRecord(record, (version or 0) + 1))
    return True
