"""Usernames, of which the relay knows hashes: reserved for minutes, confirmed, and after release kept for their old owner.

The proof that a device knows the name behind a hash is not verified: that needs libsignal, which the relay does not have.
So a device may hold a hash without knowing its name; it gains nothing but that nobody else has it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, Uuid, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.accounts.tables import AccountRow, find_account, lock_account_by_id
from messaging.relay.database import Base, Database, RowId, index_of_some
from messaging.relay.errors import Conflict, Gone, NotAuthenticated, NotFound
from messaging.relay.http import Caller
from messaging.relay.limits import Limit, RateLimits
from messaging.wire.identifiers import ServiceId
from messaging.wire.usernames import UsernameHashResponse

RESERVED = 5 * 60 * 1000  # milliseconds (Signal-Server)
HELD = 7 * 24 * 60 * 60 * 1000  # after release, for its old owner (Signal-Server)


class UsernameRow(Base):
    """A hash that is not free: reserved or held until ``expires_at``, or confirmed, which does not expire."""

    __tablename__ = "usernames"
    __table_args__ = (index_of_some("ix_usernames_expires_at", "expires_at", where="expires_at IS NOT NULL"),)
    username_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    account_id: Mapped[int] = mapped_column(RowId, ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    confirmed: Mapped[bool]
    expires_at: Mapped[int | None] = mapped_column(BigInteger)
    link_handle: Mapped[UUID | None] = mapped_column(Uuid, unique=True)
    encrypted_username: Mapped[bytes | None] = mapped_column(LargeBinary)


@dataclass(frozen=True, slots=True)
class _Username:
    account_id: int
    confirmed: bool
    expires_at: int | None
    link_handle: UUID | None = field(repr=False)

    def is_free(self, now: int) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class UsernameService:
    """Gives usernames to accounts. ``now`` gives milliseconds since 1970."""

    database: Database
    limits: RateLimits
    now: Callable[[], int]
    new_uuid: Callable[[], UUID] = uuid4

    async def reserve(self, caller: Caller, hashes: Iterable[bytes]) -> bytes:
        """Reserve the first hash that is free, or the caller's already; the reservation before is given up.

        Raises:
            Conflict: none of them is.
            RateLimited: too many reservations.
        """
        await self.limits.take(Limit.USERNAME_RESERVE, caller.account_id, account=caller.account_id, bot=caller.is_bot)
        for username_hash in hashes:
            try:
                async with self.database.begin() as db:
                    if await self._reserve(db, caller, username_hash):
                        return username_hash
            except IntegrityError:
                continue  # somebody else was faster
        raise Conflict

    async def _reserve(self, db: AsyncConnection, caller: Caller, username_hash: bytes) -> bool:
        await self._lock(db, caller)
        found = await _find(db, username_hash)
        if found is not None and found.account_id == caller.account_id and found.confirmed:
            return True
        if found is not None and found.account_id != caller.account_id and not found.is_free(self.now()):
            return False
        row = UsernameRow
        # Only what may be taken: meanwhile somebody else may have reserved it, and then the insertion fails.
        mine_or_free = (row.account_id == caller.account_id) | (row.expires_at <= self.now())
        await db.execute(delete(row).where((row.username_hash == username_hash) & mine_or_free))
        mine = (
            (row.account_id == caller.account_id) & row.confirmed.is_(False) & (row.expires_at <= self.now() + RESERVED)
        )
        await db.execute(delete(row).where(mine))
        values = {"username_hash": username_hash, "account_id": caller.account_id, "confirmed": False}
        await db.execute(insert(row).values(**values, expires_at=self.now() + RESERVED))
        return True

    async def confirm(self, caller: Caller, username_hash: bytes, encrypted: bytes | None) -> UsernameHashResponse:
        """Make a reserved hash the caller's username; the one before is released.

        Raises:
            Conflict: it is not reserved.
            Gone: it is somebody else's.
            RateLimited: set too often.
        """
        await self.limits.take(Limit.USERNAME_SET, caller.account_id, account=caller.account_id, bot=caller.is_bot)
        async with self.database.begin() as db:
            await self._lock(db, caller)
            found = await _find(db, username_hash)
            if found is None or (found.account_id == caller.account_id and found.is_free(self.now())):
                raise Conflict
            if found.account_id != caller.account_id:
                raise Gone
            handle = self.new_uuid() if encrypted is not None else None
            if not found.confirmed:
                await release_username(db, caller.account_id, now=self.now())
            values: dict[str, Any] = {"confirmed": True, "expires_at": None}
            values |= {"link_handle": handle, "encrypted_username": encrypted}
            await db.execute(update(UsernameRow).where(UsernameRow.username_hash == username_hash).values(values))
        return UsernameHashResponse(username_hash=username_hash, username_link_handle=handle)

    async def release(self, caller: Caller) -> None:
        """Give the username up; for a week nobody else gets it."""
        async with self.database.begin() as db:
            await self._lock(db, caller)
            await release_username(db, caller.account_id, now=self.now())

    async def find(self, username_hash: bytes, *, remote: str) -> UUID:
        """The ACI of the account with this username.

        Raises:
            NotFound: there is none.
            RateLimited: too many look-ups.
        """
        await self.limits.take(Limit.USERNAME_LOOKUP, remote)
        async with self.database.read() as db:
            found = await find_owner(db, username_hash)
        if found is None:
            raise NotFound
        return found

    async def set_link(self, caller: Caller, encrypted: bytes, *, keep_handle: bool) -> UUID:
        """Set what the username's link gives; returns its handle, a new one unless ``keep_handle``.

        Raises:
            Conflict: the account has no username.
            RateLimited: too many changes.
        """
        await self.limits.take(
            Limit.USERNAME_LINK_OPERATION, caller.account_id, account=caller.account_id, bot=caller.is_bot
        )
        async with self.database.begin() as db:
            await self._lock(db, caller)
            row = UsernameRow
            mine = (row.account_id == caller.account_id) & row.confirmed
            found = (await db.execute(select(row.link_handle).where(mine))).one_or_none()
            if found is None:
                raise Conflict
            handle: UUID = found[0] if keep_handle and found[0] is not None else self.new_uuid()
            await db.execute(update(row).where(mine).values(link_handle=handle, encrypted_username=encrypted))
        return handle

    async def delete_link(self, caller: Caller) -> None:
        """Remove the username's link.

        Raises:
            RateLimited: too many changes.
        """
        await self.limits.take(
            Limit.USERNAME_LINK_OPERATION, caller.account_id, account=caller.account_id, bot=caller.is_bot
        )
        row = UsernameRow
        async with self.database.begin() as db:
            mine = update(row).where(row.account_id == caller.account_id)
            await db.execute(mine.values(link_handle=None, encrypted_username=None))

    async def find_link(self, handle: UUID, *, remote: str) -> bytes:
        """What a link gives.

        Raises:
            NotFound: no such link.
            RateLimited: too many look-ups.
        """
        await self.limits.take(Limit.USERNAME_LINK_LOOKUP, remote)
        query = select(UsernameRow.encrypted_username).where(UsernameRow.link_handle == handle)
        async with self.database.read() as db:
            found: bytes | None = await db.scalar(query)
        if found is None:
            raise NotFound
        return found

    async def account_exists(self, service_id: ServiceId, *, remote: str) -> None:
        """Whether somebody has this identity, which is known only to whom it was told.

        Raises:
            NotFound: nobody has.
            RateLimited: too many questions.
        """
        await self.limits.take(Limit.CHECK_ACCOUNT_EXISTENCE, remote)
        async with self.database.read() as db:
            if await find_account(db, service_id) is None:
                raise NotFound

    async def _lock(self, db: AsyncConnection, caller: Caller) -> None:
        if await lock_account_by_id(db, caller.account_id) is None:
            raise NotAuthenticated


async def release_username(db: AsyncConnection, account_id: int, *, now: int) -> None:
    """Give an account's username up; for a week only it may have it again."""
    row = UsernameRow
    mine = update(row).where(row.account_id == account_id, row.confirmed)
    held: dict[str, Any] = {"confirmed": False, "expires_at": now + HELD}
    await db.execute(mine.values(**held, link_handle=None, encrypted_username=None))


async def find_owner(db: AsyncConnection, username_hash: bytes) -> UUID | None:
    """The ACI of the account whose username has this hash."""
    row = UsernameRow
    query = select(AccountRow.aci).join(row, row.account_id == AccountRow.id)
    found: UUID | None = await db.scalar(query.where(row.username_hash == username_hash, row.confirmed))
    return found


async def _find(db: AsyncConnection, username_hash: bytes) -> _Username | None:
    row = UsernameRow
    query = select(row.account_id, row.confirmed, row.expires_at, row.link_handle)
    found = (await db.execute(query.where(row.username_hash == username_hash).with_for_update())).one_or_none()
    return None if found is None else _Username(*found)


async def delete_expired_usernames(db: AsyncConnection, *, now: int) -> int:
    """Forget reservations and releases that are over; returns how many."""
    return (await db.execute(delete(UsernameRow).where(UsernameRow.expires_at <= now))).rowcount
