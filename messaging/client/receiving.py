"""What arrives for the conversations of one device, each content where it belongs.

Nobody is believed beyond what they may say: members about the conversation, authors about their own consent, own devices about what
this account and others said. What arrives before that which it belongs to waits (``client.early``); a crash loses none of it.
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
from messaging.client.errors import ClientError
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
            for received in self._early:
                await self._take_one(received)

    async def _take_one(self, received: Received) -> bool:
        taken = await self._take(received.sender.service_id, received.content)
        if taken is None:
            pushed_out = self._early.keep(received)
            if pushed_out is not None:
                await self._device.done(pushed_out)
            return True
        self._early.forget(received)
        if taken:
            await self._records.flush()  # or it would be acknowledged, and lost with this process
            await self._device.done(received)
        return taken

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
        if chat is None or sender not in chat.conversation.members:
            return None
        event = None if sender == self._me else event_of(sender, key, said)
        if isinstance(said, DataMessage):
            await self._records.add_message(chat, message_of(sender, said), event)
            return True
        known = chat.messages.get(target_of(sender, said))
        changed = None if known is None else known.with_said(sender, said)
        if changed is not None and changed is not known:
            await self._records.change_messages(chat, changed, event=event)
        return True

    async def _take_read(self, sender: ServiceId, timestamps: tuple[int, ...]) -> bool:
        read = [MessageId(self._me, timestamp) for timestamp in timestamps[:MAX_RECEIPTS]]
        chat = next((found for each in read if (found := self._records.chat_of(each, sender))), None)
        if chat is not None:
            named = tuple(each for each in read if each in chat.messages)
            await self._records.note_event(MessagesRead(chat.conversation.key, sender, max(timestamps), named))
        return True

    def _take_typing(self, sender: ServiceId, typing: Typing) -> bool:
        chats = self._records.chats.values()
        for chat in chats:
            if chat.conversation.id == typing.conversation_id and sender in chat.conversation.members:
                self._passing(TypingChanged(chat.conversation.key, sender, typing.timestamp, typing.started))
        return True

    async def _take_update(self, sender: ServiceId, update: ConversationUpdate) -> bool | None:
        chat = self._records.chats.get(update.conversation)
        if chat is not None:
            return await self._take_change(chat, sender, update) if sender in chat.conversation.members else None
        if self._me in update.members and sender in update.members:
            chat = _new(update)
            if chat is not None and self._records.has_room(self._me):
                chat.told[self._me] = Known(True, None, update.revision + 1)  # the sender told all our devices
                await self._enter(chat, _change(sender, None, chat.conversation))
        return True

    async def _take_change(self, chat: Chat, sender: ServiceId, update: ConversationUpdate) -> bool | None:
        """Whoever knows less, or has come apart from us, is told: a member may have told each of us something else."""
        before = chat.conversation
        try:
            changed = before.with_update(sender, update)
        except NotAdmin:
            return None  # not as far as we know
        except TooFarAhead:
            chat.conversation, chat.announced_by_us = chat.conversation.caught_up(), True
            await self._enter(chat)
            return True
        except ValueError:
            return True
        if changed is not chat.conversation:
            chat.note_change(changed, self._me)
            chat.announced_by_us = (
                changed.as_update() != update
            )  # somebody left while others changed it: nobody else has said so
            await self._enter(chat, _change(sender, before, changed))
        elif sender != self._me and changed.as_update() != update:
            chat.told[sender] = replace(chat.told.get(sender, Known()), lost=True)
            await self._records.save(chat)
            self._changed(chat)
        return True

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
        chat = _new(update)
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


def _change(sender: ServiceId, before: Conversation | None, after: Conversation) -> ConversationChanged:
    known = () if before is None else before.members
    settings = before is None or _settings(before) != _settings(after)
    return ConversationChanged(
        after.key,
        sender,
        after.revision,
        tuple(each for each in after.members if each not in known),
        tuple(each for each in known if each not in after.members),
        settings,
    )


def _settings(conversation: Conversation) -> tuple[object, ...]:
    return conversation.title, conversation.admins, conversation.bots, conversation.expires_in


def _new(update: ConversationUpdate) -> Chat | None:
    with suppress(ValueError):
        return Chat(Conversation.from_update(update))
    return None
