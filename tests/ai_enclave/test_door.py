"""Every request meets an allowance of its sender, whatever it asks for; nobody is kept out by what others do."""

import asyncio
from contextlib import AsyncExitStack
from uuid import UUID

import pytest

from ai_enclave.door import Door
from ai_enclave.limits import CALLS_BURST, CALLS_OF_SENDER, MAX_CALLS, MAX_CONCURRENT_OF_SENDER, SECONDS_PER_CALL
from messaging.wire.identifiers import ServiceId


def account(number: int) -> ServiceId:
    return ServiceId(UUID(int=number))


ANN, BOB = account(1), account(2)


class Clock:
    """Seconds, as a test sets them."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(clock: Clock) -> Door:
    return Door(clock)


def visit(door: Door, sender: ServiceId) -> bool:
    """Come and go."""
    if admitted := door.admit(sender):
        door.leave(sender)
    return admitted


def test_so_many_are_let_in_after_a_rest_and_then_one_each_second(door: Door, clock: Clock) -> None:
    assert all(visit(door, ANN) for _ in range(CALLS_BURST))
    assert not visit(door, ANN)
    assert visit(door, BOB)
    clock.now = SECONDS_PER_CALL - 0.01
    assert not visit(door, ANN)
    clock.now = SECONDS_PER_CALL
    assert visit(door, ANN)
    assert not visit(door, ANN)


def test_few_of_one_sender_are_inside_at_a_time(door: Door) -> None:
    assert all(door.admit(ANN) for _ in range(CALLS_OF_SENDER))
    assert not door.admit(ANN)
    assert door.admit(BOB)
    door.leave(ANN)
    assert door.admit(ANN)
    assert not door.admit(ANN)


def test_who_is_not_let_in_has_not_paid(door: Door) -> None:
    assert all(door.admit(ANN) for _ in range(CALLS_OF_SENDER))
    assert not any(door.admit(ANN) for _ in range(CALLS_BURST))
    for _ in range(CALLS_OF_SENDER):
        door.leave(ANN)
    assert [visit(door, ANN) for _ in range(CALLS_BURST)].count(True) == CALLS_BURST - CALLS_OF_SENDER


async def test_fewer_of_one_sender_are_worked_on_while_others_go_ahead(door: Door) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MAX_CONCURRENT_OF_SENDER):
            await stack.enter_async_context(door.slot(ANN))
        waiting = asyncio.create_task(door.slot(ANN).__aenter__())
        await stack.enter_async_context(door.slot(BOB))
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


def test_so_many_are_inside_in_all_and_nobody_is_remembered_who_left(door: Door) -> None:
    assert all(door.admit(account(number)) for number in range(MAX_CALLS))
    assert not door.admit(account(MAX_CALLS))
    for number in range(MAX_CALLS):
        door.leave(account(number))
    assert len(door._inside) == len(door._own_slots) == 0
    assert door.admit(account(MAX_CALLS))
