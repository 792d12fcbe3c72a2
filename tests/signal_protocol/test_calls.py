"""Which calls go out, and who is blamed when the worker ends."""

import asyncio
from collections.abc import Callable

import pytest

from signal_protocol.calls import Call, CallQueue

MakeCall = Callable[[int], Call]


@pytest.fixture
async def a_call() -> MakeCall:
    loop = asyncio.get_running_loop()
    return lambda call_id: Call(call_id, "encrypt", b"frame", loop.create_future())


async def queue_of(a_call: MakeCall, count: int) -> tuple[CallQueue, list[Call]]:
    queue, calls = CallQueue(), [a_call(number) for number in range(1, count + 1)]
    for call in calls:
        queue.add(call)
    return queue, calls


async def test_all_calls_go_out_at_once_and_in_order(a_call: MakeCall) -> None:
    queue, calls = await queue_of(a_call, 3)
    assert queue.take_ready() == calls
    assert queue.take_ready() == []


async def test_a_call_is_answered_once(a_call: MakeCall) -> None:
    queue, [call] = await queue_of(a_call, 1)
    queue.take_ready()
    assert queue.take_answered(1) is call
    assert queue.take_answered(1) is None
    assert (len(queue), queue.bytes_held) == (0, 0)


async def test_after_an_end_the_calls_in_flight_go_out_one_at_a_time_and_before_newer_ones(a_call: MakeCall) -> None:
    queue, [first, second] = await queue_of(a_call, 2)
    queue.take_ready()
    assert queue.worker_ended() is None
    newer = a_call(3)
    queue.add(newer)
    assert queue.take_ready() == [first]
    assert queue.take_ready() == []
    queue.take_answered(1)
    assert queue.take_ready() == [second]
    queue.take_answered(2)
    assert queue.take_ready() == [newer]


async def test_the_call_that_is_alone_at_a_second_end_is_the_culprit(a_call: MakeCall) -> None:
    queue, [innocent, culprit, later] = await queue_of(a_call, 3)
    queue.take_ready()
    queue.worker_ended()
    assert queue.take_ready() == [innocent]
    queue.take_answered(1)
    assert queue.take_ready() == [culprit]
    assert queue.worker_ended() is culprit
    assert queue.take_ready() == [later]


async def test_a_hang_costs_the_oldest_call_and_the_others_become_suspects(a_call: MakeCall) -> None:
    queue, [first, second, third] = await queue_of(a_call, 3)
    queue.take_ready()
    assert queue.worker_hung() is first
    assert queue.take_ready() == [second]
    assert len(queue) == 2
    queue.take_answered(2)
    assert queue.take_ready() == [third]


async def test_a_replaced_worker_makes_nobody_a_suspect(a_call: MakeCall) -> None:
    queue, calls = await queue_of(a_call, 3)
    queue.take_ready()
    queue.take_answered(1)
    queue.put_back()
    assert queue.take_ready() == calls[1:]


async def test_a_call_whose_caller_left_is_not_sent(a_call: MakeCall) -> None:
    queue, [first, second] = await queue_of(a_call, 2)
    first.reply.cancel()
    assert queue.take_ready() == [second]
    assert queue.bytes_held == len(second.frame)
