"""Carries out what a ``DeliveryStream`` decides for one device: pages in, envelopes out, acknowledged ones deleted.

What is due is written at once while the device reads as fast as it gets. For a device that does not, and for pages, one task
writes; the next page is read when the last one is written, so that a slow device costs one page of memory.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

from messaging.relay.delivery.acknowledgements import Acknowledgements
from messaging.relay.delivery.mailbox import Mailboxes
from messaging.relay.delivery.openings import Openings
from messaging.relay.delivery.receipts import ReceiptDue, receipt_due
from messaging.relay.delivery.stream import (
    Answered,
    CountFailure,
    Delete,
    DeliveryStream,
    Event,
    ForgetGap,
    GapsFound,
    Marked,
    PageRead,
    Queued,
    ReadPage,
    Seen,
    SendEnvelope,
    SendGap,
    SendMarker,
    SendQueueEmpty,
    StartAnew,
    Started,
)
from messaging.relay.http import Caller
from messaging.relay.messages.tables import Progress
from messaging.relay.metrics import Figures
from messaging.serving.logs import get_logger
from messaging.wire import frames
from messaging.wire.envelope import summarise_envelope
from messaging.wire.messages import TIMESTAMP_HEADER, Gap

MESSAGE_PATH = "/api/v1/message"
QUEUE_EMPTY_PATH = "/api/v1/queue/empty"
GAP_PATH = "/api/v1/queue/gap"
MARKER_PATH = "/api/v1/queue/marker"
CURSOR_HEADER = "X-Subrosa-Cursor"
NOTICES_HEADER = "X-Subrosa-Notices"
RESUME_HEADER = "X-Subrosa-Resume-After"
STORIES_HEADER = "X-Signal-Receive-Stories"

TOGETHER_BYTES = 16 * 1024  # of frames that are written in one piece
MAX_KEPT = 16  # envelopes, of those that were just committed, that wait to be written to one device

_Sendable = SendEnvelope | SendQueueEmpty | SendGap | SendMarker


def cursor_of(mailbox_id: int, sequence: int) -> str:
    """A place in a mailbox, as its device keeps it: ``TAG-SEQUENCE``."""
    return f"{_tag(mailbox_id)}-{sequence}"


def sequence_of(cursor: str, mailbox_id: int) -> int | None:
    """Undo :func:`cursor_of`; ``None`` for what is no place in this mailbox.

    A device that was registered anew has another mailbox: its old cursor must not make it lose what is in the new one.
    """
    tag, _, number = cursor.partition("-")
    if tag != _tag(mailbox_id) or not (number.isascii() and number.isdigit() and len(number) <= 18):
        return None
    return int(number)


def _tag(mailbox_id: int) -> str:
    return blake2b(str(mailbox_id).encode(), digest_size=6, person=b"mailbox").hexdigest()


class MailboxGone(Exception):
    """The device was registered anew before its socket was open."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a device said when it connected. ``resume_after`` is a cursor: it has everything up to there."""

    stories: bool = False
    gaps: bool = False
    prekeys: bool = False
    resume_after: str = ""

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> "Wishes":
        """From the headers of the upgrade; what is not understood is not wished."""
        notices = {part.strip().lower() for part in headers.get(NOTICES_HEADER.lower(), "").split(",")}
        return cls(
            stories=headers.get(STORIES_HEADER.lower(), "").lower() == "true",
            gaps="gaps" in notices,
            prekeys="prekeys" in notices,
            resume_after=headers.get(RESUME_HEADER.lower(), ""),
        )


class Wire(Protocol):
    """Where frames go."""

    def send_now(self, *some: bytes) -> bool:
        """Write frames; ``False``, and nothing is written, if the device would have to read first."""

    async def send(self, *some: bytes) -> None:
        """Write frames, and wait while the device does not read."""

    def fail(self) -> None:
        """Close the connection, as after a fault: the device comes back."""


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
    """The delivery side of one socket.

    ``wire`` writes frames; ``connected`` hears the connection's number; ``wake`` is called when :meth:`run` has something to do.
    There are as many of these as sockets: they are kept small.
    """

    __slots__ = (
        "_acknowledgements",
        "_connected",
        "_figures",
        "_mailboxes",
        "_now",
        "_opened",
        "_openings",
        "_outbox",
        "_page",
        "_receipts",
        "_receiver",
        "_running",
        "_stream",
        "_tag",
        "_unfinished",
        "_wake",
        "_wire",
        "_wishes",
    )

    def __init__(
        self,
        receiver: Caller,
        wishes: Wishes,
        openings: Openings,
        mailboxes: Mailboxes,
        acknowledgements: Acknowledgements,
        wire: Wire,
        connected: Callable[[int], None],
        wake: Callable[[], None],
        unfinished: Unfinished,
        now: Callable[[], int],
        figures: Figures | None = None,
    ) -> None:
        self._figures = figures or Figures()
        self._receiver = receiver
        self._wishes = wishes
        self._openings = openings
        self._mailboxes = mailboxes
        self._acknowledgements = acknowledgements
        self._wire = wire
        self._connected = connected
        self._wake = wake
        self._unfinished = unfinished
        self._now = now
        self._opened = False
        self._running = False
        self._tag = _tag(receiver.mailbox_id)
        self._stream = DeliveryStream()
        self._outbox: list[_Sendable] = []
        self._page: ReadPage | None = None
        self._receipts: dict[int, ReceiptDue] = {}

    def queued(self, sequence: int, data: bytes | None = None) -> None:
        """The mailbox has given this sequence; ``data`` is what the device gets, if that is at hand."""
        # What a slow device has not read is not kept here: it is read from the database when there is room.
        self._do(Queued(sequence, data if len(self._outbox) < MAX_KEPT else None))

    def seen(self, last_sequence: int) -> None:
        """The database was asked how far the mailbox is."""
        self._do(Seen(last_sequence))

    def answered(self, response: frames.Response) -> None:
        """The device answered a request of ours."""
        self._do(Answered(response.id, accepted=200 <= response.status < 300))

    def abandoned(self) -> None:
        """The device went away. If it answered nothing, the first envelope may be what it dies of: that counts as a failure.

        Only for a device that hears of gaps: for another one a bad line would look the same, and what is parked be lost.
        """
        oldest = self._stream.oldest_unacknowledged
        if self._wishes.gaps and oldest is not None and not self._stream.progressed:
            self._unfinished.start(self._fail(oldest))

    async def mark(self, marker: str) -> None:
        """Send ``marker`` back when everything has been sent that is queued now."""
        found = (await self._mailboxes.progress([self._receiver.mailbox_id])).get(self._receiver.mailbox_id)
        self._do(Marked(marker, found.last_sequence if isinstance(found, Progress) else 0))

    async def note(self, path: str, body: bytes) -> None:
        """Tell the device something that is no part of the stream."""
        stamp = f"{TIMESTAMP_HEADER}:{self._now()}"
        await self._wire.send(frames.encode_request(self._stream.next_request_id(), "PUT", path, (stamp,), body))

    async def run(self) -> None:
        """Send what is due, and return when there is nothing left; ``wake`` says when there is something again.

        Run it for the first time after listening to notices: what is stored from then on, is heard of.

        Raises:
            MailboxGone: the device was registered anew meanwhile.
        """
        if self._running:
            return
        self._running = True  # and for ever if it is cancelled or fails: what was not sent then must not be overtaken
        if not self._opened:
            await self._open()
            self._opened = True
        while self._outbox or self._page is not None:
            for some in self._frames_together():
                if not self._wire.send_now(*some):
                    await self._wire.send(*some)
            if self._page is not None:
                page, self._page = self._page, None
                self._do(PageRead(await self._mailboxes.read_page(self._receiver.mailbox_id, page)))
        self._running = False

    def _frames_together(self) -> Iterator[list[bytes]]:
        """What is due, a few frames at a time: each piece that is written costs as much as encoding it."""
        taken, self._outbox = self._outbox, []
        together: list[bytes] = []
        size = 0
        for action in taken:
            frame = self._frame(action)
            if frame is None:
                continue
            if together and size + len(frame) > TOGETHER_BYTES:
                yield together
                together, size = [], 0
            together.append(frame)
            size += len(frame)
        if together:
            yield together

    async def _open(self) -> None:
        await self._acknowledgements.settle()
        resume_after = sequence_of(self._wishes.resume_after, self._receiver.mailbox_id)
        opened = await self._openings.open(
            self._receiver.mailbox_id, resume_after=resume_after, wants_gaps=self._wishes.gaps
        )
        if opened is None:
            raise MailboxGone
        self._connected(opened.connection)
        self._do(GapsFound(opened.gaps))
        self._do(Started(opened.last_sequence, max(resume_after or 0, opened.empty_up_to)))

    def _send_now(self, action: _Sendable) -> bool:
        """Send, unless something is before it or the device has to read first."""
        if self._running or self._outbox:
            return False
        frame = self._frame(action)
        return frame is None or self._wire.send_now(frame)

    def _frame(self, action: _Sendable) -> bytes | None:
        """What to write; ``None`` for a story that the device does not want."""
        now = self._now()
        stamp = f"{TIMESTAMP_HEADER}:{now}"
        match action:
            case SendEnvelope(request_id, sequence, data):
                if not self._is_wanted(action, now):
                    return None
                cursor = f"{CURSOR_HEADER}:{self._tag}-{sequence}"
                return frames.encode_request(request_id, "PUT", MESSAGE_PATH, (stamp, cursor), data)
            case SendQueueEmpty(request_id):
                return frames.encode_request(request_id, "PUT", QUEUE_EMPTY_PATH, (stamp,), None)
            case SendGap(request_id, gap):
                body = Gap(first=gap.first, last=gap.last, reason=gap.reason).to_json()
                return frames.encode_request(request_id, "PUT", GAP_PATH, (stamp,), body)
            case SendMarker(request_id, marker):
                return frames.encode_request(request_id, "PUT", MARKER_PATH, (stamp,), marker.encode())

    def _is_wanted(self, action: SendEnvelope, now: int) -> bool:
        envelope = summarise_envelope(action.data)
        if envelope.story and not self._wishes.stories:
            self._do(Answered(action.request_id, accepted=True))  # it does not want stories: they are dropped
            return False
        due = receipt_due(envelope, self._receiver)
        if due is not None:
            self._receipts[action.sequence] = due
        figures = self._figures
        figures.envelopes_delivered += 1
        if action.fresh:
            # Another relay's clock may be ahead of ours.
            figures.delivery_seconds.add(max(0, now - envelope.server_timestamp) / 1000)
        return True

    def _do(self, event: Event) -> None:
        for action in self._stream.receive(event):
            match action:
                case Delete(sequence):
                    self._acknowledgements.acknowledge(self._receiver, sequence, self._receipts.pop(sequence, None))
                case SendEnvelope() | SendQueueEmpty() | SendGap() | SendMarker():
                    if not self._send_now(action):
                        self._outbox.append(action)
                        self._wake()
                case ReadPage():
                    self._page = action
                    self._wake()
                case CountFailure(sequence):
                    self._unfinished.start(self._fail(sequence))
                case StartAnew():
                    self._wire.fail()
                case ForgetGap(first):
                    self._unfinished.start(self._mailboxes.forget_gap(self._receiver.mailbox_id, first))

    async def _fail(self, sequence: int) -> None:
        try:
            gaps = await self._mailboxes.count_failure(self._receiver.mailbox_id, sequence)
        except Exception as error:  # noqa: BLE001 - what is not counted is tried once more, no worse
            get_logger().warning("failure_not_counted", error=type(error).__name__)
        else:
            self._figures.envelopes_parked += len(gaps)
            if gaps and self._wishes.gaps:
                self._do(GapsFound(gaps))
