"""What operators ask of the reports of spam: who was reported, and by how many. Not by whom."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.tables import AccountRow
from messaging.relay.messages.reports import SpamReportRow


@dataclass(frozen=True, slots=True)
class ReportedAccount:
    """An account that was reported: so often, by so many; when the oldest and the latest of these reports expire."""

    aci: UUID
    reports: int
    reporters: int
    first_expires_at: int
    last_expires_at: int
    exists: bool
    role: str | None
    suspended_at: int | None


async def reported_accounts(
    db: AsyncConnection, *, behind: tuple[int, UUID] | None, limit: int, at_most: int
) -> tuple[list[ReportedAccount], int]:
    """Those whom most others have reported, behind the one with so many reporters; and how many reports were looked at.

    These are the latest ``at_most`` ones.
    """
    report, account = SpamReportRow, AccountRow
    latest = select(report.reported, report.reporter_hash, report.expires_at)
    latest_first = latest.order_by(report.expires_at.desc()).limit(at_most).subquery()
    read = (await db.execute(select(func.count()).select_from(latest_first))).scalar_one()
    by = latest_first.c
    grouped = (
        select(
            by.reported,
            func.count().label("reports"),
            func.count(by.reporter_hash.distinct()).label("reporters"),
            func.min(by.expires_at).label("first"),
            func.max(by.expires_at).label("last"),
        )
        .group_by(by.reported)
        .subquery()
    )
    each = grouped.c
    query = (
        select(
            each.reported,
            each.reports,
            each.reporters,
            each.first,
            each.last,
            account.id.is_not(None),
            account.role,
            account.suspended_at,
        )
        .outerjoin(account, account.aci == each.reported)
        .order_by(each.reporters.desc(), each.reported)
        .limit(limit)
    )
    if behind is not None:
        reporters, aci = behind
        same = and_(each.reporters == reporters, each.reported > aci)
        query = query.where(or_(each.reporters < reporters, same))
    return [ReportedAccount(*found) for found in await db.execute(query)], read


async def dismiss_reports(db: AsyncConnection, reported: UUID) -> int:
    """Forget all reports about an account; returns how many."""
    return (await db.execute(delete(SpamReportRow).where(SpamReportRow.reported == reported))).rowcount
