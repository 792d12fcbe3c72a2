"""What each method takes, as its caller writes it: JSON, or forms whose values are text, with JSON in them where Telegram has that.

A parameter that is not named here is ignored, as newer clients may say more; what would be misunderstood is refused by the method.
"""

import base64
import json
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from messaging.bots.errors import BadRequest
from messaging.bots.limits import (
    DEFAULT_CONNECTIONS,
    DEFAULT_LEASE,
    MAX_CAPTION,
    MAX_COMMANDS,
    MAX_CONNECTIONS,
    MAX_CONSUMER,
    MAX_DESCRIPTION,
    MAX_LEASE,
    MAX_LISTED,
    MAX_NAME,
    MAX_OVERLAP,
    MAX_POLL,
    MAX_SCOPE,
    MAX_SECRET_TOKEN,
    MAX_SIGNING_BYTES,
    MAX_SIGNING_SECRET,
    MAX_SUMMARIZED,
    MAX_TEXT,
    MAX_URL,
    MIN_LEASE,
    MIN_SIGNING_BYTES,
    ROTATION_OVERLAP,
)

T = TypeVar("T")


def _from_text(value: object) -> object:
    """JSON in a form's field. What is not JSON stays text, which is then refused for what it is."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _signing_secret(text: str) -> str:
    """A secret as Standard Webhooks writes it."""
    try:
        size = len(base64.b64decode(text.removeprefix("whsec_"), validate=True))
    except ValueError:
        size = 0
    if text and not (text.startswith("whsec_") and MIN_SIGNING_BYTES <= size <= MAX_SIGNING_BYTES):
        raise ValueError("whsec_ and base64 of 24 to 64 bytes")
    return text


Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Json = Annotated[T, BeforeValidator(_from_text)]
ChatId = Annotated[Int64 | Annotated[str, Field(max_length=64)], Field(union_mode="left_to_right")]
Entities = Json[list[dict[str, Any]]]
Numbers = Json[Annotated[list[Int64], Field(max_length=MAX_LISTED)]]
Kinds = Json[Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=64)]]
ScopeText = Annotated[str, Field(max_length=64)]
FileText = Annotated[str, Field(max_length=512)]


class _Silent(BaseModel):
    """Does not show what it holds: texts stand in it, and secrets."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    __str__ = __repr__


class Parameters(_Silent):
    """The parameters of one method."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Read what was given.

        Raises:
            BadRequest: a parameter is missing, or is not what it should be; its name is told, and nothing else.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            names = {str(each["loc"][0]) for each in error.errors(include_input=False) if each["loc"]}
            known = sorted(names & set(cls.model_fields))
            raise BadRequest(f"Bad Request: wrong or missing: {', '.join(known) or 'parameters'}") from None


class Nothing(Parameters):
    """No parameters."""


# --- updates ---


class GetUpdates(Parameters):
    """``lease`` and ``consumer`` are ours: with one of them several consumers share the bot."""

    offset: Int64 = 0
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = MAX_LISTED
    timeout: Annotated[int, Field(ge=0, le=MAX_POLL)] = 0
    allowed_updates: Kinds | None = None
    consumer: Annotated[str, Field(max_length=MAX_CONSUMER)] = ""
    lease: Annotated[int, Field(ge=MIN_LEASE, le=MAX_LEASE)] | None = None

    @property
    def is_leased(self) -> bool:
        """Whether it is one of several consumers who asks."""
        return self.lease is not None or bool(self.consumer)

    @property
    def lease_seconds(self) -> int:
        """For which the updates are the consumer's."""
        return DEFAULT_LEASE if self.lease is None else self.lease


class OfConsumer(Parameters):
    """Updates that a consumer was given."""

    update_ids: Numbers
    consumer: Annotated[str, Field(max_length=MAX_CONSUMER)] = ""


class SetWebhook(Parameters):
    """Telegram's, without a certificate of one's own and a fixed address. ``signing_secret``, ours, is what deliveries are signed with
    (Standard Webhooks: ``whsec_`` and base64 of 24 to 64 bytes); without it one is made, which getWebhookSecret shows.
    """

    url: Annotated[str, Field(max_length=MAX_URL)] = ""
    max_connections: Annotated[int, Field(ge=1, le=MAX_CONNECTIONS)] = DEFAULT_CONNECTIONS
    allowed_updates: Kinds | None = None
    drop_pending_updates: bool = False
    secret_token: Annotated[str, Field(max_length=MAX_SECRET_TOKEN, pattern=r"^[A-Za-z0-9_-]*$")] = ""
    signing_secret: Annotated[str, Field(max_length=MAX_SIGNING_SECRET), AfterValidator(_signing_secret)] = ""
    ip_address: str = ""
    certificate: str = ""


class DeleteWebhook(Parameters):
    """Telegram's."""

    drop_pending_updates: bool = False


class GetWebhookSecret(Parameters):
    """``rotate`` makes another one first."""

    rotate: bool = False


class GetParked(Parameters):
    """Those behind ``after``."""

    after: Int64 = 0
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = MAX_LISTED


class Parked(Parameters):
    """Parked events, by their ids."""

    ids: Numbers


class RotateToken(Parameters):
    """``overlap`` is seconds for which the present token stays valid."""

    overlap: Annotated[int, Field(ge=0, le=MAX_OVERLAP)] = ROTATION_OVERLAP


# --- messages ---


class ReplyParameters(_Silent):
    """Telegram's, within one chat."""

    message_id: Int64
    chat_id: ChatId | None = None
    allow_sending_without_reply: bool = False


class InChat(Parameters):
    """A method about one chat."""

    chat_id: ChatId


class OfMessage(InChat):
    """A method about one message."""

    message_id: Int64


class Sending(InChat):
    """What all that sends takes."""

    reply_parameters: Json[ReplyParameters] | None = None
    reply_to_message_id: Int64 | None = None
    allow_sending_without_reply: bool = False
    reply_markup: Json[dict[str, Any]] | None = None

    @property
    def reply(self) -> ReplyParameters | None:
        """The message that is answered, in Telegram's new or old way of saying it."""
        if self.reply_parameters is not None:
            return self.reply_parameters
        if self.reply_to_message_id is None:
            return None
        return ReplyParameters(
            message_id=self.reply_to_message_id, allow_sending_without_reply=self.allow_sending_without_reply
        )


class SendMessage(Sending):
    """Telegram's."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    parse_mode: str | None = None
    entities: Entities = []


class Captioned(Sending):
    """Files, with a text."""

    caption: Annotated[str, Field(max_length=MAX_CAPTION)] = ""
    parse_mode: str | None = None
    caption_entities: Entities = []


class SendDocument(Captioned):
    """``document`` is a file in the same request, or the id of one."""

    document: FileText = ""


class SendPhoto(Captioned):
    """``photo`` is a file in the same request, or the id of one."""

    photo: FileText = ""


class SendAudio(Captioned):
    """``audio`` is a file in the same request, or the id of one."""

    audio: FileText = ""


class SendVideo(Captioned):
    """``video`` is a file in the same request, or the id of one."""

    video: FileText = ""


class SendVoice(Captioned):
    """``voice`` is a file in the same request, or the id of one."""

    voice: FileText = ""


class SendAnimation(Captioned):
    """``animation`` is a file in the same request, or the id of one."""

    animation: FileText = ""


class InputMedia(_Silent):
    """One file of a group."""

    type: Annotated[str, Field(max_length=32)]
    media: FileText
    caption: Annotated[str, Field(max_length=MAX_CAPTION)] = ""
    parse_mode: str | None = None


class SendMediaGroup(Sending):
    """Several files in one message."""

    media: Json[Annotated[list[InputMedia], Field(min_length=2, max_length=10)]]


class Edit(OfMessage):
    """Another text for a message in a chat."""

    parse_mode: str | None = None
    reply_markup: Json[dict[str, Any]] | None = None


class EditMessageText(Edit):
    """Telegram's."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    entities: Entities = []


class EditMessageCaption(Edit):
    """Telegram's."""

    caption: Annotated[str, Field(max_length=MAX_CAPTION)] = ""
    caption_entities: Entities = []


class DeleteMessages(InChat):
    """Telegram's."""

    message_ids: Numbers


class SetMessageReaction(OfMessage):
    """Telegram's, with one emoji at most."""

    reaction: Json[Annotated[list[dict[str, Any]], Field(max_length=16)]] = []


class SendChatAction(InChat):
    """Whatever the action, others see that something is being written."""

    action: Annotated[str, Field(max_length=32)]


class GetFile(Parameters):
    """Telegram's."""

    file_id: FileText


# --- chats ---


class OfMember(InChat):
    """A method about a member."""

    user_id: Int64


class SetChatTitle(InChat):
    """Telegram's."""

    title: Annotated[str, Field(min_length=1, max_length=128)]


class Summarize(InChat):
    """``opt_in`` lets the assistant have what this bot writes from now on, which asking it needs once."""

    message_ids: Json[Annotated[list[Int64], Field(min_length=1, max_length=MAX_SUMMARIZED)]]
    opt_in: bool = False


# --- the bot itself ---


class Localized(Parameters):
    """Telegram's; here is one text for all languages, and commands for each."""

    language_code: Annotated[str, Field(max_length=8)] = ""


class SetMyName(Localized):
    """Telegram's."""

    name: Annotated[str, Field(max_length=MAX_NAME)] = ""


class SetMyDescription(Localized):
    """Telegram's."""

    description: Annotated[str, Field(max_length=MAX_DESCRIPTION)] = ""


class SetMyShortDescription(Localized):
    """Telegram's."""

    short_description: Annotated[str, Field(max_length=120)] = ""


class BotCommand(_Silent):
    """Telegram's."""

    command: Annotated[str, Field(pattern=r"^/?[a-z0-9_]{1,32}$")]
    description: Annotated[str, Field(min_length=1, max_length=256)]


class OfCommands(Localized):
    """A list of commands, by scope and language."""

    scope: Json[Annotated[dict[ScopeText, ScopeText | Int64], Field(max_length=MAX_SCOPE)]] | None = None

    @property
    def key(self) -> str:
        """What the list is kept under."""
        scope = self.scope or {"type": "default"}
        return json.dumps([sorted(scope.items()), self.language_code])


class SetMyCommands(OfCommands):
    """Telegram's."""

    commands: Json[Annotated[list[BotCommand], Field(max_length=MAX_COMMANDS)]]
