"""Reports of abuse as a domain of the console: who was reported, how often and by how many. Never by whom, nor for what."""

from typing import Any, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.accounts import AccountNamed
from messaging.relay.admin.desk import Action, Desk, Done, Effect, Operator, View, account_subject
from messaging.relay.admin.errors import InvalidInput, NothingThere
from messaging.relay.admin.limits import MAX_REPORTS_READ, PAGE
from messaging.relay.admin.parameters import PageSize, page_of
from messaging.relay.admin.permissions import Permission
from messaging.relay.messages.report_tables import ReportedAccount, dismiss_reports, reported_accounts
from messaging.relay.messages.reports import REPORT_LIFETIME
from messaging.wire.json import Entity


class ReportedPage(Entity):
    """Which page: what comes behind the account ``after``, which has ``after_reporters``."""

    after: UUID | None = None
    after_reporters: int | None = Field(None, ge=1, le=MAX_REPORTS_READ)
    limit: PageSize = PAGE


class ReportedLine(Entity):
    """An account that was reported. ``state`` is ``active``, ``suspended`` or ``deleted``."""

    aci: UUID
    state: str
    role: str | None
    reports: int
    reporters: int
    first_at: int
    last_at: int


class Reported(Entity):
    """Those whom most others have reported. ``complete``: all reports were looked at, and not only the latest ones."""

    accounts: list[ReportedLine]
    complete: bool
    after: UUID | None = None
    after_reporters: int | None = None


async def _list(_desk: Desk, db: AsyncConnection, page: ReportedPage) -> Reported:
    if (page.after is None) != (page.after_reporters is None):
        raise InvalidInput(("after", "afterReporters"), "The two say together where to go on.")
    behind = None if page.after is None or page.after_reporters is None else (page.after_reporters, page.after)
    found, read = await reported_accounts(db, behind=behind, limit=page.limit + 1, at_most=MAX_REPORTS_READ)
    shown, last = page_of(found, page.limit)
    return Reported(
        accounts=[_line(each) for each in shown],
        complete=read < MAX_REPORTS_READ,
        after=None if last is None else last.aci,
        after_reporters=None if last is None else last.reporters,
    )


def _line(account: ReportedAccount) -> ReportedLine:
    return ReportedLine(
        aci=account.aci,
        state="deleted" if not account.exists else "active" if account.suspended_at is None else "suspended",
        role=account.role,
        reports=account.reports,
        reporters=account.reporters,
        first_at=account.first_expires_at - REPORT_LIFETIME,
        last_at=account.last_expires_at - REPORT_LIFETIME,
    )


async def _dismiss(_desk: Desk, db: AsyncConnection, named: AccountNamed, _by: Operator) -> Done:
    count = await dismiss_reports(db, named.aci)
    if count == 0:
        raise NothingThere("Nobody has reported this account.")
    return Done((Effect("reports", count),), account_subject(named.aci))


P = Permission
VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View(
        "abuse.list",
        "Accounts that others have reported, in the last 30 days",
        P.ABUSE_SEE,
        ReportedPage,
        Reported,
        _list,
        of_account=True,
        subject=lambda _: "reported accounts",
    ),
)
ACTIONS: Final[tuple[Action[Any], ...]] = (
    Action(
        "abuse.dismiss",
        "Forget all reports about an account",
        P.ABUSE_SETTLE,
        AccountNamed,
        _dismiss,
        dangerous=True,
    ),
)
