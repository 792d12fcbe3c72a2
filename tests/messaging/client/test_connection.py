"""What a relay says of its assistants, as the SDK reads it, and what an assistant has it say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from messaging.client import Device, Relay, RelayRefused, RelayUnreachable, Store
from messaging.client.connection import ChatConnection
from messaging.client.requests import Requests
from messaging.wire.assistants import ListedAssistant
from messaging.wire.frames import Request
from messaging.wire.limits import MAX_BODY
from signal_protocol.operations import SignalCrypto
from tests.messaging.client.conftest import KEY, Register
from tests.relays import StartedRelay


async def until_listed_are(relay: Relay, *wanted: ListedAssistant) -> None:
    async with asyncio.timeout(5):
        while await relay.assistants() != wanted:
            await asyncio.sleep(0.02)


async def test_an_assistant_is_listed_as_connected_and_until_it_drains_as_accepting(
    client_relay: Relay, crypto: SignalCrypto, sqlite_relay: StartedRelay, tmp_path: Path
) -> None:
    token = sqlite_relay.assistant_token
    assert await client_relay.assistants() == ()
    async with Store.open(tmp_path / "scribe.db", KEY) as store:
        scribe = await Device.register_assistant(store, client_relay, crypto, name="scribe", token=token)
        listed = ListedAssistant(name="scribe", service_id=str(scribe.service_id), online=False, accepting=True)
        assert await client_relay.assistants() == (listed,)
        async with scribe:
            await until_listed_are(client_relay, listed.model_copy(update={"online": True}))
            await scribe.set_accepting("scribe", False)
            await until_listed_are(client_relay, listed.model_copy(update={"online": True, "accepting": False}))
            await scribe.set_accepting("scribe", True)
        await until_listed_are(client_relay, listed)


async def test_only_the_assistant_itself_has_its_state_changed(register: Register) -> None:
    ann = await register("+4915550000251")
    with pytest.raises(RelayRefused):
        await ann.set_accepting("scribe", False)


async def test_what_is_no_relay_lists_nothing() -> None:
    async with Relay("http://127.0.0.1:9") as nowhere:
        with pytest.raises(RelayUnreachable):
            await nowhere.assistants()


@asynccontextmanager
async def a_server_that_sends(*pieces: bytes) -> AsyncIterator[str]:
    """Its URL. It answers one request by these pieces of a body, each in a packet of its own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % sum(map(len, pieces)))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"


async def test_an_answer_in_several_pieces_is_read_to_its_end() -> None:
    async with a_server_that_sends(b'{"assis', b'tants":', b"[]}") as url, Relay(url) as relay:
        assert await relay.assistants() == ()


@pytest.mark.parametrize("extra", [0, 1])
async def test_no_more_is_read_than_a_relay_ever_answers(extra: int) -> None:
    async with a_server_that_sends(bytes(1), bytes(MAX_BODY - 1 + extra)) as url, Relay(url) as relay:
        assert await relay.call("GET", "/") == (200, bytes(MAX_BODY))


async def test_a_socket_that_is_closing_is_tried_once_and_not_again_and_again() -> None:
    tries = 0

    class Closing:
        async def send_bytes(self, _: bytes) -> None:
            nonlocal tries
            tries += 1
            raise ConnectionResetError

    async def nothing(_: Request) -> int:
        return 200

    async with Relay("http://localhost:1") as relay:
        connection = ChatConnection(relay, "", nothing)
        connection._socket = cast("Any", Closing())
        connection._connected.set()  # as it is until the closing has been noticed
        with pytest.raises(RelayUnreachable):
            await Requests(relay, connection, 0.2).authenticated("GET", "/v1/devices")
    assert tries == 1


async def test_many_devices_of_one_process_leave_connections_for_requests() -> None:
    async with Relay("http://localhost:1") as relay:
        assert cast("aiohttp.TCPConnector", relay.session.connector).limit == 0
