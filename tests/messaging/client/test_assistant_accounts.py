"""Who is treated as an assistant: whoever has proved it, and strangers that are listed. Never a person whom the device knows."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from messaging.client import Store
from messaging.client.assistant_accounts import AssistantAccounts, UnsafeAnyAccount
from messaging.wire.identifiers import ServiceId

ME, BOB, ENCLAVE = (ServiceId(uuid4()) for _ in range(3))


@dataclass
class Known:
    """The identity keys that a device has seen, and who is in its conversations."""

    service_id: ServiceId = ME
    keys: dict[ServiceId, bytes] = field(default_factory=dict)
    members: set[ServiceId] = field(default_factory=set)

    async def trusted_identity(self, service_id: ServiceId) -> bytes | None:
        return self.keys.get(service_id)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with Store.open(":memory:", bytes(32)) as opened:
        yield opened


async def accounts_of(store: Store, known: Known) -> AssistantAccounts:
    return await AssistantAccounts.load(store, known, known.members.__contains__)


async def test_a_stranger_that_is_listed_may_be_one_and_may_have_other_keys_later(store: Store) -> None:
    known = Known()
    accounts = await accounts_of(store, known)
    assert await accounts.admit(ENCLAVE)
    known.keys[ENCLAVE] = b"key"  # it was asked for evidence
    assert await accounts.admit(ENCLAVE)
    assert await (await accounts_of(store, known)).admit(ENCLAVE)
    assert not accounts.has_proved(ENCLAVE)


async def test_who_was_heard_of_before_is_a_person(store: Store) -> None:
    accounts = await accounts_of(store, Known(keys={BOB: b"key"}))
    assert not await accounts.admit(BOB)


async def test_who_was_heard_of_by_answers_alone_was_asked_by_another_own_device(store: Store) -> None:
    known = Known(keys={ENCLAVE: b"key", BOB: b"key"}, members={BOB})
    accounts = await accounts_of(store, known)
    for sender in (ENCLAVE, BOB, ME):
        await accounts.note_answering(sender)
    for again in (accounts, await accounts_of(store, known)):
        assert await again.admit(ENCLAVE)
        assert not again.has_proved(ENCLAVE)
        assert not await again.admit(BOB)  # a member is a person, whatever they send
        assert not await again.admit(ME)


async def test_the_own_account_and_members_are_people(store: Store) -> None:
    accounts = await accounts_of(store, Known(members={BOB}))
    assert not await accounts.admit(ME)
    assert not await accounts.admit(BOB)


async def test_a_listed_stranger_who_becomes_a_member_stays_a_person_afterwards(store: Store) -> None:
    known = Known()
    accounts = await accounts_of(store, known)
    assert await accounts.admit(BOB)
    known.keys[BOB] = b"key"
    await accounts.note_members([ME, BOB])
    assert not await accounts.admit(BOB)
    assert not await (await accounts_of(store, known)).admit(BOB)


async def test_an_enclave_that_has_proved_itself_stays_one_whoever_calls_it_a_member(store: Store) -> None:
    known = Known()
    accounts = await accounts_of(store, known)
    assert await accounts.admit(ENCLAVE)
    await accounts.note_proved(ENCLAVE)
    known.keys[ENCLAVE], known.members = b"key", {ENCLAVE}
    await accounts.note_members([ENCLAVE])
    for again in (accounts, await accounts_of(store, known)):
        assert again.has_proved(ENCLAVE)
        assert await again.admit(ENCLAVE)


async def test_unless_the_user_says_that_it_is_a_person(store: Store) -> None:
    known = Known(keys={ENCLAVE: b"key"})
    accounts = await accounts_of(store, known)
    await accounts.note_proved(ENCLAVE)
    await accounts.note_person(ENCLAVE)
    await accounts.note_person(BOB)
    for again in (accounts, await accounts_of(store, known)):
        assert not again.has_proved(ENCLAVE)
        assert not await again.admit(ENCLAVE)


async def test_for_a_device_that_knows_nobody_any_account_may_be_one() -> None:
    accounts = UnsafeAnyAccount()
    assert await accounts.admit(BOB)
    await accounts.note_proved(BOB)
