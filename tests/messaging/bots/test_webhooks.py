"""Deliveries to a real target: signed, in order, tried again, set aside in the end."""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from messaging.bots import webhooks
from messaging.client.conversation import Conversation
from tests.messaging.bots.gateways import Api, running_api, until, until_it, without_pauses
from tests.messaging.bots.targets import Target, answering, dribble, flood, hang_up, target


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """A bot whose deliveries are given up after a second, so that the tests need not wait."""
    async with running_api(tmp_path, webhook_seconds=1) as api:
        yield api


async def deliver_to(api: Api, found: Target, **parameters: Any) -> None:
    await api.ok("setWebhook", url=found.url, **parameters)
    found.secret = await api.ok("getWebhookSecret")


async def failed_with(api: Api) -> str:
    info = await api.ok("getWebhookInfo")
    return str(info.get("last_error_message", ""))


async def all_over(api: Api) -> bool:
    return bool((await api.ok("getWebhookInfo"))["pending_update_count"] == 0)


# --- what is delivered ---


async def test_an_update_is_posted_and_then_over(api: Api) -> None:
    conversation = await api.private()
    async with target() as found:
        await deliver_to(api, found, secret_token="only-the-gateway")
        api.says(conversation, "hello")
        await until(lambda: found.texts == ["hello"])
        await until_it(lambda: all_over(api))
    assert found.refused == 0
    assert found.headers[0]["x-telegram-bot-api-secret-token"] == "only-the-gateway"
    assert found.headers[0]["content-type"] == "application/json"
    await api.ok("deleteWebhook")
    assert await api.updates(timeout=0) == []


async def test_without_a_secret_token_there_is_no_such_header(api: Api) -> None:
    conversation = await api.private()
    async with target() as found:
        await deliver_to(api, found)
        api.says(conversation, "hello")
        await until(lambda: bool(found.updates))
    assert "x-telegram-bot-api-secret-token" not in found.headers[0]


async def test_the_owner_may_choose_the_signing_secret_before_anything_is_delivered(api: Api) -> None:
    conversation, secret = await api.private(), "whsec_" + base64.b64encode(bytes(range(24))).decode()
    async with target() as found:
        found.secret = secret
        await deliver_to(api, found, signing_secret=secret)
        assert found.secret == secret
        api.says(conversation, "hello")
        await until(lambda: found.texts == ["hello"])
    assert found.refused == 0


@pytest.mark.parametrize("size", [23, 65])
async def test_a_signing_secret_has_24_to_64_bytes(api: Api, size: int) -> None:
    async with target() as found:
        secret = "whsec_" + base64.b64encode(bytes(size)).decode()
        status, told = await api.refused("setWebhook", url=found.url, signing_secret=secret)
    assert status == 400
    assert secret not in told


async def test_another_secret_does_not_verify(api: Api) -> None:
    conversation = await api.private()
    async with target() as found:
        await deliver_to(api, found)
        before = found.secret
        assert await api.ok("getWebhookSecret", rotate=True) != before
        api.says(conversation, "hello")
        await until(lambda: found.refused > 0)
        found.secret = await api.ok("getWebhookSecret")
        await until(lambda: found.texts == ["hello"])


async def test_each_conversation_keeps_its_order_and_none_waits_for_another(api: Api) -> None:
    first, second = await api.private(), await api.private()
    released = asyncio.Event()

    async def slow_for_the_first(_: web.BaseRequest, update: dict[str, Any]) -> web.StreamResponse:
        if update["message"]["text"] == "a1":
            await released.wait()
        return web.Response()

    async with target(slow_for_the_first) as found:
        await deliver_to(api, found)
        for text in ("a1", "a2", "a3"):
            api.says(first, text)
        for text in ("b1", "b2", "b3"):
            api.says(second, text)
        await until(lambda: "b3" in found.texts)
        assert [text for text in found.texts if text.startswith("a")] == ["a1"]
        released.set()
        await until(lambda: len(found.texts) == 6)
    assert [text for text in found.texts if text.startswith("a")] == ["a1", "a2", "a3"]
    assert [text for text in found.texts if text.startswith("b")] == ["b1", "b2", "b3"]


async def test_no_more_connections_than_were_asked_for(api: Api) -> None:
    conversations = [await api.private() for _ in range(6)]
    at_once, most = 0, 0

    async def count(_: web.BaseRequest, _update: dict[str, Any]) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return web.Response()

    async with target(count) as found:
        await deliver_to(api, found, max_connections=2)
        for conversation in conversations:
            api.says(conversation, "hello")
        await until(lambda: len(found.updates) == 6)
    assert most == 2


async def test_only_kinds_that_were_asked_for_are_delivered(api: Api) -> None:
    conversation = await api.private()
    async with target() as found:
        await deliver_to(api, found, allowed_updates=["message_reaction"])
        said = api.says(conversation, "hello")
        api.world.relay.react(api.alice, conversation.key, said, "🎉", remove=False)
        await until(lambda: bool(found.updates))
        await until_it(lambda: all_over(api))
    assert [sorted(update) for update in found.updates] == [["message_reaction", "update_id"]]


# --- what the answer asks for ---


async def test_an_answer_may_call_a_method_once_however_often_it_comes(api: Api) -> None:
    conversation = await api.private()
    chat = await api.chat_of(conversation)
    call = {"method": "sendMessage", "chat_id": chat, "text": "at once"}
    async with target(answering(call)) as found:
        await deliver_to(api, found)
        api.says(conversation, "hello")
        await until(lambda: bool(api.seen(conversation)))
        await until_it(lambda: all_over(api))
    assert [message.text for message in api.seen(conversation)] == ["at once"]


@pytest.mark.parametrize(
    "body",
    [
        {"method": "deleteWebhook"},
        {"method": "leaveChat"},
        {"method": "rotateToken"},
        {"method": "noSuch"},
        {"method": 1},
        [],
        {"method": "sendMessage"},
    ],
)
async def test_an_answer_that_calls_for_more_than_saying_something_is_passed_over(api: Api, body: object) -> None:
    conversation = await api.private()
    async with target(answering(body)) as found:
        await deliver_to(api, found)
        api.says(conversation, "hello")
        await until_it(lambda: all_over(api))
        assert len(found.updates) == 1
    assert api.running.bot.webhook is not None
    assert api.me in api.world.relay.rooms[conversation.key].conversation.members


# --- what goes wrong ---


async def test_what_fails_comes_again_under_the_same_name_and_number(api: Api) -> None:
    conversation = await api.private()
    async with target(500, 200) as found:
        await deliver_to(api, found)
        api.says(conversation, "one")
        api.says(conversation, "two")
        await until(lambda: found.texts == ["one", "one", "two"])
    assert found.headers[0]["webhook-id"] == found.headers[1]["webhook-id"] != found.headers[2]["webhook-id"]
    assert found.updates[0] == found.updates[1]


async def test_a_redirect_is_not_followed(api: Api) -> None:
    conversation = await api.private()
    async with target() as private, target(answering({}, 302, Location=private.url), 200) as found:
        await deliver_to(api, found)
        api.says(conversation, "hello")
        await until(lambda: len(found.updates) == 2)
        assert private.updates == []


async def test_an_answer_that_drips_is_cut_and_others_go_on(api: Api) -> None:
    conversation, other = await api.private(), await api.private()
    async with target(dribble, 200) as found:
        await deliver_to(api, found)
        api.says(conversation, "drip")
        await until(lambda: found.texts == ["drip"])
        api.says(other, "go on")
        await until(lambda: sorted(found.texts) == ["drip", "drip", "go on"])
    assert await failed_with(api) == "TimeoutError"


async def test_an_answer_without_end_is_not_read(api: Api) -> None:
    conversation = await api.private()
    async with target(flood) as found:
        await deliver_to(api, found)
        api.says(conversation, "hello")
        await until_it(lambda: all_over(api))
        assert found.texts == ["hello"]


async def test_a_target_that_asks_for_patience_is_left_alone(api: Api) -> None:
    conversation, other = await api.private(), await api.private()
    async with target(answering({}, 429, **{"Retry-After": "2"}), 200) as found:
        await deliver_to(api, found)
        before = asyncio.get_running_loop().time()
        api.says(conversation, "hello")
        await until(lambda: len(found.updates) == 1)
        await until_it(lambda: _has_failed(api))
        api.says(other, "and I")
        await until(lambda: len(found.updates) == 3)
        assert asyncio.get_running_loop().time() - before >= 2


async def _has_failed(api: Api) -> bool:
    return bool(await failed_with(api))


async def test_an_outage_sets_nothing_aside_and_keeps_the_order(api: Api) -> None:
    conversation = await api.private()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    await api.ok("setWebhook", url=f"http://127.0.0.1:{port}/hook")
    for number in range(5):
        api.says(conversation, str(number))
    await until_it(lambda: _has_failed(api))
    async with target(port=port) as found:
        await until(lambda: len(found.updates) == 5)
        assert found.texts == ["0", "1", "2", "3", "4"]
    assert await api.ok("getParked") == []


async def test_what_brings_the_target_down_each_time_is_counted(api: Api) -> None:
    poison, other = await api.private(), await api.private()

    async def fall(request: web.BaseRequest, update: dict[str, Any]) -> web.StreamResponse:
        return await hang_up(request, update) if update["message"]["text"] == "poison" else web.Response()

    async with target(fall) as found:
        await deliver_to(api, found)
        api.says(poison, "poison")
        await until(lambda: "poison" in found.texts)
        api.says(other, "well")
        await until(lambda: found.texts.count("poison") == 3)
        assert found.texts.count("well") == 1
    inbox = api.running.session.account.inbox
    assert inbox.waiting == 1


async def test_every_update_of_an_event_has_the_time_of_a_delivery(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "WEBHOOK_LEASE", 0.6)
    conversation = await api.private()

    async def slow(_: web.BaseRequest, _update: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return web.Response()

    async with target(slow) as found:
        await deliver_to(api, found)
        _say_files(api, conversation, 8)
        api.says(conversation, "next")
        await until_it(lambda: all_over(api))
        assert len(found.updates) == 9
        assert found.texts_or_files == [*(f"{number}.txt" for number in range(8)), "next"]


async def test_of_an_event_that_comes_again_what_was_taken_does_not(api: Api) -> None:
    conversation = await api.private()
    without_pauses(api.running.session.account.inbox)
    async with target(200, 200, 500, 500, 200) as found:
        await deliver_to(api, found)
        _say_files(api, conversation, 4)
        await until_it(lambda: all_over(api))
        assert found.texts_or_files == ["0.txt", "1.txt", "2.txt", "2.txt", "2.txt", "3.txt"]
        assert api.running.delivery is not None
        assert api.running.delivery._taken == set()


def _say_files(api: Api, conversation: Conversation, count: int) -> None:
    relay = api.world.relay
    files = [relay.upload(b"x", content_type="text/plain", file_name=f"{number}.txt") for number in range(count)]
    relay.say(api.alice, conversation.key, "", attachments=files)


# --- what is set aside ---


@asynccontextmanager
async def something_parked(api: Api) -> AsyncIterator[tuple[Conversation, Target]]:
    """A message that the target never took."""
    conversation = await api.private()
    inbox = api.running.session.account.inbox
    without_pauses(inbox)
    async with target(400) as found:
        await deliver_to(api, found)
        api.says(conversation, "CANARY")
        await until(lambda: inbox.parked_count == 1)
        yield conversation, found


async def test_what_fails_for_good_is_set_aside_and_the_conversation_goes_on(api: Api) -> None:
    async with something_parked(api) as (conversation, found):
        assert found.texts == ["CANARY"] * 8
        found.answers = [200]
        api.says(conversation, "next")
        await until(lambda: found.texts[8:] == ["next"])
        (parked,) = await api.ok("getParked")
        assert (parked["attempts"], parked["reason"]) == (8, "HTTP 400")
        assert parked["updates"][0]["message"]["text"] == "CANARY"


async def test_what_was_set_aside_is_replayed_under_the_same_name(api: Api) -> None:
    async with something_parked(api) as (_, found):
        found.answers = [200]
        (parked,) = await api.ok("getParked")
        assert await api.ok("replayParked", ids=[parked["id"]]) == 1
        await until(lambda: len(found.texts) == 9)
        assert found.headers[8]["webhook-id"] == found.headers[0]["webhook-id"]
        assert found.updates[8] == found.updates[0]
        assert await api.ok("getParked") == []


async def test_what_was_set_aside_can_be_dropped(api: Api) -> None:
    async with something_parked(api):
        (parked,) = await api.ok("getParked")
        assert await api.ok("dropParked", ids=[parked["id"], 999]) == 1
        assert await api.ok("getParked") == []


# --- setting and ending it ---


async def test_while_a_webhook_is_set_nobody_polls(api: Api) -> None:
    async with target() as found:
        await deliver_to(api, found)
        status, _ = await api.refused("getUpdates")
        assert status == 409


async def test_an_empty_url_ends_it_and_what_waits_may_be_dropped(api: Api) -> None:
    conversation = await api.private()
    async with target(503) as found:
        await deliver_to(api, found)
        api.says(conversation, "old")
        await until(lambda: bool(found.updates))
        await api.ok("setWebhook", url="", drop_pending_updates=True)
    api.says(conversation, "new")
    assert [update["message"]["text"] for update in await api.updates()] == ["new"]


async def test_a_webhook_outlives_the_gateway(tmp_path: Path) -> None:
    async with target() as found:
        async with running_api(tmp_path) as api:
            await api.ok("setWebhook", url=found.url)
            conversation = api.world.relay.begin(api.alice, "", [api.me]).conversation
            await until(lambda: bool(found.updates))
        async with running_api(tmp_path, world=api.world, me=api.me, token=api.token) as again:
            again.says(conversation, "hello")
            await until(lambda: "hello" in found.texts)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"url": "https://127.0.0.1"}, "private or reserved"),
        ({"url": "https://[::1]/"}, "private or reserved"),
        ({"url": "http://93.184.216.34/"}, "HTTPS"),
        ({"url": "ftp://example.com/"}, "HTTPS"),
        ({"url": "https://user:pass@example.com/"}, "user"),
        ({"url": "https://nothing.invalid/"}, "resolve"),
        ({"url": "https://example.com", "ip_address": "10.0.0.1"}, "address"),
        ({"url": "https://example.com", "certificate": "x"}, "certificate"),
    ],
)
async def test_a_target_that_may_not_be_is_refused(tmp_path: Path, parameters: dict[str, str], reason: str) -> None:
    async with running_api(tmp_path, allowed_networks=()) as api:
        status, told = await api.refused("setWebhook", **parameters)
    assert status == 400
    assert reason in told
    assert "example" not in told


async def test_a_target_that_became_private_is_not_connected_to(api: Api) -> None:
    """The name was public when it was set; what counts is where it leads when it is connected to."""
    conversation = await api.private()
    async with target() as found:
        await deliver_to(api, found)
        object.__setattr__(api.gateway.policy, "allowed", ())  # as if the operator had never named this network
        api.says(conversation, "hello")
        await until_it(lambda: _has_failed(api))
        assert found.updates == []
    assert await failed_with(api) == "TargetRefused"
