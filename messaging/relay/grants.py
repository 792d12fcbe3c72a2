"""What an operator has granted to single accounts instead of the usual limits: read now and then, for grants are few."""

import asyncio
from uuid import UUID

from sqlalchemy import Float, ForeignKey, String, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.accounts.tables import AccountRow, find_account
from messaging.relay.database import Base, Database, RowId
from messaging.relay.errors import NotFound
from messaging.relay.limits import Bucket, Limit, nearest_bucket
from messaging.serving.logs import get_logger
from messaging.wire.identifiers import ServiceId

READ_SECONDS = 10
_NAMES = frozenset(Limit)  # a database may know a bucket of another version


class GrantRow(Base):
    """A bucket of one account."""

    __tablename__ = "grants"
    account_id: Mapped[int] = mapped_column(RowId, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    limit_name: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[float] = mapped_column(Float)
    refill: Mapped[float] = mapped_column(Float)


class GrantBook:
    """All grants, as they were a few seconds ago."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._grants: dict[tuple[int, str], Bucket] = {}

    def find(self, account: int, limit: Limit) -> Bucket | None:
        """What was granted to an account."""
        return self._grants.get((account, limit))

    async def read(self) -> None:
        """Read all grants."""
        row = GrantRow
        async with self._database.read() as db:
            found = (await db.execute(select(row.account_id, row.limit_name, row.size, row.refill))).all()
        self._grants = {
            (account, name): nearest_bucket(Limit(name), size, refill)
            for account, name, size, refill in found
            if name in _NAMES
        }

    async def run(self) -> None:
        """Read them now and then, until cancelled."""
        while True:
            try:
                await self.read()
            except Exception as error:  # noqa: BLE001 - the grants of before stand; the next look is seconds away
                get_logger().warning("grants_not_read", error=type(error).__name__)
            await asyncio.sleep(READ_SECONDS)


async def set_grant(db: AsyncConnection, aci: UUID, limit: Limit, bucket: Bucket | None) -> None:
    """Grant a bucket to an account, or take the grant back.

    Raises:
        NotFound: no such account.
    """
    account = await find_account(db, ServiceId(aci))
    if account is None:
        raise NotFound
    row = GrantRow
    await remove_grant(db, account.id, limit)
    if bucket is not None:
        values = {"account_id": account.id, "limit_name": limit.value, "size": bucket.size, "refill": bucket.refill}
        await db.execute(insert(row).values(values))


async def remove_grant(db: AsyncConnection, account_id: int, limit: Limit) -> bool:
    """Take a grant back; ``False`` if there is none."""
    row = GrantRow
    gone = delete(row).where(row.account_id == account_id, row.limit_name == limit.value)
    return (await db.execute(gone)).rowcount > 0


async def grants_of(db: AsyncConnection, account_id: int) -> list[tuple[str, Bucket]]:
    """What was granted to an account, by the names of the limits."""
    row = GrantRow
    query = select(row.limit_name, row.size, row.refill).where(row.account_id == account_id).order_by(row.limit_name)
    return [(name, Bucket(size, refill)) for name, size, refill in await db.execute(query)]


async def list_grants(db: AsyncConnection) -> list[tuple[UUID, str, Bucket]]:
    """All grants: the account's ACI, the limit's name, the bucket."""
    row = GrantRow
    query = select(AccountRow.aci, row.limit_name, row.size, row.refill).join(row, row.account_id == AccountRow.id)
    found = await db.execute(query.order_by(AccountRow.aci, row.limit_name))
    return [(aci, name, Bucket(size, refill)) for aci, name, size, refill in found]
