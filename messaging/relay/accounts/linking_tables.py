"""Tables of linking: provisioning addresses that somebody waits at, and linking tokens that were used."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, LargeBinary, SmallInteger, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.database import Base, RowId


class ProvisioningRow(Base):
    """An address at which a new device waits for one message. It is a bearer's secret, so only its hash is kept."""

    __tablename__ = "provisioning"
    address_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    message: Mapped[bytes | None] = mapped_column(LargeBinary)  # encrypted to the new device
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)


class UsedLinkTokenRow(Base):
    """A linking token that was used, by its hash, and the device that it linked."""

    __tablename__ = "used_link_tokens"
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    account_id: Mapped[int] = mapped_column(RowId)
    device_id: Mapped[int] = mapped_column(SmallInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)


async def insert_address(db: AsyncConnection, address_hash: bytes, *, expires_at: int) -> None:
    """Begin to wait at an address."""
    await db.execute(insert(ProvisioningRow).values(address_hash=address_hash, expires_at=expires_at))


async def delete_address(db: AsyncConnection, address_hash: bytes) -> None:
    """Wait no more."""
    await db.execute(delete(ProvisioningRow).where(ProvisioningRow.address_hash == address_hash))


async def leave_message(db: AsyncConnection, address_hash: bytes, message: bytes, *, now: int) -> bool:
    """Leave the one message at an address; ``False`` if nobody waits there, or one was left already."""
    row = ProvisioningRow
    left = update(row).where(row.address_hash == address_hash, row.expires_at > now, row.message.is_(None))
    return (await db.execute(left.values(message=message))).rowcount > 0


async def read_message(db: AsyncConnection, address_hash: bytes) -> bytes | None:
    """The message that was left at an address."""
    row = ProvisioningRow
    found: bytes | None = (
        await db.execute(select(row.message).where(row.address_hash == address_hash))
    ).scalar_one_or_none()
    return found


@dataclass(frozen=True, slots=True)
class UsedLinkToken:
    """Which device a token linked."""

    account_id: int
    device_id: int


async def use_token(
    db: AsyncConnection, token_hash: bytes, *, account_id: int, device_id: int, expires_at: int
) -> None:
    """Note that a token was used; raises ``IntegrityError`` if it was used before."""
    values = {"token_hash": token_hash, "account_id": account_id, "device_id": device_id, "expires_at": expires_at}
    await db.execute(insert(UsedLinkTokenRow).values(values))


async def find_used_token(db: AsyncConnection, token_hash: bytes) -> UsedLinkToken | None:
    """What a token was used for; ``None`` if it was not used."""
    row = UsedLinkTokenRow
    found = (await db.execute(select(row.account_id, row.device_id).where(row.token_hash == token_hash))).one_or_none()
    return None if found is None else UsedLinkToken(*found)


async def delete_expired_links(db: AsyncConnection, *, now: int) -> int:
    """Forget what has expired; returns how many."""
    count = 0
    for row in (ProvisioningRow, UsedLinkTokenRow):
        count += (await db.execute(delete(row).where(row.expires_at <= now))).rowcount
    return count
