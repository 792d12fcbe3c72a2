"""The engine serves one at a time, each user in turn, and everybody hears by their deadline."""

import asyncio
import gc
import threading
import weakref
from collections import Counter as Tally
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextvars import ContextVar
from functools import partial
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ai_enclave.desk import (
    Action,
    Allowances,
    Arrived,
    Cancelled,
    Counter,
    Desk,
    Drain,
    Ended,
    Event,
    Expired,
    Left,
    Load,
    Reason,
    Refuse,
    Refused,
    Start,
    Stop,
    Ticket,
    in_thread,
)
from ai_enclave.limits import (
    MAX_PENDING,
    MAX_QUEUED_PER_USER,
    MIN_RETRY_SECONDS,
    REQUESTS_BURST,
    REQUESTS_PER_HOUR,
)

_ids = count()
REFILL = 3600 / REQUESTS_PER_HOUR
BURST_SECONDS = REQUESTS_BURST * REFILL


def a_ticket(user: Hashable = "ann", *, request: Hashable = None, seconds: float = 1000.0) -> Ticket:
    return Ticket(user, next(_ids) if request is None else request, seconds)


def tickets(*users: Hashable) -> list[Ticket]:
    return [a_ticket(user) for user in users]


def told(desk: Desk, *events: Event, now: float = 0.0) -> list[Action]:
    return [action for event in events for action in desk.receive(event, now)]


def order(desk: Desk, *arrived: Ticket) -> list[Ticket]:
    """In which order they are served if nobody else comes; each arrives now and needs no time."""
    actions, served = told(desk, *map(Arrived, arrived)), []
    while starts := [action.ticket for action in actions if isinstance(action, Start)]:
        served += starts
        actions = told(desk, Ended(starts[-1]))
    return served


# Turns


def test_an_idle_engine_starts_at_once_and_a_busy_one_when_it_is_free() -> None:
    desk = Desk()
    first, second = tickets("ann", "bob")
    assert told(desk, Arrived(first)) == [Start(first)]
    assert told(desk, Arrived(second)) == []
    assert told(desk, Ended(first)) == [Start(second)]
    assert told(desk, Ended(second)) == []


def test_a_user_with_much_to_ask_delays_another_by_no_more_than_the_request_in_service() -> None:
    ann, ann_again, ann_more, bob = tickets("ann", "ann", "ann", "bob")
    assert order(Desk(), ann, ann_again, ann_more, bob) == [ann, bob, ann_again, ann_more]


def test_users_take_turns() -> None:
    busy, ann, ann_again, bob, bob_again, cid = tickets("dan", "ann", "ann", "bob", "bob", "cid")
    assert order(Desk(), busy, ann, ann_again, bob, bob_again, cid) == [busy, ann, bob, cid, ann_again, bob_again]


def test_who_came_during_a_service_is_before_the_user_in_service_and_who_came_after_it_is_behind() -> None:
    desk = Desk()
    ann, ann_again, bob, cid = tickets("ann", "ann", "bob", "cid")
    assert told(desk, Arrived(ann), Arrived(ann_again), Arrived(bob)) == [Start(ann)]
    assert told(desk, Ended(ann)) == [Start(bob)]
    told(desk, Arrived(cid))
    assert told(desk, Ended(bob)) == [Start(ann_again)]
    assert told(desk, Ended(ann_again)) == [Start(cid)]


def test_only_the_request_in_service_can_end() -> None:
    desk = Desk()
    ann, bob = tickets("ann", "bob")
    told(desk, Arrived(ann), Arrived(bob))
    with pytest.raises(ValueError, match="not in service"):
        desk.receive(Ended(bob), 0)


# Quotas


def test_a_user_may_have_two_waiting_beside_the_one_in_service() -> None:
    desk = Desk()
    told(desk, *map(Arrived, tickets(*["ann"] * (1 + MAX_QUEUED_PER_USER))))
    one_more = a_ticket("ann")
    assert told(desk, Arrived(one_more)) == [Refuse(one_more, Reason.QUOTA, 1.0 + MAX_QUEUED_PER_USER * 1.0)]
    assert told(desk, Arrived(a_ticket("bob"))) == []


def test_a_rested_user_may_ask_twenty_times_at_once_and_then_each_half_minute() -> None:
    desk = Desk()

    def refused(now: float) -> tuple[Reason, float | None]:
        ticket = a_ticket()
        [action] = told(desk, Arrived(ticket), now=now)
        assert isinstance(action, Refuse)
        return action.code, action.retry_after

    for _ in range(REQUESTS_BURST):
        ticket = a_ticket()
        assert told(desk, Arrived(ticket)) == [Start(ticket)]
        told(desk, Ended(ticket))
    assert refused(0.0) == (Reason.QUOTA, REFILL)
    assert refused(REFILL - 2) == (Reason.QUOTA, 2.0)
    assert refused(REFILL - 0.01) == (Reason.QUOTA, MIN_RETRY_SECONDS)
    ticket = a_ticket()
    assert told(desk, Arrived(ticket), now=REFILL) == [Start(ticket)]
    assert refused(REFILL) == (Reason.QUOTA, REFILL)


@given(start=st.floats(0, 1e9), gaps=st.lists(st.floats(0, 100), max_size=60))
def test_who_comes_back_when_told_to_is_let_in_and_nobody_gets_more_than_the_rate(
    start: float, gaps: list[float]
) -> None:
    allowances, now = Allowances(), start
    for taken, gap in enumerate(gaps, 1):
        now += gap
        allowances.forget(now)
        if wait := allowances.seconds_until_next("ann", now):
            now += wait
            allowances.forget(now)
        assert allowances.seconds_until_next("ann", now) == 0
        allowances.pay("ann", now)
        assert taken <= REQUESTS_BURST + (now - start) / REFILL + 1e-3


def test_a_refused_request_costs_nothing() -> None:
    desk = Desk()
    told(desk, Arrived(a_ticket("ann")), Drain())
    for _ in range(2 * REQUESTS_BURST):
        refused = a_ticket("ann")
        assert told(desk, Arrived(refused)) == [Refuse(refused, Reason.DRAINING)]


def test_at_most_so_many_wait_in_all() -> None:
    desk = Desk()
    told(desk, *map(Arrived, tickets("in service", *range(MAX_PENDING))))
    assert desk.load(0).waiting == MAX_PENDING
    one_more = a_ticket("late")
    assert told(desk, Arrived(one_more), now=0.25) == [Refuse(one_more, Reason.BUSY, MIN_RETRY_SECONDS)]


def test_users_are_forgotten_when_their_bucket_is_full_again() -> None:
    allowances = Allowances()
    for user in range(1000):
        allowances.pay(user, 0)
    allowances.pay("often", 0)
    allowances.pay("often", 0)
    allowances.forget(REFILL - 0.001)
    assert len(allowances) == 1001
    allowances.forget(REFILL)
    assert len(allowances) == 1
    allowances.forget(2 * REFILL)
    assert len(allowances) == 0


# Deadlines


def test_who_would_be_answered_too_late_is_refused_at_once_and_told_when_to_come_back() -> None:
    desk = Desk(service_seconds=10)
    told(desk, *map(Arrived, tickets("ann", "bob")), now=0)
    assert desk.load(4) == Load(waiting=1, expected_wait=16, serving=1)  # 6 s of Ann and 10 s of Bob
    late, later, in_time = (a_ticket("cid", seconds=seconds) for seconds in (25.5, 10, 26))
    assert told(desk, Arrived(late), now=4) == [Refuse(late, Reason.BUSY, MIN_RETRY_SECONDS)]
    assert told(desk, Arrived(later), now=4) == [Refuse(later, Reason.BUSY, 16.0)]
    assert told(desk, Arrived(in_time), now=4) == []


def test_an_idle_engine_refuses_nobody_for_its_estimate() -> None:
    hopeless = a_ticket(seconds=0.001)
    assert told(Desk(service_seconds=1000), Arrived(hopeless)) == [Start(hopeless)]


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_request_without_time_is_too_late(seconds: float) -> None:
    hopeless = a_ticket(seconds=seconds)
    assert told(Desk(), Arrived(hopeless)) == [Refuse(hopeless, Reason.TOO_LATE)]


def test_the_estimate_follows_the_services() -> None:
    desk = Desk(service_seconds=8)
    for at in (0, 100):
        ticket = a_ticket()
        told(desk, Arrived(ticket), now=at)
        told(desk, Ended(ticket), now=at + 16)
    told(desk, Arrived(a_ticket()), now=200)
    assert desk.load(200).expected_wait == 8 + 1 + 7 / 8


def test_a_stopped_service_never_makes_the_estimate_shorter() -> None:
    desk = Desk(service_seconds=8)
    for took, expected in ((1, 8), (16, 9)):
        ticket = a_ticket()
        told(desk, Arrived(ticket), now=0)
        told(desk, Left(ticket), Ended(ticket), now=took)
        told(desk, Arrived(probe := a_ticket()), now=50)
        assert desk.load(50).expected_wait == expected
        told(desk, Left(probe), Ended(probe), now=50)


def test_a_deadline_that_passed_is_noticed_at_the_turn() -> None:
    desk = Desk(service_seconds=1)
    ann, bob, cid, dan = a_ticket("ann"), a_ticket("bob", seconds=3), a_ticket("cid", seconds=5), a_ticket("dan")
    told(desk, *map(Arrived, (ann, bob, cid, dan)))
    assert told(desk, Ended(ann), now=5) == [Refuse(bob, Reason.TOO_LATE), Refuse(cid, Reason.TOO_LATE), Start(dan)]


def test_a_request_expires_while_it_waits_and_in_service() -> None:
    desk = Desk()
    ann, bob, cid = tickets("ann", "bob", "cid")
    told(desk, *map(Arrived, (ann, bob, cid)))
    assert told(desk, Expired(bob)) == [Refuse(bob, Reason.TOO_LATE)]
    assert told(desk, Expired(ann)) == [Refuse(ann, Reason.TOO_LATE), Stop(ann)]
    assert told(desk, Expired(ann)) == []
    assert told(desk, Ended(ann)) == [Start(cid)]  # and not before


# Cancelling and draining


def test_a_user_takes_back_their_own_request_and_no_other() -> None:
    desk = Desk()
    ann, bob = a_ticket("ann", request=1), a_ticket("bob", request=1)
    told(desk, Arrived(a_ticket("dan")), Arrived(ann), Arrived(bob))
    assert told(desk, Cancelled("ann", 2), Cancelled("cid", 1)) == []
    assert told(desk, Cancelled("ann", 1)) == [Refuse(ann, Reason.CANCELLED)]
    assert told(desk, Cancelled("ann", 1)) == []
    assert desk.load(0).waiting == 1


def test_what_is_cancelled_in_service_keeps_the_engine_until_it_ended() -> None:
    desk = Desk()
    ann, bob = a_ticket("ann", request=1), a_ticket("bob")
    told(desk, Arrived(ann), Arrived(bob))
    assert told(desk, Cancelled("ann", 1)) == [Refuse(ann, Reason.CANCELLED), Stop(ann)]
    assert told(desk, Cancelled("ann", 1)) == []
    assert told(desk, Ended(ann)) == [Start(bob)]


def test_draining_refuses_newcomers_and_finishes_the_rest() -> None:
    desk = Desk()
    ann, bob, late = tickets("ann", "bob", "cid")
    assert told(desk, Arrived(ann), Arrived(bob), Drain()) == [Start(ann)]
    assert told(desk, Arrived(late)) == [Refuse(late, Reason.DRAINING)]
    assert not desk.drained
    assert told(desk, Ended(ann)) == [Start(bob)]
    assert not desk.drained
    told(desk, Ended(bob))
    assert desk.drained


def test_nothing_says_who_asked_what() -> None:
    ticket = a_ticket("CANARY-USER", request="CANARY-ID")
    shown = [ticket, Arrived(ticket), Start(ticket), Cancelled("CANARY-USER", "CANARY-ID"), Refused(Reason.BUSY)]
    assert "CANARY" not in repr(shown)


# Laws


class Desks(RuleBasedStateMachine):
    """Anything may happen in any order; what was promised holds after each event."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.now = 0.0
        self.serving: Ticket | None = None
        self.stopped = False
        self.waiting: list[Ticket] = []
        self.ahead: dict[Hashable, int] = {}  # by user who waits: how many services may still go first
        self.accepted: dict[Hashable, list[float]] = {}
        self.outcomes = Tally[Ticket]()
        self.arrived: list[Ticket] = []
        self.draining = False

    def tell(self, event: Event) -> list[Action]:
        """Pass it on, and hold each action against what must be true."""
        actions = self.desk.receive(event, self.now)
        for action in actions:
            match action:
                case Start(ticket):
                    assert self.serving is None, "two in service"
                    assert self.ahead.pop(ticket.user) >= 0, "somebody waited for too many"
                    self.serving, self.stopped = ticket, False
                    self.waiting.remove(ticket)
                    self.ahead = {user: left - 1 for user, left in self.ahead.items()}
                case Refuse(ticket):
                    self.outcomes[ticket] += 1
                    if ticket in self.waiting:
                        self.waiting.remove(ticket)
                case Stop(ticket):
                    assert ticket is self.serving
                    assert not self.stopped
                    self.stopped = True
        for user in set(self.ahead) - {ticket.user for ticket in self.waiting}:
            del self.ahead[user]
        return actions

    def is_serving(self) -> bool:
        """Whether the engine is somebody's."""
        return self.serving is not None

    def count_from_now(self, user: Hashable) -> None:
        """Each other user who waits now may be served once before ``user``, and nobody else."""
        self.ahead[user] = len({ticket.user for ticket in self.waiting} - {user})

    @rule(user=st.integers(0, 6), request=st.integers(0, 2), seconds=st.sampled_from([0.5, 3.0, 20.0, 1e6]))
    def arrive(self, user: int, request: int, seconds: float) -> None:
        """Refused for one of the named reasons, or accepted."""
        ticket, own = Ticket(user, request, seconds), [each for each in self.waiting if each.user == user]
        recent = [at for at in self.accepted.get(user, []) if at > self.now - BURST_SECONDS]
        idle, before = self.serving is None, len(self.waiting)
        self.arrived.append(ticket)
        self.waiting.append(ticket)
        if not own and (self.serving is None or self.serving.user != user):
            self.count_from_now(user)
        actions = self.tell(Arrived(ticket))
        refusals = [action for action in actions if isinstance(action, Refuse)]
        if not refusals:
            assert len(own) < MAX_QUEUED_PER_USER
            assert len(recent) < 2 * REQUESTS_BURST
            assert before < MAX_PENDING
            assert not self.draining
            self.accepted.setdefault(user, []).append(self.now)
            return
        assert [refusal.ticket for refusal in refusals] == [ticket]
        assert refusals[0].retry_after is None or refusals[0].retry_after >= MIN_RETRY_SECONDS
        match refusals[0].code:
            case Reason.BUSY:
                assert not idle
            case Reason.QUOTA:
                assert len(own) == MAX_QUEUED_PER_USER or len(recent) >= REQUESTS_BURST
            case code:
                assert code is Reason.DRAINING
                assert self.draining

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 100.0, 1000.0]))
    def pass_time(self, seconds: float) -> None:
        """Time alone changes nothing."""
        self.now += seconds

    @precondition(lambda self: self.serving is not None)
    @rule()
    def end(self) -> None:
        """The engine is free, and goes on at once if anybody waits in time."""
        ended, self.serving = self.serving, None
        assert ended is not None
        if not self.stopped:
            self.outcomes[ended] += 1
        if any(ticket.user == ended.user for ticket in self.waiting):
            self.count_from_now(ended.user)
        self.tell(Ended(ended))
        assert self.is_serving() or not self.waiting

    @rule(user=st.integers(0, 6), request=st.integers(0, 2))
    def cancel(self, user: int, request: int) -> None:
        """All of that name have an outcome."""
        self.tell(Cancelled(user, request))
        assert not [ticket for ticket in self.waiting if (ticket.user, ticket.request) == (user, request)]

    @precondition(lambda self: self.arrived)
    @rule(data=st.data(), event=st.sampled_from([Left, Expired]))
    def withdraw(self, data: st.DataObject, event: type[Left | Expired]) -> None:
        """Whatever became of it: it has one outcome now."""
        ticket = data.draw(st.sampled_from(self.arrived))
        self.tell(event(ticket))
        assert self.outcomes[ticket] == 1

    @rule(really=st.integers(0, 20))
    def drain(self, really: int) -> None:
        """Seldom, or nothing else would be tried."""
        if really == 0:
            self.draining = True
            self.tell(Drain())

    @invariant()
    def keeps_the_books(self) -> None:
        """What it says of itself is so."""
        assert self.desk.load(self.now).waiting == len(self.waiting)
        assert self.desk.drained == (self.draining and self.serving is None and not self.waiting)
        assert max(self.outcomes.values(), default=0) <= 1

    def teardown(self) -> None:
        """All get their outcome, and nothing is left."""
        while self.serving is not None:
            self.end()
        assert all(self.outcomes[ticket] == 1 for ticket in self.arrived)
        self.now += BURST_SECONDS
        self.tell(Cancelled("nobody", "nothing"))
        assert_nothing_is_left(self.desk)


def assert_nothing_is_left(desk: Desk) -> None:
    assert not desk._lines
    assert not desk._due
    assert desk._serving == {}
    assert len(desk._allowances) == 0
    assert not desk._allowances._catching_up


TestAnyOrder = Desks.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_newcomers_without_end_starve_nobody() -> None:
    desk = Desk()
    serving, waiting = a_ticket("ann"), a_ticket("ann")
    told(desk, Arrived(serving), Arrived(waiting))
    for newcomer in range(5):
        told(desk, Arrived(a_ticket(newcomer)))
        [start] = told(desk, Ended(serving))
        assert isinstance(start, Start)
        serving = start.ticket
        if serving is waiting:
            return
    pytest.fail("who waited was overtaken by newcomers")


# Several places: an engine that answers many at once


def test_as_many_are_served_at_once_as_there_are_places() -> None:
    desk = Desk(places=2)
    first, second, third = tickets("ann", "bob", "cem")
    assert told(desk, Arrived(first), Arrived(second), Arrived(third)) == [Start(first), Start(second)]
    assert told(desk, Ended(second)) == [Start(third)]
    assert not told(desk, Ended(first), Ended(third))


def test_a_user_has_two_places_only_while_nobody_else_waits() -> None:
    desk = Desk(places=2)
    anns = tickets("ann", "ann", "ann")
    assert told(desk, *map(Arrived, anns)) == [Start(anns[0]), Start(anns[1])]
    [bobs] = tickets("bob")
    assert told(desk, Arrived(bobs)) == []
    assert told(desk, Ended(anns[0])) == [Start(bobs)]
    assert told(desk, Ended(anns[1])) == [Start(anns[2])]


def test_a_user_alone_leaves_places_for_who_comes_next() -> None:
    desk = Desk(places=8)
    anns = tickets("ann", "ann", "ann")
    assert told(desk, *map(Arrived, anns)) == [Start(anns[0]), Start(anns[1])]
    [bobs] = tickets("bob")
    assert told(desk, Arrived(bobs)) == [Start(bobs)]


def test_with_more_places_the_wait_is_shorter() -> None:
    waits = []
    for places in (1, 4):
        desk = Desk(10.0, places)
        told(desk, *map(Arrived, tickets(*range(8))))
        waits.append(desk.load(0.0).expected_wait)
    assert waits == [10.0 + 7 * 10.0, 10.0 + 4 * 10.0 / 4]


def test_one_of_several_in_service_is_stopped_and_the_others_go_on() -> None:
    desk = Desk(places=2)
    first, second = tickets("ann", "bob")
    told(desk, Arrived(first), Arrived(second))
    assert told(desk, Expired(second)) == [Refuse(second, Reason.TOO_LATE), Stop(second)]
    desk.receive(Drain(), 0.0)
    assert not desk.drained
    assert told(desk, Ended(first), Ended(second)) == []
    assert desk.drained


@given(places=st.integers(1, 4), choices=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=60))
def test_no_place_is_free_while_anybody_waits(places: int, choices: list[tuple[int, bool]]) -> None:
    desk = Desk(places=places)
    serving: list[Ticket] = []
    waiting: list[Ticket] = []
    for number, (user, ends) in enumerate(choices):
        if ends and serving:
            event: Event = Ended(serving.pop(user % len(serving)))
        else:
            ticket = a_ticket(user, request=number)
            waiting.append(ticket)
            event = Arrived(ticket)
        for action in desk.receive(event, float(number)):
            assert not isinstance(action, Stop)
            waiting.remove(action.ticket)
            if isinstance(action, Start):
                others = {each.user for each in waiting} - {each.user for each in serving}
                assert action.ticket.user not in {each.user for each in serving} or not others
                serving.append(action.ticket)
        assert len(serving) <= places
        free = {each.user for each in waiting} - {each.user for each in serving}
        assert len(serving) == places or not free


async def test_several_work_at_once_and_one_of_them_can_be_cancelled() -> None:
    counter, go, begun = Counter(Desk(places=2)), asyncio.Event(), list[str]()

    async def work(name: str) -> str:
        begun.append(name)
        await go.wait()
        return name

    tasks = [
        asyncio.create_task(counter.serve(name, name, partial(work, name), deadline=1000.0)) for name in ("a", "b", "c")
    ]
    await settled()
    assert sorted(begun) == ["a", "b"]
    counter.cancel("b", "b")
    await assert_refused(tasks[1], Reason.CANCELLED)
    await settled()
    assert sorted(begun) == ["a", "b", "c"]
    go.set()
    assert await asyncio.gather(*(tasks[number] for number in (0, 2))) == ["a", "c"]
    await settled()
    assert_idle(counter)


# The shell


class Engine:
    """Work that ends when it is let, and tells if two ever had it."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.users = 0
        self.go = asyncio.Event()

    def work(self, name: str) -> Callable[[], Awaitable[str]]:
        async def run() -> str:
            self.order.append(name)
            self.users += 1
            assert self.users == 1
            try:
                await self.go.wait()
                return f"for {name}"
            finally:
                self.users -= 1

        return run


def served(counter: Counter, engine: Engine, name: str, *, deadline: float = 1000.0) -> "asyncio.Task[str]":
    return asyncio.create_task(counter.serve(name[0], name, engine.work(name), deadline=deadline))


async def settled() -> None:
    """Let everybody do what they can without waiting."""
    for _ in range(20):
        await asyncio.sleep(0)


async def assert_refused(task: "asyncio.Task[str]", code: Reason) -> None:
    with pytest.raises(Refused) as refused:
        await task
    assert refused.value.code is code


@pytest.fixture
async def faults() -> AsyncIterator[list[object]]:
    """What the loop has to say."""
    loop, found = asyncio.get_running_loop(), list[object]()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield found
    loop.set_exception_handler(before)


def assert_idle(counter: Counter) -> None:
    assert counter._visits == {}
    assert counter._served == {}
    assert counter._desk._due == {}
    assert counter.load == Load(0, 0.0)


async def test_everybody_gets_their_own_result_in_turn() -> None:
    counter, engine = Counter(Desk()), Engine()
    tasks = [served(counter, engine, name) for name in ("a1", "a2", "b1", "a3")]
    await settled()
    assert counter.load.waiting == 3
    engine.go.set()
    assert await asyncio.gather(*tasks) == ["for a1", "for a2", "for b1", "for a3"]
    assert engine.order == ["a1", "b1", "a2", "a3"]
    assert_idle(counter)


async def test_what_the_work_raises_is_raised_and_frees_the_engine() -> None:
    counter, engine = Counter(Desk()), Engine()

    async def failing() -> str:
        raise KeyError

    engine.go.set()
    with pytest.raises(KeyError):
        await counter.serve("a", 1, failing, deadline=10)
    with pytest.raises(ZeroDivisionError):
        await counter.serve("a", 1, lambda: 1 / 0, deadline=10)  # type: ignore[arg-type, return-value]
    assert await served(counter, engine, "a") == "for a"
    assert_idle(counter)


async def test_a_refusal_says_why_and_when_to_come_back() -> None:
    counter, engine = Counter(Desk(service_seconds=10), now=lambda: 5.0), Engine()
    first = served(counter, engine, "a")
    await settled()
    with pytest.raises(Refused) as refused:
        await counter.serve("b", 1, engine.work("b"), deadline=12)
    assert (refused.value.code, refused.value.retry_after, str(refused.value)) == (Reason.BUSY, 8.0, "busy")
    engine.go.set()
    assert await first == "for a"


async def test_cancelling_answers_at_once_and_the_engine_goes_on() -> None:
    counter, engine = Counter(Desk()), Engine()
    first, second, third = (served(counter, engine, name) for name in ("a", "b", "c"))
    await settled()
    counter.cancel("b", "b")
    counter.cancel("a", "a")
    await assert_refused(second, Reason.CANCELLED)
    await assert_refused(first, Reason.CANCELLED)
    engine.go.set()
    assert await third == "for c"
    assert engine.order == ["a", "c"]
    assert_idle(counter)


async def test_an_engine_that_hangs_keeps_nobody_beyond_their_deadline() -> None:
    counter, engine, free = Counter(Desk(service_seconds=0.001)), Engine(), asyncio.Event()

    async def stubborn() -> str:
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    hanging = asyncio.create_task(counter.serve("a", 1, stubborn, deadline=0.02))
    waiting = served(counter, engine, "b", deadline=0.04)
    patient = served(counter, engine, "c")
    await assert_refused(hanging, Reason.TOO_LATE)
    await assert_refused(waiting, Reason.TOO_LATE)
    await settled()
    assert engine.order == []  # the engine is not free, whatever its request was told
    free.set()
    engine.go.set()
    assert await patient == "for c"
    assert_idle(counter)


async def test_what_a_refused_request_raises_is_nobodys(faults: list[object]) -> None:
    counter, free = Counter(Desk()), asyncio.Event()

    async def failing() -> str:
        try:
            await free.wait()
        finally:
            raise KeyError

    task = asyncio.create_task(counter.serve("a", 1, failing, deadline=10))
    await settled()
    counter.cancel("a", 1)
    await assert_refused(task, Reason.CANCELLED)
    await settled()
    gc.collect()
    assert faults == []
    assert_idle(counter)


async def test_nothing_of_a_request_is_kept() -> None:
    class RequestId:
        pass

    counter, engine, request = Counter(Desk()), Engine(), RequestId()
    engine.go.set()
    assert await counter.serve("a", request, engine.work("a"), deadline=1000) == "for a"
    kept = weakref.ref(request)
    del request
    await settled()
    gc.collect()
    assert kept() is None


async def test_a_cancelled_task_leaves_nothing_behind() -> None:
    counter, engine = Counter(Desk()), Engine()
    serving, waiting, next_one = (served(counter, engine, name) for name in ("a", "b", "c"))
    await settled()
    for task in (waiting, serving):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    engine.go.set()
    assert await next_one == "for c"
    assert engine.order == ["a", "c"]
    assert_idle(counter)


def test_a_loop_that_ends_takes_all_with_it() -> None:
    faults: list[object] = []

    async def abandon() -> Counter:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        counter, engine = Counter(Desk()), Engine()
        tasks.extend(served(counter, engine, name) for name in ("a", "b", "c", "a"))
        await settled()
        return counter

    tasks: list[asyncio.Task[str]] = []
    assert_idle(asyncio.run(abandon()))
    assert all(task.cancelled() for task in tasks)
    assert faults == []


async def test_draining_waits_for_the_last() -> None:
    counter, engine = Counter(Desk()), Engine()
    tasks = [served(counter, engine, name) for name in ("a", "b")]
    await settled()
    drained = asyncio.create_task(counter.drained())
    counter.drain()
    await assert_refused(served(counter, engine, "c"), Reason.DRAINING)
    assert not drained.done()
    engine.go.set()
    assert await asyncio.gather(*tasks) == ["for a", "for b"]
    await asyncio.wait_for(drained, 1)


async def test_an_idle_counter_is_drained_at_once() -> None:
    counter = Counter(Desk())
    counter.drain()
    await asyncio.wait_for(counter.drained(), 1)


async def test_work_runs_in_the_context_of_who_asked() -> None:
    who: ContextVar[str] = ContextVar("who")
    counter = Counter(Desk())

    async def ask(name: str) -> str:
        who.set(name)

        async def work() -> str:
            await asyncio.sleep(0)
            return who.get()

        return await counter.serve(name, 1, work, deadline=10)

    assert await asyncio.gather(*map(ask, "abc")) == ["a", "b", "c"]


async def test_a_thread_is_waited_for_before_the_next_one_gets_the_engine() -> None:
    counter, engine = Counter(Desk()), Engine()
    started, stop, done = threading.Event(), threading.Event(), threading.Event()

    def compute() -> str:
        started.set()
        stop.wait(10)
        done.set()
        return "never seen"

    first = asyncio.create_task(counter.serve("a", 1, partial(in_thread, compute, stop.set), deadline=10))
    await asyncio.to_thread(started.wait, 10)
    second = served(counter, engine, "b")
    counter.cancel("a", 1)
    await assert_refused(first, Reason.CANCELLED)
    engine.go.set()
    assert await second == "for b"
    assert done.is_set()
    assert_idle(counter)


async def test_a_thread_is_not_left_by_being_cancelled_twice() -> None:
    release = threading.Event()
    task = asyncio.create_task(in_thread(partial(release.wait, 10)))
    for _ in range(3):
        await settled()
        task.cancel()
    await settled()
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_thread_gives_its_result_and_its_error() -> None:
    assert await in_thread(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["ask", "cancel", "abandon", "pause"]), st.integers(0, 4), st.integers(0, 3)),
        max_size=40,
    )
)
def test_any_mix_of_asking_cancelling_and_leaving_ends_with_an_outcome_for_each(
    steps: list[tuple[str, int, int]],
) -> None:
    async def run() -> None:
        counter, busy, tasks = Counter(Desk()), 0, list[asyncio.Task[int]]()

        async def work(turns: int) -> int:
            nonlocal busy
            busy += 1
            assert busy == 1
            try:
                for _ in range(turns):
                    await asyncio.sleep(0)
                return turns
            finally:
                busy -= 1

        for what, user, number in steps:
            match what:
                case "ask":
                    asking = counter.serve(user, number, partial(work, number), deadline=100)
                    tasks.append(asyncio.create_task(asking))
                case "cancel":
                    counter.cancel(user, number)
                case "abandon" if tasks:
                    tasks[number % len(tasks)].cancel()
                case _:
                    await asyncio.sleep(0)
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert all(isinstance(outcome, int | Refused | asyncio.CancelledError) for outcome in outcomes)
        counter.drain()
        await asyncio.wait_for(counter.drained(), 10)
        assert_idle(counter)

    asyncio.run(run())
