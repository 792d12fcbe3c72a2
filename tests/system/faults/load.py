"""People who send numbers to each other through everything that fails, and what became of each number.

Each sender has one message under way, and repeats it under its idempotency key until it is accepted. Each receiver keeps a
socket, to one relay and then to another, acknowledges what it gets, and now and then forgets to.
"""

import asyncio
import base64
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from benchmarks._accounts import REGISTRATION_ID, access_key_of, aci_of, password_of
from messaging.wire import frames
from messaging.wire.envelope import EnvelopeType, decode_envelope
from messaging.wire.messages import IncomingMessage, IncomingMessageList

ANSWER_SECONDS = 5
PAUSE_SECONDS = 0.05
HEARTBEAT_SECONDS = 2
FORGETS = 0.002  # how often a receiver goes away instead of acknowledging

Url = Callable[[], str]  # of one of the relays


@dataclass
class Pair:
    """One who sends, one who receives, and what both have seen."""

    sender: str
    receiver: str
    accepted: list[float] = field(default_factory=list)  # when each number was accepted
    received: list[tuple[int, str, int]] = field(default_factory=list)  # number, the relay's name of it, connection
    tries: int = 0
    connections: int = 0

    async def send(self, session: aiohttp.ClientSession, url: Url, stop: asyncio.Event) -> None:
        """Send one number after the other."""
        key = base64.b64encode(access_key_of(self.receiver)).decode()
        while not stop.is_set():
            number = len(self.accepted)
            headers = {"Unidentified-Access-Key": key, "Idempotency-Key": f"{self.sender}-{number:016}"}
            body = _body(b"%d" % number)
            while not await self._try(session, f"{url()}/v1/messages/{aci_of(self.receiver)}", headers, body):
                await asyncio.sleep(PAUSE_SECONDS)
            self.accepted.append(time.monotonic())

    async def _try(self, session: aiohttp.ClientSession, url: str, headers: dict[str, str], body: bytes) -> bool:
        self.tries += 1
        try:
            async with session.put(url, data=body, headers=headers) as response:
                await response.read()
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def receive(self, session: aiohttp.ClientSession, url: Url) -> None:
        """Receive for as long as nobody cancels."""
        login = f"{aci_of(self.receiver)}.1:{password_of(self.receiver)}"
        headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    socket = await session.ws_connect(
                        f"{url()}/v1/websocket/", headers=headers, heartbeat=HEARTBEAT_SECONDS, max_msg_size=0
                    )
                self.connections += 1
                try:
                    await self._read(socket)
                finally:
                    await socket.close()
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(PAUSE_SECONDS)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY:  # an error: the relay has not answered a ping
                return
            request = frames.decode_frame(message.data)
            if not isinstance(request, frames.Request):
                continue
            if request.path == "/api/v1/message":
                envelope = decode_envelope(request.body or b"")
                self.received.append((int(envelope.content), str(envelope.guid), self.connections))
                if random.random() < FORGETS:  # noqa: S311 - no secret
                    return
            await socket.send_bytes(frames.encode_frame(frames.Response(request.id, 200, "OK")))

    @property
    def missing(self) -> int:
        """How many accepted numbers have not been received."""
        return len(set(range(len(self.accepted))) - {number for number, _, _ in self.received})

    @property
    def reordered(self) -> int:
        """How many numbers came for the first time after a greater one."""
        greatest, seen, late = -1, set[int](), 0
        for number, _, _ in self.received:
            if number not in seen:
                late += number < greatest
                greatest = max(greatest, number)
                seen.add(number)
        return late

    @property
    def stored_twice(self) -> int:
        """How many numbers came as two different envelopes: sent twice under one key."""
        return len({(number, guid) for number, guid, _ in self.received}) - len({each[0] for each in self.received})

    @property
    def delivered_again(self) -> int:
        """How many deliveries were of an envelope that had been delivered before: the price of at least once."""
        return len(self.received) - len({each[0] for each in self.received})


def _body(content: bytes) -> bytes:
    message = IncomingMessage(
        type=EnvelopeType.UNIDENTIFIED_SENDER,
        destination_device_id=1,
        destination_registration_id=REGISTRATION_ID,
        content=content,
    )
    return IncomingMessageList(messages=(message,), timestamp=1).to_json()
