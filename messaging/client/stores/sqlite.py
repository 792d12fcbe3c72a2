"""A device's records in one SQLite file, or in memory, each sealed. One transaction is open at a time.

Statements run in the event loop's thread: they touch pages in memory and take microseconds. A commit waits for the disk, so it
runs in a thread, and is waited for even if the caller is cancelled: a transaction is over when this module says so.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from messaging.client.errors import CorruptStore, StoreFailed, StoreInUse, WrongKey
from messaging.client.stores.sealing import Sealer
from signal_protocol.storage import StoredKyberPrekey, StoredRecord
from signal_protocol.types import Address, KyberUse

SCHEMA_VERSION = 2
IN_MEMORY = ":memory:"

_SCHEMA = """
CREATE TABLE records (
    kind TEXT NOT NULL,
    name BLOB NOT NULL,
    family BLOB,
    version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE INDEX records_by_family ON records (kind, family) WHERE family IS NOT NULL;
CREATE TABLE queues (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    sealed BLOB NOT NULL
);
"""
_UPGRADES = {  # by the version that they lead to
    # Sender keys belong to families from now on. Nothing used those from before.
    2: """
DELETE FROM records WHERE kind = 'sender key';
ALTER TABLE queues ADD COLUMN family BLOB;
CREATE INDEX queues_by_kind ON queues (kind, id);
CREATE INDEX queues_by_family ON queues (kind, family, id) WHERE family IS NOT NULL;
""",
}


class StoreTransaction:
    """One open transaction; see ``signal_protocol.storage`` for what the protocol methods mean."""

    def __init__(self, db: sqlite3.Connection, sealer: Sealer) -> None:
        self._db = db
        self._sealer = sealer
        self.identities_saved = 0

    # --- named records ---

    def get(self, kind: str, *name: str) -> bytes | None:
        """The record of this kind and name."""
        stored = self._load(kind, self._sealer.name(kind, *name))
        return None if stored is None else stored.record

    def put(self, kind: str, *name: str, record: bytes, family: tuple[str, ...] | None = None) -> None:
        """Write a record, replacing another. The first write decides which ``family`` it belongs to."""
        named = self._sealer.name(kind, *name)
        stored = self._load(kind, named)
        expected = None if stored is None else stored.version
        self._save(kind, named, record, expected=expected, family=self._family(kind, family))

    def delete(self, kind: str, *name: str) -> bool:
        """Delete a record; say whether it was there."""
        named = self._sealer.name(kind, *name)
        return self._db.execute("DELETE FROM records WHERE kind = ? AND name = ?", (kind, named)).rowcount > 0

    def family(self, kind: str, *family: str) -> list[bytes]:
        """The records of a family, in no order."""
        rows = self._db.execute(
            "SELECT name, version, sealed FROM records WHERE kind = ? AND family = ?",
            (kind, self._family(kind, family)),
        )
        return [self._sealer.open(sealed, kind, name, version) for name, version, sealed in rows]

    def delete_family(self, kind: str, *family: str) -> None:
        """Delete all records of a family."""
        self._db.execute("DELETE FROM records WHERE kind = ? AND family = ?", (kind, self._family(kind, family)))

    # --- queues, in order ---

    def append(self, kind: str, entry: bytes, *, family: tuple[str, ...] | None = None) -> int:
        """Add an entry at the end of a queue; returns its number."""
        named = self._family(kind, family)
        cursor = self._db.execute("INSERT INTO queues (kind, family, sealed) VALUES (?, ?, x'')", (kind, named))
        number = cursor.lastrowid or 0
        self.replace(kind, number, entry)
        return number

    def replace(self, kind: str, number: int, entry: bytes) -> None:
        """Change an entry in its place."""
        sealed = self._sealer.seal(entry, kind, b"", number)
        self._db.execute("UPDATE queues SET sealed = ? WHERE id = ? AND kind = ?", (sealed, number, kind))

    def entries(
        self, kind: str, *, after: int = 0, limit: int = 100, family: tuple[str, ...] | None = None
    ) -> list[tuple[int, bytes]]:
        """The entries of a queue, or of one family in it, behind the number ``after``, in order."""
        if family is None:
            rows = self._db.execute(
                "SELECT id, sealed FROM queues WHERE kind = ? AND id > ? ORDER BY id LIMIT ?", (kind, after, limit)
            )
        else:
            rows = self._db.execute(
                "SELECT id, sealed FROM queues WHERE kind = ? AND family = ? AND id > ? ORDER BY id LIMIT ?",
                (kind, self._family(kind, family), after, limit),
            )
        return [(number, self._sealer.open(sealed, kind, b"", number)) for number, sealed in rows]

    def remove(self, kind: str, number: int) -> bool:
        """Take an entry out of a queue; say whether it was there."""
        return self._db.execute("DELETE FROM queues WHERE id = ? AND kind = ?", (number, kind)).rowcount > 0

    # --- signal_protocol.storage.ProtocolTransaction ---

    async def load_session(self, remote: Address) -> StoredRecord | None:
        stored = self._load("session", self._sealer.name("session", str(remote)))
        return None if stored is None else StoredRecord(stored.record[1:], stored.version)  # without the device byte

    async def save_session(self, remote: Address, record: bytes, *, expected: int | None) -> bool:
        name = self._sealer.name("session", str(remote))
        family = self._family("session", (remote.service_id,))
        # The device travels inside, since names cannot be read back.
        return self._save("session", name, bytes([remote.device_id]) + record, expected=expected, family=family)

    async def session_devices(self, service_id: str) -> list[Address]:
        return sorted(Address(service_id, record[0]) for record in self.family("session", service_id))

    async def load_identity(self, service_id: str) -> bytes | None:
        return self.get("identity", service_id)

    async def save_identity(self, service_id: str, identity_key: bytes) -> None:
        self.identities_saved += 1
        self.put("identity", service_id, record=identity_key)

    async def load_one_time_prekey(self, key_id: int) -> bytes | None:
        return self.get("one-time prekey", str(key_id))

    async def save_one_time_prekey(self, key_id: int, record: bytes) -> None:
        self.put("one-time prekey", str(key_id), record=record)

    async def delete_one_time_prekey(self, key_id: int) -> bool:
        return self.delete("one-time prekey", str(key_id))

    async def load_signed_prekey(self, key_id: int) -> bytes | None:
        return self.get("signed prekey", str(key_id))

    async def save_signed_prekey(self, key_id: int, record: bytes) -> None:
        self.put("signed prekey", str(key_id), record=record)

    async def load_kyber_prekey(self, key_id: int) -> StoredKyberPrekey | None:
        stored = self.get("kyber prekey", str(key_id))
        return None if stored is None else StoredKyberPrekey(stored[1:], last_resort=stored[0] == 1)

    async def save_kyber_prekey(self, key_id: int, record: bytes, *, last_resort: bool) -> None:
        self.put("kyber prekey", str(key_id), record=bytes([last_resort]) + record)

    async def delete_kyber_prekey(self, key_id: int) -> bool:
        return self.delete("kyber prekey", str(key_id))

    async def mark_kyber_prekey_used(self, use: KyberUse) -> bool:
        name = self._sealer.name("kyber use", str(use.kyber_prekey_id), str(use.signed_prekey_id), use.base_key.hex())
        return self._save("kyber use", name, b"", expected=None)

    async def load_sender_key(self, sender: Address, distribution_id: UUID) -> StoredRecord | None:
        return self._load("sender key", self._sealer.name("sender key", str(sender), str(distribution_id)))

    async def save_sender_key(
        self, sender: Address, distribution_id: UUID, record: bytes, *, expected: int | None
    ) -> bool:
        name = self._sealer.name("sender key", str(sender), str(distribution_id))
        family = self._family("sender key", (sender.service_id,))
        return self._save("sender key", name, record, expected=expected, family=family)

    def delete_sender_key(self, sender: Address, distribution_id: UUID) -> None:
        """Delete one sender key of a device, if it is there."""
        self.delete("sender key", str(sender), str(distribution_id))

    def delete_sender_keys(self, service_id: str) -> None:
        """Delete the sender keys of all devices of an account: nothing that they wrote to a group can be read any more."""
        self.delete_family("sender key", service_id)

    def _family(self, kind: str, family: tuple[str, ...] | None) -> bytes | None:
        return None if family is None else self._sealer.name(f"{kind} of", *family)

    def _load(self, kind: str, name: bytes) -> StoredRecord | None:
        row = self._db.execute(
            "SELECT version, sealed FROM records WHERE kind = ? AND name = ?", (kind, name)
        ).fetchone()
        return None if row is None else StoredRecord(self._sealer.open(row[1], kind, name, row[0]), row[0])

    def _save(
        self, kind: str, name: bytes, record: bytes, *, expected: int | None, family: bytes | None = None
    ) -> bool:
        """Write if the version is still ``expected``; say whether it was."""
        version = (expected or 0) + 1
        sealed = self._sealer.seal(record, kind, name, version)
        if expected is None:
            written = self._db.execute(
                "INSERT INTO records (kind, name, family, version, sealed) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (kind, name, family, version, sealed),
            )
        else:
            written = self._db.execute(
                "UPDATE records SET version = ?, sealed = ? WHERE kind = ? AND name = ? AND version = ?",
                (version, sealed, kind, name, expected),
            )
        return written.rowcount > 0


class Store:
    """A device's store. Make it with :meth:`open`."""

    def __init__(self, db: sqlite3.Connection, sealer: Sealer) -> None:
        self._db = db
        self._sealer = sealer
        self._lock = asyncio.Lock()
        self.identity_changes = 0  # since it was opened: who has read identity keys sees whether to read them again

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path | str, key: bytes) -> AsyncIterator["Store"]:
        """Open or make a store. ``:memory:`` makes one that nothing of reaches a disk.

        Args:
            key: 32 bytes, which the application keeps; see ``derive_key`` for a passphrase.

        Raises:
            WrongKey: the store was made with another key.
            StoreInUse: another process has it open.
        """
        db = await asyncio.to_thread(_connect, str(path))
        try:
            store = cls(db, Sealer.from_key(key))
            await store._check()
            yield store
        finally:
            db.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        """A transaction that commits at the end of its block, and rolls back if the block raises.

        Raises:
            StoreFailed: it could not be written, and so nothing of it was.
        """
        async with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                before = self._db.total_changes
                transaction = StoreTransaction(self._db, self._sealer)
                yield transaction
                if self._db.total_changes == before:
                    self._db.execute("COMMIT")  # nothing was written, so nothing waits for the disk
                else:
                    self.identity_changes += transaction.identities_saved
                    await _to_its_end(lambda: self._db.execute("COMMIT"))
            except BaseException as error:
                if self._db.in_transaction:  # on a full disk SQLite has rolled back by itself
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    raise StoreFailed from None
                raise

    async def _check(self) -> None:
        """Make the schema, or prove with a sealed mark that the key is right; bring an older one up to date."""
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise CorruptStore
        async with self.transaction() as transaction:
            if version == 0:
                self._run(_SCHEMA)
                version = 1
            elif not _is_marked(transaction):
                raise WrongKey
            if version == SCHEMA_VERSION:
                return
            for step in range(version + 1, SCHEMA_VERSION + 1):
                self._run(_UPGRADES[step])
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            transaction.put("mark", record=json.dumps({"schema": SCHEMA_VERSION}).encode())

    def _run(self, statements: str) -> None:
        for statement in statements.split(";\n"):
            self._db.execute(statement)


def _is_marked(transaction: StoreTransaction) -> bool:
    try:
        return transaction.get("mark") is not None
    except CorruptStore:
        return False


def _connect(path: str) -> sqlite3.Connection:
    if path != IN_MEMORY:
        Path(path).touch(mode=0o600)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
    try:
        for pragma in (
            "temp_store = MEMORY",
            "secure_delete = ON",
            "locking_mode = EXCLUSIVE",
            "journal_mode = WAL",
            "synchronous = FULL",
        ):
            db.execute(f"PRAGMA {pragma}")
        db.execute("BEGIN IMMEDIATE")
        db.execute("COMMIT")
    except sqlite3.OperationalError:
        db.close()
        raise StoreInUse from None
    except sqlite3.DatabaseError:
        db.close()
        raise WrongKey from None
    return db


async def _to_its_end(work: Callable[[], object]) -> None:
    """Run ``work`` in a thread and wait for it whatever happens, cancellation included."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        running.result()
        raise
