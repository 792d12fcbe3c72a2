"""How a device reaches its relay: plain requests over HTTPS, and one WebSocket that carries requests both ways.

``ChatConnection`` connects, reconnects and matches answers to requests. What to send and what an envelope means is for
``client.device``. Nothing here writes a log: paths hold account ids.
"""

import asyncio
import itertools
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import WSMsgType

from messaging.client.errors import AccountSuspended, CredentialsRevoked, Displaced, RelayRefused, RelayUnreachable
from messaging.wire.accounts import REFUSED_HEADER, SUSPENDED
from messaging.wire.assistants import AssistantDirectory, ListedAssistant
from messaging.wire.errors import MalformedFrame, WireError
from messaging.wire.frames import Request, Response, decode_frame, encode_frame
from messaging.wire.limits import MAX_BODY, MAX_FRAME
from messaging.wire.server_info import ServerInfo

REQUEST_DEADLINE = 15.0  # seconds for one answer
HEARTBEAT = 30.0  # seconds between pings
FIRST_DELAY, LAST_DELAY = 0.2, 30.0  # seconds before connecting again; doubled each time, with jitter
FIRST_SUSPENDED_DELAY, LAST_SUSPENDED_DELAY = 60.0, 600.0  # the same while the account is suspended: hours, or days
DISPLACED, REVOKED = 4409, 4401  # close codes of Signal-Server
SHUT_OUT = 4403  # ours: the account was suspended

# No answer, or what is no HTTP: nobody knows what became of the request.
UNREACHABLE = (
    aiohttp.ClientConnectionError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientResponseError,
    TimeoutError,
    OSError,
)


async def _body(content: aiohttp.StreamReader) -> bytes:
    """All of it, in however many pieces it comes; what is longer than any answer of a relay is cut off."""
    body = b""
    while len(body) < MAX_BODY and (piece := await content.read(MAX_BODY - len(body))):
        body += piece
    return body


class ConnectionLost(Exception):
    """The socket closed before the answer came: whether the request was done is not known."""


class Relay:
    """One relay, by its URL. ``ca_file`` names its certificate authority where that is not a public one."""

    def __init__(self, url: str, *, ca_file: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=self._ca_file) if self.url.startswith("https:") else None
        # As many connections as devices use it: each has a socket that it keeps, and a limit would leave none for requests.
        connector = aiohttp.TCPConnector(ssl=context if context is not None else True, limit=0)
        timeout = aiohttp.ClientTimeout(total=REQUEST_DEADLINE)
        # No cookies: one would tie requests that do not say who asks to those that do.
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open HTTP session."""
        if self._session is None:
            raise RuntimeError("use the relay inside `async with`")
        return self._session

    async def call(
        self,
        verb: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """One HTTP request with a JSON body; returns status and body.

        Raises:
            AccountSuspended: it was made for an account that is.
            RelayUnreachable: no answer.
        """
        answer = await self.request(verb, path, body, headers=headers)
        return answer.status, answer.body or b""

    async def request(
        self, verb: str, path: str, body: bytes | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Response:
        """As :meth:`call`, with the headers of the answer."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        try:
            async with self.session.request(
                verb, self.url + path, data=body, headers=sent, allow_redirects=False
            ) as answer:
                received = {name.lower(): value for name, value in answer.headers.items()}
                return _served(Response(0, answer.status, "", received, await _body(answer.content)))
        except UNREACHABLE:
            raise RelayUnreachable from None

    async def provisioning_requests(self) -> AsyncGenerator[Request, None]:
        """What the relay asks of a device that waits to be linked, each answered; ends when the relay stops waiting.

        Raises:
            RelayUnreachable: the connection broke, or none came about.
            RelayRefused: the relay does not let this network address wait now.
        """
        url = self.url.replace("http", "ws", 1) + "/v1/websocket/provisioning/"
        try:
            async with self.session.ws_connect(url, heartbeat=HEARTBEAT, max_msg_size=MAX_FRAME) as socket:
                async for message in socket:
                    if message.type is not WSMsgType.BINARY:
                        raise RelayUnreachable
                    frame = decode_frame(message.data)
                    if isinstance(frame, Request):
                        await socket.send_bytes(encode_frame(Response(frame.id, 200, "OK")))
                        yield frame
                if socket.close_code != aiohttp.WSCloseCode.OK:
                    raise RelayUnreachable
        except aiohttp.WSServerHandshakeError as error:
            raise RelayRefused(error.status) from None
        except (*UNREACHABLE, MalformedFrame):
            raise RelayUnreachable from None

    async def server_info(self) -> ServerInfo:
        """What the relay says of itself.

        Raises:
            RelayUnreachable, RelayRefused: no answer, or not one of a relay.
        """
        status, body = await self.call("GET", "/v1/server-info")
        try:
            if status == 200:
                return ServerInfo.from_json(body)
        except WireError:
            pass
        raise RelayRefused(status)

    async def assistants(self) -> tuple[ListedAssistant, ...]:
        """The assistants that the relay lists. Its word only, a hint where to ask: trust comes from an assistant's evidence.

        Raises:
            RelayUnreachable, RelayRefused: no answer, or not one of a relay.
        """
        status, body = await self.call("GET", "/v1/assistants")
        try:
            if status == 200:
                return AssistantDirectory.from_json(body).assistants
        except WireError:
            pass
        raise RelayRefused(status)


class ChatConnection:
    """The authenticated WebSocket of one device.

    ``authorization`` is the value of that header. ``incoming`` is called for each request of the relay, one after the other, and
    returns the status to answer, or ``None`` to leave it unanswered for now (:meth:`answer` does it later).
    """

    def __init__(self, relay: Relay, authorization: str, incoming: Callable[[Request], Awaitable[int | None]]) -> None:
        self._relay = relay
        self._authorization = authorization
        self._incoming = incoming
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._connected = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._ids = itertools.count(1)
        self._ended: Exception | None = None
        self._suspended = False  # so the relay said when it was asked last

    @property
    def ended(self) -> Exception | None:
        """Why the connection will not come back: ``CredentialsRevoked`` or ``Displaced``."""
        return self._ended

    async def connected(self) -> None:
        """Wait until there is a connection.

        Raises:
            CredentialsRevoked, Displaced: there will be none.
        """
        await self._connected.wait()
        if self._ended is not None:
            raise self._ended

    async def run(
        self, on_connected: Callable[[], None], on_suspended: Callable[[AccountSuspended], None] = lambda _: None
    ) -> None:
        """Stay connected until cancelled; connects again after any loss that may pass.

        ``on_suspended`` is called each time that the relay says so of the account, which may pass too.

        Raises:
            CredentialsRevoked, Displaced: connecting again would not help.
        """
        delay = FIRST_DELAY
        while True:
            try:
                async with self._connection():
                    self._suspended, delay = False, FIRST_DELAY
                    on_connected()
                    await self._read()
            except AccountSuspended as suspended:
                self._suspended, delay = True, max(delay, FIRST_SUSPENDED_DELAY)
                on_suspended(suspended)
            except (*UNREACHABLE, ConnectionLost):
                pass
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311  # jitter, not a secret
            delay = min(delay * 2, LAST_SUSPENDED_DELAY if self._suspended else LAST_DELAY)

    async def request(
        self, verb: str, path: str, body: bytes | None = None, *, deadline: float = REQUEST_DEADLINE
    ) -> Response:
        """Ask the relay through the socket; waits for a connection first.

        Raises:
            ConnectionLost: it broke before the answer came.
            AccountSuspended: the relay says so, or none within ``deadline`` seconds for this reason.
            RelayUnreachable: no connection, or no answer, within ``deadline`` seconds.
            CredentialsRevoked, Displaced: there will be none.
        """
        headers = {} if body is None else {"content-type": "application/json"}
        request = Request(next(self._ids), verb, path, headers, body)
        try:
            async with asyncio.timeout(deadline):
                await self._connected.wait()
                if self._ended is not None:
                    raise self._ended
                answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
                self._waiting[request.id] = answered
                await self._send(encode_frame(request))
                return _served(await answered)
        except TimeoutError:
            raise (AccountSuspended() if self._suspended else RelayUnreachable()) from None
        finally:
            self._waiting.pop(request.id, None)

    async def answer(self, request: Request, status: int) -> None:
        """Answer a request of the relay; does nothing if the connection is gone, for the relay will ask again."""
        with suppress(ConnectionLost):
            await self._send(encode_frame(Response(request.id, status, "OK" if status == 200 else "")))

    async def reconnect(self) -> None:
        """Close the socket, so that :meth:`run` opens another one: the relay brings again there what it still has."""
        if self._socket is not None:
            await self._socket.close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[None]:
        url = self._relay.url.replace("http", "ws", 1) + "/v1/websocket/"
        try:
            async with self._relay.session.ws_connect(
                url,
                headers={"Authorization": self._authorization},
                heartbeat=HEARTBEAT,
                max_msg_size=MAX_FRAME,
                autoping=True,
            ) as socket:
                self._socket = socket
                self._connected.set()
                yield
        except aiohttp.WSServerHandshakeError as error:
            if _says_suspended(error.status, error.headers or {}):
                raise AccountSuspended from None
            if error.status in (401, 403):
                self._end(CredentialsRevoked())
                raise CredentialsRevoked from None
            raise ConnectionLost from None
        finally:
            self._socket = None
            if self._ended is None:
                self._connected.clear()
            for answered in self._waiting.values():
                if not answered.done():
                    answered.set_exception(ConnectionLost())

    async def _read(self) -> None:
        socket = self._socket
        if socket is None:
            raise ConnectionLost
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                raise ConnectionLost
            try:
                frame = decode_frame(message.data)
            except MalformedFrame:
                raise ConnectionLost from None
            if isinstance(frame, Request):
                status = await self._incoming(frame)
                if status is not None:
                    await self.answer(frame, status)
            elif (answered := self._waiting.get(frame.id)) is not None and not answered.done():
                answered.set_result(frame)
        if socket.close_code == DISPLACED:
            self._end(Displaced())
            raise Displaced
        if socket.close_code == REVOKED:
            self._end(CredentialsRevoked())
            raise CredentialsRevoked
        if socket.close_code == SHUT_OUT:
            raise AccountSuspended

    async def _send(self, data: bytes) -> None:
        if self._socket is None:
            raise ConnectionLost
        try:
            await self._socket.send_bytes(data)
        except (ConnectionError, aiohttp.ClientError):
            if self._ended is None:
                self._connected.clear()  # nobody else tries it: it is about to close
            raise ConnectionLost from None

    def _end(self, why: Exception) -> None:
        self._ended = why
        self._connected.set()  # those who wait must hear it


def _served(answer: Response) -> Response:
    """The same, unless it is refused because the account is suspended."""
    if _says_suspended(answer.status, answer.headers):
        raise AccountSuspended
    return answer


def _says_suspended(status: int, headers: Mapping[str, str]) -> bool:
    return status == 403 and headers.get(REFUSED_HEADER.lower()) == SUSPENDED
