"""HTTP and TLS: aiohttp's low-level server in front of the dispatcher and the sockets.

Bodies are bounded in size and time. What is not HTTP is answered without repeating it, and never logged.
"""

import asyncio
import ssl
import time
from dataclasses import dataclass
from email.utils import formatdate
from functools import cache, lru_cache
from http import HTTPStatus
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11

from messaging.relay.attachments.transfer import Transfers
from messaging.relay.delivery.provisioning import ProvisioningSockets
from messaging.relay.delivery.socket import Sockets
from messaging.relay.errors import NoSuchPath, RelayError, RequestTimeout, StartupError, TooLarge
from messaging.relay.http import JSON, Answer, Call, Dispatcher, answer_of
from messaging.wire.json import json_body
from messaging.wire.limits import MAX_BODY

SOCKET_PATH = "/v1/websocket"
PROVISIONING_PATH = "/v1/websocket/provisioning"
BODY_SECONDS = 30
_NO_LENGTH = frozenset({204, 304})  # what has no body by its status (RFC 9110, section 8.6)
_NAME = "Server: subrosa"  # aiohttp would tell its version and Python's


@dataclass(frozen=True, slots=True)
class Entrance:
    """Takes each HTTP request to where it belongs."""

    dispatcher: Dispatcher
    sockets: Sockets
    provisioning: ProvisioningSockets
    transfers: Transfers
    behind_a_proxy: bool = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        headers = request.headers  # found whatever the case of a name is
        path = request.raw_path
        if not path.startswith("/"):
            path = request.rel_url.raw_path_qs  # a client that speaks as to a proxy names the host too
        try:
            bare = path.partition("?")[0].rstrip("/")
            if bare in (SOCKET_PATH, PROVISIONING_PATH):
                if headers.get("upgrade", "").lower() != "websocket":
                    raise NoSuchPath
                call = Call(request.method, path, headers, remote=self._remote(request))
                await self.dispatcher.admit(call)
                sockets = self.sockets if bare == SOCKET_PATH else self.provisioning
                return await sockets.serve(request, call)
            if self.transfers.serves(bare):
                return await self.transfers.serve(request, bare, self._remote(request))
            body = await _read(request)
        except RelayError as error:  # the rest of the body, if any, is not read
            return await _write(request, self.dispatcher.stamped(answer_of(error)), keep_alive=False)
        except web.HTTPException as error:
            return await _write(request, Answer(error.status), keep_alive=False)
        call = Call(request.method, path, headers, body, self._remote(request))
        return await _write(request, await self.dispatcher.answer(call), keep_alive=request.keep_alive)

    def _remote(self, request: web.BaseRequest) -> str:
        """The network address that limits count: behind a proxy, the one that the proxy saw."""
        forwarded = request.headers.get("X-Forwarded-For", "") if self.behind_a_proxy else ""
        return forwarded.rpartition(",")[2].strip() or request.remote or ""


async def _read(request: web.BaseRequest) -> bytes:
    try:
        if request.content.is_eof():  # it is all there: no need of a timer
            body = request.content.read_nowait()
            if len(body) > MAX_BODY:
                raise TooLarge
            return body
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise RequestTimeout from None
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge from None


class _Written(web.StreamResponse):
    """What aiohttp is given when an answer has been written: its own responses cost as much as all else of a small request."""

    def __init__(self, *, keep_alive: bool) -> None:
        self._keeps = keep_alive  # and none of what a response has

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """There is nothing left to write."""

    @property
    def keep_alive(self) -> bool:
        return self._keeps


_KEPT, _ENDED = _Written(keep_alive=True), _Written(keep_alive=False)


async def _write(request: web.BaseRequest, answer: Answer, *, keep_alive: bool) -> web.StreamResponse:
    body = b"" if request.method == "HEAD" else answer.body
    try:
        await request.writer.write(head_of(answer, keep_alive=keep_alive, old=request.version < HttpVersion11) + body)
        if request.protocol.writing_paused:
            await request.writer.drain()  # who does not read is not answered more
    except ConnectionError:
        return _ENDED
    return _KEPT if keep_alive else _ENDED


def head_of(answer: Answer, *, keep_alive: bool, old: bool = False) -> bytes:
    """The status line and the headers of an answer (RFC 9112). ``old`` is HTTP 1.0.

    Raises:
        ValueError: a header of more than one line.
    """
    status = answer.status
    lines = [_status_line(status), _NAME, _date(int(time.time()))]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    if status not in _NO_LENGTH:
        lines.append(f"Content-Length: {len(answer.body)}")
    if keep_alive is old:
        lines.append("Connection: keep-alive" if keep_alive else "Connection: close")
    head = "\r\n".join([*lines, "", ""])
    if head.count("\n") > len(lines) + 1 or head.count("\r") > len(lines) + 1:
        raise ValueError("a header of more than one line")
    return head.encode("latin-1")


@cache
def _status_line(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""  # 440 has none
    return f"HTTP/1.1 {status} {phrase}"


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return f"Date: {formatdate(second, usegmt=True)}"


def refused(status: HTTPStatus) -> web.Response:
    """The answer to what is not HTTP, or made us fail."""
    code = "malformed" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "internal"
    return web.Response(status=status, body=json_body({"code": code}), headers={"Server": "subrosa", **JSON})


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.3 with this certificate chain; every client of Signal's speaks it.

    Raises:
        StartupError: a file is missing, or not what it should be.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError):
        raise StartupError("the TLS certificate or its key cannot be read") from None
    context.set_alpn_protocols(["http/1.1"])
    return context
