"""Timers come in order, and one that was replaced does not come."""

from dataclasses import replace

from messaging.client.bot import timers as module
from messaging.client.bot.timers import TimerDue, Timers, decode_timer, encode_timer
from tests.messaging.client.bot.events import ANN, a_conversation

KEY = a_conversation()


def a_timer(at: int, key: str) -> TimerDue:
    return TimerDue(KEY, ANN, at, key, "name", "data")


def test_they_come_in_order_of_their_times() -> None:
    timers = Timers()
    for at, key in ((3, "c"), (1, "a"), (2, "b")):
        timers.put(a_timer(at, key))
    assert timers.next_at() == 1
    assert timers.due(0) == []
    assert [timer.key for timer in timers.due(2)] == ["a", "b"]
    timers.remove("a")
    assert timers.next_at() == 2
    assert len(timers) == 2


def test_one_that_was_moved_comes_once() -> None:
    timers = Timers()
    timers.put(a_timer(1, "a"))
    timers.put(a_timer(5, "a"))
    assert timers.due(4) == []
    assert [timer.timestamp for timer in timers.due(5)] == [5]
    assert "a" in timers


def test_one_that_is_moved_again_and_again_takes_no_more_room() -> None:
    timers = Timers()
    for at in range(5 * module.MAX_TIMERS):
        timers.put(a_timer(10**9 - at, "a"))
    assert len(timers._order) <= 2 * module.MAX_TIMERS
    assert timers.next_at() == 10**9 - at


def test_what_is_stored_is_the_same_timer() -> None:
    timer = a_timer(1, "a")
    assert decode_timer(encode_timer(timer)) == timer


def test_one_that_comes_once_is_the_same_whatever_time_it_is_set_to() -> None:
    first, again = replace(a_timer(1, "a"), once=True), replace(a_timer(9, "a"), once=True)
    assert first.id == again.id != a_timer(1, "a").id
    assert decode_timer(encode_timer(first)) == first


def test_timers_are_told_apart_by_key_time_and_conversation() -> None:
    ids = {a_timer(1, "a").id, a_timer(2, "a").id, a_timer(1, "b").id}
    ids.add(TimerDue(a_conversation(), ANN, 1, "a", "name").id)
    assert len(ids) == 4
    assert a_timer(1, "a").id == a_timer(1, "a").id
