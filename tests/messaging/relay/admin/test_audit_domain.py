"""The audit log as operators see it."""

import pytest
from pydantic import ValidationError

from messaging.relay.admin.audit import Entry, verify
from messaging.relay.admin.audit_domain import AuditFilter, ExportFrom, ExportPage
from messaging.relay.admin.desk import Nothing, look
from messaging.relay.admin.limits import MIN_EXPORT_PAGE
from messaging.relay.admin.registry import VIEWS
from messaging.relay.database import Database
from tests.messaging.relay.admin.town import Town, a_town


async def looked(town: Town, times: int) -> None:
    """Leave entries in the log."""
    view = VIEWS["accounts.search"]
    for _ in range(times):
        await look(town.desk, view, town.operator(), view.takes())


async def test_entries_come_newest_first_a_page_at_a_time(database: Database) -> None:
    town = await a_town(database)
    await looked(town, 5)
    view, seen, before = VIEWS["audit.list"], [], None
    while True:
        page = await look(
            town.desk, view, town.operator(), AuditFilter(action="accounts.search", limit=2, before=before)
        )
        seen += [entry.sequence for entry in page.entries]
        before = page.before
        if before is None:
            break
    assert len(seen) == 5
    assert seen == sorted(seen, reverse=True)


async def test_a_filter_is_compared_as_a_whole_and_an_empty_one_is_none(database: Database) -> None:
    town = await a_town(database)
    await looked(town, 1)

    async def found(wanted: AuditFilter) -> int:
        return len((await look(town.desk, VIEWS["audit.list"], town.operator(), wanted)).entries)

    assert await found(AuditFilter(operator="olga")) >= 1
    assert await found(AuditFilter(operator="olg")) == 0
    assert await found(AuditFilter(subject="accounts", action="accounts.search")) == 1
    assert await found(AuditFilter(subject="nobody")) == 0


async def test_the_head_is_the_last_entry_and_the_export_verifies(database: Database) -> None:
    town = await a_town(database)
    await looked(town, 5)
    head = await look(town.desk, VIEWS["audit.head"], town.operator(), Nothing())
    entries: list[Entry] = []
    after: int | None = 0
    while after is not None:
        page = await exported(town, after, goes_on=after > 0)
        entries += [Entry.from_json(line) for line in page.lines]
        after = page.after
    last = verify(entries, key=town.desk.secret.audit_key)
    assert last is not None
    assert last.sequence == head.entries + 1  # the export's own
    assert entries[head.entries - 1].digest.hex() == head.digest


async def test_each_part_that_is_asked_for_stands_in_the_log_and_a_file_once(database: Database) -> None:
    town = await a_town(database)
    await looked(town, 5)
    assert (await exported(town, 0)).after == 2
    await exported(town, 2, goes_on=True)
    await exported(town, 4)
    page = await look(town.desk, VIEWS["audit.list"], town.operator(), AuditFilter(action="audit.export"))
    assert [(entry.outcome, entry.subject) for entry in page.entries] == [
        ("read", "entries after 4"),
        ("read", "entries after 0"),
    ]


async def test_who_reads_the_smallest_parts_comes_to_the_end_although_each_adds_an_entry(database: Database) -> None:
    town = await a_town(database)
    await looked(town, 5)
    after: int | None = 0
    for _ in range(12):
        if after is not None:
            after = (await exported(town, after)).after
    assert after is None
    with pytest.raises(ValidationError):
        ExportFrom(limit=MIN_EXPORT_PAGE - 1)


async def exported(town: Town, after: int, *, goes_on: bool = False) -> ExportPage:
    view, wanted = VIEWS["audit.export"], ExportFrom(after=after, limit=MIN_EXPORT_PAGE)
    page: ExportPage = await look(town.desk, view, town.operator(), wanted, goes_on=goes_on)
    return page
