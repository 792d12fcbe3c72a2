"""Who may sign in, and what each of them may now: queries over the table of operators, and the rules that they obey."""

import unicodedata
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.errors import Conflict, InvalidInput, NothingThere
from messaging.relay.admin.limits import MAX_NAME, MAX_OPERATORS
from messaging.relay.admin.operator_tables import OperatorRow
from messaging.relay.admin.permissions import GRANTED, Permission, Role
from messaging.relay.admin.proposals import SETTING
from messaging.relay.operator_settings import read_setting

FIRST: Final = "the start of the console"  # who makes the link of the first operator
TERMINAL: Final = "terminal"  # whoever has the database and the secret file
NOBODY: Final = frozenset({FIRST, TERMINAL})  # who stand in the audit log, and are no operators


@dataclass(frozen=True, slots=True)
class OperatorRecord:
    """An operator as the database has them. Times are milliseconds since 1970; ``totp_step`` is the last one that was used."""

    id: int
    handle: bytes = field(repr=False)
    name: str
    role: Role
    created_at: int
    disabled_at: int | None
    totp_sealed: bytes | None = field(repr=False)
    totp_step: int
    oidc_subject: str | None = field(repr=False)

    @property
    def permissions(self) -> frozenset[Permission]:
        """What they may now; nothing once they are disabled."""
        return frozenset() if self.disabled_at is not None else GRANTED[self.role]


def permitted(record: OperatorRecord, scope: AbstractSet[str]) -> frozenset[Permission]:
    """What a token of theirs may now: what is in its ``scope``, of what they may themselves."""
    return frozenset(each for each in record.permissions if each.value in scope)


def check_name(text: str, name: str = "name") -> str:
    """A name as it will stand, without white space around it.

    Raises:
        InvalidInput: empty, longer than ``MAX_NAME``, or with characters that nobody sees. ``name`` is the field's.
    """
    stripped = text.strip()
    if not 1 <= len(stripped) <= MAX_NAME or not stripped.isprintable():
        raise InvalidInput((name,), f"A name has 1 to {MAX_NAME} characters that can be seen.")
    return stripped


def folded(name: str) -> str:
    """What two names that look the same have in common: NFKC, and no difference of case (Unicode, chapter 3.13)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


async def free_name(db: AsyncConnection, text: str) -> str:
    """The name as it will stand, if somebody new may have it.

    Raises:
        InvalidInput: it cannot be a name.
        Conflict: one that looks the same is taken, if only by somebody who has left, or is in the audit log for nobody.
    """
    name = check_name(text)
    taken = select(OperatorRow.id).where(OperatorRow.folded_name == folded(name))
    if folded(name) in map(folded, NOBODY) or (await db.execute(taken)).one_or_none() is not None:
        raise _name_taken()
    return name


def _name_taken() -> Conflict:
    return Conflict("Somebody has this name already. The audit log knows them by it.")


async def find_operator(db: AsyncConnection, operator_id: int) -> OperatorRecord | None:
    """The one with this number, disabled or not."""
    return _one((await db.execute(_records().where(OperatorRow.id == operator_id))).one_or_none())


async def find_by_name(db: AsyncConnection, name: str) -> OperatorRecord | None:
    """The one with this name, disabled or not."""
    return _one((await db.execute(_records().where(OperatorRow.name == name))).one_or_none())


async def find_by_oidc(db: AsyncConnection, subject: str) -> OperatorRecord | None:
    """The one who was bound to this subject: see ``door.Door.subject_of``."""
    return _one((await db.execute(_records().where(OperatorRow.oidc_subject == subject))).one_or_none())


async def require_operator(db: AsyncConnection, operator_id: int) -> OperatorRecord:
    """One who is not disabled.

    Raises:
        NothingThere: there is none with this number.
    """
    found = await find_operator(db, operator_id)
    if found is None or found.disabled_at is not None:
        raise NothingThere
    return found


async def lock_operator(db: AsyncConnection, operator_id: int) -> OperatorRecord:
    """The same, locked until the transaction ends: what they sign in with is counted and changed by one at a time.

    Raises:
        NothingThere: there is none with this number.
    """
    query = _records().where(OperatorRow.id == operator_id).with_for_update()
    found = _one((await db.execute(query)).one_or_none())
    if found is None or found.disabled_at is not None:
        raise NothingThere
    return found


async def lock_with_owners(db: AsyncConnection, operator_id: int) -> OperatorRecord | None:
    """The one with this number as they are now, locked together with all owners, in one order.

    Whoever acts holds these rows: what operators are and what waits for two of them does not change meanwhile. Owners come first: one
    who changes another operator's row has locked no row that this operator needs before their own.
    """
    row = OperatorRow
    is_owner = (row.role == Role.OWNER.value) & row.disabled_at.is_(None)
    query = _records().where((row.id == operator_id) | is_owner).order_by(is_owner.desc(), row.id).with_for_update()
    locked = {record.id: record for record in map(_record, await db.execute(query))}
    return locked.get(operator_id)


async def operators_after(db: AsyncConnection, after: int, *, limit: int) -> list[OperatorRecord]:
    """Those with larger numbers than ``after``, disabled ones too, in their order."""
    query = _records().where(OperatorRow.id > after).order_by(OperatorRow.id).limit(limit)
    return [_record(row) for row in await db.execute(query)]


async def is_without_operators(db: AsyncConnection) -> bool:
    """Whether nobody could sign in: there are none, or all are disabled."""
    query = select(OperatorRow.id).where(OperatorRow.disabled_at.is_(None)).limit(1)
    return (await db.execute(query)).one_or_none() is None


async def add_operator(db: AsyncConnection, *, handle: bytes, name: str, role: Role, now: int) -> OperatorRecord:
    """Somebody new, with ``handle`` as their WebAuthn user handle (32 bytes).

    Raises:
        InvalidInput, Conflict: see :func:`free_name`.
        Conflict: there are too many.
    """
    row, name = OperatorRow, await free_name(db, name)
    if (await db.execute(select(func.count()).select_from(row))).scalar_one() >= MAX_OPERATORS:
        raise Conflict("There are too many operators.")
    values = {"handle": handle, "name": name, "folded_name": folded(name), "role": role.value, "created_at": now}
    try:
        async with db.begin_nested():
            number = (await db.execute(insert(row).values(values).returning(row.id))).scalar_one()
    except IntegrityError:  # by somebody who was faster
        raise _name_taken() from None
    return OperatorRecord(number, handle, name, role, now, None, None, 0, None)


async def set_role(db: AsyncConnection, record: OperatorRecord, role: Role) -> None:
    """Give somebody another role.

    Raises:
        Conflict: no owner would be left, or too few for what needs a second one.
    """
    if record.role is Role.OWNER and role is not Role.OWNER:
        await _require_other_owners(db, record)
    await db.execute(update(OperatorRow).where(OperatorRow.id == record.id).values(role=role.value))


async def disable(db: AsyncConnection, record: OperatorRecord, *, now: int) -> None:
    """Let somebody not sign in any more, ever.

    Raises:
        Conflict: see :func:`set_role`.
    """
    if record.role is Role.OWNER:
        await _require_other_owners(db, record)
    values = {"disabled_at": now, "totp_sealed": None, "oidc_subject": None}
    await db.execute(update(OperatorRow).where(OperatorRow.id == record.id).values(values))


async def bind_oidc(db: AsyncConnection, operator_id: int, subject: str | None) -> None:
    """Let somebody sign in as ``subject`` of the company's provider, too; ``None`` ends it.

    Raises:
        Conflict: that is another operator already.
    """
    try:
        async with db.begin_nested():
            await db.execute(update(OperatorRow).where(OperatorRow.id == operator_id).values(oidc_subject=subject))
    except IntegrityError:
        raise Conflict("That account is another operator's already.") from None


async def enabled_owners(db: AsyncConnection) -> Sequence[int]:
    """The numbers of all owners who are not disabled; the rows are locked, so that no two changes each leave the other's."""
    row = OperatorRow
    query = select(row.id).where(row.role == Role.OWNER.value, row.disabled_at.is_(None)).order_by(row.id)
    return (await db.execute(query.with_for_update())).scalars().all()


async def _require_other_owners(db: AsyncConnection, leaving: OperatorRecord) -> None:
    """One owner stays always, and two where something waits for a second operator: else nobody could ever approve."""
    left = [owner for owner in await enabled_owners(db) if owner != leaving.id]
    setting = await read_setting(db, SETTING)  # under the lock: a rule that comes meanwhile counts
    needed = 2 if setting is not None and setting.document.get("actions") else 1
    if len(left) < needed:
        raise Conflict(
            "The last owner stays one. Make another one first."
            if needed == 1
            else "Something waits for a second operator here: two owners stay. Make another one first."
        )


def _records() -> Any:  # noqa: ANN401 - a select of these columns
    row = OperatorRow
    return select(
        row.id,
        row.handle,
        row.name,
        row.role,
        row.created_at,
        row.disabled_at,
        row.totp_sealed,
        row.totp_step,
        row.oidc_subject,
    )


def _one(row: Any) -> OperatorRecord | None:  # noqa: ANN401 - a row of _records
    return None if row is None else _record(row)


def _record(row: Any) -> OperatorRecord:  # noqa: ANN401 - a row of _records
    number, handle, name, role, *rest = row
    return OperatorRecord(number, handle, name, Role(role), *rest)
