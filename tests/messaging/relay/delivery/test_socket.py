"""The chat socket: delivery until acknowledged, requests in both directions, and why it closes."""

import asyncio
from collections.abc import Mapping

import aiohttp
import pytest
from redis.asyncio import Redis

from messaging.relay.accounts.tables import find_credentials
from messaging.relay.database import normalise_url, open_database
from messaging.relay.delivery.redis import Channels, encode_notice
from messaging.relay.delivery.socket import MAX_RUNNING_REQUESTS, response_frame
from messaging.relay.delivery.wakeups import ConnectedElsewhere
from messaging.relay.http import Answer
from messaging.relay.server_secret import ServerSecret
from messaging.wire import frames
from messaging.wire.accounts import AccountCreationResponse
from messaging.wire.json import encode_base64
from messaging.wire.keys import SetKeysRequest, prekeys_path
from messaging.wire.limits import MAX_FRAME
from messaging.wire.messages import SendMessageResponse
from tests.devices import Device, NewDevice, Peer, basic, message_for, one_time_prekey
from tests.relays import Relays, StartedRelay


async def test_the_backlog_comes_in_order_and_then_the_word_that_it_is_all(alice: Device, bob: Device) -> None:
    for number in range(110):  # more than a page
        await alice.send(bob, b"%d" % number)
    async with bob.socket() as socket:
        assert await socket.receive(110) == [b"%d" % number for number in range(110)]
        await socket.queue_empty()
        await alice.send(bob, b"later")
        assert await socket.receive(1) == [b"later"]
        assert await socket.silent()


async def test_what_is_not_acknowledged_comes_again(alice: Device, bob: Device) -> None:
    for content in (b"one", b"two", b"three", b"four"):
        await alice.send(bob, content)
    async with bob.socket() as socket:
        seen = [await socket.envelope() for _ in range(4)]
        await socket.answer(seen[1][0])
        await socket.answer(seen[2][0], 500)
        await socket.answer(seen[3][0], 299)
        await socket.queue_empty()
        await socket.call("GET", "/v1/keepalive")
    async with bob.socket() as socket:
        again = [await socket.envelope() for _ in range(2)]
    assert [envelope.content for _, envelope in again] == [b"one", b"three"]
    assert [envelope.guid for _, envelope in again] == [seen[0][1].guid, seen[2][1].guid]


async def test_at_most_a_window_is_under_way(alice: Device, bob: Device) -> None:
    await asyncio.gather(*(alice.send(bob, b"x") for _ in range(300)))
    async with bob.socket() as socket:
        requests = [(await socket.envelope())[0] for _ in range(256)]
        assert await socket.silent()
        for request in requests:
            await socket.answer(request)
        assert len(await socket.receive(44)) == 44
        await socket.queue_empty()


async def test_a_second_socket_of_a_device_displaces_the_first(bob: Device) -> None:
    async with bob.socket() as first:
        await first.queue_empty()
        async with bob.socket() as second:
            await second.queue_empty()
            assert await first.close_code() == 4409
            assert (await second.call("GET", "/v1/keepalive")).status == 200


async def test_a_late_notice_of_an_earlier_connection_ends_no_later_one(bob: Device, relay: StartedRelay) -> None:
    database = open_database(normalise_url(relay.settings.database_url))
    async with bob.socket() as first:
        await first.queue_empty()
        async with bob.socket() as second:
            await second.queue_empty()
            await first.close_code()
            async with database.read() as db:
                stored = await find_credentials(db, bob.aci.uuid, 1)
            assert stored is not None
            if relay.settings.redis_url is not None:
                redis = Redis.from_url(relay.settings.redis_url)
                notice = encode_notice(ConnectedElsewhere(1))
                assert relay.settings.secret_file is not None
                key = ServerSecret.derive(relay.settings.secret_file.read_bytes()).limit_name_key
                channel = Channels.under(key).of(stored.caller.mailbox_id)
                assert await redis.spublish(channel, notice) == 1
                await redis.aclose()
            assert await second.silent()
    await database.close()


@pytest.mark.parametrize("headers", [{"Authorization": basic("nobody", "x")}, {"Authorization": "Basic x"}], ids=str)
async def test_wrong_credentials_fail_the_upgrade(peer: Peer, headers: Mapping[str, str]) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with peer.socket(headers):
            pass
    assert caught.value.status == 401


async def test_the_whole_api_can_be_tunnelled(peer: Peer, alice: Device, bob: Device) -> None:
    async with alice.socket() as socket:
        await socket.queue_empty()
        assert (await socket.call("GET", "/v1/accounts/whoami")).json()["uuid"] == str(alice.aci)
        uploaded = await socket.call(
            "PUT", "/v2/keys?identity=aci", SetKeysRequest(pre_keys=(one_time_prekey(1),)).to_json()
        )
        assert (uploaded.status, uploaded.body, "content-type" in uploaded.headers) == (204, b"", False)
        sent = await socket.call("PUT", f"/v1/messages/{bob.aci}", message_for(bob, b"hello"))
        assert SendMessageResponse.from_json(sent.body) == SendMessageResponse(needs_sync=False)
        missing = await socket.call("GET", "/v1/nothing")
        assert (missing.status, missing.json()) == (404, {"code": "no_such_path"})
        assert (await socket.call("GET", f"/v1/messages/{bob.aci}")).status == 405
        assert (await socket.call("PUT", f"/v1/messages/{bob.aci}", b"{")).status == 400
        assert int(missing.headers["x-signal-timestamp"]) > 0


async def test_a_socket_without_credentials_carries_what_needs_none(peer: Peer, bob: Device) -> None:
    async with peer.socket() as socket:
        assert (await socket.call("GET", "/v1/accounts/whoami")).status == 401
        key = {"unidentified-access-key": encode_base64(bob.known.access_key)}
        assert (await socket.call("GET", prekeys_path(bob.aci), None, **key)).status == 200
        sealed = message_for(bob, b"sealed", type=6)
        assert (await socket.call("PUT", f"/v1/messages/{bob.aci}", sealed, **key)).status == 200


async def test_registration_works_through_a_socket_as_libsignal_does_it(peer: Peer) -> None:
    known = NewDevice()
    session = await peer.verified_session(known.number)
    async with peer.socket() as socket:
        reply = await socket.call(
            "POST",
            "/v1/registration",
            known.registration(session).to_json(),
            authorization=basic(known.number, known.password),
        )
    assert reply.headers["content-type"] == "application/json"
    assert AccountCreationResponse.from_json(reply.body).number == known.number


async def test_requests_run_side_by_side_and_none_is_lost(alice: Device) -> None:
    async with alice.socket() as socket:
        await socket.queue_empty()
        asked = {await socket.ask("GET", "/v1/accounts/whoami") for _ in range(5 * MAX_RUNNING_REQUESTS)}
        answered = set()
        for _ in asked:
            frame = await socket.frame()
            assert isinstance(frame, frames.Response)
            assert frame.status == 200
            answered.add(frame.id)
    assert answered == asked


@pytest.mark.parametrize("data", [b"", b"\xff", frames.encode_frame(frames.Request(1, "GET", "/"))[:-1]], ids=repr)
async def test_a_malformed_frame_closes_the_socket(peer: Peer, data: bytes) -> None:
    async with peer.socket() as socket:
        await socket.websocket.send_bytes(data)
        assert await socket.close_code() == 1007


async def test_text_closes_the_socket(peer: Peer) -> None:
    async with peer.socket() as socket:
        await socket.websocket.send_str("hello")
        assert await socket.close_code() == 1003


async def test_a_frame_has_a_largest_size(peer: Peer) -> None:
    async with peer.socket() as socket:
        envelope = frames.encode_frame(frames.Request(1, "PUT", "/v1/nothing", body=bytes(MAX_FRAME)))
        largest = frames.encode_frame(
            frames.Request(1, "PUT", "/v1/nothing", body=bytes(2 * MAX_FRAME - len(envelope) - 8))
        )
        assert MAX_FRAME - 16 < len(largest) < MAX_FRAME
        await socket.websocket.send_bytes(largest)
        response = await socket.frame()
        assert isinstance(response, frames.Response)
        await socket.websocket.send_bytes(envelope)
        assert await socket.close_code() == 1009


async def test_a_device_that_does_not_read_costs_little_and_loses_nothing(alice: Device, bob: Device) -> None:
    for _ in range(60):
        await alice.send(bob, bytes(90_000))
    async with bob.socket() as socket:
        await asyncio.sleep(0.3)  # some five megabytes do not fit into the buffers of a connection
        assert (await bob.call("GET", "/v1/keepalive")).status == 200
        assert [len(content) for content in await socket.receive(60)] == [90_000] * 60
        await socket.queue_empty()


async def test_when_the_relay_stops_sockets_close_and_what_was_sent_is_kept(relays: Relays, backend: str) -> None:
    settings = await relays.settings(backend)
    async with aiohttp.ClientSession() as http:
        peer = Peer(await relays.serve(settings), http)
        alice, bob = await peer.register(), await peer.register()
        async with bob.socket() as socket:
            await socket.queue_empty()
            await alice.send(bob, b"kept")
            await socket.envelope()
            stopping = asyncio.create_task(relays.stop())
            assert await socket.close_code() == 1001
            await stopping
        again = Device(Peer(await relays.serve(settings), http), bob.known, bob.aci, bob.pni)
        async with again.socket() as socket:
            assert await socket.receive(1) == [b"kept"]


async def test_no_more_requests_run_at_a_time_than_may_also_if_they_come_with_the_upgrade(relay: StartedRelay) -> None:
    """Nobody reads the answers, so none of them ends; what comes behind them stays unread."""
    ask = frames.encode_frame(frames.Request(1, "GET", "/v1/openapi.json"))
    many = (b"\x82" + bytes([0x80 | len(ask)]) + bytes(4) + ask) * 400
    _, writer = await asyncio.open_connection("127.0.0.1", relay.port, limit=1)
    writer.write(
        b"GET /v1/websocket/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + many
    )
    await asyncio.sleep(1)
    running = [task for task in asyncio.all_tasks() if "ChatSocket._answer" in repr(task)]
    assert 0 < len(running) <= MAX_RUNNING_REQUESTS
    writer.transport.abort()


async def test_a_request_that_ends_its_own_socket_is_answered_first(bob: Device) -> None:
    async with bob.socket() as socket:
        await socket.queue_empty()
        assert (await socket.call("DELETE", "/v1/accounts/me")).status == 204
        assert await socket.close_code() == 4401


def test_an_answer_without_a_body_has_none_as_a_frame() -> None:
    assert response_frame(7, Answer(204)) == frames.Response(7, 204, "No Content")
    assert response_frame(7, Answer(440, b"{}", {"A": "b"})) == frames.Response(7, 440, "", {"a": "b"}, b"{}")
