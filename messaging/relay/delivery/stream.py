"""One device's message stream: what to send now, and when an envelope may be forgotten.

Envelopes go out in order, at least once, at most ``window`` of them unacknowledged; then, once, the word that the queue is
empty. This module decides; sockets, storage and clocks belong to ``delivery.socket`` and ``delivery.mailbox``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from messaging.relay.messages.tables import StoredEnvelope
from messaging.wire.limits import MAX_UNACKNOWLEDGED

PAGE = 100


@dataclass(frozen=True, slots=True)
class Started:
    """The socket is open; the mailbox has given sequences up to ``last_sequence``."""

    last_sequence: int


@dataclass(frozen=True, slots=True)
class Queued:
    """The mailbox is known to have given this sequence."""

    sequence: int


@dataclass(frozen=True, slots=True)
class PageRead:
    """What the last ``ReadPage`` found."""

    envelopes: Sequence[StoredEnvelope] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answered:
    """The device answered one of our requests; ``accepted`` if with 2xx."""

    request_id: int
    accepted: bool


@dataclass(frozen=True, slots=True)
class ReadPage:
    """Read up to ``limit`` envelopes behind ``after``; the next event of this kind answers it."""

    after: int
    limit: int


@dataclass(frozen=True, slots=True)
class SendEnvelope:
    """Send the envelope under a request id of its own."""

    request_id: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SendQueueEmpty:
    """Say that what was there at the start has been sent."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Forget this envelope: its device has it."""

    sequence: int


Event = Started | Queued | PageRead | Answered
Action = ReadPage | SendEnvelope | SendQueueEmpty | Delete


class DeliveryStream:
    """The state of one connection. Pages are read only while a whole one fits into the window."""

    def __init__(self, window: int = MAX_UNACKNOWLEDGED, page: int = PAGE) -> None:
        self._window = window
        self._page = min(page, window)
        self._unacknowledged: dict[int, int] = {}  # request id -> sequence
        self._position = 0  # everything up to here was sent or has expired
        self._known = 0  # the mailbox has given sequences up to here
        self._backlog: int | None = None  # sequences given before the start; None: queue-empty has been sent
        self._reading: ReadPage | None = None
        self._known_when_asked = 0
        self._last_request_id = 0

    def receive(self, event: Event) -> list[Action]:
        """What to do about ``event``. An answer to nothing that we asked is ignored, as Signal-Server does."""
        match event:
            case Started(last_sequence):
                self._backlog = last_sequence
                self._known = max(self._known, last_sequence)
                return [*self._read(), *self._queue_empty()]
            case Queued(sequence):
                self._known = max(self._known, sequence)
                return self._read()
            case PageRead(envelopes):
                return self._page_read(envelopes)
            case Answered(request_id, accepted):
                answered = self._unacknowledged.pop(request_id, None)
                # What was not accepted stays in the mailbox for the next connection.
                deleted = [Delete(answered)] if accepted and answered is not None else []
                return [*deleted, *self._read()]

    def _page_read(self, envelopes: Sequence[StoredEnvelope]) -> list[Action]:
        asked, self._reading = self._reading, None
        if asked is None:
            raise RuntimeError("a page that was not asked for")
        sent: list[Action] = []
        for envelope in envelopes:
            request_id = self._next_request_id()
            self._unacknowledged[request_id] = envelope.sequence
            sent.append(SendEnvelope(request_id, envelope.data))
        last = envelopes[-1].sequence if envelopes else self._position
        # A page that is not full was the last one: up to what was known when we asked, nothing is left to send.
        self._position = last if len(envelopes) == asked.limit else max(last, self._known_when_asked)
        return [*sent, *self._queue_empty(), *self._read()]

    def _read(self) -> list[Action]:
        room = self._window - len(self._unacknowledged)
        if self._reading is not None or self._position >= self._known or room < self._page:
            return []
        self._known_when_asked = self._known
        self._reading = ReadPage(self._position, self._page)
        return [self._reading]

    def _queue_empty(self) -> list[Action]:
        if self._backlog is None or self._position < self._backlog:
            return []
        self._backlog = None
        return [SendQueueEmpty(self._next_request_id())]

    def _next_request_id(self) -> int:
        self._last_request_id += 1
        return self._last_request_id
