"""A bot written for Telegram, with python-telegram-bot, runs unchanged: nothing but its base URL is ours."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from telegram import Bot, BotCommand, InputFile, Message, ReactionTypeEmoji, Update
from telegram.error import BadRequest, InvalidToken
from telegram.ext import Application, CommandHandler, ContextTypes, MessageHandler, MessageReactionHandler, filters

from tests.messaging.bots.gateways import Api, until

Running = Callable[[Api], AbstractAsyncContextManager[Any]]
Context = ContextTypes.DEFAULT_TYPE
App = Application[Any, Any, Any, Any, Any, Any]


# --- the bot, as its author wrote it ---


def message_of(update: Update) -> Message:
    message = update.effective_message
    assert message is not None
    return message


async def start(update: Update, context: Context) -> None:
    await message_of(update).reply_text("Say something, and I say it too.")


async def add(update: Update, context: Context) -> None:
    total = sum(int(each) for each in context.args or [])
    await message_of(update).reply_text(f"*{total}*", parse_mode="MarkdownV2", do_quote=True)


async def echo(update: Update, context: Context) -> None:
    await message_of(update).reply_text(message_of(update).text or "")


async def copy(update: Update, context: Context) -> None:
    document = message_of(update).document
    assert document is not None
    data = await (await document.get_file()).download_as_bytearray()
    await message_of(update).reply_document(InputFile(bytes(data).upper(), filename="copy.txt"), caption="yours")


async def thank(update: Update, context: Context) -> None:
    assert update.message_reaction is not None
    await context.bot.send_message(update.message_reaction.chat.id, "thanks")


def application(api: Api) -> App:
    app = Application.builder().token(api.token).base_url(f"{api.url}/bot").base_file_url(f"{api.url}/file/bot").build()
    app.add_handler(CommandHandler("start", start))
    app.add_handler(CommandHandler("add", add))
    app.add_handler(MessageHandler(filters.TEXT & ~filters.COMMAND, echo))
    app.add_handler(MessageHandler(filters.Document.ALL, copy))
    app.add_handler(MessageReactionHandler(thank))
    return app


# --- how it runs ---


@asynccontextmanager
async def polling(api: Api) -> AsyncIterator[App]:
    """By long polling."""
    async with application(api) as app:
        assert app.updater is not None
        await app.updater.start_polling(timeout=1, allowed_updates=Update.ALL_TYPES)
        await app.start()
        yield app
        await app.updater.stop()
        await app.stop()


@asynccontextmanager
async def webhook(api: Api) -> AsyncIterator[App]:
    """By a webhook, which the library serves and sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with application(api) as app:
        assert app.updater is not None
        await app.updater.start_webhook(
            listen="127.0.0.1",
            port=port,
            url_path="hook",
            webhook_url=f"http://127.0.0.1:{port}/hook",
            secret_token="only-the-gateway",
            allowed_updates=Update.ALL_TYPES,
        )
        await app.start()
        yield app
        await app.updater.stop()
        await app.stop()


MODES = pytest.mark.parametrize("running", [polling, webhook])


@MODES
async def test_echoes_what_is_said(api: Api, running: Running) -> None:
    conversation = await api.private()
    async with running(api):
        texts = [f"message {number}" for number in range(5)]
        for text in texts:
            api.says(conversation, text)
        await until(lambda: len(api.seen(conversation)) == 5)
    assert [message.text for message in api.seen(conversation)] == texts


@MODES
async def test_obeys_commands_in_a_private_chat_and_in_a_group(api: Api, running: Running) -> None:
    private, group = await api.private(), await api.group()
    async with running(api):
        api.says(private, "/start")
        asked = api.says(group, "/add@echo_bot 2 40", by=api.bob)
        api.says(group, "/add@another_bot 2 40", by=api.bob)
        await until(lambda: bool(api.seen(private) and api.seen(group)))
    assert [message.text for message in api.seen(private)] == ["Say something, and I say it too."]
    (answer,) = api.seen(group)
    assert answer.text == "42"
    assert answer.quote is not None
    assert answer.quote.message == asked


@MODES
async def test_takes_files_and_sends_them(api: Api, running: Running) -> None:
    conversation = await api.private()
    pointer = api.world.relay.upload(b"words", content_type="text/plain", file_name="words.txt")
    async with running(api):
        api.world.relay.say(api.alice, conversation.key, "", attachments=[pointer])
        await until(lambda: bool(api.seen(conversation)))
    (answer,) = api.seen(conversation)
    (copied,) = answer.attachments
    assert (answer.text, copied.file_name, api.world.relay.files[copied.key]) == ("yours", "copy.txt", b"WORDS")


@MODES
async def test_hears_of_reactions(api: Api, running: Running) -> None:
    conversation = await api.private()
    async with running(api):
        api.says(conversation, "hello")
        await until(lambda: bool(api.seen(conversation)))
        api.world.relay.react(api.alice, conversation.key, api.seen(conversation)[0].id, "🎉", remove=False)
        await until(lambda: len(api.seen(conversation)) == 2)
    assert api.seen(conversation)[1].text == "thanks"


async def test_what_was_said_while_the_bot_was_away_is_answered_later(api: Api) -> None:
    conversation = await api.private()
    api.says(conversation, "anybody here?")
    async with polling(api):
        await until(lambda: bool(api.seen(conversation)))


async def test_what_the_library_asks_for_is_what_it_understands(api: Api) -> None:
    group = await api.group()
    chat = await api.chat_of(group)
    async with application(api) as app:
        bot = app.bot
        assert bot.username == "echo_bot"
        full = await bot.get_chat(chat)
        assert (full.title, full.type) == ("Gardeners", "group")
        (admin,) = await bot.get_chat_administrators(chat)
        assert admin.user.first_name == "Alice"
        assert await bot.get_chat_member_count(chat) == 3
        assert (await bot.get_chat_member(chat, api.number)).status == "member"
        await bot.set_my_commands([BotCommand("start", "begin")])
        assert await bot.get_my_commands() == (BotCommand("start", "begin"),)
        sent = await bot.send_message(chat, "first")
        assert (await bot.edit_message_text("second", chat, sent.message_id)).text == "second"
        assert await bot.set_message_reaction(chat, sent.message_id, [ReactionTypeEmoji("👍")])
        assert await bot.delete_message(chat, sent.message_id)
        assert (await bot.get_webhook_info()).url == ""
        with pytest.raises(BadRequest, match="Chat not found"):
            await bot.send_message(1, "nobody")


async def test_a_wrong_token_is_what_the_library_takes_it_for(api: Api) -> None:
    bot = Bot(f"{api.number}:{'x' * 43}", base_url=f"{api.url}/bot")
    with pytest.raises(InvalidToken):
        await bot.initialize()
    await bot.shutdown()
