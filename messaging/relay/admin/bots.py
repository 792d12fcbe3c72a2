"""Bots as a domain of the console: accounts that everybody sees are bots. They are stopped as other accounts are."""

from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.tables import DeviceRow, account_summaries
from messaging.relay.admin.desk import Action, Desk, View
from messaging.relay.admin.limits import MAX_COUNTED, MAX_PAGE, PAGE
from messaging.relay.admin.parameters import RowNumber, day_text
from messaging.relay.admin.permissions import Permission
from messaging.relay.grants import GrantRow
from messaging.relay.messages.tables import count_up_to
from messaging.wire.json import Entity


class BotPage(Entity):
    """Which page: the bots before that one, newest first."""

    suspended: bool = Field(False, description="Only those that are suspended")
    before: RowNumber | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = PAGE


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
    shown = found[: page.limit]
    ids = [each.id for each in shown]
    device, grant = DeviceRow, GrantRow
    waiting = func.sum(count_up_to(MAX_COUNTED, device.mailbox_id))
    columns = (device.account_id, func.max(device.seen_on), func.count(), waiting)
    query = select(*columns).where(device.account_id.in_(ids)).group_by(device.account_id)
    devices = {account: facts for account, *facts in await db.execute(query)}
    granted: dict[int, list[str]] = {}
    names = select(grant.account_id, grant.limit_name).where(grant.account_id.in_(ids)).order_by(grant.limit_name)
    for account, name in await db.execute(names):
        granted.setdefault(account, []).append(name)
    lines = []
    for bot in shown:
        seen_on, count, total = devices.get(bot.id, (None, 0, 0))
        lines.append(
            BotLine(
                aci=bot.aci,
                state="active" if bot.suspended_at is None else "suspended",
                suspended_at=bot.suspended_at,
                created=day_text(bot.created_on),
                last_seen=None if seen_on is None else day_text(seen_on),
                devices=count,
                waiting=int(total),
                granted=tuple(granted.get(bot.id, ())),
            )
        )
    return Bots(bots=lines, before=shown[-1].id if len(found) > page.limit else None)


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
