"""A device loses nothing and shows nothing twice, whatever breaks between it and its peers."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from messaging.client import (
    ContentTooLarge,
    CredentialsRevoked,
    Device,
    Displaced,
    IdentityChanged,
    InvalidNumber,
    NotRegistered,
    Received,
    RegistrationRefused,
    Relay,
    RelayUnreachable,
    Store,
    TrustRootChanged,
    UnknownRecipient,
)
from messaging.client.prekeys import BATCH
from messaging.wire.content import DataMessage
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import MAX_CONTENT
from signal_protocol.operations import SignalCrypto
from tests.messaging.client.conftest import KEY, Register
from tests.relays import Relays, StartedRelay

ANN, BOB = "+4915550000201", "+4915550000202"


async def receive(device: Device, count: int) -> list[str]:
    """The bodies of the next messages, each marked as done."""
    bodies: list[str] = []
    async with asyncio.timeout(20):
        async for received in device.received():
            assert isinstance(received.content, DataMessage)
            bodies.append(received.content.body)
            await device.done(received)
            if len(bodies) == count:
                break
    return bodies


async def first_problem(device: Device) -> object:
    """The first problem that the device tells of."""
    for _ in range(500):
        if problems := device.problems():
            return problems[0]
        await asyncio.sleep(0.02)
    raise TimeoutError


async def test_two_people_talk(register: Register) -> None:
    ann, bob = await register(ANN), await register(BOB)
    for number in range(5):
        await ann.send(bob.service_id, DataMessage(f"hello {number}", number))
    assert await receive(bob, 5) == [f"hello {number}" for number in range(5)]
    await bob.send(ann.service_id, DataMessage("hello back", 1))
    assert await receive(ann, 1) == ["hello back"]
    assert ann.problems() == bob.problems() == []


async def test_a_message_comes_from_its_authenticated_sender(register: Register) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.send(bob.service_id, DataMessage("hello", 1))
    received: Received = await anext(aiter(bob.received()))
    assert received.sender == ann.address
    assert not received.sealed
    assert received.server_timestamp > 0


async def test_safety_numbers_are_the_same_on_both_sides(register: Register) -> None:
    ann, bob = await register(ANN), await register(BOB)
    assert await ann.fetch_identity(bob.service_id) == bob.identity_key
    await ann.send(bob.service_id, DataMessage("hello", 1))
    await receive(bob, 1)
    number = await ann.safety_number(bob.service_id)
    assert number.digits == (await bob.safety_number(ann.service_id)).digits
    assert len(number.digits) == 60


async def test_sends_at_once_to_one_person_arrive_in_their_order(register: Register) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await asyncio.gather(*(ann.send(bob.service_id, DataMessage(str(number), number)) for number in range(10)))
    assert await receive(bob, 10) == [str(number) for number in range(10)]


async def test_what_arrived_is_shown_again_until_it_is_done(
    register: Register, client_relay: Relay, crypto: SignalCrypto, sqlite_relay: StartedRelay, tmp_path: Path
) -> None:
    ann = await register(ANN)

    async def code() -> str:
        return sqlite_relay.last_code(BOB)

    async with Store.open(tmp_path / "bob.db", KEY) as store:
        bob = await Device.register(store, client_relay, crypto, number=BOB, code=code)
        async with bob:
            await ann.send(bob.service_id, DataMessage("hello", 1))
            assert (await anext(aiter(bob.received()))).content == DataMessage("hello", 1)
    async with Store.open(tmp_path / "bob.db", KEY) as store:  # as after a crash: it was never done
        again = await Device.open(store, client_relay, crypto)
        async with again:
            assert await receive(again, 1) == ["hello"]
            await ann.send(again.service_id, DataMessage("next", 2))
            assert await receive(again, 1) == ["next"]


async def test_what_the_relay_never_confirmed_goes_out_again_and_arrives_once(
    register: Register,
    client_relay: Relay,
    crypto: SignalCrypto,
    relays: Relays,
    sqlite_relay: StartedRelay,
    tmp_path: Path,
) -> None:
    bob = await register(BOB)

    async def code() -> str:
        return sqlite_relay.last_code(ANN)

    async with Store.open(tmp_path / "ann.db", KEY) as store:
        ann = await Device.register(store, client_relay, crypto, number=ANN, code=code, deadline=0.5)
        with pytest.raises(RelayUnreachable):  # it is not connected, so that no answer can come
            await ann.send(bob.service_id, DataMessage("late", 1))
    async with Store.open(tmp_path / "ann.db", KEY) as store:
        again = await Device.open(store, client_relay, crypto)
        async with again:
            assert await receive(bob, 1) == ["late"]
            await again.send(bob.service_id, DataMessage("after", 2))
            assert await receive(bob, 1) == ["after"]


async def test_a_peer_with_new_keys_is_not_written_to_until_it_is_trusted(
    register: Register, client_relay: Relay, crypto: SignalCrypto, sqlite_relay: StartedRelay, tmp_path: Path
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.send(bob.service_id, DataMessage("before", 1))
    await receive(bob, 1)

    async def code() -> str:
        return sqlite_relay.last_code(BOB)

    async with Store.open(tmp_path / "new.db", KEY) as store:
        renewed = await Device.register(store, client_relay, crypto, number=BOB, code=code)
        async with renewed:
            assert renewed.service_id == bob.service_id
            with pytest.raises(IdentityChanged) as changed:
                await ann.send(bob.service_id, DataMessage("secret for the old bob", 2))
            assert changed.value.identity_key == renewed.identity_key
            await ann.trust(bob.service_id, renewed.identity_key)
            await ann.send(bob.service_id, DataMessage("for the new bob", 3))
            assert await receive(renewed, 1) == ["for the new bob"]
    with pytest.raises(CredentialsRevoked):
        await anext(aiter(bob.received()))


async def test_what_a_peer_with_new_keys_writes_is_held_back_until_it_is_trusted(
    register: Register, client_relay: Relay, crypto: SignalCrypto, sqlite_relay: StartedRelay, tmp_path: Path
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await bob.send(ann.service_id, DataMessage("before", 1))
    await receive(ann, 1)

    async def code() -> str:
        return sqlite_relay.last_code(BOB)

    async with Store.open(tmp_path / "new.db", KEY) as store:
        renewed = await Device.register(store, client_relay, crypto, number=BOB, code=code)
        async with renewed:
            await renewed.send(ann.service_id, DataMessage("it is me", 2))
            problem = await first_problem(ann)
            assert isinstance(problem, IdentityChanged)
            assert problem.identity_key == renewed.identity_key
            await ann.trust(problem.service_id, problem.identity_key)
            assert await receive(ann, 1) == ["it is me"]


async def test_prekeys_are_topped_up(register: Register, client_relay: Relay) -> None:
    ann = await register(ANN)
    async with asyncio.timeout(20):
        while True:
            answer = await ann._connection.request("GET", "/v2/keys?identity=aci")
            if f'"count":{BATCH}' in (answer.body or b"").decode():
                break
            await asyncio.sleep(0.05)


async def test_wrong_codes_recipients_and_sizes_are_named(
    register: Register, client_relay: Relay, crypto: SignalCrypto, tmp_path: Path
) -> None:
    async def wrong() -> str:
        return "000000"

    async with Store.open(tmp_path / "x.db", KEY) as store:
        with pytest.raises(RegistrationRefused):
            await Device.register(store, client_relay, crypto, number="+4915550000299", code=wrong)
        with pytest.raises(InvalidNumber):
            await Device.register(store, client_relay, crypto, number="not a number", code=wrong)
        with pytest.raises(RegistrationRefused):
            await Device.register_assistant(store, client_relay, crypto, name="assistant", token="wrong")
        with pytest.raises(NotRegistered):
            await Device.open(store, client_relay, crypto)
    ann = await register(ANN)
    nobody = ServiceId.parse("00000000-0000-4000-8000-000000000001")
    with pytest.raises(UnknownRecipient):
        await ann.send(nobody, DataMessage("hello", 1))
    with pytest.raises(ContentTooLarge):
        await ann.send(nobody, DataMessage("x" * MAX_CONTENT, 1))


async def test_a_second_connection_of_the_same_device_ends_the_first(
    register: Register, client_relay: Relay, crypto: SignalCrypto
) -> None:
    ann = await register(ANN)
    async with Device(ann._store, client_relay, crypto, ann._account) as second:
        await second.ready()
        with pytest.raises(Displaced):
            await anext(aiter(ann.received()))


async def test_another_relay_is_noticed(
    register: Register,
    relays: Relays,
    client_relay: Relay,
    crypto: SignalCrypto,
    sqlite_relay: StartedRelay,
    tmp_path: Path,
) -> None:
    async def code() -> str:
        return sqlite_relay.last_code(ANN)

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.open(tmp_path / "ann.db", KEY))
        await Device.register(store, client_relay, crypto, number=ANN, code=code)
        other = await stack.enter_async_context(Relay((await relays.start("sqlite")).url))
        with pytest.raises(TrustRootChanged):
            await Device.open(store, other, crypto)
        nowhere = await stack.enter_async_context(Relay("http://127.0.0.1:9"))
        with pytest.raises(RelayUnreachable):
            await Device.open(store, nowhere, crypto)


async def test_the_file_of_a_device_shows_nothing(register: Register, tmp_path: Path) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.send(bob.service_id, DataMessage("canary in the message", 1))
    await anext(aiter(bob.received()))
    secrets = [b"canary", ANN[1:].encode(), BOB[1:].encode(), ann._account.password.encode(), KEY]
    secrets += [
        ann._account.identity.private_key,
        ann.identity_key[1:],
        str(bob.service_id).encode(),
        bob.service_id.uuid.bytes,
    ]
    for path in list(tmp_path.glob("+*.db*")):  # noqa: ASYNC240  # a handful of small files
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret in data]
        assert path.stat().st_mode & 0o077 == 0
