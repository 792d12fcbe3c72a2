"""A sender key that was given is there for whatever comes next, and gone once it is forgotten."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from messaging.client import Store
from messaging.client.distributions import Distributions
from messaging.client.stores import StoreTransaction
from messaging.wire.identifiers import DeviceAddress, ServiceId
from signal_protocol.errors import DuplicateMessage, NoSession
from signal_protocol.operations import SignalCrypto
from signal_protocol.sessions import SessionService
from signal_protocol.types import Address, LocalDevice

GROUP = uuid4()
ANN, BOB, CID = (ServiceId(uuid4()) for _ in range(3))
OF_ANN = DeviceAddress(ANN, 1)
SENDER = Address(str(ANN), 1)
Sessions = SessionService[StoreTransaction]


async def sessions_of(service_id: ServiceId, store: Store, crypto: SignalCrypto) -> Sessions:
    local = LocalDevice(Address(str(service_id), 1), await crypto.generate_identity(), 1)
    return SessionService(crypto, store, local)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with Store.open(":memory:", b"\x22" * 32) as opened:
        yield opened


@pytest.fixture
async def ann(crypto: SignalCrypto) -> AsyncIterator[Sessions]:
    async with Store.open(":memory:", b"\x33" * 32) as opened:
        yield await sessions_of(ANN, opened, crypto)


@pytest.fixture
async def bob(store: Store, crypto: SignalCrypto) -> Sessions:
    return await sessions_of(BOB, store, crypto)


async def keep(store: Store, distributions: Distributions, *messages: bytes) -> None:
    async with store.transaction() as transaction:
        for message in messages:
            distributions.keep(transaction, OF_ANN, message)


async def test_what_was_written_down_is_taken_over_by_whoever_comes_next(
    store: Store, ann: Sessions, bob: Sessions
) -> None:
    await keep(store, Distributions(store, bob), await ann.distribute_sender_key(GROUP))
    ciphertext = await ann.group_encrypt(GROUP, b"hello")
    with pytest.raises(NoSession):
        await bob.group_decrypt(SENDER, ciphertext)
    assert await Distributions(store, bob).take_over() == []  # as after a crash
    assert await bob.group_decrypt(SENDER, ciphertext) == b"hello"


async def test_a_key_that_is_given_again_keeps_what_was_read_read(store: Store, ann: Sessions, bob: Sessions) -> None:
    distributions, message = Distributions(store, bob), await ann.distribute_sender_key(GROUP)
    ciphertext = await ann.group_encrypt(GROUP, b"hello")
    await keep(store, distributions, message)
    await distributions.take_over()
    assert await bob.group_decrypt(SENDER, ciphertext) == b"hello"
    await keep(store, distributions, message, message)
    await distributions.take_over()
    with pytest.raises(DuplicateMessage):
        await bob.group_decrypt(SENDER, ciphertext)
    assert await bob.group_decrypt(SENDER, await ann.group_encrypt(GROUP, b"next")) == b"next"


async def test_more_than_one_page_is_taken_over_in_order_and_what_is_no_key_is_told(
    store: Store, ann: Sessions, bob: Sessions
) -> None:
    groups = [uuid4() for _ in range(101)]
    messages = [await ann.distribute_sender_key(group) for group in groups]
    distributions = Distributions(store, bob)
    await keep(store, distributions, *messages[:50], b"no key", *messages[50:])
    assert await distributions.take_over() == [OF_ANN]
    assert await distributions.take_over() == []
    for group in (groups[0], groups[-1]):
        assert await bob.group_decrypt(SENDER, await ann.group_encrypt(group, b"hello")) == b"hello"


@pytest.mark.parametrize("steps", [0, 2, 5, 10, 20])
async def test_a_key_that_is_forgotten_while_it_is_taken_over_does_not_come_back(
    store: Store, ann: Sessions, bob: Sessions, steps: int
) -> None:
    distributions = Distributions(store, bob)
    await keep(store, distributions, await ann.distribute_sender_key(GROUP))
    taking = asyncio.create_task(distributions.take_over())
    for _ in range(steps):
        await asyncio.sleep(0)
    await distributions.forget(ANN)
    assert await taking == []
    with pytest.raises(NoSession):
        await bob.group_decrypt(SENDER, await ann.group_encrypt(GROUP, b"hello"))


async def test_of_one_account_so_many_keys_are_kept_and_the_oldest_goes(
    store: Store, ann: Sessions, bob: Sessions
) -> None:
    distributions, groups = Distributions(store, bob, most=3), [uuid4() for _ in range(4)]
    messages = [await ann.distribute_sender_key(group) for group in groups]
    await keep(store, distributions, *messages[:3], messages[0])  # a key that is given again is no other one
    await distributions.take_over()
    for group in groups[:3]:
        assert await bob.group_decrypt(SENDER, await ann.group_encrypt(group, b"hello")) == b"hello"
    async with store.transaction() as transaction:
        distributions.keep(transaction, DeviceAddress(CID, 1), messages[3])  # of somebody else
    await distributions.take_over()
    assert await bob.group_decrypt(SENDER, await ann.group_encrypt(groups[0], b"still here")) == b"still here"
    await keep(store, distributions, messages[3])
    await distributions.take_over()
    with pytest.raises(NoSession):
        await bob.group_decrypt(SENDER, await ann.group_encrypt(groups[0], b"hello"))
    for group in groups[1:]:
        assert await bob.group_decrypt(SENDER, await ann.group_encrypt(group, b"hello")) == b"hello"


async def test_what_is_forgotten_takes_no_room(store: Store, ann: Sessions, bob: Sessions) -> None:
    distributions, groups = Distributions(store, bob, most=2), [uuid4() for _ in range(4)]
    messages = [await ann.distribute_sender_key(group) for group in groups]
    await keep(store, distributions, *messages[:2])
    await distributions.take_over()
    await distributions.forget(ANN)
    await keep(store, distributions, *messages[2:])
    await distributions.take_over()
    for group in groups[2:]:
        assert await bob.group_decrypt(SENDER, await ann.group_encrypt(group, b"hello")) == b"hello"
