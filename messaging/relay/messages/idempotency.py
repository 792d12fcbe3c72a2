"""Sends that are remembered: who repeats one with the same key is answered as the first time, and nothing is sent twice.

The answer is stored in the transaction that stores the envelopes, so either both are there or neither. Only a send that
succeeded is remembered: one that failed stored nothing and may be repaired and tried again under its key.
Source of the header: draft-ietf-httpapi-idempotency-key-header-07.
"""

import hmac
from dataclasses import dataclass, field
from hashlib import blake2b

from sqlalchemy import BigInteger, LargeBinary, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.database import Base
from messaging.relay.errors import IdempotencyKeyReused, InvalidRequest
from messaging.relay.http import Call
from messaging.wire.limits import MAX_IDEMPOTENCY_KEY, MIN_IDEMPOTENCY_KEY
from messaging.wire.messages import IDEMPOTENCY_HEADER

_HEADER = IDEMPOTENCY_HEADER.lower()


class RememberedSendRow(Base):
    """A send under a key: hashes of the key and of the request, and what was answered."""

    __tablename__ = "remembered_sends"
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)


@dataclass(frozen=True, slots=True)
class Once:
    """A key, in the scope of who sends to whom, with the request it stands for."""

    key_hash: bytes = field(repr=False)
    request_hash: bytes = field(repr=False)


def once_of(call: Call, *scope: object) -> Once | None:
    """The idempotency key of a call, ``None`` without one. ``scope`` says whose key it is: one of another is another key.

    Raises:
        InvalidRequest: not 16 to 128 printable characters of ASCII.
    """
    key = call.headers.get(_HEADER)
    if key is None:
        return None
    if not (MIN_IDEMPOTENCY_KEY <= len(key) <= MAX_IDEMPOTENCY_KEY and key.isascii() and key.isprintable()):
        raise InvalidRequest(IDEMPOTENCY_HEADER)
    name = "\x1f".join([*map(str, scope), key])
    request = blake2b(call.path.encode() + b"\x00" + call.body, digest_size=32)
    return Once(blake2b(name.encode(), digest_size=32).digest(), request.digest())


async def recall(db: AsyncConnection, once: Once | None) -> bytes | None:
    """What was answered the first time; ``None`` if this is the first time.

    Raises:
        IdempotencyKeyReused: the key stood for another request.
    """
    if once is None:
        return None
    row = RememberedSendRow
    query = select(row.request_hash, row.answer).where(row.key_hash == once.key_hash)
    found = (await db.execute(query)).one_or_none()
    if found is None:
        return None
    if not hmac.compare_digest(found[0], once.request_hash):
        raise IdempotencyKeyReused
    answer: bytes = found[1]
    return answer


async def delete_expired_sends(db: AsyncConnection, *, now: int) -> int:
    """Forget what need not be remembered any more; returns how many."""
    return (await db.execute(delete(RememberedSendRow).where(RememberedSendRow.expires_at <= now))).rowcount
