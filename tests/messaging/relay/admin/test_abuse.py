"""Reports of abuse for operators: whom, how often, by how many; never by whom."""

from typing import Any
from uuid import uuid4

import pytest

from messaging.relay.admin.abuse import Reported, ReportedPage
from messaging.relay.admin.accounts import AccountNamed
from messaging.relay.admin.desk import act, look
from messaging.relay.admin.errors import InvalidInput, NothingThere
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.database import Database
from messaging.relay.messages.report_tables import reported_accounts
from tests.messaging.relay.admin.town import DAY, Town, a_report, a_town

DISMISS = ACTIONS["abuse.dismiss"]


@pytest.fixture
async def town(database: Database) -> Town:
    return await a_town(database)


async def listed(town: Town, **page: Any) -> Reported:
    found: Reported = await look(town.desk, VIEWS["abuse.list"], town.operator(), ReportedPage(**page))
    return found


async def test_whom_most_have_reported_comes_first(town: Town) -> None:
    found = await listed(town)
    assert found.complete
    worst, *others = found.accounts
    assert (worst.aci, worst.reports, worst.reporters, worst.state) == (town.people[0].aci, 3, 2, "active")
    assert (worst.first_at, worst.last_at) == (town.now - 2 * DAY, town.now)
    assert {(each.aci, each.state) for each in others} == {(town.people[1].aci, "active"), (town.deleted, "deleted")}


async def test_who_has_reported_is_not_told(town: Town) -> None:
    reporter = uuid4()
    async with town.desk.database.begin() as db:
        await a_report(db, town, town.people[2].aci, reporter, at=town.now)
    shown = (await listed(town)).to_json().decode()
    assert str(reporter) not in shown
    assert "hash" not in shown


async def test_pages_leave_nobody_out_and_repeat_nobody(town: Town) -> None:
    async with town.desk.database.begin() as db:
        for _ in range(5):
            await a_report(db, town, uuid4(), town.people[0].aci, at=town.now)
    everybody = [each.aci for each in (await listed(town)).accounts]
    seen, page = [], await listed(town, limit=3)
    while True:
        seen += [each.aci for each in page.accounts]
        if page.after is None:
            break
        page = await listed(town, limit=3, after=page.after, after_reporters=page.after_reporters)
    assert seen == everybody
    with pytest.raises(InvalidInput):
        await listed(town, after=uuid4())


async def test_only_the_latest_reports_are_looked_at_where_there_are_many(town: Town) -> None:
    async with town.desk.database.read() as db:
        found, read = await reported_accounts(db, behind=None, limit=10, at_most=4)
    assert read == 4
    assert sum(each.reports for each in found) == 4
    assert next(each for each in found if each.aci == town.people[0].aci).reports == 2  # its oldest one is left out


async def test_reports_about_one_account_are_dismissed_and_no_others(town: Town) -> None:
    done = await act(town.desk, DISMISS, town.operator(), AccountNamed(aci=town.people[0].aci), reason="a feud")
    assert [(each.what, each.count) for each in done.effects] == [("reports", 3)]
    assert {each.aci for each in (await listed(town)).accounts} == {town.people[1].aci, town.deleted}
    with pytest.raises(NothingThere):
        await act(town.desk, DISMISS, town.operator(), AccountNamed(aci=town.people[0].aci), reason="again")
