"""What a bot says: the API's parameters as calls of its account, and what was said as Telegram's messages."""

import hashlib
import json
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from messaging.bots import parameters as takes
from messaging.bots.errors import BadRequest, Conflict, Forbidden
from messaging.bots.formatting import Plain, UserMention, plain
from messaging.bots.running import Session
from messaging.bots.updates import Json, messages_of
from messaging.client.chats import UnknownConversation
from messaging.client.conversation import Conversation
from messaging.client.events import MessageReceived
from messaging.client.stores import StoreTransaction
from messaging.wire.data import AttachmentPointer, Mention, Quote
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import MAX_CONTENT_TYPE, MAX_EMOJI, MAX_FILE_NAME

ATTACHED = "attach://"
_ANY = "application/octet-stream"
_USUAL = {
    "photo": "image/jpeg",
    "audio": "audio/mpeg",
    "video": "video/mp4",
    "voice": "audio/ogg",
    "animation": "video/mp4",
    "document": _ANY,
}
_TAKEN_BACK = "\N{THUMBS UP SIGN}"  # whichever it was: a member has one reaction on a message


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a request, on this machine's disk until the request is answered."""

    path: Path
    file_name: str = field(repr=False)
    content_type: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sender:
    """Says things as one bot. ``once`` names the request: under a name, a message is sent once."""

    session: Session
    files: Mapping[str, Upload] = field(default_factory=dict, repr=False)
    once: str | None = field(default=None, repr=False)

    # --- what numbers mean ---

    async def chat(self, chat_id: int | str) -> tuple[bytes, Conversation]:
        """The conversation with a number.

        Raises:
            UnknownConversation: there is none.
            Forbidden: this account is not in it any more.
        """
        if not isinstance(chat_id, int):
            raise UnknownConversation  # "@name": nothing has a public name here
        feed = self.session.feed
        key = await feed.records.run(lambda db: feed.names(db).numbers.conversation(chat_id))
        if key is None:
            raise UnknownConversation
        conversation = self.session.account.conversation(key)
        if self.session.account.me not in conversation.members:
            raise Forbidden("Forbidden: bot is not a member of the chat")
        return key, conversation

    async def user(self, number: int) -> ServiceId:
        """The account with a number.

        Raises:
            BadRequest: there is none.
        """
        feed = self.session.feed
        found = await feed.records.run(lambda db: feed.names(db).numbers.service_id(number))
        if found is None:
            raise BadRequest("Bad Request: user not found")
        return found

    async def messages(self, chat_id: int | str, numbers: Sequence[int]) -> list[MessageId]:
        """The messages with these numbers in a chat.

        Raises:
            BadRequest: one of them is not known, or not any more.
        """
        feed = self.session.feed
        chat = chat_id if isinstance(chat_id, int) else 0

        def find(db: StoreTransaction) -> list[MessageId | None]:
            names = feed.names(db)
            return [names.numbers.message_id(chat, number) for number in numbers]

        found = await feed.records.run(find)
        known = [message for message in found if message is not None]
        if len(known) < len(numbers):
            raise BadRequest("Bad Request: message not found")
        return known

    async def pointer(self, file_id: str) -> AttachmentPointer:
        """The file with an id.

        Raises:
            BadRequest: there is none, or not any more.
        """
        feed = self.session.feed
        found = await feed.records.run(lambda db: feed.names(db).pointer(file_id))
        if found is None:
            raise BadRequest("Bad Request: wrong file_id")
        return found

    # --- saying ---

    async def text(self, given: takes.SendMessage) -> Json:
        """Send a text; returns it as a ``Message``."""
        _refuse_buttons(given.reply_markup)
        said = plain(given.text, given.parse_mode, given.entities)
        if not said.text.strip():
            raise BadRequest("Bad Request: message text is empty")
        return (await self._write(given.chat_id, said, given.reply))[0]

    async def file(self, given: takes.Captioned, value: str, kind: str) -> Json:
        """Send one file, which is called ``kind`` in the request; returns it as a ``Message``."""
        _refuse_buttons(given.reply_markup)
        await self.chat(given.chat_id)
        said = plain(given.caption, given.parse_mode, given.caption_entities)
        pointer = await self._pointer_of(value or f"{ATTACHED}{kind}", kind)
        return (await self._write(given.chat_id, said, given.reply, [pointer]))[0]

    async def group(self, given: takes.SendMediaGroup) -> list[Json]:
        """Send several files in one message; returns a ``Message`` for each."""
        _refuse_buttons(given.reply_markup)
        await self.chat(given.chat_id)
        captions = [plain(each.caption, each.parse_mode).text for each in given.media if each.caption]
        pointers = [await self._pointer_of(each.media, each.type) for each in given.media]
        return await self._write(given.chat_id, Plain("\n".join(captions)), given.reply, pointers)

    async def edit(self, given: takes.Edit, text: str, entities: Sequence[Mapping[str, Any]]) -> Json:
        """Give an own message another text; returns it as a ``Message``."""
        _refuse_buttons(given.reply_markup)
        key, _ = await self.chat(given.chat_id)
        (message,) = await self._own(given.chat_id, [given.message_id], "edited")
        said = plain(text, given.parse_mode, entities)
        await self.session.account.edit(key, message, said.text)
        (told,) = await self._told(key, message, said.text, None, (), ())
        return {**told, "edit_date": told["date"]}

    async def delete(self, chat_id: int | str, numbers: Sequence[int]) -> None:
        """Have own messages forgotten by all."""
        key, _ = await self.chat(chat_id)
        for message in await self._own(chat_id, numbers, "deleted"):
            await self.session.account.delete(key, message)

    async def react(self, given: takes.SetMessageReaction) -> None:
        """Put an emoji on a message, or take it back if none is given."""
        key, _ = await self.chat(given.chat_id)
        (message,) = await self.messages(given.chat_id, [given.message_id])
        emojis = [_emoji(each) for each in given.reaction]
        if len(emojis) > 1:
            raise BadRequest("Bad Request: a message has one reaction of a member")
        emoji = emojis[0] if emojis else _TAKEN_BACK
        await self.session.account.react(key, message, emoji, remove=not emojis)

    async def _own(self, chat_id: int | str, numbers: Sequence[int], done: str) -> list[MessageId]:
        found = await self.messages(chat_id, numbers)
        if any(message.author != self.session.account.me for message in found):
            raise BadRequest(f"Bad Request: message can't be {done}: it is not the bot's")
        return found

    async def _write(
        self,
        chat_id: int | str,
        said: Plain,
        reply: takes.ReplyParameters | None,
        attachments: Sequence[AttachmentPointer] = (),
    ) -> list[Json]:
        key, _ = await self.chat(chat_id)
        quote = await self._quote(chat_id, reply)
        mentions = await self._mentions(said.mentions)
        digest = digest_of(key, said.text, quote, attachments, mentions)
        await self._check_once(digest, note=False)
        message = await self.session.account.write(
            key, said.text, quote=quote, attachments=attachments, mentions=mentions, once=self.once
        )
        await self._check_once(digest, note=True)  # and not before: what could not be said may be said otherwise
        return await self._told(key, message, said.text, quote, attachments, mentions)

    async def _check_once(self, digest: bytes, *, note: bool) -> None:
        """See that nothing else was said under the same name, and ``note`` that this was.

        Raises:
            Conflict: something else was.
        """
        if (once := self.once) is None:
            return
        feed = self.session.feed

        def check(transaction: StoreTransaction) -> bool:
            numbers = feed.names(transaction).numbers
            return numbers.says_once(once, digest) if note else numbers.may_say(once, digest)

        if not await feed.records.run(check):
            raise Conflict("Conflict: the idempotency key was used for another message")

    async def _told(
        self,
        key: bytes,
        message: MessageId,
        text: str,
        quote: MessageId | None,
        attachments: Iterable[AttachmentPointer],
        mentions: Iterable[Mention],
    ) -> list[Json]:
        """An own message as Telegram's."""
        said = MessageReceived(
            key,
            message.author,
            message.timestamp,
            text,
            None if quote is None else Quote(quote),
            tuple(attachments),
            tuple(mentions),
        )
        feed = self.session.feed
        return await feed.records.run(lambda db: messages_of(said, feed.names(db)))

    async def _quote(self, chat_id: int | str, reply: takes.ReplyParameters | None) -> MessageId | None:
        if reply is None:
            return None
        if reply.chat_id not in (None, chat_id):
            raise BadRequest("Bad Request: replies to other chats are not supported")
        try:
            return (await self.messages(chat_id, [reply.message_id]))[0]
        except BadRequest:
            if reply.allow_sending_without_reply:
                return None
            raise BadRequest("Bad Request: message to be replied not found") from None

    async def _mentions(self, mentions: Iterable[UserMention]) -> list[Mention]:
        return [Mention(each.start, each.length, await self.user(each.user)) for each in mentions]

    async def _pointer_of(self, value: str, kind: str) -> AttachmentPointer:
        if "://" in value and not value.startswith(ATTACHED):
            raise BadRequest("Bad Request: the gateway fetches no URLs: send the file")
        if not value.startswith(ATTACHED):
            return await self.pointer(value)
        upload = self.files.get(value.removeprefix(ATTACHED))
        if upload is None:
            raise BadRequest("Bad Request: there is no file in the request")
        return await self.session.account.upload(
            upload.path, content_type=content_type_of(upload, kind), file_name=upload.file_name[:MAX_FILE_NAME]
        )


def digest_of(
    key: bytes,
    text: str,
    quote: MessageId | None,
    attachments: Iterable[AttachmentPointer],
    mentions: Iterable[Mention],
) -> bytes:
    """What is said in a conversation, in 32 bytes. A file counts by its size, type and name: each upload has other keys."""
    quoted = None if quote is None else [str(quote.author), quote.timestamp]
    files = [[each.size, each.content_type, each.file_name] for each in attachments]
    named = [[each.start, each.length, str(each.who)] for each in mentions]
    return hashlib.sha256(json.dumps([key.hex(), text, quoted, files, named]).encode()).digest()


def content_type_of(upload: Upload, kind: str) -> str:
    """What a file is, by the method that sends it, its own word, and its name: the first that says more than that it is one."""
    usual = _USUAL.get(kind, _ANY)
    family = usual.partition("/")[0]
    guesses = (upload.content_type, mimetypes.guess_type(upload.file_name)[0] or "")
    fitting = [each for each in guesses if each and each != _ANY and (usual == _ANY or each.startswith(f"{family}/"))]
    return (fitting or [usual])[0][:MAX_CONTENT_TYPE]


def _refuse_buttons(markup: Mapping[str, Any] | None) -> None:
    """A bot that waits for a button that nobody sees would wait for ever."""
    if markup and (markup.get("inline_keyboard") or markup.get("keyboard")):
        raise BadRequest("Bad Request: there are no keyboards here: ask for a command or a word")


def _emoji(reaction: Mapping[str, Any]) -> str:
    emoji = reaction.get("emoji")
    if reaction.get("type") != "emoji" or not isinstance(emoji, str) or not 0 < len(emoji) <= MAX_EMOJI:
        raise BadRequest("Bad Request: a reaction is one emoji")
    return emoji
