"""Carries out what a ``DeliveryStream`` decides for one device: pages in, envelopes out, acknowledged ones deleted.

One task writes; the next page is read when the last one is written, so that a slow device costs one page of memory.
Deletions gather while one is running and go together; they are not cancelled when the device goes.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from messaging.relay.delivery.mailbox import Mailboxes
from messaging.relay.delivery.stream import (
    Answered,
    Delete,
    DeliveryStream,
    Event,
    PageRead,
    Queued,
    ReadPage,
    SendEnvelope,
    SendQueueEmpty,
    Started,
)
from messaging.relay.logs import get_logger
from messaging.wire import frames
from messaging.wire.messages import TIMESTAMP_HEADER

MESSAGE_PATH = "/api/v1/message"
QUEUE_EMPTY_PATH = "/api/v1/queue/empty"
_DELETE_ATTEMPTS = 3
_DELETE_RETRY_SECONDS = 1


class MailboxGone(Exception):
    """The device was registered anew before its socket was open."""


@dataclass(slots=True)
class Unfinished:
    """Tasks that outlive the socket that began them."""

    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` in a task that nobody cancels."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def finish(self) -> None:
        """Wait until nothing is left."""
        while self.tasks:
            await asyncio.wait(set(self.tasks))


class Outbound:
    """The delivery side of one socket. ``send`` writes a frame, and waits while the device does not read."""

    def __init__(
        self,
        mailbox_id: int,
        mailboxes: Mailboxes,
        send: Callable[[frames.Request], Awaitable[None]],
        unfinished: Unfinished,
        now: Callable[[], int],
    ) -> None:
        self._mailbox_id = mailbox_id
        self._mailboxes = mailboxes
        self._send = send
        self._unfinished = unfinished
        self._now = now
        self._stream = DeliveryStream()
        self._outbox: deque[SendEnvelope | SendQueueEmpty] = deque()
        self._page: ReadPage | None = None
        self._work = asyncio.Event()
        self._acknowledged: set[int] = set()
        self._deleting = False

    def queued(self, sequence: int) -> None:
        """The mailbox has given this sequence."""
        self._do(Queued(sequence))

    def answered(self, response: frames.Response) -> None:
        """The device answered a request of ours."""
        self._do(Answered(response.id, accepted=200 <= response.status < 300))

    async def run(self) -> None:
        """Deliver until cancelled. Begin after listening to notices: what is stored from then on, is heard of.

        Raises:
            MailboxGone: the device was registered anew meanwhile.
        """
        last = await self._mailboxes.last_sequences([self._mailbox_id])
        if self._mailbox_id not in last:
            raise MailboxGone
        self._do(Started(last[self._mailbox_id]))
        while True:
            await self._work.wait()
            self._work.clear()
            while self._outbox:
                await self._send(self._request(self._outbox.popleft()))
            if self._page is not None:
                page, self._page = self._page, None
                self._do(PageRead(await self._mailboxes.read_page(self._mailbox_id, page)))

    def _request(self, action: SendEnvelope | SendQueueEmpty) -> frames.Request:
        headers = {TIMESTAMP_HEADER: str(self._now())}
        match action:
            case SendEnvelope(request_id, data):
                return frames.Request(request_id, "PUT", MESSAGE_PATH, headers, data)
            case SendQueueEmpty(request_id):
                return frames.Request(request_id, "PUT", QUEUE_EMPTY_PATH, headers)

    def _do(self, event: Event) -> None:
        for action in self._stream.receive(event):
            match action:
                case SendEnvelope() | SendQueueEmpty():
                    self._outbox.append(action)
                    self._work.set()
                case ReadPage():
                    self._page = action
                    self._work.set()
                case Delete(sequence):
                    self._acknowledged.add(sequence)
                    if not self._deleting:
                        self._deleting = True
                        self._unfinished.start(self._delete())

    async def _delete(self) -> None:
        failures = 0
        while self._acknowledged and failures < _DELETE_ATTEMPTS:
            some = frozenset(self._acknowledged)
            try:
                await self._mailboxes.delete(self._mailbox_id, some)
            except Exception as error:  # noqa: BLE001 - what cannot be deleted is delivered once more, no worse
                get_logger().warning("delete_failed", count=len(some), error=type(error).__name__)
                failures += 1
                await asyncio.sleep(_DELETE_RETRY_SECONDS)
            else:
                self._acknowledged -= some
        self._deleting = False
