"""Updates over a WebSocket: pushed, confirmed by number, given back when it ends."""

import asyncio
from typing import Any

import aiohttp
import pytest

from messaging.bots.limits import SOCKET_WINDOW
from messaging.bots.sockets import MAX_FRAME
from tests.messaging.bots.gateways import Api, until


async def received(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[dict[str, Any]]:
    return [await socket.receive_json(timeout=10) for _ in range(count)]


def waiting(api: Api) -> int:
    return api.running.session.account.inbox.waiting


async def test_updates_are_pushed_and_over_when_they_are_confirmed(api: Api) -> None:
    conversation = await api.private()
    async with api.http.ws_connect(api.path("updates")) as socket:
        for text in ("one", "two"):
            api.says(conversation, text)
            (update,) = await received(socket, 1)
            assert update["message"]["text"] == text
            await socket.send_json({"confirm": [update["update_id"]]})
        await until(lambda: waiting(api) == 0)


async def test_what_is_not_confirmed_goes_to_the_next_under_the_same_number(api: Api) -> None:
    conversation = await api.private()
    api.says(conversation, "one")
    async with api.http.ws_connect(api.path("updates")) as socket:
        before = await received(socket, 1)
    async with api.http.ws_connect(api.path("updates")) as socket:
        assert await received(socket, 1) == before


async def test_what_fails_comes_again_after_a_pause(api: Api) -> None:
    api.says(await api.private(), "one")
    async with api.http.ws_connect(api.path("updates")) as socket:
        (update,) = await received(socket, 1)
        await socket.send_json({"fail": [update["update_id"]]})
        assert await received(socket, 1) == [update]


async def test_sockets_share_the_updates_and_a_conversation_is_never_split(api: Api) -> None:
    first, second = await api.private(), await api.private()
    api.says(first, "first")
    async with api.http.ws_connect(api.path("updates")) as one, api.http.ws_connect(api.path("updates")) as two:
        sockets = {asyncio.ensure_future(socket.receive_json()): socket for socket in (one, two)}
        (got,), (waits,) = await asyncio.wait(sockets, return_when=asyncio.FIRST_COMPLETED)
        api.says(first, "behind the first")
        api.says(second, "elsewhere")
        holder = sockets[got]
        again = asyncio.ensure_future(holder.receive_json())
        ((came,), (waits,)) = await asyncio.wait({again, waits}, return_when=asyncio.FIRST_COMPLETED)
        assert came.result()["message"]["text"] == "elsewhere"
        await holder.send_json({"confirm": [got.result()["update_id"]]})
        last = waits if came is again else again
        after = asyncio.ensure_future((holder if came is again else sockets[came]).receive_json())
        done, late = await asyncio.wait({last, after}, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result()["message"]["text"] for task in done] == ["behind the first"]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


async def test_no_more_are_pushed_than_are_confirmed(api: Api) -> None:
    conversations = [await api.private() for _ in range(SOCKET_WINDOW + 5)]
    for conversation in conversations:
        api.says(conversation, "hello")
    await until(lambda: waiting(api) == SOCKET_WINDOW + 5)
    async with api.http.ws_connect(api.path("updates")) as socket:
        updates = await received(socket, SOCKET_WINDOW)
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.2)
        await socket.send_json({"confirm": [updates[0]["update_id"], updates[1]["update_id"]]})
        assert len(await received(socket, 2)) == 2


@pytest.mark.parametrize(
    "said",
    ["", "{", "[]", '{"confirm": "x"}', '{"confirm": [{}]}', '{"else": []}', "x" * (MAX_FRAME + 1), b"\x00"],
)
async def test_what_cannot_be_understood_ends_the_socket_and_the_bot_goes_on(api: Api, said: str | bytes) -> None:
    api.says(await api.private(), "hello")
    async with api.http.ws_connect(api.path("updates")) as socket:
        before = await received(socket, 1)
        await (socket.send_str(said) if isinstance(said, str) else socket.send_bytes(said))
        ended = await socket.receive(timeout=10)
        assert ended.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert socket.close_code in (1003, 1007, 1009)
    assert await api.updates() == before


async def test_while_a_webhook_is_set_there_is_no_socket(api: Api) -> None:
    await api.ok("setWebhook", url="http://127.0.0.1:9/hook")
    with pytest.raises(aiohttp.WSServerHandshakeError, match="409"):
        await api.http.ws_connect(api.path("updates"))


async def test_a_webhook_ends_a_socket(api: Api) -> None:
    async with api.http.ws_connect(api.path("updates")) as socket:
        await api.ok("setWebhook", url="http://127.0.0.1:9/hook")
        assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE


async def test_a_webhook_ends_a_socket_that_had_no_room(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would get updates beside the webhook as soon as it has confirmed some."""
    monkeypatch.setattr("messaging.bots.sockets.SOCKET_WINDOW", 1)
    conversations = [await api.private() for _ in range(2)]
    for conversation in conversations:
        api.says(conversation, "hello")
    async with api.http.ws_connect(api.path("updates")) as socket:
        (update,) = await received(socket, 1)
        await api.ok("setWebhook", url="http://127.0.0.1:9/hook")
        await socket.send_json({"confirm": [update["update_id"]]})
        assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize("how", ["revoked", "rotated", "expired"])
async def test_a_socket_ends_with_its_token(api: Api, how: str) -> None:
    text, token = await api.running.add_token(["read"], seconds=2 if how == "expired" else None)
    async with api.http.ws_connect(f"{api.url}/bot{text}/updates") as socket:
        await until(lambda: bool(api.running._bound))
        match how:
            case "revoked":
                await api.running.revoke(token.id)
            case "rotated":
                await api.running.rotate(token, overlap=0)
        ended = await socket.receive(timeout=10)
        assert (ended.type, ended.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.POLICY_VIOLATION)
    await until(lambda: api.running._requests == 0)


async def test_a_socket_goes_on_when_another_token_ends(api: Api) -> None:
    _, other = await api.running.add_token(["read"])
    conversation = await api.private()
    async with api.http.ws_connect(api.path("updates")) as socket:
        await until(lambda: bool(api.running._bound))
        await api.running.revoke(other.id)
        api.says(conversation, "hello")
        assert (await received(socket, 1))[0]["message"]["text"] == "hello"


async def test_without_an_upgrade_it_is_a_method_that_there_is_not(api: Api) -> None:
    assert (await api.call("updates")).status == 404
