"""Operators who are signed in: a random value in a cookie, of which the database has a keyed hash.

A sign-in ends when nobody has used it for ``IDLE``, and at the latest after ``ABSOLUTE``; one by a recovery code after ``RECOVERY``, and
it permits nothing but to add a passkey. Times are milliseconds since 1970.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.errors import NotPermitted
from messaging.relay.admin.keeping import Kind, hash_of, new_value
from messaging.relay.admin.limits import ABSOLUTE, FRESH, IDLE, MAX_SIGN_INS, RECOVERY, SEEN_STEP
from messaging.relay.admin.operator_tables import SignInRow
from messaging.relay.server_secret import ServerSecret

_ID_LETTERS = 16
_MILLISECOND = timedelta(milliseconds=1)


class Method(StrEnum):
    """How somebody has signed in."""

    PASSKEY = "passkey"
    OIDC = "oidc"
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True)
class SignIn:
    """One of an operator's sign-ins. ``id`` names it, and opens nothing; ``browser`` is a family and a system, no address."""

    id_hash: bytes = field(repr=False)
    operator_id: int
    method: Method
    began_at: int
    seen_at: int
    browser: str

    @property
    def id(self) -> str:
        """A name for it, in lists."""
        return self.id_hash.hex()[:_ID_LETTERS]

    def is_over(self, now: int) -> bool:
        """Whether it has ended by itself."""
        longest = RECOVERY if self.method is Method.RECOVERY else ABSOLUTE
        return now - self.began_at >= longest // _MILLISECOND or now - self.seen_at >= IDLE // _MILLISECOND

    def is_fresh(self, now: int) -> bool:
        """Whether it began less than ``FRESH`` ago."""
        return now - self.began_at < FRESH // _MILLISECOND

    def require_fresh(self, now: int) -> None:
        """See that the operator was there a short while ago: who finds a screen unlocked shall not keep the door open.

        Raises:
            NotPermitted: it began longer than ``FRESH`` ago.
        """
        if not self.is_fresh(now):
            raise NotPermitted("Sign in again first: what you sign in with is changed only shortly after that.")


async def begin_sign_in(
    db: AsyncConnection, secret: ServerSecret, operator_id: int, method: Method, browser: str, *, now: int
) -> str:
    """Sign an operator in; returns the cookie's value, which nobody has yet. The oldest sign-in above ``MAX_SIGN_INS`` ends."""
    value, row = new_value(), SignInRow
    values = {
        "id_hash": hash_of(secret, Kind.SIGN_IN, value),
        "operator_id": operator_id,
        "method": method.value,
        "began_at": now,
        "seen_at": now,
        "browser": browser[:64],
    }
    others = (await db.execute(_sign_ins().where(row.operator_id == operator_id).order_by(row.began_at.desc()))).all()
    over = [other[0] for place, other in enumerate(others) if place >= MAX_SIGN_INS - 1 or _sign_in(other).is_over(now)]
    await db.execute(delete(row).where(row.id_hash.in_(over)))
    await db.execute(insert(row).values(values))
    return value


async def find_sign_in(db: AsyncConnection, secret: ServerSecret, value: str, *, now: int) -> SignIn | None:
    """The sign-in of a cookie; ``None`` if there is none, or it is over."""
    query = _sign_ins().where(SignInRow.id_hash == hash_of(secret, Kind.SIGN_IN, value))
    found = (await db.execute(query)).one_or_none()
    sign_in = None if found is None else _sign_in(found)
    return None if sign_in is None or sign_in.is_over(now) else sign_in


def is_to_be_noted(sign_in: SignIn, now: int) -> bool:
    """Whether it is time to keep that the operator was seen: not at every request."""
    return now - sign_in.seen_at >= SEEN_STEP // _MILLISECOND


async def note_seen(db: AsyncConnection, sign_in: SignIn, *, now: int) -> None:
    """Keep that the operator was seen."""
    row = SignInRow
    await db.execute(update(row).where(row.id_hash == sign_in.id_hash, row.seen_at < now).values(seen_at=now))


async def sign_ins_of(db: AsyncConnection, operator_id: int, *, now: int) -> list[SignIn]:
    """All of an operator's that are not over, the latest first."""
    row = SignInRow
    query = _sign_ins().where(row.operator_id == operator_id).order_by(row.began_at.desc())
    return [found for found in map(_sign_in, await db.execute(query)) if not found.is_over(now)]


async def end_sign_in(db: AsyncConnection, operator_id: int, sign_in_id: str) -> bool:
    """End one of an operator's own; returns whether there was one with this name."""
    row = SignInRow
    hashes = (await db.execute(select(row.id_hash).where(row.operator_id == operator_id))).scalars().all()
    meant = [each for each in hashes if each.hex()[:_ID_LETTERS] == sign_in_id]
    await db.execute(delete(row).where(row.operator_id == operator_id, row.id_hash.in_(meant)))
    return bool(meant)


async def end_sign_ins(db: AsyncConnection, operator_id: int, *, but: bytes = b"") -> int:
    """End all of an operator's, but the one with the hash ``but``; returns how many there were."""
    row = SignInRow
    ended = await db.execute(delete(row).where(row.operator_id == operator_id, row.id_hash != but))
    return int(ended.rowcount)


async def forget_old_sign_ins(db: AsyncConnection, *, now: int) -> None:
    """Delete what has ended by itself."""
    row = SignInRow
    await db.execute(
        delete(row).where(
            (row.seen_at <= now - IDLE // _MILLISECOND) | (row.began_at <= now - ABSOLUTE // _MILLISECOND)
        )
    )


def _sign_ins() -> Any:  # noqa: ANN401 - a select of these columns
    row = SignInRow
    return select(row.id_hash, row.operator_id, row.method, row.began_at, row.seen_at, row.browser)


def _sign_in(row: Any) -> SignIn:  # noqa: ANN401 - a row of _sign_ins
    id_hash, operator_id, method, began_at, seen_at, browser = row
    return SignIn(id_hash, operator_id, Method(method), began_at, seen_at, browser)
