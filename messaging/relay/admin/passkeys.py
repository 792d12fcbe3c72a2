"""Passkeys as the database has them. Whether a browser has proved one is for the console to say."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.errors import Conflict
from messaging.relay.admin.limits import MAX_PASSKEYS
from messaging.relay.admin.operator_tables import PasskeyRow


@dataclass(frozen=True, slots=True)
class NewPasskey:
    """A WebAuthn credential that a browser has just proved. ``public_key`` is COSE."""

    credential_id: bytes = field(repr=False)
    public_key: bytes = field(repr=False)
    sign_count: int
    name: str


@dataclass(frozen=True, slots=True)
class Passkey:
    """One that is kept. Times are milliseconds since 1970."""

    credential_id: bytes = field(repr=False)
    operator_id: int
    public_key: bytes = field(repr=False)
    sign_count: int
    name: str
    created_at: int
    used_at: int | None


async def add_passkey(db: AsyncConnection, operator_id: int, new: NewPasskey, *, now: int) -> None:
    """Keep a passkey.

    Raises:
        Conflict: it is known already, or the operator has ``MAX_PASSKEYS``.
    """
    if await count_passkeys(db, operator_id) >= MAX_PASSKEYS:
        raise Conflict("There are too many passkeys. Remove one first.")
    values = {
        "credential_id": new.credential_id,
        "operator_id": operator_id,
        "public_key": new.public_key,
        "sign_count": new.sign_count,
        "name": new.name,
        "created_at": now,
    }
    try:
        async with db.begin_nested():
            await db.execute(insert(PasskeyRow).values(values))
    except IntegrityError:
        raise Conflict("This passkey is known already.") from None


async def find_passkey(db: AsyncConnection, credential_id: bytes) -> Passkey | None:
    """The one with this id."""
    query = _passkeys().where(PasskeyRow.credential_id == credential_id)
    found = (await db.execute(query)).one_or_none()
    return None if found is None else Passkey(*found)


async def passkeys_of(db: AsyncConnection, operator_id: int) -> list[Passkey]:
    """All of an operator's, the oldest first."""
    query = _passkeys().where(PasskeyRow.operator_id == operator_id).order_by(PasskeyRow.created_at)
    return [Passkey(*row) for row in await db.execute(query)]


async def count_passkeys(db: AsyncConnection, operator_id: int) -> int:
    """How many an operator has."""
    query = select(func.count()).select_from(PasskeyRow).where(PasskeyRow.operator_id == operator_id)
    return int((await db.execute(query)).scalar_one())


async def note_used(db: AsyncConnection, passkey: Passkey, sign_count: int, *, now: int) -> bool:
    """Keep what an authenticator has counted; ``False`` if it has signed meanwhile, so that this may be a copy of it."""
    row = PasskeyRow
    here = (row.credential_id == passkey.credential_id, row.sign_count == passkey.sign_count)
    used = await db.execute(update(row).where(*here).values(sign_count=sign_count, used_at=now))
    return bool(used.rowcount)


async def remove_passkey(db: AsyncConnection, operator_id: int, credential_id: bytes) -> bool:
    """Forget one of an operator's own; returns whether there was such a one."""
    row = PasskeyRow
    gone = await db.execute(delete(row).where(row.operator_id == operator_id, row.credential_id == credential_id))
    return bool(gone.rowcount)


def _passkeys() -> Any:  # noqa: ANN401 - a select of these columns
    row = PasskeyRow
    return select(
        row.credential_id, row.operator_id, row.public_key, row.sign_count, row.name, row.created_at, row.used_at
    )
