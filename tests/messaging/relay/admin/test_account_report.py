"""The report of what is held about an account: every table is in it, or has a reason not to be."""

import pytest

from messaging.relay.admin.account_report import COVERED, NOT_HELD, NOT_LINKED, AccountReport
from messaging.relay.admin.accounts import AccountNamed
from messaging.relay.admin.desk import look
from messaging.relay.admin.registry import VIEWS
from messaging.relay.database import Base, Database
from messaging.relay.messages.tables import EnvelopeRow
from tests.messaging.relay.admin.town import CONTENT, NUMBER, Town, a_town

# What a column is called, or what it points at, where it says something about an account.
OF_ACCOUNTS = frozenset(
    {"aci", "pni", "account_id", "number_hash", "mailbox_id", "reported", "reporter_hash", "avatar_hash"}
)
OF_ACCOUNTS |= {"payload_id", "subject", "document", "assistant_name"}
POINTED_AT = frozenset({"accounts", "devices", "mailboxes"})


@pytest.fixture
async def town(database: Database) -> Town:
    return await a_town(database)


async def report(town: Town, *, of: object) -> AccountReport:
    found: AccountReport = await look(
        town.desk, VIEWS["accounts.report"], town.operator(), AccountNamed.model_validate({"aci": of})
    )
    return found


def test_every_table_is_reported_or_has_a_reason_not_to_be() -> None:
    tables = Base.metadata.tables.keys()
    assert COVERED.keys() | NOT_LINKED.keys() == tables, "a table that nobody has decided on, or that is gone"
    assert COVERED.keys() & NOT_LINKED.keys() == set()
    assert all(reason.endswith(".") for reason in NOT_LINKED.values())


@pytest.mark.parametrize("table", sorted(NOT_LINKED))
def test_a_table_that_is_left_out_has_no_column_of_an_account(table: str) -> None:
    found = Base.metadata.tables[table]
    assert {column.name for column in found.columns} & OF_ACCOUNTS == set()
    assert {key.column.table.name for key in found.foreign_keys} & POINTED_AT == set()


async def test_what_is_there_is_reported_of_every_table(town: Town) -> None:
    person, assistant = await report(town, of=town.people[0].aci), await report(town, of=town.assistants[0].aci)
    assert person.exists
    of_person = {held.table: held.rows for held in person.held}
    of_assistant = {held.table: held.rows for held in assistant.held}
    assert of_person.keys() == COVERED.keys()
    only_assistants = {"assistant_reports", "assistant_releases"}
    assert {table for table, rows in of_person.items() if rows == 0} == only_assistants
    assert all(of_assistant[table] == 1 for table in only_assistants)


async def test_numbers_and_sizes_are_right(town: Town) -> None:
    resident = town.people[0]
    held = {each.table: each for each in (await report(town, of=resident.aci)).held}
    assert [each["deviceId"] for each in held["devices"].facts["devices"]] == [1, 2, 3]
    assert held["envelopes"].rows == 9
    of_first = held["envelopes"].facts["devices"][0]
    assert (of_first["waiting"], of_first["parked"]) == (3, 1)
    assert of_first["oldestDay"] < of_first["newestDay"]
    assert of_first["waitingBytes"] > 2 * len(CONTENT)
    assert held["payloads"].facts == {"sharedBytes": 3 * len(CONTENT)}
    against = held["spam_reports"].facts
    assert (against["against"], against["differentReporters"], against["madeByIt"]) == (3, 2, 2)
    assert against["firstAt"] == town.now - 2 * 24 * 60 * 60 * 1000
    assert held["profiles"].facts["versions"][0]["encryptedBytes"] == 90
    assert held["operator_settings"].facts == {"valuesForItNow": ["new.look"]}
    assert held["operator_settings"].rows == 2
    assert held["audit_entries"].rows == 1  # this look
    assert held["gaps"].facts == {"envelopesMissed": {"parked": 3}}
    assert [each["limit"] for each in held["grants"].facts["limits"]] == ["messages"]


async def test_of_a_deleted_account_what_is_left_is_reported(town: Town) -> None:
    found = await report(town, of=town.deleted)
    assert not found.exists
    assert {held.table for held in found.held if held.rows} == {"deleted_accounts", "spam_reports", "audit_entries"}


async def test_an_account_without_anything_is_reported_too(town: Town) -> None:
    found = await report(town, of=town.suspended[0].aci)
    rows = {held.table: held.rows for held in found.held}
    assert (rows["profiles"], rows["grants"], rows["deleted_accounts"], rows["invites"]) == (0, 0, 0, 0)
    assert next(held for held in found.held if held.table == "accounts").facts["suspendedAt"] == town.now - 86_400_000


async def test_it_says_what_is_not_held_and_holds_no_content_key_or_number(town: Town) -> None:
    found = await report(town, of=town.people[0].aci)
    assert found.not_held == NOT_HELD
    shown = found.to_json()
    for secret in (CONTENT, NUMBER[1:-1].encode(), b"kkkk", (b"u" * 32).hex().encode()):
        assert secret not in shown


def test_each_kind_of_mail_is_in_its_own_table() -> None:
    assert EnvelopeRow.__tablename__ in COVERED
