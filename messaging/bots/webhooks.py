"""Webhooks: updates posted to a target of the bot's owner, in order in each conversation and in parallel across them.

A delivery is signed as Standard Webhooks 1.0.0 has it, and keeps its ``webhook-id`` on every try. 2xx means that the update was handled;
an answer may call one method, as at Telegram. Everything else is tried again (``target``), and what fails for good is parked.
"""

import asyncio
import base64
import json
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
from standardwebhooks import Webhook as Signer

from messaging.bots.feed import Feed, Given
from messaging.bots.limits import CONNECT_SECONDS, MAX_ANSWER, WEBHOOK_LEASE, WEBHOOK_SECONDS
from messaging.bots.records import Webhook
from messaging.bots.ssrf import CheckedResolver, TargetPolicy, TargetRefused
from messaging.bots.target import Failure, TargetHealth, read_retry_after
from messaging.bots.updates import Json
from messaging.client.errors import ClientError
from messaging.serving.logs import get_logger

CONSUMER = "setWebhook"
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 - a header's name
_SECRET = 32  # bytes (Standard Webhooks: 24 to 64)
_IDLE = 60.0  # seconds between two looks at the inbox, which wakes by itself
_PAUSE = 1.0  # seconds after a fault of this machine: a full disk

Execute = Callable[[Json, str], Awaitable[None]]
"""Runs the method that an answer calls; the text names the delivery, so that a repeated one does nothing twice."""


def new_signing_secret() -> str:
    """A secret as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET)).decode()


def headers_of(webhook: Webhook, name: str, body: str, now: int) -> dict[str, str]:
    """The headers of a delivery called ``name``; ``now`` is seconds since 1970."""
    signature = Signer(webhook.signing_secret).sign(name, datetime.fromtimestamp(now, UTC), body)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "subrosa",
        "Accept-Encoding": "identity",
        "webhook-id": name,
        "webhook-timestamp": str(now),
        "webhook-signature": signature,
    }
    return {**headers, SECRET_HEADER: webhook.secret_token} if webhook.secret_token else headers


@dataclass(frozen=True, slots=True)
class LastError:
    """What went wrong last: seconds since 1970, and a status or the type of an error."""

    date: int
    reason: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What deliveries use of the machine. ``now`` gives milliseconds since 1970; ``seconds`` bound one delivery."""

    policy: TargetPolicy
    now: Callable[[], int]
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context, repr=False)
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = secrets.SystemRandom().random
    seconds: float = WEBHOOK_SECONDS


class Delivery:
    """Delivers one bot's updates to one target, while :meth:`run` runs."""

    def __init__(self, webhook: Webhook, feed: Feed, execute: Execute, around: Surroundings) -> None:
        self.webhook = webhook
        self.last_error: LastError | None = None
        self._feed = feed
        self._execute = execute
        self._around = around
        self._health = TargetHealth()
        self._taken: set[str] = set()  # names of updates that the target took, of events of which it did not take all
        self._tasks: dict[asyncio.Task[None], Given] = {}
        self._log = get_logger()

    async def run(self) -> None:
        """Deliver until cancelled; then give back what was not delivered."""
        try:
            async with self._session() as http:
                while True:
                    await self._deliver_some(http)
        finally:
            running = dict(self._tasks)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await self._feed.release(running.values())  # also of those that had not begun: they were cancelled unheard

    def _session(self) -> aiohttp.ClientSession:
        resolver = CheckedResolver(self._around.policy, self.webhook.url.startswith("https:"))
        connector = aiohttp.TCPConnector(
            ssl=self._around.tls,
            resolver=resolver,
            socket_factory=resolver.open_socket,
            use_dns_cache=False,
            limit=self.webhook.max_connections,
        )
        timeout = aiohttp.ClientTimeout(total=self._around.seconds, sock_connect=CONNECT_SECONDS)
        return aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )

    async def _deliver_some(self, http: aiohttp.ClientSession) -> None:
        await self._wait_for_a_turn()
        room = 1 if self._health.is_down else self.webhook.max_connections - len(self._tasks)
        try:
            given = await self._feed.take(room, lease=WEBHOOK_LEASE, consumer=CONSUMER, wait=_IDLE, of_one_chat=1)
        except Exception as error:  # noqa: BLE001 - updates are owed, and this is tried again
            self._log.warning("updates_not_taken", error=type(error).__name__)
            await asyncio.sleep(_PAUSE)
            return
        allowed = self._allowed()
        for each in given[:allowed]:
            task = asyncio.create_task(self._deliver(http, each))
            self._tasks[task] = each
            task.add_done_callback(self._tasks.pop)
        await self._feed.release(given[allowed:])  # the target asked for patience meanwhile

    def _allowed(self) -> int:
        """How many deliveries there may be at the same time now."""
        if self._health.paused_until > self._around.monotonic():
            return 0
        return 1 if self._health.is_down else self.webhook.max_connections

    async def _wait_for_a_turn(self) -> None:
        """Until the target may be called, and there is room: for one alone if it has to show that it is there again."""
        while True:
            pause = self._health.paused_until - self._around.monotonic()
            most = 1 if self._health.is_down else self.webhook.max_connections
            if len(self._tasks) >= most:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            elif pause > 0:
                await asyncio.sleep(pause)
            else:
                return

    async def _deliver(self, http: aiohttp.ClientSession, given: Given) -> None:
        """Deliver the updates of one event, and say what became of it."""
        name = given.leased.event.id
        try:
            failure = await self._post_all(http, given)
            if failure is None:
                self._health.succeeded(name, self._around.monotonic())
                self._taken.difference_update(given.names)
                await self._feed.handled([given])
            else:
                await self._note(failure, name, given)
        except asyncio.CancelledError:
            await self._feed.release([given])
            raise
        except ClientError as error:  # its lease ends by itself
            self._log.warning("delivery_not_noted", error=type(error).__name__)

    async def _note(self, failure: Failure, name: str, given: Given) -> None:
        self.last_error = LastError(self._around.now() // 1000, failure.reason)
        counts = self._health.failed(name, failure, self._around.monotonic(), self._around.random())
        if not counts:
            await self._feed.release([given])
        elif await self._feed.failed(given, failure.reason):
            self._taken.difference_update(given.names)
            self._log.warning("event_parked", error=failure.error or None, status=failure.status)

    async def _post_all(self, http: aiohttp.ClientSession, given: Given) -> Failure | None:
        """Post what the target has not taken before.

        Raises:
            LeaseLost: the event is somebody else's meanwhile.
        """
        for name, update in zip(given.names, given.updates, strict=True):
            if name in self._taken:
                continue
            self._feed.account.inbox.renew(given.leased, WEBHOOK_LEASE)  # updates before this one took their time
            failure = await self._post(http, name, update)
            if failure is not None:
                return failure
            self._taken.add(name)
        return None

    async def _post(self, http: aiohttp.ClientSession, name: str, update: Json) -> Failure | None:
        body = json.dumps(update)
        headers = headers_of(self.webhook, name, body, self._around.now() // 1000)
        try:
            async with http.post(
                self.webhook.url, data=body.encode(), headers=headers, allow_redirects=False
            ) as response:
                if not 200 <= response.status < 300:
                    return Failure(response.status, retry_after=read_retry_after(response.headers.get("Retry-After")))
                answer = await read_bounded(response.content)
        except (aiohttp.ClientError, OSError, TimeoutError, TargetRefused) as error:
            return Failure(error=type(error).__name__)
        await self._obey(answer, name)
        return None

    async def _obey(self, answer: bytes | None, name: str) -> None:
        """Run the method that an answer calls, if it does; like Telegram, say nothing of what becomes of it."""
        with suppress(ValueError, RecursionError):
            call = json.loads(answer or b"{}")
            if isinstance(call, dict) and isinstance(call.get("method"), str):
                await self._execute(call, name)


async def read_bounded(stream: aiohttp.StreamReader, most: int = MAX_ANSWER) -> bytes | None:
    """What a target answers, ``None`` if it is more than ``most`` bytes: the rest is not read."""
    read = bytearray()
    async for piece in stream.iter_any():
        read += piece
        if len(read) > most:
            return None
    return bytes(read)
