"""Bots as a domain of the console: accounts that everybody sees are bots. They are stopped as other accounts are."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.tables import AccountSummary, DeviceRow, account_summaries
from messaging.relay.admin.desk import Action, Desk, View
from messaging.relay.admin.limits import MAX_COUNTED, PAGE
from messaging.relay.admin.parameters import PageSize, RowNumber, day_text, page_of
from messaging.relay.admin.permissions import Permission
from messaging.relay.grants import GrantRow
from messaging.relay.messages.tables import count_up_to
from messaging.wire.json import Entity


class BotPage(Entity):
    """Which page: the bots before that one, newest first."""

    suspended: bool = Field(False, description="Only those that are suspended")
    before: RowNumber | None = None
    limit: PageSize = PAGE


class BotLine(Entity):
    """A bot. Days are UTC; ``waiting`` counts envelopes up to ``MAX_COUNTED`` a device; ``granted`` are limits of its own."""

    aci: UUID
    state: str
    suspended_at: int | None
    created: str
    last_seen: str | None
    devices: int
    waiting: int
    granted: tuple[str, ...]


class Bots(Entity):
    """A page of bots. ``before`` asks for the next one."""

    bots: list[BotLine]
    before: int | None = None


async def _list(_desk: Desk, db: AsyncConnection, page: BotPage) -> Bots:
    found = await account_summaries(db, bots=True, suspended=page.suspended, before=page.before, limit=page.limit + 1)
    shown, last = page_of(found, page.limit)
    devices, granted = await _devices(db, shown), await _granted(db, shown)
    lines = [_line(bot, devices.get(bot.id, (None, 0, 0)), granted.get(bot.id, ())) for bot in shown]
    return Bots(bots=lines, before=None if last is None else last.id)


_Devices = tuple[int | None, int, int]  # of one bot: when one was last seen, how many, and what waits for them


async def _devices(db: AsyncConnection, bots: Sequence[AccountSummary]) -> dict[int, _Devices]:
    row = DeviceRow
    waiting = func.sum(count_up_to(MAX_COUNTED, row.mailbox_id))
    query = select(row.account_id, func.max(row.seen_on), func.count(), waiting).group_by(row.account_id)
    found = await db.execute(query.where(row.account_id.in_([bot.id for bot in bots])))
    return {account: (seen_on, count, int(total)) for account, seen_on, count, total in found}


async def _granted(db: AsyncConnection, bots: Sequence[AccountSummary]) -> dict[int, list[str]]:
    row, granted = GrantRow, dict[int, list[str]]()
    query = select(row.account_id, row.limit_name).where(row.account_id.in_([bot.id for bot in bots]))
    for account, name in await db.execute(query.order_by(row.limit_name)):
        granted.setdefault(account, []).append(name)
    return granted


def _line(bot: AccountSummary, devices: _Devices, granted: Sequence[str]) -> BotLine:
    seen_on, count, waiting = devices
    return BotLine(
        aci=bot.aci,
        state="active" if bot.suspended_at is None else "suspended",
        suspended_at=bot.suspended_at,
        created=day_text(bot.created_on),
        last_seen=None if seen_on is None else day_text(seen_on),
        devices=count,
        waiting=waiting,
        granted=tuple(granted),
    )


VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View(
        "bots.list",
        "Bots, the newest first",
        Permission.BOTS_SEE,
        BotPage,
        Bots,
        _list,
        of_account=True,
        subject=lambda _: "bots",
    ),
)
ACTIONS: Final[tuple[Action[Any], ...]] = ()
