"""A store of an enclave that remembers what was decrypted into it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from messaging.client import Store
from messaging.client.device import INBOX
from messaging.client.stores import StoreTransaction
from messaging.client.stores.sealing import Sealer
from messaging.wire.content import Content, ProfileKeyUpdate, SenderKeyDistribution, decode_content
from messaging.wire.identifiers import PRIMARY_DEVICE, DeviceAddress, ServiceId

T = TypeVar("T")
_PROFILE_KEY, _DISTRIBUTIONS = "profile key", "distributions"
_HEADER_LINES = 4  # of an entry of the inbox, the sender's first


class WatchedStore(Store):
    """As any store. ``contents`` is all that its device ever decrypted, keys of others included, with who sent it.

    A profile key is kept of an account, so that it does not say which device sent it: the first one stands for them.
    """

    def __init__(self, db: sqlite3.Connection, sealer: Sealer) -> None:
        super().__init__(db, sealer)
        self.contents: list[tuple[DeviceAddress, Content]] = []
        self._news = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path | str, key: bytes) -> AsyncIterator["WatchedStore"]:
        async with super().open(path, key) as store:
            assert isinstance(store, cls)
            yield store

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        seen: list[tuple[DeviceAddress, Content]] = []
        async with super().transaction() as transaction:
            yield _Watched(transaction._db, transaction._sealer, seen)
        if seen:
            async with self._news:
                self.contents += seen
                self._news.notify_all()

    async def wait_until(self, holds: Callable[[], T]) -> T:
        """Wait until something that was decrypted makes ``holds`` true."""
        async with self._news:
            return await self._news.wait_for(holds)

    def records(self) -> dict[str, list[bytes]]:
        """Every record and every entry of every queue, opened, by kind: the whole store."""
        found: dict[str, list[bytes]] = {}
        for kind, name, version, sealed in self._db.execute("SELECT kind, name, version, sealed FROM records"):
            found.setdefault(kind, []).append(self._sealer.open(sealed, kind, name, version))
        for kind, number, sealed in self._db.execute("SELECT kind, id, sealed FROM queues"):
            found.setdefault(kind, []).append(self._sealer.open(sealed, kind, b"", number))
        return found


class _Watched(StoreTransaction):
    def __init__(self, db: sqlite3.Connection, sealer: Sealer, seen: list[tuple[DeviceAddress, Content]]) -> None:
        super().__init__(db, sealer)
        self._seen = seen

    def append(self, kind: str, entry: bytes, *, family: tuple[str, ...] | None = None) -> int:
        if kind == INBOX:
            sender, *_, plaintext = entry.split(b"\n", _HEADER_LINES)
            self._seen.append((DeviceAddress.parse(sender.decode()), decode_content(plaintext)))
        if kind == _DISTRIBUTIONS:
            sender, message = entry.split(b"\n", 1)
            self._seen.append((DeviceAddress.parse(sender.decode()), SenderKeyDistribution(message)))
        return super().append(kind, entry, family=family)

    def put(self, kind: str, *name: str, record: bytes, family: tuple[str, ...] | None = None) -> None:
        if kind == _PROFILE_KEY:
            self._seen.append((DeviceAddress(ServiceId.parse(name[0]), PRIMARY_DEVICE), ProfileKeyUpdate(record)))
        super().put(kind, *name, record=record, family=family)
