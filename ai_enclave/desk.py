"""Whose request the engine takes next: one at a time, or a few, each user in turn, and nobody waits beyond their deadline.

``Desk`` decides: events in, actions out, and the time comes with the event. ``Counter`` is its shell of tasks and timers.
What a request asks for, and what the engine does, belong to ``ai_enclave.assistant``.

The order is round robin by user (J. Nagle, RFC 970): who was just served goes behind everybody who waits. A user with one
request so waits for at most one request of each other user, whatever their number, and no newcomer overtakes. Serving who
has used the least engine time would share time, not turns, but it starves whoever asked before a stream of newcomers, and
has to remember users who left. Turns differ in length, within bounds: a request is stopped at its deadline.
"""

import asyncio
import contextlib
import heapq
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import count
from typing import TypeVar, assert_never

from ai_enclave.limits import (
    FIRST_SERVICE_SECONDS,
    MAX_PENDING,
    MAX_QUEUED_PER_USER,
    MIN_RETRY_SECONDS,
    REQUESTS_BURST,
    REQUESTS_PER_HOUR,
)

T = TypeVar("T")

_SECONDS_PER_REQUEST = 3600 / REQUESTS_PER_HOUR
_LEAST_OF_USER, _SHARE_OF_USER = 2, 4  # of several places one user has at most so many, or the fourth part
_WEIGHT = 1 / 8  # of the newest service in the estimate, as in TCP's smoothed round-trip time (RFC 6298, section 2)


class Reason(StrEnum):
    """Why a request is not served; these words travel."""

    BUSY = "busy"  # it would be answered too late, or too many wait
    QUOTA = "quota"  # this user has enough waiting, or asked too often
    DRAINING = "draining"  # the enclave is about to stop
    TOO_LATE = "too_late"  # its deadline passed
    CANCELLED = "cancelled"  # its user took it back


class Refused(Exception):
    """A request was not served. ``retry_after`` is in seconds; ``None`` where no time can be told."""

    def __init__(self, code: Reason, retry_after: float | None = None) -> None:
        super().__init__(code.value)
        self.code = code
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One request; two with the same user and id are two. ``seconds`` is what it may take from arrival to answer."""

    user: Hashable = field(repr=False)
    request: Hashable = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request asks for a turn."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A user takes back what they asked under this id, waiting or in service."""

    user: Hashable = field(repr=False)
    request: Hashable = field(repr=False)


@dataclass(frozen=True, slots=True)
class Left:
    """Nobody waits for the outcome of this request any more."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Expired:
    """The deadline of this request passed."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Ended:
    """The engine is free again; the request in service was answered, failed or was stopped."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Drain:
    """Accept nothing more."""


@dataclass(frozen=True, slots=True)
class Start:
    """The engine is this request's until ``Ended``."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Stop:
    """The request in service was refused meanwhile: free the engine as soon as it can be."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Refuse:
    """The outcome of this request; there is no other."""

    ticket: Ticket
    code: Reason
    retry_after: float | None = None


Event = Arrived | Cancelled | Left | Expired | Ended | Drain
Action = Start | Stop | Refuse


@dataclass(frozen=True, slots=True)
class Load:
    """``waiting`` counts requests, without those in service (``serving``); ``expected_wait`` is a newcomer's, in seconds."""

    waiting: int
    expected_wait: float
    serving: int = 0


class Allowances:
    """A token bucket for each user, kept as the time until which they have paid; who is not here has a full one.

    A request costs ``seconds`` and a user may be ``burst`` requests ahead of the clock: the same as so many tokens, one more each
    ``seconds`` (the virtual scheduling algorithm of ITU-T I.371). Users are forgotten once the clock has caught up.
    """

    def __init__(self, burst: int = REQUESTS_BURST, seconds: float = _SECONDS_PER_REQUEST) -> None:
        self._burst = burst
        self._seconds = seconds
        self._paid_until: dict[Hashable, float] = {}
        self._catching_up: list[tuple[float, int, Hashable]] = []  # a heap of what was paid; the number breaks ties
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._paid_until)

    def seconds_until_next(self, user: Hashable, now: float) -> float:
        """When ``user`` may ask; 0.0 means now."""
        ahead = self._paid_until.get(user, now) - now
        return max(0.0, ahead - (self._burst - 1) * self._seconds)

    def pay(self, user: Hashable, now: float) -> None:
        """Take one token of ``user``."""
        until = max(self._paid_until.get(user, now), now) + self._seconds
        self._paid_until[user] = until
        heapq.heappush(self._catching_up, (until, next(self._numbers), user))

    def forget(self, now: float) -> None:
        """Drop everybody whose bucket is full again."""
        while self._catching_up and self._catching_up[0][0] <= now:
            until, _, user = heapq.heappop(self._catching_up)
            if self._paid_until.get(user) == until:  # they have not paid again since
                del self._paid_until[user]


class Desk:
    """Who is served next, and who is sent away. Times are seconds of one clock that never goes back.

    At most ``places`` requests are between ``Start`` and ``Ended``; two of one user only while nobody else waits, and no more than a fourth of them. Each gets one
    outcome: ``Refuse``, or to end unrefused.
    """

    def __init__(self, service_seconds: float = FIRST_SERVICE_SECONDS, places: int = 1) -> None:
        self._places = places
        self._service_seconds = service_seconds  # what one request is expected to need
        self._lines: dict[Hashable, deque[Ticket]] = {}  # of who waits, in the order of their next turns
        self._due: dict[Ticket, float] = {}  # deadlines of all that have no outcome yet
        self._serving: dict[Ticket, float] = {}  # when the service of each began
        self._allowances = Allowances()
        self._draining = False

    def receive(self, event: Event, now: float) -> list[Action]:
        """What follows from ``event``, in order."""
        self._allowances.forget(now)
        return [*self._take(event, now), *self._next(now)]

    @property
    def draining(self) -> bool:
        """Whether new requests are refused."""
        return self._draining

    @property
    def drained(self) -> bool:
        """Nothing is left to do, and nothing will be: the engine is never free while anybody waits."""
        return self._draining and not self._serving

    def load(self, now: float) -> Load:
        """How long the lines are."""
        return Load(self._waiting, self._expected_wait(0, now), len(self._serving))

    def _take(self, event: Event, now: float) -> list[Action]:
        match event:
            case Arrived(ticket):
                return self._admit(ticket, now)
            case Cancelled(user, request):
                named = [ticket for ticket in self._due if ticket.user == user and ticket.request == request]
                return [action for ticket in named for action in self._withdraw(ticket, Reason.CANCELLED)]
            case Left(ticket):
                return self._withdraw(ticket, Reason.CANCELLED)
            case Expired(ticket):
                return self._withdraw(ticket, Reason.TOO_LATE)
            case Ended(ticket):
                self._free(ticket, now)
            case Drain():
                self._draining = True
            case _:
                assert_never(event)
        return []

    def _admit(self, ticket: Ticket, now: float) -> list[Action]:
        if (refusal := self._objection(ticket, now)) is not None:
            return [refusal]
        self._allowances.pay(ticket.user, now)
        self._due[ticket] = now + ticket.seconds
        self._lines.setdefault(ticket.user, deque()).append(ticket)
        return []

    def _objection(self, ticket: Ticket, now: float) -> Refuse | None:
        if self._draining:
            return Refuse(ticket, Reason.DRAINING)
        if ticket.seconds <= 0:
            return Refuse(ticket, Reason.TOO_LATE)
        if refill := self._allowances.seconds_until_next(ticket.user, now):
            return Refuse(ticket, Reason.QUOTA, max(refill, MIN_RETRY_SECONDS))
        own = len(self._lines.get(ticket.user, ()))
        wait = self._expected_wait(own, now)
        if own >= MAX_QUEUED_PER_USER:
            return Refuse(ticket, Reason.QUOTA, max(wait, MIN_RETRY_SECONDS))
        if self._waiting >= MAX_PENDING:
            return Refuse(ticket, Reason.BUSY, max(self._remaining(now), MIN_RETRY_SECONDS))
        late = wait + self._service_seconds - ticket.seconds
        if wait > 0 and late > 0:  # an idle engine tries: its estimate may be wrong, and only services correct it
            return Refuse(ticket, Reason.BUSY, max(late, MIN_RETRY_SECONDS))
        return None

    def _withdraw(self, ticket: Ticket, code: Reason) -> list[Action]:
        if self._due.pop(ticket, None) is None:
            return []  # it has its outcome
        if ticket in self._serving:
            return [Refuse(ticket, code), Stop(ticket)]
        line = self._lines[ticket.user]
        line.remove(ticket)
        if not line:
            del self._lines[ticket.user]
        return [Refuse(ticket, code)]

    def _free(self, ticket: Ticket, now: float) -> None:
        if ticket not in self._serving:
            raise ValueError("the request that ended is not in service")
        took, stopped = now - self._serving.pop(ticket), self._due.pop(ticket, None) is None
        if not stopped or took > self._service_seconds:  # a stopped one would have taken longer than it did
            self._service_seconds += _WEIGHT * (took - self._service_seconds)
        if line := self._lines.pop(ticket.user, None):
            self._lines[ticket.user] = line  # the last now, also behind who came during the service

    def _next(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while len(self._serving) < self._places and self._lines:
            served = {ticket.user for ticket in self._serving}
            user = next((user for user in self._lines if user not in served), next(iter(self._lines)))
            if sum(ticket.user == user for ticket in self._serving) >= max(
                _LEAST_OF_USER, self._places // _SHARE_OF_USER
            ):
                break  # a place is left for who comes next
            line = self._lines[user]
            ticket = line.popleft()
            if not line:
                del self._lines[user]
            if now < self._due[ticket]:
                self._serving[ticket] = now
                actions.append(Start(ticket))
            else:
                del self._due[ticket]
                actions.append(Refuse(ticket, Reason.TOO_LATE))
        return actions

    @property
    def _waiting(self) -> int:
        return sum(map(len, self._lines.values()))

    def _remaining(self, now: float) -> float:
        """Until a place is free."""
        if len(self._serving) < self._places:
            return 0.0
        return max(0.0, min(self._serving.values()) + self._service_seconds - now)

    def _expected_wait(self, own: int, now: float) -> float:
        """Of one more request of a user with ``own`` waiting: so many rounds, and this one, go ahead of it."""
        ahead = sum(min(len(line), own + 1) for line in self._lines.values())
        return self._remaining(now) + ahead * self._service_seconds / self._places


@dataclass(frozen=True, slots=True)
class _Visit:
    """Somebody who waits for an outcome: a finished task of the engine, or a refusal."""

    work: Callable[[], Awaitable[object]] = field(repr=False)
    outcome: "asyncio.Future[asyncio.Task[object] | Refused]" = field(repr=False)
    context: Context = field(repr=False)


class Counter:
    """Where tasks of one event loop wait for an engine. ``now`` is a clock that never goes back, in seconds."""

    def __init__(self, desk: Desk, now: Callable[[], float] = time.monotonic) -> None:
        self._desk = desk
        self._now = now
        self._visits: dict[Ticket, _Visit] = {}
        self._served: dict[Ticket, asyncio.Task[object]] = {}
        self._drained = asyncio.Event()

    async def serve(self, user: Hashable, request: Hashable, work: Callable[[], Awaitable[T]], *, deadline: float) -> T:
        """Wait for the turn, run ``work``, return its result; what it raises is raised here.

        Args:
            user: whose turn it takes.
            request: an id that is the user's own, for ``cancel``.
            work: gets the engine. It may be cancelled, and must not end before the engine is free; see ``in_thread``.
            deadline: seconds from now until the outcome, the service included.

        Raises:
            Refused: it was not served, or stopped; never later than at the deadline.
        """
        loop = asyncio.get_running_loop()
        ticket = Ticket(user, request, deadline)
        visit = _Visit(work, loop.create_future(), copy_context())
        self._visits[ticket] = visit
        timer = loop.call_later(deadline, self._tell, Expired(ticket))
        try:
            self._tell(Arrived(ticket))
            outcome = await visit.outcome
        finally:
            timer.cancel()
            del self._visits[ticket]
            self._tell(Left(ticket))
        if isinstance(outcome, Refused):
            raise outcome
        return outcome.result()  # type: ignore[return-value]  # it is the task of this visit's work

    def cancel(self, user: Hashable, request: Hashable) -> None:
        """Refuse this user's request of this id, waiting or in service; nothing happens if there is none."""
        self._tell(Cancelled(user, request))

    def drain(self) -> None:
        """Refuse new requests from now on, and finish those accepted."""
        self._tell(Drain())

    @property
    def draining(self) -> bool:
        """Whether ``drain`` was called."""
        return self._desk.draining

    async def drained(self) -> None:
        """Wait until the last request after ``drain`` has left the engine."""
        await self._drained.wait()

    @property
    def load(self) -> Load:
        """How long the lines are now."""
        return self._desk.load(self._now())

    def _tell(self, event: Event) -> None:
        for action in self._desk.receive(event, self._now()):
            match action:
                case Start(ticket):
                    self._start(ticket)
                case Refuse(ticket, code, retry_after):
                    self._settle(ticket, Refused(code, retry_after))
                case Stop(ticket):
                    if (task := self._served.get(ticket)) is not None:
                        task.cancel()
                case _:
                    assert_never(action)
        if self._desk.drained:
            self._drained.set()

    def _start(self, ticket: Ticket) -> None:
        visit = self._visits[ticket]
        self._served[ticket] = task = asyncio.create_task(_run(visit.work), context=visit.context)
        task.add_done_callback(partial(self._ended, ticket))

    def _ended(self, ticket: Ticket, task: "asyncio.Task[object]") -> None:
        del self._served[ticket]
        if not task.cancelled():
            task.exception()  # seen: what a request that was refused meanwhile raised is nobody's
        self._settle(ticket, task)
        self._tell(Ended(ticket))

    def _settle(self, ticket: Ticket, outcome: "asyncio.Task[object] | Refused") -> None:
        visit = self._visits.get(ticket)
        if visit is not None and not visit.outcome.done():
            visit.outcome.set_result(outcome)


async def _run(work: Callable[[], Awaitable[object]]) -> object:
    return await work()


async def in_thread(work: Callable[[], T], stop: Callable[[], object] | None = None) -> T:
    """``asyncio.to_thread`` that ends when the thread does, even if it is cancelled: no two ever have the engine.

    Args:
        work: runs in the thread, with the caller's context.
        stop: called on cancellation, to make ``work`` return early: the ``set`` of an event that it looks at, say.
    """
    thread = asyncio.get_running_loop().run_in_executor(None, partial(copy_context().run, work))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        while not thread.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([thread])
        raise
