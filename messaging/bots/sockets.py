"""Updates over a WebSocket: pushed as they come, each a text frame as getUpdates would have it, and confirmed by their numbers.

The consumer says ``{"confirm": [numbers]}`` when it has handled updates, or ``{"fail": [numbers]}`` to have them tried again. At most
``SOCKET_WINDOW`` are unconfirmed; what is when the socket ends is given to others at once.
"""

import asyncio
import json
import secrets
from collections.abc import Iterable

from aiohttp import WSCloseCode, WSMsgType, web

from messaging.bots.errors import ApiError, BadRequest, Unauthorized
from messaging.bots.limits import DEFAULT_LEASE, MAX_LEASE, SOCKET_WINDOW
from messaging.bots.parameters import OfConsumer
from messaging.bots.polling import Polling
from messaging.bots.requests import read_json
from messaging.bots.running import RunningBot
from messaging.bots.tokens import Token
from messaging.client.errors import ClientError

MAX_FRAME = 16 * 1024
HEARTBEAT = 30.0  # seconds
LEASE = min(10 * DEFAULT_LEASE, MAX_LEASE)
_WAIT = 30.0  # seconds for which one look at the inbox takes


async def serve_updates(running: RunningBot, token: Token, request: web.BaseRequest) -> web.StreamResponse:
    """Push updates until one side ends it, or ``token`` is worth nothing any more.

    Raises:
        Conflict: they are posted to a webhook.
        Unavailable: the account is not open.
    """
    running.check_not_delivering()
    polling, consumer = running.session.polling, f"socket {secrets.token_hex(8)}"
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=MAX_FRAME, compress=False, autoping=True)
    await socket.prepare(request)
    stream = _Stream(polling, consumer, socket)
    both = [asyncio.create_task(each) for each in (stream.push(), stream.listen())]
    try:
        await socket.close(code=await _ended(both, running, token))
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        await polling.release(consumer)
    return socket


async def _ended(tasks: Iterable[asyncio.Task[None]], running: RunningBot, token: Token) -> WSCloseCode:
    """Wait until one has ended; returns why."""
    try:
        async with running.while_valid(token):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    except Unauthorized:
        return WSCloseCode.POLICY_VIOLATION
    return WSCloseCode.GOING_AWAY


class _Stream:
    """One socket."""

    def __init__(self, polling: Polling, consumer: str, socket: web.WebSocketResponse) -> None:
        self._polling = polling
        self._consumer = consumer
        self._socket = socket
        self._open: set[int] = set()  # numbers that are not confirmed
        self._room = asyncio.Event()

    async def push(self) -> None:
        """Send updates while there is room."""
        while True:
            self._room.clear()
            room = SOCKET_WINDOW - len(self._open)
            if room <= 0:
                await self._room.wait()
                continue
            updates = await self._polling.lease(self._consumer, limit=room, wait=_WAIT, lease=LEASE)
            self._open.update(update["update_id"] for update in updates)
            for update in updates:
                await self._socket.send_str(json.dumps(update))

    async def listen(self) -> None:
        """Take confirmations until the socket ends."""
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                await self._socket.close(code=WSCloseCode.UNSUPPORTED_DATA)
                return
            try:
                await self._take(message.data)
            except (ApiError, ClientError):
                await self._socket.close(code=WSCloseCode.INVALID_TEXT)
                return

    async def _take(self, text: str) -> None:
        said = read_json(text)
        if not said.keys() <= {"confirm", "fail"}:
            raise BadRequest
        for name, act in (("confirm", self._polling.confirm), ("fail", self._polling.fail)):
            if name in said:
                numbers = OfConsumer.read({"update_ids": said[name]}).update_ids
                await act(self._consumer, numbers)
                self._open.difference_update(numbers)
                self._room.set()
