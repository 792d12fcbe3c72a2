"""A WebSocket of the server's side (RFC 6455): a protocol of asyncio that costs neither a task nor more memory than it must.

aiohttp reads the request; then :func:`accept` takes the connection over, and all that aiohttp kept for it is free. Frames are
read by aiohttp's parser. Nothing is compressed. What is said in a WebSocket is its listener's concern.
"""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from hashlib import sha1
from struct import Struct
from typing import Any, Protocol

from aiohttp import web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WS_KEY, WebSocketError, WebSocketReader, WSCloseCode, WSMsgType

from messaging.relay.errors import MalformedRequest

CLOSING_SECONDS = 5  # for the peer to say goodbye too
UNREAD_BYTES = (
    32 * 1024
)  # that a connection may hold before its peer reads: half of what makes the event loop call a halt
PARSED_BYTES = 4096  # at a time, so that little is left over when the listener has enough
_KEY_BYTES = 16
_VERSION = "13"
_SHORT, _MEDIUM, _LONG = 125, 126, 127
_HEAD_SHORT, _HEAD_MEDIUM, _HEAD_LONG = Struct("!BB").pack, Struct("!BBH").pack, Struct("!BBQ").pack
_FINAL = 0x80


class Listener(Protocol):
    """Who hears what is said in a WebSocket."""

    def opened(self, websocket: "WebSocket") -> None:
        """It has begun. Called first, and once."""

    def received(self, data: bytes) -> None:
        """A binary message has come. Must not wait, and must not raise."""

    def ended(self) -> None:
        """The connection is gone. Called once."""


class _Parsed(WebSocketDataQueue):
    """Where the parser puts messages: one for all WebSockets, because each takes them as soon as it has had them parsed."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.error: BaseException | None = None

    def feed_data(self, data: Any, size: int) -> None:  # noqa: ANN401, ARG002 - aiohttp's signature
        self.messages.append(data)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:  # noqa: ARG002
        self.error = exc

    def take(self) -> tuple[list[Any], BaseException | None]:
        """What was parsed, and what was wrong after it."""
        found = self.messages, self.error
        self.messages, self.error = [], None
        return found


class WebSocket(asyncio.Protocol):
    """One connection. ``dismissed``: it was not the peer that ended it."""

    __slots__ = (
        "_closing",
        "_drained",
        "_listener",
        "_parsed",
        "_pending",
        "_reader",
        "_rest",
        "_timer",
        "_transport",
        "dismissed",
        "heard",
        "reading",
    )

    def __init__(self, transport: asyncio.Transport, listener: Listener, parsed: _Parsed, max_size: int) -> None:
        self._transport: asyncio.Transport | None = transport
        self._listener: Listener | None = listener
        self._parsed = parsed
        self._reader = WebSocketReader(parsed, max_size, compress=False, decode_text=False)
        self._pending: list[Any] = []  # messages that came while nothing was to be read
        self._rest = b""  # and bytes behind them
        self._drained: asyncio.Event | None = None  # while the peer does not read
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self.dismissed = False
        self.heard = True  # anything, since the last heartbeat
        self.reading = True

    @property
    def closing(self) -> bool:
        """Whether nothing more is sent or heard."""
        return self._closing or self._transport is None

    def send_now(self, *messages: bytes) -> bool:
        """Send binary messages in one piece; ``False``, and nothing is sent, if the peer would have to read first."""
        transport = self._transport
        if transport is None or self._closing:
            return True  # nobody is there to miss them
        if self._drained is not None:
            return False
        piece = _piece_of(messages)
        if transport.get_write_buffer_size() + len(piece) > UNREAD_BYTES:
            return False
        transport.write(piece)
        return True

    async def send(self, *messages: bytes) -> None:
        """Send binary messages in one piece, and wait while the peer does not read."""
        if self._transport is not None and not self._closing:
            self._transport.write(_piece_of(messages))
            if self._drained is not None:
                await self._drained.wait()

    def close(self, code: int, reason: bytes = b"") -> None:
        """Say goodbye, and end the connection when the peer has said it too, or does not."""
        transport = self._transport
        if transport is None or self._closing:
            return
        transport.write(_frame_of(WSMsgType.CLOSE, code.to_bytes(2, "big") + reason))
        self.dismissed = True
        self._end()
        self._give_up_later(transport)
        transport.resume_reading()  # whatever it was paused for: the peer's goodbye is to be heard

    def beat(self) -> None:
        """Ask whether the peer is still there; one that has said nothing since the last time is not."""
        transport = self._transport
        if transport is None or self._closing or not (self.reading or self._drained):
            return  # it is we who do not listen, and what it has asked is being worked at
        if not self.heard:
            transport.abort()
            return
        self.heard = False
        if self.reading and transport.get_write_buffer_size() <= UNREAD_BYTES:
            transport.write(_frame_of(WSMsgType.PING, b""))

    def pause(self) -> None:
        """Hear nothing more for now."""
        self.reading = False
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Hear again, what has come meanwhile first."""
        self.reading = True
        pending, self._pending = self._pending, []
        self._handle(pending)
        rest, self._rest = self._rest, b""
        if rest:
            self._parse(rest)
        if self.reading and self._transport is not None and not self._closing:
            self._transport.resume_reading()

    # What asyncio calls.

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        self.heard = True
        if self.reading:
            self._parse(data)
        else:
            self._rest += data

    def pause_writing(self) -> None:
        """The peer does not read."""
        self._drained = asyncio.Event()

    def resume_writing(self) -> None:
        """It reads again."""
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.set()

    def connection_lost(self, _error: Exception | None) -> None:
        """It is over."""
        listener, self._listener = self._listener, None
        self._transport, self._pending, self._rest = None, [], b""
        self.resume_writing()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if listener is not None:
            listener.ended()

    def _parse(self, data: bytes) -> None:
        for start in range(0, len(data), PARSED_BYTES):
            if not self.reading:
                self._rest = data[start:]
                return
            self._reader.feed_data(data if len(data) <= PARSED_BYTES else data[start : start + PARSED_BYTES])
            messages, error = self._parsed.take()
            self._handle(messages)
            if error is not None:
                self.close(error.code if isinstance(error, WebSocketError) else WSCloseCode.INTERNAL_ERROR)
                return

    def _handle(self, messages: list[Any]) -> None:
        for place, message in enumerate(messages):
            if not self.reading:
                self._pending = messages[place:]
                return
            self._take(message)

    def _take(self, message: Any) -> None:  # noqa: ANN401 - aiohttp's named tuple
        kind, data = message.type, message.data
        if kind is WSMsgType.CLOSE:
            self._take_goodbye(data)
        elif self._closing or self._listener is None:
            return
        elif kind is WSMsgType.BINARY:
            self._listener.received(data)
        elif kind is WSMsgType.PING:
            if self._transport is not None and self._transport.get_write_buffer_size() <= UNREAD_BYTES:
                self._transport.write(_frame_of(WSMsgType.PONG, bytes(data)))
        elif kind is WSMsgType.TEXT:
            self.close(WSCloseCode.UNSUPPORTED_DATA)

    def _take_goodbye(self, code: int) -> None:
        transport = self._transport
        if transport is None:
            return
        if not self._closing:
            transport.write(_frame_of(WSMsgType.CLOSE, code.to_bytes(2, "big") if code else b""))
            self._end()
            self._give_up_later(transport)  # closing waits until the peer has read what was sent
        transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _give_up_later(self, transport: asyncio.Transport) -> None:
        self._timer = asyncio.get_running_loop().call_later(CLOSING_SECONDS, transport.abort)

    def _end(self) -> None:
        self._closing = self.reading = True  # for the peer's goodbye
        self._pending, self._rest = [], b""


def _piece_of(messages: Sequence[bytes]) -> bytes:
    if len(messages) == 1:
        return _frame_of(WSMsgType.BINARY, messages[0])
    return b"".join([_frame_of(WSMsgType.BINARY, each) for each in messages])


def _frame_of(kind: WSMsgType, data: bytes) -> bytes:
    """One frame, as a server sends it: whole and without a mask (RFC 6455, section 5.2)."""
    size, first = len(data), _FINAL | kind
    if size <= _SHORT:
        return _HEAD_SHORT(first, size) + data
    if size < 1 << 16:
        return _HEAD_MEDIUM(first, _MEDIUM, size) + data
    return _HEAD_LONG(first, _LONG, size) + data


class WebSockets:
    """Accepts WebSockets whose messages have at most ``max_size`` bytes."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._parsed = _Parsed()

    def accept(self, request: web.BaseRequest, listener: Listener) -> None:
        """Turn the request's connection into a WebSocket (RFC 6455, section 4.2). aiohttp's handler has nothing left to do.

        Raises:
            MalformedRequest: not a request for one.
        """
        answer = _handshake(request)
        protocol, transport = request.protocol, request.transport
        if transport is None or transport.is_closing():
            raise MalformedRequest  # the client is gone already
        transport.set_write_buffer_limits(high=2 * UNREAD_BYTES)  # with TLS it would be eight times as much
        websocket = WebSocket(transport, listener, self._parsed, self._max_size)
        transport.set_protocol(websocket)
        transport.write(answer)
        if protocol.writing_paused:
            websocket.pause_writing()
        listener.opened(websocket)
        protocol.set_parser(_Rest(websocket))  # type: ignore[arg-type]  # of a parser it needs no more
        protocol.transport = None  # aiohttp's part is over: it is to let go, and not to close
        protocol.connection_lost(None)


class _Rest:
    """Hands on what had come behind the request."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._websocket.data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        """There is nothing more to hand on."""


def _handshake(request: web.BaseRequest) -> bytes:
    headers = request.headers
    tokens = {token.strip() for token in headers.get("Connection", "").lower().split(",")}
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        size = len(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        raise MalformedRequest from None
    is_fit = request.method == "GET" and "upgrade" in tokens and size == _KEY_BYTES
    if not is_fit or headers.get("Sec-WebSocket-Version") != _VERSION:
        raise MalformedRequest
    proof = base64.b64encode(sha1(key.encode() + WS_KEY).digest())  # noqa: S324 - the RFC's choice: no secret is behind it
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n"
    )
