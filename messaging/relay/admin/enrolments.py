"""Enrolment: a code, in a link, with which somebody becomes an operator, or an operator gets another passkey. Good once, for a day."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.errors import NothingThere
from messaging.relay.admin.keeping import Kind, hash_of, new_value
from messaging.relay.admin.limits import ENROLMENT_LIFETIME
from messaging.relay.admin.operator_tables import EnrolmentRow
from messaging.relay.admin.operators import FIRST, NOBODY, find_by_name, is_without_operators
from messaging.relay.admin.permissions import Permission, Role
from messaging.relay.server_secret import ServerSecret

_LIFETIME = ENROLMENT_LIFETIME // timedelta(milliseconds=1)


class EnrolmentGone(NothingThere):
    """The code was used, is too old, or was never made."""

    sentence = "This link was used already, or is too old. Ask for another one."


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a code is good for: a ``role`` for somebody new, or another passkey of ``operator_id``."""

    code_hash: bytes = field(repr=False)
    role: Role | None
    operator_id: int | None
    made_by: str
    expires_at: int


async def make_enrolment(
    db: AsyncConnection,
    secret: ServerSecret,
    *,
    role: Role | None = None,
    operator_id: int | None = None,
    made_by: str,
    now: int,
) -> str:
    """A new code, for either a role or an operator."""
    code = new_value()
    values = {
        "code_hash": hash_of(secret, Kind.ENROLMENT, code),
        "role": None if role is None else role.value,
        "operator_id": operator_id,
        "made_by": made_by,
        "expires_at": now + _LIFETIME,
    }
    await db.execute(insert(EnrolmentRow).values(values))
    return code


async def make_first_enrolment(db: AsyncConnection, secret: ServerSecret, *, now: int) -> str | None:
    """A code for an owner, if there is nobody who could make one; earlier ones of this kind are worth nothing any more."""
    if not await is_without_operators(db):
        return None
    await forget_enrolments(db, made_by=FIRST)
    return await make_enrolment(db, secret, role=Role.OWNER, made_by=FIRST, now=now)


async def find_enrolment(db: AsyncConnection, secret: ServerSecret, code: str, *, now: int) -> Enrolment:
    """What a code is good for; it stays good.

    Raises:
        EnrolmentGone: nothing.
    """
    query = select(*_COLUMNS).where(EnrolmentRow.code_hash == hash_of(secret, Kind.ENROLMENT, code))
    return await _good(db, (await db.execute(query)).one_or_none(), now)


async def take_enrolment(db: AsyncConnection, secret: ServerSecret, code: str, *, now: int) -> Enrolment:
    """The same, and it is good no more.

    Raises:
        EnrolmentGone: nothing.
    """
    taken = delete(EnrolmentRow).where(EnrolmentRow.code_hash == hash_of(secret, Kind.ENROLMENT, code))
    return await _good(db, (await db.execute(taken.returning(*_COLUMNS))).one_or_none(), now)


async def forget_enrolments(db: AsyncConnection, *, made_by: str) -> None:
    """Make worthless what somebody has made."""
    await db.execute(delete(EnrolmentRow).where(EnrolmentRow.made_by == made_by))


async def forget_enrolments_of(db: AsyncConnection, operator_id: int) -> None:
    """The same of what would add a passkey of an operator."""
    await db.execute(delete(EnrolmentRow).where(EnrolmentRow.operator_id == operator_id))


async def forget_all_enrolments(db: AsyncConnection) -> int:
    """Make worthless whatever waits; returns how many there were."""
    return int((await db.execute(delete(EnrolmentRow))).rowcount)


async def forget_old_enrolments(db: AsyncConnection, *, now: int) -> None:
    """Delete what is too old."""
    await db.execute(delete(EnrolmentRow).where(EnrolmentRow.expires_at <= now))


_COLUMNS = (
    EnrolmentRow.code_hash,
    EnrolmentRow.role,
    EnrolmentRow.operator_id,
    EnrolmentRow.made_by,
    EnrolmentRow.expires_at,
)


async def _good(db: AsyncConnection, row: Any, now: int) -> Enrolment:  # noqa: ANN401 - a row of these columns
    if row is None or row[4] <= now:
        raise EnrolmentGone
    if row[3] == FIRST and not await is_without_operators(db):
        raise EnrolmentGone  # somebody was faster, by another code
    if row[3] not in NOBODY and not await _may_still_invite(db, row[3]):
        raise EnrolmentGone
    return Enrolment(row[0], None if row[1] is None else Role(row[1]), *row[2:])


async def _may_still_invite(db: AsyncConnection, maker: str) -> bool:
    record = await find_by_name(db, maker)
    return record is not None and Permission.OPERATORS_MANAGE in record.permissions
