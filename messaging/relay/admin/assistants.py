"""Assistants as a domain of the console: what each has shown of where it runs, its load, and letting it have nothing new.

What an assistant reports is its word; only evidence, appraised when somebody looks, is more than that. Nothing here is about who asks
an assistant, or what: no report holds it.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.tables import AccountRow, DeviceRow
from messaging.relay.admin.desk import Action, Desk, Done, Effect, Nothing, Operator, View
from messaging.relay.admin.errors import Conflict, NothingThere
from messaging.relay.admin.evidence import Appraised, Shown
from messaging.relay.admin.limits import PAGE
from messaging.relay.admin.parameters import PageSize, page_of
from messaging.relay.admin.permissions import Permission
from messaging.relay.assistants.tables import AssistantReleaseRow, AssistantReportRow
from messaging.wire.assistants import AssistantLoad
from messaging.wire.errors import WireError
from messaging.wire.json import Entity, json_body

REPORT_STALE: Final = 25 * 60 * 1000  # milliseconds: an enclave reports every ten minutes
MAX_RELEASE_ROWS: Final = 2000  # what assistants have named, the newest of it
NO_LOG: Final = (
    "There is no public log of releases yet: this list holds what the assistants of this server have named. Whether a measurement is "
    "that of a published release, only whoever builds the release again can tell."
)
NO_EVIDENCE: Final = Appraised(
    verdict="unread", notice="It has reported no evidence yet: nothing is known of where it runs."
)
NO_APPRAISER: Final = Appraised(verdict="not appraised", notice="This process cannot read evidence.")

Name = Annotated[str, Field(max_length=64)]
Aci = Annotated[str, Field(min_length=36, max_length=36, pattern="^[0-9a-f-]{36}$")]


class AssistantPage(Entity):
    """Where to go on: with the names behind ``after``."""

    after: Name = ""
    limit: PageSize = PAGE


class OneAssistant(Entity):
    """Which one, by its account."""

    aci: Aci


class AssistantLine(Entity):
    """An assistant in brief. ``state`` is what follows for clients; see ``state_of``. Times are milliseconds since 1970.

    ``online`` is missing where this process cannot tell.
    """

    aci: str
    name: str
    state: str
    online: bool | None = None
    verdict: str
    simulated: bool
    tee: str
    release: str
    reported_at: int | None = None
    evidence_at: int | None = None


class AssistantList(Entity):
    """A page of them, by name. ``after`` asks for the next one; without it there is none."""

    assistants: list[AssistantLine]
    after: str | None = None


class AssistantDetails(Entity):
    """One assistant. ``accepting`` is its own word, ``drained`` the operators'. ``evidence_at`` is when its nonce was drawn."""

    aci: str
    name: str
    state: str
    notice: str
    online: bool | None = None
    accepting: bool
    drained: bool
    reported_at: int | None = None
    evidence_at: int | None = None
    load: AssistantLoad | None = None
    evidence: Appraised


class ReleaseLine(Entity):
    """A release that assistants have named, with its measurement (hexadecimal), as they say.

    ``accepted``: the operator's policy lists the measurement; missing without a policy.
    """

    release: str
    measurement: str
    accepted: bool | None = None
    first_seen_at: int
    last_seen_at: int
    assistants: list[str]


class ReleaseList(Entity):
    """All of them, the one that was seen last first."""

    notice: str
    releases: list[ReleaseLine]


@dataclass(frozen=True, slots=True)
class _Found:
    account_id: int
    aci: UUID
    name: str
    accepting: bool
    drained: bool
    identity_key: bytes = field(repr=False)
    reported_at: int | None = None
    evidence_at: int | None = None
    evidence_nonce: bytes | None = field(default=None, repr=False)
    bundle: bytes | None = field(default=None, repr=False)
    load: Mapping[str, Any] | None = None

    def state(self, now: int) -> str:
        """See :func:`state_of`."""
        return state_of(accepting=self.accepting, drained=self.drained, reported_at=self.reported_at, now=now)


def state_of(*, accepting: bool, drained: bool, reported_at: int | None, now: int) -> str:
    """What operators are to know first: ``drained`` by them, ``draining`` by itself, ``stale`` if it is silent, else ``ready``."""
    if drained:
        return "drained"
    if not accepting:
        return "draining"
    return "stale" if reported_at is None or now - reported_at > REPORT_STALE else "ready"


_STATES: Final = {
    "drained": "An operator has drained it: the directory lists it as not accepting, whatever it says itself.",
    "draining": "It says that it drains: it finishes what it accepted, and takes nothing new.",
    "stale": "It has not reported for a while: it may be away, cut off, or older than reports are.",
    "ready": "It takes requests.",
}


async def _list(desk: Desk, db: AsyncConnection, page: AssistantPage) -> AssistantList:
    account = AccountRow
    query = _assistants().where(account.assistant_name > page.after).order_by(account.assistant_name)
    found = [_Found(*columns) for columns in await db.execute(query.limit(page.limit + 1))]
    (here, last), now = page_of(found, page.limit), desk.now()
    online = await _online(desk, db, here)
    judged = [await _appraised(desk, each, now, anew=False) for each in here]
    lines = [
        _line(each, evidence, online.get(each.account_id), now) for each, evidence in zip(here, judged, strict=True)
    ]
    return AssistantList(assistants=lines, after=None if last is None else last.name)


async def _show(desk: Desk, db: AsyncConnection, one: OneAssistant) -> AssistantDetails:
    found, now = await _find(db, one), desk.now()
    state = found.state(now)
    return AssistantDetails(
        aci=str(found.aci),
        name=found.name,
        state=state,
        notice=_STATES[state],
        online=(await _online(desk, db, [found])).get(found.account_id),
        accepting=found.accepting,
        drained=found.drained,
        reported_at=found.reported_at,
        evidence_at=found.evidence_at,
        load=_load(found),
        evidence=await _appraised(desk, found, now, anew=True),
    )


async def _releases(desk: Desk, db: AsyncConnection, _: Nothing) -> ReleaseList:
    row, account = AssistantReleaseRow, AccountRow
    query = (
        select(row.release, row.measurement, row.first_seen_at, row.last_seen_at, account.assistant_name)
        .join(account, account.id == row.account_id)
        .order_by(row.last_seen_at.desc())
        .limit(MAX_RELEASE_ROWS)
    )
    seen = sorted((tuple(columns) for columns in await db.execute(query)), key=lambda each: each[:2])
    lines = [_release(desk, tuple(group)) for _, group in groupby(seen, key=lambda each: each[:2])]
    lines.sort(key=lambda line: line.last_seen_at, reverse=True)
    return ReleaseList(notice=NO_LOG, releases=lines)


async def _drain(_desk: Desk, db: AsyncConnection, one: OneAssistant, _operator: Operator) -> Done:
    return await _set_drained(db, one, drained=True)


async def _undrain(_desk: Desk, db: AsyncConnection, one: OneAssistant, _operator: Operator) -> Done:
    return await _set_drained(db, one, drained=False)


async def _set_drained(db: AsyncConnection, one: OneAssistant, *, drained: bool) -> Done:
    found, row = await _find(db, one), AccountRow
    changed = update(row).where(row.id == found.account_id, row.drained.is_(not drained)).values(drained=drained)
    if (await db.execute(changed)).rowcount == 0:
        raise Conflict("It is drained already." if drained else "It is not drained.")
    return Done((Effect("assistants", 1),), subject=f"assistant {found.name}")


async def _find(db: AsyncConnection, one: OneAssistant) -> _Found:
    try:
        aci = UUID(one.aci)
    except ValueError:
        raise NothingThere from None
    found = (await db.execute(_assistants().where(AccountRow.aci == aci))).one_or_none()
    if found is None:
        raise NothingThere
    return _Found(*found)


def _assistants() -> Any:  # noqa: ANN401 - a select of these columns
    account, report = AccountRow, AssistantReportRow
    return (
        select(
            account.id,
            account.aci,
            account.assistant_name,
            account.accepting,
            account.drained,
            account.aci_identity_key,
            report.reported_at,
            report.evidence_at,
            report.evidence_nonce,
            report.bundle,
            report.load,
        )
        .outerjoin(report, report.account_id == account.id)
        .where(account.assistant_name.is_not(None))
    )


async def _online(desk: Desk, db: AsyncConnection, found: Sequence[_Found]) -> dict[int, bool]:
    """Which accounts have a device that is connected; nothing where that cannot be told from this process."""
    if desk.redis_url is None:
        return {}
    row = DeviceRow
    query = select(row.account_id, row.mailbox_id).where(row.account_id.in_([each.account_id for each in found]))
    mailboxes = [(columns[0], columns[1]) for columns in await db.execute(query)]
    connected = await desk.wakeups.connected([mailbox for _, mailbox in mailboxes])
    online = {each.account_id: False for each in found}
    return online | {account: True for account, mailbox in mailboxes if mailbox in connected}


async def _appraised(desk: Desk, found: _Found, now: int, *, anew: bool) -> Appraised:
    if found.bundle is None or found.evidence_nonce is None:
        return NO_EVIDENCE
    if desk.appraise is None:
        return NO_APPRAISER
    shown = Shown(found.bundle, found.evidence_nonce, found.identity_key)
    if anew:
        return await asyncio.to_thread(desk.appraise, shown, now)
    return await desk.appraisals.of(desk.appraise, shown, now)


def _load(found: _Found) -> AssistantLoad | None:
    """What it said last; a report of another version may hold something else, which is not shown."""
    try:
        return AssistantLoad.from_json(json_body(found.load)) if found.load else None
    except WireError:
        return None


def _line(found: _Found, evidence: Appraised, online: bool | None, now: int) -> AssistantLine:
    return AssistantLine(
        aci=str(found.aci),
        name=found.name,
        state=found.state(now),
        online=online,
        verdict=evidence.verdict,
        simulated=evidence.simulated,
        tee=evidence.tee,
        release=evidence.release,
        reported_at=found.reported_at,
        evidence_at=found.evidence_at,
    )


def _release(desk: Desk, group: Iterable[tuple[Any, ...]]) -> ReleaseLine:
    rows = list(group)
    measurement: bytes = rows[0][1]
    return ReleaseLine(
        release=rows[0][0],
        measurement=measurement.hex(),
        accepted=None if desk.appraise is None else desk.appraise.accepts(measurement),
        first_seen_at=min(row[2] for row in rows),
        last_seen_at=max(row[3] for row in rows),
        assistants=sorted({row[4] for row in rows}),
    )


VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View(
        "assistants.list",
        "Assistants: whether they can be asked, where they run, and what was proved of it",
        Permission.HEALTH_SEE,
        AssistantPage,
        AssistantList,
        _list,
    ),
    View(
        "assistants.show",
        "One assistant: its evidence as appraised now, step by step, and its load",
        Permission.HEALTH_SEE,
        OneAssistant,
        AssistantDetails,
        _show,
    ),
    View(
        "releases.list",
        "Releases that assistants have named, and which of them the policy accepts",
        Permission.HEALTH_SEE,
        Nothing,
        ReleaseList,
        _releases,
    ),
)
ACTIONS: Final[tuple[Action[Any], ...]] = (
    Action(
        "assistants.drain",
        "Let an assistant have nothing new: the directory says that it does not accept",
        Permission.ASSISTANTS_DRAIN,
        OneAssistant,
        _drain,
        dangerous=True,
    ),
    Action(
        "assistants.undrain",
        "Let an assistant have new requests again",
        Permission.ASSISTANTS_DRAIN,
        OneAssistant,
        _undrain,
    ),
)
