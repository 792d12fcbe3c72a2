"""Parked envelopes as a domain of the console: what failed too often. Counts by device; no envelope is named, and none is shown."""

from typing import Any, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy import Select, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.tables import AccountRow, DeviceRow, devices_of
from messaging.relay.admin.accounts import AccountNamed, lock_named
from messaging.relay.admin.desk import Action, Desk, Done, Effect, Operator, View, account_subject
from messaging.relay.admin.errors import NothingThere
from messaging.relay.admin.limits import MAX_PARKED_AT_ONCE, PAGE
from messaging.relay.admin.parameters import DAY, PageSize, RowNumber, page_of
from messaging.relay.admin.permissions import Permission
from messaging.relay.delivery.parking import drop_parked, retry_parked
from messaging.relay.delivery.wakeups import MailArrived
from messaging.relay.messages.tables import EnvelopeRow, is_parked
from messaging.wire.json import Entity
from messaging.wire.limits import MAX_DEVICE_ID


class ParkedPage(Entity):
    """Which page: the devices behind that place."""

    after: RowNumber | None = None
    limit: PageSize = PAGE


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
    found = (await db.execute(_parked(page, desk.now()))).all()
    shown, last = page_of(found, page.limit)
    lines = [
        ParkedLine(
            aci=aci,
            device_id=device_id,
            parked=parked,
            expires_within_day=int(in_a_day),
            expires_within_week=int(in_a_week) - int(in_a_day),
            expires_later=parked - int(in_a_week),
        )
        for _, aci, device_id, parked, in_a_day, in_a_week in shown
    ]
    return ParkedEnvelopes(devices=lines, after=None if last is None else last[0])


def _parked(page: ParkedPage, now: int) -> Select[Any]:
    """By mailbox: whose it is, how much is parked, and how much of that is forgotten within a day, and within a week."""
    row, account, device = EnvelopeRow, AccountRow, DeviceRow
    day, week = (func.sum(case((row.expires_at <= now + days * DAY, 1), else_=0)) for days in (1, 7))
    counted = select(row.mailbox_id, func.count().label("parked"), day.label("day"), week.label("week"))
    counted = counted.where(is_parked(), row.mailbox_id > (page.after or 0)).group_by(row.mailbox_id)
    some = counted.order_by(row.mailbox_id).limit(page.limit + 1).subquery()
    return (
        select(some.c.mailbox_id, account.aci, device.device_id, some.c.parked, some.c.day, some.c.week)
        .outerjoin(device, device.mailbox_id == some.c.mailbox_id)
        .outerjoin(account, account.id == device.account_id)
        .order_by(some.c.mailbox_id)
    )


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
