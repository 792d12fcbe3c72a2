"""The conversations of one device: who is in them, what was said, who lets the assistant read along, and asking it.

What a member decides is written down first, and then made true: other members, own other devices and the assistant are told until
they know (``_reconcile``), after a crash too. A message goes to the members whether or not an assistant can be reached; what it
missed, it gets when it has proved itself. An assistant that has not been verified gets a nonce and nothing else.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar

from attestation import AttestationError
from messaging.client.assistant import (
    Answered,
    Assistant,
    AssistantError,
    AssistantNotVerified,
    AssistantRefused,
    ReceiptRefused,
)
from messaging.client.assistants import (
    DIRECTORY_AGE,
    DIRECTORY_AGE_TO_ASK,
    Assistants,
    NoAssistant,
    has_forgotten,
    is_worth_another,
)
from messaging.client.chat_records import Chat, ChatMessage, ChatRecords, Known
from messaging.client.consent import ConsentRefused, make_consent, verify_consent
from messaging.client.conversation import Conversation, Statement
from messaging.client.device import Device, Received, milliseconds_now
from messaging.client.errors import ClientError, IdentityChanged
from messaging.client.receipts import ReceiptFile, ShownConsent
from messaging.client.stores import Store
from messaging.wire.assistant import (
    AboutMessages,
    Actions,
    ConsentReference,
    Forget,
    QuestionsForMe,
    RefusalCode,
    RequestKind,
    Rewrite,
    Scope,
    StatusRequest,
    SuggestReplies,
    Summarize,
)
from messaging.wire.consent import ALL_SCOPES, ConsentScope
from messaging.wire.content import (
    AnswerFrame,
    ConsentUpdate,
    Content,
    ConversationUpdate,
    DataMessage,
    ProfileKeyUpdate,
    SentTranscript,
    Told,
)
from messaging.wire.identifiers import MessageId, ServiceId

RECONCILE_SECONDS = 5.0  # between two looks at what somebody has not been told yet
MAX_EARLY = 256  # contents kept that came before the conversation that they belong to
MAX_UNSHARED = 500  # own messages of one conversation that wait for the assistant: it keeps no more
PATIENCE = 15.0  # seconds for which who asks waits for an assistant to connect
PAUSE = 0.5  # seconds between two looks for one
MAX_TRIES = 4  # of one request, at this assistant and others

T = TypeVar("T")


class UnknownConversation(ClientError):
    """No such conversation, or this account is not a member of it any more."""

    def __init__(self) -> None:
        super().__init__("this account is in no such conversation")


@dataclass(frozen=True, slots=True)
class Written:
    """A message that was sent. ``failed`` says who did not get it and why; nothing was sent to them."""

    id: MessageId
    failed: Mapping[ServiceId, ClientError]


@dataclass(frozen=True, slots=True)
class _Introduced:
    """What an assistant was told about a conversation; anything else than this has to be told again."""

    identity_key: bytes
    statement: bytes
    revision: int


class Chats:
    """All conversations of one device. Use it in ``async with``, and give it everything that the device receives (:meth:`take`)."""

    def __init__(
        self,
        device: Device,
        records: ChatRecords,
        assistants: Assistants | None = None,
        *,
        now: Callable[[], int] = milliseconds_now,
    ) -> None:
        self._device = device
        self._records = records
        self.assistants = assistants
        self._now = now
        self._last_timestamp = 0
        self._early: list[Received] = []
        self._introduced: dict[tuple[bytes, ServiceId], _Introduced] = {}
        self._unshared: dict[bytes, list[DataMessage]] = {}
        self._hints: dict[bytes, ServiceId] = {}
        self._reconciling = asyncio.Lock()
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        device: Device,
        store: Store,
        assistants: Assistants | None = None,
        *,
        now: Callable[[], int] = milliseconds_now,
    ) -> Self:
        """The conversations that ``store`` holds."""
        return cls(device, await ChatRecords.load(store), assistants, now=now)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

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
        """What was said, in the order in which this device learnt of it."""
        return tuple(self._chat(key).messages.values())

    def unread(self, key: bytes) -> tuple[ChatMessage, ...]:
        """What was said since :meth:`mark_read`."""
        chat = self._chat(key)
        return tuple(chat.messages.values())[chat.read :]

    async def mark_read(self, key: bytes) -> None:
        """All that is there has been read."""
        chat = self._chat(key)
        chat.read = len(chat.messages)
        await self._records.save(chat)

    async def create(self, title: str, members: Iterable[ServiceId]) -> Conversation:
        """Begin a conversation, and tell its members."""
        conversation = Conversation.create(title, [self.me, *members])
        await self._records.add(Chat(conversation, announced_by_us=True))
        await self._device.send_to_own_devices(Told(self.me, conversation.as_update()))
        await self.reconcile()
        return conversation

    async def set_members(self, key: bytes, members: Iterable[ServiceId]) -> None:
        """Change who is in a conversation. Who is out cannot read what follows, and is told; who is in reads from now on."""
        chat = self._chat(key)
        before = chat.conversation
        chat.conversation = before.with_members([self.me, *members])
        chat.announced_by_us = True
        await self._records.save(chat)
        await self._device.send_to_own_devices(Told(self.me, chat.conversation.as_update()))
        for member in set(before.members) - set(chat.conversation.members):
            with suppress(ClientError):
                await self._device.send(member, chat.conversation.as_update())
        await self.reconcile()

    async def write(self, key: bytes, text: str) -> Written:
        """Send a message to all members, and to the assistant if the own consent says so and it is verified.

        Raises:
            UnknownConversation, ContentTooLarge, RelayUnreachable, CredentialsRevoked, Displaced: see ``Device.send``.
        """
        chat = self._chat(key)
        if self.me not in chat.conversation.members:
            raise UnknownConversation
        message = DataMessage(text, self._timestamp(), key)
        named = MessageId(self.me, message.timestamp)
        await self._records.add_message(chat, ChatMessage(named, text))
        failed = await self._send(chat, message)
        await self._device.send_to_own_devices(SentTranscript(message))
        return Written(named, failed)

    # --- consent ---

    async def opt_in(
        self, key: bytes, scopes: Collection[ConsentScope] = ALL_SCOPES, *, expires_at: int | None = None
    ) -> None:
        """Let the assistant have what this account writes from now on, for ``scopes``, until ``expires_at`` (milliseconds).

        Every member is told. The assistant is told once it has proved where it runs; whether it has, the error says.

        Raises:
            UnknownConversation: there is none with this key.
            NoAssistant: no assistant can be used now; the decision stands, and holds for the one that can be.
        """
        await self._decide(key, opted_in=True, scopes=scopes, expires_at=expires_at)
        await self._introduce(self._chat(key))

    async def opt_out(self, key: bytes) -> None:
        """Let the assistant have nothing more, and have it drop what it holds. The next message is under a key it never gets."""
        chat = self._chat(key)
        await self._decide(key, opted_in=False, scopes=(), expires_at=None)
        self._unshared.pop(key, None)
        for assistant in self._told_before(key):
            with suppress(AssistantError, ClientError):
                await self._tell_assistant(chat, assistant)

    # --- asking ---

    async def summarize(self, key: bytes, messages: Iterable[MessageId], names: Mapping[ServiceId, str]) -> Answered:
        """A summary of ``messages``, for us. ``names`` is what we call people.

        Raises:
            AssistantRefused: it will not; also without asking, where the own consent does not allow it.
            NoAssistant: there is none that can be used now.
            AssistantError: silent, or it did not prove what it answered.
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
        """Our own draft in another tone, by the assistant of this conversation."""
        return await self._ask(self._chat(key), lambda: Rewrite(draft, tone), on_text=on_text)

    async def forget(self, key: bytes, *, whole: bool = False) -> Answered:
        """Have the assistant drop our messages of this conversation; with ``whole`` those of every author."""
        return await self._ask(self._chat(key), lambda: Forget(key, whole))

    async def forget_everything(self, key: bytes) -> Answered:
        """Have the assistant of this conversation drop our messages of all conversations."""
        return await self._ask(self._chat(key), lambda: Forget(None))

    async def status(self, key: bytes) -> Answered:
        """How the assistant of this conversation is, and what it holds of ours."""
        return await self._ask(self._chat(key), lambda: StatusRequest(key))

    async def receipt_file(self, key: bytes, answered: Answered) -> ReceiptFile:
        """What to keep of an answer, and to show to whoever is named in it.

        Raises:
            ReceiptRefused: the answer has no receipt, or names a statement that this device has never seen.
        """
        if answered.signed_receipt is None:
            raise ReceiptRefused("there is none")
        return ReceiptFile(
            bundle=answered.bundle,
            signed=answered.signed_receipt,
            consents=tuple([await self._shown(key, reference) for reference in answered.result.consents]),
            request=answered.request_bytes,
            answer=answered.result_bytes,
        )

    async def _shown(self, key: bytes, reference: ConsentReference) -> ShownConsent:
        statement = self._chat(key).conversation.find_statement(reference)
        own = reference.author == self.me
        identity_key = self._device.identity_key if own else await self._device.trusted_identity(reference.author)
        if statement is None or identity_key is None:
            raise ReceiptRefused("it names a consent that this device has never seen")
        return ShownConsent(reference.author, identity_key, statement.signed)

    # --- own devices ---

    async def add_device(self, url: str) -> int:
        """Link another device of this account, and tell it what this one knows; returns its id. See ``Device.add_device``."""
        device_id = await self._device.add_device(url)
        for chat in self._records.chats.values():
            await self._device.send_to_own_devices(Told(self.me, chat.conversation.as_update()))
            for author, statements in chat.conversation.statements.items():
                for statement in statements:
                    update = ConsentUpdate(chat.conversation.key, statement.signed)
                    await self._device.send_to_own_devices(Told(author, update))
        return device_id

    # --- receiving ---

    async def take(self, received: Received) -> bool:
        """Take what the device received; says whether it was for us. Call ``Device.done`` afterwards."""
        known = await self._take(received.sender.service_id, received.content)
        if known is None:
            self._early = [*self._early, received][-MAX_EARLY:]
        async with self._changed:
            self._changed.notify_all()
        return known is not False

    async def receive(self) -> None:
        """Take everything that the device receives, for ever; who is an assistant with other keys is asked for evidence."""
        async for received in self._device.received():
            await self.take(received)
            await self._device.done(received)
            self.look_at_problems()

    def look_at_problems(self) -> tuple[object, ...]:
        """What the device could not read, and who has other keys: returned, but for assistants, which have restarted."""
        problems = self._device.problems()
        restarted = [each for each in problems if isinstance(each, IdentityChanged) and self._restarted(each)]
        if restarted:
            self._wake.set()
        return tuple(each for each in problems if each not in restarted)

    async def wait_until(self, holds: Callable[[], T]) -> T:
        """Wait until something that was taken, or told, makes ``holds`` true; returns what it gave."""
        async with self._changed:
            return await self._changed.wait_for(holds)

    async def _take(self, sender: ServiceId, content: Content) -> bool | None:
        """``True``: taken; ``False``: not for us; ``None``: it belongs to a conversation that we do not know yet."""
        match content:
            case ConversationUpdate():
                return await self._take_update(sender, content)
            case ConsentUpdate():
                return await self._take_consent(sender, content)
            case DataMessage(_, _, bytes() as key):
                chat = self._records.chats.get(key)
                if chat is None:
                    return None
                if sender in chat.conversation.members:
                    message = ChatMessage(MessageId(sender, content.timestamp), content.body)
                    await self._records.add_message(chat, message)
                return True
            case ProfileKeyUpdate(profile_key):
                await self._device.learn_profile_key(sender, profile_key)
                return True
            case SentTranscript(message) if sender == self.me:
                return await self._take(self.me, message)
            case Told(author, told) if sender == self.me:
                return await self._take_told(author, told)
            case AnswerFrame():
                return self.assistants is not None and self.assistants.receive(sender, content)
            case _:
                return False

    async def _take_update(self, sender: ServiceId, update: ConversationUpdate) -> bool:
        chat = self._records.chats.get(update.conversation)
        if chat is None:
            if self.me not in update.members or sender not in update.members:
                return False
            await self._records.add(Chat(Conversation.from_update(update)))
            await self._take_early()
        else:
            with suppress(ValueError):
                changed = chat.conversation.with_update(sender, update)
                if changed is not chat.conversation:
                    chat.conversation, chat.announced_by_us = changed, False
                    await self._records.save(chat)
        self._wake.set()
        return True

    async def _take_early(self) -> None:
        early, self._early = self._early, []
        for received in early:
            await self.take(received)

    async def _take_consent(self, author: ServiceId, update: ConsentUpdate) -> bool | None:
        chat = self._records.chats.get(update.conversation)
        if chat is None:
            return None
        if author == self.me:
            identity_key: bytes | None = self._device.identity_key
        else:
            identity_key = await self._device.trusted_identity(author)
        if identity_key is None:
            return None
        with suppress(ConsentRefused, ValueError):
            statement = Statement(verify_consent(update, author, identity_key), update.consent)
            chat.conversation = chat.conversation.with_statement(author, statement)
            await self._records.save(chat)
            self._note_hint(chat, author, update.assistant)
        return True

    def _note_hint(self, chat: Chat, author: ServiceId, assistant: ServiceId | None) -> None:
        """Somebody shares with another assistant than we do: ours may be gone."""
        ours = self._hints.get(chat.conversation.key)
        if author != self.me and assistant is not None and ours is not None and assistant != ours:
            if self.assistants is not None:
                self.assistants.look_again()
            self._wake.set()

    async def _take_told(self, author: ServiceId, told: ConversationUpdate | ConsentUpdate) -> bool | None:
        match told:
            case ConversationUpdate():
                chat = self._records.chats.get(told.conversation)
                if chat is None:
                    await self._records.add(Chat(Conversation.from_update(told)))
                    await self._take_early()
                else:
                    await self._take_update(self.me, told)
                return True
            case ConsentUpdate():
                if author != self.me:
                    with suppress(ClientError):
                        await self._device.fetch_identity(author)
                taken = await self._take_consent(author, told)
                chat = self._records.chats.get(told.conversation)
                if author == self.me and chat is not None:  # the device that decided has told the others
                    chat.note_told_all(chat.conversation.statement_of(self.me))
                    await self._records.save(chat)
                self._wake.set()
                return taken

    # --- sending ---

    async def _send(self, chat: Chat, message: DataMessage) -> Mapping[ServiceId, ClientError]:
        """To the members, and to the assistant in the same breath if it is ready; else it gets it when it is."""
        conversation = chat.conversation
        others = conversation.others(self.me)
        assistant = self._ready(chat) if self._shares(chat, message) else None
        if assistant is not None:
            with suppress(AssistantNotVerified):
                async with assistant.verified():
                    failed = dict(await self._send_to(chat, (*others, assistant.service_id), message))
                    if isinstance(failed.get(assistant.service_id), IdentityChanged):
                        assistant.distrust()
                    if failed.pop(assistant.service_id, None) is not None:
                        self._keep_for_assistant(message)
                    return failed
        if self._shares(chat, message):
            self._keep_for_assistant(message)
        return await self._send_to(chat, others, message)

    async def _send_to(
        self, chat: Chat, to: tuple[ServiceId, ...], message: DataMessage
    ) -> Mapping[ServiceId, ClientError]:
        """With a sender key in a group; between two people, and with their assistant, pairwise."""
        if len(chat.conversation.members) > 2:
            group = chat.conversation.distribution_id(self._device.address)
            return await self._device.send_to_group(group, to, message)
        failed: dict[ServiceId, ClientError] = {}
        for member in to:
            try:
                await self._device.send(member, message)
            except IdentityChanged as error:
                failed[member] = error
        return failed

    def _shares(self, chat: Chat, message: DataMessage) -> bool:
        named = MessageId(self.me, message.timestamp)
        return any(chat.conversation.is_shared(named, scope, self._now()) for scope in ConsentScope)

    def _keep_for_assistant(self, message: DataMessage) -> None:
        if message.conversation is not None:
            kept = self._unshared.setdefault(message.conversation, [])
            self._unshared[message.conversation] = [*kept, message][-MAX_UNSHARED:]
            self._wake.set()

    def _ready(self, chat: Chat) -> Assistant | None:
        """The assistant of this conversation if it is verified and knows what it has to, and has all that came before."""
        if self.assistants is None or self._unshared.get(chat.conversation.key):
            return None
        assistant = self.assistants.ready(chat.conversation.id)
        return assistant if assistant is not None and self._is_introduced(chat, assistant) else None

    # --- the assistant of a conversation ---

    async def _decide(
        self, key: bytes, *, opted_in: bool, scopes: Collection[ConsentScope], expires_at: int | None
    ) -> None:
        chat = self._chat(key)
        signed = make_consent(
            self._device.sign,
            conversation=key,
            author=self.me,
            timestamp=self._timestamp(),
            opted_in=opted_in,
            scopes=scopes,
            expires_at=expires_at,
        )
        update = ConsentUpdate(key, signed)
        statement = Statement(verify_consent(update, self.me, self._device.identity_key), signed)
        chat.conversation = chat.conversation.with_statement(self.me, statement)
        await self._records.save(chat)
        await self._device.send_to_own_devices(Told(self.me, update))
        await self.reconcile()

    async def _introduce(self, chat: Chat) -> Assistant:
        """Choose the assistant, and see that it knows our statement, the members, and what it missed.

        Raises:
            NoAssistant: there is none that can be used now.
            AssistantError: it went away meanwhile.
        """
        assistant = await self._choose(chat)
        await self._introduce_to(chat, assistant)
        return assistant

    async def _choose(self, chat: Chat, *, directory_age: float = DIRECTORY_AGE) -> Assistant:
        if self.assistants is None:
            raise NoAssistant
        return await self.assistants.choose(chat.conversation.id, directory_age=directory_age)

    async def _choose_patiently(self, chat: Chat) -> Assistant:
        """As :meth:`_choose`; while none is there at all (a relay or an enclave has just restarted), wait a little for one.

        Raises:
            NoAssistant: none came, or those that are there cannot be used.
        """
        ends = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                return await self._choose(chat, directory_age=DIRECTORY_AGE_TO_ASK)
            except NoAssistant as none:
                if none.refusals or asyncio.get_running_loop().time() >= ends:
                    raise
                await asyncio.sleep(PAUSE)

    async def _introduce_to(self, chat: Chat, assistant: Assistant) -> None:
        async with chat.introducing:
            if not self._is_introduced(chat, assistant):
                await self._tell_assistant(chat, assistant)
                await self._moved(chat, assistant)
            await self._share_missed(chat, assistant)

    async def _tell_assistant(self, chat: Chat, assistant: Assistant) -> None:
        conversation, statement = chat.conversation, chat.conversation.statement_of(self.me)
        await self._device.mark_unrestricted(assistant.service_id)
        await assistant.tell(ProfileKeyUpdate(self._device.profile_key))
        if statement is not None:
            await assistant.tell(ConsentUpdate(conversation.key, statement.signed, assistant.service_id))
            await assistant.tell(conversation.roster())

    def _told_before(self, key: bytes) -> list[Assistant]:
        """All assistants that were told about a conversation, and so may hold something of it."""
        told = [service_id for known, service_id in self._introduced if known == key]
        return [] if self.assistants is None else [self.assistants.get(service_id) for service_id in told]

    async def _moved(self, chat: Chat, assistant: Assistant) -> None:
        """Remember what the assistant knows now; members who share with another one are given a hint."""
        claims, key = assistant.claims, chat.conversation.key
        if claims is None:
            raise AssistantNotVerified
        self._introduced[key, assistant.service_id] = self._introduction(chat, claims.identity_key)
        before, self._hints[key] = self._hints.get(key), assistant.service_id
        statement = chat.conversation.statement_of(self.me)
        if before not in (None, assistant.service_id) and statement is not None:
            hint = ConsentUpdate(key, statement.signed, assistant.service_id)
            for member in chat.conversation.others(self.me):
                with suppress(ClientError):
                    await self._device.send(member, hint)

    async def _share_missed(self, chat: Chat, assistant: Assistant) -> None:
        missed = self._unshared.get(chat.conversation.key, [])
        while missed:
            if self._shares(chat, missed[0]):
                await assistant.tell(missed[0])
            missed.pop(0)

    def _is_introduced(self, chat: Chat, assistant: Assistant) -> bool:
        claims = assistant.claims
        known = self._introduced.get((chat.conversation.key, assistant.service_id))
        return claims is not None and known == self._introduction(chat, claims.identity_key)

    def _introduction(self, chat: Chat, identity_key: bytes) -> _Introduced:
        statement = chat.conversation.statement_of(self.me)
        digest = b"" if statement is None else statement.signed.digest()
        return _Introduced(identity_key, digest, chat.conversation.revision)

    def _restarted(self, changed: IdentityChanged) -> bool:
        return self.assistants is not None and self.assistants.identity_changed(changed.service_id)

    async def _ask_about(
        self,
        key: bytes,
        messages: Iterable[MessageId],
        names: Mapping[ServiceId, str],
        purpose: ConsentScope,
        make: Callable[[Scope], AboutMessages],
    ) -> Answered:
        chat = self._chat(key)
        asked = tuple(messages)
        own = chat.conversation.statement_of(self.me)
        if own is None or not own.consent.in_force(self._now()):
            raise AssistantRefused(RefusalCode.NOT_OPTED_IN)
        if purpose not in own.consent.scopes:
            raise AssistantRefused(RefusalCode.OUT_OF_SCOPE)
        return await self._ask(chat, lambda: make(chat.conversation.scope(asked, purpose, names, self._now())))

    async def _ask(
        self, chat: Chat, make: Callable[[], RequestKind], *, on_text: Callable[[str], None] | None = None
    ) -> Answered:
        """Ask the assistant of a conversation; one that has forgotten us is told again, one that is gone is left for another."""
        failures: list[AssistantError] = []
        for _ in range(MAX_TRIES):
            try:
                assistant = await self._choose_patiently(chat)
            except NoAssistant as none:
                raise (failures[-1] if failures else none) from None
            try:
                await self._introduce_to(chat, assistant)
                return await assistant.ask(make(), on_text=on_text)
            except AssistantError as error:
                self._give_up_on(chat, assistant, error, failures)
                failures.append(error)
        raise failures[-1]

    def _give_up_on(
        self, chat: Chat, assistant: Assistant, error: AssistantError, earlier: Collection[AssistantError]
    ) -> None:
        """Do what can be done about an error before asking again; it is raised if that is nothing."""
        if has_forgotten(error) and not any(type(error) is type(each) and str(error) == str(each) for each in earlier):
            self._introduced.pop((chat.conversation.key, assistant.service_id), None)
            if not (isinstance(error, AssistantRefused) and error.code == RefusalCode.NOT_OPTED_IN):
                assistant.distrust()
        elif is_worth_another(error) and self.assistants is not None:
            self.assistants.leave(assistant, error)
        else:
            raise error

    # --- making true what was decided ---

    async def reconcile(self) -> None:
        """Tell whoever does not know yet: members the conversation, our profile key and our statement."""
        async with self._reconciling:
            for chat in list(self._records.chats.values()):
                for member in chat.conversation.others(self.me):
                    with suppress(ClientError):
                        await self._tell(chat, member)
        async with self._changed:
            self._changed.notify_all()

    async def _tell(self, chat: Chat, member: ServiceId) -> None:
        conversation = chat.conversation
        known = chat.told.get(member, Known())
        statement = conversation.statement_of(self.me)
        digest = None if statement is None else statement.signed.digest()
        if chat.announced_by_us and known.revision < conversation.revision + 1:
            await self._device.send(member, conversation.as_update())
            known = replace(known, revision=conversation.revision + 1)
        if not known.profile_key:
            await self._device.send(member, ProfileKeyUpdate(self._device.profile_key))
            known = replace(known, profile_key=True)
        if statement is not None and known.statement != digest:
            hint = self._hints.get(conversation.key)
            await self._device.send(member, ConsentUpdate(conversation.key, statement.signed, hint))
            known = replace(known, statement=digest)
        if known != chat.told.get(member):
            chat.told[member] = known
            await self._records.save(chat)

    async def _run(self) -> None:
        while True:
            await self.reconcile()
            for chat in list(self._records.chats.values()):
                if chat.conversation.has_opted_in(self.me, self._now()) and self._ready(chat) is None:
                    with suppress(AssistantError, ClientError, AttestationError):
                        await self._introduce(chat)  # an idle device asks nobody anything
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(RECONCILE_SECONDS):
                    await self._wake.wait()

    def _chat(self, key: bytes) -> Chat:
        chat = self._records.chats.get(key)
        if chat is None:
            raise UnknownConversation
        return chat

    def _timestamp(self) -> int:
        """Milliseconds since 1970, never the same twice: with the author it names a message."""
        self._last_timestamp = max(self._last_timestamp + 1, self._now())
        return self._last_timestamp
