"""A bounded number at a time, tenants in turn, the urgent first, and no place is ever lost."""

import asyncio
import random
from collections.abc import Callable

import pytest

from ai_enclave.engine import peer_turns
from ai_enclave.engine.interface import Failure
from ai_enclave.engine.peer_turns import Turns
from ai_enclave.engine.peer_wire import NoAnswer


class Crowd:
    """Requests that have a place until they are told to leave."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.served: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.leave: dict[str, asyncio.Event] = {}

    async def comes(self, name: str, priority: int = 0) -> None:
        """``name`` begins with the letter of its tenant."""
        self.leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._be(name, priority))
        await settle()

    async def goes(self, name: str) -> None:
        self.leave[name].set()
        await settle()

    async def gives_up(self, name: str) -> None:
        self.tasks[name].cancel()
        await settle()

    async def _be(self, name: str, priority: int) -> None:
        async with self.turns.turn(name[0].encode(), priority):
            self.served.append(name)
            await self.leave[name].wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_than_there_are_places() -> None:
    crowd = Crowd(Turns(2))
    for name in ("a1", "a2", "a3"):
        await crowd.comes(name)
    assert crowd.served == ["a1", "a2"]
    assert (crowd.turns.running, crowd.turns.waiting) == (2, 1)
    await crowd.goes("a1")
    assert crowd.served == ["a1", "a2", "a3"]
    await crowd.goes("a2")
    await crowd.goes("a3")
    assert (crowd.turns.running, crowd.turns.waiting) == (0, 0)


async def test_tenants_take_turns_and_a_newcomer_waits_for_one_of_each() -> None:
    crowd = Crowd(Turns(1))
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        await crowd.comes(name)
    for name in ("a1", "a2", "b1", "c1", "a3", "b2"):
        assert crowd.served[-1] == name
        await crowd.goes(name)


async def test_the_urgent_come_first_among_a_tenants_own() -> None:
    crowd = Crowd(Turns(1))
    await crowd.comes("a1")
    for name, priority in (("a2", 0), ("a3", 5), ("a4", 5), ("b1", 0)):
        await crowd.comes(name, priority)
    for name in ("a1", "a3", "b1", "a4", "a2"):
        assert crowd.served[-1] == name
        await crowd.goes(name)


async def test_who_gives_up_is_not_served_and_loses_no_place() -> None:
    crowd = Crowd(Turns(1))
    for name in ("a1", "b1", "c1"):
        await crowd.comes(name)
    await crowd.gives_up("b1")
    await crowd.gives_up("a1")
    assert crowd.served == ["a1", "c1"]
    await crowd.goes("c1")
    assert (crowd.turns.running, crowd.turns.waiting) == (0, 0)


async def test_a_place_that_was_given_to_who_gives_up_goes_on() -> None:
    crowd = Crowd(Turns(1))
    for name in ("a1", "b1", "c1"):
        await crowd.comes(name)
    crowd.leave["a1"].set()
    await asyncio.sleep(0)  # a1 leaves, b1 has its place and has not run yet
    crowd.tasks["b1"].cancel()
    await settle()
    assert crowd.served == ["a1", "c1"]


@pytest.mark.parametrize(
    ("limit", "name"),
    [(peer_turns.MAX_WAITING_OF_TENANT, lambda _: "a"), (peer_turns.MAX_WAITING, lambda n: chr(n + 200))],
)
async def test_beyond_the_bounds_it_is_busy(limit: int, name: Callable[[int], str]) -> None:
    crowd = Crowd(Turns(1))
    await crowd.comes("x")
    for number in range(limit):
        crowd.tasks[f"{number}"] = asyncio.create_task(_wait(crowd.turns, name(number)))
    await settle()
    assert crowd.turns.waiting == limit
    with pytest.raises(NoAnswer) as caught:
        await _wait(crowd.turns, name(limit))
    assert caught.value.why is Failure.BUSY
    assert crowd.turns.waiting == limit
    for task in crowd.tasks.values():
        task.cancel()
    await asyncio.gather(*crowd.tasks.values(), return_exceptions=True)
    assert (crowd.turns.running, crowd.turns.waiting) == (0, 0)


async def _wait(turns: Turns, tenant: str) -> None:
    async with turns.turn(tenant.encode()):
        pass


async def test_after_any_coming_and_going_all_places_are_free() -> None:
    dice, turns, most = random.Random(1), Turns(3), 0  # noqa: S311

    async def visit() -> None:
        nonlocal most
        async with turns.turn(dice.choice([b"a", b"b", b"c"]), dice.randrange(3)):
            most = max(most, turns.running)
            await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    for _ in range(300):
        tasks.append(asyncio.create_task(visit()))
        if dice.random() < 0.3:
            dice.choice(tasks).cancel()
        if dice.random() < 0.5:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (turns.running, turns.waiting) == (0, 0)
    assert most == 3
