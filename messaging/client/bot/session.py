"""A bot's account at a relay: registered with an invite, opened from its folder, connected until the end of the block.

Everything that the bot must not lose is in one sealed store: its keys, its conversations, and the events that wait to be handled.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from attestation import Policy
from attestation.appraisal.policy_file import PolicyKey
from messaging.client.account import Account as RegisteredAccount
from messaging.client.assistants import Assistants
from messaging.client.background import Background
from messaging.client.bot.inbox import Inbox
from messaging.client.bot.logs import say
from messaging.client.bot.settings import NoInvite, Settings
from messaging.client.chats import Chats
from messaging.client.connection import Relay
from messaging.client.conversation import Conversation
from messaging.client.device import Device
from messaging.client.errors import IdentityChanged, NotRegistered
from messaging.client.events import Event
from messaging.client.history import ChatMessage
from messaging.client.policies import accept_policy
from messaging.client.problems import Problem
from messaging.client.stores import Store
from messaging.wire.accounts import number_without_telephone
from messaging.wire.assistant import Result
from messaging.wire.data import AttachmentPointer, Mention
from messaging.wire.identifiers import MessageId, ServiceId
from signal_protocol.operations import SignalCrypto

MAX_UNANSWERED = 20_000  # conversations with people whom a bot never answered: anybody may write to it
LOOK_SECONDS = 1.0  # between two looks at what went wrong


@dataclass(frozen=True, slots=True)
class Home:
    """Where a bot lives. ``key`` (32 bytes) seals the file ``store``; ``invite`` is used once, when there is no account.

    ``policy`` says which enclaves are accepted, under the signature of ``policy_key``; without one the assistant is never asked. With
    ``refuse_new_keys`` somebody whose keys have changed is not answered until the owner has trusted the new ones; else they
    are trusted as they come, as phones do, and the change is told as a problem.
    """

    store: Path
    key: bytes = field(repr=False)
    invite: str | None = field(default=None, repr=False)
    policy: bytes | None = field(default=None, repr=False)
    policy_key: PolicyKey | None = None
    refuse_new_keys: bool = False


class Session:
    """The :class:`~messaging.client.bot.account.Account` of a bot at a relay. Make it with :func:`open_session`."""

    def __init__(self, home: Home, device: Device, chats: Chats, inbox: Inbox) -> None:
        self._home = home
        self._device = device
        self._chats = chats
        self._inbox = inbox
        self.on_problem: Callable[[Problem], None] = _log_problem

    # --- who and what there is ---

    @property
    def me(self) -> ServiceId:
        """The own account."""
        return self._chats.me

    @property
    def inbox(self) -> Inbox:
        """The events that wait to be handled."""
        return self._inbox

    @property
    def chats(self) -> Chats:
        """The conversations, with all that a client can do."""
        return self._chats

    @property
    def conversations(self) -> Sequence[Conversation]:
        """All of them."""
        return self._chats.conversations

    def conversation(self, key: bytes) -> Conversation:
        """One of them."""
        return self._chats.conversation(key)

    def messages(self, key: bytes) -> Sequence[ChatMessage]:
        """What was said in a conversation, as far as this account has it."""
        return self._chats.messages(key)

    def name_of(self, who: ServiceId) -> str:
        """What somebody calls themselves; empty if they have not said."""
        return self._chats.name_of(who)

    def on_passing(self, hear: Callable[[Event], None]) -> None:
        """Have ``hear`` called with what is told while it happens, and never kept."""
        self._chats.on_passing = hear

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
    ) -> MessageId:
        """Say something; see ``Account.write``."""
        written = await self._chats.write(key, text, quote=quote, attachments=attachments, mentions=mentions, once=once)
        return written.id

    async def edit(self, key: bytes, message: MessageId, text: str) -> None:
        """Give an own message another text."""
        await self._chats.edit(key, message, text)

    async def delete(self, key: bytes, message: MessageId) -> None:
        """Have an own message forgotten by all."""
        await self._chats.delete(key, message)

    async def react(self, key: bytes, message: MessageId, emoji: str, *, remove: bool = False) -> None:
        """Put an emoji on a message, or take it back."""
        await self._chats.react(key, message, emoji, remove=remove)

    async def typing(self, key: bytes, *, started: bool = True) -> None:
        """Show that something is being written."""
        await self._chats.typing(key, started=started)

    async def mark_read(self, key: bytes, messages: Iterable[MessageId]) -> None:
        """Tell the authors that their messages were read."""
        await self._chats.send_read(key, messages)

    # --- files ---

    async def upload(self, source: Path | bytes, *, content_type: str, file_name: str = "") -> AttachmentPointer:
        """Encrypt and upload a file."""
        return await self._device.attachments.upload(source, content_type=content_type, file_name=file_name)

    async def download(self, pointer: AttachmentPointer, to: Path) -> None:
        """Download and decrypt a file."""
        await self._device.attachments.download(pointer, to)

    async def read(self, pointer: AttachmentPointer, *, most: int) -> bytes:
        """A small file into memory."""
        return await self._device.attachments.read(pointer, most=most)

    # --- conversations ---

    async def create(self, title: str, members: Iterable[ServiceId], *, once: str | None = None) -> Conversation:
        """Begin a conversation; this account is its only admin."""
        return await self._chats.create(title, members, admins=[self.me], once=once)

    async def set_title(self, key: bytes, title: str) -> None:
        """Change the title."""
        await self._chats.set_title(key, title)

    async def set_members(self, key: bytes, members: Iterable[ServiceId]) -> None:
        """Change who is in."""
        await self._chats.set_members(key, members)

    async def set_admins(self, key: bytes, admins: Iterable[ServiceId]) -> None:
        """Change who may change the conversation."""
        await self._chats.set_admins(key, admins)

    async def set_expiry(self, key: bytes, seconds: int) -> None:
        """After how many seconds messages are deleted by who has read them."""
        await self._chats.set_expiry(key, seconds)

    async def leave(self, key: bytes) -> None:
        """Leave a conversation."""
        await self._chats.leave(key)

    async def set_profile(self, name: str, about: str = "") -> None:
        """What this account wants to be called."""
        await self._chats.set_profile(name, about)

    # --- the assistant ---

    async def opt_in(self, key: bytes) -> None:
        """Let the assistant have what this account writes in a conversation, which asking it needs."""
        await self._chats.opt_in(key)

    async def opt_out(self, key: bytes) -> None:
        """Let the assistant have nothing more, and have it drop what it holds."""
        await self._chats.opt_out(key)

    async def summarize(self, key: bytes, messages: Iterable[MessageId]) -> Result:
        """A summary of those messages whose authors have opted in, from an assistant whose evidence was appraised."""
        members = self.conversation(key).members
        names = {member: self.name_of(member) or f"member {number}" for number, member in enumerate(members, 1)}
        answered = await self._chats.summarize(key, messages, names)
        return answered.result

    # --- what goes wrong ---

    async def look_after(self) -> None:
        """Trust new keys where that is wanted, and tell what went wrong."""
        for problem in self._chats.problems():
            if isinstance(problem, IdentityChanged) and not self._home.refuse_new_keys:
                await self._chats.trust(problem.service_id, problem.identity_key)
            self.on_problem(problem)


def _log_problem(problem: Problem) -> None:
    """What went wrong, and of whom nothing: a new identity key of a member, or the type of a failure."""
    say(logging.WARNING, "problem", kind=type(problem).__name__, error=getattr(problem, "reason", ""))


@asynccontextmanager
async def open_account(settings: Settings, *, policy: Policy | None = None) -> AsyncIterator[Session]:
    """The same for a bot that runs alone: with a connection and a worker for cryptography of its own.

    Raises:
        SettingsError: its folder or its key cannot be used.
        As :func:`open_session`.
    """
    key = await asyncio.to_thread(settings.store_key)
    signed = await asyncio.to_thread(settings.signed_policy)
    home = Home(
        settings.store_path, key, settings.invite, signed, settings.policy_key, refuse_new_keys=settings.refuse_new_keys
    )
    async with (
        Relay(settings.relay, ca_file=settings.ca) as relay,
        SignalCrypto.start() as crypto,
        open_session(home, relay, crypto, policy=policy) as session,
    ):
        yield session


@asynccontextmanager
async def open_session(
    home: Home, relay: Relay, crypto: SignalCrypto, *, policy: Policy | None = None
) -> AsyncIterator[Session]:
    """The bot that lives in ``home``, connected until the end of the block; it is registered if it has no account yet.

    ``policy`` stands in for the signed one of its home.

    Raises:
        NoInvite: it has no account, and there is no invite.
        RegistrationRefused: the relay did not take the invite.
        WrongKey, StoreInUse, CorruptStore: its store cannot be opened.
        RelayUnreachable, TrustRootChanged: it cannot be reached now, or is another one.
        CredentialsRevoked, Displaced: the account is gone, or runs elsewhere.
        MalformedPolicy, PolicyDowngraded: the policy is not one of this key, or older than one that was accepted before.
    """
    async with Store.open(home.store, home.key) as store:
        device = await _device(home, store, relay, crypto)
        inbox = await Inbox.open(store)
        accepted = policy or await _accepted_policy(home, store)
        assistants = None if accepted is None else Assistants(device, relay.assistants, accepted)
        opening = Chats.open(device, store, assistants, journal=inbox.journal, most_unanswered=MAX_UNANSWERED)
        async with device, await opening as chats:
            session = Session(home, device, chats, inbox)
            looking = Background(session.look_after, LOOK_SECONDS, device.note_failure)
            async with _running(chats.receive, looking.run):
                await device.connected()  # and not until all that waits is here: handling begins at once
                yield session
            await inbox.close()


async def _accepted_policy(home: Home, store: Store) -> Policy | None:
    if home.policy is None or home.policy_key is None:
        return None
    return await accept_policy(store, home.policy, home.policy_key, datetime.now(UTC))


async def _device(home: Home, store: Store, relay: Relay, crypto: SignalCrypto) -> Device:
    try:
        await RegisteredAccount.load(store)
    except NotRegistered:
        return await _register(home, store, relay, crypto)
    return await Device.open(store, relay, crypto)


async def _register(home: Home, store: Store, relay: Relay, crypto: SignalCrypto) -> Device:
    invite = home.invite
    if not invite:
        raise NoInvite

    async def code() -> str:
        return invite

    return await Device.register(store, relay, crypto, number=number_without_telephone(), code=code)


@asynccontextmanager
async def _running(*works: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run these until the end of the block; what ends one of them before is raised there."""
    block = asyncio.current_task()
    failed: list[BaseException] = []

    async def run(work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # whoever is in the block has to hear of it, whatever it is
            failed.append(error)
            if block is not None:
                block.cancel()

    tasks = [asyncio.create_task(run(work)) for work in works]
    try:
        yield
    except asyncio.CancelledError:
        if failed:
            if block is not None:
                block.uncancel()
            raise failed[0] from None
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
