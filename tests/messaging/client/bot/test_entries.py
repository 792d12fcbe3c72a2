"""What stands in the store is what was written, and what decides is read without the event."""

from hypothesis import given
from hypothesis import strategies as st

from messaging.client.bot.entries import (
    MAX_REASON,
    decode,
    encode,
    id_of,
    read_parked,
    read_parked_id,
    read_waiting,
    waiting_for,
    write_parked,
    write_waiting,
)
from messaging.client.bot.timers import TimerDue
from tests.messaging.client.bot.events import ANN, a_conversation, a_message

KEY = a_conversation()
moments = st.integers(0, 2**53)


@given(attempts=st.integers(0, 255), begun=st.booleans(), at=moments, number=st.integers(1, 2**40))
def test_a_waiting_event(attempts: int, begun: bool, at: int, number: int) -> None:
    event = a_message(KEY, 1)
    waiting = waiting_for(number, event, at)
    entry = read_waiting(number, write_waiting(waiting, attempts, encode(event), begun=begun))
    assert (entry.waiting, entry.attempts, entry.begun) == (waiting, attempts, begun)
    assert decode(entry.event) == event
    assert waiting.id.hex() == event.id


@given(attempts=st.integers(0, 255), at=moments, reason=st.text(max_size=2 * MAX_REASON))
def test_a_parked_event(attempts: int, at: int, reason: str) -> None:
    event = a_message(KEY, 1)
    entry = write_parked(id_of(event), attempts, at, reason, encode(event))
    read = read_parked(entry)
    assert read[:2] == (attempts, at)
    assert len(read[2]) <= MAX_REASON
    assert reason.isascii() is False or read[2] == reason[:MAX_REASON]
    assert decode(read[3]) == event
    assert read_parked_id(entry) == id_of(event)


def test_a_timer_is_an_event_like_any_other() -> None:
    timer = TimerDue(KEY, ANN, 1, "key", "name", "data")
    assert decode(encode(timer)) == timer
