"""Events of conversations as updates of Telegram's Bot API. No I/O: what things are called is told by a :class:`Naming`.

An event makes any number of updates: a message with three files is three, and some events are none. A kind that Telegram does not have
is there for who asks for it by name: ``deleted_message`` and ``messages_read``.

Source: Telegram Bot API 9, "Update", "Message", "Chat", "ChatMemberUpdated", "MessageReactionUpdated".
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from messaging.bots.formatting import entities_of
from messaging.client.conversation import Conversation
from messaging.client.events import (
    ConversationChanged,
    Event,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    MessagesRead,
    Reacted,
)
from messaging.wire.data import AttachmentPointer, Mention, Quote
from messaging.wire.identifiers import MessageId, ServiceId

Json = dict[str, Any]

UNASKED = frozenset({"message", "edited_message", "my_chat_member"})  # what Telegram sends of these by default
ASKED = frozenset({"message_reaction", "chat_member", "deleted_message", "messages_read"})
NAMELESS = "Unnamed"  # Telegram's users all have a name
_LATEST = 253_402_300_799  # seconds since 1970: the last that a date of four digits has, which is as far as many a library reads
_ADMIN_RIGHTS = [
    "can_be_edited",
    "is_anonymous",
    "can_manage_chat",
    "can_delete_messages",
    "can_manage_video_chats",
    "can_restrict_members",
    "can_promote_members",
    "can_change_info",
    "can_invite_users",
    "can_post_stories",
    "can_edit_stories",
    "can_delete_stories",
]
_HELD_RIGHTS = frozenset(
    {"can_manage_chat", "can_restrict_members", "can_promote_members", "can_change_info", "can_invite_users"}
)


class Naming(Protocol):
    """What the API calls things. Asking for the number of something gives it one."""

    @property
    def me(self) -> ServiceId:
        """The bot's account."""
        ...

    @property
    def username(self) -> str:
        """The bot's."""
        ...

    def name_of(self, who: ServiceId) -> str:
        """What somebody calls themselves; empty if that is not known."""
        ...

    def conversation(self, key: bytes) -> Conversation | None:
        """As this account knows it; ``None`` if it is not in it any more."""
        ...

    def user(self, who: ServiceId) -> int:
        """The number of an account."""
        ...

    def chat(self, key: bytes, peer: ServiceId | None) -> int:
        """The number of a conversation; ``peer`` is the only other member."""
        ...

    def message(self, chat: int, message: MessageId, part: int = 0) -> int:
        """The number of a message in a chat, or of a further file in it."""
        ...

    def notice(self, chat: int, name: str) -> int:
        """The number of what is a message only at Telegram."""
        ...

    def file(self, pointer: AttachmentPointer) -> str:
        """The id of a file."""
        ...


@dataclass(frozen=True, slots=True)
class Update:
    """One update, without its number. ``name`` is the same whenever it is told."""

    name: str
    kind: str
    body: Json = field(repr=False)

    def numbered(self, number: int) -> Json:
        """As it travels."""
        return {"update_id": number, self.kind: self.body}


_KINDS: dict[type[Event], tuple[str, ...]] = {
    MessageReceived: ("message",),
    MessageEdited: ("edited_message",),
    MessageDeleted: ("deleted_message",),
    Reacted: ("message_reaction",),
    ConversationChanged: ("my_chat_member", "chat_member", "message"),
    MessagesRead: ("messages_read",),
}


def is_wanted(kind: str, allowed: Collection[str] | None) -> bool:
    """Whether a bot that allowed these kinds gets this one; ``None`` and none stand for the default, as at Telegram."""
    return kind in (allowed or UNASKED)


def wanted_updates(event: Event, naming: Naming, allowed: Collection[str] | None, *, now: int) -> list[Update]:
    """The updates that ``event`` makes for a bot that allowed these kinds. Of other events nothing is looked at."""
    if not any(is_wanted(kind, allowed) for kind in _KINDS.get(type(event), ())):
        return []
    return [update for update in updates_of(event, naming, now=now) if is_wanted(update.kind, allowed)]


def updates_of(event: Event, naming: Naming, *, now: int) -> list[Update]:
    """The updates that ``event`` makes. ``now`` is seconds since 1970, for events that have no time.

    Of what the account does itself there are none, apart from its coming and going.
    """
    if event.sender == naming.me and not isinstance(event, ConversationChanged):
        return []
    bodies: list[tuple[str, Json]]
    match event:
        case MessageReceived():
            bodies = [("message", body) for body in messages_of(event, naming)]
        case MessageEdited():
            bodies = [("edited_message", _edited(event, naming))]
        case MessageDeleted():
            bodies = [("deleted_message", _about(event, event.message, naming))]
        case Reacted():
            bodies = [("message_reaction", _reaction(event, naming))]
        case ConversationChanged():
            bodies = _change(event, naming, now)
        case MessagesRead():
            bodies = [("messages_read", _read(event, naming))]
        case _:
            bodies = []
    return [Update(f"{event.id}.{place}", kind, body) for place, (kind, body) in enumerate(bodies)]


# --- people and chats ---


def user_of(who: ServiceId, naming: Naming, conversation: Conversation | None = None) -> Json:
    """A ``User``."""
    name = naming.name_of(who) or NAMELESS
    user = {"id": naming.user(who), "is_bot": _is_bot(who, naming, conversation), "first_name": name}
    return {**user, "username": naming.username} if who == naming.me else user


def _is_bot(who: ServiceId, naming: Naming, conversation: Conversation | None) -> bool:
    return who == naming.me or (conversation is not None and conversation.bot(who) is not None)


def chat_of(key: bytes, naming: Naming, sender: ServiceId | None = None) -> Json:
    """A ``Chat``. Of a conversation that this account does not know any more, what is known is who spoke last: ``sender``.

    It is a private one as long as there is one other member, if it began so: then its number is positive, too.
    """
    conversation = naming.conversation(key)
    others = () if conversation is None else conversation.others(naming.me)
    if conversation is None and sender is not None and sender != naming.me:
        others = (sender,)
    number = naming.chat(key, others[0] if len(others) == 1 else None)
    if len(others) == 1 and number > 0:
        return {"id": number, "type": "private", "first_name": naming.name_of(others[0]) or NAMELESS}
    return {"id": number, "type": "group", "title": ("" if conversation is None else conversation.title) or NAMELESS}


def member_of(who: ServiceId, conversation: Conversation | None, naming: Naming) -> Json:
    """A ``ChatMember``."""
    user = user_of(who, naming, conversation)
    if conversation is None or who not in conversation.members:
        return {"status": "left", "user": user}
    if who not in conversation.admins:
        return {"status": "member", "user": user}
    rights = {right: right in _HELD_RIGHTS for right in _ADMIN_RIGHTS}
    return {"status": "administrator", "user": user, **rights}


# --- messages ---


def messages_of(event: MessageReceived, naming: Naming) -> list[Json]:
    """The ``Message`` objects of one message: one for each file, the first with the text."""
    files = event.attachments or (None,)
    return [_message(event, pointer, part, naming) for part, pointer in enumerate(files)]


def _message(event: MessageReceived, pointer: AttachmentPointer | None, part: int, naming: Naming) -> Json:
    body = _envelope(event.conversation, event.message, naming, part)
    if part == 0:
        body |= _text(event.text, event.mentions, naming, is_caption=pointer is not None)
        if event.quote is not None:
            body["reply_to_message"] = _quoted(event.conversation, event.quote, naming)
    if pointer is not None:
        body |= file_of(pointer, naming)
    if len(event.attachments) > 1:
        body["media_group_id"] = event.id
    return body


def _envelope(key: bytes, message: MessageId, naming: Naming, part: int = 0) -> Json:
    chat = chat_of(key, naming, message.author)
    return {
        "message_id": naming.message(chat["id"], message, part),
        "from": user_of(message.author, naming, naming.conversation(key)),
        "chat": chat,
        "date": _date(message.timestamp),
    }


def _date(milliseconds: int) -> int:
    return min(milliseconds // 1000, _LATEST)


def _text(text: str, mentions: Iterable[Mention], naming: Naming, *, is_caption: bool) -> Json:
    if not text:
        return {}
    entities = entities_of(text)
    entities += [
        {"type": "text_mention", "offset": each.start, "length": each.length, "user": user_of(each.who, naming)}
        for each in mentions
    ]
    entities.sort(key=lambda each: (each["offset"], -each["length"]))
    named = ("caption", "caption_entities") if is_caption else ("text", "entities")
    return {named[0]: text, **({named[1]: entities} if entities else {})}


def _quoted(key: bytes, quote: Quote, naming: Naming) -> Json:
    return {**_envelope(key, quote.message, naming), "text": quote.text}


def file_of(pointer: AttachmentPointer, naming: Naming) -> Json:
    """The member of a ``Message`` that holds its file. Pixels and seconds are not known before it is downloaded: they are 0."""
    file_id = naming.file(pointer)
    file = {"file_id": file_id, "file_unique_id": file_id, "file_size": pointer.size}
    named = {"mime_type": pointer.content_type} | ({"file_name": pointer.file_name} if pointer.file_name else {})
    match pointer.content_type.partition("/")[0]:
        case "image":
            return {"photo": [{**file, "width": 0, "height": 0}]}
        case "audio":
            return {"audio": {**file, **named, "duration": 0}}
        case "video":
            return {"video": {**file, **named, "duration": 0, "width": 0, "height": 0}}
        case _:
            return {"document": {**file, **named}}


# --- what is done with messages ---


def _edited(event: MessageEdited, naming: Naming) -> Json:
    body = _envelope(event.conversation, event.message, naming)
    return {
        **body,
        "edit_date": _date(event.timestamp),
        "text": "",
        **_text(event.text, (), naming, is_caption=False),
    }


def _about(event: Event, message: MessageId, naming: Naming) -> Json:
    chat = chat_of(event.conversation, naming, event.sender)
    return {
        "chat": chat,
        "message_id": naming.message(chat["id"], message),
        "user": user_of(event.sender, naming, naming.conversation(event.conversation)),
        "date": _date(event.timestamp),
    }


def _reaction(event: Reacted, naming: Naming) -> Json:
    said = [{"type": "emoji", "emoji": event.emoji}]
    old, new = (said, []) if event.removed else ([], said)
    return {**_about(event, event.message, naming), "old_reaction": old, "new_reaction": new}


def _read(event: MessagesRead, naming: Naming) -> Json:
    chat = chat_of(event.conversation, naming, event.sender)
    numbers = [naming.message(chat["id"], message) for message in event.messages]
    user = user_of(event.sender, naming, naming.conversation(event.conversation))
    return {"chat": chat, "message_ids": numbers, "user": user, "date": _date(event.timestamp)}


# --- who comes and goes ---


def _change(event: ConversationChanged, naming: Naming, now: int) -> list[tuple[str, Json]]:
    conversation = naming.conversation(event.conversation)
    base: Json = {
        "chat": chat_of(event.conversation, naming, event.sender),
        "from": user_of(event.sender, naming, conversation),
        "date": now,
    }
    is_new = naming.me in event.joined  # to this account, all who are in it have come with it
    joined = (naming.me,) if is_new else event.joined
    found: list[tuple[str, Json]] = []
    for who in (*joined, *event.left):
        kind = "my_chat_member" if who == naming.me else "chat_member"
        found.append((kind, {**base, **_member_change(who, conversation, naming, came=who in joined)}))
    return found if base["chat"]["type"] == "private" else [*found, *_notices(event, joined, base, naming)]


def _member_change(who: ServiceId, conversation: Conversation | None, naming: Naming, *, came: bool) -> Json:
    user = user_of(who, naming, conversation)
    left, member = {"status": "left", "user": user}, {"status": "member", "user": user}
    if came:
        now_is = member_of(who, conversation, naming)
        return {"old_chat_member": left, "new_chat_member": member if now_is["status"] == "left" else now_is}
    return {"old_chat_member": member, "new_chat_member": left}


def _notices(
    event: ConversationChanged, joined: Iterable[ServiceId], base: Json, naming: Naming
) -> list[tuple[str, Json]]:
    """The messages that Telegram puts into a group when somebody comes or goes."""
    conversation = naming.conversation(event.conversation)

    def notice(name: str, **said: object) -> tuple[str, Json]:
        number = naming.notice(base["chat"]["id"], f"{event.id} {name}")
        return "message", {"message_id": number, **base, **said}

    came = [user_of(who, naming, conversation) for who in joined]
    gone = [user_of(who, naming, conversation) for who in event.left if who != naming.me]
    notices = [notice("joined", new_chat_members=came)] if came else []
    return [*notices, *(notice(f"left {user['id']}", left_chat_member=user) for user in gone)]
