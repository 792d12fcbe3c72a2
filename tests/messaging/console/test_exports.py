"""The audit log as a file."""

import csv
import io
from dataclasses import replace

import aiohttp
import pytest

from messaging.console import exports
from messaging.console.exports import COLUMNS, CUT, csv_line, harmless
from messaging.relay.admin.audit import Entry, Outcome, Said, verify
from messaging.relay.admin.audit_tables import append
from messaging.relay.admin.limits import EXPORTS_AT_ONCE
from messaging.relay.admin.permissions import Role
from tests.consoles import StartedConsole


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\uff1d1+1", "=cmd|' /C calc'!A0"])
def test_a_cell_is_never_a_formula(text: str) -> None:
    assert harmless(text) == f"'{text}"
    (cells,) = csv.reader(io.StringIO(csv_line(["x", text])))
    assert cells == ["x", f"'{text}"]


@pytest.mark.parametrize("mark", [";", "\t", "\r", "\n"])
def test_a_sign_behind_what_may_part_cells_begins_no_formula(mark: str) -> None:
    assert harmless(f"a{mark}=1") == f"a{mark}'=1"
    assert harmless(f"a{mark} =1") == f"a{mark}' =1"


@pytest.mark.parametrize("mark", ["\t", "\r", "\n"])
def test_a_cell_that_begins_with_what_is_skipped_is_none_either(mark: str) -> None:
    assert harmless(f"{mark}1") == f"'{mark}1"
    assert harmless(f"{mark}=1") == f"'{mark}'=1"


def test_every_cell_is_quoted() -> None:
    assert csv_line(["a", 7, "b;c"]) == '"a","7","b;c"\r\n'


@pytest.mark.parametrize("cell", ["plain", "a=b", "a; b", "", " ", 7, -7])
def test_other_cells_are_as_they_were(cell: object) -> None:
    assert harmless(cell) == cell


async def test_the_lines_are_what_verifies_elsewhere(console: StartedConsole) -> None:
    owner = await console.owner()
    answer = await owner.get("/audit/export.jsonl")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="audit.jsonl"'
    entries = [Entry.from_json(line) for line in answer.text.splitlines()]
    assert verify(entries, key=console.secret.audit_key) == entries[-1]


async def test_many_pages_come_whole_and_in_order_and_stand_in_the_log_once(
    console: StartedConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await console.owner()
    await write(console, SAID, 10)  # beside three others: the last page has one entry
    monkeypatch.setattr(exports, "MAX_PAGE", 2)
    answer = await owner.get("/audit/export.jsonl")
    entries = [Entry.from_json(line) for line in answer.text.splitlines()]
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    (noted,) = (await owner.get("/api/v1/views/audit.list?action=audit.export")).json["entries"]
    assert noted["sequence"] == len(entries)


async def test_each_part_that_a_program_fetches_stands_in_the_log(console: StartedConsole) -> None:
    owner = await console.owner()
    for after in (0, 1, 2):
        assert (await owner.get(f"/api/v1/views/audit.export?after={after}&limit=2")).status == 200
    noted = (await owner.get("/api/v1/views/audit.list?action=audit.export")).json["entries"]
    assert [each["subject"] for each in noted] == ["entries after 2", "entries after 1", "entries after 0"]


async def test_the_table_has_every_column_and_no_formula(console: StartedConsole) -> None:
    owner = await console.owner("=HYPERLINK(1)")
    answer = await owner.get("/audit/export.csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    head, *rows = csv.reader(io.StringIO(answer.text))
    assert head == list(COLUMNS)
    assert rows
    assert {row[COLUMNS.index("operator")] for row in rows} == {"'=HYPERLINK(1)"}


@pytest.mark.parametrize("path", ["/audit/export.jsonl", "/audit/export.csv"])
async def test_it_is_for_those_who_may_see_the_log(console: StartedConsole, path: str) -> None:
    await console.owner()
    viewer = await console.operator(Role.VIEWER, "Vi")
    assert (await viewer.get(path)).status == 403


@pytest.mark.parametrize(
    "path", ["/audit/export.exe", "/audit/..%2f..%2fetc%2fpasswd", "/audit/export.csv/../../secret"]
)
async def test_no_other_file_comes_out(console: StartedConsole, path: str) -> None:
    owner = await console.owner()
    assert (await owner.get(path)).status == 404


SAID = Said(at=1, operator="x", via="console", action="a", outcome=Outcome.DONE)


async def write(console: StartedConsole, said: Said, entries: int) -> None:
    async with console.database.begin() as db:
        for _ in range(entries):
            await append(db, said, console.secret.audit_key)


@pytest.fixture
async def long_log(console: StartedConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    """More, on a few pages, than what lies between a console and a browser that does not read."""
    monkeypatch.setattr(exports, "MAX_PAGE", 10)
    await write(console, replace(SAID, reason="r" * 200_000), 60)


@pytest.mark.usefixtures("long_log")
async def test_who_is_signed_out_meanwhile_gets_no_more_and_no_end(console: StartedConsole) -> None:
    owner, eve = await console.owner(), await console.operator(Role.SECURITY, "Eve")
    async with eve.http.get(eve.url + "/audit/export.jsonl") as answer:
        await answer.content.readany()
        assert (
            await owner.post("/actions/operators.disable", {"operatorId": "2", "reason": "r", "step": "do"})
        ).status == 200
        with pytest.raises(aiohttp.ClientError):
            await answer.content.read()


@pytest.mark.usefixtures("long_log")
async def test_one_operator_fetches_one_file_at_once(console: StartedConsole) -> None:
    owner, other = await console.owner(), await console.operator(Role.SECURITY, "Eve")
    assert EXPORTS_AT_ONCE == 1
    async with owner.http.get(owner.url + "/audit/export.jsonl") as answer:
        await answer.content.readany()
        refused = await owner.get("/audit/export.csv", Accept="application/json")
        assert (refused.status, refused.json["code"]) == (429, "too_many_exports")
        async with other.http.get(other.url + "/audit/export.csv") as another:
            assert another.status == 200
        await answer.content.read()
    assert (await owner.get("/audit/export.csv")).status == 200


@pytest.mark.usefixtures("long_log")
async def test_what_is_written_meanwhile_is_in_the_next_file(console: StartedConsole) -> None:
    owner = await console.owner()
    head = (await owner.get("/api/v1/views/audit.head")).json["entries"]
    async with owner.http.get(owner.url + "/audit/export.jsonl") as answer:
        begun = await answer.content.readany()
        await write(console, SAID, 1)
        lines = (begun + await answer.content.read()).decode().splitlines()
    assert [Entry.from_json(line).sequence for line in (lines[0], lines[-1])] == [
        1,
        head + 1,
    ]  # that it is fetched stands in it


@pytest.mark.parametrize(("most", "cut"), [(6, "6"), (7, None)])
async def test_a_file_that_ends_before_the_log_says_so(
    console: StartedConsole, monkeypatch: pytest.MonkeyPatch, most: int, cut: str | None
) -> None:
    owner = await console.owner()
    await write(console, SAID, 4)  # beside how the owner became one, and that they fetch it
    monkeypatch.setattr(exports, "MAX_EXPORT", most)
    answer = await owner.get("/audit/export.jsonl")
    assert (answer.headers.get(CUT), len(answer.text.splitlines())) == (cut, most)
