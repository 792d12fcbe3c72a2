"""Exactly who is to read a message has its key: whoever else may have it makes a new key necessary."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.client import Store
from messaging.client.holders import (
    READY,
    Distribution,
    Holder,
    Holders,
    Installation,
    Plan,
    confirm,
    load_distribution,
    load_holders,
    offer,
    plan,
    promise,
    rotate,
)
from messaging.wire.identifiers import DeviceAddress, ServiceId

GROUP, OTHER_GROUP = uuid4(), uuid4()
BOB, CID = ServiceId(UUID(int=2)), ServiceId(UUID(int=3))
BOB_PHONE, BOB_LAPTOP, CID_PHONE = DeviceAddress(BOB, 1), DeviceAddress(BOB, 2), DeviceAddress(CID, 1)
INSTALLED = Installation(11, b"identity of bob")
OF_CID = Installation(12, b"identity of cid")

devices = st.builds(DeviceAddress, st.sampled_from([BOB, CID]), st.integers(1, 2))
installations = st.builds(Installation, st.integers(1, 2), st.sampled_from([b"one", b"two"]))
held = st.builds(
    Holders,
    st.dictionaries(st.builds(Holder, devices, installations), st.booleans()),
    st.frozensets(st.sampled_from([BOB, CID])),
)
recipients = st.dictionaries(devices, installations)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with Store.open(":memory:", b"\x22" * 32) as opened:
        yield opened


def test_the_first_message_needs_no_rotation_but_a_distribution() -> None:
    assert plan(Holders({}), {BOB_PHONE: INSTALLED, CID_PHONE: OF_CID}) == Plan(distribute_to=frozenset({BOB, CID}))


def test_nothing_is_to_be_done_when_exactly_the_recipients_have_the_key() -> None:
    assert plan(Holders({Holder(BOB_PHONE, INSTALLED): True}), {BOB_PHONE: INSTALLED}) == READY


def test_who_is_new_gets_the_present_key() -> None:
    now = plan(Holders({Holder(BOB_PHONE, INSTALLED): True}), {BOB_PHONE: INSTALLED, CID_PHONE: OF_CID})
    assert now == Plan(distribute_to=frozenset({CID}))


def test_a_new_device_of_a_member_gets_the_present_key() -> None:
    now = plan(Holders({Holder(BOB_PHONE, INSTALLED): True}), {BOB_PHONE: INSTALLED, BOB_LAPTOP: INSTALLED})
    assert now == Plan(distribute_to=frozenset({BOB}))


def test_a_device_that_was_only_offered_the_key_gets_it_again() -> None:
    assert plan(Holders({Holder(BOB_PHONE, INSTALLED): False}), {BOB_PHONE: INSTALLED}).distribute_to == {BOB}


@pytest.mark.parametrize(
    "holders",
    [
        Holders({Holder(BOB_PHONE, INSTALLED): True, Holder(CID_PHONE, OF_CID): True}),  # cid left
        Holders({Holder(BOB_PHONE, INSTALLED): True, Holder(CID_PHONE, OF_CID): False}),  # cid may have got it
        Holders({Holder(BOB_PHONE, INSTALLED): True}, frozenset({CID})),  # it is on its way to cid
        Holders({Holder(BOB_PHONE, INSTALLED): True, Holder(BOB_LAPTOP, INSTALLED): True}),  # a device was removed
        Holders({Holder(BOB_PHONE, Installation(99, INSTALLED.identity_key)): True}),  # the device is another one now
        Holders({Holder(BOB_PHONE, Installation(11, b"another identity")): True}),  # the account's identity changed
    ],
)
def test_whoever_may_have_the_key_and_is_no_recipient_makes_it_rotate(holders: Holders) -> None:
    assert plan(holders, {BOB_PHONE: INSTALLED}) == Plan(rotate=True, distribute_to=frozenset({BOB}))


@given(held, recipients)
def test_no_message_is_ready_while_somebody_else_may_have_its_key(
    holders: Holders, to: dict[DeviceAddress, Installation]
) -> None:
    wanted, everybody = plan(holders, to), {Holder(*item) for item in to.items()}
    accounts = {address.service_id for address in to}
    others = holders.devices.keys() - everybody or holders.promised - accounts
    assert wanted.rotate == bool(others)
    served = {holder for holder in everybody if holder.address.service_id in wanted.distribute_to}
    kept = set() if wanted.rotate else {holder for holder, certain in holders.devices.items() if certain}
    assert served | kept >= everybody


async def test_a_promise_is_kept_until_all_devices_of_the_account_have_the_key(store: Store) -> None:
    async with store.transaction() as transaction:
        key = load_distribution(transaction, GROUP)
        promise(transaction, key, BOB)
        assert load_holders(transaction, GROUP) == Holders({}, frozenset({BOB}))
        offer(transaction, key, Holder(BOB_PHONE, INSTALLED))
        assert load_holders(transaction, GROUP) == Holders({Holder(BOB_PHONE, INSTALLED): False}, frozenset({BOB}))
        confirm(transaction, key, BOB, [Holder(BOB_PHONE, INSTALLED)])
        assert load_holders(transaction, GROUP) == Holders({Holder(BOB_PHONE, INSTALLED): True})
        assert load_holders(transaction, OTHER_GROUP) == Holders({})


async def test_a_reinstalled_device_does_not_hide_who_had_the_key_under_its_address(store: Store) -> None:
    again = Installation(77, INSTALLED.identity_key)
    async with store.transaction() as transaction:
        key = load_distribution(transaction, GROUP)
        confirm(transaction, key, BOB, [Holder(BOB_PHONE, INSTALLED)])
        offer(transaction, key, Holder(BOB_PHONE, again))
        confirm(transaction, key, BOB, [Holder(BOB_PHONE, again)])
        assert plan(load_holders(transaction, GROUP), {BOB_PHONE: again}).rotate


async def test_a_rotation_begins_with_nobody_and_what_is_late_does_not_count(store: Store) -> None:
    async with store.transaction() as transaction:
        key = load_distribution(transaction, GROUP)
        promise(transaction, key, CID)
        confirm(transaction, key, BOB, [Holder(BOB_PHONE, INSTALLED)])
        rotate(transaction, GROUP)
        assert load_distribution(transaction, GROUP) == Distribution(GROUP, key.generation + 1)
        promise(transaction, key, CID)
        offer(transaction, key, Holder(CID_PHONE, OF_CID))
        confirm(transaction, key, BOB, [Holder(BOB_PHONE, INSTALLED)])
        assert load_holders(transaction, GROUP) == Holders({})
