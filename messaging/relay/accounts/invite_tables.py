"""The table of invites, with the queries on it. Codes and numbers are kept as keyed hashes only."""

from typing import Any

from sqlalchemy import BigInteger, Integer, LargeBinary, String, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.accounts.invites import Invite
from messaging.relay.database import Base, RowId


class InviteRow(Base):
    """An invite. One with ``number_hash`` is good for that number alone."""

    __tablename__ = "invites"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's own idiom
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    code_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    role: Mapped[str] = mapped_column(String(16))
    uses_left: Mapped[int] = mapped_column(Integer)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[int] = mapped_column(BigInteger)
    number_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    revoked: Mapped[bool]


_INVITE = (
    InviteRow.id,
    InviteRow.role,
    InviteRow.uses_left,
    InviteRow.expires_at,
    InviteRow.created_at,
    InviteRow.number_hash,
    InviteRow.revoked,
)


async def insert_invite(db: AsyncConnection, values: dict[str, Any]) -> Invite:
    """Add an invite."""
    return Invite(*(await db.execute(insert(InviteRow).values(values).returning(*_INVITE))).one())


async def lock_invite(db: AsyncConnection, code_hash: bytes) -> Invite | None:
    """The invite with this code, good or not, locked until the transaction ends."""
    query = select(*_INVITE).where(InviteRow.code_hash == code_hash).with_for_update()
    found = (await db.execute(query)).one_or_none()
    return None if found is None else Invite(*found)


async def take_use(db: AsyncConnection, invite: Invite) -> None:
    """Take one use of an invite that is locked."""
    taken = update(InviteRow).where(InviteRow.id == invite.id).values(uses_left=InviteRow.uses_left - 1)
    await db.execute(taken)


async def all_invites(db: AsyncConnection) -> list[Invite]:
    """Every invite there ever was, oldest first."""
    return [Invite(*found) for found in await db.execute(select(*_INVITE).order_by(InviteRow.id))]


async def invites_before(db: AsyncConnection, before: int | None, *, limit: int) -> list[Invite]:
    """The latest invites with smaller ids than ``before``, newest first."""
    query = select(*_INVITE).order_by(InviteRow.id.desc()).limit(limit)
    query = query if before is None else query.where(InviteRow.id < before)
    return [Invite(*found) for found in await db.execute(query)]


async def revoke_invite(db: AsyncConnection, invite_id: int) -> bool:
    """Revoke an invite; ``False`` if there is none with this id."""
    revoked = update(InviteRow).where(InviteRow.id == invite_id).values(revoked=True)
    return (await db.execute(revoked)).rowcount == 1
