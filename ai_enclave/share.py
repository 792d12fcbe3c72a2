"""What one author shares in one conversation: statements, a roster, messages; and who may use a message for what.

A message is written under the latest statement whose timestamp is not after its own. It may be used for a purpose while that
statement and the author's latest one both allow it: by the author, and by those whom the roster that it was written under names, if
that one stood when it arrived, and every one since. So narrowing holds at once, widening from then on, and who is removed and comes back
starts anew; a message that overtakes its roster, or comes after the next one, is its author's alone.

An edit puts another text in the place of a message that is held. The text is judged by its own time and roster; the statement that the
message was written under has to allow its use besides, and who came after the message does not get the text either. What was deleted is
not taken again.

Of a message only its text is kept: keys of files, quotes and mentions are let go of as it arrives. Times are milliseconds since 1970;
what comes first is told by a number that grows with each arrival. No clock, and no bounds but those on statements, deletions and age:
the rest is for ``ai_enclave.memory``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from ai_enclave.limits import (
    DELETION_BYTES,
    MAX_AGE,
    MAX_CONSENT_AHEAD,
    MAX_DELETIONS,
    MAX_STATEMENTS,
    MESSAGE_BYTES,
    STATEMENT_BYTES,
    TAG_BYTES,
)
from messaging.wire.consent import Consent, ConsentScope, member_tag
from messaging.wire.content import DataMessage, Edit, Roster
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
    """One message with the text that stands, and its place among all that arrived.

    ``under`` names the statement that it was written under, and then that of the edit that stands, which is dated ``edited_at``; 0
    without one. It is held until ``ends_at``, or earlier if its text may not be held for so long: until ``text_ends_at``.
    ``for_others``: its author's roster that stood when the text came is the one that the text was written under.
    """

    id: MessageId = field(repr=False)
    text: str = field(repr=False)
    arrival: int
    under: tuple[NotedConsent, ...] = field(repr=False)
    ends_at: int
    text_ends_at: int
    for_others: bool = False
    edited_at: int = 0
    vectors: dict[str, bytes] = field(
        default_factory=dict, compare=False, repr=False
    )  # of its parts; they go when it goes

    @property
    def size(self) -> int:
        """What it is counted as, in bytes."""
        return MESSAGE_BYTES + bytes_of(self.text)

    @property
    def text_under(self) -> NotedConsent:
        """The statement that the text was written under."""
        return self.under[-1]


@dataclass(slots=True)
class Share:
    """``statements`` are the author's, oldest first, never none; ``messages`` are by timestamp, in the order of their arrival.

    ``roster`` is the digest of the roster that stands; ``members`` says of each tag since which arrival the author has counted its
    member without a break. ``deleted`` has timestamps of messages that are not taken any more, beside all up to ``deleted_to``.
    """

    author: Member
    statements: list[NotedConsent]
    revision: int = -1
    roster: bytes | None = field(default=None, repr=False)
    members: dict[bytes, int] = field(default_factory=dict, repr=False)
    messages: dict[int, HeldMessage] = field(default_factory=dict, repr=False)
    deleted: set[int] = field(default_factory=set, repr=False)
    deleted_to: int = field(default=-1, repr=False)
    _held: int = 0

    @property
    def size(self) -> int:
        """What all of it is counted as, in bytes."""
        said = len(self.statements) * STATEMENT_BYTES + len(self.members) * TAG_BYTES
        return self._held + said + len(self.deleted) * DELETION_BYTES

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
        return under is not None and self._covers(timestamp, (under,), scope, now)

    def opens_held(self, held: HeldMessage, scope: ConsentScope, now: int) -> bool:
        """Whether consent to what is held of a message, which may be an edit of it, is in force for ``scope``."""
        return self._allows(held.under, scope, now)

    def is_for(self, held: HeldMessage, tag: bytes) -> bool:
        """Whether the author counted this member when the message was written, and has since, also when its text was edited."""
        return held.for_others and self.members.get(tag, held.arrival) < held.arrival

    def _statement_at(self, timestamp: int) -> NotedConsent | None:
        under = (noted for noted in reversed(self.statements) if noted.consent.timestamp <= timestamp)
        return next(under, None)

    def _allows(self, under: Iterable[NotedConsent], scope: ConsentScope, now: int) -> bool:
        consents = (noted.consent for noted in (*under, self.latest))
        return all(scope in consent.scopes and _in_force(consent, now) for consent in consents)

    def _covers(self, timestamp: int, under: tuple[NotedConsent, ...], scope: ConsentScope, now: int) -> bool:
        """Whether a text of this ``timestamp``, the last of ``under`` being its statement, may be used for ``scope``."""
        return under[-1].consent.covers(timestamp, scope) and self._allows(under, scope, now)

    # --- what arrives ---

    def take_statement(self, noted: NotedConsent) -> None:
        """``noted`` stands from now on; what no longer can be used is dropped. Its timestamp is after the latest one's."""
        if not noted.consent.opted_in:
            self.drop_all()
            self.revision, self.roster, self.members, self.statements = -1, None, {}, [noted]
        else:
            self.statements.append(noted)
            gone = self.statements.pop(0) if len(self.statements) > MAX_STATEMENTS else None
            for held in list(self.messages.values()):
                if gone in held.under or not _purposes((*held.under, noted)):
                    self.drop(held)
        self.deleted = set(filter(self._may_come, self.deleted))

    def take_roster(self, roster: Roster, arrival: int) -> None:
        """Whom the author counts from now on."""
        self.revision, self.roster = roster.revision, roster.digest()
        self.members = {tag: self.members.get(tag, arrival) for tag in roster.tags}

    def take_message(self, message: DataMessage, now: int, arrival: int) -> HeldMessage | None:
        """Keep a message that is new here, if consent covers it for any purpose; ``None`` if it is not kept."""
        at = message.timestamp
        under = self._kept_under(at, now)
        if at in self.messages or self._was_deleted(at) or under is None:
            return None
        named, ends_at = MessageId(self.author.service_id, at), _end_of(message, now, under[-1])
        held = HeldMessage(named, message.body, arrival, under, ends_at, ends_at, self._is_of_now(message))
        self.messages[at] = held
        self._held += held.size
        return held

    def take_edit(self, edit: Edit, now: int) -> None:
        """Another text for a message that is held, unless one stands that is as new; an edit of any other message is nothing.

        One that consent leaves no purpose ends the message: its old text does not stand any more, and the new one is not kept.
        """
        held, message = self.messages.get(edit.target), edit.message
        if held is None or edit.timestamp <= max(held.edited_at, edit.target):
            return
        under = self._kept_under(edit.timestamp, now, held.under[0])
        if under is None:
            self.drop(held)
            return
        edited = replace(
            held,
            text=message.body,
            under=under,
            text_ends_at=min(held.ends_at, _end_of(message, now, under[-1])),
            for_others=self._is_of_now(message),
            edited_at=edit.timestamp,
            vectors={},
        )
        self.messages[edit.target] = edited  # in its place among all that arrived
        self._held += edited.size - held.size

    def _kept_under(self, timestamp: int, now: int, *before: NotedConsent) -> tuple[NotedConsent, ...] | None:
        """The statements ``before``, and the one that a text of this time is under; ``None`` if they leave it no purpose now."""
        noted = self._statement_at(timestamp)
        if noted is None:
            return None
        under = (*before, noted)
        return under if any(self._covers(timestamp, under, scope, now) for scope in ConsentScope) else None

    def _is_of_now(self, message: DataMessage) -> bool:
        """Whether it was written under the roster that stands."""
        return message.roster is not None and message.roster == self.roster

    def take_deletion(self, target: int) -> None:
        """Forget a message for good, whether it has come or not.

        Beyond ``MAX_DELETIONS`` the oldest give way, and all messages up to them are taken for deleted, unless they are held.
        """
        if (held := self.messages.get(target)) is not None:
            self.drop(held)
        if self._may_come(target) and not self._was_deleted(target):
            self.deleted.add(target)
        if len(self.deleted) > MAX_DELETIONS:
            self.deleted_to = min(self.deleted)
            self.deleted.remove(self.deleted_to)

    def _was_deleted(self, timestamp: int) -> bool:
        return timestamp <= self.deleted_to or timestamp in self.deleted

    def _may_come(self, timestamp: int) -> bool:
        """Whether a message of this time might ever be taken: none that is from before the first statement is."""
        return timestamp >= self.statements[0].consent.timestamp

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
        """Forget what has been held for as long as it may be, and what a statement that has expired once allowed."""
        if _has_expired(self.latest.consent, now):
            self.drop_all()
        for held in [held for held in self.messages.values() if now >= held.text_ends_at]:
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


def _purposes(under: Iterable[NotedConsent]) -> frozenset[ConsentScope]:
    """What all of these statements allow."""
    return frozenset.intersection(*(noted.consent.scopes for noted in under))


def _end_of(message: DataMessage, received_at: int, under: NotedConsent) -> int:
    """Until when a text may be held: for ``MAX_AGE``, or for as long as its readers keep it if that is less, and under consent."""
    longest = min(_MAX_AGE, 1000 * message.expires_in) if message.expires_in else _MAX_AGE
    expires_at = under.consent.expires_at
    return received_at + longest if expires_at is None else min(received_at + longest, expires_at)
