"""Whose turn it is: which of the events that wait may be handled now. No I/O, and no clock: ``now`` is seconds on any clock.

Conversations take turns, so one with many events keeps no other waiting. Of one conversation nothing is given out while something of
it is in hand, or while what failed there pauses.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import NamedTuple


class Waiting(NamedTuple):
    """An event that waits: its number and id, the conversation that it belongs to, and when it came, milliseconds since 1970."""

    number: int
    id: bytes
    conversation: bytes
    received_at: int


@dataclass(frozen=True, slots=True)
class Lease:
    """That somebody has an event in hand until ``until``. ``token`` names this lease and no other."""

    token: int
    until: float
    waiting: Waiting


@dataclass(slots=True)
class _Line:
    """The events of one conversation, in order. The first ``in_hand`` of them are leased."""

    events: deque[Waiting] = field(default_factory=deque)
    in_hand: int = 0
    not_before: float = 0.0

    def position(self, number: int) -> int | None:
        """Where a leased event stands."""
        leased = enumerate(islice(self.events, self.in_hand))
        return next((position for position, each in leased if each.number == number), None)


class Turns:
    """The lines of all conversations. Names of leases count from ``first_token``."""

    def __init__(self, first_token: int = 1) -> None:
        self._lines: dict[bytes, _Line] = {}
        self._ready: deque[bytes] = deque()
        self._pausing: list[tuple[float, int, bytes]] = []  # a heap, as the next one: when, which was first, whose
        self._ends: list[tuple[float, int, int]] = []  # of leases: when, token, number
        self._leases: dict[int, Lease] = {}
        self._ids: set[bytes] = set()
        self._suspects: set[int] = set()
        self._tokens = count(first_token)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, event_id: bytes) -> bool:
        return event_id in self._ids

    @property
    def in_hand(self) -> int:
        """How many events somebody has in hand."""
        return len(self._leases)

    def oldest(self) -> int | None:
        """When the event came that waits longest, milliseconds since 1970."""
        return min((line.events[0].received_at for line in self._lines.values()), default=None)

    def add(self, waiting: Waiting) -> None:
        """At the end of its conversation's line."""
        line = self._lines.get(waiting.conversation)
        if line is None:
            line = self._lines[waiting.conversation] = _Line()
            self._ready.append(waiting.conversation)
        line.events.append(waiting)
        self._ids.add(waiting.id)

    def heads(self) -> Iterator[Waiting]:
        """The first event of every line that nobody has in hand."""
        return (line.events[0] for line in self._lines.values() if not line.in_hand)

    def suspect(self, waiting: Waiting) -> None:
        """It may have ended the process: it is given out when nothing else is in hand, until it is known how that ends."""
        self._suspects.add(waiting.number)

    # --- giving out ---

    def has_any(self, now: float) -> bool:
        """Whether it is anybody's turn."""
        self._end_pauses(now)
        return bool(self._ready)

    def pick(
        self, now: float, most: int, *, per_conversation: int, conversations: int, alone_until: int = 0
    ) -> list[Waiting]:
        """Take the next events whose turn it is, of each conversation one run in order; :meth:`lease` or put back each of them.

        An event with a number up to ``alone_until`` is given out alone.
        """
        self._end_pauses(now)
        if not self._suspects.isdisjoint(self._leases):
            return []
        if (suspect := self._ready_suspect()) is not None:
            return self._pick_alone(suspect) if not self._leases else []
        picked: list[Waiting] = []
        for _ in range(min(conversations, len(self._ready))):
            if len(picked) >= most:
                break
            line = self._lines[self._ready.popleft()]
            longest = 1 if line.events[0].number <= alone_until else per_conversation
            run = list(islice(line.events, min(longest, most - len(picked))))
            line.in_hand = len(run)
            picked += run
        return picked

    def _ready_suspect(self) -> bytes | None:
        """The conversation of a suspect whose turn it is."""
        if not self._suspects:
            return None
        firsts = ((conversation, self._lines[conversation].events[0].number) for conversation in self._ready)
        return next((conversation for conversation, number in firsts if number in self._suspects), None)

    def _pick_alone(self, conversation: bytes) -> list[Waiting]:
        self._ready.remove(conversation)
        line = self._lines[conversation]
        line.in_hand = 1
        return [line.events[0]]

    def lease(self, waiting: Waiting, until: float) -> Lease:
        """Somebody has in hand what was picked."""
        lease = self._leases[waiting.number] = Lease(next(self._tokens), until, waiting)
        heapq.heappush(self._ends, (until, lease.token, waiting.number))
        return lease

    def renew(self, number: int, token: int, until: float) -> bool:
        """A lease that stands ends at another time; says whether it did stand."""
        waiting = self.held(number, token)
        if waiting is None:
            return False
        self._leases[number] = Lease(token, until, waiting)
        heapq.heappush(self._ends, (until, token, number))
        return True

    def held(self, number: int, token: int) -> Waiting | None:
        """What is in hand under this lease; ``None`` if it does not stand any more."""
        lease = self._leases.get(number)
        return lease.waiting if lease is not None and lease.token == token else None

    def lapsed(self, now: float) -> list[Lease]:
        """The leases whose time is over. They stand until what they were for is put back or removed."""
        if not self._ends or self._ends[0][0] > now:
            return []
        return sorted(
            (lease for lease in self._leases.values() if lease.until <= now), key=lambda lease: lease.waiting.number
        )

    def next_change(self) -> float | None:
        """When a pause or a lease ends, at the earliest."""
        while self._ends and not self._is_end(*self._ends[0]):
            heapq.heappop(self._ends)
        times = [heap[0][0] for heap in (self._pausing, self._ends) if heap]
        return min(times, default=None)

    def _is_end(self, until: float, token: int, number: int) -> bool:
        """Whether a lease ends then: it stands, and was not renewed."""
        return self.held(number, token) is not None and self._leases[number].until == until

    # --- and what becomes of it ---

    def remove(self, waiting: Waiting) -> bool:
        """It is over, or set aside; its line goes on. Says whether it was there."""
        line = self._lines.get(waiting.conversation)
        if line is None or (position := line.position(waiting.number)) is None:
            return False
        del line.events[position]
        self._ids.discard(waiting.id)
        self._suspects.discard(waiting.number)
        self._leases.pop(waiting.number, None)
        line.in_hand -= 1
        self._settle(waiting.conversation, line)
        return True

    def put_back(self, waiting: Waiting, *, not_before: float = 0.0) -> None:
        """Nobody has it in hand any more, nor what follows it in its run. It pauses until ``not_before`` if it has failed."""
        line = self._lines.get(waiting.conversation)
        if line is None or (position := line.position(waiting.number)) is None:
            return
        for each in islice(line.events, position, line.in_hand):
            self._leases.pop(each.number, None)
        line.in_hand = position
        if not_before:
            self._suspects.discard(waiting.number)
        line.not_before = max(line.not_before, not_before)
        self._settle(waiting.conversation, line)

    def set_aside(self, waiting: Waiting) -> None:
        """It is no part of its line any more, in hand or not; nobody has in hand what follows it in its run."""
        line = self._lines.get(waiting.conversation)
        places = () if line is None else enumerate(line.events)
        position = next((position for position, each in places if each.number == waiting.number), None)
        if line is None or position is None:
            return
        was_in_hand = position < line.in_hand
        if was_in_hand:
            for each in islice(line.events, position, line.in_hand):
                self._leases.pop(each.number, None)
            line.in_hand = position
        del line.events[position]
        self._ids.discard(waiting.id)
        self._suspects.discard(waiting.number)
        if was_in_hand:
            self._settle(waiting.conversation, line)
        elif not line.events:
            self._drop(waiting.conversation)

    def _drop(self, conversation: bytes) -> None:
        del self._lines[conversation]
        self._ready = deque(each for each in self._ready if each != conversation)
        self._pausing = [each for each in self._pausing if each[2] != conversation]
        heapq.heapify(self._pausing)

    def _settle(self, conversation: bytes, line: _Line) -> None:
        """Nothing of it is in hand any more: it waits for its turn, or for the end of its pause, or is over."""
        if line.in_hand:
            return
        if not line.events:
            del self._lines[conversation]
        elif line.not_before:
            heapq.heappush(self._pausing, (line.not_before, next(self._tokens), conversation))
            line.not_before = 0.0
        else:
            self._ready.append(conversation)

    def _end_pauses(self, now: float) -> None:
        while self._pausing and self._pausing[0][0] <= now:
            self._ready.append(heapq.heappop(self._pausing)[2])
