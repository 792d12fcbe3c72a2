"""What each method does, over HTTP."""

import json

import aiohttp
import pytest

from messaging.bots.limits import MAX_SCOPE
from messaging.bots.methods import METHODS, NOT_SUPPORTED
from messaging.bots.tokens import MANAGE, READ, SEND
from messaging.client.errors import StoreFailed
from tests.messaging.bots.gateways import Api

# --- who the bot is ---


async def test_says_who_the_bot_is(api: Api) -> None:
    me = await api.ok("getMe")
    assert (me["id"], me["is_bot"], me["first_name"], me["username"]) == (api.number, True, "Echo", "echo_bot")


async def test_a_name_is_found_in_any_case(api: Api) -> None:
    assert await api.ok("GETME") == await api.ok("getMe")


async def test_the_name_and_the_texts_of_the_bot_can_be_changed(api: Api) -> None:
    assert await api.ok("setMyName", name="Parrot")
    assert await api.ok("setMyDescription", description="repeats all")
    assert await api.ok("setMyShortDescription", short_description="repeats")
    assert await api.ok("getMyName") == {"name": "Parrot"}
    assert await api.ok("getMyDescription") == {"description": "repeats all"}
    assert await api.ok("getMyShortDescription") == {"short_description": "repeats"}
    assert api.world.relay.names[api.me] == "Parrot"
    assert (await api.ok("getMe"))["first_name"] == "Parrot"


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[2J", "\u202eohcE"])
async def test_a_name_that_a_terminal_would_obey_is_refused(api: Api, name: str) -> None:
    assert (await api.refused("setMyName", name=name))[0] == 400
    assert await api.ok("getMyName") == {"name": "Echo"}


async def test_a_scope_of_commands_has_a_size(api: Api) -> None:
    commands = [{"command": "start", "description": "begin"}]
    largest = {"x" * 64: "x" * 64, "type": "chat_member", "chat_id": -5, "user_id": 2**63 - 1}
    assert len(largest) == MAX_SCOPE
    assert await api.ok("setMyCommands", commands=commands, scope=largest)
    for scope in ({**largest, "y": 1}, {"x" * 65: 1}, {"type": "x" * 65}, {"chat_id": 2**63}):
        assert (await api.refused("setMyCommands", commands=commands, scope=scope))[0] == 400


async def test_commands_are_kept_by_scope_and_language(api: Api) -> None:
    await api.ok("setMyCommands", commands=[{"command": "/start", "description": "begin"}])
    await api.ok(
        "setMyCommands",
        commands=[{"command": "hilfe", "description": "helfen"}],
        language_code="de",
        scope={"type": "all_private_chats"},
    )
    assert await api.ok("getMyCommands") == [{"command": "start", "description": "begin"}]
    german = {"language_code": "de", "scope": {"type": "all_private_chats"}}
    assert await api.ok("getMyCommands", **german) == [{"command": "hilfe", "description": "helfen"}]
    await api.ok("deleteMyCommands")
    assert await api.ok("getMyCommands") == []
    assert await api.ok("getMyCommands", **german) != []


# --- messages ---


async def test_a_message_goes_out_and_is_told_as_telegrams(api: Api) -> None:
    conversation = await api.private()
    api.says(conversation, "hello")
    (update,) = await api.updates()
    chat = update["message"]["chat"]
    told = await api.ok("sendMessage", chat_id=chat["id"], text="hi")
    (seen,) = api.seen(conversation)
    assert seen.text == told["text"] == "hi"
    assert told["from"]["id"] == api.number
    assert told["chat"] == chat
    assert told["message_id"] == update["message"]["message_id"] + 1
    assert told["date"] == seen.id.timestamp // 1000


async def test_a_private_chat_has_the_number_of_its_other_member(api: Api) -> None:
    api.says(await api.private(), "hello")
    (update,) = await api.updates()
    assert update["message"]["chat"]["id"] == update["message"]["from"]["id"] > 0
    assert update["message"]["chat"]["type"] == "private"


async def test_a_group_has_a_number_below_zero(api: Api) -> None:
    api.says(await api.group(), "/hello")
    (update,) = await api.updates()
    assert update["message"]["chat"]["id"] < 0
    assert update["message"]["chat"] | {"id": 0} == {"id": 0, "type": "group", "title": "Gardeners"}


@pytest.mark.parametrize("old_way", [False, True])
async def test_an_answer_quotes_the_message_that_it_answers(api: Api, *, old_way: bool) -> None:
    conversation = await api.private()
    said = api.says(conversation, "how are you?")
    (update,) = await api.updates()
    number = update["message"]["message_id"]
    reply = {"reply_to_message_id": number} if old_way else {"reply_parameters": {"message_id": number}}
    told = await api.ok("sendMessage", chat_id=update["message"]["chat"]["id"], text="well", **reply)
    (seen,) = api.seen(conversation)
    assert seen.quote is not None
    assert seen.quote.message == said
    assert told["reply_to_message"]["message_id"] == number


async def test_what_is_not_there_is_not_answered(api: Api) -> None:
    chat = await api.chat_of(await api.private())
    reply = {"message_id": 99}
    answer = {"chat_id": chat, "text": "well", "reply_parameters": reply}
    assert await api.refused("sendMessage", **answer) == (400, "Bad Request: message to be replied not found")
    reply["allow_sending_without_reply"] = True
    assert "reply_to_message" not in await api.ok("sendMessage", **answer)


async def test_markup_is_taken_out_and_mentions_stay(api: Api) -> None:
    conversation = await api.private()
    chat = await api.chat_of(conversation)
    told = await api.ok(
        "sendMessage",
        chat_id=chat,
        text=f'<b>Hi</b> <a href="tg://user?id={chat}">Alice</a> &amp; all',
        parse_mode="HTML",
    )
    (seen,) = api.seen(conversation)
    assert seen.text == told["text"] == "Hi Alice & all"
    (mention,) = seen.mentions
    assert (mention.start, mention.length, mention.who) == (3, 5, api.alice)
    assert told["entities"][0]["type"] == "text_mention"
    assert told["entities"][0]["user"]["id"] == chat


async def test_keyboards_are_refused_rather_than_left_out(api: Api) -> None:
    chat = await api.chat_of(await api.private())
    keyboard = {"inline_keyboard": [[{"text": "yes", "callback_data": "1"}]]}
    status, told = await api.refused("sendMessage", chat_id=chat, text="sure?", reply_markup=keyboard)
    assert status == 400
    assert "keyboards" in told
    await api.ok("sendMessage", chat_id=chat, text="sure?", reply_markup={"remove_keyboard": True})


async def test_under_one_idempotency_key_a_message_is_sent_once(api: Api) -> None:
    conversation = await api.private()
    chat = await api.chat_of(conversation)

    async def send() -> dict[str, object]:
        body = {"chat_id": chat, "text": "once"}
        async with api.http.post(api.path("sendMessage"), json=body, headers={"Idempotency-Key": "order 7"}) as answer:
            result: dict[str, object] = (await answer.json())["result"]
            return result

    assert await send() == await send()
    assert len(api.seen(conversation)) == 1


async def test_under_one_idempotency_key_nothing_else_is_sent(api: Api) -> None:
    """Nor told as if it had been."""
    first, second = await api.private(), await api.private()
    chats = [await api.chat_of(each) for each in (first, second)]

    async def send(**body: object) -> tuple[int, str]:
        async with api.http.post(api.path("sendMessage"), json=body, headers={"Idempotency-Key": "order 7"}) as answer:
            return answer.status, (await answer.json()).get("description", "")

    refused = (409, "Conflict: the idempotency key was used for another message")
    assert (await send(chat_id=chats[0], text="once"))[0] == 200
    assert await send(chat_id=chats[0], text="twice") == refused
    assert await send(chat_id=chats[1], text="once") == refused
    assert await send(chat_id=chats[0], text="once", reply_to_message_id=1) == refused
    assert (await send(chat_id=chats[0], text="once"))[0] == 200
    assert [message.text for message in api.seen(first) + api.seen(second)] == ["once"]


async def test_what_could_not_be_sent_may_be_sent_otherwise_under_its_idempotency_key(api: Api) -> None:
    conversation = await api.private()
    chat = await api.chat_of(conversation)
    api.world.relay.fail_next("write", StoreFailed())

    async def send(text: str) -> int:
        body = {"chat_id": chat, "text": text}
        async with api.http.post(api.path("sendMessage"), json=body, headers={"Idempotency-Key": "order 7"}) as answer:
            return answer.status

    assert [await send("at noon"), await send("at one"), await send("at two")] == [503, 200, 409]
    assert [message.text for message in api.seen(conversation)] == ["at one"]


async def test_a_file_is_sent_once_under_one_idempotency_key(api: Api) -> None:
    conversation = await api.private()
    chat = await api.chat_of(conversation)

    async def send(content: bytes) -> int:
        form = a_form(chat_id=str(chat))
        form.add_field("document", content, filename="plan.pdf")
        async with api.http.post(api.path("sendDocument"), data=form, headers={"Idempotency-Key": "plan"}) as answer:
            return answer.status

    assert [await send(b"plan"), await send(b"plan"), await send(b"another plan")] == [200, 200, 409]
    assert len(api.seen(conversation)) == 1


async def test_an_own_message_is_edited_and_deleted(api: Api) -> None:
    conversation = await api.private()
    chat = await api.chat_of(conversation)
    number = (await api.ok("sendMessage", chat_id=chat, text="frist"))["message_id"]
    told = await api.ok("editMessageText", chat_id=chat, message_id=number, text="first")
    assert (told["message_id"], told["text"]) == (number, "first")
    assert "edit_date" in told
    assert api.seen(conversation)[0].text == "first"
    assert await api.ok("deleteMessage", chat_id=chat, message_id=number)
    assert api.seen(conversation)[0].deleted


async def test_the_message_of_somebody_else_is_not_the_bots_to_change(api: Api) -> None:
    api.says(await api.private(), "mine")
    (update,) = await api.updates()
    of = {"chat_id": update["message"]["chat"]["id"], "message_id": update["message"]["message_id"]}
    assert (await api.refused("editMessageText", **of, text="yours"))[0] == 400
    assert (await api.refused("deleteMessage", **of))[0] == 400


async def test_a_reaction_is_put_on_a_message_and_taken_back(api: Api) -> None:
    conversation = await api.private()
    said = api.says(conversation, "done!")
    (update,) = await api.updates()
    of = {"chat_id": update["message"]["chat"]["id"], "message_id": update["message"]["message_id"]}
    await api.ok("setMessageReaction", **of, reaction=[{"type": "emoji", "emoji": "🎉"}])

    def emoji() -> str:
        return api.world.relay.rooms[conversation.key].messages[said].reactions[api.me].emoji

    assert emoji() == "🎉"
    await api.ok("setMessageReaction", **of)
    assert emoji() == ""


async def test_others_see_that_the_bot_is_writing(api: Api) -> None:
    conversation = await api.private()
    chat = await api.chat_of(conversation)
    mailbox = api.world.relay.mailbox(api.alice)
    await api.ok("sendChatAction", chat_id=chat, action="typing")
    assert [event.kind for event in mailbox] == ["typing"]


# --- files ---


def a_form(**fields: str) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value)
    return form


async def test_a_file_goes_out_with_its_name_and_comes_back_by_its_id(api: Api) -> None:
    conversation = await api.private()
    chat = await api.chat_of(conversation)
    form = a_form(chat_id=str(chat), caption="the plan")
    form.add_field("document", b"%PDF plan", filename="plan.pdf", content_type="application/pdf")
    async with api.http.post(api.path("sendDocument"), data=form) as response:
        told = (await response.json())["result"]
    (seen,) = api.seen(conversation)
    (pointer,) = seen.attachments
    assert (seen.text, pointer.file_name, pointer.content_type) == ("the plan", "plan.pdf", "application/pdf")
    assert api.world.relay.files[pointer.key] == b"%PDF plan"
    assert (told["caption"], told["document"]["file_name"], told["document"]["file_size"]) == (
        "the plan",
        "plan.pdf",
        9,
    )
    await api.ok("sendDocument", chat_id=chat, document=told["document"]["file_id"])
    assert api.seen(conversation)[1].attachments == seen.attachments
    assert list((api.gateway.settings.home / "incoming").iterdir()) == []


async def test_a_file_that_came_is_downloaded(api: Api) -> None:
    conversation = await api.private()
    pointer = api.world.relay.upload(b"meow", content_type="image/jpeg", file_name="../cat/1.jpg")
    api.world.relay.say(api.alice, conversation.key, "look", attachments=[pointer])
    (update,) = await api.updates()
    assert update["message"]["caption"] == "look"
    file = await api.ok("getFile", file_id=update["message"]["photo"][-1]["file_id"])
    assert file["file_size"] == 4
    async with api.http.get(f"{api.url}/file/bot{api.token}/{file['file_path']}") as response:
        assert await response.read() == b"meow"
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["Content-Disposition"].startswith("attachment")


async def test_a_file_that_is_not_there_is_not_found(api: Api) -> None:
    for path in ("f99/x", "x", "", "../../etc/passwd", "%2e%2e/x"):
        async with api.http.get(f"{api.url}/file/bot{api.token}/{path}") as response:
            assert response.status == 404
    assert (await api.refused("getFile", file_id="f99"))[0] == 400


async def test_a_message_with_several_files_is_an_album(api: Api) -> None:
    conversation = await api.private()
    chat = await api.chat_of(conversation)
    media = [{"type": "photo", "media": "attach://a", "caption": "two"}, {"type": "photo", "media": "attach://b"}]
    form = a_form(chat_id=str(chat), media=json.dumps(media))
    form.add_field("a", b"one", filename="a.png")
    form.add_field("b", b"two", filename="b.png")
    async with api.http.post(api.path("sendMediaGroup"), data=form) as response:
        first, second = (await response.json())["result"]
    (seen,) = api.seen(conversation)
    assert [pointer.content_type for pointer in seen.attachments] == ["image/png", "image/png"]
    assert first["caption"] == "two"
    assert first["media_group_id"] == second["media_group_id"]
    assert second["message_id"] == first["message_id"] + 1


async def test_a_url_is_not_fetched_for_anybody(api: Api) -> None:
    chat = await api.chat_of(await api.private())
    status, told = await api.refused("sendPhoto", chat_id=chat, photo="http://169.254.169.254/latest")
    assert status == 400
    assert "169" not in told


# --- chats ---


async def test_says_what_a_chat_is_and_who_is_in_it(api: Api) -> None:
    chat = await api.chat_of(await api.group())
    assert (await api.ok("getChat", chat_id=chat))["title"] == "Gardeners"
    assert await api.ok("getChatMemberCount", chat_id=chat) == 3
    members = await api.ok("getChatMembers", chat_id=chat)
    assert {member["user"]["first_name"]: member["status"] for member in members} == {
        "Alice": "administrator",
        "Bob": "member",
        "Echo": "member",
    }
    (admin,) = await api.ok("getChatAdministrators", chat_id=chat)
    alice = admin["user"]["id"]
    assert (await api.ok("getChatMember", chat_id=chat, user_id=alice))["status"] == "administrator"
    assert (await api.ok("getChatMember", chat_id=chat, user_id=api.number))["user"]["is_bot"]


async def test_who_is_no_admin_changes_nothing(api: Api) -> None:
    chat = await api.chat_of(await api.group())
    assert await api.refused("setChatTitle", chat_id=chat, title="Mine") == (400, "Bad Request: not enough rights")


async def test_an_admin_changes_the_title_and_takes_members_out(api: Api) -> None:
    room = api.world.relay.begin(api.alice, "Gardeners", [api.bob, api.me], [api.me])
    await api.updates()
    chat = (await api.updates())[0]["my_chat_member"]["chat"]["id"]
    await api.ok("setChatTitle", chat_id=chat, title="Cooks")
    bob = next(
        m["user"]["id"] for m in await api.ok("getChatMembers", chat_id=chat) if m["user"]["first_name"] == "Bob"
    )
    await api.ok("banChatMember", chat_id=chat, user_id=bob)
    changed = api.world.relay.rooms[room.conversation.key].conversation
    assert changed.title == "Cooks"
    assert api.bob not in changed.members


async def test_a_chat_that_was_left_is_closed_to_the_bot(api: Api) -> None:
    chat = await api.chat_of(await api.group())
    assert await api.ok("leaveChat", chat_id=chat)
    assert (await api.refused("sendMessage", chat_id=chat, text="still here"))[0] == 403


@pytest.mark.parametrize("chat", [1, -1, "@somebody", 2**63 - 1])
async def test_a_chat_that_nobody_knows_is_not_found(api: Api, chat: int | str) -> None:
    assert await api.refused("sendMessage", chat_id=chat, text="x") == (400, "Bad Request: chat not found")


async def test_a_summary_names_its_messages_and_who_said_them(api: Api) -> None:
    conversation = await api.private()
    api.world.relay.rooms[conversation.key].opted_in.add(api.alice)
    api.says(conversation, "We meet on Friday.")
    (update,) = await api.updates()
    number = update["message"]["message_id"]
    about = {"chat_id": update["message"]["chat"]["id"], "message_ids": [number]}
    assert (await api.refused("summarize", **about))[0] == 400
    summary = await api.ok("summarize", **about, opt_in=True)
    (line,) = summary["lines"]
    assert (line["text"], line["message_ids"], line["speaker"]["first_name"]) == (
        "We meet on Friday.",
        [number],
        "Alice",
    )
    assert (summary["used"], summary["left_out"]) == (1, 0)


@pytest.mark.parametrize(
    ("scopes", "opt_in", "status"),
    [
        ([SEND], False, 403),
        ([READ], False, 403),
        ([MANAGE], False, 403),
        ([READ, SEND], True, 403),
        ([READ, SEND], False, 200),
        ([READ, SEND, MANAGE], True, 200),
    ],
)
async def test_a_summary_is_for_who_may_read_and_send(
    api: Api, scopes: list[str], status: int, *, opt_in: bool
) -> None:
    conversation = await api.private()
    api.world.relay.rooms[conversation.key].opted_in |= {api.alice, *(() if opt_in else (api.me,))}
    api.says(conversation, "We meet on Friday.")
    (update,) = await api.updates()
    about = {"chat_id": update["message"]["chat"]["id"], "message_ids": [update["message"]["message_id"]]}
    api.token, _ = await api.running.add_token(scopes)
    assert (await api.call("summarize", **about, opt_in=opt_in)).status == status
    assert (api.me in api.world.relay.rooms[conversation.key].opted_in) is (status == 200 or not opt_in)


async def test_the_answer_of_a_webhooks_target_asks_for_no_summary(api: Api) -> None:
    conversation = await api.private()
    api.says(conversation, "We meet on Friday.")
    (update,) = await api.updates()
    of = {"chat_id": update["message"]["chat"]["id"], "message_ids": [update["message"]["message_id"]]}
    execute = api.gateway._executes(api.running)
    await execute({"method": "summarize", **of, "opt_in": True}, "1")
    assert api.me not in api.world.relay.rooms[conversation.key].opted_in
    await execute({"method": "sendMessage", **of, "text": "said"}, "2")
    assert [message.text for message in api.seen(conversation)] == ["said"]


# --- all methods ---


async def test_what_telegram_has_and_is_not_here_says_so(api: Api) -> None:
    assert await api.refused("answerCallbackQuery", callback_query_id="1") == (
        501,
        "Not Implemented: there is nothing like this method here",
    )
    assert not NOT_SUPPORTED & METHODS.keys()


async def test_no_parameter_is_told_by_more_than_its_name(api: Api) -> None:
    for method in METHODS.values():
        if any(each.is_required() for each in method.takes.model_fields.values()):
            status, told = await api.refused(method.name, chat_id="CANARY", text={"CANARY": 1}, update_ids="CANARY")
            assert status == 400
            assert "CANARY" not in told
