"""Challenges of ceremonies: each is good for one purpose, one operator, five minutes, and one answer, right or wrong."""

import secrets
from datetime import timedelta

from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.errors import Conflict
from messaging.relay.admin.keeping import VALUE_BYTES, Kind, hash_of
from messaging.relay.admin.limits import CHALLENGE_LIFETIME
from messaging.relay.admin.operator_tables import ChallengeRow
from messaging.relay.server_secret import ServerSecret

_LIFETIME = CHALLENGE_LIFETIME // timedelta(milliseconds=1)


class ChallengeGone(Conflict):
    """It was answered already, is too old, or is another ceremony's."""

    code, sentence = "challenge_gone", "This took too long, or was answered already. Begin again."


async def make_challenge(
    db: AsyncConnection, secret: ServerSecret, purpose: str, operator_id: int | None, *, now: int
) -> bytes:
    """32 random bytes that will be taken once."""
    challenge = secrets.token_bytes(VALUE_BYTES)
    values = {
        "challenge_hash": hash_of(secret, Kind.CHALLENGE, challenge),
        "purpose": purpose,
        "operator_id": operator_id,
        "expires_at": now + _LIFETIME,
    }
    await db.execute(insert(ChallengeRow).values(values))
    return challenge


async def take_challenge(
    db: AsyncConnection, secret: ServerSecret, challenge: bytes, purpose: str, operator_id: int | None, *, now: int
) -> bool:
    """Remove a challenge; returns whether it was there, and made for this. The caller commits that before looking at the answer."""
    row = ChallengeRow
    taken = delete(row).where(row.challenge_hash == hash_of(secret, Kind.CHALLENGE, challenge))
    found = (await db.execute(taken.returning(row.purpose, row.operator_id, row.expires_at))).one_or_none()
    return found is not None and (found[0], found[1]) == (purpose, operator_id) and now < found[2]


async def forget_old_challenges(db: AsyncConnection, *, now: int) -> None:
    """Delete what nobody can answer any more."""
    await db.execute(delete(ChallengeRow).where(ChallengeRow.expires_at <= now))
