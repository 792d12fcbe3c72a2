"""The provisioning socket: a device that has no account yet gets an address, and then one message, or nothing in 90 seconds.

Source: Signal-Server, ``ProvisioningConnectListener``.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from aiohttp import WSMsgType, web

from messaging.relay.http import Call
from messaging.relay.tasks import end
from messaging.wire import frames
from messaging.wire.errors import MalformedFrame
from messaging.wire.limits import MAX_FRAME
from messaging.wire.messages import TIMESTAMP_HEADER

ADDRESS_PATH = "/v1/address"
MESSAGE_PATH = "/v1/message"
ANSWER_SECONDS = 10
_NORMAL, _MALFORMED = 1000, 1007


class Addresses(Protocol):
    """Where messages for new devices are left."""

    async def open_address(self, *, remote: str) -> str:
        """A new address."""

    async def wait_at(self, address: str) -> bytes | None:
        """The message left there, or ``None`` when the time is over."""

    async def close_address(self, address: str) -> None:
        """Give it up."""


@dataclass(frozen=True, slots=True)
class ProvisioningSockets:
    """Opens provisioning sockets. ``now`` gives milliseconds since 1970."""

    addresses: Addresses
    now: Callable[[], int]

    async def serve(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """Run one socket until its message is answered, its time is over or its peer goes.

        Raises:
            RateLimited: too many from this network address; the upgrade fails.
        """
        address = await self.addresses.open_address(remote=call.remote)
        try:
            websocket = web.WebSocketResponse(heartbeat=30, max_msg_size=MAX_FRAME, compress=False)
            await websocket.prepare(request)
            code = await self._converse(websocket, address)
            await websocket.close(code=code)
            return websocket
        finally:
            await asyncio.shield(self.addresses.close_address(address))

    async def _converse(self, websocket: web.WebSocketResponse, address: str) -> int:
        answered = asyncio.Event()
        reading = asyncio.create_task(_read(websocket, answered))
        waiting = asyncio.create_task(self._bring(websocket, address, answered))
        try:
            await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else _NORMAL
        finally:
            await end([reading, waiting])

    async def _bring(self, websocket: web.WebSocketResponse, address: str, answered: asyncio.Event) -> None:
        await self._send(websocket, 1, ADDRESS_PATH, frames.encode_provisioning_address(address))
        message = await self.addresses.wait_at(address)
        if message is None:
            return
        answered.clear()
        await self._send(websocket, 2, MESSAGE_PATH, message)
        with suppress(TimeoutError):
            await asyncio.wait_for(answered.wait(), ANSWER_SECONDS)

    async def _send(self, websocket: web.WebSocketResponse, number: int, path: str, body: bytes) -> None:
        request = frames.Request(number, "PUT", path, {TIMESTAMP_HEADER: str(self.now())}, body)
        with suppress(ConnectionError):
            await websocket.send_bytes(frames.encode_frame(request))


async def _read(websocket: web.WebSocketResponse, answered: asyncio.Event) -> int:
    async for message in websocket:
        if message.type is not WSMsgType.BINARY:
            return _MALFORMED
        try:
            frame = frames.decode_frame(message.data)
        except MalformedFrame:
            return _MALFORMED
        if isinstance(frame, frames.Response):
            answered.set()
        else:  # it carries no requests, but libsignal keeps a socket alive by one
            ok = frames.Response(frame.id, 200 if frame.path == "/v1/keepalive" else 404)
            await websocket.send_bytes(frames.encode_frame(ok))
    return _NORMAL
