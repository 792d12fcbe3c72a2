"""HTTP: what a path means, who may ask, and answers in Telegram's shape.

``/bot<token>/<method>``, ``/bot<token>/updates`` (WebSocket), ``/file/bot<token>/<path>``, ``/health`` and ``/openapi.json``. Tokens stand
in paths, so there is no access log, and what is not HTTP is answered without repeating it.
"""

import asyncio
import json
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from aiohttp import web

from messaging.bots.errors import ApiError, BadRequest, Forbidden, Internal, NotFound, Unauthorized, body_of, told_of
from messaging.bots.limits import MAX_IDEMPOTENCY_KEY, MAX_PATH
from messaging.bots.methods import Context, call, find_method
from messaging.bots.requests import Intake, read_request
from messaging.bots.running import RunningBot
from messaging.bots.sending import Sender
from messaging.bots.sockets import serve_updates
from messaging.bots.ssrf import TargetPolicy
from messaging.bots.tokens import READ, Token, bot_of, digest_of
from messaging.client.bot.account import Account
from messaging.client.errors import ClientError, RelayUnreachable
from messaging.serving.http import Connection, is_loopback
from messaging.serving.logs import get_logger, milliseconds_since
from messaging.wire.data import AttachmentPointer

T = TypeVar("T")

_BOT, _FILE = "/bot", "/file/bot"
_ONCE = "Idempotency-Key"
_CHUNK = 256 * 1024
_HEADERS = {"Server": "subrosa", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Entrance:
    """Takes each request to where it belongs. One that ``is_local`` listens where only this machine can connect."""

    bots: Mapping[int, RunningBot]
    policy: TargetPolicy
    intake: Intake
    openapi: bytes = field(repr=False)
    is_local: bool = True

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever happens."""
        started, name = time.perf_counter(), _Route()
        try:
            response = await self._answer(request, name)
        except ApiError as error:
            response = _refusal(error)
        except ClientError as error:
            response = _refusal(told_of(error))
        except ConnectionError:
            raise  # nobody is there to be answered
        except Exception as error:  # noqa: BLE001 - an answer is owed, and nothing may be told
            get_logger().error("method_failed", method=name.known, error=type(error).__name__)
            response = _refusal(Internal())
        duration = milliseconds_since(started)
        get_logger().debug("answered", method=name.known, status=response.status, duration_ms=duration)
        return response

    async def _answer(self, request: web.BaseRequest, name: "_Route") -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if len(request.raw_path) > MAX_PATH:
            raise BadRequest("Bad Request: the path is too long")
        if path == "/health":
            self._check_host(request)
            return _json(self._health())
        if path == "/openapi.json":
            self._check_host(request)
            return web.Response(body=self.openapi, content_type="application/json", headers=_HEADERS)
        if path.startswith(_FILE):
            return await self._file(request, path.removeprefix(_FILE))
        if path.startswith(_BOT):
            return await self._method(request, path.removeprefix(_BOT), name)
        raise NotFound

    def _check_host(self, request: web.BaseRequest) -> None:
        """See that it was not a web page of somebody's whose name was made to lead here: it would ask for that name."""
        if self.is_local and not is_loopback(host_of(request.headers.get("Host", ""))):
            raise Forbidden("Forbidden: ask for this as localhost, or by its address")

    def _health(self) -> dict[str, Any]:
        """How the gateway is: numbers, and nothing of any bot."""
        connected = sum(running.is_connected for running in self.bots.values())
        return {"ok": connected == len(self.bots), "bots": len(self.bots), "connected": connected}

    def _authenticate(self, text: str) -> tuple[RunningBot, Token]:
        token = unquote(text)
        running = self.bots.get(bot_of(token))
        if running is None:
            digest_of(token)  # an unknown bot takes as long as an unknown token
            raise Unauthorized
        return running, running.authenticate(token)

    # --- methods ---

    async def _method(self, request: web.BaseRequest, rest: str, name: "_Route") -> web.StreamResponse:
        text, _, called = rest.partition("/")
        running, token = self._authenticate(text)
        if called == "updates" and request.headers.get("Upgrade", "").lower() == "websocket":
            name.known = called
            _require(token, READ)
            async with running.counted():
                return await serve_updates(running, token, request)
        if request.method not in ("GET", "POST"):
            raise BadRequest("Bad Request: a method is called by GET or POST")
        method = find_method(called)
        name.known = method.name
        _require(token, *method.scopes)
        once = _once(request.headers.get(_ONCE))
        async with running.counted(), read_request(request, self.intake) as given:
            context = Context(running, token, self.policy, given.files, once)
            called_it = call(method, context, given.parameters)
            result = await (_wait(request, running, token, called_it) if method.waits else called_it)
            return _json({"ok": True, "result": result})

    # --- files ---

    async def _file(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        text, _, path = rest.partition("/")
        running, token = self._authenticate(text)
        _require(token, READ)
        if request.method not in ("GET", "HEAD"):
            raise BadRequest("Bad Request: a file is downloaded by GET")
        async with running.counted():
            session = running.session
            try:
                pointer = await Sender(session).pointer(unquote(path.partition("/")[0]))
            except BadRequest:
                raise NotFound("Not Found: no such file, or not any more") from None
            if pointer.size > self.intake.max_file:
                raise BadRequest("Bad Request: file is too big")
            folder = self.intake.folder / secrets.token_hex(16)  # of its own: a broken download leaves ciphertext
            folder.mkdir(mode=0o700)
            try:
                here = await self._downloaded(session.account, pointer, folder / "file")
                async with _cut_after(self.intake.file_seconds):
                    return await _send_file(request, here, pointer.file_name)
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _downloaded(self, account: Account, pointer: AttachmentPointer, to: Path) -> Path:
        try:
            async with asyncio.timeout(self.intake.file_seconds):
                await account.download(pointer, to)
        except TimeoutError:
            raise told_of(RelayUnreachable()) from None
        return to


@asynccontextmanager
async def _cut_after(seconds: float) -> AsyncIterator[None]:
    """Hang up on who does not take an answer in this time: it has begun, so nothing else can be said."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise ConnectionError("the answer was not taken in time") from None


@dataclass(slots=True)
class _Route:
    """What may be logged of a path."""

    known: str = "unknown"


def _require(token: Token, *scopes: str) -> None:
    if not token.scopes.issuperset(scopes):
        raise Forbidden


async def _wait(request: web.BaseRequest, running: RunningBot, token: Token, called: Coroutine[Any, Any, T]) -> T:
    """What a method returns that may take long, if its caller is there and may have it until then.

    Raises:
        Unauthorized: the token is worth nothing any more.
        ConnectionResetError: nobody is there any more.
    """
    task = asyncio.create_task(called)
    if isinstance(request.protocol, Connection):
        request.protocol.on_hang_up = task.cancel
    try:
        async with running.while_valid(token):
            return await task
    except asyncio.CancelledError:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError from None
        raise
    finally:
        task.cancel()
        if isinstance(request.protocol, Connection):
            request.protocol.on_hang_up = None


def _once(header: str | None) -> str | None:
    if header is not None and not (1 <= len(header) <= MAX_IDEMPOTENCY_KEY and header.isprintable()):
        raise BadRequest(f"Bad Request: an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY} characters")
    return header


def _json(body: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=json.dumps(body).encode(), content_type="application/json", headers=_HEADERS
    )


def _refusal(error: ApiError) -> web.Response:
    response = _json(body_of(error), error.status)
    if error.status in (408, 413):
        response.force_close()  # the rest of the body is not read
    return response


async def _send_file(request: web.BaseRequest, path: Path, name: str) -> web.StreamResponse:
    """The plaintext of a file; what it is, a browser is not to guess."""
    response = web.StreamResponse(headers=_HEADERS)
    response.content_type = "application/octet-stream"
    response.content_length = (await asyncio.to_thread(path.stat)).st_size
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name or 'file', safe='')}"
    await response.prepare(request)
    if request.method == "GET":
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                await response.write(chunk)
    await response.write_eof()
    return response


# --- what is not asked for ---


def refused(status: HTTPStatus) -> web.Response:
    """The answer to what is not HTTP, or made us fail."""
    return _json(body_of(BadRequest() if status < HTTPStatus.INTERNAL_SERVER_ERROR else Internal()), status)


def host_of(header: str) -> str:
    """The name or address in a ``Host`` header; empty if there is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
