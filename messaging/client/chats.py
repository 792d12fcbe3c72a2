"""The conversations of one device: who is in them, what was said, who lets the assistant read along, and asking it.

What a member decides is written down first, and then made true: other members, own other devices and the assistant are told until
they know, after a crash too (``client.telling``, ``client.sharing``). A message goes to the members whether or not an assistant can
be reached; what it missed, it gets when it has proved itself. An assistant that has not been verified gets a nonce and nothing else.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar

from messaging.client.assistant import Answered
from messaging.client.assistant_accounts import AssistantAccounts
from messaging.client.assistant_errors import AssistantRefused
from messaging.client.assistants import Assistants
from messaging.client.background import Background, for_each
from messaging.client.chat_records import Chat, ChatRecords, Known, Unsent
from messaging.client.consent import make_consent, verify_consent
from messaging.client.conversation import Conversation, Statement
from messaging.client.device import STORE_PAUSE, Device, Received, milliseconds_now
from messaging.client.errors import ClientError, IdentityChanged, StoreFailed
from messaging.client.events import Event, Journal
from messaging.client.history import ChatMessage
from messaging.client.problems import Problem, Problems
from messaging.client.profiles import Profiles
from messaging.client.receipts import ReceiptFile
from messaging.client.receiving import MAX_AHEAD, Receiving
from messaging.client.sending import plaintext_of
from messaging.client.sharing import Sharing, receipt_file
from messaging.client.stores import Store
from messaging.client.telling import Telling
from messaging.client.writing import Writing
from messaging.wire.assistant import (
    AboutMessages,
    Actions,
    Forget,
    QuestionsForMe,
    RefusalCode,
    Rewrite,
    Scope,
    StatusRequest,
    SuggestReplies,
    Summarize,
)
from messaging.wire.consent import ALL_SCOPES, ConsentScope
from messaging.wire.content import ConsentUpdate, ListedBot, ProfileUpdate, ReadReceipt, Typing, decode_content
from messaging.wire.data import AttachmentPointer, DataMessage, Deletion, Edit, Mention, Quote, Reaction, Said
from messaging.wire.errors import MalformedContent
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import MAX_EMOJI, MAX_PROFILE_ABOUT, MAX_PROFILE_NAME, MAX_QUOTED
from signal_protocol.errors import SignalError

LOOK_SECONDS = 5.0  # between two looks at what somebody has not been told yet

T = TypeVar("T")


class UnknownConversation(ClientError):
    """No such conversation, or this account is not a member of it any more."""

    def __init__(self) -> None:
        super().__init__("this account is in no such conversation")


class NotAllowed(ClientError):
    """Only an admin of the conversation does this, or only the author of the message."""

    def __init__(self) -> None:
        super().__init__("only an admin of the conversation may do this, or the author of the message")


class UnknownMessage(ClientError):
    """No such message is known here, or it has been deleted."""

    def __init__(self) -> None:
        super().__init__("this device knows no such message")


@dataclass(frozen=True, slots=True)
class Written:
    """A message that was sent. ``failed`` says who did not get it and why; with ``RelayUnreachable`` they get it later."""

    id: MessageId
    failed: Mapping[ServiceId, ClientError]


class Chats:
    """All conversations of one device. Make it with :meth:`open`, use it in ``async with``, and run :meth:`receive`.

    ``on_passing`` hears what is told while it happens, and never kept: who is typing.
    """

    def __init__(
        self,
        device: Device,
        records: ChatRecords,
        accounts: AssistantAccounts,
        profiles: Profiles,
        assistants: Assistants | None = None,
        *,
        now: Callable[[], int] = milliseconds_now,
    ) -> None:
        self._device = device
        self._records = records
        self._profiles = profiles
        self.on_passing: Callable[[Event], None] = lambda _: None
        self._accounts = accounts
        self.assistants = assistants
        if assistants is not None:
            assistants.accounts = accounts
        self._now = now
        self._last_timestamp = records.latest_timestamp(device.service_id, until=now() + MAX_AHEAD)
        self._people = Background(self._look_after_people, LOOK_SECONDS, device.note_failure)
        self._enclaves = Background(self._look_after_assistants, LOOK_SECONDS, device.note_failure)
        self._telling = Telling(device, records, profiles)
        self._sharing = Sharing(
            device, records, assistants, now=now, announce=self._telling.tell, wake=self._enclaves.wake
        )
        self._writing = Writing(device, records, accounts, self._sharing)
        self._receiving = Receiving(
            device,
            records,
            accounts,
            profiles,
            now=now,
            take_frame=lambda sender, content: assistants is not None and assistants.receive(sender, content),
            take_hint=self._sharing.take_hint,
            changed=self._look_again,
            look_up=self._people.wake,
            passing=lambda event: self.on_passing(event),
        )
        self._problems = Problems()
        self._changed = asyncio.Condition()
        self._once = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        device: Device,
        store: Store,
        assistants: Assistants | None = None,
        *,
        journal: Journal | None = None,
        most_unanswered: int | None = None,
        now: Callable[[], int] = milliseconds_now,
    ) -> Self:
        """The conversations that ``store`` holds, which is the device's.

        Of those that others begin and this account never takes part in, there are at most ``most_unanswered``, for people
        ``chat_records.MAX_UNANSWERED``. ``journal`` gets every event in the transaction that stores what it tells of; who writes gets none of what this account does.
        """
        records = await ChatRecords.load(store, device.service_id, journal)
        records.most_unanswered = most_unanswered
        accounts = await AssistantAccounts.load(store, device, records.is_member)
        profiles = await Profiles.load(store, device.service_id)
        return cls(device, records, accounts, profiles, assistants, now=now)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(each.run()) for each in (self._people, self._enclaves)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.assistants is not None:
            await self.assistants.close()
        for each in ended:
            if kind is None and isinstance(each, Exception):
                raise each  # a fault of ours, which nobody has heard of

    # --- conversations ---

    @property
    def me(self) -> ServiceId:
        """The own account."""
        return self._device.service_id

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        """All of them."""
        return tuple(chat.conversation for chat in self._records.chats.values())

    def conversation(self, key: bytes) -> Conversation:
        """One of them.

        Raises:
            UnknownConversation: there is none with this key.
        """
        return self._chat(key).conversation

    def messages(self, key: bytes) -> tuple[ChatMessage, ...]:
        """What was said, in the order in which this device learnt of it; of very many the latest."""
        return tuple(self._chat(key).messages.values())

    def unread(self, key: bytes) -> tuple[ChatMessage, ...]:
        """What was said since :meth:`mark_read`."""
        return self._chat(key).unread

    async def mark_read(self, key: bytes) -> None:
        """All that is there has been read; what expires does so from now on."""
        chat = self._chat(key)
        await self._begin_expiry(chat, chat.unread)
        chat.read = chat.dropped + len(chat.messages)
        await self._records.save(chat)

    async def send_read(self, key: bytes, messages: Iterable[MessageId]) -> None:
        """Tell the authors that their messages were read, which expire from now on. An author who cannot be told, is not.

        Raises:
            UnknownConversation: there is none with this key, or this account is out.
        """
        chat = self._chat_of_mine(key)
        named = [each for each in dict.fromkeys(messages) if each in chat.messages and each.author != self.me]
        await self._begin_expiry(chat, [chat.messages[each] for each in named])
        for author in dict.fromkeys(each.author for each in named):
            receipt = ReadReceipt(tuple(each.timestamp for each in named if each.author == author))
            with suppress(ClientError):
                await self._device.send(author, receipt)

    async def _begin_expiry(self, chat: Chat, messages: Iterable[ChatMessage]) -> None:
        now = self._now()

        def begin(message: ChatMessage) -> ChatMessage:
            begins = message.expires_in and message.expires_at is None
            return replace(message, expires_at=now + 1000 * message.expires_in) if begins else message

        if expiring := [each.id for each in messages if each.expires_in and each.expires_at is None]:
            await self._records.change_messages(chat, expiring, begin)

    def untold(self, key: bytes) -> frozenset[ServiceId]:
        """Who does not know yet what this device has to tell: members, who was one, and, under the own account, own devices."""
        return frozenset(self._telling.untold(self._chat(key)))

    async def create(
        self,
        title: str,
        members: Iterable[ServiceId],
        *,
        admins: Iterable[ServiceId] = (),
        bots: Iterable[ListedBot] = (),
        once: str | None = None,
    ) -> Conversation:
        """Begin a conversation, and tell its members; those who cannot be reached now later. Without ``admins`` all may change it.

        Under a name (``once``) one conversation is begun, and a second call returns it, whatever else it says.

        Raises:
            ValueError: too many members.
        """
        key = None if once is None else self._device.named_secret(once)
        named = [self.me, *members]
        found = await self._found_bots(named)
        if key is not None and (known := self._records.chats.get(key)) is not None:
            return known.conversation
        begun = Conversation.create(title, named, admins=admins, bots=[*found, *bots], key=key)
        chat = Chat(begun, announced_by_us=True)
        await self._announce(chat)
        return chat.conversation

    async def set_members(
        self, key: bytes, members: Iterable[ServiceId], *, bots: Iterable[ListedBot] | None = None
    ) -> None:
        """Change who is in a conversation. Who is out cannot read what follows, and is told; who is in reads from now on.

        Raises:
            UnknownConversation: there is none with this key, or this account is out itself.
            NotAllowed: this account is no admin of it.
            ValueError: too many members.
        """
        self._chat_to_change(key)
        named = [self.me, *members]
        found = await self._found_bots(named)
        chat = self._chat_to_change(key)
        listed = [*found, *(chat.conversation.bots if bots is None else bots)]
        await self._change(chat, chat.conversation.changed(members=named, bots=listed))

    async def bots(self, key: bytes) -> tuple[ListedBot, ...]:
        """The members that are programs, and what each can read: those that are listed, and those that nobody has listed."""
        conversation = self.conversation(key)
        return conversation.with_unlisted_bots(await self._device.bots_among(conversation.members)).bots

    async def _found_bots(self, members: Collection[ServiceId]) -> list[ListedBot]:
        """Who of these is a bot; it says so wherever it can be asked now, and whoever learns it later treats it so."""

        async def meet(member: ServiceId) -> None:
            if member != self.me and await self._device.trusted_identity(member) is None:
                with suppress(ClientError, SignalError):
                    await self._device.fetch_identity(member)

        await for_each(members, meet)
        return [ListedBot(each) for each in await self._device.bots_among(members)]

    async def set_title(self, key: bytes, title: str) -> None:
        """Call a conversation otherwise. Raises as :meth:`set_members`."""
        chat = self._chat_to_change(key)
        await self._change(chat, chat.conversation.changed(title=title, by=self.me))

    async def set_admins(self, key: bytes, admins: Iterable[ServiceId]) -> None:
        """Change who may change a conversation; with nobody, all members may. Raises as :meth:`set_members`."""
        chat = self._chat_to_change(key)
        await self._change(chat, chat.conversation.changed(admins=admins, by=self.me))

    async def set_bots(self, key: bytes, bots: Iterable[ListedBot]) -> None:
        """Change which members are known as bots, and what they get. Raises as :meth:`set_members`."""
        chat = self._chat_to_change(key)
        await self._change(chat, chat.conversation.changed(bots=bots, by=self.me))

    async def set_expiry(self, key: bytes, seconds: int) -> None:
        """Have messages that follow deleted so long after they were read, with 0 never. Raises as :meth:`set_members`."""
        chat = self._chat_to_change(key)
        await self._change(chat, chat.conversation.changed(expires_in=seconds, by=self.me))

    async def leave(self, key: bytes) -> None:
        """Leave a conversation. What was said stays here until it expires.

        Raises:
            UnknownConversation: there is none with this key, or this account is out.
        """
        chat = self._chat_of_mine(key)
        for member in chat.conversation.others(self.me):
            chat.told.setdefault(member, Known())  # who has heard nothing yet is to hear this, too
        await self._change(chat, chat.conversation.without(self.me))

    # --- saying something ---

    async def write(
        self,
        key: bytes,
        text: str,
        *,
        quote: MessageId | None = None,
        attachments: Sequence[AttachmentPointer] = (),
        mentions: Sequence[Mention] = (),
        once: str | None = None,
    ) -> Written:
        """Send a message to all members, and to the assistant if the own consent says so and it is verified.

        Who cannot be reached is told of, and does not keep it from the others; nobody waits for an assistant. Under a name
        (``once``) one message is written, and a second call returns the first one's.

        Raises:
            UnknownConversation: there is none with this key, or this account is out.
            UnknownMessage: the quoted one.
            ContentTooLarge: it does not fit an envelope; nothing was sent.
            ValueError: too many attachments or mentions, or a part that is too long; nothing was sent.
            CredentialsRevoked, Displaced, SignalError: it was written down, and goes out when the device works again.
        """
        chat = self._chat_of_mine(key)
        quoted = None if quote is None else await self._quote(chat, quote)
        roster = await self._sharing.roster(chat)

        def make() -> DataMessage:
            return DataMessage(
                text,
                self._timestamp(chat),
                key,
                roster.digest(),
                quoted,
                tuple(attachments),
                tuple(mentions),
                chat.conversation.expires_in,
            )

        if once is None:
            return await self._say(chat, make())
        async with self._once:
            if (said := await self._records.said_once(once)) is not None:
                return Written(MessageId(self.me, said), {})
            unsent = await self._note(chat, make(), once=once)
        return await self._send(unsent)

    async def edit(self, key: bytes, message: MessageId, text: str, *, mentions: Sequence[Mention] = ()) -> Written:
        """Give an own message another text, with other ``mentions``. Raises as :meth:`write`, and ``NotAllowed`` if it is another's."""
        chat, known = await self._own_message(key, message)
        roster, quote = await self._sharing.roster(chat), known.quote
        another = DataMessage(
            text,
            self._timestamp(chat),
            key,
            roster.digest(),
            None if quote is None else Quote(quote.message),  # says to whom it is addressed; its words all have
            mentions=tuple(mentions),
            expires_in=known.expires_in,
        )
        return await self._say(chat, Edit(message.timestamp, another))

    async def delete(self, key: bytes, message: MessageId) -> Written:
        """Have an own message forgotten, here and by all. Raises as :meth:`edit`."""
        chat, _ = await self._own_message(key, message)
        return await self._say(chat, Deletion(message.timestamp, self._timestamp(chat), key))

    async def react(self, key: bytes, message: MessageId, emoji: str, *, remove: bool = False) -> Written:
        """Put an emoji on a message, in place of an earlier one, or take it back. Raises as :meth:`write`.

        Raises:
            ValueError: more than an emoji.
        """
        if not 0 < len(emoji) <= MAX_EMOJI:
            raise ValueError("a reaction is one emoji")
        chat = self._chat_of_mine(key)
        await self._message(chat, message)
        return await self._say(chat, Reaction(emoji, message, self._timestamp(chat), key, remove))

    async def typing(self, key: bytes, *, started: bool = True) -> None:
        """Show the members that something is being written, as far as they are there.

        Raises:
            UnknownConversation: there is none with this key, or this account is out.
        """
        chat = self._chat_of_mine(key)
        members = chat.conversation.others(self.me)
        conversation = chat.conversation.with_unlisted_bots(await self._device.bots_among(members))
        shown = Typing(started, self._now(), conversation.id)

        async def show(member: ServiceId) -> None:
            with suppress(ClientError):
                await self._device.send_passing(member, shown)

        await for_each(filter(conversation.gets_all, members), show)

    async def _say(self, chat: Chat, said: Said) -> Written:
        return await self._send(await self._note(chat, said))

    async def _note(self, chat: Chat, said: Said, *, once: str | None = None) -> Unsent:
        """Write it down, if others will be able to read it."""
        plaintext = plaintext_of(said)
        with suppress(MalformedContent):
            if decode_content(plaintext) == said:
                return await self._writing.note(chat, said, once=once)
        raise ValueError("a part of the message is beyond its limit")

    async def _send(self, unsent: Unsent) -> Written:
        await self._notify()
        failed = await self._writing.send(unsent)
        return Written(MessageId(self.me, unsent.said.timestamp), failed)

    # --- profiles ---

    def name_of(self, who: ServiceId) -> str:
        """What somebody calls themselves; empty if they have not said."""
        return self._profiles.name_of(who)

    async def set_profile(self, name: str, about: str = "") -> None:
        """Say what this account wants to be called: all members of its conversations are told.

        Raises:
            ValueError: too long.
        """
        if len(name) > MAX_PROFILE_NAME or len(about) > MAX_PROFILE_ABOUT:
            raise ValueError("a name or a description is too long")
        own = self._profiles.own
        if own is None or (own.name, own.about) != (name, about):
            last = 0 if own is None else own.timestamp
            await self._profiles.take(self.me, ProfileUpdate(name, about, max(last + 1, self._now())))
            self._people.wake()

    # --- people ---

    async def trust(self, member: ServiceId, identity_key: bytes) -> None:
        """Trust a person's new identity key, after comparing safety numbers, and tell them again what they have lost.

        Raises:
            ValueError: the own account, whose identity key is never another one.
        """
        await self._device.trust(member, identity_key)
        await self._accounts.note_person(member)
        chats = [chat for chat in self._records.chats.values() if member in chat.conversation.members]
        for chat in chats:
            chat.told[member] = Known(lost=True)
            self._telling.try_again(chat, member)
            self._sharing.look_again(chat)
        await self._records.save(*chats)
        self._people.wake()

    def problems(self) -> list[Problem]:
        """What the device could not read, and members with other keys, since the last call. Assistants only have restarted."""
        self._look_at_problems()
        return self._problems.take()

    # --- consent ---

    async def opt_in(
        self, key: bytes, scopes: Collection[ConsentScope] = ALL_SCOPES, *, expires_at: int | None = None
    ) -> None:
        """Let the assistant have what this account writes from now on, for ``scopes``, until ``expires_at`` (milliseconds).

        Every member is told. The assistant is told once it has proved where it runs; whether it has, the error says. Whatever
        is raised after the decision, it stands, and is made true later.

        Raises:
            UnknownConversation: there is none with this key, or this account is out.
            ValueError: no scope, or a time that is over.
            NoAssistant: no assistant can be used now; the decision holds for the one that can be.
            AssistantError, RelayUnreachable: the assistant was not told yet.
        """
        chat = self._chat_of_mine(key)
        await self._decide(chat, opted_in=True, scopes=scopes, expires_at=expires_at)
        await self._telling.tell(chat, at_once=True)
        await self._notify()
        await self._sharing.introduce(chat)

    async def opt_out(self, key: bytes) -> None:
        """Let the assistant have nothing more, and have it drop what it holds. The next message is under a key it never gets.

        Who cannot be told now, an assistant or a member, is told later.

        Raises:
            UnknownConversation: there is none with this key.
        """
        chat = self._chat(key)
        await self._decide(chat, opted_in=False, scopes=(), expires_at=None)
        with suppress(ClientError, SignalError):
            await self._sharing.tell_those_who_know(chat)
        await self._telling.tell(chat, at_once=True)
        await self._notify()

    # --- asking ---

    async def summarize(self, key: bytes, messages: Iterable[MessageId], names: Mapping[ServiceId, str]) -> Answered:
        """A summary of ``messages``, for us. ``names`` is what we call people.

        Raises:
            UnknownConversation: there is none with this key, or this account is out.
            AssistantRefused: it will not; also without asking, where the own consent does not allow it.
            NoAssistant: there is none that can be used now.
            ReceiptRefused: it did not prove what it answered, or names a consent that this device has never seen.
            AssistantError, RelayUnreachable: silent, or cut off.
        """
        return await self._ask_about(key, messages, names, ConsentScope.SUMMARIES, Summarize)

    async def suggest_replies(
        self, key: bytes, messages: Iterable[MessageId], names: Mapping[ServiceId, str], count: int = 3
    ) -> Answered:
        """Replies that we could send now. Raises as :meth:`summarize`, as do the others here."""

        def make(scope: Scope) -> AboutMessages:
            return SuggestReplies(scope, count)

        return await self._ask_about(key, messages, names, ConsentScope.REPLIES, make)

    async def questions_for_me(
        self, key: bytes, messages: Iterable[MessageId], names: Mapping[ServiceId, str]
    ) -> Answered:
        """Questions that wait for our answer."""
        return await self._ask_about(key, messages, names, ConsentScope.SUMMARIES, QuestionsForMe)

    async def actions(self, key: bytes, messages: Iterable[MessageId], names: Mapping[ServiceId, str]) -> Answered:
        """What was asked, promised and decided."""
        return await self._ask_about(key, messages, names, ConsentScope.SUMMARIES, Actions)

    async def rewrite(
        self, key: bytes, draft: str, tone: str = "", *, on_text: Callable[[str], None] | None = None
    ) -> Answered:
        """Our own draft in another tone, by the assistant of this conversation. ``on_text`` gets text before it is proved."""
        return await self._sharing.ask(self._chat(key), lambda: Rewrite(draft, tone), on_text=on_text)

    async def forget(self, key: bytes, *, whole: bool = False) -> Answered:
        """Have the assistant drop our messages of this conversation; with ``whole`` those of every author."""
        return await self._sharing.ask(self._chat(key), lambda: Forget(key, whole))

    async def forget_everything(self, key: bytes) -> Answered:
        """Have the assistant of this conversation drop our messages of all conversations."""
        return await self._sharing.ask(self._chat(key), lambda: Forget(None))

    async def status(self, key: bytes) -> Answered:
        """How the assistant of this conversation is, and what it holds of ours."""
        return await self._sharing.ask(self._chat(key), lambda: StatusRequest(key))

    async def receipt_file(self, key: bytes, answered: Answered) -> ReceiptFile:
        """What to keep of an answer, and to show to whoever is named in it.

        Raises:
            ReceiptRefused: the answer has no receipt, or names a statement that this device has never seen.
        """
        return receipt_file(self._chat(key), answered)

    # --- own devices ---

    async def add_device(self, url: str) -> int:
        """Link another device of this account, and tell it what this one knows; returns its id. See ``Device.add_device``."""
        await self._records.note_linking()
        device_id = await self._device.add_device(url)
        await self._records.note_linked(self.me)
        await self._telling.tell_all()
        return device_id

    # --- receiving ---

    async def receive(self) -> None:
        """Take everything that the device receives, for ever; what is for no conversation is dropped.

        While the store cannot be written, that is a problem, and it is tried again.
        """
        async for received in self._device.received():
            await self._take_for_good(received)

    async def _take_for_good(self, received: Received) -> None:
        while True:
            try:
                if not await self.take(received):
                    await self._device.done(received)
            except StoreFailed as error:
                self._device.note_failure(error)
                await asyncio.sleep(STORE_PAUSE)
            else:
                return

    async def take(self, received: Received) -> bool:
        """Take what the device received, if it is for a conversation; says whether it was. If not, ``Device.done`` is yours."""
        taken = await self._receiving.take(received)
        self._look_at_problems()
        await self._notify()
        return taken

    async def wait_until(self, holds: Callable[[], T]) -> T:
        """Wait until something that was taken, or told, makes ``holds`` true; returns what it gave."""
        async with self._changed:
            return await self._changed.wait_for(holds)

    # --- inside: deciding ---

    async def _change(self, chat: Chat, conversation: Conversation) -> None:
        chat.conversation, chat.announced_by_us = conversation, True
        await self._announce(chat)

    async def _announce(self, chat: Chat) -> None:
        await self._records.save(chat)
        await self._accounts.note_members(chat.conversation.members)
        self._sharing.look_again(chat)
        await self._telling.tell(chat, at_once=True)
        await self._notify()

    async def _decide(
        self, chat: Chat, *, opted_in: bool, scopes: Collection[ConsentScope], expires_at: int | None
    ) -> None:
        """Write a decision down: from here on it stands."""
        key, identity_key = chat.conversation.key, self._device.identity_key
        signed = make_consent(
            self._device.sign,
            conversation=key,
            author=self.me,
            timestamp=self._timestamp(chat),
            opted_in=opted_in,
            scopes=scopes,
            expires_at=expires_at,
        )
        consent = verify_consent(ConsentUpdate(key, signed), self.me, identity_key)
        chat.note_statement(self.me, Statement(consent, signed, identity_key), self.me)
        await self._records.save(chat)

    async def _ask_about(
        self,
        key: bytes,
        messages: Iterable[MessageId],
        names: Mapping[ServiceId, str],
        purpose: ConsentScope,
        make: Callable[[Scope], AboutMessages],
    ) -> Answered:
        chat, asked = self._chat_of_mine(key), tuple(messages)
        own = chat.conversation.statement_of(self.me)
        if own is None or not own.consent.in_force(self._now()):
            raise AssistantRefused(RefusalCode.NOT_OPTED_IN)
        if purpose not in own.consent.scopes:
            raise AssistantRefused(RefusalCode.OUT_OF_SCOPE)
        return await self._sharing.ask(chat, lambda: make(chat.conversation.scope(asked, purpose, names, self._now())))

    # --- inside: what is done in the background ---

    async def _look_after_people(self) -> None:
        self._look_at_problems()
        with suppress(ClientError):
            await self._forget_expired()
        with suppress(ClientError, SignalError):
            await self._writing.send_unsent()
            await self._receiving.look_up_authors()
        await self._telling.tell_all()
        await self._notify()

    async def _look_after_assistants(self) -> None:
        await self._sharing.look_after_all()
        await self._notify()

    def _look_at_problems(self) -> None:
        for problem in self._device.problems():
            if isinstance(problem, IdentityChanged) and self._has_restarted(problem.service_id):
                self._enclaves.wake()
            else:
                self._problems.note(problem)

    def _has_restarted(self, service_id: ServiceId) -> bool:
        if self._records.is_member(service_id) and not self._accounts.has_proved(service_id):
            return False  # a person, whatever the relay listed before
        is_known = self.assistants is not None and self.assistants.identity_changed(service_id)
        return is_known or self._accounts.has_proved(service_id)

    def _look_again(self, chat: Chat) -> None:
        self._people.wake()
        self._sharing.look_again(chat)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _chat(self, key: bytes) -> Chat:
        chat = self._records.chats.get(key)
        if chat is None:
            raise UnknownConversation
        return chat

    def _chat_of_mine(self, key: bytes) -> Chat:
        """One that this account is still in."""
        chat = self._chat(key)
        if self.me not in chat.conversation.members:
            raise UnknownConversation
        return chat

    def _chat_to_change(self, key: bytes) -> Chat:
        chat = self._chat_of_mine(key)
        if not chat.conversation.may_change(self.me):
            raise NotAllowed
        return chat

    async def _message(self, chat: Chat, message: MessageId) -> ChatMessage:
        known = await self._records.find(chat, message)
        if known is None or known.deleted:
            raise UnknownMessage
        return known

    async def _own_message(self, key: bytes, message: MessageId) -> tuple[Chat, ChatMessage]:
        chat = self._chat_of_mine(key)
        if message.author != self.me:
            raise NotAllowed
        return chat, await self._message(chat, message)

    async def _quote(self, chat: Chat, message: MessageId) -> Quote:
        return Quote(message, (await self._message(chat, message)).text[:MAX_QUOTED])

    async def _forget_expired(self) -> None:
        now = self._now()
        for chat in list(self._records.chats.values()):
            if over := [each for each in chat.expiring if (chat.messages[each].expires_at or 0) <= now]:
                await self._records.remove_messages(chat, over)

    def _timestamp(self, chat: Chat) -> int:
        """Milliseconds since 1970, never the same twice: with the author it names a message.

        Later than the own latest statement too, of whatever device and by whatever clock: it is to stand, or to cover this.
        """
        own = chat.conversation.statement_of(self.me)
        least = 0 if own is None else own.consent.timestamp + 1
        self._last_timestamp = max(self._last_timestamp + 1, least, self._now())
        return self._last_timestamp
