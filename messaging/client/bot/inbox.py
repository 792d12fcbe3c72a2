"""The events that wait to be handled: durable, in order within a conversation, at least once.

An event is taken under a lease. It is over when :meth:`Inbox.handled` was called; when its lease ends, or its handler fails, it is
taken again after a pause, and what follows in its conversation waits. After ``MAX_ATTEMPTS`` it is parked: its
conversation goes on, and it can be seen, replayed or dropped.

Leases and pauses are in memory: this process alone has the store open, so when it ends all of them have ended. Attempts are in the
store. An event that ends the whole process is parked in the end, too: of those that were there when the inbox was opened, each attempt
is written down before it is made, and those whose attempt had no end are tried one by one, so that no other is blamed.
"""

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

from messaging.client.bot import entries
from messaging.client.bot.commits import Commits
from messaging.client.bot.entries import ID, Entry
from messaging.client.bot.timers import MAX_TIMERS, TimerDue, Timers, check_timer, decode_timer, encode_timer
from messaging.client.bot.turns import Turns, Waiting
from messaging.client.device import milliseconds_now
from messaging.client.errors import ClientError, StoreFailed
from messaging.client.events import Event
from messaging.client.stores import Store, StoreTransaction

MAX_ATTEMPTS = 8
FIRST_PAUSE = 1.0  # seconds after the first failure; doubled after each further one
LONGEST_PAUSE = 300.0  # seconds
KEPT = 30 * 24 * 60 * 60 * 1000  # milliseconds for which an event waits, or is parked: as long as a relay keeps it
MAX_WAITING = 250_000  # events that wait or are parked; each takes about 350 bytes of memory
RECENT = 10_000  # events that were handled last, whose ids are known: they are not taken again if they are told again
LEASE_ENDED = "LeaseEnded"  # reasons of failures that nobody reported
PROCESS_ENDED = "ProcessEnded"

_WAITING = "event"  # queues
_PARKED = "parked event"
_RECENT = "handled event"  # ids, as many in one entry as were handled together
_TIMER, _ALL = "timer", ("all",)
_PAGE = 500
_random = secrets.SystemRandom().random
_TOKEN_BITS = 52  # exact in JSON
_SHORTEST_WAIT = 0.001  # seconds
_FRESH = 1_000  # events that are kept in memory from when they are seen first until they are taken


class LeaseLost(ClientError):
    """The lease has ended: the event was given back, and somebody else may have it."""

    def __init__(self) -> None:
        super().__init__("this event is not yours any more: its lease has ended, and it is handled again")


class InboxFull(StoreFailed):
    """So many events wait that no more are taken; nothing is acknowledged to the relay, so nothing is lost."""

    def __init__(self) -> None:
        ClientError.__init__(self, f"{MAX_WAITING} events wait to be handled: handle or drop some")


@dataclass(frozen=True, slots=True)
class Leased:
    """An event that somebody is handling. ``attempt`` counts from 1; ``number`` is its place in the store.

    ``until`` is seconds on the clock of the inbox, ``token`` names this lease.
    """

    number: int
    event: Event
    attempt: int
    until: float
    token: int = 0
    consumer: str = ""


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that failed so often that it was set aside; ``reason`` is the type of the last error."""

    number: int
    event: Event
    attempts: int
    reason: str
    parked_at: int


class Inbox:
    """The inbox of one bot. Make it with :meth:`open`; :meth:`journal` is the ``Journal`` of the bot's ``Chats``."""

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], int] = milliseconds_now,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _random,
    ) -> None:
        self._store = store
        self._now = now
        self._monotonic = monotonic
        self._random = random
        self._commits = Commits(store)
        self._turns = Turns(secrets.randbits(_TOKEN_BITS))  # a lease of an earlier process names none of this one
        self._timers = Timers()
        self._attempts: dict[int, int] = {}  # of events that failed, by number
        self._parked: dict[int, bytes] = {}  # ids by number
        self._parked_ids: set[bytes] = set()
        self._recent: deque[tuple[int, bytes]] = deque()  # entries of the queue: number, and ids behind each other
        self._recent_ids: set[bytes] = set()
        self._fresh: dict[int, bytes] = {}
        self._last = 0  # the number up to which the queue is known in memory
        self._opened_at = 0  # the number up to which events were there when this was opened
        self._stale = False  # whether there may be more in the queue
        self._journalling: StoreTransaction | None = None
        self._journalled: set[bytes] = set()  # what was added in that transaction, which may still be rolled back
        self._woken = asyncio.Event()
        self._giving_out = 0  # calls that have picked events, and wait for the disk
        self._taking = asyncio.Lock()  # one looks, and the others need not ask the store when nothing is left for them

    @classmethod
    async def open(
        cls,
        store: Store,
        *,
        now: Callable[[], int] = milliseconds_now,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _random,
    ) -> Self:
        """The inbox in ``store``; what has waited longer than it is kept is dropped.

        Args:
            now: milliseconds since 1970.
            monotonic: seconds, for leases and pauses.
            random: from 0 to 1; spreads retries.
        """
        inbox = cls(store, now=now, monotonic=monotonic, random=random)
        async with store.transaction() as transaction:
            await inbox._load(transaction)
        await inbox._commits.make(inbox._park_hopeless)
        await inbox.sweep()
        return inbox

    async def close(self) -> None:
        """Wait until what was decided is written."""
        await self._commits.settle()

    # --- how it stands ---

    @property
    def now(self) -> int:
        """Milliseconds since 1970, by the clock of the inbox."""
        return self._now()

    @property
    def waiting(self) -> int:
        """The events that were not handled yet, those in hand included."""
        return len(self._turns) + len(self._journalled)

    @property
    def parked_count(self) -> int:
        """The events that are set aside."""
        return len(self._parked)

    @property
    def oldest(self) -> int | None:
        """When the event came that waits longest, milliseconds since 1970."""
        return self._turns.oldest()

    @property
    def idle(self) -> bool:
        """Whether nobody has anything in hand, and nothing could be taken now."""
        rung = (timer := self._timers.next_at()) is not None and timer <= self._now()
        given = self._giving_out or self._turns.in_hand
        return not (self._stale or rung or given or self._turns.has_any(self._monotonic()))

    def next_change(self) -> float | None:
        """Seconds until a timer comes, or a pause or a lease ends; ``None`` if there is none."""
        times = []
        if (change := self._turns.next_change()) is not None:
            times.append(change - self._monotonic())
        if (timer := self._timers.next_at()) is not None:
            times.append((timer - self._now()) / 1000)
        return max(min(times), 0.0) if times else None

    # --- what comes in ---

    def journal(self, transaction: StoreTransaction, event: Event) -> None:
        """Add an event, in the transaction that takes what it tells of. One that is known already changes nothing.

        Raises:
            InboxFull: no more events are taken now.
        """
        if transaction is not self._journalling:
            self._see(transaction)  # the last one is over, and what became of it shows now
            self._journalling = transaction
        event_id = entries.id_of(event)
        if event_id in self._journalled or self._is_known(event_id):
            return
        if self.waiting + self.parked_count >= MAX_WAITING:
            self._commits.post(self._drop_expired)
            raise InboxFull
        self._append(transaction, event)
        self._journalled.add(event_id)
        self._stale = True
        self.wake()

    def wake(self) -> None:
        """Have all who wait look again, as after a clock was set."""
        self._woken.set()
        self._woken = asyncio.Event()

    # --- handing out ---

    async def take(
        self,
        most: int,
        *,
        lease: float,
        consumer: str = "",
        wait: float | None = None,
        per_conversation: int = 1,
        conversations: int | None = None,
    ) -> list[Leased]:
        """The earliest events whose turn it is, at most ``most``; conversations take turns.

        Args:
            lease: seconds for which nobody else gets them.
            consumer: who takes them, for whoever looks.
            wait: seconds to wait if there are none; ``None`` does not wait, ``math.inf`` waits until there are.
            per_conversation: how many of one conversation at once, in order; nobody else gets any of it meanwhile.
            conversations: of how many conversations, at most.

        Raises:
            StoreFailed: an event that failed could not be noted as such; nothing was taken.
        """
        deadline = None if wait is None else self._monotonic() + wait
        while True:
            woken = self._woken
            await self._end_leases()
            await self._ring()
            async with self._taking:
                taken = await self._take(most, lease, consumer, per_conversation, conversations or most)
            if taken or deadline is None or (left := deadline - self._monotonic()) <= 0:
                return taken
            with suppress(TimeoutError):
                async with asyncio.timeout(self._until_a_change(left)):
                    await woken.wait()

    async def handled(self, *leased: Leased, linger: float = 0.0) -> None:
        """These are over.

        Args:
            linger: seconds for which it may wait for others to be written with.

        Raises:
            LeaseLost: some were not the caller's any more, and are handled again; the others are over.
            StoreFailed: it could not be written; they are still the caller's.
        """
        if not leased:
            return
        over = await self._commits.make(lambda transaction: self._end(transaction, leased), linger=linger)
        if over < len(leased):
            raise LeaseLost

    def renew(self, leased: Leased, lease: float) -> Leased:
        """It stays the caller's for ``lease`` seconds from now.

        Raises:
            LeaseLost: it is not the caller's any more.
        """
        until = self._monotonic() + lease
        if not self._turns.renew(leased.number, leased.token, until):
            raise LeaseLost
        return replace(leased, until=until)

    async def failed(self, leased: Leased, reason: str) -> bool:
        """It is to be tried again after a pause, or is parked if it was tried often enough; says whether it was.

        What follows it in its run is given back with it.

        Args:
            reason: the type of the error; nothing of its content.

        Raises:
            LeaseLost: it is not the caller's any more.
            StoreFailed: it could not be written; it is still the caller's.
        """
        return await self._fail(leased.number, leased.token, reason)

    async def release(self, *leased: Leased) -> None:
        """Give back at once what was not tried after all, and what follows it in its run. What is not the caller's is passed over."""
        mine = [waiting for each in leased if (waiting := self._turns.held(each.number, each.token)) is not None]
        try:
            with suppress(StoreFailed):  # then it counts as an attempt
                await self._unwrite_attempts([waiting for waiting in mine if waiting.number <= self._opened_at])
        finally:  # also if who gives it back is cancelled
            for each in leased:
                if (waiting := self._turns.held(each.number, each.token)) is not None:
                    self._turns.put_back(waiting)
            self.wake()

    # --- what is set aside ---

    async def parked(self, *, after: int = 0, most: int = 100) -> list[ParkedEvent]:
        """The parked events behind the number ``after``, in the order in which they were parked."""
        async with self._store.transaction() as transaction:
            page = transaction.entries(_PARKED, after=after, limit=most)
        return [_parked(number, entry) for number, entry in page]

    async def replay(self, *numbers: int) -> int:
        """Let parked events be handled again, behind all that waits in their conversations; returns how many there were."""

        def change(transaction: StoreTransaction) -> Callable[[], int]:
            named = dict.fromkeys(numbers)
            found = [(number, entry) for number in named if (entry := _entry(transaction, _PARKED, number))]
            for number, entry in found:
                self._append(transaction, entries.decode(entries.read_parked(entry)[3]))
                transaction.remove(_PARKED, number)
            return lambda: self._unpark([number for number, _ in found])

        return await self._commits.make(change)

    async def drop(self, *numbers: int) -> int:
        """Forget parked events; returns how many there were."""

        def change(transaction: StoreTransaction) -> Callable[[], int]:
            gone = [number for number in numbers if transaction.remove(_PARKED, number)]
            return lambda: self._unpark(gone)

        return await self._commits.make(change)

    async def sweep(self) -> int:
        """Drop what is older than it is kept; returns how many events that were."""
        dropped = 0
        while gone := await self._commits.make(self._drop_expired):
            dropped += gone
        return dropped

    # --- timers ---

    @property
    def timers(self) -> list[TimerDue]:
        """Those that have not come yet, in order."""
        return self._timers.all()

    async def schedule(self, timer: TimerDue) -> None:
        """Have this event come when it is due; it replaces a timer with the same key.

        Raises:
            ValueError: beyond a limit, or too many timers.
        """
        check_timer(timer)
        if timer.key not in self._timers and len(self._timers) >= MAX_TIMERS:
            raise ValueError(f"a bot has at most {MAX_TIMERS} timers")

        def change(transaction: StoreTransaction) -> Callable[[], None]:
            transaction.put(_TIMER, timer.key, record=encode_timer(timer), family=_ALL)
            return lambda: self._timers.put(timer)

        await self._commits.make(change)
        self.wake()

    async def cancel(self, key: str) -> bool:
        """Forget a timer; says whether there was one that had not come yet."""

        def change(transaction: StoreTransaction) -> Callable[[], bool]:
            gone = transaction.delete(_TIMER, key)

            def follow() -> bool:
                self._timers.remove(key)
                return gone

            return follow

        return await self._commits.make(change)

    # --- inside: what the store holds ---

    async def _load(self, transaction: StoreTransaction) -> None:
        for number, entry in _all(transaction, _PARKED):
            self._parked[number] = entries.read_parked_id(entry)
        self._parked_ids = set(self._parked.values())
        self._recent = deque(_all(transaction, _RECENT))
        self._recent_ids = {each for _, ids in self._recent for each in _split(ids)}
        for record in transaction.family(_TIMER, *_ALL):
            self._timers.put(decode_timer(record))
        for _ in iter(lambda: self._see_page(transaction), False):
            await asyncio.sleep(0)  # of very many events: others go on meanwhile
        self._opened_at = self._last
        self._fresh.clear()

    def _see(self, transaction: StoreTransaction) -> None:
        """Learn of what was committed since."""
        while self._see_page(transaction):
            pass
        self._stale = False
        self._journalling, self._journalled = None, set()

    def _see_page(self, transaction: StoreTransaction) -> bool:
        page = transaction.entries(_WAITING, after=self._last, limit=_PAGE)
        for number, data in page:
            entry = entries.read_waiting(number, data)
            self._turns.add(entry.waiting)
            if entry.attempts:
                self._attempts[number] = entry.attempts
            if entry.begun:
                self._turns.suspect(entry.waiting)
            if len(self._fresh) < _FRESH:
                self._fresh[number] = entry.event
            self._last = number
        return len(page) == _PAGE

    def _is_known(self, event_id: bytes) -> bool:
        return event_id in self._turns or event_id in self._parked_ids or event_id in self._recent_ids

    # --- inside: taking ---

    async def _take(
        self, most: int, lease: float, consumer: str, per_conversation: int, conversations: int
    ) -> list[Leased]:
        if not (self._stale or self._turns.has_any(self._monotonic())):
            return []
        picked: list[Waiting] = []
        self._giving_out += 1
        try:
            async with self._store.transaction() as transaction:
                self._see(transaction)
                picked = self._turns.pick(
                    self._monotonic(),
                    most,
                    per_conversation=per_conversation,
                    conversations=conversations,
                    alone_until=self._opened_at,
                )
                loaded = [(waiting, self._load_event(transaction, waiting)) for waiting in picked]
        except BaseException:
            for waiting in picked:
                self._turns.put_back(waiting)
            raise
        finally:
            self._giving_out -= 1
        for waiting in (waiting for waiting, event in loaded if event is None):
            self._remove([waiting])
        until = self._monotonic() + lease
        return [self._lease(waiting, event, until, consumer) for waiting, event in loaded if event is not None]

    def _load_event(self, transaction: StoreTransaction, waiting: Waiting) -> Event | None:
        """``None`` if it is gone: it was handled, although whoever had it never heard so."""
        if (fresh := self._fresh.pop(waiting.number, None)) is not None:
            return entries.decode(fresh)
        stored = _entry(transaction, _WAITING, waiting.number)
        if stored is None:
            return None
        entry = entries.read_waiting(waiting.number, stored)
        if waiting.number <= self._opened_at:  # it may have ended the process before, and must not do so for ever
            attempts = self._attempts.get(waiting.number, 0) + 1
            _rewrite(transaction, entry, attempts, begun=True)
        return entries.decode(entry.event)

    def _lease(self, waiting: Waiting, event: Event, until: float, consumer: str) -> Leased:
        attempt = self._attempts.get(waiting.number, 0) + 1
        lease = self._turns.lease(waiting, until)
        return Leased(waiting.number, event, attempt, until, lease.token, consumer)

    def _until_a_change(self, left: float) -> float | None:
        """Seconds until it is worth looking again; ``None`` for never."""
        change = self.next_change()
        soonest = left if change is None else min(left, change)
        return None if soonest == math.inf else max(soonest, _SHORTEST_WAIT)

    async def _ring(self) -> None:
        """Timers whose time has come are events from now on."""
        due = self._timers.due(self._now())
        if due:
            await self._commits.make(lambda transaction: self._make_events(transaction, due))

    def _make_events(self, transaction: StoreTransaction, due: Iterable[TimerDue]) -> Callable[[], None]:
        rung = [timer for timer in due if transaction.get(_TIMER, timer.key) == encode_timer(timer)]
        for timer in rung:
            transaction.delete(_TIMER, timer.key)
            if not self._is_known(entries.id_of(timer)):
                self._append(transaction, timer)

        def follow() -> None:
            for timer in rung:
                self._timers.remove(timer.key)
            self._stale = True

        return follow

    # --- inside: what becomes of an event ---

    def _append(self, transaction: StoreTransaction, event: Event) -> None:
        waiting = entries.waiting_for(0, event, self._now())
        transaction.append(_WAITING, entries.write_waiting(waiting, 0, entries.encode(event)))

    def _end(self, transaction: StoreTransaction, leased: Iterable[Leased]) -> Callable[[], int]:
        held = (self._turns.held(each.number, each.token) for each in leased)
        mine = [waiting for waiting in held if waiting is not None]
        for waiting in mine:
            transaction.remove(_WAITING, waiting.number)
        remember = self._remember(transaction, [waiting.id for waiting in mine])

        def follow() -> int:
            remember()
            return self._remove(mine)

        return follow

    def _remember(self, transaction: StoreTransaction, ids: list[bytes]) -> Callable[[], None]:
        """Note what was handled, and forget what was handled long ago."""
        number = transaction.append(_RECENT, b"".join(ids))
        while len(self._recent_ids) + len(ids) > RECENT and self._recent:
            oldest, forgotten = self._recent.popleft()
            transaction.remove(_RECENT, oldest)
            self._recent_ids.difference_update(_split(forgotten))

        def follow() -> None:
            self._recent.append((number, b"".join(ids)))
            self._recent_ids.update(ids)

        return follow

    def _remove(self, gone: Iterable[Waiting]) -> int:
        removed = 0
        for waiting in gone:
            self._attempts.pop(waiting.number, None)
            self._fresh.pop(waiting.number, None)
            removed += self._turns.remove(waiting)
        self.wake()
        return removed

    async def _end_leases(self) -> None:
        for lease in self._turns.lapsed(self._monotonic()):
            with suppress(LeaseLost):
                await self._fail(lease.waiting.number, lease.token, LEASE_ENDED)

    async def _fail(self, number: int, token: int, reason: str) -> bool:
        parked = await self._commits.make(lambda transaction: self._note_failure(transaction, number, token, reason))
        if parked is None:
            raise LeaseLost
        return parked

    def _note_failure(
        self, transaction: StoreTransaction, number: int, token: int, reason: str
    ) -> Callable[[], bool | None]:
        waiting, stored = self._turns.held(number, token), _entry(transaction, _WAITING, number)
        if waiting is None or stored is None:
            return lambda: None
        entry, attempts = entries.read_waiting(number, stored), self._attempts.get(number, 0) + 1
        if attempts >= MAX_ATTEMPTS:
            return self._park(transaction, entry, attempts, reason)
        _rewrite(transaction, entry, attempts)

        def follow() -> bool:
            self._attempts[number] = attempts
            self._turns.put_back(waiting, not_before=self._monotonic() + self._pause(attempts))
            self.wake()
            return False

        return follow

    def _park(self, transaction: StoreTransaction, entry: Entry, attempts: int, reason: str) -> Callable[[], bool]:
        waiting = entry.waiting
        record = entries.write_parked(waiting.id, attempts, self._now(), reason, entry.event)
        number = transaction.append(_PARKED, record)
        transaction.remove(_WAITING, waiting.number)

        def follow() -> bool:
            self._parked[number] = waiting.id
            self._parked_ids.add(waiting.id)
            self._turns.set_aside(waiting)
            self._attempts.pop(waiting.number, None)
            self.wake()
            return True

        return follow

    def _park_hopeless(self, transaction: StoreTransaction) -> Callable[[], None]:
        """What has ended the process in every attempt."""
        hopeless = [number for number, attempts in self._attempts.items() if attempts >= MAX_ATTEMPTS]
        found = [(number, stored) for number in hopeless if (stored := _entry(transaction, _WAITING, number))]
        follow = [
            self._park(transaction, entries.read_waiting(number, stored), self._attempts[number], PROCESS_ENDED)
            for number, stored in found
        ]

        def follow_all() -> None:
            for each in follow:
                each()

        return follow_all

    def _pause(self, attempt: int) -> float:
        """Seconds: between half and all of what doubles with each attempt, so that not everything comes back at once."""
        longest: float = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE)
        return longest * (1 + self._random()) / 2

    async def _unwrite_attempts(self, given_back: list[Waiting]) -> None:
        """What was written down before an attempt that was not made."""

        def change(transaction: StoreTransaction) -> Callable[[], None]:
            for waiting in given_back:
                if (stored := _entry(transaction, _WAITING, waiting.number)) is not None:
                    entry = entries.read_waiting(waiting.number, stored)
                    _rewrite(transaction, entry, self._attempts.get(waiting.number, 0))
            return lambda: None

        if given_back:
            await self._commits.make(change)

    def _unpark(self, numbers: Iterable[int]) -> int:
        gone = [self._parked.pop(number) for number in numbers if number in self._parked]
        self._parked_ids.difference_update(gone)
        self._stale = True
        self.wake()
        return len(gone)

    def _drop_expired(self, transaction: StoreTransaction) -> Callable[[], int]:
        """The first of each line, and parked ones. What follows in a line is looked at when it is the first."""
        self._see(transaction)
        before = self._now() - KEPT
        expired = [waiting for waiting in self._turns.heads() if waiting.received_at < before]
        for waiting in expired:
            transaction.remove(_WAITING, waiting.number)
        page = transaction.entries(_PARKED, limit=_PAGE)
        parked = [number for number, entry in page if entries.read_parked(entry)[1] < before]
        for number in parked:
            transaction.remove(_PARKED, number)

        def follow() -> int:
            for waiting in expired:
                self._turns.set_aside(waiting)
                self._fresh.pop(waiting.number, None)
            return len(expired) + self._unpark(parked)

        return follow


def _all(transaction: StoreTransaction, queue: str) -> Iterator[tuple[int, bytes]]:
    last = 0
    while page := transaction.entries(queue, after=last, limit=_PAGE):
        yield from page
        last = page[-1][0]


def _entry(transaction: StoreTransaction, queue: str, number: int) -> bytes | None:
    page = transaction.entries(queue, after=number - 1, limit=1)
    return page[0][1] if page and page[0][0] == number else None


def _rewrite(transaction: StoreTransaction, entry: Entry, attempts: int, *, begun: bool = False) -> None:
    record = entries.write_waiting(entry.waiting, attempts, entry.event, begun=begun)
    transaction.replace(_WAITING, entry.waiting.number, record)


def _split(ids: bytes) -> list[bytes]:
    return [ids[start : start + ID] for start in range(0, len(ids), ID)]


def _parked(number: int, entry: bytes) -> ParkedEvent:
    attempts, parked_at, reason, event = entries.read_parked(entry)
    return ParkedEvent(number, entries.decode(event), attempts, reason, parked_at)
