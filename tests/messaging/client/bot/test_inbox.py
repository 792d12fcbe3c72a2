"""Nothing is lost, nothing is out of order, and nobody gets what somebody else has in hand."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from messaging.client.bot import inbox as module
from messaging.client.bot.inbox import (
    FIRST_PAUSE,
    KEPT,
    LEASE_ENDED,
    LONGEST_PAUSE,
    MAX_ATTEMPTS,
    PROCESS_ENDED,
    Inbox,
    InboxFull,
    Leased,
    LeaseLost,
)
from messaging.client.bot.timers import MAX_TIMER_DATA, MAX_TIMER_KEY, TimerDue
from messaging.client.errors import StoreFailed
from messaging.client.events import Event, TypingChanged
from messaging.client.stores import Store
from messaging.client.testing import Clock
from tests.messaging.client.bot.events import ANN, KEY, a_conversation, a_message, a_store, an_inbox, tell


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with a_store() as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def inbox(store: Store, clock: Clock) -> Inbox:
    return await an_inbox(store, clock)


async def take(inbox: Inbox, most: int = 10, *, lease: float = 60.0, run: int = 1) -> list[Leased]:
    return await inbox.take(most, lease=lease, per_conversation=run)


def events(leased: list[Leased]) -> list[Event]:
    return [each.event for each in leased]


# --- coming in ---


async def test_what_was_journalled_is_taken(store: Store, inbox: Inbox) -> None:
    one = a_message(a_conversation(), 1)
    await tell(store, inbox, one)
    [leased] = await take(inbox)
    assert (leased.event, leased.attempt) == (one, 1)
    assert inbox.waiting == 1
    await inbox.handled(leased)
    assert inbox.waiting == 0


async def test_an_event_is_there_when_its_transaction_is_committed_and_not_before(store: Store, inbox: Inbox) -> None:
    one = a_message(a_conversation(), 1)

    async def begin_and_fail() -> None:
        async with store.transaction() as transaction:
            inbox.journal(transaction, one)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await begin_and_fail()
    assert await take(inbox) == []
    await tell(store, inbox, one)  # the relay shows it again
    assert events(await take(inbox)) == [one]


async def test_an_event_that_is_told_again_waits_once(store: Store, inbox: Inbox) -> None:
    one = a_message(a_conversation(), 1)
    async with store.transaction() as transaction:
        inbox.journal(transaction, one)
        inbox.journal(transaction, one)
    await tell(store, inbox, one)
    assert inbox.waiting == 1


@pytest.mark.parametrize("reopened", [False, True])
async def test_an_event_that_was_handled_is_not_told_again(
    store: Store, inbox: Inbox, clock: Clock, reopened: bool
) -> None:
    one = a_message(a_conversation(), 1)
    await tell(store, inbox, one)
    await inbox.handled(*await take(inbox))
    if reopened:
        inbox = await an_inbox(store, clock)
    await tell(store, inbox, one)
    assert await take(inbox) == []


async def test_of_what_was_handled_long_ago_the_id_is_forgotten(
    store: Store, inbox: Inbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECENT", 3)
    key = a_conversation()
    told = [a_message(key, number) for number in range(5)]
    await tell(store, inbox, *told)
    while leased := await take(inbox):
        await inbox.handled(*leased)
    for again in (inbox, await an_inbox(store, clock)):
        await tell(store, again, *told[2:])
        assert await take(again) == []
    await tell(store, inbox, told[0])
    assert events(await take(inbox)) == [told[0]]


async def test_a_full_inbox_takes_nothing_until_there_is_room(
    store: Store, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    key = a_conversation()
    await tell(store, inbox, a_message(key, 1), a_message(key, 2))
    with pytest.raises(InboxFull):
        await tell(store, inbox, a_message(key, 3))
    await inbox.handled(*await take(inbox))
    await tell(store, inbox, a_message(key, 3))


async def test_parked_events_take_room_too(store: Store, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    monkeypatch.setattr(module, "MAX_ATTEMPTS", 1)
    key = a_conversation()
    await tell(store, inbox, a_message(key, 1))
    [leased] = await take(inbox)
    assert await inbox.failed(leased, "Error")
    with pytest.raises(InboxFull):
        await tell(store, inbox, a_message(key, 2))


def test_a_full_inbox_is_tried_again_like_a_full_disk() -> None:
    assert issubclass(InboxFull, StoreFailed)


async def test_what_passes_is_not_kept(store: Store, inbox: Inbox) -> None:
    with pytest.raises(ValueError, match="not kept"):
        await tell(store, inbox, TypingChanged(a_conversation(), ANN, 1))


# --- taking ---


async def test_a_conversation_is_taken_one_event_at_a_time_in_order(store: Store, inbox: Inbox) -> None:
    key = a_conversation()
    told = [a_message(key, number) for number in range(5)]
    await tell(store, inbox, *told)
    seen: list[Event] = []
    while leased := await take(inbox):
        assert await take(inbox) == []
        seen += events(leased)
        await inbox.handled(*leased)
    assert seen == told


async def test_one_who_writes_ten_thousand_messages_keeps_nobody_waiting(store: Store, inbox: Inbox) -> None:
    loud, quiet = a_conversation(), a_conversation()
    async with store.transaction() as transaction:
        for number in range(10_000):
            inbox.journal(transaction, a_message(loud, number))
    await tell(store, inbox, a_message(quiet, 1))
    first = await inbox.take(8, lease=60, per_conversation=8)
    await inbox.handled(*first)
    second = await inbox.take(8, lease=60, per_conversation=8)
    assert a_message(quiet, 1) in events(second)


async def test_a_run_of_a_conversation_is_taken_together(store: Store, inbox: Inbox) -> None:
    key = a_conversation()
    told = [a_message(key, number) for number in range(5)]
    await tell(store, inbox, *told)
    run = await take(inbox, run=3)
    assert events(run) == told[:3]
    assert await take(inbox, run=3) == []
    await inbox.handled(*run)
    assert events(await take(inbox, run=3)) == told[3:]


async def test_who_waits_gets_what_comes(store: Store, inbox: Inbox) -> None:
    waiting = asyncio.create_task(inbox.take(1, lease=60, wait=math.inf))
    await asyncio.sleep(0)
    one = a_message(a_conversation(), 1)
    await tell(store, inbox, one)
    assert events(await waiting) == [one]


async def test_who_has_waited_long_enough_gets_nothing(store: Store) -> None:
    inbox = await Inbox.open(store)
    assert await inbox.take(1, lease=60, wait=0.01) == []


async def test_who_stops_waiting_keeps_nothing(store: Store, inbox: Inbox) -> None:
    waiting = asyncio.create_task(inbox.take(1, lease=60, wait=math.inf))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await tell(store, inbox, a_message(a_conversation(), 1))
    assert len(await take(inbox)) == 1


async def test_of_several_who_wait_each_gets_another_event(store: Store, inbox: Inbox) -> None:
    takers = [asyncio.create_task(inbox.take(1, lease=60, wait=math.inf)) for _ in range(5)]
    await asyncio.sleep(0)
    told = [a_message(a_conversation(), number) for number in range(5)]
    await tell(store, inbox, *told)
    taken = [each for taker in takers for each in events(await taker)]
    assert sorted(each.id for each in taken) == sorted(each.id for each in told)


# --- leases ---


async def test_nobody_gets_what_is_in_hand_until_its_lease_ends(store: Store, inbox: Inbox, clock: Clock) -> None:
    await tell(store, inbox, a_message(a_conversation(), 1))
    [first] = await take(inbox, lease=10)
    clock.advance(9.9)
    assert await take(inbox) == []
    clock.advance(0.1)
    assert await take(inbox) == []  # a pause follows, as after any failure
    clock.advance(FIRST_PAUSE)
    [second] = await take(inbox)
    assert (second.event, second.attempt) == (first.event, 2)


async def test_a_lease_that_ended_ends_nothing_of_anybody_elses(store: Store, inbox: Inbox, clock: Clock) -> None:
    await tell(store, inbox, a_message(a_conversation(), 1), a_message(a_conversation(), 1))
    late, _ = await take(inbox, lease=10)
    clock.advance(10)
    await take(inbox)
    clock.advance(FIRST_PAUSE)
    again, other = await take(inbox)
    assert again.event == late.event
    with pytest.raises(LeaseLost):
        await inbox.handled(late, other)
    with pytest.raises(LeaseLost):
        await inbox.failed(late, "Error")
    await inbox.release(late)
    assert inbox.waiting == 1  # the other one is over, and this one is still in hand
    await inbox.handled(again)
    assert inbox.waiting == 0


async def test_a_lease_of_an_earlier_process_ends_nothing_of_this_one(store: Store, inbox: Inbox, clock: Clock) -> None:
    await tell(store, inbox, a_message(a_conversation(), 1))
    [before] = await take(inbox)
    inbox = await an_inbox(store, clock)
    await take(inbox)
    with pytest.raises(LeaseLost):
        await inbox.handled(before)
    assert inbox.waiting == 1


async def test_leases_that_end_again_and_again_park_the_event(store: Store, inbox: Inbox, clock: Clock) -> None:
    await tell(store, inbox, a_message(a_conversation(), 1))
    for _ in range(MAX_ATTEMPTS):
        assert len(await take(inbox, lease=10)) == 1
        clock.advance(10)
        assert await take(inbox) == []
        clock.advance(LONGEST_PAUSE)
    [parked] = await inbox.parked()
    assert parked.reason == LEASE_ENDED


async def test_what_is_given_back_comes_again_at_once_and_was_no_attempt(store: Store, inbox: Inbox) -> None:
    key = a_conversation()
    await tell(store, inbox, a_message(key, 1), a_message(key, 2))
    run = await take(inbox, run=2)
    await inbox.release(*run)
    again = await take(inbox, run=2)
    assert [(each.event, each.attempt) for each in again] == [(each.event, 1) for each in run]


# --- failing ---


async def test_what_fails_comes_again_after_longer_and_longer_pauses_and_is_parked_in_the_end(
    store: Store, inbox: Inbox, clock: Clock
) -> None:
    await tell(store, inbox, a_message(a_conversation(), 1))
    pause = FIRST_PAUSE
    for attempt in range(1, MAX_ATTEMPTS):
        [leased] = await take(inbox)
        assert leased.attempt == attempt
        assert not await inbox.failed(leased, "Error")
        clock.advance(pause - 0.001)
        assert await take(inbox) == []
        clock.advance(0.001)
        pause = min(2 * pause, LONGEST_PAUSE)
    [leased] = await take(inbox)
    assert await inbox.failed(leased, "Error")
    assert (inbox.waiting, inbox.parked_count) == (0, 1)


async def test_pauses_are_spread_between_half_and_all_of_their_length(store: Store, clock: Clock) -> None:
    inbox = await Inbox.open(store, now=clock.now, monotonic=clock.seconds, random=lambda: 0.0)
    await tell(store, inbox, a_message(a_conversation(), 1))
    [leased] = await take(inbox)
    await inbox.failed(leased, "Error")
    assert inbox.next_change() == pytest.approx(FIRST_PAUSE / 2)


def test_no_pause_is_longer_than_the_longest() -> None:
    inbox = Inbox(None, random=lambda: 1.0)  # type: ignore[arg-type]
    assert inbox._pause(30) == LONGEST_PAUSE


async def test_what_follows_in_the_conversation_waits_for_what_failed_and_others_do_not(
    store: Store, inbox: Inbox, clock: Clock
) -> None:
    key, other = a_conversation(), a_conversation()
    await tell(store, inbox, a_message(key, 1), a_message(key, 2))
    first, second = await take(inbox, run=2)
    await inbox.failed(first, "Error")
    with pytest.raises(LeaseLost):
        await inbox.handled(second)  # it was given back with the first one
    await tell(store, inbox, a_message(other, 1))
    assert events(await take(inbox)) == [a_message(other, 1)]
    clock.advance(FIRST_PAUSE)
    assert events(await take(inbox, run=2)) == [a_message(key, 1), a_message(key, 2)]


async def test_attempts_are_remembered_across_a_restart(store: Store, inbox: Inbox, clock: Clock) -> None:
    await tell(store, inbox, a_message(a_conversation(), 1))
    for expected in range(1, MAX_ATTEMPTS):
        [leased] = await take(inbox)
        assert leased.attempt == expected
        await inbox.failed(leased, "Error")
        inbox = await an_inbox(store, clock)
    [leased] = await take(inbox)
    assert await inbox.failed(leased, "Error")


async def test_what_ends_the_process_each_time_is_parked_in_the_end(store: Store, inbox: Inbox, clock: Clock) -> None:
    key = a_conversation()
    await tell(store, inbox, a_message(key, 1), a_message(key, 2))
    for _ in range(MAX_ATTEMPTS):
        inbox = await an_inbox(store, clock)
        assert events(await take(inbox, run=8)) == [a_message(key, 1)]  # alone: what follows is not to suffer for it
    inbox = await an_inbox(store, clock)
    [parked] = await inbox.parked()
    assert (parked.event, parked.reason) == (a_message(key, 1), PROCESS_ENDED)
    assert events(await take(inbox)) == [a_message(key, 2)]


async def test_what_was_given_back_before_the_end_of_the_process_was_no_attempt(
    store: Store, inbox: Inbox, clock: Clock
) -> None:
    await tell(store, inbox, a_message(a_conversation(), 1))
    for _ in range(MAX_ATTEMPTS + 1):
        inbox = await an_inbox(store, clock)
        [leased] = await take(inbox)
        assert leased.attempt == 1
        await inbox.release(leased)


async def test_who_may_have_ended_the_process_is_tried_alone_so_that_no_other_is_blamed(
    store: Store, inbox: Inbox, clock: Clock
) -> None:
    told = [a_message(a_conversation(), number) for number in range(3)]
    await tell(store, inbox, *told)
    inbox = await an_inbox(store, clock)
    assert len(await take(inbox)) == 3  # and one of them ends the process
    inbox = await an_inbox(store, clock)
    another = a_message(a_conversation(), 9)
    await tell(store, inbox, another)
    tried = []
    for _ in told:
        [suspect] = await take(inbox)
        assert await take(inbox) == []
        assert suspect.attempt == 2
        tried.append(suspect.event)
        if len(tried) == 1:
            await inbox.failed(suspect, "Error")  # now it is known how it ends
        else:
            await inbox.handled(suspect)
    assert tried == told
    assert events(await take(inbox)) == [another]


# --- what is set aside ---


async def park(store: Store, inbox: Inbox, clock: Clock, *told: Event) -> None:
    await tell(store, inbox, *told)
    while inbox.waiting:
        for leased in await take(inbox):
            await inbox.failed(leased, "SomeError")
        clock.advance(LONGEST_PAUSE)


async def test_parked_events_are_seen_with_their_reason_also_after_a_restart(
    store: Store, inbox: Inbox, clock: Clock
) -> None:
    one = a_message(a_conversation(), 1)
    await park(store, inbox, clock, one)
    for again in (inbox, await an_inbox(store, clock)):
        [parked] = await again.parked()
        assert (parked.event, parked.attempts, parked.reason) == (one, MAX_ATTEMPTS, "SomeError")
        assert again.parked_count == 1
        await tell(store, again, one)  # it is known
        assert await take(again) == []


async def test_parked_events_are_listed_in_pages(store: Store, inbox: Inbox, clock: Clock) -> None:
    key = a_conversation()
    await park(store, inbox, clock, *(a_message(key, number) for number in range(3)))
    first = await inbox.parked(most=2)
    rest = await inbox.parked(after=first[-1].number)
    assert [each.event.timestamp for each in (*first, *rest)] == [a_message(key, n).timestamp for n in range(3)]


@pytest.mark.parametrize("reopened", [False, True])
async def test_a_replayed_event_is_handled_from_the_first_attempt_on_behind_what_waits(
    store: Store, inbox: Inbox, clock: Clock, reopened: bool
) -> None:
    key = a_conversation()
    await park(store, inbox, clock, a_message(key, 1))
    await tell(store, inbox, a_message(key, 2))
    [parked] = await inbox.parked()
    assert await inbox.replay(parked.number, parked.number + 100) == 1
    if reopened:
        inbox = await an_inbox(store, clock)
    [second] = await take(inbox)
    await inbox.handled(second)
    [first] = await take(inbox)
    assert [second.event, first.event] == [a_message(key, 2), a_message(key, 1)]
    assert first.attempt == 1
    assert await inbox.parked() == []


async def test_a_dropped_event_is_gone_and_may_be_told_again(store: Store, inbox: Inbox, clock: Clock) -> None:
    one = a_message(a_conversation(), 1)
    await park(store, inbox, clock, one)
    [parked] = await inbox.parked()
    assert await inbox.drop(parked.number) == 1
    assert await inbox.drop(parked.number) == 0
    assert inbox.parked_count == 0
    await tell(store, inbox, one)
    assert len(await take(inbox)) == 1


async def test_when_one_of_a_run_is_parked_the_rest_goes_on(
    store: Store, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ATTEMPTS", 1)
    key = a_conversation()
    await tell(store, inbox, *(a_message(key, number) for number in range(3)))
    run = await take(inbox, run=3)
    await inbox.handled(run[0])
    assert await inbox.failed(run[1], "Error")
    assert events(await take(inbox, run=3)) == [a_message(key, 2)]


# --- age ---


async def test_what_is_older_than_a_relay_keeps_it_is_dropped(store: Store, inbox: Inbox, clock: Clock) -> None:
    key = a_conversation()
    await tell(store, inbox, a_message(key, 1), a_message(key, 2))
    assert inbox.oldest == clock.now()
    clock.advance(KEPT / 1000)
    assert await inbox.sweep() == 0
    clock.advance(0.001)
    await tell(store, inbox, a_message(key, 3))
    inbox = await an_inbox(store, clock)
    assert (inbox.waiting, inbox.oldest) == (1, clock.now())
    assert events(await take(inbox)) == [a_message(key, 3)]


async def test_what_was_parked_longer_ago_is_dropped_and_may_be_told_again(
    store: Store, inbox: Inbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ATTEMPTS", 1)
    one = a_message(a_conversation(), 1)
    await tell(store, inbox, one)
    [leased] = await take(inbox)
    assert await inbox.failed(leased, "Error")
    clock.advance(KEPT / 1000)
    assert await inbox.sweep() == 0
    clock.advance(0.001)
    assert await inbox.sweep() == 1
    assert inbox.parked_count == 0
    await tell(store, inbox, one)
    assert events(await take(inbox)) == [one]


async def test_a_full_inbox_makes_room_by_dropping_what_is_too_old(
    store: Store, inbox: Inbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    key = a_conversation()
    await tell(store, inbox, a_message(key, 1))
    clock.advance(KEPT / 1000 + 1)
    with pytest.raises(InboxFull):
        await tell(store, inbox, a_message(key, 2))
    await inbox.close()  # and with it what was begun
    await tell(store, inbox, a_message(key, 2))


# --- timers ---


def a_timer(at: int, key: str = "key", data: str = "data") -> TimerDue:
    return TimerDue(b"\x01" * 32, ANN, at, key, "name", data)


@pytest.mark.parametrize("reopened", [False, True])
async def test_a_timer_is_an_event_when_its_time_has_come(
    store: Store, inbox: Inbox, clock: Clock, reopened: bool
) -> None:
    timer = a_timer(clock.now() + 1000)
    await inbox.schedule(timer)
    if reopened:
        inbox = await an_inbox(store, clock)
    clock.advance(0.999)
    assert await take(inbox) == []
    clock.advance(0.001)
    assert events(await take(inbox)) == [timer]
    assert inbox.timers == []


async def test_a_timer_that_came_while_nothing_ran_comes_at_the_next_start_once(
    store: Store, inbox: Inbox, clock: Clock
) -> None:
    timer = a_timer(clock.now() + 1000)
    await inbox.schedule(timer)
    clock.advance(100)
    inbox = await an_inbox(store, clock)
    await inbox.handled(*await take(inbox))
    inbox = await an_inbox(store, clock)
    assert await take(inbox) == []


async def test_who_waits_is_woken_by_a_timer(store: Store) -> None:
    inbox = await Inbox.open(store)
    timer = a_timer(inbox.now + 20)
    await inbox.schedule(timer)
    assert events(await inbox.take(1, lease=60, wait=math.inf)) == [timer]


async def test_a_timer_takes_the_place_of_one_with_the_same_key(store: Store, inbox: Inbox, clock: Clock) -> None:
    earlier, later = a_timer(clock.now() + 1000), a_timer(clock.now() + 2000)
    await inbox.schedule(earlier)
    await inbox.schedule(later)
    clock.advance(1)
    assert await take(inbox) == []
    clock.advance(1)
    assert events(await take(inbox)) == [later]


async def test_a_timer_that_is_cancelled_does_not_come(store: Store, inbox: Inbox, clock: Clock) -> None:
    await inbox.schedule(a_timer(clock.now() + 1000))
    assert await inbox.cancel("key")
    assert not await inbox.cancel("key")
    clock.advance(2)
    assert await take(inbox) == []
    assert await take(await an_inbox(store, clock)) == []


async def test_timers_of_the_same_millisecond_are_two(inbox: Inbox, clock: Clock) -> None:
    at = clock.now() + 1
    await inbox.schedule(a_timer(at, "one"))
    await inbox.schedule(a_timer(at, "two"))
    clock.advance(1)
    assert len(await take(inbox, run=2)) == 2


async def test_a_timer_is_within_its_limits(inbox: Inbox, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    await inbox.schedule(a_timer(0, "k" * MAX_TIMER_KEY, "d" * MAX_TIMER_DATA))
    for timer in (a_timer(0, "k" * (MAX_TIMER_KEY + 1)), a_timer(0, ""), a_timer(0, data="d" * (MAX_TIMER_DATA + 1))):
        with pytest.raises(ValueError, match="characters"):
            await inbox.schedule(timer)
    monkeypatch.setattr(module, "MAX_TIMERS", 1)
    with pytest.raises(ValueError, match="at most 1 timers"):
        await inbox.schedule(a_timer(0, "another"))
    await inbox.schedule(a_timer(5, "k" * MAX_TIMER_KEY))  # this one is there already


# --- the store ---


async def test_an_inbox_on_a_file_is_there_when_it_is_opened_again(tmp_path: Path, clock: Clock) -> None:
    key = a_conversation()
    async with Store.open(tmp_path / "store.db", KEY) as store:
        inbox = await an_inbox(store, clock)
        await tell(store, inbox, *(a_message(key, number) for number in range(3)))
        await inbox.handled(*await take(inbox))
    async with Store.open(tmp_path / "store.db", KEY) as store:
        inbox = await an_inbox(store, clock)
        assert inbox.waiting == 2
        assert events(await take(inbox)) == [a_message(key, 1)]


async def test_nothing_of_an_event_is_readable_in_the_file(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "store.db"
    async with Store.open(path, KEY) as store:
        inbox = await an_inbox(store, clock)
        await tell(store, inbox, a_message(a_conversation(), 1, "a canary that sings"))
        written = path.read_bytes() + path.with_name("store.db-wal").read_bytes()
    assert len(written) > 4096
    assert b"canary" not in written
    assert str(ANN).encode() not in written


def test_nothing_of_an_event_is_shown() -> None:
    leased = Leased(1, a_message(a_conversation(), 1, "canary"), 1, 0.0)
    assert "canary" not in repr(leased)
    assert "canary" not in repr(TimerDue(a_conversation(), ANN, 1, "canary", "canary", "canary"))


# --- leases that are renewed ---


async def test_who_renews_a_lease_keeps_the_event(store: Store, inbox: Inbox, clock: Clock) -> None:
    await tell(store, inbox, a_message(a_conversation(), 1))
    [leased] = await take(inbox, lease=10)
    for _ in range(3):
        clock.advance(9)
        leased = inbox.renew(leased, 10)
        assert leased.until == clock.seconds() + 10
        assert await take(inbox) == []
    await inbox.handled(leased)
    assert inbox.waiting == 0


async def test_a_lease_that_was_lost_is_not_renewed(store: Store, inbox: Inbox, clock: Clock) -> None:
    await tell(store, inbox, a_message(a_conversation(), 1))
    [leased] = await take(inbox, lease=10)
    clock.advance(10)
    assert await take(inbox) == []  # it has failed, and pauses
    with pytest.raises(LeaseLost):
        inbox.renew(leased, 10)
