"""The store's generation: a number kept in the database and outside it, by which a restored backup is noticed.

A backup holds one-time prekeys as unused that were handed out since. Used again, they would leave two senders with messages
that nobody can read. So before a one-time key leaves the relay, the generation in the database goes up, and then the one
in a file. A database whose generation is behind the file's has been restored: all one-time keys are voided, last-resort
keys serve, and devices upload new ones. A missing file is treated like a restored database. Each relay process has a file.
"""

import asyncio
import fcntl
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, Uuid, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.database import Base, Database
from messaging.relay.errors import StartupError
from messaging.relay.keys.tables import OneTimeKyberPreKeyRow, OneTimePreKeyRow
from messaging.serving.logs import get_logger

MAX_PROCESSES = 64  # relay processes with files side by side


class GenerationRow(Base):
    """The generation that one relay process has reached."""

    __tablename__ = "generations"
    relay: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a file says: whose it is, and how far the database was."""

    relay: UUID
    number: int


class Generation:
    """The generation of this process. Open it with :func:`open_generation`."""

    def __init__(self, database: Database, path: Path, relay: UUID) -> None:
        self._database = database
        self._path = path
        self._relay = relay
        self._turn = asyncio.Lock()
        self._begun = 0
        self._done = 0

    async def advance(self) -> None:
        """Go up by one, in the database and then in the file; who asks meanwhile shares the next step.

        Raises:
            OSError, DBAPIError: it could not; then no key that was taken may be handed out.
        """
        wanted = self._begun + 1
        async with self._turn:
            if self._done >= wanted:
                return
            self._begun += 1
            this = self._begun
            async with self._database.begin() as db:
                row = GenerationRow
                raised = update(row).where(row.relay == self._relay).values(number=row.number + 1)
                number = (await db.execute(raised.returning(row.number))).scalar_one()
            await asyncio.to_thread(_write, self._path, Mark(self._relay, number))
            self._done = this


@asynccontextmanager
async def open_generation(database: Database, base: Path) -> AsyncIterator[Generation]:
    """Compare the database with all files beside ``base``, void one-time keys if it is behind one, and go up by one.

    Raises:
        StartupError: the files cannot be used, or there are too many processes.
    """
    try:
        base.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path, lock = _claim(base)
    except OSError as error:
        raise StartupError(f"cannot use the generation file: {error.strerror}") from None
    try:
        marks = [mark for each in _slots(base) if (mark := _read(each)) is not None]
        own = _read(path)
        async with database.begin() as db:
            if own is None or await _is_behind(db, marks):
                count = await void_one_time_keys(db)
                if count:
                    get_logger().warning("one_time_prekeys_voided", count=count)
            own = own or Mark(uuid4(), 0)
            await db.execute(delete(GenerationRow).where(GenerationRow.relay == own.relay))
            highest = max([own.number, *(mark.number for mark in marks if mark.relay == own.relay)])
            await db.execute(insert(GenerationRow).values(relay=own.relay, number=highest))
        generation = Generation(database, path, own.relay)
        await generation.advance()
        yield generation
    finally:
        lock.close()


async def _is_behind(db: AsyncConnection, marks: list[Mark]) -> bool:
    row = GenerationRow
    reached = dict((await db.execute(select(row.relay, row.number))).all())
    return any(reached.get(mark.relay, -1) < mark.number for mark in marks)


async def void_one_time_keys(db: AsyncConnection) -> int:
    """Forget every one-time prekey: each may have been handed out already. Returns how many; last-resort keys serve."""
    count = 0
    for row in (OneTimePreKeyRow, OneTimeKyberPreKeyRow):
        count += (await db.execute(delete(row))).rowcount
    return count


def _slots(base: Path) -> Iterator[Path]:
    yield base
    for number in range(2, MAX_PROCESSES + 1):
        yield base.with_name(f"{base.name}.{number}")


def _claim(base: Path) -> tuple[Path, IO[bytes]]:
    for path in _slots(base):
        lock = path.with_name(f"{path.name}.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return path, lock
    raise StartupError(f"more than {MAX_PROCESSES} relays use one generation file")


def _read(path: Path) -> Mark | None:
    try:
        found = json.loads(path.read_bytes())
        return Mark(UUID(found["relay"]), int(found["number"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None  # like a missing one: it proves nothing


def _write(path: Path, mark: Mark) -> None:
    """Replace the file as a whole, on the disk when this returns."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(json.dumps({"relay": str(mark.relay), "number": mark.number}).encode())
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
