"""The audit log as a domain of the console: what was done, by whom, and the digest to note down."""

from typing import Annotated, Any, Final

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.audit import Entry
from messaging.relay.admin.audit_tables import entries_after, entries_before, last_entry
from messaging.relay.admin.desk import Action, Desk, Nothing, View
from messaging.relay.admin.limits import MAX_NAME, MAX_PAGE, MIN_EXPORT_PAGE, PAGE
from messaging.relay.admin.parameters import MAX_ROW, PageSize, page_of
from messaging.relay.admin.permissions import Permission
from messaging.wire.json import Entity

_MAX_SUBJECT = 128

Sequence = Annotated[int, Field(ge=0, le=MAX_ROW)]
Name = Annotated[str, Field(max_length=MAX_NAME)]


class AuditFilter(Entity):
    """Which entries, and where to go on: those below ``before``, newest first. An empty filter is none."""

    operator: Name = ""
    action: Name = ""
    subject: Annotated[str, Field(max_length=_MAX_SUBJECT)] = ""
    before: Sequence | None = None
    limit: PageSize = PAGE


class AuditEntry(Entity):
    """One entry. ``at`` is in milliseconds since 1970, ``digest`` hexadecimal."""

    sequence: int
    at: int
    operator: str
    via: str
    action: str
    outcome: str
    subject: str
    reason: str
    detail: dict[str, Any]
    digest: str


class AuditEntries(Entity):
    """A page of the log. ``before`` asks for the next one; without it there is none."""

    entries: list[AuditEntry]
    before: int | None = None


class AuditHead(Entity):
    """The last entry: how many there are, and the digest that proves all of them. Note it where this server cannot write."""

    entries: int
    digest: str
    at: int | None = None


class ExportFrom(Entity):
    """Where to go on: with the entries above ``after``."""

    after: Sequence = 0
    limit: Annotated[PageSize, Field(ge=MIN_EXPORT_PAGE)] = MAX_PAGE


class ExportPage(Entity):
    """Lines of an export, as ``subrosa audit verify --file`` reads them. ``after`` asks for the next ones; without it there are none."""

    lines: list[str]
    after: int | None = None


async def _list(_desk: Desk, db: AsyncConnection, wanted: AuditFilter) -> AuditEntries:
    found = await entries_before(
        db,
        wanted.before,
        limit=wanted.limit + 1,
        operator=wanted.operator or None,
        action=wanted.action or None,
        subject=wanted.subject or None,
    )
    page, last = page_of(found, wanted.limit)
    return AuditEntries(entries=[_shown(entry) for entry in page], before=None if last is None else last.sequence)


async def _head(_desk: Desk, db: AsyncConnection, _parameters: Nothing) -> AuditHead:
    last = await last_entry(db)
    if last is None:
        return AuditHead(entries=0, digest="")
    return AuditHead(entries=last.sequence, digest=last.digest.hex(), at=last.said.at)


async def _export(_desk: Desk, db: AsyncConnection, wanted: ExportFrom) -> ExportPage:
    page, last = page_of(await entries_after(db, wanted.after, limit=wanted.limit + 1), wanted.limit)
    return ExportPage(lines=[entry.as_json() for entry in page], after=None if last is None else last.sequence)


def _shown(entry: Entry) -> AuditEntry:
    said = entry.said
    return AuditEntry(
        sequence=entry.sequence,
        at=said.at,
        operator=said.operator,
        via=said.via,
        action=said.action,
        outcome=said.outcome.value,
        subject=said.subject,
        reason=said.reason,
        detail=dict(said.detail),
        digest=entry.digest.hex(),
    )


_SEE = Permission.AUDIT_SEE
VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View("audit.list", "What operators did and looked at", _SEE, AuditFilter, AuditEntries, _list),
    View("audit.head", "The digest that proves the log up to now", _SEE, Nothing, AuditHead, _head),
    View(
        "audit.export",
        "The log as lines that can be verified elsewhere",
        _SEE,
        ExportFrom,
        ExportPage,
        _export,
        of_account=True,  # it tells at which accounts operators looked
        subject=lambda wanted: f"entries after {wanted.after}",
    ),
)
ACTIONS: Final[tuple[Action[Any], ...]] = ()
