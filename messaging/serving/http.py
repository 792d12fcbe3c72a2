"""aiohttp's low-level server with bounds, on connections that never repeat what they were sent."""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from messaging.serving.logs import get_logger


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a connection may take: bytes of a body, fields of a form, and seconds.

    ``keepalive_seconds`` bound the head of a request and the wait for the next one; for ``linger_seconds`` the rest of a refused body is
    read and dropped.
    """

    body: int
    fields: int = 1000
    keepalive_seconds: float = 75
    linger_seconds: float = 10


class Connection(RequestHandler):
    """A connection that does not say what was wrong with bytes that are not HTTP: aiohttp would repeat and log them.

    ``refuse`` makes the answer; ``on_hang_up`` is called when the peer has gone.
    """

    __slots__ = ("on_hang_up", "refuse")
    refuse: Callable[[HTTPStatus], web.Response]
    on_hang_up: Callable[[], object] | None

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self.on_hang_up is not None:
            self.on_hang_up()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature; it may hold what the peer sent
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):
            raise exc  # the peer has gone
        get_logger().warning("not_http", status=status, error=type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        response = self.refuse(HTTPStatus(status))
        response.force_close()
        return response


class HttpServer(web.Server):
    """aiohttp's low-level server within ``bounds``. What is not HTTP, and what ``handler`` fails at, is answered by ``refuse``."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        refuse: Callable[[HTTPStatus], web.Response],
        bounds: Bounds,
    ) -> None:
        super().__init__(handler, request_factory=self._bounded)
        self._refuse = refuse
        self._bounds = bounds

    def _bounded(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        loop, bounds = asyncio.get_running_loop(), self._bounds
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=bounds.body, client_max_fields=bounds.fields
        )

    def __call__(self) -> RequestHandler:
        connection = Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp documents None: no access log
            auto_decompress=False,
            keepalive_timeout=self._bounds.keepalive_seconds,
            lingering_time=self._bounds.linger_seconds,
        )
        connection.refuse, connection.on_hang_up = self._refuse, None
        return connection


def is_loopback(host: str) -> bool:
    """Whether ``host`` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
