"""The chat socket: frames in both directions, in which envelopes go out and the whole REST API comes in.

Nothing here grows with a peer's behaviour: when ``MAX_RUNNING_REQUESTS`` of its requests are being answered, no further
frame is read. Requests run in tasks that a closing socket does not cancel. What to deliver is ``delivery.outbound``'s.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from http import HTTPStatus

from aiohttp import WSMsgType, web
from aiohttp.base_protocol import BaseProtocol

from messaging.relay.accounts.authentication import Authentication
from messaging.relay.delivery.acknowledgements import Acknowledgements
from messaging.relay.delivery.mailbox import Mailboxes
from messaging.relay.delivery.openings import Openings
from messaging.relay.delivery.outbound import MailboxGone, Outbound, Unfinished, Wishes
from messaging.relay.delivery.wakeups import (
    ConnectedElsewhere,
    CredentialsReplaced,
    Heard,
    MailArrived,
    MailboxSeen,
    PrekeysRunLow,
    Wakeups,
)
from messaging.relay.errors import MalformedRequest
from messaging.relay.http import NO_CONTENT, Answer, Call, Caller, Dispatcher
from messaging.relay.keys.service import KeyService
from messaging.relay.logs import get_logger
from messaging.relay.tasks import end, finish_now
from messaging.wire import frames
from messaging.wire.errors import MalformedFrame
from messaging.wire.limits import MAX_FRAME, MAX_MARKER
from messaging.wire.messages import PrekeysLow

HEARTBEAT_SECONDS = 30
CLOSING_SECONDS = 5
CLOSED_AT_ONCE = 200
CLOSING_PAUSE_SECONDS = 0.1
MAX_RUNNING_REQUESTS = 16
UNREAD_BYTES = (
    32 * 1024
)  # that a connection may hold before its peer reads: half of what makes the event loop call a halt
SET_MARKER_PATH = "/v1/messages/marker/"
PREKEYS_LOW_PATH = "/api/v1/keys/low"


class CloseCode(IntEnum):
    """Why the relay closes a socket (RFC 6455, section 7.4.1; 44xx: Signal-Server). aiohttp itself says 1009."""

    NORMAL = 1000
    GOING_AWAY = 1001
    UNSUPPORTED = 1003
    MALFORMED = 1007
    FAULT = 1011
    CREDENTIALS_REPLACED = 4401
    CONNECTED_ELSEWHERE = 4409


@dataclass(frozen=True, slots=True)
class Sockets:
    """Opens sockets, and closes them all when the relay stops. ``now`` gives milliseconds since 1970."""

    authentication: Authentication
    dispatcher: Dispatcher
    openings: Openings
    mailboxes: Mailboxes
    acknowledgements: Acknowledgements
    wakeups: Wakeups
    keys: KeyService
    now: Callable[[], int]
    unfinished: Unfinished = field(default_factory=Unfinished)
    open: "set[ChatSocket]" = field(default_factory=set)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """Run one socket until it closes. Without credentials it carries requests only.

        Raises:
            NotAuthenticated: wrong credentials; the upgrade fails.
        """
        caller = await self.authentication.find(call)
        websocket = web.WebSocketResponse(
            timeout=CLOSING_SECONDS, heartbeat=HEARTBEAT_SECONDS, max_msg_size=MAX_FRAME, compress=False
        )
        await websocket.prepare(request)
        socket = ChatSocket(self, websocket, request.protocol, caller, call.remote, Wishes.read(call.headers))
        self.open.add(socket)
        try:
            if self.stopping.is_set():
                socket.close(CloseCode.GOING_AWAY)
            await socket.run()
        finally:
            self.open.discard(socket)
        return websocket

    async def close(self) -> None:
        """Close all sockets, those too that are being opened, and wait for what they began.

        A few at a time: all at once would come back at once, to those relays that go on.
        """
        self.stopping.set()
        closing = list(self.open)
        for start in range(0, len(closing), CLOSED_AT_ONCE):
            if start:
                await asyncio.sleep(CLOSING_PAUSE_SECONDS)
            for socket in closing[start : start + CLOSED_AT_ONCE]:
                socket.close(CloseCode.GOING_AWAY)
        await asyncio.gather(*(socket.closed for socket in closing))
        await self.unfinished.finish()


class ChatSocket:
    """One socket. ``closed`` is done when it is over."""

    __slots__ = (
        "__weakref__",
        "_arrived",
        "_caller",
        "_code",
        "_connection",
        "_delivery",
        "_latest",
        "_outbound",
        "_over",
        "_protocol",
        "_reading",
        "_remote",
        "_requests",
        "_sockets",
        "_wants_prekeys",
        "_websocket",
        "closed",
    )

    def __init__(
        self,
        sockets: Sockets,
        websocket: web.WebSocketResponse,
        protocol: BaseProtocol,
        caller: Caller | None,
        remote: str,
        wishes: Wishes,
    ) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._delivery: asyncio.Task[None] | None = None
        self._sockets = sockets
        self._websocket = websocket
        self._protocol = protocol
        self._caller = caller
        self._remote = remote
        self._wants_prekeys = wishes.prekeys
        self._connection: int | None = None  # its number, once it is known
        self._latest = 0  # the greatest number of a connection of this device that was heard of
        self._arrived = 0  # the last sequence that was heard of
        self._requests = asyncio.Semaphore(MAX_RUNNING_REQUESTS)
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read_frames())
        self._reading.add_done_callback(self._no_longer_reading)
        self._code = CloseCode.NORMAL
        self._outbound: Outbound | None = None
        if caller is not None:
            self._outbound = Outbound(
                caller,
                wishes,
                sockets.openings,
                sockets.mailboxes,
                sockets.acknowledgements,
                self,
                self._connected,
                self._wake,
                sockets.unfinished,
                sockets.now,
            )

    async def run(self) -> None:
        """Serve the peer until one side closes."""
        try:
            if self._caller is None or self._outbound is None:
                await self._over
            else:
                await self._run_with_delivery(self._caller.mailbox_id, self._outbound)
            # Only now, with nobody reading, does aiohttp wait for the peer to close in its turn.
            await self._websocket.close(code=self._code, message=_hint(self._code))
        finally:
            self._reading.cancel()
            self.closed.set_result(None)

    async def _run_with_delivery(self, mailbox_id: int, outbound: Outbound) -> None:
        async with self._sockets.wakeups.listen(mailbox_id, self._notice):
            self._wake()
            self._tell_of_prekeys()
            try:
                await self._over  # not asyncio.wait: what that holds, each idle socket would
            finally:
                if self._delivery is not None:
                    await end([self._delivery])
                if self._code is CloseCode.NORMAL:  # the peer ended it
                    outbound.abandoned()

    def close(self, code: CloseCode) -> None:
        """Let the socket end with ``code``; of several codes the first one stands."""
        if not self._reading.done():
            self._code = code if self._code is CloseCode.NORMAL else self._code
            self._reading.cancel()

    def _no_longer_reading(self, reading: "asyncio.Task[None]") -> None:
        if not reading.cancelled():
            reading.exception()  # a peer that goes away is no news
        if not self._over.done():
            self._over.set_result(None)

    async def _read_frames(self) -> None:
        async for message in self._websocket:
            if message.type is not WSMsgType.BINARY:
                self._code = CloseCode.UNSUPPORTED
                return
            try:
                frame = frames.decode_frame(message.data)
            except MalformedFrame:
                self._code = CloseCode.MALFORMED
                return
            match frame:
                case frames.Request():
                    await self._requests.acquire()
                    self._sockets.unfinished.start(self._answer(frame))
                case frames.Response() if self._outbound is not None:
                    self._outbound.answered(frame)

    async def _answer(self, request: frames.Request) -> None:
        try:
            body = request.body or b""
            call = Call(request.verb, request.path, request.headers, body, self._remote, self._caller)
            own = self._mark if self._is_marker(call) else None
            answer = await self._sockets.dispatcher.answer(call, own)
            await self.send(frames.encode_frame(response_frame(request.id, answer)))
        finally:
            self._requests.release()

    def _is_marker(self, call: Call) -> bool:
        """Whether it is the one request that concerns this socket and not the account."""
        return self._outbound is not None and call.verb == "PUT" and call.path.startswith(SET_MARKER_PATH)

    async def _mark(self, call: Call) -> Answer:
        marker = call.path.removeprefix(SET_MARKER_PATH)
        if self._outbound is None or not (
            1 <= len(marker) <= MAX_MARKER and all(each.isalnum() or each in "-_" for each in marker)
        ):
            raise MalformedRequest
        await self._outbound.mark(marker)
        return NO_CONTENT

    def _tell_of_prekeys(self) -> None:
        if self._wants_prekeys:
            self._sockets.unfinished.start(self._send_counts())

    async def _send_counts(self) -> None:
        if self._caller is None or self._outbound is None:
            return
        try:
            for identity, count in await self._sockets.keys.low(self._caller):
                low = PrekeysLow(identity=identity, count=count.count, pq_count=count.pq_count)
                await self._outbound.note(PREKEYS_LOW_PATH, low.to_json())
        except Exception as error:  # noqa: BLE001 - a hint: the device can still ask
            get_logger().warning("counts_not_sent", error=type(error).__name__)

    def send_now(self, frame: bytes) -> bool:
        """Write a frame, without a task for it; ``False``, and nothing is written, if the peer would have to read first."""
        protocol = self._protocol
        transport = protocol.transport
        if transport is None or protocol.writing_paused:
            return False
        if transport.get_write_buffer_size() + len(frame) > UNREAD_BYTES:
            return False
        with suppress(ConnectionError):  # the reading side sees that the peer is gone, and ends the socket
            finish_now(self._websocket.send_bytes(frame))
        return True

    async def send(self, frame: bytes) -> None:
        """Write a frame, and wait while the peer does not read."""
        with suppress(ConnectionError):
            await self._websocket.send_bytes(frame)

    def _wake(self) -> None:
        """Have delivery go on; there is no task for it while there is nothing to do."""
        ending = self._reading.done()
        if self._outbound is not None and not ending and (self._delivery is None or self._delivery.done()):
            self._delivery = asyncio.create_task(self._deliver(self._outbound))

    async def _deliver(self, outbound: Outbound) -> None:
        try:
            await outbound.run()
        except MailboxGone:
            self.close(CloseCode.CREDENTIALS_REPLACED)
        except Exception as error:  # noqa: BLE001 - whatever it is: the device connects again and gets the same envelopes
            self.fail(error)

    def fail(self, error: Exception | None = None) -> None:
        """Close the connection after a fault: the device comes back, and nothing is lost."""
        get_logger().error("delivery_failed", error=None if error is None else type(error).__name__)
        self.close(CloseCode.FAULT)

    def _connected(self, connection: int) -> None:
        self._connection = connection
        if self._caller is not None:
            self._sockets.wakeups.announce(self._caller.mailbox_id, ConnectedElsewhere(connection))
        self._give_way()

    def _give_way(self) -> None:
        # A notice of an earlier connection may come late: it must not end a later one.
        if self._connection is None or self._connection >= self._latest or self._caller is None:
            return
        self.close(CloseCode.CONNECTED_ELSEWHERE)
        if self._arrived and self._outbound is not None:
            # Until now the other processes were not told of mail for this device: it had its socket here.
            self._sockets.wakeups.announce_elsewhere(self._caller.mailbox_id, MailArrived(self._arrived))

    def _notice(self, notice: Heard) -> None:
        match notice:
            case MailArrived(sequence, data) if self._outbound is not None:
                self._arrived = sequence
                try:
                    self._outbound.queued(sequence, data)
                except Exception as error:  # noqa: BLE001 - no concern of whoever has just stored the envelope
                    self.fail(error)
            case MailboxSeen(last_sequence) if self._outbound is not None:
                self._outbound.seen(last_sequence)
            case ConnectedElsewhere(connection):
                self._latest = max(self._latest, connection)
                self._give_way()
            case PrekeysRunLow():
                self._tell_of_prekeys()
            case CredentialsReplaced():
                self.close(CloseCode.CREDENTIALS_REPLACED)


def _hint(code: CloseCode) -> bytes:
    """When to come back, for devices that are sent away together: the reason of the closing frame."""
    return b"retry-after=%.1f" % (secrets.randbelow(10) / 10) if code is CloseCode.GOING_AWAY else b""


def response_frame(request_id: int, answer: Answer) -> frames.Response:
    """``answer`` as the frame that answers the request ``request_id``; an empty body is no body."""
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = ""  # 440 has none
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return frames.Response(request_id, answer.status, phrase, headers, answer.body or None)
