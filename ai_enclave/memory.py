"""What the enclave remembers: consented messages, in memory only, bounded by count, bytes and age.

Consent is checked on the way in and on the way out. A message is kept only if its author's statement covered it when it was
written, and used only while that statement and the author's latest one both allow the purpose, for a requester whom the author
counted among the members then and counts among them now. Nothing here reads a clock, a disk or a network; there is no way to
list more than a requester names. Times are milliseconds since 1970.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from ai_enclave.limits import (
    MAX_AGE,
    MAX_BYTES,
    MAX_BYTES_OF_AUTHOR,
    MAX_CONVERSATIONS,
    MAX_CONVERSATIONS_OF_AUTHOR,
    MAX_MESSAGES,
)
from messaging.wire.assistant import ConsentReference, RefusalCode
from messaging.wire.consent import Consent, ConsentScope, member_tag
from messaging.wire.content import DataMessage, Roster
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import MAX_CONVERSATION_MEMBERS

_MAX_AGE = int(MAX_AGE.total_seconds() * 1000)


class Denied(Exception):
    """Nothing of this conversation is for this requester; ``code`` says why."""

    def __init__(self, code: RefusalCode) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class NotedConsent:
    """A statement whose signature was verified, and its digest."""

    consent: Consent
    digest: bytes


@dataclass(frozen=True, slots=True)
class HeldMessage:
    """One message, with the statement and the roster of its author when it arrived."""

    id: MessageId
    text: str = field(repr=False)
    received_at: int
    under: NotedConsent = field(repr=False)
    members: frozenset[bytes] = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of UTF-8."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class Recalled:
    """Messages that may be used, how many others were asked for, by reason, and whose consent the use rests on."""

    messages: tuple[HeldMessage, ...] = field(repr=False)
    not_opted_in: int
    not_held: int
    consents: tuple[ConsentReference, ...]


@dataclass(slots=True)
class _Author:
    """What an author has said: the latest statement and the latest roster."""

    noted: NotedConsent
    revision: int = -1
    members: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class _Conversation:
    authors: dict[ServiceId, _Author] = field(default_factory=dict)
    messages: OrderedDict[MessageId, HeldMessage] = field(default_factory=OrderedDict, repr=False)


class Memory:
    """The conversations of one enclave since its start."""

    def __init__(self) -> None:
        self._conversations: OrderedDict[bytes, _Conversation] = OrderedDict()
        self._bytes: Counter[ServiceId] = Counter()
        self._entered: dict[ServiceId, OrderedDict[bytes, None]] = {}  # the conversations of an author, latest last

    @property
    def bytes_held(self) -> int:
        """Bytes of UTF-8 of all texts held."""
        return self._bytes.total()

    @property
    def messages_held(self) -> int:
        """How many messages are held."""
        return sum(len(conversation.messages) for conversation in self._conversations.values())

    # --- what authors say ---

    def note_consent(self, author: ServiceId, key: bytes, noted: NotedConsent) -> bool:
        """Remember what ``author`` decided, and drop what it no longer covers; says whether it is news.

        The signature was verified before, and that the statement is by this author about this conversation.
        """
        if key not in self._conversations and not noted.consent.opted_in:
            return False
        conversation = self._touch(key)
        known = conversation.authors.get(author)
        if known is not None and known.noted.consent.timestamp >= noted.consent.timestamp:
            return False
        if known is not None:
            known.noted = noted
        elif len(conversation.authors) < MAX_CONVERSATION_MEMBERS:
            conversation.authors[author] = _Author(noted)
            self._enter(author, key)
        if not noted.consent.opted_in:
            self._drop_all(conversation, author)
        return True

    def note_roster(self, author: ServiceId, roster: Roster) -> None:
        """Remember whom an author who has opted in counts among the members."""
        known = self._author(roster.conversation, author)
        if known is not None and roster.revision > known.revision:
            known.revision, known.members = roster.revision, roster.tags

    def store(self, author: ServiceId, message: DataMessage, now: int) -> bool:
        """Keep a message; says whether it is kept.

        It is not if it belongs to no conversation, or if its author's statement does not cover it for any purpose.
        """
        known = None if message.conversation is None else self._author(message.conversation, author)
        if known is None or message.conversation is None or not known.noted.consent.in_force(now):
            return False
        if not any(known.noted.consent.covers(message.timestamp, scope) for scope in ConsentScope):
            return False
        conversation = self._touch(message.conversation)
        held = HeldMessage(MessageId(author, message.timestamp), message.body, now, known.noted, known.members)
        if held.id in conversation.messages or held.size > MAX_BYTES_OF_AUTHOR:
            return held.id in conversation.messages
        conversation.messages[held.id] = held
        self._bytes[author] += held.size
        self._shrink(conversation, author)
        return held.id in conversation.messages

    # --- what requesters get ---

    def check_requester(self, requester: ServiceId, key: bytes, scope: ConsentScope | None, now: int) -> None:
        """Check that ``requester`` has opted in here (for ``scope``, if one is needed) and is a member.

        A member is whom another author who has opted in counts as one; who is alone here asks about their own messages.

        Raises:
            Denied: they have not, or are not.
        """
        own = self._author(key, requester)
        if own is None or not own.noted.consent.in_force(now):
            raise Denied(RefusalCode.NOT_OPTED_IN)
        if scope is not None and scope not in own.noted.consent.scopes:
            raise Denied(RefusalCode.OUT_OF_SCOPE)
        tag = member_tag(key, requester)
        others = [
            known
            for author, known in self._conversations[key].authors.items()
            if author != requester and known.revision >= 0 and known.noted.consent.in_force(now)
        ]
        if others and not any(tag in known.members for known in others):
            raise Denied(RefusalCode.NOT_A_MEMBER)

    def recall(
        self, requester: ServiceId, key: bytes, wanted: Sequence[MessageId], scope: ConsentScope, now: int
    ) -> Recalled:
        """Those of the ``wanted`` messages that may be used for ``scope``, each once, in the order of their timestamps."""
        conversation = self._conversations.get(key, _Conversation())
        self._forget_old_of(conversation, now)
        tag = member_tag(key, requester)
        asked = dict.fromkeys(wanted)
        held = [conversation.messages[message] for message in asked if message in conversation.messages]
        usable = [message for message in held if self._may_use(conversation, message, requester, tag, scope, now)]
        missing = [message for message in asked if message not in conversation.messages]
        not_covered = sum(not _is_covered(conversation, message, scope, now) for message in missing)
        return Recalled(
            tuple(sorted(usable, key=lambda message: (message.id.timestamp, message.id.author))),
            not_opted_in=len(held) - len(usable) + not_covered,
            not_held=len(missing) - not_covered,
            consents=tuple(sorted({ConsentReference(each.id.author, each.under.digest) for each in usable})),
        )

    def own_consent(self, author: ServiceId, key: bytes) -> ConsentReference | None:
        """What names the latest statement of ``author``."""
        known = self._author(key, author)
        return None if known is None else ConsentReference(author, known.noted.digest)

    def opted_in(self, key: bytes, now: int) -> frozenset[ServiceId]:
        """The authors who have opted in to a conversation."""
        authors = self._conversations.get(key, _Conversation()).authors
        return frozenset(author for author, known in authors.items() if known.noted.consent.in_force(now))

    def count_own(self, author: ServiceId, key: bytes, now: int) -> int:
        """How many messages of ``author`` are held of a conversation."""
        conversation = self._conversations.get(key, _Conversation())
        self._forget_old_of(conversation, now)
        return sum(held.author == author for held in conversation.messages)

    # --- forgetting ---

    def forget(self, author: ServiceId, key: bytes | None) -> int:
        """Drop the messages of ``author`` in one conversation, or in all; returns how many there were."""
        keys = list(self._entered.get(author, ())) if key is None else [key]
        return sum(self._drop_all(self._conversations[each], author) for each in keys if each in self._conversations)

    def forget_whole(self, key: bytes) -> int:
        """Drop all messages of a conversation, of every author; returns how many there were. Consent stays."""
        conversation = self._conversations.get(key, _Conversation())
        return sum(self._drop_all(conversation, author) for author in list(conversation.authors))

    def forget_author(self, author: ServiceId) -> None:
        """Drop everything of an account, its statements too: somebody else has its number now."""
        for key in list(self._entered.get(author, ())):
            self._leave(author, key)

    def forget_old(self, now: int) -> None:
        """Drop every message that has been held for ``MAX_AGE``, or whose author's consent has expired."""
        for conversation in self._conversations.values():
            self._forget_old_of(conversation, now)

    # --- inside ---

    def _forget_old_of(self, conversation: _Conversation, now: int) -> None:
        for held in list(conversation.messages.values()):
            if now - held.received_at >= _MAX_AGE or not held.under.consent.in_force(now):
                self._drop(conversation, held.id)

    def _author(self, key: bytes, author: ServiceId) -> _Author | None:
        conversation = self._conversations.get(key)
        return None if conversation is None else conversation.authors.get(author)

    def _may_use(
        self,
        conversation: _Conversation,
        held: HeldMessage,
        requester: ServiceId,
        tag: bytes,
        scope: ConsentScope,
        now: int,
    ) -> bool:
        latest = conversation.authors[held.id.author]
        counted = held.id.author == requester or (tag in held.members and tag in latest.members)
        allowed = scope in held.under.consent.scopes and scope in latest.noted.consent.scopes
        return counted and allowed and held.under.consent.in_force(now) and latest.noted.consent.in_force(now)

    def _touch(self, key: bytes) -> _Conversation:
        conversation = self._conversations.setdefault(key, _Conversation())
        self._conversations.move_to_end(key)
        if len(self._conversations) > MAX_CONVERSATIONS:
            self._forget_conversation()
        return conversation

    def _enter(self, author: ServiceId, key: bytes) -> None:
        """Nobody can push others out by opening many conversations: beyond a number their own oldest goes."""
        entered = self._entered.setdefault(author, OrderedDict())
        entered[key] = None
        if len(entered) > MAX_CONVERSATIONS_OF_AUTHOR:
            self._leave(author, next(iter(entered)))

    def _leave(self, author: ServiceId, key: bytes) -> None:
        conversation = self._conversations[key]
        self._drop_all(conversation, author)
        del conversation.authors[author]
        if not conversation.authors:
            del self._conversations[key]
        self._forget_entry(author, key)

    def _forget_entry(self, author: ServiceId, key: bytes) -> None:
        entered = self._entered[author]
        del entered[key]
        if not entered:
            del self._entered[author]

    def _shrink(self, conversation: _Conversation, author: ServiceId) -> None:
        if len(conversation.messages) > MAX_MESSAGES:
            self._drop(conversation, next(iter(conversation.messages)))
        while self._bytes[author] > MAX_BYTES_OF_AUTHOR:
            self._drop_oldest_of(author)
        while self.bytes_held > MAX_BYTES and len(self._conversations) > 1:
            self._forget_conversation()

    def _drop_oldest_of(self, author: ServiceId) -> None:
        for key in self._entered[author]:
            conversation = self._conversations[key]
            oldest = next((message for message in conversation.messages if message.author == author), None)
            if oldest is not None:
                self._drop(conversation, oldest)
                return

    def _forget_conversation(self) -> None:
        """The one that was silent longest, with its consents: its members have to opt in again."""
        key, conversation = next(iter(self._conversations.items()))
        for author in list(conversation.authors):
            self._drop_all(conversation, author)
            self._forget_entry(author, key)
        del self._conversations[key]

    def _drop_all(self, conversation: _Conversation, author: ServiceId) -> int:
        theirs = [message for message in conversation.messages if message.author == author]
        for message in theirs:
            self._drop(conversation, message)
        return len(theirs)

    def _drop(self, conversation: _Conversation, message: MessageId) -> None:
        self._bytes[message.author] -= conversation.messages.pop(message).size
        if not self._bytes[message.author]:
            del self._bytes[message.author]


def _is_covered(conversation: _Conversation, message: MessageId, scope: ConsentScope, now: int) -> bool:
    """Whether a message that is not held could have been: as far as known, its author's consent covers it."""
    known = conversation.authors.get(message.author)
    if known is None:
        return True
    return known.noted.consent.in_force(now) and known.noted.consent.covers(message.timestamp, scope)
