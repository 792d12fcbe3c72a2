"""How often somebody may try to sign in: counted by the minute, under a keyed hash of who tries.

A try is counted before anything is compared, and given back when it was good: many at once do not get past the limit.
"""

import ipaddress

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.errors import TooManyTries
from messaging.relay.admin.operator_tables import TryRow

MINUTE = 60_000  # milliseconds
MINUTES_OF_A_DAY = 24 * 60
_NETWORK_BITS = 64  # of an IPv6 address: one subscriber has at least so many addresses


def network_of(address: str) -> str:
    """Whom an address stands for: itself, or with IPv6 the network that one subscriber has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""  # no address at all: all of those together
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), _NETWORK_BITS), strict=False))
    return str(found)


async def count_try(db: AsyncConnection, who: bytes, *, now: int, limit: int) -> None:
    """Count a try in this minute.

    Raises:
        TooManyTries: there were ``limit`` before; this one is not counted.
    """
    row, minute = TryRow, now // MINUTE
    here = (row.who_hash == who, row.minute == minute)
    more = update(row).where(*here, row.count < limit).values(count=row.count + 1)
    if (await db.execute(more)).rowcount:
        return
    try:
        async with db.begin_nested():
            await db.execute(insert(row).values(who_hash=who, minute=minute, count=1))
    except IntegrityError:  # it is there: full, or made by somebody else this moment
        if not (await db.execute(more)).rowcount:
            raise TooManyTries from None


async def give_back(db: AsyncConnection, who: bytes, *, now: int) -> None:
    """The try was good: it does not count. ``now`` is when it was counted."""
    row = TryRow
    here = (row.who_hash == who, row.minute == now // MINUTE, row.count > 0)
    await db.execute(update(row).where(*here).values(count=row.count - 1))


async def tries_of_a_day(db: AsyncConnection, who: bytes, *, now: int) -> int:
    """How many were counted in the last 24 hours."""
    row = TryRow
    query = select(func.coalesce(func.sum(row.count), 0))
    query = query.where(row.who_hash == who, row.minute > now // MINUTE - MINUTES_OF_A_DAY)
    return int((await db.execute(query)).scalar_one())


async def forget_old_tries(db: AsyncConnection, *, now: int) -> None:
    """Delete what no limit looks at any more."""
    await db.execute(delete(TryRow).where(TryRow.minute <= now // MINUTE - MINUTES_OF_A_DAY))
