"""What a device keeps of its conversations, in its store: members, statements, who was told what, and what was said.

Everything that has to be done after a crash is in a record before it is begun: who has yet to be told, which own messages have yet
to be sent, and which of them the assistant has yet to get. Doing it is for ``client.telling``, ``client.sharing`` and ``client.chats``.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any, Self

from messaging.client.conversation import Conversation, Precedence, Statement
from messaging.client.errors import CorruptStore
from messaging.client.events import Event, Journal
from messaging.client.history import ChatMessage, message_of, read_message, target_of, write_message
from messaging.client.stores import Store, StoreTransaction
from messaging.wire.consent import SignedConsent, read_consent
from messaging.wire.content import ListedBot, Roster, Said, decode_content, encode_content
from messaging.wire.data import DataMessage, Deletion, Edit, Reaction
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.json import decode_base64, encode_base64
from messaging.wire.limits import MASTER_KEY

MAX_IN_MEMORY = 10_000  # messages of one conversation, the latest ones; the store keeps all but those that expire
MAX_UNSHARED = 500  # own messages of one conversation that wait for the assistant: it keeps no more
MAX_UNANSWERED = 500  # conversations that others have begun and that this account never took part in
SHARES = 5  # of that, one person may have one
ONCE_LIFETIME = (
    31 * 24 * 3600 * 1000
)  # milliseconds for which such a name is known: longer than a relay keeps a message
MAX_INTRODUCED = 64  # assistants that may hold something of one conversation, the latest ones

_HISTORY = "history"  # a queue of messages, of all conversations, each in a family of its own name
_UNSENT = "unsent"  # a queue of what we said and has yet to be handed over
_ONCE = "said once"  # a queue of names under which something was said, in families of one name
_CONVERSATION, _ALL = "conversation", ("all",)
_LINKING = "linking"  # there while a device is being linked, which has to be told everything
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Known:
    """What one member has been told by this device; ``revision`` is one more than that of the conversation, 0 for none.

    ``profile`` is the timestamp of our profile that they know.
    Who has ``lost`` everything, as one with new keys has, is told of the conversation whoever changed it last.
    """

    profile_key: bool = False
    statement: bytes | None = None
    revision: int = 0
    lost: bool = False
    profile: int = 0


@dataclass(frozen=True, slots=True)
class Introduced:
    """What an assistant was told about a conversation, and under which key: the digests of our statement and our roster.

    Without a consent there is no ``roster``.
    """

    identity_key: bytes = field(repr=False)
    statement: bytes | None
    roster: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class View:
    """Our roster, of these members, as of so many changes of identity keys in the store; and its digest."""

    members: tuple[ServiceId, ...]
    roster: Roster
    digest: bytes = field(repr=False)
    identity_changes: int


@dataclass(slots=True)
class Chat:
    """One conversation with its history.

    ``announced_by_us``: its latest revision is ours to tell. ``told`` says what each member knows from us; under the own account,
    what own other devices know, who know everything or have no entry. ``introduced`` are assistants that may hold something of
    ours. ``unshared`` are timestamps of own messages that the assistant has yet to get. ``read`` messages were read, counted from
    the first one ever; ``dropped`` of them are not in memory any more.
    """

    conversation: Conversation
    announced_by_us: bool = False
    told: dict[ServiceId, Known] = field(default_factory=dict)
    introduced: dict[ServiceId, Introduced] = field(default_factory=dict)
    unshared: deque[int] = field(default_factory=lambda: deque(maxlen=MAX_UNSHARED))
    messages: dict[MessageId, ChatMessage] = field(default_factory=dict, repr=False)
    places: dict[MessageId, int] = field(default_factory=dict, repr=False)  # of these messages in the store
    expiring: set[MessageId] = field(default_factory=set, repr=False)  # of these messages, those whose time has begun
    read: int = 0
    dropped: int = 0
    view: View | None = field(default=None, repr=False)  # not stored: see ``ChatRecords.roster``
    telling: asyncio.Lock = field(default_factory=asyncio.Lock)
    introducing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def unread(self) -> tuple[ChatMessage, ...]:
        """What was said since it was read."""
        return tuple(self.messages.values())[max(0, self.read - self.dropped) :]

    def takes_part(self, me: ServiceId) -> bool:
        """Whether we have done something here: begun or changed it, written, or said something about the assistant."""
        wrote = any(message.author == me for message in self.messages)
        return self.announced_by_us or me in self.conversation.statements or wrote

    def digest_of(self, author: ServiceId) -> bytes | None:
        """What names the statement of ``author`` that stands."""
        statement = self.conversation.statement_of(author)
        return None if statement is None else statement.signed.digest()

    @property
    def roster(self) -> bytes | None:
        """The digest of our roster as it was seen last; ``None`` if the members are others since."""
        view, conversation = self.view, self.conversation
        if view is None or (view.roster.revision, view.members) != (conversation.revision, conversation.members):
            return None
        return view.digest

    def note_change(self, conversation: Conversation, me: ServiceId) -> None:
        """Another member changed it, and tells everybody; who is out need not be told anything by us."""
        self.conversation, self.announced_by_us = conversation, False
        self.told = {each: known for each, known in self.told.items() if each in (me, *conversation.members)}

    def note_statement(self, author: ServiceId, statement: Statement, me: ServiceId) -> None:
        """What an author decided, perhaps we ourselves: then nothing waits for the assistant any more that it may not have.

        Raises:
            ValueError: see ``Conversation.with_statement``.
        """
        self.conversation = self.conversation.with_statement(author, statement)
        own = self.conversation.statement_of(me)
        if own is not None and not own.consent.opted_in:
            self.unshared.clear()

    def note_told_by_another_device(self, me: ServiceId) -> None:
        """Another own device has told everybody what our account says here, or will."""
        digest, revision = self.digest_of(me), self.conversation.revision + 1
        for member in (*self.conversation.members, me):
            known = self.told.get(member, Known())
            self.told[member] = replace(
                known, profile_key=True, statement=digest, revision=max(known.revision, revision)
            )

    def note_introduced(self, assistant: ServiceId, known: Introduced) -> None:
        """An assistant was told; of too many the one that was told longest ago is forgotten."""
        self.introduced.pop(assistant, None)
        self.introduced[assistant] = known
        while len(self.introduced) > MAX_INTRODUCED:
            del self.introduced[next(iter(self.introduced))]

    def _add(self, message: ChatMessage, place: int) -> None:
        """Take a message into memory, if it is news."""
        if message.id not in self.messages:
            self.places[message.id] = place
            self._put(message)

    def _put(self, message: ChatMessage) -> None:
        self.messages[message.id] = message
        (self.expiring.discard if message.expires_at is None else self.expiring.add)(message.id)

    def _surplus(self, more: int = 0) -> list[MessageId]:
        """The oldest messages, which there is no room for in memory with so many ``more``."""
        return list(islice(self.messages, max(0, len(self.messages) + more - MAX_IN_MEMORY)))

    def _drop(self, messages: Iterable[MessageId]) -> None:
        """Take the oldest out of memory; they stay in the store."""
        for message in messages:
            del self.messages[message], self.places[message]
            self.dropped += 1

    def _read_without(self, messages: Collection[MessageId]) -> int:
        """What ``read`` is without these: what was read stays read."""
        read = islice(self.messages, max(0, self.read - self.dropped))
        return self.read - sum(message in messages for message in read)

    def _remove(self, messages: Collection[MessageId]) -> None:
        """Forget messages."""
        self.read = self._read_without(messages)
        for message in messages:
            del self.messages[message], self.places[message]
            self.expiring.discard(message)


@dataclass(frozen=True, slots=True)
class Unsent:
    """What we said, written down, that has yet to be handed over; ``number`` is its place in the store."""

    number: int
    conversation: bytes = field(repr=False)
    said: Said


class ChatRecords:
    """The conversations of one store. What is changed in memory is written by :meth:`save`.

    ``journal`` stores an event, if there is one, in the transaction that stores what it tells of.
    """

    def __init__(self, store: Store, journal: Journal | None = None) -> None:
        self._store = store
        self._journal = journal
        self.most_unanswered: int | None = None  # or ``MAX_UNANSWERED``
        self.chats: dict[bytes, Chat] = {}
        self._unsaved: dict[bytes, Chat] = {}  # what is only in memory, because the store could not be written
        self._untold: list[Event] = []  # what happened to these
        self.unsent: list[Unsent] = []  # from before this process began, or because it could not be handed over

    @classmethod
    async def load(cls, store: Store, me: ServiceId, journal: Journal | None = None) -> Self:
        """Read all of them; ``me`` is the own account."""
        records = cls(store, journal)
        async with store.transaction() as transaction:
            for record in transaction.family(_CONVERSATION, *_ALL):
                chat = _read(record)
                records.chats[chat.conversation.key] = chat
            for place, entry in _all(transaction, _HISTORY):
                key, message = read_message(entry)
                if (known := records.chats.get(key)) is not None:
                    known._add(message, place)
                    _let_go(transaction, known)
            records.unsent = [_read_unsent(number, entry) for number, entry in _all(transaction, _UNSENT)]
            linking = transaction.get(_LINKING) is not None
        if linking:  # and it is not known whether a device came of it
            await records.note_linked(me)
        return records

    def is_member(self, service_id: ServiceId) -> bool:
        """Whether this is a member of any conversation."""
        return any(service_id in chat.conversation.members for chat in self.chats.values())

    def latest_timestamp(self, author: ServiceId, until: int) -> int:
        """Of all messages of ``author`` that are in memory, up to ``until``; 0 for none."""
        named = (message for chat in self.chats.values() for message in chat.messages)
        own = (message.timestamp for message in named if message.author == author)
        return max((timestamp for timestamp in own if timestamp <= until), default=0)

    def has_room(self, me: ServiceId, sender: ServiceId) -> bool:
        """Whether ``sender`` may begin one more conversation that we have not asked for.

        Of those that we never took part in there is an end, and of those with one person before that: nobody takes all the room.
        """
        most = MAX_UNANSWERED if self.most_unanswered is None else self.most_unanswered

        def is_full(chats: Collection[Chat], most: int) -> bool:
            return len(chats) >= most and sum(not chat.takes_part(me) for chat in chats) >= most

        return not (is_full(self.chats_with(sender), max(1, most // SHARES)) or is_full(self.chats.values(), most))

    def chats_with(self, member: ServiceId) -> list[Chat]:
        """The conversations that somebody is a member of."""
        return [chat for chat in self.chats.values() if member in chat.conversation.members]

    async def save(self, *chats: Chat, event: Event | None = None) -> None:
        """Write conversations, without their history, and what happened to them.

        Raises:
            StoreFailed: they are in memory, and written by the next call of this or of :meth:`flush`.
        """
        named = {chat.conversation.key: chat for chat in chats}
        self.chats |= named
        self._unsaved |= named
        self._untold += [] if event is None else [event]
        await self.flush()

    async def flush(self) -> None:
        """Write what could not be written before. What came from others is acknowledged only after this.

        Raises:
            StoreFailed: it still cannot be.
        """
        if not (self._unsaved or self._untold):
            return
        writing: dict[bytes, Chat] = {}
        telling: list[Event] = []
        try:
            async with self._store.transaction() as transaction:
                writing, self._unsaved = self._unsaved, {}
                telling, self._untold = self._untold, []
                for chat in writing.values():
                    _put(transaction, chat)
                for event in telling:
                    self._note(transaction, event)
        except BaseException:
            self._unsaved = {**writing, **self._unsaved}
            self._untold = telling + self._untold
            raise

    def _note(self, transaction: StoreTransaction, event: Event | None) -> None:
        if event is not None and self._journal is not None:
            self._journal(transaction, event)

    # --- messages ---

    async def find(self, chat: Chat, message: MessageId) -> ChatMessage | None:
        """A message that is in memory, or only in the store."""
        if message in chat.messages or not chat.dropped:
            return chat.messages.get(message)
        async with self._store.transaction() as transaction:
            found = _find(transaction, chat, message)
        return None if found is None else found[1]

    async def add_message(self, chat: Chat, message: ChatMessage, event: Event | None = None) -> None:
        """Something was said; a second copy changes nothing. It is known once it is written."""
        if message.id in chat.messages:
            return
        async with self._writing() as (transaction, then):
            if _find(transaction, chat, message.id) is None:
                then += [partial(_added, chat, message, _append(transaction, chat, message))]
                self._note(transaction, event)

    async def take_said(
        self, chat: Chat, author: ServiceId, said: Edit | Reaction | Deletion, event: Event | None = None
    ) -> bool:
        """Something was said of a message; says whether there is such a message. Nothing is left in the store of what it was."""
        async with self._writing() as (transaction, then):
            found = _find(transaction, chat, target_of(author, said))
            if changed := _write_said(transaction, chat, author, said):
                then += [partial(_changed, chat, changed)]
                self._note(transaction, event)
        return found is not None

    async def change_messages(
        self, chat: Chat, messages: Iterable[MessageId], change: Callable[[ChatMessage], ChatMessage]
    ) -> None:
        """What is in memory of ``messages`` is what ``change`` makes of it from now on."""
        async with self._writing() as (transaction, then):
            known = [chat.messages[each] for each in messages if each in chat.messages]
            changed = [(chat.places[each.id], other) for each in known if (other := change(each)) is not each]
            _write_changed(transaction, chat, changed)
            then += [partial(_changed, chat, changed)]

    async def remove_messages(self, chat: Chat, messages: Iterable[MessageId]) -> None:
        """Forget messages, in memory and in the store."""
        async with self._writing() as (transaction, then):
            gone = {each for each in messages if each in chat.messages}
            _remove(transaction, chat, gone)
            then += [partial(chat._remove, gone)]

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[tuple[StoreTransaction, list[Callable[[], None]]]]:
        """A transaction, and what is to be done in memory once it is written: also if who waits for that is cancelled meanwhile."""
        then: list[Callable[[], None]] = []
        try:
            async with self._store.transaction() as transaction:
                yield transaction, then
        except asyncio.CancelledError:  # while it was written, which is waited for; before, there is nothing to be done
            for do in then:
                do()
            raise
        for do in then:
            do()

    async def note_event(self, event: Event) -> None:
        """Something happened that is kept nowhere else."""
        if self._journal is not None:
            async with self._store.transaction() as transaction:
                self._note(transaction, event)

    async def roster(self, chat: Chat, me: ServiceId, identity_key: bytes) -> Roster:
        """Whom we count among the members now: ourselves, and who has an identity key that we trust, under that one."""
        view = chat.view
        if view is None or chat.roster is None or view.identity_changes != self._store.identity_changes:
            conversation = chat.conversation
            async with self._store.transaction() as transaction:
                known = {each: await transaction.load_identity(str(each)) for each in conversation.members}
                changes = self._store.identity_changes
            trusted = {each: key for each, key in {**known, me: identity_key}.items() if key is not None}
            roster = conversation.roster(trusted)
            chat.view = view = View(conversation.members, roster, roster.digest(), changes)
        return view.roster

    # --- what we said, until it is handed over ---

    async def add_unsent(self, chat: Chat, me: ServiceId, said: Said, *, once: str | None = None) -> Unsent:
        """We said something, which is known from here on, and has yet to be sent.

        ``once`` is a name under which nothing else is said (:meth:`said_once`).
        """
        key, unsent = chat.conversation.key, None
        try:
            async with self._writing() as (transaction, then):
                if not isinstance(said, DataMessage):
                    then += [partial(_changed, chat, _write_said(transaction, chat, me, said))]
                elif (message := _own(me, said)).id not in chat.messages:
                    then += [partial(_added, chat, message, _append(transaction, chat, message))]
                if once is not None:
                    _note_once(transaction, once, said.timestamp)
                unsent = Unsent(transaction.append(_UNSENT, _write_unsent(key, said)), key, said)
        except asyncio.CancelledError:
            self.unsent += [] if unsent is None else [unsent]  # nobody else is going to send it
            raise
        return unsent

    async def said_once(self, name: str) -> int | None:
        """The timestamp of what was said under a name."""
        async with self._store.transaction() as transaction:
            found = transaction.entries(_ONCE, limit=1, family=(name,))
        return int(found[0][1]) if found else None

    async def note_sent(self, unsent: Unsent) -> None:
        """It need not be sent again."""
        async with self._store.transaction() as transaction:
            transaction.remove(_UNSENT, unsent.number)

    # --- linking ---

    async def note_linking(self) -> None:
        """A device is about to be linked: if this process ends meanwhile, it is told everything later."""
        async with self._store.transaction() as transaction:
            transaction.put(_LINKING, record=b"")

    async def note_linked(self, me: ServiceId) -> None:
        """There is another own device, which knows nothing."""
        async with self._store.transaction() as transaction:
            for chat in self.chats.values():
                chat.told.pop(me, None)
                _put(transaction, chat)
            transaction.delete(_LINKING)


def _all(transaction: StoreTransaction, queue: str) -> Iterator[tuple[int, bytes]]:
    last = 0
    while page := transaction.entries(queue, after=last, limit=_PAGE):
        yield from page
        last = page[-1][0]


def _own(me: ServiceId, said: DataMessage) -> ChatMessage:
    """Who has written it has read it."""
    message = message_of(me, said)
    return replace(message, expires_at=said.timestamp + 1000 * said.expires_in) if said.expires_in else message


def _append(transaction: StoreTransaction, chat: Chat, message: ChatMessage) -> int:
    """Write a new message, and let go of what there is no room for; memory follows in :func:`_added`."""
    _forget_surplus(transaction, chat, chat._surplus(more=1))
    key = chat.conversation.key
    return transaction.append(_HISTORY, write_message(key, message), family=_name(key, message.id))


def _added(chat: Chat, message: ChatMessage, place: int) -> None:
    surplus = chat._surplus(more=1)
    chat._remove({each for each in surplus if chat.messages[each].expires_in})
    chat._drop(each for each in surplus if each in chat.messages)
    chat._add(message, place)


def _forget_surplus(transaction: StoreTransaction, chat: Chat, surplus: Iterable[MessageId]) -> None:
    """Out of memory nobody would see that their time is over, so what expires goes from the store as well."""
    if expiring := {each for each in surplus if chat.messages[each].expires_in}:
        _remove(transaction, chat, expiring)


def _let_go(transaction: StoreTransaction, chat: Chat) -> None:
    """As one message after the other is read from the store."""
    for oldest in chat._surplus():
        if chat.messages[oldest].expires_in:
            _remove(transaction, chat, {oldest})
            chat._remove({oldest})
        else:
            chat._drop([oldest])


def _remove(transaction: StoreTransaction, chat: Chat, messages: Collection[MessageId]) -> None:
    """Of the store alone, with what was read besides."""
    for message in messages:
        transaction.remove(_HISTORY, chat.places[message])
    if messages:
        _put(transaction, chat, read=chat._read_without(messages))


def _find(transaction: StoreTransaction, chat: Chat, message: MessageId) -> tuple[int, ChatMessage] | None:
    """A message and its place. What earlier versions wrote has no name in the store: it is found while it is in memory."""
    if message in chat.messages:
        return chat.places[message], chat.messages[message]
    if not chat.dropped:
        return None
    found = transaction.entries(_HISTORY, limit=1, family=_name(chat.conversation.key, message))
    return (found[0][0], read_message(found[0][1])[1]) if found else None


def _write_said(
    transaction: StoreTransaction, chat: Chat, author: ServiceId, said: Edit | Reaction | Deletion
) -> list[tuple[int, ChatMessage]]:
    """Write what becomes of a message, and of those in memory that quote one that is deleted; returns them with their places."""
    found = _find(transaction, chat, target_of(author, said))
    if found is None or (other := found[1].with_said(author, said)) is found[1]:
        return []
    changed = [(found[0], other)]
    if other.deleted:
        quoting = [each for each in chat.messages.values() if each.quotes(other.id)]
        changed += [(chat.places[each.id], each.without_quoted_text()) for each in quoting if each.id != other.id]
    _write_changed(transaction, chat, changed)
    return changed


def _write_changed(transaction: StoreTransaction, chat: Chat, changed: Iterable[tuple[int, ChatMessage]]) -> None:
    for place, message in changed:
        transaction.replace(_HISTORY, place, write_message(chat.conversation.key, message))


def _changed(chat: Chat, changed: Iterable[tuple[int, ChatMessage]]) -> None:
    """What was written is so in memory."""
    for _, message in changed:
        if message.id in chat.messages:
            chat._put(message)


def _name(key: bytes, message: MessageId) -> tuple[str, ...]:
    return key.hex(), str(message.author), str(message.timestamp)


def _put(transaction: StoreTransaction, chat: Chat, *, read: int | None = None) -> None:
    record = _write(chat, chat.read if read is None else read)
    transaction.put(_CONVERSATION, chat.conversation.key.hex(), record=record, family=_ALL)


def _write(chat: Chat, read: int) -> bytes:
    conversation = chat.conversation
    members: dict[str, Any] = {
        "key": encode_base64(conversation.key),
        "title": conversation.title,
        "members": _texts(conversation.members),
        "revision": conversation.revision,
        "admins": _texts(conversation.admins),
        "admins_before": _texts(conversation.admins_before),
        "members_before": _texts(conversation.members_before),
        "left": {str(member): revision for member, revision in conversation.left.items()},
        "standing": _write_standing(conversation.standing),
        "bots": [[str(bot.service_id), bot.reads_all] for bot in conversation.bots],
        "expires_in": conversation.expires_in,
        "statements": {
            str(author): [_write_statement(each) for each in said] for author, said in conversation.statements.items()
        },
        "announced_by_us": chat.announced_by_us,
        "told": {
            str(member): [known.profile_key, _optional(known.statement), known.revision, known.lost, known.profile]
            for member, known in chat.told.items()
        },
        "introduced": {
            str(assistant): [encode_base64(known.identity_key), _optional(known.statement), _optional(known.roster)]
            for assistant, known in chat.introduced.items()
        },
        "unshared": list(chat.unshared),
        "read": read,
    }
    return json.dumps(members).encode()


def _read(record: bytes) -> Chat:
    members = json.loads(record)
    conversation = Conversation(
        key=decode_base64(members["key"]),
        title=members["title"],
        members=_service_ids(members["members"]),
        revision=members["revision"],
        admins=_service_ids(members.get("admins", ())),
        bots=tuple(ListedBot(ServiceId.parse(bot), reads_all) for bot, reads_all in members.get("bots", ())),
        expires_in=members.get("expires_in", 0),
        admins_before=_service_ids(members.get("admins_before", ())),
        members_before=_service_ids(members.get("members_before", ())),
        left=MappingProxyType({ServiceId.parse(member): at for member, at in members.get("left", {}).items()}),
        statements=_statements(members["statements"]),
    )
    if "standing" in members:  # older records have none
        conversation = replace(conversation, standing=_read_standing(members["standing"]))
    chat = Chat(conversation, members["announced_by_us"], read=members["read"])
    for member, (profile_key, statement, *rest) in members["told"].items():  # older records have no profile
        chat.told[ServiceId.parse(member)] = Known(profile_key, _bytes(statement), *rest)
    for assistant, (identity_key, statement, roster) in members["introduced"].items():
        known = Introduced(decode_base64(identity_key), _bytes(statement), _bytes(roster))
        chat.introduced[ServiceId.parse(assistant)] = known
    chat.unshared.extend(members["unshared"])
    return chat


def _write_standing(standing: Precedence) -> list[Any]:
    return [standing.revision, standing.stays, standing.governed, standing.seniority, encode_base64(standing.digest)]


def _read_standing(parts: list[Any]) -> Precedence:
    revision, stays, governed, seniority, digest = parts
    return Precedence(revision, stays, governed, seniority, decode_base64(digest))


def _statements(members: Mapping[str, list[list[str]]]) -> Mapping[ServiceId, tuple[Statement, ...]]:
    return MappingProxyType(
        {ServiceId.parse(author): tuple(map(_read_statement, said)) for author, said in members.items()}
    )


def _write_statement(statement: Statement) -> list[str]:
    signed = statement.signed
    return [encode_base64(part) for part in (signed.statement, signed.signature, statement.identity_key)]


def _read_statement(parts: list[str]) -> Statement:
    """It was verified before it was written, and a store notices when a record was altered."""
    statement, signature, identity_key = map(decode_base64, parts)
    signed = SignedConsent(statement, signature)
    return Statement(read_consent(signed), signed, identity_key)


def _write_unsent(key: bytes, said: Said) -> bytes:
    return key + encode_content(said)


def _read_unsent(number: int, entry: bytes) -> Unsent:
    if entry[:1] in b"[{":  # of an earlier version, which kept the message
        try:
            key, message = read_message(entry)
            return Unsent(number, key, message.as_data(key))
        except ValueError:
            pass  # a key may begin like JSON
    said = decode_content(entry[MASTER_KEY:])
    if not isinstance(said, DataMessage | Edit | Reaction | Deletion):
        raise CorruptStore
    return Unsent(number, entry[:MASTER_KEY], said)


def _note_once(transaction: StoreTransaction, name: str, timestamp: int) -> None:
    """Each new name makes room for itself: two of those are forgotten that nobody can ask for any more, or whose clock was wrong."""
    transaction.append(_ONCE, str(timestamp).encode(), family=(name,))
    for number, said_at in transaction.entries(_ONCE, limit=2):
        if abs(int(said_at) - timestamp) > ONCE_LIFETIME:
            transaction.remove(_ONCE, number)


def _service_ids(texts: Iterable[str]) -> tuple[ServiceId, ...]:
    return tuple(map(ServiceId.parse, texts))


def _texts(service_ids: Iterable[ServiceId]) -> list[str]:
    return [str(service_id) for service_id in service_ids]


def _optional(data: bytes | None) -> str | None:
    return None if data is None else encode_base64(data)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else decode_base64(text)
