"""The audit log as a hash chain: each entry names the one before it, and carries a seal that the database alone cannot make.

An entry's ``digest`` is SHA-256 over its canonical JSON (members sorted, no white space, UTF-8), which includes the digest of the
entry before: whoever has noted one digest can tell whether anything up to it was changed. The ``seal`` is HMAC-SHA-256 over the digest
with a key from the server's secret file: who can write to the database, and has not that file, cannot write a chain of their own.
Neither stops somebody who can write to the database from ending the log early, as if the last entries had never been: note the head
elsewhere (``subrosa audit head``).
"""

import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from messaging.relay.admin.errors import AuditBroken

GENESIS: Final = bytes(32)  # what stands for the entry before the first one


class Outcome(StrEnum):
    """What came of it."""

    READ = "read"
    TRIED = "dry run"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"  # there was nothing like that, or it was done already; nothing has changed
    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What an entry says. ``at`` is in milliseconds since 1970; ``subject`` names what it was done to, as the action names it.

    ``detail`` holds what the action declares as fit for the log: never a number, a key or a token.
    """

    at: int
    operator: str
    via: str
    action: str
    outcome: Outcome
    subject: str = ""
    reason: str = field(default="", repr=False)
    detail: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """One link: its number (from 1), what it says, and what makes it part of the chain. Digests and seals have 32 bytes."""

    sequence: int
    said: Said
    previous: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    seal: bytes = field(repr=False)

    def as_json(self) -> str:
        """The line of an export."""
        return json.dumps(
            {**_members(self.sequence, self.said, self.previous), "digest": self.digest.hex(), "seal": self.seal.hex()},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, line: str) -> "Entry":
        """Undo :meth:`as_json`.

        Raises:
            AuditBroken: not such a line, letter by letter: what the digests do not cover could mislead whoever reads it.
        """
        try:
            members = json.loads(line)
            said = Said(
                at=members["at"],
                operator=members["operator"],
                via=members["via"],
                action=members["action"],
                outcome=Outcome(members["outcome"]),
                subject=members["subject"],
                reason=members["reason"],
                detail=members["detail"],
            )
            binary = (bytes.fromhex(members[name]) for name in ("previous", "digest", "seal"))
            entry = cls(members["sequence"], said, *binary)
            if entry.as_json() == line.rstrip("\r\n"):
                return entry
        except (ValueError, KeyError, TypeError, RecursionError):
            pass  # one sentence for all of it
        raise AuditBroken("A line of the audit log is not an entry.")


def link(said: Said, *, after: Entry | None, key: bytes) -> Entry:
    """The entry that says this behind ``after``. ``key`` is the seal's, 32 bytes."""
    sequence, previous = (1, GENESIS) if after is None else (after.sequence + 1, after.digest)
    digest = digest_of(sequence, said, previous)
    return Entry(sequence, said, previous, digest, seal_of(digest, key))


def digest_of(sequence: int, said: Said, previous: bytes) -> bytes:
    """SHA-256 over the canonical JSON of an entry."""
    members = _members(sequence, said, previous)
    return sha256(json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).digest()


def seal_of(digest: bytes, key: bytes) -> bytes:
    """HMAC-SHA-256 over an entry's digest."""
    return hmac.digest(key, digest, sha256)


class Verifier:
    """Walks through a whole log, from its first entry, as the entries come: a long one need not be in memory.

    Args:
        key: of the seals; ``None`` for an export that is checked where the secret is not: then only the chain is.
        head: a digest that was noted earlier, which has to be one of the entries'.
    """

    def __init__(self, *, key: bytes | None, head: bytes | None = None) -> None:
        self.last: Entry | None = None
        self._key = key
        self._head = head
        self._seen = head is None

    def take(self, entry: Entry) -> None:
        """The next entry.

        Raises:
            AuditBroken: it was changed, something before it is missing, or it was added by somebody without the key.
        """
        sequence, previous = (1, GENESIS) if self.last is None else (self.last.sequence + 1, self.last.digest)
        if entry.sequence != sequence or not hmac.compare_digest(entry.previous, previous):
            raise AuditBroken(f"Before entry {entry.sequence} something is missing or was changed.")
        if not hmac.compare_digest(entry.digest, digest_of(sequence, entry.said, previous)):
            raise AuditBroken(f"Entry {sequence} was changed.")
        if self._key is not None and not hmac.compare_digest(entry.seal, seal_of(entry.digest, self._key)):
            raise AuditBroken(f"Entry {sequence} was not written by this server.")
        self.last, self._seen = entry, self._seen or entry.digest == self._head

    def finish(self) -> Entry | None:
        """The last entry, ``None`` if there was none.

        Raises:
            AuditBroken: the noted head did not come.
        """
        if not self._seen:
            raise AuditBroken("The log ends before the entry that was noted, or is another log.")
        return self.last


def verify(entries: Iterable[Entry], *, key: bytes | None, head: bytes | None = None) -> Entry | None:
    """Walk through a whole log that is at hand; returns the last entry, ``None`` if there is none. See :class:`Verifier`.

    Raises:
        AuditBroken: an entry was changed, is missing, or was added by somebody without the key.
    """
    verifier = Verifier(key=key, head=head)
    for entry in entries:
        verifier.take(entry)
    return verifier.finish()


def _members(sequence: int, said: Said, previous: bytes) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "at": said.at,
        "operator": said.operator,
        "via": said.via,
        "action": said.action,
        "outcome": said.outcome.value,
        "subject": said.subject,
        "reason": said.reason,
        "detail": dict(said.detail),
        "previous": previous.hex(),
    }
