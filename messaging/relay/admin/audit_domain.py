"""The audit log as a domain of the console: what was done, by whom, and the digest to note down."""

from typing import Annotated, Any, Final

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.audit import Entry
from messaging.relay.admin.audit_tables import entries_after, entries_before, last_entry
from messaging.relay.admin.desk import Action, Desk, Nothing, View
from messaging.relay.admin.limits import MAX_NAME, MAX_PAGE, PAGE
from messaging.relay.admin.permissions import Permission
from messaging.wire.json import Entity

_MAX_SEQUENCE = 2**63 - 1
_MAX_SUBJECT = 128

Sequence = Annotated[int, Field(ge=0, le=_MAX_SEQUENCE)]
Name = Annotated[str, Field(max_length=MAX_NAME)]


class AuditFilter(Entity):
    """Which entries, and where to go on: those below ``before``, newest first. An empty filter is none."""

    operator: Name = ""
    action: Name = ""
    subject: Annotated[str, Field(max_length=_MAX_SUBJECT)] = ""
    before: Sequence | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = PAGE


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
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = MAX_PAGE


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
    page = found[: wanted.limit]
    return AuditEntries(
        entries=[_shown(entry) for entry in page], before=page[-1].sequence if len(found) > wanted.limit else None
    )


async def _head(_desk: Desk, db: AsyncConnection, _parameters: Nothing) -> AuditHead:
    last = await last_entry(db)
    if last is None:
        return AuditHead(entries=0, digest="")
    return AuditHead(entries=last.sequence, digest=last.digest.hex(), at=last.said.at)


async def _export(_desk: Desk, db: AsyncConnection, wanted: ExportFrom) -> ExportPage:
    page = await entries_after(db, wanted.after, limit=wanted.limit)
    after = page[-1].sequence if len(page) == wanted.limit else None
    return ExportPage(lines=[entry.as_json() for entry in page], after=after)


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
        noted=lambda wanted: wanted.after == 0,
    ),
)
ACTIONS: Final[tuple[Action[Any], ...]] = ()
