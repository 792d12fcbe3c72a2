"""Bots for operators: accounts that everybody sees are bots."""

from messaging.relay.admin.accounts import AccountNamed
from messaging.relay.admin.bots import BotPage, Bots
from messaging.relay.admin.desk import act, look
from messaging.relay.admin.parameters import day_text
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.database import Database
from tests.messaging.relay.admin.town import Town, a_town


async def listed(town: Town, *, limit: int = 50, before: int | None = None, suspended: bool = False) -> Bots:
    page = BotPage(limit=limit, before=before, suspended=suspended)
    found: Bots = await look(town.desk, VIEWS["bots.list"], town.operator(), page)
    return found


async def test_each_bot_is_listed_with_what_it_has_and_nobody_else_is(database: Database) -> None:
    town = await a_town(database)
    newest, oldest = (await listed(town)).bots
    assert [newest.aci, oldest.aci] == [bot.aci for bot in reversed(town.bots)]
    assert (oldest.devices, oldest.waiting, oldest.granted, newest.granted) == (1, 3, ("messages",), ())
    assert oldest.last_seen == day_text(town.now)
    first = await listed(town, limit=1)
    rest = await listed(town, limit=1, before=first.before)
    assert ([each.aci for each in rest.bots], rest.before) == ([oldest.aci], None)


async def test_suspended_ones_are_told_from_the_others(database: Database) -> None:
    town = await a_town(database)
    named = AccountNamed(aci=town.bots[0].aci)
    await act(town.desk, ACTIONS["accounts.suspend"], town.operator(), named, reason="spam")
    (bot,) = (await listed(town, suspended=True)).bots
    assert (bot.aci, bot.state, bot.suspended_at) == (town.bots[0].aci, "suspended", town.now)
