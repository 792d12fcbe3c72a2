"""The chat socket: frames in both directions, in which envelopes go out and the whole REST API comes in.

Nothing here grows with a peer's behaviour: when ``MAX_RUNNING_REQUESTS`` of its requests are being answered, no further
frame is read. A socket has no task while there is nothing to do. Requests run in tasks that a closing socket does not cancel.
What to deliver is ``delivery.outbound``'s.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from http import HTTPStatus

from aiohttp import web

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
    Suspended,
    Wakeups,
)
from messaging.relay.errors import MalformedRequest
from messaging.relay.http import NO_CONTENT, Answer, Call, Caller, Dispatcher
from messaging.relay.keys.service import KeyService
from messaging.relay.metrics import Figures
from messaging.relay.tasks import end
from messaging.relay.websocket import CLOSING_SECONDS, WebSocket, WebSockets
from messaging.serving.logs import get_logger
from messaging.wire import frames
from messaging.wire.errors import MalformedFrame
from messaging.wire.limits import MAX_FRAME, MAX_MARKER
from messaging.wire.messages import PrekeysLow

HEARTBEAT_SECONDS = 30
BEATS_AT_ONCE = 500
SPARE_SECONDS = 2
CLOSED_AT_ONCE = 200
CLOSING_PAUSE_SECONDS = 0.1
MAX_RUNNING_REQUESTS = 16
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
    SUSPENDED = 4403  # ours: 4401 would have a device give up for ever
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
    alive: "set[ChatSocket]" = field(default_factory=set)
    nobody: asyncio.Event = field(default_factory=asyncio.Event)  # is alive any more
    websockets: WebSockets = field(default_factory=lambda: WebSockets(MAX_FRAME))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    figures: Figures = field(default_factory=Figures)

    async def serve(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """Open one socket, which then lives by itself. Without credentials it carries requests only.

        Raises:
            NotAuthenticated: wrong credentials; the upgrade fails.
            MalformedRequest: not a request for a WebSocket.
        """
        caller = await self.authentication.find(call)
        socket = ChatSocket(self, caller, call.remote, Wishes.read(call.headers))
        self.websockets.accept(request, socket)
        if (
            self.stopping.is_set()
        ):  # a connection that came just before: a refusal would show, this has a client try again
            socket.close(CloseCode.GOING_AWAY)
        return web.Response()  # aiohttp finds the connection gone

    async def run(self) -> None:
        """Look now and then which peers are still there, until cancelled."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            for place, socket in enumerate(list(self.alive)):
                if place % BEATS_AT_ONCE == BEATS_AT_ONCE - 1:
                    await asyncio.sleep(0)
                socket.beat()

    async def close(self) -> None:
        """Close all sockets, those too that are being opened, and wait for what they began; but not for ever.

        A few at a time: all at once would come back at once, to those relays that go on.
        """
        self.stopping.set()
        closing = list(self.alive)
        for start in range(0, len(closing), CLOSED_AT_ONCE):
            if start:
                await asyncio.sleep(CLOSING_PAUSE_SECONDS)
            for socket in closing[start : start + CLOSED_AT_ONCE]:
                socket.close(CloseCode.GOING_AWAY)
        if self.alive:
            self.nobody.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(2 * CLOSING_SECONDS + SPARE_SECONDS):  # for answers, and for goodbyes
                    await self.nobody.wait()
            for socket in list(self.alive):
                socket.abort()
        await self.unfinished.finish()


class ChatSocket:
    """One socket, which hears its WebSocket and the notices for its mailbox. There are many: each is kept small."""

    __slots__ = (
        "__weakref__",
        "_arrived",
        "_caller",
        "_code",
        "_connection",
        "_delivery",
        "_latest",
        "_outbound",
        "_remote",
        "_running",
        "_sockets",
        "_wants_prekeys",
        "_websocket",
    )

    def __init__(self, sockets: Sockets, caller: Caller | None, remote: str, wishes: Wishes) -> None:
        self._sockets = sockets
        self._websocket: WebSocket | None = None
        self._caller = caller
        self._remote = remote
        self._wants_prekeys = wishes.prekeys
        self._connection: int | None = None  # its number, once it is known
        self._latest = 0  # the greatest number of a connection of this device that was heard of
        self._arrived = 0  # the last sequence that was heard of
        self._running = 0  # requests that are being answered
        self._code: CloseCode | None = None  # with which it is to end
        self._delivery: asyncio.Task[None] | None = None
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
                sockets.figures,
            )

    def opened(self, websocket: WebSocket) -> None:
        """Begin to deliver."""
        self._websocket = websocket
        self._sockets.alive.add(self)
        if self._caller is not None:
            self._sockets.wakeups.add(self._caller.mailbox_id, self._notice)
            self._wake()
            self._tell_of_prekeys()

    def close(self, code: CloseCode) -> None:
        """Let the socket end with ``code``, when what was asked is answered; of several codes the first one stands."""
        if self._websocket is None or self._code is not None:
            return
        self._code = code
        if self._running:  # one of them may be the reason
            self._websocket.pause()
            asyncio.get_running_loop().call_later(CLOSING_SECONDS, self._say_goodbye)
        else:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        if self._websocket is not None and self._code is not None:
            self._websocket.close(self._code, _hint(self._code))

    def abort(self) -> None:
        """End at once."""
        if self._websocket is not None:
            self._websocket.abort()

    def beat(self) -> None:
        """Ask whether the peer is still there."""
        if self._websocket is not None:
            self._websocket.beat()

    def received(self, data: bytes) -> None:
        """A frame has come."""
        try:
            frame = frames.decode_frame(data)
        except MalformedFrame:
            self.close(CloseCode.MALFORMED)
            return
        match frame:
            case frames.Response() if self._outbound is not None:
                try:
                    self._outbound.answered(frame)
                except Exception as error:  # noqa: BLE001 - the device connects again and gets what it has not acknowledged
                    self.fail(error)
            case frames.Request():
                self._running += 1
                if self._running >= MAX_RUNNING_REQUESTS and self._websocket is not None:
                    self._websocket.pause()
                self._sockets.unfinished.start(self._answer(frame))

    def ended(self) -> None:
        """The connection is gone."""
        if self._caller is not None:
            self._sockets.wakeups.remove(self._caller.mailbox_id, self._notice)
        if self._delivery is None:
            self._leave()
        else:
            self._sockets.unfinished.start(self._end(self._delivery))

    async def _end(self, delivery: "asyncio.Task[None]") -> None:
        await end([delivery])
        self._leave()

    def _leave(self) -> None:
        if self._outbound is not None and self._websocket is not None and not self._websocket.dismissed:
            self._outbound.abandoned()
        self._sockets.alive.discard(self)
        if not self._sockets.alive:
            self._sockets.nobody.set()
        self._websocket = self._outbound = self._delivery = None  # they hold each other: nobody has to find that out

    async def _answer(self, request: frames.Request) -> None:
        try:
            body = request.body or b""
            call = Call(request.verb, request.path, request.headers, body, self._remote, self._caller)
            own = self._mark if self._is_marker(call) else None
            answer = await self._sockets.dispatcher.answer(call, own)
            await self.send(frames.encode_frame(response_frame(request.id, answer)))
        finally:
            self._running -= 1
            if self._code is not None and not self._running:
                self._say_goodbye()
            elif self._code is None and self._websocket is not None and not self._websocket.reading:
                self._websocket.resume()

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

    def send_now(self, *some: bytes) -> bool:
        """Write frames; ``False``, and nothing is written, if the peer would have to read first."""
        return self._websocket is None or self._websocket.send_now(*some)

    async def send(self, *some: bytes) -> None:
        """Write frames, and wait while the peer does not read."""
        if self._websocket is not None:
            await self._websocket.send(*some)

    def _wake(self) -> None:
        """Have delivery go on; there is no task for it while there is nothing to do."""
        ending = self._websocket is None or self._code is not None or self._websocket.closing
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
        self._sockets.figures.delivery_failures += 1
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
        try:
            self._take(notice)
        except Exception as error:  # noqa: BLE001 - no concern of whoever has just stored an envelope, or looks for all
            self.fail(error)

    def _take(self, notice: Heard) -> None:
        match notice:
            case MailArrived(sequence, data) if self._outbound is not None:
                self._arrived = sequence
                self._outbound.queued(sequence, data)
            case MailboxSeen(last_sequence) if self._outbound is not None:
                self._outbound.seen(last_sequence)
            case ConnectedElsewhere(connection):
                self._latest = max(self._latest, connection)
                self._give_way()
            case PrekeysRunLow():
                self._tell_of_prekeys()
            case CredentialsReplaced():
                self.close(CloseCode.CREDENTIALS_REPLACED)
            case Suspended():
                self.close(CloseCode.SUSPENDED)


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
