"""What the assistant of a conversation gets of this device, and what it is asked: chosen, verified, told, and left when it is gone.

An assistant gets an own message only while our consent covers it, and only after it has proved itself and knows our statement and
our view of the members. What it missed meanwhile waits in the chat's record. Whoever knew the conversation once is told of a
withdrawal, verified or not. People are told by ``client.telling``; ``client.chats`` brings both together.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from messaging.client.assistant import Answered, Assistant
from messaging.client.assistant_errors import (
    AssistantError,
    AssistantNotVerified,
    AssistantRefused,
    NoAssistant,
    ReceiptRefused,
)
from messaging.client.assistants import DIRECTORY_AGE_TO_ASK, Assistants, has_forgotten, is_worth_another
from messaging.client.background import Patience, for_each
from messaging.client.chat_records import Chat, ChatRecords, Introduced
from messaging.client.conversation import Statement
from messaging.client.device import Device
from messaging.client.errors import ClientError
from messaging.client.history import ChatMessage
from messaging.client.receipt_checks import NEEDED_SCOPE
from messaging.client.receipts import ReceiptFile, ShownConsent
from messaging.wire.assistant import ConsentReference, RefusalCode, RequestKind, Summary, request_name
from messaging.wire.consent import ConsentScope
from messaging.wire.content import ConsentUpdate, ProfileKeyUpdate, Roster, Told
from messaging.wire.data import DataMessage, Deletion, Edit
from messaging.wire.identifiers import MessageId, ServiceId
from signal_protocol.errors import SignalError

PATIENCE = 15.0  # seconds for which who asks waits for an assistant to connect
PAUSE = 0.5  # seconds between two looks for one
MAX_TRIES = 4  # of one request, at this assistant and others
# Seconds between two tries to do something with the assistant that nobody waits for.
FIRST_PAUSE, LAST_PAUSE = 5.0, 600.0


@dataclass(frozen=True, slots=True)
class Recipient:
    """An assistant that may have a message, and the identity key that it proved: it gets it under that or not at all."""

    assistant: Assistant
    identity_key: bytes

    @property
    def service_id(self) -> ServiceId:
        """Of its account."""
        return self.assistant.service_id


class Sharing:
    """The assistants of the conversations of one device.

    ``announce`` tells people what they do not know yet about a chat: before an assistant hears of it.
    """

    def __init__(
        self,
        device: Device,
        records: ChatRecords,
        assistants: Assistants | None,
        *,
        now: Callable[[], int],
        announce: Callable[[Chat], Awaitable[object]],
        wake: Callable[[], None],
    ) -> None:
        self._device = device
        self._records = records
        self._assistants = assistants
        self._now = now
        self._announce = announce
        self._wake = wake
        # Whom each conversation is shared with, as we or another member said last.
        self._hints: dict[bytes, ServiceId] = {}
        self._due: set[bytes] = set()  # conversations whose assistant is to be looked at, although it is ready
        self._patience = Patience(FIRST_PAUSE, LAST_PAUSE)

    # --- own messages ---

    def is_shared(self, chat: Chat, message: MessageId) -> bool:
        """Whether the assistant may have an own message, for any purpose."""
        now, conversation = self._now(), chat.conversation
        opted_in = conversation.has_opted_in(self._device.service_id, now)
        return opted_in and any(conversation.is_shared(message, scope, now) for scope in ConsentScope)

    async def roster(self, chat: Chat) -> Roster:
        """Whom we count among the members now, under the identity keys that we trust."""
        return await self._records.roster(chat, self._device.service_id, self._device.identity_key)

    async def recipient(self, chat: Chat, message: MessageId) -> Recipient | None:
        """To whom a message may be sent in the same breath as to the members; ``None``: to no assistant, or not yet.

        Nobody else is asked for it, and nothing is waited for but the store.
        """
        await self.roster(chat)
        assistant = self.ready(chat) if self.is_shared(chat, message) else None
        claims = None if assistant is None else assistant.claims
        return None if assistant is None or claims is None else Recipient(assistant, claims.identity_key)

    async def note_sent(self, chat: Chat, message: MessageId, *, shared: bool) -> None:
        """The members have an own message, or what was said of it. If the assistant has it not and may, it gets it later."""
        if not shared and self._assistants is not None and self.is_shared(chat, message):
            if message.timestamp not in chat.unshared:
                chat.unshared.append(message.timestamp)
            await self._records.save(chat)
            self._wake()
        elif shared and self._assistants is not None and self._is_due(chat, self._assistants):
            self._due.add(chat.conversation.key)
            self._wake()

    def ready(self, chat: Chat) -> Assistant | None:
        """The assistant of this conversation if it is verified and knows what it has to, and has all that came before."""
        if self._assistants is None or chat.unshared:
            return None
        assistant = self._assistants.ready(chat.conversation.id)
        return assistant if assistant is not None and self._is_introduced(chat, assistant) else None

    def _is_due(self, chat: Chat, assistants: Assistants) -> bool:
        """Who writes has the assistant looked at now and then, in the background; an idle device asks nobody."""
        assistant = self.ready(chat)
        return assistants.is_stale or (assistant is not None and assistant.is_due)

    # --- what is done in the background ---

    async def look_after_all(self) -> None:
        """See in all conversations that assistants know what they have to; what fails is tried again another time."""
        if self._assistants is not None:
            for chat in list(self._records.chats.values()):
                if self._opted_in(chat):
                    await self.roster(chat)
            await for_each([chat for chat in self._records.chats.values() if self._needs_care(chat)], self._look_after)

    def _needs_care(self, chat: Chat) -> bool:
        if not self._patience.may_try(chat.conversation.key):
            return False
        return self._wants_assistant(chat) or any(True for _ in self._behind(chat))

    def _wants_assistant(self, chat: Chat) -> bool:
        opted_in = chat.conversation.has_opted_in(self._device.service_id, self._now())
        return opted_in and (chat.conversation.key in self._due or self.ready(chat) is None)

    async def _look_after(self, chat: Chat) -> None:
        self._patience.begin(chat.conversation.key)
        try:
            await self.tell_those_who_know(chat)
            if self._wants_assistant(chat):
                self._due.discard(chat.conversation.key)
                await self.introduce(chat)
        except (ClientError, SignalError):
            self._patience.failed(chat.conversation.key)
        else:
            self._patience.done(chat.conversation.key)

    def look_again(self, chat: Chat) -> None:
        """Something has changed: the assistant is looked after at once."""
        self._patience.change(chat.conversation.key)
        self._wake()

    # --- introducing ---

    async def introduce(self, chat: Chat) -> Assistant:
        """Choose the assistant, and see that it knows our statement, the members, and what it missed.

        Raises:
            NoAssistant: there is none that can be used now.
            AssistantError: it went away meanwhile.
            RelayUnreachable, CredentialsRevoked, Displaced: nobody can be asked; see ``Device.send``.
        """
        assistant = await self._choose(chat)
        try:
            await self._introduce_to(chat, assistant)
        except AssistantNotVerified:  # it has just restarted
            assistant = await self._choose(chat)
            await self._introduce_to(chat, assistant)
        return assistant

    async def tell_those_who_know(self, chat: Chat) -> None:
        """Tell whoever may hold something of ours what has changed since: that we withdraw, or who the members are now.

        Of a withdrawal an enclave hears even if it is not trusted any more: it has our messages.

        Raises:
            AssistantUnreachable, RelayUnreachable: somebody could not be told; all others were tried.
        """
        failed: list[ClientError] = []
        async with chat.introducing:
            for assistant, known in list(self._behind(chat)):
                try:
                    await self._tell_again(chat, assistant, known)
                except AssistantNotVerified:
                    await self._forget_if_restarted(chat, assistant, known)
                except ClientError as error:
                    failed.append(error)
        if failed:
            raise failed[0]

    async def _tell_again(self, chat: Chat, assistant: Assistant, known: Introduced) -> None:
        statement = chat.conversation.statement_of(self._device.service_id)
        if statement is not None and not statement.consent.opted_in:
            told = self._introduced(chat, known.identity_key)
            await assistant.withdraw(known.identity_key, ConsentUpdate(chat.conversation.key, statement.signed))
            await self._note_introduced(chat, assistant, told)
        elif assistant.claims is not None:
            await self._tell(chat, assistant)

    def _behind(self, chat: Chat) -> Iterable[tuple[Assistant, Introduced]]:
        """The assistants that were told something else than what is so now, and can be told."""
        statement = chat.conversation.statement_of(self._device.service_id)
        withdrawn = statement is not None and not statement.consent.opted_in
        if self._assistants is None:
            return
        for service_id, known in chat.introduced.items():
            assistant = self._assistants.get(service_id)
            if known != self._introduced(chat, known.identity_key) and (withdrawn or assistant.claims is not None):
                yield assistant, known

    async def _forget_if_restarted(self, chat: Chat, assistant: Assistant, known: Introduced) -> None:
        """An enclave with other keys knows nothing of us any more."""
        if await self._device.trusted_identity(assistant.service_id) != known.identity_key:
            chat.introduced.pop(assistant.service_id, None)
            await self._records.save(chat)

    async def _introduce_to(self, chat: Chat, assistant: Assistant) -> None:
        if not self._is_introduced(chat, assistant):
            await self._announce(chat)  # people hear of a consent before the assistant does
        async with chat.introducing:
            if not self._is_introduced(chat, assistant):
                await self._tell(chat, assistant)
                await self._tell_who_shares(chat, assistant)
            await self._share_missed(chat, assistant)

    async def _tell(self, chat: Chat, assistant: Assistant) -> None:
        if assistant.claims is not None and self._opted_in(chat):
            await self._meet(chat)
        roster = await self.roster(chat)
        claims, statement = assistant.claims, chat.conversation.statement_of(self._device.service_id)
        if claims is None:
            raise AssistantNotVerified
        told = self._introduced(chat, claims.identity_key)
        await self._device.mark_unrestricted(assistant.service_id)
        await assistant.tell(ProfileKeyUpdate(self._device.profile_key))
        if statement is not None:
            await assistant.tell(ConsentUpdate(chat.conversation.key, statement.signed, assistant.service_id))
        if statement is not None and statement.consent.opted_in:
            await assistant.tell(roster)
        await self._note_introduced(chat, assistant, told)

    async def _meet(self, chat: Chat) -> None:
        """Learn the identity keys of members whom this device has not heard of: who has none is in no roster."""

        async def meet(member: ServiceId) -> None:
            if await self._device.trusted_identity(member) is None:
                with suppress(ClientError, SignalError):
                    await self._device.fetch_identity(member)

        await for_each(chat.conversation.others(self._device.service_id), meet)

    async def _note_introduced(self, chat: Chat, assistant: Assistant, told: Introduced) -> None:
        chat.note_introduced(assistant.service_id, told)
        await self._records.save(chat)

    async def _share_missed(self, chat: Chat, assistant: Assistant) -> None:
        me, key = self._device.service_id, chat.conversation.key
        if not chat.unshared:
            return
        try:
            while chat.unshared:
                timestamp = chat.unshared[0]
                message = chat.messages.get(MessageId(me, timestamp))
                if message is not None and self.is_shared(chat, message.id):
                    for content in told_of(message, key, self._now()):
                        await assistant.tell(content)
                # Or else the oldest was pushed out meanwhile, or all were withdrawn.
                if chat.unshared and chat.unshared[0] == timestamp:
                    chat.unshared.popleft()
        finally:
            await self._records.save(chat)

    def _is_introduced(self, chat: Chat, assistant: Assistant) -> bool:
        claims, known = assistant.claims, chat.introduced.get(assistant.service_id)
        return claims is not None and known == self._introduced(chat, claims.identity_key)

    def _introduced(self, chat: Chat, identity_key: bytes) -> Introduced:
        digest = chat.digest_of(self._device.service_id)
        return Introduced(identity_key, digest, chat.roster if self._opted_in(chat) else None)

    def _opted_in(self, chat: Chat) -> bool:
        """Whether that is our latest decision, expired or not."""
        statement = chat.conversation.statement_of(self._device.service_id)
        return statement is not None and statement.consent.opted_in

    # --- hints: who shares with whom ---

    async def _tell_who_shares(self, chat: Chat, assistant: Assistant) -> None:
        """Who shares with another assistant, own devices too, is given a hint that it may be gone; not by everybody, if one has said so."""
        me, key = self._device.service_id, chat.conversation.key
        before, self._hints[key] = self._hints.get(key), assistant.service_id
        statement = chat.conversation.statement_of(me)
        if before in (None, assistant.service_id) or statement is None:
            return
        hint = ConsentUpdate(key, statement.signed, assistant.service_id)

        async def tell(member: ServiceId) -> None:
            with suppress(ClientError):
                if member == me:
                    await self._device.send_to_own_devices(Told(me, hint))
                else:
                    await self._device.send(member, hint)

        await for_each(chat.conversation.opted_in(self._now()), tell)

    def take_hint(self, chat: Chat, assistant: ServiceId) -> None:
        """Another member, or device of ours, shares with this assistant; if we share with another one, that may be gone.

        The directory may say so, or else the other one when it is asked.
        """
        key = chat.conversation.key
        before = self._hints.get(key)
        if before not in (None, assistant) and self._assistants is not None:
            self._hints[key] = assistant
            self._assistants.look_again()
            ours = self._assistants.ready(chat.conversation.id)
            if ours is not None and ours.service_id != assistant:
                ours.doubt()
            self._due.add(key)
            self.look_again(chat)

    # --- asking ---

    async def ask(
        self, chat: Chat, make: Callable[[], RequestKind], *, on_text: Callable[[str], None] | None = None
    ) -> Answered:
        """Ask the assistant of a conversation; one that has forgotten us is told again, one that is gone is left for another.

        Raises:
            AssistantError: what the last one said, or that there is none.
            RelayUnreachable, CredentialsRevoked, Displaced: nobody can be asked; see ``Device.send``.
        """
        assistants = self._assistants
        if assistants is None:
            raise NoAssistant
        began = assistants.monotonic()
        failures: list[AssistantError] = []
        while True:
            try:
                assistant = await self._choose_patiently(chat, assistants, began)
            except NoAssistant as none:
                news = [refusal for refusal in none.refusals if refusal not in failures]
                raise (failures[-1] if failures and not news else none) from None
            try:
                await self._introduce_to(chat, assistant)
                kind = make()
                answered = await assistants.while_there(assistant, assistant.ask(kind, on_text=on_text))
            except AssistantError as error:
                failures.append(error)
                if len(failures) == MAX_TRIES or not self._may_ask_again(chat, assistant, failures):
                    raise
            else:
                check_consents(chat, kind, answered)
                return answered

    def _may_ask_again(self, chat: Chat, assistant: Assistant, failures: list[AssistantError]) -> bool:
        """Do what can be done about the last failure; says whether that was anything."""
        error = failures[-1]
        if has_forgotten(error):
            chat.introduced.pop(assistant.service_id, None)
            if not (isinstance(error, AssistantRefused) and error.code == RefusalCode.NOT_OPTED_IN):
                assistant.distrust()
            return str(error) not in map(str, failures[:-1])
        if is_worth_another(error) and self._assistants is not None:
            self._assistants.leave(assistant, error)
            return True
        return False

    async def _choose_patiently(self, chat: Chat, assistants: Assistants, began: float) -> Assistant:
        """While none is there at all (a relay or an enclave has just restarted), wait a little for one.

        One that was silent before the asking ``began`` is tried again if there is no other, and waited for only once.

        Raises:
            NoAssistant: none came, or those that are there cannot be used.
        """
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                return await assistants.choose(
                    chat.conversation.id, directory_age=DIRECTORY_AGE_TO_ASK, silent_before=began
                )
            except NoAssistant as none:
                if none.refusals or time.monotonic() >= ends:
                    raise
                await asyncio.sleep(PAUSE)

    async def _choose(self, chat: Chat) -> Assistant:
        if self._assistants is None:
            raise NoAssistant
        return await self._assistants.choose(chat.conversation.id)


def without_others(message: DataMessage) -> DataMessage:
    """What an assistant gets of it: no keys of files, no words of others, whom their authors' consent is for, and no names."""
    return replace(message, attachments=(), quote=None, mentions=())


def told_of(message: ChatMessage, key: bytes, now: int) -> list[DataMessage | Edit | Deletion]:
    """What tells the assistant how an own message stands, whatever it knew of it; it is told ``now``.

    An edit that is told late is for whom the message was for, if nobody has come or gone since.
    """
    if message.deleted:
        return [Deletion(message.id.timestamp, now, key)]
    plain = without_others(message.as_data(key))
    edited = [Edit(plain.timestamp, replace(plain, timestamp=message.edited))] if message.edited else []
    return [plain, *edited]


def check_consents(chat: Chat, kind: RequestKind, answered: Answered) -> None:
    """Nobody can have consented unseen: an answer rests on statements that this device knows, and that allow this use.

    Raises:
        ReceiptRefused: it does not.
    """
    needed, result = NEEDED_SCOPE.get(request_name(kind)), answered.result
    for reference in result.consents:
        consent = find_statement(chat, reference).consent
        if not consent.opted_in or (needed is not None and needed not in consent.scopes):
            raise ReceiptRefused("it names somebody who does not allow this use of their messages")
    cited = (
        {cite.author for line in result.kind.lines for cite in line.cites}
        if isinstance(result.kind, Summary)
        else set()
    )
    if cited - {reference.author for reference in result.consents}:
        raise ReceiptRefused("the answer cites somebody whose consent it does not name")


def find_statement(chat: Chat, reference: ConsentReference) -> Statement:
    """The statement that an answer refers to.

    Raises:
        ReceiptRefused: this device has never seen it.
    """
    statement = chat.conversation.find_statement(reference)
    if statement is None:
        raise ReceiptRefused("it names a consent that this device has never seen")
    return statement


def receipt_file(chat: Chat, answered: Answered) -> ReceiptFile:
    """What to keep of an answer, and to show to whoever is named in it.

    Raises:
        ReceiptRefused: the answer has no receipt, or names a statement that this device has never seen.
    """
    if answered.signed_receipt is None:
        raise ReceiptRefused("there is none")
    named = [(reference.author, find_statement(chat, reference)) for reference in answered.result.consents]
    return ReceiptFile(
        bundle=answered.bundle,
        signed=answered.signed_receipt,
        consents=tuple(ShownConsent(author, statement.identity_key, statement.signed) for author, statement in named),
        request=answered.request_bytes,
        answer=answered.result_bytes,
    )
