"""One person of the story: a real device with its own keys and store, conversations, and a choice about the assistant."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from attestation import Policy
from messaging.client import Device, Relay, Store
from messaging.client.assistant import Answered, Assistant
from messaging.client.assistants import Assistants
from messaging.client.chats import Chats
from messaging.client.conversation import Conversation
from messaging.client.device import milliseconds_now
from messaging.wire.identifiers import MessageId, ServiceId
from signal_protocol.operations import SignalCrypto

ANSWER_SECONDS = 20.0  # for which the cast waits for an assistant


class Member:
    """What one person's application does, in one conversation."""

    def __init__(self, name: str, device: Device, chats: Chats, assistants: Assistants) -> None:
        self.name = name
        self.device = device
        self.chats = chats
        self.assistants = assistants

    @property
    def service_id(self) -> ServiceId:
        """Of this person's account."""
        return self.device.service_id

    @property
    def conversation(self) -> Conversation:
        """The conversation, once it has been created or its invitation has arrived."""
        return self.chats.conversations[0]

    @property
    def is_in_conversation(self) -> bool:
        """Whether the invitation has arrived."""
        return bool(self.chats.conversations)

    @property
    def texts(self) -> dict[MessageId, str]:
        """What was said, in the order in which it was written or arrived."""
        return {message.id: message.text for message in self.chats.messages(self.conversation.key)}

    @property
    def delivered(self) -> int:
        """Messages of others that arrived and could be read."""
        return sum(message.author != self.service_id for message in self.texts)

    def sees_opted_in(self) -> frozenset[ServiceId]:
        """Who lets the assistant have their messages, as far as this person knows."""
        return self.conversation.opted_in(milliseconds_now())

    async def write(self, text: str) -> MessageId:
        """Send a message to every other member and, after opting in, to the assistant too."""
        written = await self.chats.write(self.conversation.key, text)
        for error in written.failed.values():
            raise error
        return written.id

    async def assistant(self) -> Assistant:
        """The assistant that this conversation goes to, verified."""
        return await self.assistants.choose(self.conversation.id)

    async def ask(self, names: Mapping[ServiceId, str], replies: int) -> tuple[Answered, Answered, Answered, Answered]:
        """Ask for a summary of the conversation, questions for this person, actions, and replies to send now."""
        key, messages = self.conversation.key, tuple(self.texts)
        return (
            await self.chats.summarize(key, messages, names),
            await self.chats.questions_for_me(key, messages, names),
            await self.chats.actions(key, messages, names),
            await self.chats.suggest_replies(key, messages, names, replies),
        )

    async def wait_until(self, holds: Callable[["Member"], bool]) -> None:
        """Wait until something that was received makes ``holds`` true."""
        await self.chats.wait_until(lambda: holds(self))


@asynccontextmanager
async def a_member(
    name: str,
    *,
    number: str,
    code: Callable[[], str],
    folder: Path,
    relay: Relay,
    crypto: SignalCrypto,
    policy: Policy,
) -> AsyncIterator[Member]:
    """Register ``number`` and be online until the end; ``code`` reads the verification code that the relay sent."""
    async with Store.open(folder / f"{number.removeprefix('+')}.db", secrets.token_bytes(32)) as store:

        async def read_code() -> str:
            return code()

        device = await Device.register(store, relay, crypto, number=number, code=read_code)
        async with device:
            await device.ready()
            assistants = Assistants(device, relay.assistants, policy, deadline=ANSWER_SECONDS)
            async with await Chats.open(device, store, assistants) as chats:
                receiving = asyncio.create_task(chats.receive())
                try:
                    yield Member(name, device, chats, assistants)
                finally:
                    receiving.cancel()
                    with suppress(asyncio.CancelledError):
                        await receiving
