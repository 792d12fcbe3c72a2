"""Asking the relay until it answers: with this device's credentials, or with none so that it does not learn who asks."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from messaging.client.connection import ChatConnection, ConnectionLost, Relay
from messaging.client.errors import AccountSuspended, RelayRefused, RelayUnreachable
from messaging.wire.errors import WireError
from messaging.wire.frames import Response
from messaging.wire.json import Entity

PAUSE = 0.2  # seconds between two attempts at a relay that is away
_BUSY = (429, 503)  # statuses that say to come back later

Answer = TypeVar("Answer", bound=Entity)


@dataclass(frozen=True, slots=True)
class Requests:
    """Repeats the very same request after a lost connection, or when told to wait, for ``deadline`` seconds.

    Both ways raise ``RelayUnreachable`` without an answer by then, and ``RelayRefused`` if a rate limit says to wait for longer;
    ``AccountSuspended``, which is a ``RelayUnreachable``, as soon as the relay says it.
    """

    relay: Relay
    connection: ChatConnection
    deadline: float

    async def authenticated(self, verb: str, path: str, body: bytes | None = None) -> Response:
        """Through the device's socket.

        Raises:
            CredentialsRevoked, Displaced: it has ended for good.
        """

        async def ask(left: float) -> Response:
            return await self.connection.request(verb, path, body, deadline=left)

        return await self._repeat(ask)

    async def unidentified(self, verb: str, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """Over HTTPS, without credentials."""

        async def ask(left: float) -> Response:
            try:
                async with asyncio.timeout(left):
                    return await self.relay.request(verb, path, body, headers=headers)
            except TimeoutError:
                raise RelayUnreachable from None

        return await self._repeat(ask)

    async def _repeat(self, ask: Callable[[float], Awaitable[Response]]) -> Response:
        ends = time.monotonic() + self.deadline
        while (left := ends - time.monotonic()) > 0:
            try:
                response = await ask(left)
            except ConnectionLost:
                await asyncio.sleep(0)  # let the connection notice
                continue
            except AccountSuspended:  # for long: to ask again at once is of no use
                raise
            except RelayUnreachable:
                await asyncio.sleep(min(PAUSE, max(0.0, ends - time.monotonic())))
                continue
            if response.status not in _BUSY:
                return response
            wait = _seconds(response.headers.get("retry-after", "1"))
            if wait >= ends - time.monotonic():
                raise RelayRefused(429) if response.status == 429 else RelayUnreachable
            await asyncio.sleep(wait)
        raise RelayUnreachable


def read_as(entity: type[Answer], response: Response) -> Answer:
    """What the relay answered.

    Raises:
        RelayRefused: no relay answers so.
    """
    try:
        return entity.from_json(response.body or b"")
    except WireError:
        raise RelayRefused(response.status) from None


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 1.0
