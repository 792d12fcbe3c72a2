"""What comes under a new identity key waits until that is trusted, and never so much of it that nothing else comes."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from messaging.client import Device, IdentityChanged, RelayUnreachable
from messaging.client.held_back import MAX_HELD, MAX_HELD_OF_ONE, has_room
from messaging.wire.content import DataMessage
from messaging.wire.frames import Request
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import MAX_DELIVERIES, MAX_UNACKNOWLEDGED
from messaging.wire.messages import ParkedMessages
from signal_protocol.errors import WorkerBusy
from signal_protocol.operations import SignalCrypto
from signal_protocol.types import Address
from tests.messaging.client.conftest import Register
from tests.messaging.client.test_device import receive
from tests.messaging.client.world import soon, until

ANN, BOB, FRIEND = "+4915550000271", "+4915550000272", "+4915550000273"
SOMEBODY, SOMEBODY_ELSE = (ServiceId.parse(f"00000000-0000-4000-8000-{number:012}") for number in (1, 2))
Renewed = Callable[[], Awaitable[tuple[Device, Device]]]


@pytest.fixture
def renewed(register: Register, crypto: SignalCrypto) -> Renewed:
    """Ann, and Bob whose device has taken another identity key after Ann has heard of him."""

    async def made() -> tuple[Device, Device]:
        ann, bob = await register(ANN), await register(BOB)
        await bob.send(ann.service_id, DataMessage("before", 1))
        assert await receive(ann, 1) == ["before"]
        object.__setattr__(bob._sessions.local, "identity", await crypto.generate_identity())
        await bob._sessions.archive(Address(str(ann.service_id), ann.address.device_id))
        return ann, bob

    return made


def new_key(bob: Device) -> bytes:
    return bob._sessions.local.identity.public_key


async def write(bob: Device, ann: Device, count: int) -> list[str]:
    """Bob writes so many messages; returns their texts."""
    texts = [str(number) for number in range(count)]
    for number, text in enumerate(texts):
        await bob.send(ann.service_id, DataMessage(text, number + 2))
    return texts


async def connected_again(device: Device) -> None:
    """The device has another connection than before."""
    before = device._connection._socket
    await device._connection.reconnect()
    await soon(lambda: device._connection._socket not in (None, before))


async def parked_at_the_relay(device: Device) -> int:
    answer = await device._connection.request("GET", "/v1/messages/parked")
    return len(ParkedMessages.from_json(answer.body or b"").messages)


def test_there_is_room_for_some_of_each_account_and_for_a_few_accounts() -> None:
    assert MAX_HELD < MAX_UNACKNOWLEDGED // 2  # a relay reads on while half of its window is free
    assert has_room([SOMEBODY] * (MAX_HELD_OF_ONE - 1), SOMEBODY)
    assert not has_room([SOMEBODY] * MAX_HELD_OF_ONE, SOMEBODY)
    assert has_room([SOMEBODY] * MAX_HELD_OF_ONE, SOMEBODY_ELSE)
    assert has_room([SOMEBODY] * (MAX_HELD - 1), SOMEBODY_ELSE)
    assert not has_room([SOMEBODY] * MAX_HELD, SOMEBODY_ELSE)


async def test_all_of_it_comes_in_its_order_once_it_is_trusted_also_what_there_was_no_room_for(
    renewed: Renewed, register: Register
) -> None:
    ann, bob = await renewed()
    friend = await register(FRIEND)
    texts = await write(bob, ann, MAX_HELD_OF_ONE + 3)
    await friend.send(ann.service_id, DataMessage("from a friend", 1))
    assert await receive(ann, 1) == ["from a friend"]
    assert len(ann._held_back) == MAX_HELD_OF_ONE
    [problem] = ann.problems()
    assert isinstance(problem, IdentityChanged)
    assert (problem.service_id, problem.identity_key) == (bob.service_id, new_key(bob))
    await ann.trust(bob.service_id, new_key(bob))
    assert await receive(ann, len(texts)) == texts
    assert ann.problems() == []


async def test_what_was_refused_so_often_that_the_relay_parked_it_comes_too(renewed: Renewed) -> None:
    ann, bob = await renewed()
    texts = await write(bob, ann, MAX_HELD_OF_ONE + 2)
    connections = 0

    async def is_parked() -> bool:
        nonlocal connections
        await soon(lambda: len(ann._held_back) == MAX_HELD_OF_ONE)
        if await parked_at_the_relay(ann) == 2:
            return True
        connections += 1
        await connected_again(ann)
        return False

    await until(is_parked)
    assert connections >= MAX_DELIVERIES - 1
    await ann.trust(bob.service_id, new_key(bob))
    assert await receive(ann, len(texts)) == texts
    assert await parked_at_the_relay(ann) == 0


async def test_what_cannot_be_taken_in_just_now_is_still_held_and_comes_with_the_next_try(
    renewed: Renewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await renewed()
    texts = await write(bob, ann, 3)
    await soon(lambda: len(ann._held_back) == 3)
    decrypt = ann._sessions.decrypt
    failures = [1]

    async def fails_at_the_second(*args: object) -> object:
        if len(ann._held_back) == 2 and failures:
            failures.pop()
            raise WorkerBusy
        return await decrypt(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(ann._sessions, "decrypt", fails_at_the_second)
    with pytest.raises(RelayUnreachable):
        await ann.trust(bob.service_id, new_key(bob))
    assert len(ann._held_back) == 2
    await ann.trust(bob.service_id, new_key(bob))
    assert await receive(ann, 3) == texts
    assert len(ann._held_back) == 0


async def test_what_was_held_back_on_a_connection_that_is_gone_answers_nothing_on_the_next_one(
    renewed: Renewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await renewed()
    texts = await write(bob, ann, 2)
    await soon(lambda: len(ann._held_back) == 2)
    answered: list[int] = []
    answer, decrypt = ann._connection.answer, ann._sessions.decrypt
    first_connection = [True]

    async def and_connects_again(*args: object) -> object:
        result = await decrypt(*args)  # type: ignore[arg-type]
        if first_connection:
            first_connection.pop()
            monkeypatch.setattr(ann._connection, "answer", note)
            await connected_again(ann)
            await soon(lambda: len(answered) == 2)  # both came again
        return result

    async def note(request: Request, status: int) -> None:
        if request.path == "/api/v1/message":
            answered.append(status)
        await answer(request, status)

    monkeypatch.setattr(ann._sessions, "decrypt", and_connects_again)
    await ann.trust(bob.service_id, new_key(bob))
    assert await receive(ann, 2) == texts
    await asyncio.sleep(0.05)
    assert answered == [200, 200]
