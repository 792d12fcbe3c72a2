"""Tokens of the admin API: each is good for a part of what its operator may, until it expires or is revoked."""

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.errors import Conflict, InvalidInput, NotPermitted
from messaging.relay.admin.keeping import Kind, hash_of, new_value
from messaging.relay.admin.limits import MAX_TOKEN_LIFETIME, MAX_TOKENS, SEEN_STEP
from messaging.relay.admin.operator_tables import TokenRow
from messaging.relay.admin.permissions import Permission
from messaging.relay.server_secret import ServerSecret

PREFIX: Final = "srt_"  # so that a scanner of secrets knows one when it sees it
_MAX_LETTERS = 64
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the database has it, which is not the token. Times are milliseconds since 1970."""

    id: int
    operator_id: int
    name: str
    permissions: frozenset[str]
    created_at: int
    expires_at: int
    used_at: int | None
    revoked: bool

    def is_good(self, now: int) -> bool:
        """Whether it opens anything."""
        return not self.revoked and now < self.expires_at


def check_scope(wanted: Collection[str], held: AbstractSet[Permission]) -> frozenset[Permission]:
    """The permissions with these names.

    Raises:
        InvalidInput: none, or one that there is not.
        NotPermitted: one that the operator has not.
    """
    if not wanted or not set(wanted) <= {each.value for each in Permission}:
        raise InvalidInput(("permissions",), "Name at least one permission, and only those that there are.")
    scope = frozenset(Permission(name) for name in wanted)
    if not scope <= held:
        raise NotPermitted("A token has only what you may yourself.")
    return scope


def check_lifetime(days: int) -> int:
    """``days`` in milliseconds.

    Raises:
        InvalidInput: less than one, or more than ``MAX_TOKEN_LIFETIME``.
    """
    if not 1 <= days <= MAX_TOKEN_LIFETIME.days:
        raise InvalidInput(("days",), f"A token is good for 1 to {MAX_TOKEN_LIFETIME.days} days.")
    return timedelta(days=days) // _MILLISECOND


async def add_token(
    db: AsyncConnection,
    secret: ServerSecret,
    operator_id: int,
    name: str,
    scope: AbstractSet[Permission],
    lifetime: int,
    *,
    now: int,
) -> tuple[int, str]:
    """A new token: its number, and itself, which nobody can read again. Those that are good no more make room.

    Raises:
        Conflict: the operator has ``MAX_TOKENS``.
    """
    row = TokenRow
    await db.execute(delete(row).where(row.operator_id == operator_id, row.revoked | (row.expires_at <= now)))
    count = select(func.count()).select_from(row).where(row.operator_id == operator_id)
    if (await db.execute(count)).scalar_one() >= MAX_TOKENS:
        raise Conflict("There are too many tokens. Revoke one first.")
    token = PREFIX + new_value()
    values = {
        "token_hash": hash_of(secret, Kind.API, token),
        "operator_id": operator_id,
        "name": name,
        "permissions": " ".join(sorted(each.value for each in scope)),
        "created_at": now,
        "expires_at": now + lifetime,
        "revoked": False,
    }
    number: int = (await db.execute(insert(row).values(values).returning(row.id))).scalar_one()
    return number, token


async def find_token(db: AsyncConnection, secret: ServerSecret, token: str, *, now: int) -> Token | None:
    """The good one that this is."""
    if not token.startswith(PREFIX) or len(token) > _MAX_LETTERS:
        return None
    found = (await db.execute(_tokens().where(TokenRow.token_hash == hash_of(secret, Kind.API, token)))).one_or_none()
    kept = None if found is None else _token(found)
    return kept if kept is not None and kept.is_good(now) else None


async def note_token_used(db: AsyncConnection, token: Token, *, now: int) -> None:
    """Keep when a token was used."""
    await db.execute(update(TokenRow).where(TokenRow.id == token.id).values(used_at=now))


def is_token_to_be_noted(token: Token, now: int) -> bool:
    """Whether it is time to keep that it was used: not at every request."""
    return token.used_at is None or now - token.used_at >= SEEN_STEP // _MILLISECOND


async def find_token_by_id(db: AsyncConnection, token_id: int) -> Token | None:
    """The one with this number."""
    found = (await db.execute(_tokens().where(TokenRow.id == token_id))).one_or_none()
    return None if found is None else _token(found)


async def tokens_of(db: AsyncConnection, operator_id: int, *, now: int) -> list[Token]:
    """All good ones of an operator, the newest first."""
    query = _tokens().where(TokenRow.operator_id == operator_id).order_by(TokenRow.id.desc())
    return [found for found in map(_token, await db.execute(query)) if found.is_good(now)]


async def good_tokens_before(db: AsyncConnection, before: int | None, *, limit: int, now: int) -> list[Token]:
    """Those of all operators that are good, with numbers below ``before``, the newest first."""
    row = TokenRow
    query = _tokens().where(row.revoked.is_(False), row.expires_at > now)
    query = query if before is None else query.where(row.id < before)
    return [_token(found) for found in await db.execute(query.order_by(row.id.desc()).limit(limit))]


async def revoke_token(db: AsyncConnection, token_id: int) -> None:
    """Let a token open nothing any more."""
    await db.execute(update(TokenRow).where(TokenRow.id == token_id).values(revoked=True))


async def revoke_tokens(db: AsyncConnection, operator_id: int) -> int:
    """The same for all of an operator's; returns how many there were."""
    row = TokenRow
    gone = await db.execute(
        update(row).where(row.operator_id == operator_id, row.revoked.is_(False)).values(revoked=True)
    )
    return int(gone.rowcount)


def _tokens() -> Any:  # noqa: ANN401 - a select of these columns
    row = TokenRow
    return select(
        row.id, row.operator_id, row.name, row.permissions, row.created_at, row.expires_at, row.used_at, row.revoked
    )


def _token(row: Any) -> Token:  # noqa: ANN401 - a row of _tokens
    number, operator_id, name, permissions, *rest = row
    return Token(number, operator_id, name, frozenset(permissions.split()), *rest)
