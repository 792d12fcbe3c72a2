"""Reports of spam, without a record of who wrote to whom.

Each envelope whose sender is known carries a token: a MAC over sender, envelope and receiver. Who reports gives it back, and
so proves that the relay delivered this envelope from this sender to them. Only the report is stored.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from sqlalchemy import BigInteger, LargeBinary, Uuid, delete, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.database import Base, Database
from messaging.relay.http import Caller
from messaging.relay.limits import Limit, RateLimits
from messaging.relay.server_secret import ServerSecret

TOKEN_BYTES = 16
REPORT_LIFETIME = 30 * 24 * 60 * 60 * 1000


class SpamReportRow(Base):
    """One report of one envelope. The reporter is kept as a keyed hash: enough to count each once."""

    __tablename__ = "spam_reports"
    reported: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    report_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    reporter_hash: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)


@dataclass(frozen=True, slots=True)
class SpamReports:
    """Issues report tokens and takes reports. ``now`` gives milliseconds since 1970."""

    database: Database
    secret: ServerSecret
    limits: RateLimits
    now: Callable[[], int]

    def token(self, *, sender: UUID, guid: UUID, receiver: UUID) -> bytes:
        """What the receiver's envelope carries: 16 bytes."""
        return self._mac(b"token", sender, guid, receiver)

    async def report(self, caller: Caller, *, sender: UUID, guid: UUID, token: bytes | None) -> None:
        """Store a report if its token is right, once; the caller is not told whether it was.

        Raises:
            RateLimited: too many reports.
        """
        await self.limits.take(Limit.SPAM_REPORT, caller.account_id, account=caller.account_id, bot=caller.is_bot)
        right = self.token(sender=sender, guid=guid, receiver=caller.aci)
        if token is None or not hmac.compare_digest(token, right):
            return
        values = {
            "reported": sender,
            "report_hash": self._mac(b"report", guid, caller.aci),
            "reporter_hash": hash_reporter(self.secret, caller.aci),
            "expires_at": self.now() + REPORT_LIFETIME,
        }
        try:
            async with self.database.begin() as db:
                await db.execute(insert(SpamReportRow).values(values))
        except IntegrityError:
            return  # the same report again

    def _mac(self, label: bytes, *parts: UUID) -> bytes:
        return _mac(self.secret, label, *parts)


def hash_reporter(secret: ServerSecret, reporter: UUID) -> bytes:
    """What is kept of who has reported."""
    return _mac(secret, b"reporter", reporter)


def _mac(secret: ServerSecret, label: bytes, *parts: UUID) -> bytes:
    message = label + b"".join(part.bytes for part in parts)
    return hmac.digest(secret.report_key, message, sha256)[:TOKEN_BYTES]


async def count_reporters(db: AsyncConnection, reported: UUID) -> int:
    """How many different accounts have reported an account."""
    row = SpamReportRow
    query = select(func.count(row.reporter_hash.distinct())).where(row.reported == reported)
    return (await db.execute(query)).scalar_one()


async def delete_expired_reports(db: AsyncConnection, *, now: int) -> int:
    """Forget old reports; returns how many."""
    return (await db.execute(delete(SpamReportRow).where(SpamReportRow.expires_at <= now))).rowcount
