"""One person of the story: a real device with its own keys and store, a conversation, and a choice about the assistant."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from attestation import Policy
from messaging.client import Device, Received, Relay, Store
from messaging.client.assistant import Assistant, EvidenceRefused
from messaging.client.conversation import Conversation
from messaging.wire.content import ConsentUpdate, Content, ConversationUpdate, DataMessage, MessageId, Replies, Summary
from messaging.wire.identifiers import ServiceId
from signal_protocol.operations import SignalCrypto


class Member:
    """What one person's application does: receive, remember, write, and share own messages after opting in."""

    def __init__(self, name: str, device: Device, assistant: ServiceId, policy: Policy) -> None:
        self.name = name
        self.device = device
        self.assistant = Assistant(device, assistant, policy)
        self.messages: dict[MessageId, str] = {}  # in the order in which they were written or arrived
        self.delivered = 0  # messages of others that arrived and could be read
        self._listening = [self.assistant]
        self._conversation: Conversation | None = None
        self._last_timestamp = 0
        self._changed = asyncio.Condition()

    @property
    def service_id(self) -> ServiceId:
        """Of this person's account."""
        return self.device.service_id

    @property
    def conversation(self) -> Conversation:
        """The conversation, once it has been created or its invitation has arrived."""
        if self._conversation is None:
            raise LookupError("not in a conversation yet")
        return self._conversation

    @property
    def is_in_conversation(self) -> bool:
        """Whether the invitation has arrived."""
        return self._conversation is not None

    @property
    def has_opted_in(self) -> bool:
        """Whether the assistant gets this person's messages."""
        return self.service_id in self.conversation.opted_in(self.assistant.service_id)

    async def found(self, conversation: Conversation) -> None:
        """Begin a conversation and tell its other members."""
        self._conversation = conversation
        await self._send_each(conversation.as_update())

    async def opt_in(self) -> None:
        """Let the assistant have what this person writes from now on, and tell everybody. It was verified before."""
        consent = ConsentUpdate(self.conversation.key, self.assistant.service_id, True, self._timestamp())
        await self.assistant.announce(consent)
        self._conversation = self.conversation.with_consent(self.service_id, consent)
        await self._send_each(consent)

    async def write(self, text: str) -> MessageId:
        """Send a message to every other member and, after opting in, to the assistant too."""
        message = DataMessage(text, self._timestamp(), self.conversation.key)
        named = MessageId(self.service_id, message.timestamp)
        self.messages[named] = text
        await self._send_each(message)
        if self.has_opted_in:
            await self.assistant.share(message)
        return named

    async def refusal_under(self, policy: Policy) -> str:
        """What another policy says to fresh evidence of the same assistant; empty if it accepts."""
        other = Assistant(self.device, self.assistant.service_id, policy)
        self._listening.append(other)
        try:
            await other.verify()
        except EvidenceRefused as refused:
            return str(refused)
        finally:
            self._listening.remove(other)
        return ""

    async def ask(self, names: Mapping[ServiceId, str], replies: int) -> tuple[Summary, Replies]:
        """Ask the assistant for a summary of the conversation, and for ``replies`` replies to send now."""
        scope = self.conversation.scope(self.messages, self.assistant.service_id, names)
        return await self.assistant.summarize(scope), await self.assistant.suggest_replies(scope, replies)

    async def wait_until(self, holds: Callable[["Member"], bool]) -> None:
        """Wait until something that was received makes ``holds`` true."""
        async with self._changed:
            await self._changed.wait_for(lambda: holds(self))

    async def receive(self) -> None:
        """Take what arrives, for ever."""
        async for received in self.device.received():
            await self._take(received)
            await self.device.done(received)

    async def _take(self, received: Received) -> None:
        sender, content = received.sender.service_id, received.content
        async with self._changed:
            match content:
                case ConversationUpdate() if self._conversation is None and self.service_id in content.members:
                    self._conversation = Conversation.from_update(content)
                case ConsentUpdate():
                    with suppress(LookupError, ValueError):  # of a conversation that we are not in
                        self._conversation = self.conversation.with_consent(sender, content)
                case DataMessage() if self._conversation is not None and content.conversation == self.conversation.key:
                    self._remember(MessageId(sender, content.timestamp), content.body)
                case _:
                    any(assistant.receive(sender, content) for assistant in self._listening)
            self._changed.notify_all()

    def _remember(self, message: MessageId, text: str) -> None:
        if message not in self.messages:  # at least once: a second copy changes nothing
            self.messages[message] = text
            self.delivered += 1

    async def _send_each(self, content: Content) -> None:
        async with asyncio.TaskGroup() as sends:
            for other in self.conversation.others(self.service_id):
                sends.create_task(self.device.send(other, content))

    def _timestamp(self) -> int:
        """Milliseconds since 1970, never the same twice: with the author it names a message."""
        self._last_timestamp = max(self._last_timestamp + 1, time.time_ns() // 1_000_000)
        return self._last_timestamp


@asynccontextmanager
async def a_member(
    name: str,
    *,
    number: str,
    code: Callable[[], str],
    folder: Path,
    relay: Relay,
    crypto: SignalCrypto,
    assistant: ServiceId,
    policy: Policy,
) -> AsyncIterator[Member]:
    """Register ``number`` and be online until the end; ``code`` reads the verification code that the relay sent."""
    async with Store.open(folder / f"{number.removeprefix('+')}.db", secrets.token_bytes(32)) as store:

        async def read_code() -> str:
            return code()

        device = await Device.register(store, relay, crypto, number=number, code=read_code)
        async with device:
            await device.ready()
            member = Member(name, device, assistant, policy)
            receiving = asyncio.create_task(member.receive())
            try:
                yield member
            finally:
                receiving.cancel()
                with suppress(asyncio.CancelledError):
                    await receiving
