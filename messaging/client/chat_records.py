"""What a device keeps of its conversations, in its store: members, statements, who was told what, and what was said."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from messaging.client.conversation import Conversation, Statement
from messaging.client.stores import Store
from messaging.wire.consent import SignedConsent, read_consent
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.json import decode_base64, encode_base64

HISTORY = "history"  # a queue of messages, of all conversations
CONVERSATION, INDEX = "conversation", "conversations"  # records
_PAGE = 500


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """Something that was said."""

    id: MessageId
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """What one member has been told by this device; ``revision`` is one more than that of the conversation, 0 for none."""

    profile_key: bool = False
    statement: bytes | None = None
    revision: int = 0


@dataclass(slots=True)
class Chat:
    """One conversation with its history. ``announced_by_us``: its latest revision is ours to tell."""

    conversation: Conversation
    announced_by_us: bool = False
    told: dict[ServiceId, Known] = field(default_factory=dict)
    messages: dict[MessageId, ChatMessage] = field(default_factory=dict, repr=False)
    read: int = 0
    introducing: asyncio.Lock = field(default_factory=asyncio.Lock)  # one at a time tells the assistant about it

    def note_told_all(self, statement: Statement | None) -> None:
        """Another own device has told all members our statement."""
        digest = None if statement is None else statement.signed.digest()
        for member in self.conversation.members:
            known = self.told.get(member, Known())
            self.told[member] = Known(known.profile_key, digest, known.revision)


class ChatRecords:
    """The conversations of one store. What is changed in memory is written by :meth:`save`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.chats: dict[bytes, Chat] = {}

    @classmethod
    async def load(cls, store: Store) -> Self:
        """Read all of them."""
        records = cls(store)
        async with store.transaction() as transaction:
            index = json.loads(transaction.get(INDEX) or b"[]")
            for name in index:
                chat = _read(transaction.get(CONVERSATION, name) or b"")
                records.chats[chat.conversation.key] = chat
            last = 0
            while page := transaction.entries(HISTORY, after=last, limit=_PAGE):
                for last, entry in page:  # noqa: B007  # the last number is where the next page begins
                    key, message = _read_message(entry)
                    if key in records.chats:
                        records.chats[key].messages.setdefault(message.id, message)
        return records

    async def add(self, chat: Chat) -> None:
        """A conversation that was not there."""
        self.chats[chat.conversation.key] = chat
        async with self._store.transaction() as transaction:
            transaction.put(INDEX, record=json.dumps([key.hex() for key in self.chats]).encode())
            transaction.put(CONVERSATION, chat.conversation.key.hex(), record=_write(chat))

    async def save(self, chat: Chat) -> None:
        """Write a conversation, without its history."""
        async with self._store.transaction() as transaction:
            transaction.put(CONVERSATION, chat.conversation.key.hex(), record=_write(chat))

    async def add_message(self, chat: Chat, message: ChatMessage) -> None:
        """Something was said; a second copy changes nothing."""
        if message.id in chat.messages:
            return
        chat.messages[message.id] = message
        async with self._store.transaction() as transaction:
            transaction.append(HISTORY, _write_message(chat.conversation.key, message))


def _write(chat: Chat) -> bytes:
    conversation = chat.conversation
    members: dict[str, Any] = {
        "key": encode_base64(conversation.key),
        "title": conversation.title,
        "members": [str(member) for member in conversation.members],
        "revision": conversation.revision,
        "statements": {
            str(author): [[encode_base64(each.signed.statement), encode_base64(each.signed.signature)] for each in said]
            for author, said in conversation.statements.items()
        },
        "announced_by_us": chat.announced_by_us,
        "told": {
            str(member): [known.profile_key, known.statement and encode_base64(known.statement), known.revision]
            for member, known in chat.told.items()
        },
        "read": chat.read,
    }
    return json.dumps(members).encode()


def _read(record: bytes) -> Chat:
    members = json.loads(record)
    conversation = Conversation(
        key=decode_base64(members["key"]),
        title=members["title"],
        members=tuple(ServiceId.parse(member) for member in members["members"]),
        revision=members["revision"],
        statements=_statements(members["statements"]),
    )
    told = {
        ServiceId.parse(member): Known(profile_key, statement and decode_base64(statement), revision)
        for member, (profile_key, statement, revision) in members["told"].items()
    }
    return Chat(conversation, members["announced_by_us"], told, read=members["read"])


def _statements(members: Mapping[str, list[list[str]]]) -> Mapping[ServiceId, tuple[Statement, ...]]:
    """They were verified before they were written, and a store notices when a record was altered."""
    found = {}
    for author, said in members.items():
        signed = [SignedConsent(decode_base64(statement), decode_base64(signature)) for statement, signature in said]
        found[ServiceId.parse(author)] = tuple(Statement(read_consent(each), each) for each in signed)
    return MappingProxyType(found)


def _write_message(key: bytes, message: ChatMessage) -> bytes:
    return json.dumps([encode_base64(key), str(message.id.author), message.id.timestamp, message.text]).encode()


def _read_message(entry: bytes) -> tuple[bytes, ChatMessage]:
    key, author, timestamp, text = json.loads(entry)
    return decode_base64(key), ChatMessage(MessageId(ServiceId.parse(author), timestamp), text)
