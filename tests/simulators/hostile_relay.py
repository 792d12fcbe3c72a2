"""A relay that is against its users: a proxy between clients and a real relay, which sees all and changes what it likes.

Without rules it changes nothing. A rule is a function from what is passing to what passes instead: nothing, the same, something
else, or more. Requests over HTTP and requests and responses on sockets are all ``Passing``, so that one rule is for both. Each
request that is sent on has a number of the proxy's own, and the first answer to any copy of it goes to who asked; so a rule
may double, delay and redirect without keeping count.

It holds no key of a client: what it cannot do here, no relay can do. The URL of attachments is the real relay's.
"""

import asyncio
import base64
import binascii
import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol, Self

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web
from yarl import URL

from messaging.wire.assistants import ListedAssistant
from messaging.wire.envelope import Envelope, decode_envelope, encode_envelope
from messaging.wire.errors import MalformedField, WireError
from messaging.wire.frames import Frame, Request, Response, decode_frame, encode_frame
from messaging.wire.identifiers import DeviceAddress, ServiceId
from messaging.wire.messages import IncomingMessageList

DELIVERY = "/api/v1/message"
_SENDS = "/v1/messages/"
_KEYS = "/v1/keys/", "/v2/keys/"
_ONE_HOP = frozenset(
    ("connection", "content-encoding", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade")
)
_UPGRADE = "sec-websocket-"
_MAX_BODY = 64 * 1024 * 1024


class Direction(Enum):
    """Which way something goes."""

    TO_RELAY = "to the relay"
    TO_CLIENT = "to the client"


class Channel(Enum):
    """How it goes."""

    HTTP = "HTTP"
    SOCKET = "socket"


class _Line(Protocol):
    """One connection of a client, or one request over HTTP."""

    channel: Channel
    account: ServiceId | None

    @property
    def alive(self) -> bool: ...

    async def ask(self, passing: "Passing") -> None:
        """Send a request on in its direction."""

    async def answer(self, passing: "Passing", number: int) -> None:
        """Send a response on in its direction, as that to the request ``number``."""


@dataclass(slots=True, eq=False)
class _Origin:
    """Where a request came from: its answer goes there, once."""

    line: _Line
    number: int
    answered: bool = False
    kept: bool = False  # somebody may send it on later


@dataclass(frozen=True, slots=True)
class Passing:
    """Something on its way. ``account`` is whose connection or credentials it came with; ``asked`` what a response answers.

    A rule that gives another ``account`` to a request of the relay sends it to that account's socket.
    """

    direction: Direction
    channel: Channel
    account: ServiceId | None
    frame: Frame = field(repr=False)
    asked: Request | None = field(repr=False)
    origin: _Origin = field(repr=False, compare=False)

    @property
    def request(self) -> Request | None:
        """The frame, if it is a request."""
        return self.frame if isinstance(self.frame, Request) else None

    @property
    def envelope(self) -> Envelope | None:
        """The envelope that the relay delivers here."""
        return _envelope_of(self.frame)

    @property
    def recipient(self) -> ServiceId | None:
        """The account to which a client sends a message here."""
        return _recipient_of(self.frame)

    def with_frame(self, **changes: object) -> Self:
        """The same with changes to its frame."""
        return replace(self, frame=replace(self.frame, **changes))  # type: ignore[arg-type]

    def keep(self) -> Self:
        """Say that it may be sent on later: over HTTP, what nobody keeps is cut off."""
        self.origin.kept = True
        return self


Rule = Callable[[Passing], Iterable[Passing]]
Match = Callable[[Passing], bool]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a relay sees of one request or response, before any rule.

    ``at`` is seconds since the proxy began; ``size`` is bytes: of a frame on a socket, of a body over HTTP. ``other`` is the
    account that is written to, or, in an envelope with a sender, the one that writes. ``contents`` are the sizes of ciphertexts.
    """

    at: float
    direction: Direction
    channel: Channel
    account: ServiceId | None
    verb: str
    path: str
    status: int | None
    size: int
    types: tuple[int, ...] = ()
    contents: tuple[int, ...] = ()
    other: ServiceId | None = None
    body: bytes = field(default=b"", repr=False)

    @property
    def is_send(self) -> bool:
        """Whether a client sends a message here."""
        return self.direction is Direction.TO_RELAY and self.status is None and bool(self.contents)

    @property
    def is_delivery(self) -> bool:
        """Whether the relay delivers an envelope here, be it only its own receipt, which is empty."""
        return self.direction is Direction.TO_CLIENT and self.status is None and bool(self.contents)


class HostileRelay:
    """The proxy. Use it in ``async with``: it serves at ``url`` until the end of the block."""

    def __init__(self, upstream_url: str) -> None:
        self.url = ""
        self.rules: list[Rule] = []
        self.seen: list[Seen] = []
        self._upstream = upstream_url.rstrip("/")
        self._http: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._sockets: list[_Socket] = []
        self._began = time.monotonic()

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        application = web.Application(client_max_size=_MAX_BODY)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for socket in self._sockets:
            socket.cut()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._http is not None:
            await self._http.close()

    async def send(self, *some: Passing) -> None:
        """Send these on now, past all rules: what was held back, or once more what was copied.

        One whose connection is gone goes to the account's present one, or, without one, nowhere.
        """
        for passing in some:
            line = self._line_for(passing)
            if line is None:
                continue
            if isinstance(passing.frame, Request):
                await line.ask(passing)
            elif not passing.origin.answered:
                passing.origin.answered = True
                await line.answer(passing, passing.origin.number)

    def connected(self, account: ServiceId) -> bool:
        """Whether a socket of this account passes through here."""
        return any(socket.alive and socket.account == account for socket in self._sockets)

    def cut(self, account: ServiceId) -> None:
        """Break the sockets of an account off."""
        for socket in self._sockets:
            if socket.account == account:
                socket.cut()

    # --- inside ---

    @property
    def _client(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("use the relay inside `async with`")
        return self._http

    def _line_for(self, passing: Passing) -> _Line | None:
        line = passing.origin.line
        redirected = passing.direction is Direction.TO_CLIENT and passing.account != line.account
        if not isinstance(passing.frame, Request) or (line.alive and not redirected):
            return line if line.alive else None
        return next((each for each in reversed(self._sockets) if each.alive and each.account == passing.account), None)

    async def arrived(self, passing: Passing, size: int) -> None:
        """Note it, judge it by the rules, and send on what they give."""
        self.seen.append(_seen(passing, size, time.monotonic() - self._began))
        given = [passing]
        for rule in self.rules:
            given = [each for before in given for each in rule(before)]
        await self.send(*given)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if "websocket" in request.headers.get("Upgrade", "").lower():
            return await self._serve_socket(request)
        exchange = _Exchange(self, self._client, self._upstream, _account_of(request.headers))
        frame = Request(0, request.method, request.raw_path, _forwarded(request.headers), await request.read())
        passing = Passing(Direction.TO_RELAY, Channel.HTTP, exchange.account, frame, None, exchange.origin)
        await self.arrived(passing, len(frame.body or b""))
        exchange.give_up_if_idle()
        answer = await exchange.answered
        if answer is None:
            _abort(request)
            return web.Response(status=502)  # nobody reads it
        return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body or b"")

    async def _serve_socket(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in _forwarded(request.headers).items() if not name.startswith(_UPGRADE)}
        url = self._upstream.replace("http", "ws", 1) + request.raw_path
        try:
            upstream = await self._client.ws_connect(url, headers=headers, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as refused:
            return web.Response(status=refused.status)
        client = web.WebSocketResponse(max_msg_size=0)
        await client.prepare(request)
        socket = _Socket(self, client, upstream, _account_of(request.headers), lambda: _abort(request))
        self._sockets.append(socket)
        await socket.run()
        return client


class _Exchange:
    """One request over HTTP, perhaps sent on several times; the first answer counts."""

    channel = Channel.HTTP

    def __init__(
        self, relay: HostileRelay, http: aiohttp.ClientSession, upstream: str, account: ServiceId | None
    ) -> None:
        self.account = account
        self.alive = True
        self.origin = _Origin(self, 0)
        # ``None``: nothing was sent on, or nothing came back, and nobody keeps it.
        self.answered: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
        self._relay = relay
        self._http = http
        self._upstream = upstream
        self._asking: set[asyncio.Task[None]] = set()

    async def ask(self, passing: Passing) -> None:
        self._asking.add(asyncio.create_task(self._ask(passing)))

    async def answer(self, passing: Passing, number: int) -> None:
        if isinstance(passing.frame, Response) and not self.answered.done():
            self.answered.set_result(passing.frame)

    def give_up_if_idle(self) -> None:
        """Have the connection cut, if no answer can come any more."""
        if not self._asking and not self.origin.kept and not self.answered.done():
            self.answered.set_result(None)

    async def _ask(self, passing: Passing) -> None:
        try:
            await self._carry(passing)
        finally:
            if (task := asyncio.current_task()) is not None:
                self._asking.discard(task)
            self.give_up_if_idle()

    async def _carry(self, passing: Passing) -> None:
        asked = passing.request
        if asked is None:
            return
        url = URL(self._upstream + asked.path, encoded=True)
        with suppress(aiohttp.ClientError):
            async with self._http.request(
                asked.verb, url, headers=dict(asked.headers), data=asked.body or None, allow_redirects=False
            ) as answer:
                body = await answer.read()
                response = Response(asked.id, answer.status, answer.reason or "", _forwarded(answer.headers), body)
            back = replace(passing, direction=Direction.TO_CLIENT, frame=response, asked=asked)
            await self._relay.arrived(back, len(body))


class _Socket:
    """One WebSocket of a client with its own to the real relay. The two sides' requests are numbered anew."""

    channel = Channel.SOCKET

    def __init__(
        self,
        relay: HostileRelay,
        client: web.WebSocketResponse,
        upstream: aiohttp.ClientWebSocketResponse,
        account: ServiceId | None,
        abort: Callable[[], None],
    ) -> None:
        self.account = account
        self.alive = True
        self._relay = relay
        self._client = client
        self._upstream = upstream
        self._abort = abort
        self._numbers = itertools.count(1)
        self._asked: dict[tuple[Direction, int], tuple[Request, _Origin]] = {}

    async def run(self) -> None:
        """Carry frames both ways until one side ends; then end the other in the same way."""
        both = [
            asyncio.create_task(self._carry(self._client, Direction.TO_RELAY)),
            asyncio.create_task(self._carry(self._upstream, Direction.TO_CLIENT)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            self.alive = False
            await self._end()
        finally:
            self.alive = False
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    def cut(self) -> None:
        """End with no goodbye."""
        if self.alive:
            self.alive = False
            self._abort()

    async def ask(self, passing: Passing) -> None:
        if passing.request is None:
            return
        number = next(self._numbers)
        self._asked[passing.direction, number] = (passing.request, passing.origin)
        await self._write(passing.direction, replace(passing.request, id=number))

    async def answer(self, passing: Passing, number: int) -> None:
        await self._write(passing.direction, replace(passing.frame, id=number))

    async def _write(self, direction: Direction, frame: Frame) -> None:
        to = self._upstream if direction is Direction.TO_RELAY else self._client
        with suppress(ConnectionError, aiohttp.ClientError):
            await to.send_bytes(encode_frame(frame))

    async def _carry(self, side: web.WebSocketResponse | aiohttp.ClientWebSocketResponse, direction: Direction) -> None:
        async for message in side:
            if message.type is WSMsgType.BINARY and (passing := self._passing(direction, message.data)) is not None:
                await self._relay.arrived(passing, len(message.data))

    def _passing(self, direction: Direction, data: bytes) -> Passing | None:
        frame = decode_frame(data)
        if isinstance(frame, Request):
            return Passing(direction, self.channel, self.account, frame, None, _Origin(self, frame.id))
        other = Direction.TO_CLIENT if direction is Direction.TO_RELAY else Direction.TO_RELAY
        found = self._asked.pop((other, frame.id), None)
        return None if found is None else Passing(direction, self.channel, self.account, frame, *found)

    async def _end(self) -> None:
        code = self._upstream.close_code
        if not self._upstream.closed and self._client.close_code is not None:
            await self._upstream.close()
        elif code not in (None, WSCloseCode.ABNORMAL_CLOSURE):
            await self._client.close(code=code)
        else:
            self._abort()
            await self._upstream.close()


# --- what to match ---


def sends(*, by: ServiceId | None = None, to: ServiceId | None = None) -> Match:
    """Messages that clients send; ``None`` is anybody."""

    def match(passing: Passing) -> bool:
        recipient = passing.recipient
        return recipient is not None and by in (None, passing.account) and to in (None, recipient)

    return match


def deliveries(*, to: ServiceId | None = None, by: ServiceId | None = None) -> Match:
    """Envelopes that the relay delivers; ``by`` is known where the sender is not sealed."""

    def match(passing: Passing) -> bool:
        envelope = passing.envelope
        if envelope is None or to not in (None, passing.account):
            return False
        return by is None or (envelope.source is not None and envelope.source.service_id == by)

    return match


def acknowledgements(*, by: ServiceId | None = None) -> Match:
    """Answers of clients to what was delivered to them."""

    def match(passing: Passing) -> bool:
        asked = passing.asked
        return (
            passing.direction is Direction.TO_RELAY
            and asked is not None
            and _path(asked) == DELIVERY
            and by in (None, passing.account)
        )

    return match


def requests(verb: str, prefix: str) -> Match:
    """Requests of clients with paths that begin so."""

    def match(passing: Passing) -> bool:
        asked = passing.request
        return (
            passing.direction is Direction.TO_RELAY
            and asked is not None
            and asked.verb == verb
            and asked.path.startswith(prefix)
        )

    return match


# --- rules ---


@dataclass(frozen=True, slots=True)
class Drop:
    """What matches goes nowhere; over HTTP the connection is cut."""

    match: Match

    def __call__(self, passing: Passing) -> Iterable[Passing]:
        return [] if self.match(passing) else [passing]


@dataclass(frozen=True, slots=True)
class Hold:
    """What matches waits here: ``await hostile.send(*hold.release())``."""

    match: Match
    held: list[Passing] = field(default_factory=list)

    def __call__(self, passing: Passing) -> Iterable[Passing]:
        if not self.match(passing):
            return [passing]
        self.held.append(passing.keep())
        return []

    def release(self) -> list[Passing]:
        """What was held so far, in the order in which it came. What comes later is held again."""
        released = self.held[:]
        self.held.clear()
        return released


@dataclass(frozen=True, slots=True)
class Copy:
    """What matches passes, and can be replayed: ``await hostile.send(*copy.copies)``."""

    match: Match
    copies: list[Passing] = field(default_factory=list)

    def __call__(self, passing: Passing) -> Iterable[Passing]:
        if self.match(passing):
            self.copies.append(passing)
        return [passing]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """What matches passes ``times`` times."""

    match: Match
    times: int = 2

    def __call__(self, passing: Passing) -> Iterable[Passing]:
        return [passing] * (self.times if self.match(passing) else 1)


@dataclass(frozen=True, slots=True)
class Reorder:
    """What matches is gathered until there are ``count``, and then passes last come first."""

    match: Match
    count: int = 2
    gathered: list[Passing] = field(default_factory=list)

    def __call__(self, passing: Passing) -> Iterable[Passing]:
        if not self.match(passing):
            return [passing]
        self.gathered.append(passing.keep())
        if len(self.gathered) < self.count:
            return []
        reordered = self.gathered[::-1]
        self.gathered.clear()
        return reordered


@dataclass(frozen=True, slots=True)
class Redirect:
    """What is sent to ``wanted``, and what is delivered to it, comes to ``given`` instead, addressed to that one."""

    wanted: ServiceId
    given: ServiceId

    def __call__(self, passing: Passing) -> Iterable[Passing]:
        if passing.recipient == self.wanted and passing.request is not None:
            path = passing.request.path.replace(str(self.wanted), str(self.given), 1)
            return [passing.with_frame(path=path)]
        envelope = passing.envelope
        if envelope is not None and envelope.destination == self.wanted:
            body = encode_envelope(replace(envelope, destination=self.given))
            return [replace(passing.with_frame(body=body), account=self.given)]
        return [passing]


@dataclass(frozen=True, slots=True)
class SwapKeys:
    """Who asks for the keys of ``wanted`` gets those of ``given``."""

    wanted: ServiceId
    given: ServiceId

    def __call__(self, passing: Passing) -> Iterable[Passing]:
        asked = passing.request
        if (
            asked is None
            or passing.direction is Direction.TO_CLIENT
            or asked.verb != "GET"
            or not asked.path.startswith(tuple(f"{prefix}{self.wanted}" for prefix in _KEYS))
        ):
            return [passing]
        return [passing.with_frame(path=asked.path.replace(str(self.wanted), str(self.given), 1))]


@dataclass(frozen=True, slots=True)
class ChangeDirectory:
    """What clients are told of the assistants, by ``/v1/assistants`` and by ``/v1/server-info``, is what ``change`` makes of it."""

    change: Callable[[list[ListedAssistant]], Iterable[ListedAssistant]]

    def __call__(self, passing: Passing) -> Iterable[Passing]:
        asked, told = passing.asked, passing.frame
        if asked is None or not isinstance(told, Response) or told.status != 200:
            return [passing]
        if _path(asked) not in ("/v1/assistants", "/v1/server-info"):
            return [passing]
        members = json.loads(told.body or b"{}")
        unsaid = {"online": True, "accepting": True}  # server-info has names and ids only
        listed = [ListedAssistant.model_validate({**unsaid, **each}) for each in members["assistants"]]
        kept = None if _path(asked) == "/v1/assistants" else {"name", "service_id"}
        changed = [each.model_dump(by_alias=True, include=kept) for each in self.change(listed)]
        return [passing.with_frame(body=json.dumps({**members, "assistants": changed}).encode())]


def hide(name: str) -> ChangeDirectory:
    """Do not list the assistant ``name``."""
    return ChangeDirectory(lambda listed: [each for each in listed if each.name != name])


def list_stranger(name: str, account: ServiceId) -> ChangeDirectory:
    """List an account as an assistant, in the place of the one of this name if there is one."""
    stranger = ListedAssistant(name=name, service_id=str(account), online=True, accepting=True)
    return ChangeDirectory(lambda listed: [*(each for each in listed if each.name != name), stranger])


def claim(name: str, **claims: bool) -> ChangeDirectory:
    """Say of the assistant ``name`` that it is ``online``, ``accepting``, or not."""
    return ChangeDirectory(
        lambda listed: [each.model_copy(update=claims) if each.name == name else each for each in listed]
    )


# --- reading ---


def _path(request: Request) -> str:
    return request.path.partition("?")[0]


def _envelope_of(frame: Frame | None) -> Envelope | None:
    if not isinstance(frame, Request) or (frame.verb, _path(frame)) != ("PUT", DELIVERY):
        return None
    try:
        return decode_envelope(frame.body or b"")
    except MalformedField:
        return None


def _recipient_of(frame: Frame | None) -> ServiceId | None:
    if not isinstance(frame, Request) or frame.verb != "PUT" or not frame.path.startswith(_SENDS):
        return None
    try:
        return ServiceId.parse(_path(frame).removeprefix(_SENDS))
    except MalformedField:
        return None


def _seen(passing: Passing, size: int, at: float) -> Seen:
    frame = passing.frame
    asked = frame if isinstance(frame, Request) else passing.asked
    status = frame.status if isinstance(frame, Response) else None
    verb, path = ("", "") if asked is None else (asked.verb, asked.path)
    seen = Seen(
        at, passing.direction, passing.channel, passing.account, verb, path, status, size, body=frame.body or b""
    )
    if (envelope := passing.envelope) is not None:
        writer = None if envelope.source is None else envelope.source.service_id
        return replace(seen, types=(int(envelope.type),), contents=(len(envelope.content),), other=writer)
    if (recipient := passing.recipient) is None:
        return seen
    with suppress(WireError):
        messages = IncomingMessageList.from_json(frame.body or b"").messages
        seen = replace(
            seen,
            types=tuple(int(each.type) for each in messages),
            contents=tuple(len(each.content) for each in messages),
        )
    return replace(seen, other=recipient)


def _account_of(headers: Mapping[str, str]) -> ServiceId | None:
    """Whose credentials these are; ``None`` without any, or with those of a number or a name."""
    scheme, _, encoded = headers.get("Authorization", "").partition(" ")
    try:
        username = base64.b64decode(encoded).decode().partition(":")[0]
        return DeviceAddress.parse(username).service_id if scheme.lower() == "basic" else None
    except (binascii.Error, UnicodeDecodeError, MalformedField):
        return None


def _forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() not in _ONE_HOP}


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
