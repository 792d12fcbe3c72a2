"""The audit log as operators see it."""

from messaging.relay.admin.audit import Entry, verify
from messaging.relay.admin.audit_domain import AuditFilter, ExportFrom
from messaging.relay.admin.desk import Nothing, look
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
        page = await look(town.desk, VIEWS["audit.export"], town.operator(), ExportFrom(after=after, limit=2))
        entries += [Entry.from_json(line) for line in page.lines]
        after = page.after
    last = verify(entries, key=town.desk.secret.audit_key)
    assert last is not None
    assert last.sequence == head.entries + 1  # the export's own
    assert entries[head.entries - 1].digest.hex() == head.digest


async def test_an_export_stands_in_the_log_once(database: Database) -> None:
    town = await a_town(database)
    await looked(town, 3)
    first = await look(town.desk, VIEWS["audit.export"], town.operator(), ExportFrom(limit=2))
    while first.after is not None:
        first = await look(town.desk, VIEWS["audit.export"], town.operator(), ExportFrom(after=first.after, limit=2))
    page = await look(town.desk, VIEWS["audit.list"], town.operator(), AuditFilter(action="audit.export"))
    assert [entry.outcome for entry in page.entries] == ["read"]
