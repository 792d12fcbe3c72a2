"""What one author shares in one conversation: statements, a roster, messages; and who may use a message for what.

A message is written under the latest statement whose timestamp is not after its own. It may be used for a purpose while that
statement and the author's latest one both allow it: by the author, and by those whom the roster that it was written under names, if
that one stood when it arrived, and every one since. So narrowing holds at once, widening from then on, and who is removed and comes back
starts anew; a message that overtakes its roster, or comes after the next one, is its author's alone. Times are milliseconds since
1970; what comes first is told by a number that grows with each arrival. No clock, and no bounds but those on statements: the rest is
for ``ai_enclave.memory``.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from ai_enclave.limits import MAX_AGE, MAX_CONSENT_AHEAD, MAX_STATEMENTS, MESSAGE_BYTES, STATEMENT_BYTES, TAG_BYTES
from messaging.wire.consent import Consent, ConsentScope, member_tag
from messaging.wire.content import DataMessage, Roster
from messaging.wire.identifiers import MessageId, ServiceId

_MILLISECOND = timedelta(milliseconds=1)
_MAX_AGE = MAX_AGE // _MILLISECOND
_AHEAD = MAX_CONSENT_AHEAD // _MILLISECOND


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """An account under one identity key (33 bytes): under another one it may be somebody else's."""

    service_id: ServiceId
    identity_key: bytes = field(repr=False)

    def tag(self, key: bytes) -> bytes:
        """What rosters of the conversation with this master key name them by."""
        return member_tag(key, self.service_id, self.identity_key)


@dataclass(frozen=True, slots=True)
class NotedConsent:
    """A statement whose signature was verified, and its digest."""

    consent: Consent
    digest: bytes


@dataclass(frozen=True, slots=True)
class HeldMessage:
    """One message, the statement that it was written under, and its place among all that arrived.

    ``for_others``: its author's roster that stood then is the one that it was written under.
    """

    id: MessageId = field(repr=False)
    text: str = field(repr=False)
    received_at: int
    arrival: int
    under: NotedConsent = field(repr=False)
    for_others: bool = False
    vectors: dict[str, bytes] = field(
        default_factory=dict, compare=False, repr=False
    )  # of its parts; they go when it goes

    @property
    def size(self) -> int:
        """What it is counted as, in bytes."""
        return MESSAGE_BYTES + bytes_of(self.text)


@dataclass(slots=True)
class Share:
    """``statements`` are the author's, oldest first, never none; ``messages`` are by timestamp, in the order of their arrival.

    ``roster`` is the digest of the roster that stands; ``members`` says of each tag since which arrival the author has counted its
    member without a break.
    """

    author: Member
    statements: list[NotedConsent]
    revision: int = -1
    roster: bytes | None = field(default=None, repr=False)
    members: dict[bytes, int] = field(default_factory=dict, repr=False)
    messages: dict[int, HeldMessage] = field(default_factory=dict, repr=False)
    _held: int = 0

    @property
    def size(self) -> int:
        """What all of it is counted as, in bytes."""
        return self._held + len(self.statements) * STATEMENT_BYTES + len(self.members) * TAG_BYTES

    @property
    def latest(self) -> NotedConsent:
        """The statement that stands."""
        return self.statements[-1]

    @property
    def oldest(self) -> HeldMessage | None:
        """The message that arrived first."""
        return next(iter(self.messages.values()), None)

    # --- what may be used ---

    def in_force(self, now: int) -> bool:
        """Whether the author is opted in at ``now``."""
        return _in_force(self.latest.consent, now)

    def counts(self, tag: bytes) -> bool:
        """Whether the author counts this member now."""
        return tag in self.members

    def opens(self, timestamp: int, scope: ConsentScope, now: int) -> bool:
        """Whether a message of this ``timestamp`` may be used for ``scope``, as far as consent goes, held or not."""
        under = self._statement_at(timestamp)
        return under is not None and under.consent.covers(timestamp, scope) and self._allows(under, scope, now)

    def opens_held(self, held: HeldMessage, scope: ConsentScope, now: int) -> bool:
        """The same for a message that is held."""
        return self._allows(held.under, scope, now)

    def is_for(self, held: HeldMessage, tag: bytes) -> bool:
        """Whether the author counted this member when the message was written, and has since."""
        return held.for_others and self.members.get(tag, held.arrival) < held.arrival

    def _statement_at(self, timestamp: int) -> NotedConsent | None:
        under = (noted for noted in reversed(self.statements) if noted.consent.timestamp <= timestamp)
        return next(under, None)

    def _allows(self, under: NotedConsent, scope: ConsentScope, now: int) -> bool:
        both = (under.consent, self.latest.consent)
        return all(scope in consent.scopes and _in_force(consent, now) for consent in both)

    # --- what arrives ---

    def take_statement(self, noted: NotedConsent) -> None:
        """``noted`` stands from now on; what no longer can be used is dropped. Its timestamp is after the latest one's."""
        if not noted.consent.opted_in:
            self.drop_all()
            self.revision, self.roster, self.members, self.statements = -1, None, {}, [noted]
            return
        self.statements.append(noted)
        gone = self.statements.pop(0) if len(self.statements) > MAX_STATEMENTS else None
        for held in list(self.messages.values()):
            if held.under is gone or not held.under.consent.scopes & noted.consent.scopes:
                self.drop(held)

    def take_roster(self, roster: Roster, arrival: int) -> None:
        """Whom the author counts from now on."""
        self.revision, self.roster = roster.revision, roster.digest()
        self.members = {tag: self.members.get(tag, arrival) for tag in roster.tags}

    def take_message(self, message: DataMessage, now: int, arrival: int) -> HeldMessage | None:
        """Keep a message that is new here, if consent covers it for any purpose; ``None`` if it is not kept."""
        under = self._statement_at(message.timestamp)
        if message.timestamp in self.messages or under is None:
            return None
        if not any(self.opens(message.timestamp, scope, now) for scope in ConsentScope):
            return None
        named = MessageId(self.author.service_id, message.timestamp)
        for_others = message.roster is not None and message.roster == self.roster
        held = HeldMessage(named, message.body, now, arrival, under, for_others)
        self.messages[message.timestamp] = held
        self._held += held.size
        return held

    # --- what goes ---

    def drop(self, held: HeldMessage) -> None:
        """Forget one message."""
        del self.messages[held.id.timestamp]
        self._held -= held.size

    def drop_oldest(self) -> None:
        """Forget the message that arrived first; there is one."""
        self.drop(next(iter(self.messages.values())))

    def drop_all(self) -> int:
        """Forget all messages; returns how many there were."""
        dropped = len(self.messages)
        self.messages.clear()
        self._held = 0
        return dropped

    def drop_old(self, now: int) -> None:
        """Forget what has been held for ``MAX_AGE``, and what a statement that has expired once allowed."""
        if _has_expired(self.latest.consent, now):
            self.drop_all()
        while (oldest := self.oldest) is not None and now - oldest.received_at >= _MAX_AGE:
            self.drop(oldest)
        for noted in self.statements:
            if _has_expired(noted.consent, now):
                for held in [held for held in self.messages.values() if held.under is noted]:
                    self.drop(held)


def bytes_of(text: str) -> int:
    """What a text takes in memory: all letters as wide as the widest (PEP 393), and UTF-8 beside them once an engine has read it.

    Not ``sys.getsizeof``, which tells something else before and after that.
    """
    if text.isascii():
        return len(text)
    widest = max(text)
    width = 1 if widest <= "\xff" else 2 if widest <= "\uffff" else 4
    return len(text) * width + len(text.encode())


def _in_force(consent: Consent, now: int) -> bool:
    """One that is dated ahead stands, so that what it takes away is gone, but allows nothing before its time."""
    return consent.in_force(now) and consent.timestamp <= now + _AHEAD


def _has_expired(consent: Consent, now: int) -> bool:
    return consent.expires_at is not None and now >= consent.expires_at
