"""What arrives for the conversations of one device, each content where it belongs.

Nobody is believed beyond what they may say: members about the conversation, authors about their own consent, own devices about what
this account and others said. What arrives before that which it belongs to waits (``client.early``); a crash loses none of it. What is
said of a message that is not here waits for a day, apart from the rest: most such messages never come, and must not push out others.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from messaging.client.assistant_accounts import AssistantAccounts
from messaging.client.background import Patience
from messaging.client.chat_records import Chat, ChatRecords, Known
from messaging.client.consent import ConsentRefused, verify_consent
from messaging.client.conversation import Conversation, NotAdmin, Statement, TooFarAhead
from messaging.client.device import Device, Received
from messaging.client.early import Early
from messaging.client.errors import ClientError, TooManyConversations
from messaging.client.events import ConversationChanged, Event, MessagesRead, TypingChanged
from messaging.client.history import event_of, message_of, target_of
from messaging.client.profiles import Profiles
from messaging.wire.content import (
    AnswerFrame,
    ConsentUpdate,
    Content,
    ConversationUpdate,
    ProfileUpdate,
    ReadReceipt,
    Said,
    SentTranscript,
    Told,
    Typing,
)
from messaging.wire.data import DataMessage, Deletion, Edit, Reaction
from messaging.wire.identifiers import MessageId, ServiceId

MAX_AHEAD = 24 * 3600 * 1000  # milliseconds by which another clock may be ahead of ours
MAX_RECEIPTS = 1000  # messages of which one receipt is noted
MAX_WAIT = 24 * 3600 * 1000  # milliseconds for which what is said of a message waits for it
FIRST_PAUSE, LAST_PAUSE = 5.0, 600.0  # seconds between two tries to learn an author's identity key

Hint = Callable[[Chat, ServiceId], None]


class Receiving:
    """Takes what arrives into ``records``.

    Args:
        now: milliseconds since 1970.
        take_frame: gets frames of answers with their sender; says whether somebody waits for them.
        take_hint: hears with which assistant another member, or own device, shares.
        changed: is called when something has changed that somebody may have to be told.
        look_up: is called when :meth:`look_up_authors` has something to do.
        passing: hears what is told while it happens, and never kept.
    """

    def __init__(
        self,
        device: Device,
        records: ChatRecords,
        accounts: AssistantAccounts,
        profiles: Profiles,
        *,
        now: Callable[[], int],
        take_frame: Callable[[ServiceId, Content], bool],
        take_hint: Hint,
        changed: Callable[[Chat], None],
        look_up: Callable[[], None],
        passing: Callable[[Event], None],
    ) -> None:
        self._device = device
        self._records = records
        self._accounts = accounts
        self._profiles = profiles
        self._now = now
        self._take_frame = take_frame
        self._take_hint = take_hint
        self._changed = changed
        self._look_up = look_up
        self._passing = passing
        self._early = Early()
        self._early_said = Early()  # of messages that are not here
        self._has_news = False  # what waits may belong to something now
        self._patience = Patience(FIRST_PAUSE, LAST_PAUSE)

    async def take(self, received: Received) -> bool:
        """Take one content; says whether it was for a conversation. If so the device need not show it again, now or later."""
        taken = await self._take_one(received)
        await self._take_early()
        return taken

    async def look_up_authors(self) -> None:
        """Learn the identity keys of authors of whom own devices told, and take what waits for that."""
        waiting = {each.content.author for each in self._early if isinstance(each.content, Told)}
        for author in filter(self._patience.may_try, waiting):
            with suppress(ClientError):
                await self._device.fetch_identity(author)
            self._patience.failed(author)  # until it is needed again, whether it was found or not
            self._has_news = True
        await self._take_early()

    async def _take_early(self) -> None:
        while self._has_news:
            self._has_news = False
            for received in (*self._early, *self._early_said):
                await self._take_one(received)

    async def _take_one(self, received: Received) -> bool:
        taken = await self._take(received.sender.service_id, received.content)
        if taken is None and not self._is_over(received):
            pushed_out = self._early_for(received).keep(received)
            if pushed_out is not None:
                await self._device.done(pushed_out)
            return True
        for early in (self._early, self._early_said):
            early.forget(received)
        if taken is not False:
            await self._records.flush()  # or it would be acknowledged, and lost with this process
            await self._device.done(received)
        return taken is not False

    def _early_for(self, received: Received) -> Early:
        """Where it waits: with its conversation, or for its message."""
        said = _said(received.content)
        chat = None if said is None else self._records.chats.get(said.conversation or b"")
        if chat is None or isinstance(said, DataMessage) or not self._hears(chat, received.sender.service_id):
            return self._early
        self._early.forget(received)
        return self._early_said

    def _is_over(self, received: Received) -> bool:
        """Whether it has waited for a message for as long as it may."""
        is_late = self._now() - received.server_timestamp > MAX_WAIT
        return is_late and self._early_for(received) is self._early_said

    def _is_awaited(self, message: MessageId) -> bool:
        """Whether something that is said of it has come before it."""
        waiting = ((each.sender.service_id, _said(each.content)) for each in self._early_said)
        return any(
            said is not None and not isinstance(said, DataMessage) and target_of(sender, said) == message
            for sender, said in waiting
        )

    def _hears(self, chat: Chat, sender: ServiceId) -> bool:
        """Whether we hear what a member says: not while we are out ourselves."""
        return {sender, self._me} <= set(chat.conversation.members)

    # --- one content; ``None``: it belongs to something that is not known yet ---

    async def _take(self, sender: ServiceId, content: Content) -> bool | None:
        match content:
            case ConversationUpdate():
                return await self._take_update(sender, content)
            case ConsentUpdate():
                return await self._take_consent(sender, content)
            case DataMessage() | Edit() | Reaction() | Deletion() if content.conversation is not None:
                return await self._take_said(sender, content.conversation, content)
            case SentTranscript(said) if sender == self._me:
                return await self._take(sender, said)
            case ReadReceipt(timestamps):
                return await self._take_read(sender, timestamps)
            case Typing():
                return self._take_typing(sender, content)
            case ProfileUpdate():
                if sender == self._me or self._records.is_member(sender):
                    await self._profiles.take(sender, content)
                return True
            case Told(author, ConversationUpdate() as update) if sender == self._me:
                return await self._take_told_update(author, update)
            case Told(author, ConsentUpdate() as update) if sender == self._me:
                return await self._take_told_consent(author, update)
            case AnswerFrame():
                await self._accounts.note_answering(sender)
                return self._take_frame(sender, content)
            case _:
                return False

    async def _take_said(self, sender: ServiceId, key: bytes, said: Said) -> bool | None:
        chat = self._records.chats.get(key)
        if chat is None or not self._hears(chat, sender):
            return None
        event = None if sender == self._me else event_of(sender, key, said)
        if isinstance(said, DataMessage):
            message = message_of(sender, said)
            await self._records.add_message(chat, message, event)
            self._has_news |= self._is_awaited(message.id)
            return True
        return True if await self._records.take_said(chat, sender, said, event) else None

    async def _take_read(self, sender: ServiceId, timestamps: tuple[int, ...]) -> bool:
        """Of own messages, whatever else somebody claims to have read; in each conversation with them."""
        read = [MessageId(self._me, timestamp) for timestamp in dict.fromkeys(timestamps[:MAX_RECEIPTS])]
        for chat in [] if sender == self._me else self._records.chats_with(sender):
            if named := tuple(each for each in read if each in chat.messages):
                latest = max(each.timestamp for each in named)
                await self._records.note_event(MessagesRead(chat.conversation.key, sender, latest, named))
        return True

    def _take_typing(self, sender: ServiceId, typing: Typing) -> bool:
        for chat in [] if sender == self._me else self._records.chats_with(sender):
            if chat.conversation.id == typing.conversation_id and self._me in chat.conversation.members:
                self._passing(TypingChanged(chat.conversation.key, sender, typing.timestamp, typing.started))
        return True

    async def _take_update(self, sender: ServiceId, update: ConversationUpdate) -> bool | None:
        chat = self._records.chats.get(update.conversation)
        if chat is not None:
            speaks = chat.conversation.may_speak(sender, update.revision)
            return await self._take_change(chat, sender, update) if speaks else None
        if self._me in update.members and sender in update.members:
            chat = _new(update, sender)
            if chat is not None and not self._records.has_room(self._me, sender):
                self._device.note_failure(TooManyConversations())
            elif chat is not None:
                chat.told[self._me] = Known(True, None, update.revision + 1)  # the sender told all our devices
                await self._enter(chat, _change(sender, update.revision, None, chat.conversation))
        return True

    async def _take_change(self, chat: Chat, sender: ServiceId, update: ConversationUpdate) -> bool | None:
        """Whoever knows less, or has come apart from us, is told: a member may have told each of us something else."""
        before = chat.conversation
        try:
            changed = before.with_update(sender, update)
        except NotAdmin:  # as far as we know
            if not (before.is_apart(sender, update.revision) and before.may_change(self._me)):
                return None
            await self._catch_up(chat, update.revision + 1)
            return True
        except TooFarAhead:
            if before.may_change(self._me):
                await self._catch_up(chat)
            return True
        except ValueError:
            return True
        if changed is not before:
            leaving = chat.announced_by_us and self._me in changed.left  # whatever others change: all are to hear of it
            chat.note_change(changed, self._me)
            chat.announced_by_us = leaving
            event = _change(sender, update.revision, before, changed) if sender != self._me else None
            await self._enter(chat, event)
        elif sender != self._me and self._is_behind(sender, before, update):
            chat.told[sender] = replace(chat.told.get(sender, Known()), lost=True)
            await self._records.save(chat)
            self._changed(chat)
        return True

    async def _catch_up(self, chat: Chat, *revision: int) -> None:
        chat.conversation, chat.announced_by_us = chat.conversation.caught_up(*revision, by=self._me), True
        await self._enter(chat)

    def _is_behind(self, sender: ServiceId, conversation: Conversation, update: ConversationUpdate) -> bool:
        """Whether to tell who knows something else, of whom only one answers the other.

        Where there are admins, all hear from them of changes at the same time: who is not one would not be believed.
        """
        if sender not in conversation.members or conversation.as_update() == update:
            return False
        return update.revision < conversation.revision or not conversation.standing.governed

    async def _take_consent(self, author: ServiceId, update: ConsentUpdate) -> bool | None:
        chat = self._records.chats.get(update.conversation)
        if chat is None or author not in (*chat.conversation.members, *chat.conversation.statements):
            return None
        identity_key = await self._identity_of(author)
        if identity_key is None:
            self._look_up()
            return None
        with suppress(ConsentRefused, ValueError):
            statement = Statement(verify_consent(update, author, identity_key), update.consent, identity_key)
            if statement.consent.timestamp > self._now() + MAX_AHEAD:
                return True  # nothing that its author says later would ever stand
            await self._note_statement(chat, author, statement)
            if update.assistant is not None:
                self._take_hint(chat, update.assistant)
        return True

    async def _take_told_update(self, author: ServiceId, update: ConversationUpdate) -> bool | None:
        chat = self._records.chats.get(update.conversation)
        if chat is not None:
            return await self._take_change(chat, author, update)
        chat = _new(update, author)
        if chat is not None:
            chat.note_told_by_another_device(self._me)
            await self._enter(chat)
        return True

    async def _take_told_consent(self, author: ServiceId, update: ConsentUpdate) -> bool | None:
        taken = await self._take_consent(author, update)
        chat = self._records.chats.get(update.conversation)
        if author == self._me and chat is not None and chat.digest_of(author) == update.consent.digest():
            chat.note_told_by_another_device(author)
            await self._records.save(chat)
        return taken

    # --- inside ---

    @property
    def _me(self) -> ServiceId:
        return self._device.service_id

    async def _identity_of(self, author: ServiceId) -> bytes | None:
        return self._device.identity_key if author == self._me else await self._device.trusted_identity(author)

    async def _note_statement(self, chat: Chat, author: ServiceId, statement: Statement) -> None:
        before = chat.conversation
        chat.note_statement(author, statement, self._me)
        if chat.conversation is not before:
            await self._records.save(chat)
            self._changed(chat)

    async def _enter(self, chat: Chat, event: Event | None = None) -> None:
        """A conversation that is new, or has other members."""
        await self._records.save(chat, event=event)
        await self._accounts.note_members(chat.conversation.members)
        self._changed(chat)
        self._has_news = True


def _change(
    sender: ServiceId, revision: int, before: Conversation | None, after: Conversation
) -> ConversationChanged | None:
    """What is different; ``None`` if it is nothing but who is believed. ``revision`` is that of what was said, which nobody says twice."""
    known = () if before is None else before.members
    joined = tuple(each for each in after.members if each not in known)
    left = tuple(each for each in known if each not in after.members)
    settings = before is None or _settings(before) != _settings(after)
    if not (joined or left or settings):
        return None
    return ConversationChanged(after.key, sender, revision, joined, left, settings)


def _settings(conversation: Conversation) -> tuple[object, ...]:
    return conversation.title, conversation.admins, conversation.bots, conversation.expires_in


def _new(update: ConversationUpdate, sender: ServiceId) -> Chat | None:
    with suppress(ValueError):
        return Chat(Conversation.from_update(update, sender))
    return None


def _said(content: Content) -> Said | None:
    """What is said, of whatever account."""
    if isinstance(content, SentTranscript):
        return content.message
    return content if isinstance(content, DataMessage | Edit | Reaction | Deletion) else None
