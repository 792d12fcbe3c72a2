"""Conversations take turns, and of one conversation nothing is given out while something of it is in hand or pauses."""

from messaging.client.bot.turns import Turns, Waiting


def lines(*conversations: str) -> tuple[Turns, list[Waiting]]:
    """One event for each letter, numbered from 1, in the conversation of that name."""
    turns = Turns()
    events = [
        Waiting(number, bytes([number]) * 16, name.encode(), number) for number, name in enumerate(conversations, 1)
    ]
    for event in events:
        turns.add(event)
    return turns, events


def picked(turns: Turns, most: int = 10, *, run: int = 1, conversations: int = 10, now: float = 0.0) -> list[int]:
    chosen = turns.pick(now, most, per_conversation=run, conversations=conversations)
    for waiting in chosen:
        turns.lease(waiting, now + 60)
    return [waiting.number for waiting in chosen]


def test_of_each_conversation_the_first_event_comes_and_nothing_else_while_it_is_in_hand() -> None:
    turns, _ = lines("a", "a", "b")
    assert picked(turns) == [1, 3]
    assert picked(turns) == []


def test_the_next_one_comes_when_the_first_is_over() -> None:
    turns, events = lines("a", "a")
    assert picked(turns) == [1]
    assert turns.remove(events[0])
    assert picked(turns) == [2]


def test_a_conversation_with_many_events_waits_for_its_turn_like_any_other() -> None:
    turns, events = lines("a", "a", "a", "b", "c")
    order = []
    for _ in events:
        [number] = picked(turns, 1)
        order.append(number)
        turns.remove(events[number - 1])
    assert order == [1, 4, 5, 2, 3]


def test_a_run_is_in_order_and_as_long_as_was_asked_for() -> None:
    turns, _ = lines("a", "a", "a", "b")
    assert picked(turns, run=2) == [1, 2, 4]


def test_no_more_than_so_many_events_and_conversations_come() -> None:
    turns, _ = lines("a", "a", "a", "b", "c")
    assert picked(turns, 2, run=8) == [1, 2]
    turns, _ = lines("a", "a", "a", "b", "c")
    assert picked(turns, run=8, conversations=2) == [1, 2, 3, 4]


def test_an_old_event_comes_alone() -> None:
    turns, events = lines("a", "a", "a")
    chosen = turns.pick(0.0, 10, per_conversation=8, conversations=8, alone_until=1)
    assert chosen == events[:1]


def test_what_is_put_back_comes_again_with_all_that_follows_it_in_its_run() -> None:
    turns, events = lines("a", "a", "a")
    assert picked(turns, run=3) == [1, 2, 3]
    turns.put_back(events[1])
    assert picked(turns) == []  # the first one is still in hand
    turns.remove(events[0])
    assert picked(turns, run=3) == [2, 3]


def test_a_pause_lasts_until_its_end() -> None:
    turns, events = lines("a", "a")
    assert picked(turns) == [1]
    turns.put_back(events[0], not_before=5.0)
    assert turns.next_change() == 5.0
    assert not turns.has_any(4.9)
    assert picked(turns, now=5.0) == [1]


def test_a_lease_names_what_it_is_for_until_it_is_over() -> None:
    turns, events = lines("a")
    [waiting] = turns.pick(0.0, 1, per_conversation=1, conversations=1)
    lease = turns.lease(waiting, 60.0)
    assert turns.held(1, lease.token) == events[0]
    assert turns.held(1, lease.token + 1) is None
    turns.put_back(waiting)
    assert turns.held(1, lease.token) is None


def test_leases_lapse_in_the_order_of_their_events_and_only_those_that_stand() -> None:
    turns, events = lines("a", "b", "c")
    assert picked(turns) == [1, 2, 3]
    turns.remove(events[1])
    assert turns.lapsed(59.9) == []
    assert [lease.waiting.number for lease in turns.lapsed(60.0)] == [1, 3]


def test_what_is_set_aside_is_in_nobodys_way() -> None:
    turns, events = lines("a", "a", "b")
    assert picked(turns, 1) == [1]
    turns.set_aside(events[0])  # in hand
    turns.set_aside(events[2])  # not in hand, and the only one of its conversation
    assert picked(turns) == [2]
    assert len(turns) == 1
    assert turns.oldest() == 2


def test_what_is_over_is_over_once() -> None:
    turns, events = lines("a")
    picked(turns)
    assert turns.remove(events[0])
    assert not turns.remove(events[0])
    assert events[0].id not in turns


def test_a_lease_that_was_renewed_ends_later_and_once() -> None:
    turns, events = lines("a")
    turns.pick(0, 1, per_conversation=1, conversations=1)
    lease = turns.lease(events[0], 60)
    assert turns.renew(1, lease.token, 100)
    assert turns.next_change() == 100
    assert turns.lapsed(60) == []
    assert [each.token for each in turns.lapsed(100)] == [lease.token]
    assert turns.held(1, lease.token) == events[0]


def test_a_lease_that_does_not_stand_is_not_renewed() -> None:
    turns, events = lines("a")
    turns.pick(0, 1, per_conversation=1, conversations=1)
    lease = turns.lease(events[0], 60)
    assert not turns.renew(1, lease.token + 1, 100)
    turns.put_back(events[0])
    assert not turns.renew(1, lease.token, 100)
    assert turns.next_change() is None
