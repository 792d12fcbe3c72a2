"""One device's message stream: what to send now, and when an envelope may be forgotten.

Envelopes go out in order, at least once, at most ``window`` of them unacknowledged; then, once, the word that the queue is
empty. Markers that the device sets come back at their place in that order. This module decides; sockets, storage and clocks
belong to ``delivery.socket`` and ``delivery.mailbox``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from messaging.relay.messages.tables import StoredEnvelope, StoredGap
from messaging.wire.limits import MAX_UNACKNOWLEDGED

PAGE = MAX_UNACKNOWLEDGED // 2  # so that the next one is read while the last one is being acknowledged


@dataclass(frozen=True, slots=True)
class Started:
    """The socket is open; the mailbox has given sequences up to ``last_sequence``. ``after``: the device has up to here."""

    last_sequence: int
    after: int = 0


@dataclass(frozen=True, slots=True)
class Queued:
    """The mailbox is known to have given this sequence; ``data`` is what the device gets, if that is at hand."""

    sequence: int
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Seen:
    """The database was asked how far the mailbox is; ``sequence`` may be a little behind by now."""

    sequence: int


@dataclass(frozen=True, slots=True)
class PageRead:
    """What the last ``ReadPage`` found."""

    envelopes: Sequence[StoredEnvelope] = field(repr=False)


@dataclass(frozen=True, slots=True)
class GapsFound:
    """Sequences that the device will not get."""

    gaps: Sequence[StoredGap]


@dataclass(frozen=True, slots=True)
class Marked:
    """The device set a marker when the mailbox had given ``sequence``."""

    marker: str
    sequence: int


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
    """Send the envelope under a request id of its own. ``fresh``: it has just come, and did not wait for its device."""

    request_id: int
    sequence: int
    data: bytes = field(repr=False)
    fresh: bool = field(default=False, compare=False)  # for figures


@dataclass(frozen=True, slots=True)
class SendQueueEmpty:
    """Say that what was there at the start has been sent."""

    request_id: int


@dataclass(frozen=True, slots=True)
class SendGap:
    """Say what will not come."""

    request_id: int
    gap: StoredGap


@dataclass(frozen=True, slots=True)
class SendMarker:
    """Send a marker back: what was queued when it was set has been sent."""

    request_id: int
    marker: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Forget this envelope: its device has it."""

    sequence: int


@dataclass(frozen=True, slots=True)
class CountFailure:
    """The device refused this envelope."""

    sequence: int


@dataclass(frozen=True, slots=True)
class StartAnew:
    """The mailbox is not as far as it was: let the device connect again."""


@dataclass(frozen=True, slots=True)
class ForgetGap:
    """The device has heard of the gap that begins here."""

    first: int


Event = Started | Queued | Seen | PageRead | GapsFound | Marked | Answered
Action = ReadPage | SendEnvelope | SendQueueEmpty | SendGap | SendMarker | Delete | CountFailure | ForgetGap | StartAnew


class DeliveryStream:
    """The state of one connection. Pages are read only while a whole one fits into the window."""

    __slots__ = (
        "_ahead",
        "_backlog",
        "_known",
        "_known_when_asked",
        "_last_request_id",
        "_markers",
        "_page",
        "_position",
        "_progressed",
        "_reading",
        "_started",
        "_unacknowledged",
        "_untold",
        "_window",
    )

    def __init__(self, window: int = MAX_UNACKNOWLEDGED, page: int = PAGE) -> None:
        self._window = window
        self._page = min(page, window)
        self._unacknowledged: dict[int, int] = {}  # request id -> sequence
        self._untold: dict[int, int] = {}  # request id -> first sequence of a gap
        self._markers: list[Marked] = []
        self._position = 0  # everything up to here was sent or has expired
        self._known = 0  # the mailbox has given sequences up to here
        self._started = False
        self._backlog: int | None = None  # sequences given before the start; None: queue-empty has been sent
        self._reading: ReadPage | None = None
        self._known_when_asked = 0
        self._last_request_id = 0
        self._progressed = False
        self._ahead: int | None = None  # what was known at the last look, if that was more than the database said

    def receive(self, event: Event) -> list[Action]:
        """What to do about ``event``. An answer to nothing that we asked is ignored, as Signal-Server does."""
        match event:
            case Answered(request_id, accepted):
                return self._answered(request_id, accepted=accepted)
            case Queued(sequence, bytes() as data) if self._is_next(sequence):
                self._known = self._position = sequence
                return [self._send(sequence, data)]
            case Queued(sequence):
                self._known = max(self._known, sequence)
                return self._read()
            case Seen(sequence):
                return self._seen(sequence)
            case Started(last_sequence, after):
                self._backlog = last_sequence
                self._started = True
                self._known = max(self._known, last_sequence)
                self._position = min(after, last_sequence)
                return [*self._read(), *self._arrived()]
            case PageRead(envelopes):
                return self._page_read(envelopes)
            case GapsFound(gaps):
                return [self._send_gap(gap) for gap in gaps if gap.first not in self._untold.values()]
            case Marked():
                self._known = max(self._known, event.sequence)
                self._markers.append(event)
                return [*self._read(), *self._arrived()]

    @property
    def oldest_unacknowledged(self) -> int | None:
        """The sequence of the first envelope that was sent and not answered."""
        return min(self._unacknowledged.values(), default=None)

    @property
    def progressed(self) -> bool:
        """Whether the device has answered an envelope on this connection."""
        return self._progressed

    def next_request_id(self) -> int:
        """A number for a request; also for those that are no part of the stream."""
        self._last_request_id += 1
        return self._last_request_id

    def _seen(self, sequence: int) -> list[Action]:
        # A push may have come while the database was asked. Who was ahead at the last look too, and has not moved since, is ahead
        # of the truth: a restored backup, or a notice that was wrong.
        ahead = self._known if self._started and sequence < self._known else None
        if ahead is not None and ahead == self._ahead:
            return [StartAnew()]
        self._ahead = ahead
        return self.receive(Queued(sequence))

    def _answered(self, request_id: int, *, accepted: bool) -> list[Action]:
        answered = self._unacknowledged.pop(request_id, None)
        if answered is None:
            gap = self._untold.pop(request_id, None)
            return self._read() if gap is None or not accepted else [ForgetGap(gap)]
        self._progressed = True
        # What was not accepted stays in the mailbox for the next connection.
        return [Delete(answered) if accepted else CountFailure(answered), *self._read()]

    def _page_read(self, envelopes: Sequence[StoredEnvelope]) -> list[Action]:
        asked, self._reading = self._reading, None
        if asked is None:
            raise RuntimeError("a page that was not asked for")
        sent: list[Action] = []
        for envelope in envelopes:
            sent += self._markers_before(envelope.sequence)
            sent.append(self._send(envelope.sequence, envelope.data))
        last = envelopes[-1].sequence if envelopes else self._position
        # A page that is not full was the last one: up to what was known when we asked, nothing is left to send.
        self._position = last if len(envelopes) == asked.limit else max(last, self._known_when_asked)
        return [*sent, *self._arrived(), *self._read()]

    def _send(self, sequence: int, data: bytes) -> SendEnvelope:
        request_id = self.next_request_id()
        self._unacknowledged[request_id] = sequence
        return SendEnvelope(request_id, sequence, data, self._started and self._backlog is None)

    def _is_next(self, sequence: int) -> bool:
        """Whether nothing that has not been sent comes before ``sequence``, and there is room for it."""
        return (
            self._started
            and self._reading is None
            and self._position == self._known == sequence - 1
            and len(self._unacknowledged) < self._window
        )

    def _read(self) -> list[Action]:
        room = self._window - len(self._unacknowledged)
        if self._reading is not None or self._position >= self._known or room < self._page:
            return []
        self._known_when_asked = self._known
        self._reading = ReadPage(self._position, self._page)
        return [self._reading]

    def _arrived(self) -> list[Action]:
        """What is due at this position: markers, and once the word that the queue is empty."""
        due: list[Action] = []
        if self._backlog is not None and self._position >= self._backlog:
            self._backlog = None
            due.append(SendQueueEmpty(self.next_request_id()))
        return [*due, *self._markers_before(self._position + 1)]

    def _markers_before(self, sequence: int) -> list[Action]:
        due: list[Action] = []
        while self._markers and self._markers[0].sequence < sequence:
            due.append(SendMarker(self.next_request_id(), self._markers.pop(0).marker))
        return due

    def _send_gap(self, gap: StoredGap) -> SendGap:
        request_id = self.next_request_id()
        self._untold[request_id] = gap.first
        return SendGap(request_id, gap)
