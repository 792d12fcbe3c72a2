"""What a bot stands on: an account with its conversations. At a relay it is ``bot.session``; in tests it is ``client.testing``."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from messaging.client.bot.inbox import Inbox
from messaging.client.conversation import Conversation
from messaging.client.events import Event
from messaging.client.history import ChatMessage
from messaging.wire.assistant import Result
from messaging.wire.data import AttachmentPointer, Mention
from messaging.wire.identifiers import MessageId, ServiceId


class Account(Protocol):
    """One account, connected. ``key`` is the master key of a conversation.

    What is sent is written down first, and goes out when the relay can be reached; who cannot be reached otherwise is a problem
    that is told, and keeps it from nobody else. A method raises ``UnknownConversation`` if this account is in no such
    conversation, and ``ClientError`` for what cannot be done at all.
    """

    @property
    def me(self) -> ServiceId:
        """The own account."""
        ...

    @property
    def inbox(self) -> Inbox:
        """The events that wait to be handled."""
        ...

    @property
    def conversations(self) -> Sequence[Conversation]:
        """All of them."""
        ...

    def conversation(self, key: bytes) -> Conversation:
        """One of them."""
        ...

    def messages(self, key: bytes) -> Sequence[ChatMessage]:
        """What was said there and is still known, in the order in which this account learnt of it."""
        ...

    def on_passing(self, hear: Callable[[Event], None]) -> None:
        """Have ``hear`` called with what is told while it happens, and never kept."""
        ...

    def name_of(self, who: ServiceId) -> str:
        """What somebody calls themselves; empty if they have not said."""
        ...

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
        """Say something. With ``once``, a name of at most 64 characters, a second call under it says nothing more and returns the
        same name: so a handler that is run again does not repeat itself.
        """
        ...

    async def edit(self, key: bytes, message: MessageId, text: str) -> None:
        """Give an own message another text."""
        ...

    async def delete(self, key: bytes, message: MessageId) -> None:
        """Have an own message forgotten by all."""
        ...

    async def react(self, key: bytes, message: MessageId, emoji: str, *, remove: bool = False) -> None:
        """Put an emoji on a message, or take it back."""
        ...

    async def typing(self, key: bytes, *, started: bool = True) -> None:
        """Show that something is being written. Not kept for anybody who is away."""
        ...

    async def mark_read(self, key: bytes, messages: Iterable[MessageId]) -> None:
        """Tell the authors that their messages were read."""
        ...

    async def upload(self, source: Path | bytes, *, content_type: str, file_name: str = "") -> AttachmentPointer:
        """Encrypt and upload a file, once for all who get the pointer."""
        ...

    async def download(self, pointer: AttachmentPointer, to: Path) -> None:
        """Download and decrypt a file; it appears under its name once it is whole and proved."""
        ...

    async def read(self, pointer: AttachmentPointer, *, most: int) -> bytes:
        """A small file, of at most ``most`` bytes, into memory."""
        ...

    async def create(self, title: str, members: Iterable[ServiceId], *, once: str | None = None) -> Conversation:
        """Begin a conversation; this account is its only admin. With ``once`` a second call under that name returns the first one's."""
        ...

    async def set_title(self, key: bytes, title: str) -> None:
        """Change the title; for admins."""
        ...

    async def set_members(self, key: bytes, members: Iterable[ServiceId]) -> None:
        """Change who is in; for admins."""
        ...

    async def set_admins(self, key: bytes, admins: Iterable[ServiceId]) -> None:
        """Change who may change the conversation; for admins."""
        ...

    async def set_expiry(self, key: bytes, seconds: int) -> None:
        """After how many seconds messages that follow are deleted by who has read them, 0 for never; for admins."""
        ...

    async def leave(self, key: bytes) -> None:
        """Leave a conversation."""
        ...

    async def set_profile(self, name: str, about: str = "") -> None:
        """What this account wants to be called; everybody whom it talks to is told."""
        ...

    async def opt_in(self, key: bytes) -> None:
        """Let the assistant have what this account writes in a conversation, which asking it needs."""
        ...

    async def opt_out(self, key: bytes) -> None:
        """Let the assistant have nothing more, and have it drop what it holds."""
        ...

    async def summarize(self, key: bytes, messages: Iterable[MessageId]) -> Result:
        """A summary of those messages whose authors have opted in, from an assistant whose evidence was appraised."""
        ...
