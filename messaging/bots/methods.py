"""The methods of the API: what each takes, who may call it, and what it does. Names and shapes are Telegram's; ours are marked.

Source: Telegram Bot API 9. How a request comes in and an answer goes out belongs to ``bots.http``.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from messaging.bots import parameters as takes
from messaging.bots.errors import ApiError, BadRequest, Forbidden, Internal, NotFound, NotSupported, told_of
from messaging.bots.feed import sound
from messaging.bots.limits import MAX_COMMAND_LISTS, MAX_LISTED
from messaging.bots.records import Webhook
from messaging.bots.running import RunningBot
from messaging.bots.sending import Sender, Upload
from messaging.bots.ssrf import TargetPolicy, TargetRefused, check_target
from messaging.bots.tokens import MANAGE, READ, SEND, Token
from messaging.bots.updates import Json, chat_of, member_of, updates_of, user_of
from messaging.bots.webhooks import new_signing_secret
from messaging.client.bot.inbox import ParkedEvent
from messaging.client.conversation import Conversation
from messaging.client.errors import ClientError
from messaging.client.stores import StoreTransaction
from messaging.serving.logs import get_logger
from messaging.wire.assistant import Refusal, RefusalCode, Summary, SummaryLine
from messaging.wire.identifiers import ServiceId

P = TypeVar("P", bound=takes.Parameters)


@dataclass(frozen=True, slots=True)
class Context:
    """What a method works with: the bot, who calls, files that came along, and the name under which it is done only once."""

    running: RunningBot
    token: Token | None
    policy: TargetPolicy
    files: Mapping[str, Upload] = field(default_factory=dict, repr=False)
    once: str | None = field(default=None, repr=False)

    @property
    def sender(self) -> Sender:
        """Says things as this bot."""
        return Sender(self.running.session, self.files, self.once)


Run = Callable[[Context, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Method:
    """One method. ``files`` are the parameters that may be files; ``ours`` says that Telegram does not have it.

    A token needs ``scope``, and those that it needs ``also``. One that ``waits`` may take as long as its caller likes.
    """

    name: str
    scope: str
    takes: type[takes.Parameters]
    run: Run
    summary: str
    files: tuple[str, ...] = ()
    ours: bool = False
    also: tuple[str, ...] = ()
    waits: bool = False

    @property
    def scopes(self) -> frozenset[str]:
        """All that a token needs."""
        return frozenset({self.scope, *self.also})


_METHODS: list[Method] = []


def _method(
    name: str,
    scope: str,
    kind: type[P],
    summary: str,
    *,
    files: tuple[str, ...] = (),
    ours: bool = False,
    also: tuple[str, ...] = (),
    waits: bool = False,
) -> Callable[[Callable[[Context, P], Awaitable[Any]]], Callable[[Context, P], Awaitable[Any]]]:
    def register(run: Callable[[Context, P], Awaitable[Any]]) -> Callable[[Context, P], Awaitable[Any]]:
        _METHODS.append(Method(name, scope, kind, run, summary, files, ours, also, waits))
        return run

    return register


# --- updates ---


@_method(
    "getUpdates",
    READ,
    takes.GetUpdates,
    "Get updates by long polling; with `lease` or `consumer`, share them.",
    waits=True,
)
async def _get_updates(context: Context, given: takes.GetUpdates) -> list[Json]:
    running = context.running
    running.check_not_delivering()
    polling = running.session.polling
    await running.allow(given.allowed_updates)
    if given.is_leased:
        if given.offset:
            raise BadRequest("Bad Request: with a lease there is no offset: use confirmUpdates")
        return await polling.lease(given.consumer, limit=given.limit, wait=given.timeout, lease=given.lease_seconds)
    if given.offset < 0:
        await polling.forget_all(but=min(-given.offset, MAX_LISTED))
    return await polling.poll(offset=max(given.offset, 0), limit=given.limit, wait=given.timeout)


@_method("confirmUpdates", READ, takes.OfConsumer, "Say that leased updates are over.", ours=True)
async def _confirm_updates(context: Context, given: takes.OfConsumer) -> int:
    return await context.running.session.polling.confirm(given.consumer, given.update_ids)


@_method("failUpdates", READ, takes.OfConsumer, "Have leased updates tried again after a pause.", ours=True)
async def _fail_updates(context: Context, given: takes.OfConsumer) -> int:
    return await context.running.session.polling.fail(given.consumer, given.update_ids)


@_method("getParked", MANAGE, takes.GetParked, "List events that failed so often that they were set aside.", ours=True)
async def _get_parked(context: Context, given: takes.GetParked) -> list[Json]:
    session = context.running.session
    parked = await session.account.inbox.parked(after=given.after, most=given.limit)

    def tell(db: StoreTransaction) -> list[Json]:
        names = session.feed.names(db)
        return [_parked(each, updates_of(sound(each.event, names), names, now=0)) for each in parked]

    return await session.feed.records.run(tell)


def _parked(parked: ParkedEvent, updates: list[Any]) -> Json:
    return {
        "id": parked.number,
        "event": parked.event.id,
        "reason": parked.reason,
        "attempts": parked.attempts,
        "date": parked.parked_at // 1000,
        "updates": [{each.kind: each.body} for each in updates],
    }


@_method("replayParked", MANAGE, takes.Parked, "Have parked events handled again.", ours=True)
async def _replay_parked(context: Context, given: takes.Parked) -> int:
    return await context.running.session.account.inbox.replay(*given.ids)


@_method("dropParked", MANAGE, takes.Parked, "Forget parked events.", ours=True)
async def _drop_parked(context: Context, given: takes.Parked) -> int:
    return await context.running.session.account.inbox.drop(*given.ids)


# --- webhooks ---


@_method("setWebhook", MANAGE, takes.SetWebhook, "Have updates posted to a URL; an empty one ends that.")
async def _set_webhook(context: Context, given: takes.SetWebhook) -> bool:
    if given.certificate or "certificate" in context.files:
        raise BadRequest("Bad Request: the gateway trusts no certificate of a bot: ask its operator")
    if given.ip_address:
        raise BadRequest("Bad Request: a fixed address is not supported")
    webhook = None if not given.url else await _webhook(context, given)
    await context.running.allow(given.allowed_updates)
    if given.drop_pending_updates:
        await context.running.session.polling.forget_all()
    await context.running.set_webhook(webhook)
    return True


async def _webhook(context: Context, given: takes.SetWebhook) -> Webhook:
    try:
        await check_target(context.policy, given.url)
    except TargetRefused as refused:
        raise BadRequest(f"Bad Request: bad webhook: {refused.reason}") from None
    before = context.running.bot.webhook
    secret = given.signing_secret or (new_signing_secret() if before is None else before.signing_secret)
    return Webhook(given.url, secret, given.secret_token, given.max_connections)


@_method("deleteWebhook", MANAGE, takes.DeleteWebhook, "End the delivery to a URL.")
async def _delete_webhook(context: Context, given: takes.DeleteWebhook) -> bool:
    await context.running.set_webhook(None)
    if given.drop_pending_updates:
        await context.running.session.polling.forget_all()
    return True


@_method("getWebhookInfo", MANAGE, takes.Nothing, "How the delivery to a URL is going.")
async def _get_webhook_info(context: Context, _given: takes.Nothing) -> Json:
    running = context.running
    webhook, delivery = running.bot.webhook, running.delivery
    info: Json = {
        "url": "" if webhook is None else webhook.url,
        "has_custom_certificate": False,
        "pending_update_count": running.session.feed.waiting,
    }
    if running.bot.allowed_updates is not None:
        info["allowed_updates"] = list(running.bot.allowed_updates)
    if webhook is not None:
        info["max_connections"] = webhook.max_connections
    if delivery is not None and delivery.last_error is not None:
        info |= {"last_error_date": delivery.last_error.date, "last_error_message": delivery.last_error.reason}
    return info


@_method(
    "getWebhookSecret",
    MANAGE,
    takes.GetWebhookSecret,
    "The secret with which deliveries are signed (Standard Webhooks).",
    ours=True,
)
async def _get_webhook_secret(context: Context, given: takes.GetWebhookSecret) -> str:
    webhook = context.running.bot.webhook
    if webhook is None:
        raise BadRequest("Bad Request: there is no webhook")
    if given.rotate:
        webhook = replace(webhook, signing_secret=new_signing_secret())
        await context.running.set_webhook(webhook)
    return webhook.signing_secret


# --- messages ---


@_method("sendMessage", SEND, takes.SendMessage, "Send a text.")
async def _send_message(context: Context, given: takes.SendMessage) -> Json:
    return await context.sender.text(given)


@_method("sendDocument", SEND, takes.SendDocument, "Send a file.", files=("document",))
async def _send_document(context: Context, given: takes.SendDocument) -> Json:
    return await context.sender.file(given, given.document, "document")


@_method("sendPhoto", SEND, takes.SendPhoto, "Send a picture.", files=("photo",))
async def _send_photo(context: Context, given: takes.SendPhoto) -> Json:
    return await context.sender.file(given, given.photo, "photo")


@_method("sendAudio", SEND, takes.SendAudio, "Send a piece of music.", files=("audio",))
async def _send_audio(context: Context, given: takes.SendAudio) -> Json:
    return await context.sender.file(given, given.audio, "audio")


@_method("sendVideo", SEND, takes.SendVideo, "Send a video.", files=("video",))
async def _send_video(context: Context, given: takes.SendVideo) -> Json:
    return await context.sender.file(given, given.video, "video")


@_method("sendVoice", SEND, takes.SendVoice, "Send a recording.", files=("voice",))
async def _send_voice(context: Context, given: takes.SendVoice) -> Json:
    return await context.sender.file(given, given.voice, "voice")


@_method("sendAnimation", SEND, takes.SendAnimation, "Send a moving picture.", files=("animation",))
async def _send_animation(context: Context, given: takes.SendAnimation) -> Json:
    return await context.sender.file(given, given.animation, "animation")


@_method("sendMediaGroup", SEND, takes.SendMediaGroup, "Send several files in one message.", files=("media",))
async def _send_media_group(context: Context, given: takes.SendMediaGroup) -> list[Json]:
    return await context.sender.group(given)


@_method("editMessageText", SEND, takes.EditMessageText, "Give an own message another text.")
async def _edit_message_text(context: Context, given: takes.EditMessageText) -> Json:
    return await context.sender.edit(given, given.text, given.entities)


@_method("editMessageCaption", SEND, takes.EditMessageCaption, "Give an own message with a file another text.")
async def _edit_message_caption(context: Context, given: takes.EditMessageCaption) -> Json:
    return await context.sender.edit(given, given.caption, given.caption_entities)


@_method("deleteMessage", SEND, takes.OfMessage, "Have an own message forgotten by all.")
async def _delete_message(context: Context, given: takes.OfMessage) -> bool:
    await context.sender.delete(given.chat_id, [given.message_id])
    return True


@_method("deleteMessages", SEND, takes.DeleteMessages, "Have own messages forgotten by all.")
async def _delete_messages(context: Context, given: takes.DeleteMessages) -> bool:
    await context.sender.delete(given.chat_id, given.message_ids)
    return True


@_method("setMessageReaction", SEND, takes.SetMessageReaction, "Put an emoji on a message, or take it back.")
async def _set_message_reaction(context: Context, given: takes.SetMessageReaction) -> bool:
    await context.sender.react(given)
    return True


@_method("sendChatAction", SEND, takes.SendChatAction, "Show that something is being written.")
async def _send_chat_action(context: Context, given: takes.SendChatAction) -> bool:
    key, _ = await context.sender.chat(given.chat_id)
    await context.running.session.account.typing(key)
    return True


@_method("getFile", READ, takes.GetFile, "Where a file can be downloaded: `/file/bot<token>/<file_path>`.")
async def _get_file(context: Context, given: takes.GetFile) -> Json:
    pointer = await context.sender.pointer(given.file_id)
    name = pointer.file_name.replace("/", "_") or "file"
    return {
        "file_id": given.file_id,
        "file_unique_id": given.file_id,
        "file_size": pointer.size,
        "file_path": f"{given.file_id}/{name}",
    }


# --- chats ---


@_method("getChat", READ, takes.InChat, "What is known of a chat.")
async def _get_chat(context: Context, given: takes.InChat) -> Json:
    key, conversation = await context.sender.chat(given.chat_id)
    feed = context.running.session.feed
    chat = await feed.records.run(lambda db: chat_of(key, feed.names(db)))
    gifts = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels")
    full: Json = {
        **chat,
        "accent_color_id": 0,
        "max_reaction_count": 1,
        "accepted_gift_types": dict.fromkeys(gifts, False),
    }
    if conversation.expires_in:
        full["message_auto_delete_time"] = conversation.expires_in
    return full


@_method("getChatAdministrators", READ, takes.InChat, "The members of a chat who may change it.")
async def _get_chat_administrators(context: Context, given: takes.InChat) -> list[Json]:
    _, conversation = await context.sender.chat(given.chat_id)
    return await _members(context, conversation, *conversation.admins)


@_method("getChatMemberCount", READ, takes.InChat, "How many members a chat has.")
async def _get_chat_member_count(context: Context, given: takes.InChat) -> int:
    _, conversation = await context.sender.chat(given.chat_id)
    return len(conversation.members)


@_method("getChatMember", READ, takes.OfMember, "One member of a chat.")
async def _get_chat_member(context: Context, given: takes.OfMember) -> Json:
    _, conversation = await context.sender.chat(given.chat_id)
    who = await context.sender.user(given.user_id)
    return (await _members(context, conversation, who))[0]


@_method("getChatMembers", READ, takes.InChat, "All members of a chat.", ours=True)
async def _get_chat_members(context: Context, given: takes.InChat) -> list[Json]:
    _, conversation = await context.sender.chat(given.chat_id)
    return await _members(context, conversation, *conversation.members)


async def _members(context: Context, conversation: Conversation, *members: ServiceId) -> list[Json]:
    feed = context.running.session.feed
    return await feed.records.run(lambda db: [member_of(who, conversation, feed.names(db)) for who in members])


@_method("banChatMember", MANAGE, takes.OfMember, "Take a member out of a chat; they may be added again.")
async def _ban_chat_member(context: Context, given: takes.OfMember) -> bool:
    key, conversation = await context.sender.chat(given.chat_id)
    who = await context.sender.user(given.user_id)
    await context.running.session.account.set_members(key, conversation.others(who))
    return True


@_method("setChatTitle", MANAGE, takes.SetChatTitle, "Change the title of a chat; for its admins.")
async def _set_chat_title(context: Context, given: takes.SetChatTitle) -> bool:
    key, _ = await context.sender.chat(given.chat_id)
    await context.running.session.account.set_title(key, given.title)
    return True


@_method("leaveChat", MANAGE, takes.InChat, "Leave a chat.")
async def _leave_chat(context: Context, given: takes.InChat) -> bool:
    key, _ = await context.sender.chat(given.chat_id)
    await context.running.session.account.leave(key)
    return True


@_method(
    "summarize",
    READ,
    takes.Summarize,
    "A summary by the assistant, whose evidence was checked; also needs `send`, and `manage` for `opt_in`.",
    ours=True,
    also=(SEND,),
)
async def _summarize(context: Context, given: takes.Summarize) -> Json:
    if given.opt_in and (context.token is None or MANAGE not in context.token.scopes):
        raise Forbidden
    key, _ = await context.sender.chat(given.chat_id)
    session = context.running.session
    messages = await context.sender.messages(given.chat_id, given.message_ids)
    if given.opt_in:
        await session.account.opt_in(key)
    result = (await session.account.summarize(key, messages)).kind
    if isinstance(result, Refusal):
        known = result.code in set(RefusalCode)
        raise BadRequest(f"Bad Request: the assistant does not answer: {result.code if known else 'unknown'}")
    if not isinstance(result, Summary):
        raise Internal
    lines = await session.feed.records.run(
        lambda db: [_line(line, key, session.feed.names(db)) for line in result.lines]
    )
    covered = result.coverage
    return {"lines": lines, "used": covered.used, "not_opted_in": covered.not_opted_in, "left_out": covered.left_out}


def _line(line: SummaryLine, key: bytes, names: Any) -> Json:  # noqa: ANN401 - a Naming
    chat = chat_of(key, names)["id"]
    told: Json = {
        "text": line.text,
        "kind": line.kind,
        "message_ids": [names.message(chat, each) for each in line.cites],
    }
    return told if line.speaker is None else {**told, "speaker": user_of(line.speaker, names)}


# --- the bot itself ---


@_method("getMe", READ, takes.Nothing, "Who this bot is.")
async def _get_me(context: Context, _given: takes.Nothing) -> Json:
    bot = context.running.bot
    return {
        "id": bot.number,
        "is_bot": True,
        "first_name": bot.name,
        "username": bot.username,
        "can_join_groups": True,
        "can_read_all_group_messages": False,
        "supports_inline_queries": False,
    }


@_method("setMyName", MANAGE, takes.SetMyName, "Change the name that everybody sees.")
async def _set_my_name(context: Context, given: takes.SetMyName) -> bool:
    if not given.name.strip() or not given.name.isprintable():
        raise BadRequest("Bad Request: a bot has a name of printable characters")
    await context.running.session.account.set_profile(given.name, context.running.bot.about)
    await context.running.change(name=given.name)
    return True


@_method("getMyName", READ, takes.Localized, "The name that everybody sees.")
async def _get_my_name(context: Context, _given: takes.Localized) -> Json:
    return {"name": context.running.bot.name}


@_method("setMyDescription", MANAGE, takes.SetMyDescription, "Change what the bot says of itself at length.")
async def _set_my_description(context: Context, given: takes.SetMyDescription) -> bool:
    await context.running.change(description=given.description)
    return True


@_method("getMyDescription", READ, takes.Localized, "What the bot says of itself at length.")
async def _get_my_description(context: Context, _given: takes.Localized) -> Json:
    return {"description": context.running.bot.description}


@_method("setMyShortDescription", MANAGE, takes.SetMyShortDescription, "Change what the bot's profile says.")
async def _set_my_short_description(context: Context, given: takes.SetMyShortDescription) -> bool:
    await context.running.session.account.set_profile(context.running.bot.name, given.short_description)
    await context.running.change(about=given.short_description)
    return True


@_method("getMyShortDescription", READ, takes.Localized, "What the bot's profile says.")
async def _get_my_short_description(context: Context, _given: takes.Localized) -> Json:
    return {"short_description": context.running.bot.about}


@_method("setMyCommands", MANAGE, takes.SetMyCommands, "Change the list of commands.")
async def _set_my_commands(context: Context, given: takes.SetMyCommands) -> bool:
    commands = dict(context.running.bot.commands)
    commands[given.key] = [
        {"command": each.command.removeprefix("/"), "description": each.description} for each in given.commands
    ]
    if len(commands) > MAX_COMMAND_LISTS:
        raise BadRequest("Bad Request: too many lists of commands")
    await context.running.change(commands=commands)
    return True


@_method("getMyCommands", READ, takes.OfCommands, "The list of commands.")
async def _get_my_commands(context: Context, given: takes.OfCommands) -> list[dict[str, str]]:
    return context.running.bot.commands.get(given.key, [])


@_method("deleteMyCommands", MANAGE, takes.OfCommands, "Delete the list of commands.")
async def _delete_my_commands(context: Context, given: takes.OfCommands) -> bool:
    kept = {key: commands for key, commands in context.running.bot.commands.items() if key != given.key}
    await context.running.change(commands=kept)
    return True


@_method("rotateToken", MANAGE, takes.RotateToken, "A new token in place of the one that asks.", ours=True)
async def _rotate_token(context: Context, given: takes.RotateToken) -> Json:
    if context.token is None:
        raise BadRequest
    text, ending = await context.running.rotate(context.token, overlap=given.overlap)
    return {"token": text, "old_expires_at": (ending.expires_at or 0) // 1000}


# --- the table ---

METHODS: Mapping[str, Method] = {method.name.lower(): method for method in _METHODS}
"""By lower-case names: Telegram's are found in any case."""

NOT_SUPPORTED = frozenset(
    each.lower()
    for each in [
        "answerCallbackQuery",
        "answerInlineQuery",
        "answerPreCheckoutQuery",
        "answerShippingQuery",
        "answerWebAppQuery",
        "approveChatJoinRequest",
        "close",
        "copyMessage",
        "copyMessages",
        "createChatInviteLink",
        "createForumTopic",
        "createInvoiceLink",
        "declineChatJoinRequest",
        "deleteChatPhoto",
        "editMessageLiveLocation",
        "editMessageMedia",
        "editMessageReplyMarkup",
        "exportChatInviteLink",
        "forwardMessage",
        "forwardMessages",
        "getCustomEmojiStickers",
        "getGameHighScores",
        "getStickerSet",
        "getUserChatBoosts",
        "getUserProfilePhotos",
        "logOut",
        "pinChatMessage",
        "promoteChatMember",
        "restrictChatMember",
        "revokeChatInviteLink",
        "sendContact",
        "sendDice",
        "sendGame",
        "sendInvoice",
        "sendLocation",
        "sendPaidMedia",
        "sendPoll",
        "sendSticker",
        "sendVenue",
        "sendVideoNote",
        "setChatDescription",
        "setChatMenuButton",
        "setChatPermissions",
        "setChatPhoto",
        "setGameScore",
        "setMyDefaultAdministratorRights",
        "stopMessageLiveLocation",
        "stopPoll",
        "unbanChatMember",
        "unpinAllChatMessages",
        "unpinChatMessage",
    ]
)
"""Telegram's methods for which there is nothing here: buttons, payments, polls and so on."""


def find_method(name: str) -> Method:
    """The method with this name.

    Raises:
        NotSupported: Telegram has it, and here is nothing like it.
        NotFound: nobody has it.
    """
    method = METHODS.get(name.lower())
    if method is not None:
        return method
    if name.lower() in NOT_SUPPORTED:
        raise NotSupported
    raise NotFound("Not Found: method not found")


async def call(method: Method, context: Context, given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Run a method; returns its result.

    Raises:
        ApiError: what its caller is told.
    """
    read = method.takes.read(given)
    try:
        return await method.run(context, read)
    except ApiError:
        raise
    except ClientError as error:
        raise told_of(error) from error
    except ValueError as error:
        get_logger().info("account_refused", method=method.name, error=type(error).__name__)
        raise BadRequest("Bad Request: the account could not do this") from None
