"""Parked envelopes as a domain of the console: what failed too often. Counts by device; no envelope is named, and none is shown."""

from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.tables import AccountRow, DeviceRow, devices_of
from messaging.relay.admin.accounts import AccountNamed, lock_named
from messaging.relay.admin.desk import Action, Desk, Done, Effect, Operator, View, account_subject
from messaging.relay.admin.errors import NothingThere
from messaging.relay.admin.limits import MAX_PAGE, MAX_PARKED_AT_ONCE, PAGE
from messaging.relay.admin.parameters import RowNumber
from messaging.relay.admin.permissions import Permission
from messaging.relay.delivery.parking import drop_parked, retry_parked
from messaging.relay.delivery.wakeups import MailArrived
from messaging.relay.messages.tables import EnvelopeRow, is_parked
from messaging.wire.json import Entity
from messaging.wire.limits import MAX_DEVICE_ID

_DAY = 24 * 60 * 60 * 1000


class ParkedPage(Entity):
    """Which page: the devices behind that place."""

    after: RowNumber | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = PAGE


class ParkedLine(Entity):
    """What is parked for one device: how much of it, and how much is forgotten within a day, within a week and later."""

    aci: UUID | None
    device_id: int | None
    parked: int
    expires_within_day: int
    expires_within_week: int
    expires_later: int


class ParkedEnvelopes(Entity):
    """A page of devices. ``after`` asks for the next one."""

    devices: list[ParkedLine]
    after: int | None = None


class DeviceNamed(AccountNamed):
    """One device of an account."""

    device_id: int = Field(ge=1, le=MAX_DEVICE_ID)


async def _list(desk: Desk, db: AsyncConnection, page: ParkedPage) -> ParkedEnvelopes:
    row, account, device, now = EnvelopeRow, AccountRow, DeviceRow, desk.now()
    day = func.sum(case((row.expires_at <= now + _DAY, 1), else_=0))
    week = func.sum(case((row.expires_at <= now + 7 * _DAY, 1), else_=0))
    counted = select(row.mailbox_id, func.count().label("parked"), day.label("day"), week.label("week"))
    counted = counted.where(is_parked(), row.mailbox_id > (page.after or 0)).group_by(row.mailbox_id)
    some = counted.order_by(row.mailbox_id).limit(page.limit + 1).subquery()
    query = (
        select(some.c.mailbox_id, account.aci, device.device_id, some.c.parked, some.c.day, some.c.week)
        .outerjoin(device, device.mailbox_id == some.c.mailbox_id)
        .outerjoin(account, account.id == device.account_id)
        .order_by(some.c.mailbox_id)
    )
    found = (await db.execute(query)).all()
    lines = [
        ParkedLine(
            aci=aci,
            device_id=device_id,
            parked=parked,
            expires_within_day=int(in_a_day),
            expires_within_week=int(in_a_week) - int(in_a_day),
            expires_later=parked - int(in_a_week),
        )
        for _, aci, device_id, parked, in_a_day, in_a_week in found[: page.limit]
    ]
    return ParkedEnvelopes(devices=lines, after=found[page.limit - 1][0] if len(found) > page.limit else None)


async def _retry(desk: Desk, db: AsyncConnection, named: DeviceNamed, _by: Operator) -> Done:
    mailbox_id = await _mailbox(db, named)
    queued = await retry_parked(db, mailbox_id, now=desk.now(), limit=MAX_PARKED_AT_ONCE)
    if not queued:
        raise NothingThere("Nothing is parked for this device.")
    return Done(
        (Effect("envelopes", len(queued)),),
        account_subject(named.aci),
        after=lambda: desk.wakeups.announce(mailbox_id, MailArrived(queued[-1])),
    )


async def _drop(desk: Desk, db: AsyncConnection, named: DeviceNamed, _by: Operator) -> Done:
    dropped = await drop_parked(db, await _mailbox(db, named), now=desk.now(), limit=MAX_PARKED_AT_ONCE)
    if not dropped:
        raise NothingThere("Nothing is parked for this device.")
    return Done((Effect("envelopes", dropped),), account_subject(named.aci))


async def _mailbox(db: AsyncConnection, named: DeviceNamed) -> int:
    account = await lock_named(db, named.aci)
    for device in await devices_of(db, account.id):
        if device.device_id == named.device_id:
            return device.mailbox_id
    raise NothingThere


P = Permission
VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View(
        "parked.list",
        "Devices for which envelopes are parked",
        P.PARKED_MANAGE,
        ParkedPage,
        ParkedEnvelopes,
        _list,
        of_account=True,
        subject=lambda _: "parked envelopes",
    ),
)
ACTIONS: Final[tuple[Action[Any], ...]] = (
    Action("parked.retry", "Queue again what is parked for a device", P.PARKED_MANAGE, DeviceNamed, _retry),
    Action("parked.drop", "Forget what is parked for a device", P.PARKED_MANAGE, DeviceNamed, _drop, dangerous=True),
)
