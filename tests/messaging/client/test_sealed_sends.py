"""A message is sealed whenever its recipient may be sent to so: the relay does not learn who wrote, and nothing gets lost for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from messaging.client import (
    ContentTooLarge,
    Device,
    IdentityChanged,
    Received,
    RelayUnreachable,
    Store,
    Undecryptable,
    UnknownRecipient,
)
from messaging.client.requests import PAUSE
from messaging.wire.content import DataMessage, ProfileKeyUpdate
from messaging.wire.frames import Response
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import MAX_CONTENT
from signal_protocol.operations import SignalCrypto
from signal_protocol.public import verify_signature
from tests.messaging.client.conftest import KEY, Link, Register
from tests.messaging.client.watched import Ask, Crash, Sent, WatchedRelay, answer_lost_and_crash, away
from tests.relays import StartedRelay

ANN, BOB = "+4915550000221", "+4915550000222"
HOUR = 60 * 60 * 1000


@pytest.fixture
async def client_relay(sqlite_relay: StartedRelay) -> AsyncIterator[WatchedRelay]:
    """Stands for the relay of the same name: what devices ask over HTTP is watched."""
    async with WatchedRelay(sqlite_relay.url) as relay:
        yield relay


async def next_from(device: Device) -> Received:
    """The next message, marked as done."""
    async with asyncio.timeout(20):
        received = await anext(aiter(device.received()))
    await device.done(received)
    return received


async def body_from(device: Device) -> str:
    """Its text."""
    content = (await next_from(device)).content
    assert isinstance(content, DataMessage)
    return content.body


async def first_problem(device: Device) -> object:
    for _ in range(500):
        if problems := device.problems():
            return problems[0]
        await asyncio.sleep(0.02)
    raise TimeoutError


async def test_who_knows_the_profile_key_sends_sealed(register: Register, client_relay: WatchedRelay) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.send(bob.service_id, DataMessage("before", 1))
    assert client_relay.sends == []
    assert not (await next_from(bob)).sealed
    await ann.learn_profile_key(bob.service_id, bob.profile_key)
    for number in range(3):
        await ann.send(bob.service_id, DataMessage(f"sealed {number}", number))
        received = await next_from(bob)
        assert (received.sender, received.sealed) == (ann.address, True)
        assert received.content == DataMessage(f"sealed {number}", number)
    assert len(client_relay.sends) == 3
    for sent in client_relay.sends:
        assert "Authorization" not in sent.headers
        everything = repr(dict(sent.headers)).encode() + sent.path.encode() + sent.body
        assert str(ann.service_id).encode() not in everything
        assert ann.service_id.uuid.bytes not in everything


async def test_a_profile_key_that_arrives_is_learnt_and_not_shown(
    register: Register, client_relay: WatchedRelay
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await bob.send(ann.service_id, ProfileKeyUpdate(bob.profile_key))
    await bob.send(ann.service_id, DataMessage("here is my key", 1))
    assert await body_from(ann) == "here is my key"
    await ann.send(bob.service_id, DataMessage("thank you", 2))
    assert (await next_from(bob)).sealed


async def test_anybody_sends_to_an_assistant_sealed(
    register: Register, client_relay: WatchedRelay, crypto: SignalCrypto, sqlite_relay: StartedRelay
) -> None:
    ann, token = await register(ANN), sqlite_relay.assistant_token
    async with Store.open(":memory:", KEY) as store:
        assistant = await Device.register_assistant(store, client_relay, crypto, name="assistant", token=token)
        async with assistant:
            await ann.mark_unrestricted(assistant.service_id)
            await ann.send(assistant.service_id, DataMessage("hello", 1))
            received = await next_from(assistant)
            assert (received.sender, received.sealed) == (ann.address, True)
    assert len(client_relay.sends) == 1


async def test_every_device_of_the_recipient_gets_it(register: Register, link: Link) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.learn_profile_key(bob.service_id, bob.profile_key)
    await ann.send(bob.service_id, DataMessage("to one", 1))
    laptop = await link(bob)
    await ann.send(bob.service_id, DataMessage("to both", 2))
    assert [await body_from(bob), await body_from(bob), await body_from(laptop)] == ["to one", "to both", "to both"]
    await bob.remove_device(laptop.address.device_id)
    await ann.send(bob.service_id, DataMessage("to one again", 3))
    assert await body_from(bob) == "to one again"


async def test_to_ones_own_devices_nothing_is_sealed_since_the_relay_must_leave_out_who_sends(
    register: Register, link: Link, client_relay: WatchedRelay
) -> None:
    ann = await register(ANN)
    laptop = await link(ann)
    await ann.learn_profile_key(ann.service_id, ann.profile_key)
    await ann.send_to_own_devices(DataMessage("to my laptop", 1))
    assert await body_from(laptop) == "to my laptop"
    assert client_relay.sends == []


async def test_a_refused_access_key_is_forgotten_and_the_message_arrives_the_other_way(
    register: Register, client_relay: WatchedRelay
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.learn_profile_key(bob.service_id, bytes(32))
    await ann.send(bob.service_id, DataMessage("once", 1))
    assert await body_from(bob) == "once"
    assert len(client_relay.sends) == 1
    await ann.send(bob.service_id, DataMessage("twice", 2))
    assert len(client_relay.sends) == 1  # not tried again
    received = await next_from(bob)
    assert (received.content, received.sealed) == (DataMessage("twice", 2), False)


async def test_what_was_refused_stays_refused_only_for_that_key(register: Register, client_relay: WatchedRelay) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.learn_profile_key(bob.service_id, bytes(32))
    await ann.send(bob.service_id, DataMessage("one", 1))
    await ann.learn_profile_key(bob.service_id, bob.profile_key)
    await ann.send(bob.service_id, DataMessage("two", 2))
    assert [await body_from(bob), await body_from(bob)] == ["one", "two"]
    assert len(client_relay.sends) == 2


async def test_an_unknown_account_is_named_although_the_relay_does_not_tell_strangers(register: Register) -> None:
    ann, nobody = await register(ANN), ServiceId.parse("00000000-0000-4000-8000-000000000001")
    await ann.learn_profile_key(nobody, bytes(32))
    with pytest.raises(UnknownRecipient):
        await ann.send(nobody, DataMessage("hello", 1))
    with pytest.raises(ContentTooLarge):
        await ann.send(nobody, DataMessage("x" * MAX_CONTENT, 1))


async def test_a_busy_relay_is_asked_again(register: Register, client_relay: WatchedRelay) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.learn_profile_key(bob.service_id, bob.profile_key)
    answers = [Response(0, 429, headers={"retry-after": "0"}), Response(0, 503, headers={"retry-after": "0"})]

    async def busy(_sent: Sent, ask: Ask) -> Response:
        return answers.pop() if answers else await ask()

    client_relay.fault = busy
    await ann.send(bob.service_id, DataMessage("at last", 1))
    assert await body_from(bob) == "at last"
    assert len({sent.body for sent in client_relay.sends}) == 1


async def test_a_lost_answer_repeats_the_same_ciphertext_which_arrives_once(
    register: Register, client_relay: WatchedRelay
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.learn_profile_key(bob.service_id, bob.profile_key)
    lost = 2

    async def lose(_sent: Sent, ask: Ask) -> Response:
        nonlocal lost
        answer, lost = await ask(), lost - 1
        if lost >= 0:
            raise RelayUnreachable
        return answer

    client_relay.fault = lose
    await ann.send(bob.service_id, DataMessage("once", 1))
    await ann.send(bob.service_id, DataMessage("next", 2))
    assert [await body_from(bob), await body_from(bob)] == ["once", "next"]
    first, second, third, _ = client_relay.sends
    assert first.body == second.body == third.body
    assert bob.problems() == []


async def test_what_was_sealed_before_a_crash_goes_out_once_and_in_order(
    register: Register, client_relay: WatchedRelay, crypto: SignalCrypto, sqlite_relay: StartedRelay, tmp_path: Path
) -> None:
    bob = await register(BOB)

    async def code() -> str:
        return sqlite_relay.last_code(ANN)

    async with Store.open(tmp_path / "ann.db", KEY) as store:
        ann = await Device.register(store, client_relay, crypto, number=ANN, code=code)
        async with ann:
            await ann.learn_profile_key(bob.service_id, bob.profile_key)
            client_relay.fault = answer_lost_and_crash(lambda sent: sent.verb == "PUT")
            with pytest.raises(Crash):
                await ann.send(bob.service_id, DataMessage("first", 1))
    client_relay.fault = None
    async with Store.open(tmp_path / "ann.db", KEY) as store:
        again = await Device.open(store, client_relay, crypto)
        async with again:
            await again.send(bob.service_id, DataMessage("second", 2))
            assert [await body_from(bob), await body_from(bob)] == ["first", "second"]
    assert len({sent.body for sent in client_relay.sends}) == 2


async def test_what_waited_longer_than_its_certificate_is_sealed_anew(
    register: Register, client_relay: WatchedRelay, crypto: SignalCrypto, sqlite_relay: StartedRelay, tmp_path: Path
) -> None:
    bob = await register(BOB)

    async def code() -> str:
        return sqlite_relay.last_code(ANN)

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.open(tmp_path / "ann.db", KEY))
        ann = await Device.register(store, client_relay, crypto, number=ANN, code=code, deadline=5 * PAUSE)
        async with ann:
            await ann.learn_profile_key(bob.service_id, bob.profile_key)
            client_relay.fault = away(lambda sent: sent.verb == "PUT")
            with pytest.raises(RelayUnreachable):
                await ann.send(bob.service_id, DataMessage("late", 1))
        client_relay.fault = None
        stale = client_relay.sends[-1].body
        later = await Device.open(store, client_relay, crypto, now=lambda: ann._now() + 30 * HOUR)
        async with later:
            assert await body_from(bob) == "late"
    assert client_relay.sends[-1].body != stale


async def test_what_was_encrypted_before_the_access_was_known_goes_out_as_it_is(
    register: Register, client_relay: WatchedRelay, crypto: SignalCrypto, sqlite_relay: StartedRelay, tmp_path: Path
) -> None:
    bob = await register(BOB)

    async def code() -> str:
        return sqlite_relay.last_code(ANN)

    async with Store.open(tmp_path / "ann.db", KEY) as store:
        ann = await Device.register(store, client_relay, crypto, number=ANN, code=code, deadline=5 * PAUSE)
        async with ann:
            await ann.send(bob.service_id, DataMessage("one", 1))
        with pytest.raises(RelayUnreachable):  # it is not connected any more
            await ann.send(bob.service_id, DataMessage("two", 2))
        await ann.learn_profile_key(bob.service_id, bob.profile_key)
        again = await Device.open(store, client_relay, crypto)
        async with again:
            assert [await body_from(bob), await body_from(bob)] == ["one", "two"]
    assert client_relay.sends == []


async def test_a_sealed_message_that_waited_for_its_reader_for_days_is_read(
    register: Register, client_relay: WatchedRelay, crypto: SignalCrypto, tmp_path: Path
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.learn_profile_key(bob.service_id, bob.profile_key)
    await bob.__aexit__(None, None, None)
    await ann.send(bob.service_id, DataMessage("hello", 1))
    later = await Device.open(bob._store, client_relay, crypto, now=lambda: ann._now() + 72 * HOUR)
    async with later:
        assert await body_from(later) == "hello"


async def test_nothing_is_sealed_for_a_key_that_is_not_trusted(
    register: Register, client_relay: WatchedRelay, crypto: SignalCrypto, sqlite_relay: StartedRelay
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.learn_profile_key(bob.service_id, bob.profile_key)
    await ann.send(bob.service_id, DataMessage("before", 1))
    assert await body_from(bob) == "before"

    async def code() -> str:
        return sqlite_relay.last_code(BOB)

    async with Store.open(":memory:", KEY) as store:
        renewed = await Device.register(store, client_relay, crypto, number=BOB, code=code)
        async with renewed:
            with pytest.raises(IdentityChanged):
                await ann.send(bob.service_id, DataMessage("secret", 2))
            await ann.trust(bob.service_id, renewed.identity_key)
            await ann.send(bob.service_id, DataMessage("for the new bob", 3))  # its profile key is another: 401
            assert await body_from(renewed) == "for the new bob"


async def test_a_certificate_of_another_root_is_not_believed(
    register: Register, client_relay: WatchedRelay, crypto: SignalCrypto
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.learn_profile_key(bob.service_id, bob.profile_key)
    bob._sessions._trust_roots = (ann.identity_key,)
    await ann.send(bob.service_id, DataMessage("hello", 1))
    assert await first_problem(bob) == Undecryptable(None, "UntrustedCertificate")


async def test_a_device_signs_by_the_identity_key_of_its_account(register: Register) -> None:
    ann = await register(ANN)
    signature = ann.sign(b"I agree")
    assert len(signature) == 64
    verify_signature(ann.identity_key, b"I agree", signature)
