"""What an author lets the assistant do with their own messages: a statement under the author's identity key.

The latest statement of an author stands. It counts for messages from its timestamp on, for the scopes that it names, until it
expires. A statement names the conversation by a hash of its key, so that it can be shown to somebody who is no member.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from google.protobuf.message import DecodeError

from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import DIGEST, MASTER_KEY, MAX_CONSENT, MAX_TIMESTAMP, MEMBER_TAG, SIGNATURE
from messaging.wire.protobuf import assistant_pb2 as pb

CONSENT_CONTEXT = b"subrosa consent v1\x00"  # stands before the statement in what is signed
_CONVERSATION_CONTEXT = b"subrosa conversation v1\x00"
_MEMBER_CONTEXT = b"subrosa member v1\x00"
_ROSTER_CONTEXT = b"subrosa roster v1\x00"


class ConsentScope(StrEnum):
    """What a message may be used for."""

    SUMMARIES = "summaries"  # summaries, questions, actions
    REPLIES = "replies"  # suggested replies


_SCOPES = {
    ConsentScope.SUMMARIES: pb.ConsentStatement.SUMMARIES,
    ConsentScope.REPLIES: pb.ConsentStatement.REPLIES,
}
ALL_SCOPES = frozenset(ConsentScope)


@dataclass(frozen=True, slots=True)
class Consent:
    """One statement, read. Times are milliseconds since 1970; ``expires_at`` is ``None`` for "until withdrawn"."""

    conversation_id: bytes
    author: ServiceId
    timestamp: int
    opted_in: bool
    scopes: frozenset[ConsentScope] = ALL_SCOPES
    expires_at: int | None = None

    def in_force(self, now: int) -> bool:
        """Whether the author is opted in at ``now``."""
        return self.opted_in and (self.expires_at is None or now < self.expires_at)

    def covers(self, timestamp: int, scope: ConsentScope) -> bool:
        """Whether a message with this ``timestamp`` was written under this statement, and may be used for ``scope``."""
        written = timestamp >= self.timestamp and (self.expires_at is None or timestamp < self.expires_at)
        return self.opted_in and scope in self.scopes and written

    def encode(self) -> bytes:
        """The bytes to sign, after ``CONSENT_CONTEXT``."""
        statement = pb.ConsentStatement(
            conversation_id=self.conversation_id,
            author=self.author.to_bytes(),
            timestamp=self.timestamp,
            opted_in=self.opted_in,
            scopes=sorted(_SCOPES[scope] for scope in self.scopes),
        )
        if self.expires_at is not None:
            statement.expires_at = self.expires_at
        return statement.SerializeToString(deterministic=True)


@dataclass(frozen=True, slots=True)
class SignedConsent:
    """A statement as it travels, and the author's XEdDSA signature (64 bytes) over ``CONSENT_CONTEXT`` and it."""

    statement: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def digest(self) -> bytes:
        """What names this statement in a consent set: SHA-256 of statement and signature."""
        return hashlib.sha256(self.statement + self.signature).digest()


def check_sizes(signed: SignedConsent) -> None:
    """Check that a statement and its signature take no more room than they may.

    Raises:
        MalformedField: one of them does.
    """
    if len(signed.statement) > MAX_CONSENT:
        raise MalformedField("statement")
    if len(signed.signature) != SIGNATURE:
        raise MalformedField("signature")


def read_consent(signed: SignedConsent) -> Consent:
    """Read a statement. The signature is not checked here.

    Raises:
        MalformedField: it does not have its shape.
    """
    check_sizes(signed)
    try:
        statement = pb.ConsentStatement.FromString(signed.statement)
    except DecodeError:
        raise MalformedField("statement") from None
    times = [statement.timestamp, *([statement.expires_at] if statement.HasField("expires_at") else [])]
    if len(statement.conversation_id) != DIGEST or not all(0 < time <= MAX_TIMESTAMP for time in times):
        raise MalformedField("statement")
    return Consent(
        conversation_id=statement.conversation_id,
        author=ServiceId.from_bytes(statement.author),
        timestamp=statement.timestamp,
        opted_in=statement.opted_in,
        scopes=frozenset(scope for scope, number in _SCOPES.items() if number in statement.scopes),
        expires_at=statement.expires_at if statement.HasField("expires_at") else None,
    )


def conversation_id(master_key: bytes) -> bytes:
    """32 bytes that name a conversation without giving its key away."""
    if len(master_key) != MASTER_KEY:
        raise ValueError("a master key is 32 bytes")
    return hashlib.sha256(_CONVERSATION_CONTEXT + master_key).digest()


def member_tag(master_key: bytes, member: ServiceId, identity_key: bytes) -> bytes:
    """16 bytes that stand for a member with this identity key (33 bytes), and with no other.

    Whoever knows all three finds them, and nobody reads them off.
    """
    named = member.to_bytes()
    said = _MEMBER_CONTEXT + master_key + len(named).to_bytes(1) + named + identity_key
    return hashlib.sha256(said).digest()[:MEMBER_TAG]


def roster_digest(master_key: bytes, revision: int, tags: Iterable[bytes]) -> bytes:
    """32 bytes that name a view of the members: a message carries that of its author when it was written."""
    return hashlib.sha256(_ROSTER_CONTEXT + master_key + revision.to_bytes(8, "big") + b"".join(sorted(tags))).digest()
