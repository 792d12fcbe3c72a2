"""A WebSocket of the server's side: what is said arrives whole and in order, and a peer that means ill costs little."""

import asyncio
import base64
from dataclasses import dataclass, field

import aiohttp
import pytest
from hypothesis import given
from hypothesis.strategies import binary, integers, lists

from messaging.relay.websocket import PARSED_BYTES, UNREAD_BYTES, WebSocket, WebSockets
from tests.relays import StartedRelay

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
LARGEST = 100_000


@dataclass
class Transport:
    """What asyncio would give: it remembers what was written and asked."""

    written: list[bytes] = field(default_factory=list)
    unread: int = 0
    reading: bool = True
    ended: str = ""

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


@dataclass
class Ears:
    """Remembers what was said, and has enough after ``enough`` messages."""

    websocket: WebSocket | None = None
    enough: int = 10**9
    heard: list[bytes] = field(default_factory=list)
    over: int = 0

    def opened(self, websocket: WebSocket) -> None:
        self.websocket = websocket

    def received(self, data: bytes) -> None:
        self.heard.append(data)
        if len(self.heard) == self.enough and self.websocket is not None:
            self.websocket.pause()

    def ended(self) -> None:
        self.over += 1


def frame(kind: int, data: bytes = b"", *, final: bool = True) -> bytes:
    """As a client sends it, under a mask of zeros (RFC 6455, section 5.2)."""
    size = len(data)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([(0x80 if final else 0) | kind]) + length + bytes(4) + data


@dataclass
class Line:
    websocket: WebSocket
    transport: Transport
    ears: Ears

    def kinds(self) -> list[int]:
        return [each[0] & 0x0F for each in self.transport.written]


def a_line(enough: int = 10**9) -> Line:
    transport, ears = Transport(), Ears(enough=enough)
    made = WebSockets(LARGEST)
    websocket = WebSocket(transport, ears, made._parsed, LARGEST)  # type: ignore[arg-type]  # as much of one as is used
    ears.websocket = websocket
    return Line(websocket, transport, ears)


@given(messages=lists(binary(max_size=300), max_size=20), cuts=lists(integers(1, 40), max_size=60))
def test_messages_arrive_whole_and_in_order_however_bytes_come(messages: list[bytes], cuts: list[int]) -> None:
    line, stream = a_line(), b"".join(frame(BINARY, each) for each in messages)
    for cut in cuts:
        line.websocket.data_received(stream[:cut])
        stream = stream[cut:]
    line.websocket.data_received(stream)
    assert line.ears.heard == messages


@given(sizes=lists(integers(0, 3 * PARSED_BYTES), max_size=8), enough=integers(1, 6))
def test_who_has_had_enough_hears_the_rest_later(sizes: list[int], enough: int) -> None:
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    line = a_line(enough)
    line.websocket.data_received(b"".join(frame(BINARY, each) for each in messages))
    assert line.ears.heard == messages[:enough]
    if len(messages) >= enough:
        assert not line.transport.reading
        line.ears.enough = 10**9
        line.websocket.data_received(frame(BINARY, b"later"))  # asyncio had read it already
        messages.append(b"later")
        line.websocket.resume()
    assert line.ears.heard == messages
    assert line.transport.reading


def test_a_message_in_parts_with_a_ping_between_them() -> None:
    line = a_line()
    line.websocket.data_received(frame(BINARY, b"one ", final=False) + frame(PING, b"?") + frame(0, b"two"))
    assert line.ears.heard == [b"one two"]
    assert line.transport.written == [b"\x8a\x01?"]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
async def test_what_is_sent_says_its_size(size: int) -> None:
    line = a_line()
    await line.websocket.send(bytes(size))
    head = {0: b"\x82\x00", 125: b"\x82\x7d", 126: b"\x82\x7e\x00\x7e", 65_535: b"\x82\x7e\xff\xff"}
    assert line.transport.written == [head.get(size, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00") + bytes(size)]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"words"), 1003),
        (frame(BINARY, bytes(LARGEST + 1)), 1009),
        (frame(0, b"continues nothing"), 1002),
        (frame(PING, bytes(126)), 1002),
        (b"\xc2\x80\x00\x00\x00\x00", 1002),
        (b"\x83\x80\x00\x00\x00\x00", 1002),
    ],
    ids=["text", "too large", "no beginning", "long ping", "compressed", "unknown"],
)
async def test_what_must_not_be_said_ends_the_connection(sent: bytes, code: int) -> None:
    line = a_line()
    line.websocket.data_received(frame(BINARY, b"before") + sent + frame(BINARY, b"after"))
    assert line.transport.written == [b"\x88\x02" + code.to_bytes(2, "big")]
    line.websocket.data_received(frame(BINARY, b"and on and on"))
    assert line.ears.heard == [b"before"]
    assert line.websocket.dismissed
    line.websocket.connection_lost(None)


async def test_a_goodbye_is_answered_and_nothing_follows_it() -> None:
    line = a_line()
    line.websocket.data_received(frame(CLOSE, b"\x03\xe8bye") + frame(BINARY, b"after"))
    assert line.transport.written == [b"\x88\x02\x03\xe8"]
    assert line.transport.ended == "closed"
    assert not line.websocket.dismissed
    assert line.websocket.send_now(b"x")
    await line.websocket.send(b"x")
    line.websocket.close(1000)
    assert len(line.transport.written) == 1
    line.websocket.connection_lost(None)
    line.websocket.connection_lost(None)
    assert (line.ears.heard, line.ears.over) == ([], 1)


async def test_who_is_sent_away_may_say_goodbye_first_and_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("messaging.relay.websocket.CLOSING_SECONDS", 0.01)
    polite, rude = a_line(), a_line()
    for line in (polite, rude):
        line.websocket.pause()
        line.websocket.close(1001, b"retry-after=0.5")
        assert line.transport.reading
        assert line.transport.written == [b"\x88\x11\x03\xe9retry-after=0.5"]
    polite.websocket.data_received(frame(CLOSE, b"\x03\xe9"))
    assert polite.transport.ended == "closed"
    polite.websocket.connection_lost(None)
    await asyncio.sleep(0.05)
    assert (polite.transport.ended, rude.transport.ended) == ("closed", "aborted")


def test_who_does_not_read_gets_nothing_at_once_and_no_pongs_pile_up() -> None:
    line = a_line()
    line.transport.unread = UNREAD_BYTES - 10
    assert line.websocket.send_now(bytes(8))  # and two bytes that say so
    assert not line.websocket.send_now(bytes(9))
    assert not line.websocket.send_now(bytes(3), bytes(4))
    line.transport.unread = UNREAD_BYTES + 1
    for _ in range(1000):
        line.websocket.data_received(frame(PING))
    assert line.kinds() == [BINARY]


async def test_whoever_sends_waits_while_the_peer_does_not_read() -> None:
    line = a_line()
    line.websocket.pause_writing()
    assert not line.websocket.send_now(b"x")
    sending = [asyncio.create_task(line.websocket.send(b"x")) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert not any(each.done() for each in sending)
    sending[0].cancel()
    await asyncio.sleep(0)
    line.websocket.resume_writing()
    async with asyncio.timeout(5):
        await asyncio.gather(*sending[1:])
    line.websocket.pause_writing()
    waiting = asyncio.create_task(line.websocket.send(b"x"))
    await asyncio.sleep(0.01)
    line.websocket.connection_lost(None)
    async with asyncio.timeout(5):
        await waiting


def test_a_peer_that_says_nothing_between_two_heartbeats_is_gone() -> None:
    line = a_line()
    line.websocket.beat()
    assert line.kinds() == [PING]
    line.websocket.data_received(frame(PONG))
    line.websocket.beat()
    assert (line.kinds(), line.transport.ended) == ([PING, PING], "")
    line.websocket.beat()
    assert line.transport.ended == "aborted"


def test_a_peer_that_does_not_read_what_it_asked_for_is_gone_after_a_while() -> None:
    line = a_line()
    line.websocket.pause()
    line.websocket.pause_writing()
    line.websocket.beat()
    assert line.transport.ended == ""
    line.websocket.beat()
    assert line.transport.ended == "aborted"


async def test_who_says_goodbye_and_does_not_read_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging.relay.websocket.CLOSING_SECONDS", 0.01)
    line = a_line()
    line.transport.unread = 1000
    line.websocket.data_received(frame(CLOSE, b"\x03\xe8"))
    assert line.transport.ended == "closed"
    await asyncio.sleep(0.05)
    assert line.transport.ended == "aborted"


def test_a_peer_that_is_not_listened_to_is_not_taken_for_gone() -> None:
    line = a_line()
    line.websocket.beat()
    line.websocket.pause()
    line.websocket.beat()
    assert line.transport.ended == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "keep-alive"},
        {"Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Key": base64.b64encode(bytes(15)).decode()},
        {"Sec-WebSocket-Key": "ä" * 22},
    ],
    ids=["no upgrade", "version", "no key", "short key", "odd key"],
)
async def test_a_request_that_is_not_for_a_websocket_is_refused(relay: StartedRelay, headers: dict[str, str]) -> None:
    good = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    }
    asking = {**good, **headers}
    async with aiohttp.ClientSession() as http, http.get(f"{relay.url}/v1/websocket/", headers=asking) as response:
        assert response.status == 400
        assert await response.json() == {"code": "malformed"}


async def test_what_comes_right_behind_the_request_is_heard(relay: StartedRelay) -> None:
    """The key and its answer are those of RFC 6455, section 1.3."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    request = (
        b"GET /v1/websocket/ HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    writer.write(request + frame(PING, b"at once") + frame(CLOSE, b"\x03\xe8"))
    async with asyncio.timeout(10):
        answer = await reader.read()
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    assert rest == b"\x8a\x07at once\x88\x02\x03\xe8"
    writer.close()
