"""The audit log as a file: lines that ``subrosa audit verify`` reads, or a table for a spreadsheet.

A spreadsheet takes a cell that begins with a sign for a formula. Whoever chose the text of a reason must not have it run anything, so
such a cell begins with an apostrophe (OWASP, CSV injection). One that splits lines at other marks than commas finds no formula either.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from aiohttp import web

from messaging.console.guards import by_cookie
from messaging.console.parts import CONSOLE, OPERATOR
from messaging.relay.admin.audit_domain import AuditHead, ExportFrom, ExportPage
from messaging.relay.admin.desk import Nothing, look
from messaging.relay.admin.errors import AdminError
from messaging.relay.admin.limits import EXPORTS_AT_ONCE, MAX_EXPORT, MAX_PAGE
from messaging.relay.admin.registry import VIEWS

EXPORT, HEAD = "audit.export", "audit.head"
CUT: Final = "Subrosa-Cut-After"  # a header: the log goes on after so many entries, and this file does not
COLUMNS: Final = ("sequence", "at", "operator", "via", "action", "outcome", "subject", "reason", "detail", "digest")
_SIGNS: Final = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # full-width ones, too: some spreadsheets take them
_FORMULA: Final = re.compile(rf"\A(?= *[{_SIGNS}\t\r\n])|(?<=[;\t\r\n])(?= *[{_SIGNS}])")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TooManyExports(AdminError):
    """The operator has ``EXPORTS_AT_ONCE`` under way."""

    code, status, sentence = "too_many_exports", 429, "You are fetching the log already. Wait until that has ended."


def routes() -> list[web.RouteDef]:
    """Both files. The names are fixed: nothing in the address names a file."""
    under_way: Counter[int] = Counter()

    def counted(handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            with _one_more(under_way, request[OPERATOR].id):
                return await handler(request)

        return answer

    return [web.get("/audit/export.jsonl", counted(get_lines)), web.get("/audit/export.csv", counted(get_table))]


@contextmanager
def _one_more(under_way: Counter[int], operator_id: int) -> Iterator[None]:
    if under_way[operator_id] >= EXPORTS_AT_ONCE:
        raise TooManyExports
    under_way[operator_id] += 1
    try:
        yield
    finally:
        under_way[operator_id] -= 1


async def get_lines(request: web.Request) -> web.StreamResponse:
    """Every entry, one JSON object a line."""
    return await _send(request, "application/jsonl", "audit.jsonl", "", lambda line: line + "\n")


async def get_table(request: web.Request) -> web.StreamResponse:
    """The same as comma-separated values."""
    return await _send(
        request, "text/csv", "audit.csv", csv_line(COLUMNS), lambda line: csv_line(_cells(json.loads(line)))
    )


def csv_line(cells: Sequence[object]) -> str:
    """One line (RFC 4180), in which nothing is a formula."""
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL).writerow([harmless(cell) for cell in cells])
    return line.getvalue()


def harmless(cell: object) -> object:
    """A cell that no spreadsheet runs: a sign at its beginning, or behind what may part cells, gets an apostrophe before it."""
    return _FORMULA.sub("'", cell) if isinstance(cell, str) else cell


def _cells(entry: dict[str, Any]) -> list[object]:
    detail = json.dumps(entry["detail"], sort_keys=True, ensure_ascii=False) if entry["detail"] else ""
    return [detail if name == "detail" else entry[name] for name in COLUMNS]


async def _send(
    request: web.Request, kind: str, name: str, titles: str, write: Callable[[str], str]
) -> web.StreamResponse:
    desk, operator = request.app[CONSOLE].desk, request[OPERATOR]
    # Whoever may not see it hears so before anything is sent; what is written from now on is in the next file.
    first: ExportPage = await look(desk, VIEWS[EXPORT], operator, ExportFrom(limit=MAX_PAGE))
    head: AuditHead = await look(desk, VIEWS[HEAD], operator, Nothing())
    answer = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="{name}"'})
    answer.content_type, answer.charset = kind, "utf-8"
    if head.entries > MAX_EXPORT:
        answer.headers[CUT] = str(MAX_EXPORT)
    await answer.prepare(request)
    await answer.write(titles.encode())
    try:
        async for lines in _pages(request, first, min(head.entries, MAX_EXPORT)):
            await answer.write("".join(map(write, lines)).encode())
    except AdminError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError from None  # without its end, so that nobody takes the file for a whole one
    await answer.write_eof()
    return answer


async def _pages(request: web.Request, first: ExportPage, last: int) -> AsyncIterator[list[str]]:
    """The lines of the entries up to ``last``, for as long as who asks is signed in and may see them: that is found out for each page.

    Raises:
        NotSignedIn, NotPermitted: not any more.
    """
    desk, page = request.app[CONSOLE].desk, first
    yield page.lines[:last]
    while page.after is not None and page.after < last:
        before = page.after
        await by_cookie(request)
        wanted = ExportFrom(after=before, limit=MAX_PAGE)
        page = await look(desk, VIEWS[EXPORT], request[OPERATOR], wanted, goes_on=True)
        yield page.lines[: last - before]
