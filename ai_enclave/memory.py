"""What the enclave remembers: consented messages, in memory only, bounded by count, bytes and age.

Consent is checked on the way in and on the way out: a message of an author who has not opted in is not stored, and one
whose author has opted out since is gone. Nothing here reads a clock, a disk or a network; there is no way to list more
than a requester names.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ai_enclave.limits import MAX_AGE, MAX_BYTES, MAX_CONVERSATIONS, MAX_MESSAGES
from messaging.wire.content import ConsentUpdate, DataMessage, MessageId
from messaging.wire.identifiers import ServiceId


@dataclass(frozen=True, slots=True)
class HeldMessage:
    """One message of an author who has opted in."""

    id: MessageId
    text: str = field(repr=False)
    received_at: datetime

    @property
    def size(self) -> int:
        """Bytes of UTF-8."""
        return len(self.text.encode())


@dataclass(slots=True)
class _Conversation:
    consents: dict[ServiceId, ConsentUpdate] = field(default_factory=dict)
    messages: OrderedDict[MessageId, HeldMessage] = field(default_factory=OrderedDict, repr=False)


class Memory:
    """The conversations of one enclave since its start."""

    def __init__(self) -> None:
        self._conversations: OrderedDict[bytes, _Conversation] = OrderedDict()
        self._bytes = 0

    @property
    def bytes_held(self) -> int:
        """Bytes of UTF-8 of all texts held."""
        return self._bytes

    def note_consent(self, author: ServiceId, consent: ConsentUpdate) -> None:
        """Remember what ``author`` decided; opting out drops their messages of this conversation at once."""
        conversation = self._touch(consent.conversation)
        known = conversation.consents.get(author)
        if known is not None and known.timestamp >= consent.timestamp:
            return
        conversation.consents[author] = consent
        if not consent.opted_in:
            for message in [held for held in conversation.messages if held.author == author]:
                self._drop(conversation, message)

    def store(self, author: ServiceId, message: DataMessage, now: datetime) -> bool:
        """Keep a message; says whether it was kept.

        It is not if it belongs to no conversation, or if its author had not opted in there when writing it.
        """
        if message.conversation is None or not self.has_opted_in(author, message.conversation):
            return False
        conversation = self._touch(message.conversation)
        if message.timestamp < conversation.consents[author].timestamp:
            return False
        held = HeldMessage(MessageId(author, message.timestamp), message.body, now)
        if held.size > MAX_BYTES or held.id in conversation.messages:
            return held.id in conversation.messages
        conversation.messages[held.id] = held
        self._bytes += held.size
        self._shrink(conversation)
        return True

    def has_opted_in(self, author: ServiceId, conversation: bytes) -> bool:
        """Whether ``author`` has opted in here; knowing a conversation's key and opting in makes a member."""
        known = self._conversations.get(conversation)
        consent = None if known is None else known.consents.get(author)
        return consent is not None and consent.opted_in

    def recall(self, conversation: bytes, wanted: Sequence[MessageId], now: datetime) -> list[HeldMessage]:
        """Those of the ``wanted`` messages that are held, each once, in the order of their timestamps."""
        self.forget_old(now)
        known = self._conversations.get(conversation)
        if known is None:
            return []
        found = {message: known.messages[message] for message in wanted if message in known.messages}
        return sorted(found.values(), key=lambda held: (held.id.timestamp, held.id.author))

    def forget_old(self, now: datetime) -> None:
        """Drop every message that has been held for ``MAX_AGE``."""
        for conversation in self._conversations.values():
            for held in list(conversation.messages.values()):
                if now - held.received_at < MAX_AGE:
                    break  # they are in the order of arrival
                self._drop(conversation, held.id)

    def _touch(self, key: bytes) -> _Conversation:
        conversation = self._conversations.setdefault(key, _Conversation())
        self._conversations.move_to_end(key)
        if len(self._conversations) > MAX_CONVERSATIONS:
            self._forget_conversation()
        return conversation

    def _shrink(self, conversation: _Conversation) -> None:
        if len(conversation.messages) > MAX_MESSAGES:
            self._drop(conversation, next(iter(conversation.messages)))
        while self._bytes > MAX_BYTES and len(self._conversations) > 1:
            self._forget_conversation()
        while self._bytes > MAX_BYTES:
            self._drop(conversation, next(iter(conversation.messages)))

    def _forget_conversation(self) -> None:
        """The one that was silent longest, with its consents: its members have to opt in again."""
        _, conversation = self._conversations.popitem(last=False)
        self._bytes -= sum(held.size for held in conversation.messages.values())

    def _drop(self, conversation: _Conversation, message: MessageId) -> None:
        self._bytes -= conversation.messages.pop(message).size
