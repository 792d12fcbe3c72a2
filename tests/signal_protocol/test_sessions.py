"""People who talk through real sessions, and everything that must not happen to them."""

import asyncio
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signal_protocol import sessions
from signal_protocol.errors import (
    CorruptRecord,
    DuplicateMessage,
    InvalidArgument,
    InvalidMessage,
    KeyNotFound,
    NoSession,
    ProtocolError,
    SelfSend,
    SessionTooLarge,
    StoreConflict,
    UntrustedCertificate,
    UntrustedIdentity,
    VerificationFailed,
)
from signal_protocol.memory_store import MemoryTransaction
from signal_protocol.operations import SignalCrypto
from signal_protocol.types import Address, Decrypted, Encrypted, MessageKind, PrekeyBundle, SessionInfo

if TYPE_CHECKING:
    from tests.signal_protocol.conftest import MakePerson, MakeTwo, Person, Server


class Rollback(Exception):
    """Raised by an application inside a transaction."""


async def send(sender: "Person", recipient: "Person", plaintext: bytes) -> bytes:
    """One message, there and decrypted."""
    return await receive(recipient, sender, await sender.service.encrypt(recipient.address, plaintext))


async def receive(recipient: "Person", sender: "Person", message: Encrypted) -> bytes:
    result = await recipient.service.decrypt(sender.address, message.kind, message.ciphertext)
    return result.plaintext


async def stored(person: "Person", remote: "Person") -> bytes | None:
    async with person.store.transaction() as transaction:
        found = await transaction.load_session(remote.address)
    return None if found is None else found.record


@pytest.fixture
async def met(alice: "Person", bob: "Person") -> tuple["Person", "Person"]:
    """Alice and Bob, who have each had a message of the other."""
    await alice.service.start_session(bob.address, await bob.bundle())
    await send(alice, bob, b"hello")
    await send(bob, alice, b"hello yourself")
    return alice, bob


# --- a conversation ---


async def test_a_conversation_over_a_bundle_with_one_time_prekeys(alice: "Person", bob: "Person") -> None:
    await alice.service.start_session(bob.address, await bob.bundle())
    first = await alice.service.encrypt(bob.address, b"hello")
    assert first.kind is MessageKind.PREKEY
    assert first.remote_registration_id == bob.local.registration_id
    assert await receive(bob, alice, first) == b"hello"
    answer = await bob.service.encrypt(alice.address, b"hello yourself")
    assert answer.kind is MessageKind.WHISPER
    assert await receive(alice, bob, answer) == b"hello yourself"
    assert (await alice.service.encrypt(bob.address, b"from now on short")).kind is MessageKind.WHISPER


async def test_a_conversation_over_a_bundle_of_last_resort(alice: "Person", bob: "Person") -> None:
    await alice.service.start_session(bob.address, await bob.last_resort_bundle())
    assert await send(alice, bob, b"hello") == b"hello"
    assert await send(bob, alice, b"hello yourself") == b"hello yourself"


async def test_messages_may_be_empty_and_large(met: tuple["Person", "Person"]) -> None:
    alice, bob = met
    assert await send(alice, bob, b"") == b""
    large = os.urandom(1_000_000)
    assert await send(alice, bob, large) == large


async def test_messages_arrive_in_any_order(met: tuple["Person", "Person"]) -> None:
    alice, bob = met
    messages = [await alice.service.encrypt(bob.address, bytes([number])) for number in range(10)]
    for number in (9, 0, 5, 1, 8, 2, 7, 3, 6, 4):
        assert await receive(bob, alice, messages[number]) == bytes([number])


async def test_first_messages_that_cross_leave_a_working_session(alice: "Person", bob: "Person") -> None:
    await alice.service.start_session(bob.address, await bob.bundle())
    await bob.service.start_session(alice.address, await alice.bundle())
    to_bob = await alice.service.encrypt(bob.address, b"to bob")
    to_alice = await bob.service.encrypt(alice.address, b"to alice")
    assert await receive(bob, alice, to_bob) == b"to bob"
    assert await receive(alice, bob, to_alice) == b"to alice"
    for number in range(3):
        assert await send(alice, bob, bytes([number])) == bytes([number])
        assert await send(bob, alice, bytes([number])) == bytes([number])


@settings(max_examples=25, deadline=None)
@given(rounds=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=4), data=st.data())
async def test_every_message_is_decrypted_exactly_once_in_whatever_order_it_arrives(
    crypto: SignalCrypto, make_two: "MakeTwo", rounds: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Four rounds at most: libsignal keeps the keys of the last five chains of a session."""
    alice, bob = await make_two()
    on_the_way: list[tuple[Person, Person, Encrypted, bytes]] = []
    arrived: list[tuple[Person, Person, Encrypted, bytes]] = []

    async def deliver(count: int) -> None:
        nonlocal on_the_way
        shuffled = data.draw(st.permutations(on_the_way))
        now, on_the_way = shuffled[:count], shuffled[count:]
        plaintexts = await asyncio.gather(*(receive(to, by, message) for by, to, message, _ in now))
        assert plaintexts == [plaintext for *_, plaintext in now]
        arrived.extend(now)

    for counts in rounds:
        for sender, recipient, count in ((alice, bob, counts[0]), (bob, alice, counts[1])):
            for _ in range(count):
                plaintext = os.urandom(8)
                message = await sender.service.encrypt(recipient.address, plaintext)
                on_the_way.append((sender, recipient, message, plaintext))
        await deliver(data.draw(st.integers(0, len(on_the_way))))
    await deliver(len(on_the_way))
    for sender, recipient, message, _ in arrived:
        with pytest.raises(DuplicateMessage):
            await receive(recipient, sender, message)


# --- what is refused ---


async def test_a_duplicate_is_refused_be_it_first_or_later(alice: "Person", bob: "Person") -> None:
    await alice.service.start_session(bob.address, await bob.bundle())
    first = await alice.service.encrypt(bob.address, b"hello")
    await receive(bob, alice, first)
    with pytest.raises(DuplicateMessage):
        await receive(bob, alice, first)
    await send(bob, alice, b"hello yourself")
    later = await alice.service.encrypt(bob.address, b"again")
    await receive(bob, alice, later)
    with pytest.raises(DuplicateMessage):
        await receive(bob, alice, later)


@pytest.mark.parametrize("position", [0, 1, 5, -9, -1])
async def test_an_altered_message_is_refused_and_the_true_one_still_accepted(
    met: tuple["Person", "Person"], position: int
) -> None:
    alice, bob = met
    message = await alice.service.encrypt(bob.address, b"hello")
    altered = bytearray(message.ciphertext)
    altered[position] ^= 1
    with pytest.raises(ProtocolError):
        await receive(bob, alice, replace(message, ciphertext=bytes(altered)))
    assert await receive(bob, alice, message) == b"hello"


async def test_a_truncated_first_message_is_refused(alice: "Person", bob: "Person") -> None:
    await alice.service.start_session(bob.address, await bob.bundle())
    message = await alice.service.encrypt(bob.address, b"hello")
    for length in (0, 1, 40, len(message.ciphertext) - 1):
        with pytest.raises(InvalidMessage):
            await receive(bob, alice, replace(message, ciphertext=message.ciphertext[:length]))
    assert await receive(bob, alice, message) == b"hello"


async def test_a_first_message_is_for_its_recipient_alone(crypto: SignalCrypto, alice: "Person", bob: "Person") -> None:
    """Another service id with the very same keys: only the address inside the message's authentication tells."""
    await alice.service.start_session(bob.address, await bob.bundle())
    message = await alice.service.encrypt(bob.address, b"for bob")
    local = replace(bob.local, address=Address(str(uuid4()), 1))
    impostor = sessions.SessionService(crypto, bob.store, local)
    with pytest.raises(InvalidMessage):
        await impostor.decrypt(alice.address, message.kind, message.ciphertext)
    assert await receive(bob, alice, message) == b"for bob"


async def test_a_first_message_is_from_its_sender_alone(alice: "Person", bob: "Person") -> None:
    await alice.service.start_session(bob.address, await bob.bundle())
    message = await alice.service.encrypt(bob.address, b"from alice")
    with pytest.raises(InvalidMessage):
        await bob.service.decrypt(Address(str(uuid4()), 1), message.kind, message.ciphertext)


async def test_nothing_is_encrypted_or_decrypted_without_a_session(
    met: tuple["Person", "Person"], make_person: "MakePerson"
) -> None:
    alice, bob = met
    stranger = await make_person()
    with pytest.raises(NoSession):
        await alice.service.encrypt(stranger.address, b"hello")
    message = await alice.service.encrypt(bob.address, b"hello")
    with pytest.raises(NoSession):
        await receive(stranger, alice, message)


async def test_a_bundle_is_for_the_device_that_it_names(alice: "Person", bob: "Person") -> None:
    with pytest.raises(InvalidArgument):
        await alice.service.start_session(Address(bob.address.service_id, 2), await bob.bundle())


async def test_a_bundle_with_a_forged_signature_is_refused(alice: "Person", bob: "Person") -> None:
    bundle = await bob.bundle()
    signed, kyber = bundle.signed_prekey, bundle.kyber_prekey
    forged = [
        replace(bundle, signed_prekey=replace(signed, signature=kyber.signature)),
        replace(bundle, kyber_prekey=replace(kyber, signature=signed.signature)),
    ]
    for each in forged:
        with pytest.raises(VerificationFailed):
            await alice.service.start_session(bob.address, each)
    assert await alice.service.has_session(bob.address) is False


async def test_a_bundle_with_a_malformed_key_is_refused(alice: "Person", bob: "Person") -> None:
    bundle: PrekeyBundle = replace(await bob.bundle(), identity_key=b"\x05 short")
    with pytest.raises(InvalidArgument):
        await alice.service.start_session(bob.address, bundle)


# --- prekeys ---


async def test_one_time_prekeys_are_deleted_with_their_first_message(alice: "Person", bob: "Person") -> None:
    bundle = await bob.bundle()
    assert bundle.one_time_prekey is not None
    await alice.service.start_session(bob.address, bundle)
    await send(alice, bob, b"hello")
    async with bob.store.transaction() as transaction:
        assert await transaction.load_one_time_prekey(bundle.one_time_prekey.key_id) is None
        assert await transaction.load_kyber_prekey(bundle.kyber_prekey.key_id) is None


async def test_a_bundle_that_was_given_out_twice_serves_once(
    alice: "Person", bob: "Person", make_person: "MakePerson"
) -> None:
    carol, bundle = await make_person(), await bob.bundle()
    await alice.service.start_session(bob.address, bundle)
    await carol.service.start_session(bob.address, bundle)
    await send(alice, bob, b"hello")
    with pytest.raises(KeyNotFound):
        await send(carol, bob, b"hello")


async def test_two_first_messages_to_one_prekey_at_once_decrypt_once(
    alice: "Person", bob: "Person", make_person: "MakePerson"
) -> None:
    carol, bundle = await make_person(), await bob.bundle()
    messages = []
    for sender in (alice, carol):
        await sender.service.start_session(bob.address, bundle)
        messages.append((sender, await sender.service.encrypt(bob.address, b"hello")))
    outcomes = await asyncio.gather(
        *(receive(bob, sender, message) for sender, message in messages), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {bytes, KeyNotFound}


async def test_a_replayed_first_message_to_a_last_resort_key_is_a_duplicate_even_without_its_session(
    crypto: SignalCrypto, alice: "Person", bob: "Person"
) -> None:
    """Only the stored use of the key tells, for example when the session record was reset."""
    await alice.service.start_session(bob.address, await bob.last_resort_bundle())
    message = await alice.service.encrypt(bob.address, b"hello")
    await receive(bob, alice, message)
    forget_session(bob, alice)
    with pytest.raises(DuplicateMessage):
        await receive(bob, alice, message)
    assert await stored(bob, alice) is None


def forget_session(person: "Person", remote: "Person") -> None:
    """What an application must never do."""
    del person.store._committed.sessions[remote.address]


# --- trust ---


async def test_a_changed_identity_is_refused_until_it_is_trusted(
    met: tuple["Person", "Person"], make_person: "MakePerson"
) -> None:
    alice, bob = met
    again = await make_person(address=bob.address)
    with pytest.raises(UntrustedIdentity) as refused:
        await alice.service.start_session(bob.address, await again.bundle())
    assert refused.value.address == bob.address
    assert refused.value.identity_key == again.local.identity.public_key
    await alice.service.trust_identity(bob.address.service_id, refused.value.identity_key)
    assert await alice.service.has_session(bob.address) is False
    await alice.service.start_session(bob.address, await again.bundle())
    assert await send(alice, again, b"hello") == b"hello"


async def test_a_first_message_of_a_changed_identity_is_refused_until_it_is_trusted(
    met: tuple["Person", "Person"], make_person: "MakePerson"
) -> None:
    alice, bob = met
    again = await make_person(address=bob.address)
    await again.service.start_session(alice.address, await alice.bundle())
    message = await again.service.encrypt(alice.address, b"new phone")
    with pytest.raises(UntrustedIdentity) as refused:
        await receive(alice, again, message)
    assert refused.value.identity_key == again.local.identity.public_key
    await alice.service.trust_identity(bob.address.service_id, refused.value.identity_key)
    assert await receive(alice, again, message) == b"new phone"


async def test_an_account_that_has_to_be_appraised_is_not_trusted_on_first_use(
    bob: "Person", make_person: "MakePerson"
) -> None:
    careful = await make_person(accepts_new_identity=lambda service_id: service_id != bob.address.service_id)
    with pytest.raises(UntrustedIdentity) as refused:
        await careful.service.start_session(bob.address, await bob.bundle())
    await careful.service.trust_identity(bob.address.service_id, refused.value.identity_key)
    await careful.service.start_session(bob.address, await bob.bundle())
    assert await send(careful, bob, b"hello") == b"hello"


async def test_all_devices_of_an_account_have_one_trusted_identity(alice: "Person", bob: "Person") -> None:
    await alice.service.start_session(bob.address, await bob.bundle())
    key = bob.local.identity.public_key
    assert await alice.service.trusted_identity(bob.address.service_id) == key


# --- archive and info ---


async def test_an_archived_session_decrypts_late_messages_and_encrypts_no_more(
    met: tuple["Person", "Person"],
) -> None:
    alice, bob = met
    late = await bob.service.encrypt(alice.address, b"late")
    await alice.service.archive(bob.address)
    assert await alice.service.session_info(bob.address) == SessionInfo(usable=False, remote_registration_id=None)
    with pytest.raises(NoSession):
        await alice.service.encrypt(bob.address, b"hello")
    assert await receive(alice, bob, late) == b"late"


async def test_a_session_that_is_unanswered_for_a_month_is_not_usable(alice: "Person", bob: "Person", now: int) -> None:
    await alice.service.start_session(bob.address, await bob.bundle())
    assert await alice.service.has_session(bob.address)
    later = sessions.SessionService(alice.crypto, alice.store, alice.local, now=lambda: now + 31 * 24 * 3600 * 1000)
    assert await later.has_session(bob.address) is False
    with pytest.raises(NoSession):
        await later.encrypt(bob.address, b"hello")


# --- locks and transactions ---


async def test_concurrent_encrypts_to_one_peer_never_share_a_chain_position(met: tuple["Person", "Person"]) -> None:
    alice, bob = met
    messages = await asyncio.gather(*(alice.service.encrypt(bob.address, bytes([number])) for number in range(30)))
    plaintexts = [await receive(bob, alice, message) for message in messages]
    assert plaintexts == [bytes([number]) for number in range(30)]


async def test_two_services_on_one_store_never_share_a_chain_position(met: tuple["Person", "Person"]) -> None:
    """Here no lock helps, only the version of the record."""
    alice, bob = met
    other = sessions.SessionService(alice.crypto, alice.store, alice.local)
    services = [alice.service, other] * 4
    messages = await asyncio.gather(
        *(service.encrypt(bob.address, bytes([number])) for number, service in enumerate(services))
    )
    assert sorted([await receive(bob, alice, message) for message in messages]) == [bytes([n]) for n in range(8)]


async def test_a_call_gives_up_when_the_record_never_stops_changing(met: tuple["Person", "Person"]) -> None:
    alice, bob = met

    class Restless(type(alice.crypto)):  # type: ignore[misc]  # its base is the real one
        async def encrypt(self, **arguments: object) -> Encrypted:
            result: Encrypted = await alice.crypto.encrypt(**arguments)  # type: ignore[arg-type]  # passed on as they are
            await alice.service.encrypt(bob.address, b"somebody else's")
            return result

    other = sessions.SessionService(Restless(alice.crypto._worker), alice.store, alice.local)
    with pytest.raises(StoreConflict):
        await other.encrypt(bob.address, b"never")


async def test_what_then_writes_is_written_with_the_record(met: tuple["Person", "Person"]) -> None:
    alice, bob = met
    outbox: list[Encrypted] = []

    async def then(transaction: MemoryTransaction, message: Encrypted) -> None:
        transaction.on_commit(lambda: outbox.append(message))
        assert outbox == []

    message = await alice.service.encrypt(bob.address, b"hello", then)
    assert outbox == [message]


async def test_an_exception_in_then_leaves_the_sender_unchanged(met: tuple["Person", "Person"]) -> None:
    alice, bob = met
    before = await stored(alice, bob)

    async def then(_transaction: MemoryTransaction, _message: Encrypted) -> None:
        raise Rollback

    with pytest.raises(Rollback):
        await alice.service.encrypt(bob.address, b"hello", then)
    assert await stored(alice, bob) == before


async def test_an_exception_in_then_leaves_the_recipient_able_to_decrypt_again(alice: "Person", bob: "Person") -> None:
    await alice.service.start_session(bob.address, await bob.bundle())
    message = await alice.service.encrypt(bob.address, b"hello")

    async def then(_transaction: MemoryTransaction, _result: Decrypted) -> None:
        raise Rollback

    with pytest.raises(Rollback):
        await bob.service.decrypt(alice.address, message.kind, message.ciphertext, then)
    assert await stored(bob, alice) is None
    assert await bob.service.trusted_identity(alice.address.service_id) is None
    assert await receive(bob, alice, message) == b"hello"


async def test_a_corrupt_record_is_an_error_of_its_own_and_stays(met: tuple["Person", "Person"]) -> None:
    alice, bob = met
    message = await bob.service.encrypt(alice.address, b"hello")
    for record in (b"", b"\xff" * 50):
        async with alice.store.transaction() as transaction:
            found = await transaction.load_session(bob.address)
            assert found is not None
            await transaction.save_session(bob.address, record, expected=found.version)
        with pytest.raises(CorruptRecord):
            await alice.service.encrypt(bob.address, b"hello")
        with pytest.raises(CorruptRecord):
            await receive(alice, bob, message)
        assert await stored(alice, bob) == record


# --- faults ---


async def test_a_kill_of_the_worker_in_the_middle_of_calls_loses_and_repeats_nothing(
    crypto: SignalCrypto, met: tuple["Person", "Person"]
) -> None:
    alice, bob = met
    calls = [asyncio.create_task(alice.service.encrypt(bob.address, bytes([number]))) for number in range(20)]
    await asyncio.sleep(0.005)
    assert crypto.worker_process_id is not None
    os.kill(crypto.worker_process_id, signal.SIGKILL)
    calls += [asyncio.create_task(alice.service.encrypt(bob.address, bytes([number]))) for number in range(20, 25)]
    messages = await asyncio.gather(*calls)
    assert [await receive(bob, alice, message) for message in messages] == [bytes([n]) for n in range(25)]


async def test_a_record_that_a_peer_made_too_large_is_not_stored_and_a_new_session_begins_small(
    met: tuple["Person", "Person"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of 16 KB instead of 2 MiB: skipped messages reach it soon."""
    alice, bob = met
    monkeypatch.setattr(sessions, "MAX_SESSION_BYTES", 16 * 1024)
    for _ in range(400):
        await alice.service.encrypt(bob.address, b"")
    last = await alice.service.encrypt(bob.address, b"")
    with pytest.raises(SessionTooLarge):
        await receive(bob, alice, last)
    record = await stored(bob, alice)
    assert record is not None
    assert len(record) <= 16 * 1024
    assert await bob.service.has_session(alice.address) is False
    await bob.service.start_session(alice.address, await alice.bundle())
    assert await send(bob, alice, b"anew") == b"anew"
    assert await send(alice, bob, b"anew") == b"anew"


# --- groups ---


async def test_a_group_message_is_encrypted_once_and_read_by_all_who_have_the_key(
    met: tuple["Person", "Person"], make_person: "MakePerson"
) -> None:
    alice, bob = met
    carol, group = await make_person(), uuid4()
    distribution = await alice.service.distribute_sender_key(group)
    for member in (bob, carol):
        assert await member.service.process_distribution(alice.address, distribution) == group
    messages = [await alice.service.group_encrypt(group, bytes([number])) for number in range(3)]
    for member in (bob, carol):
        for number in (2, 0, 1):
            assert await member.service.group_decrypt(alice.address, messages[number]) == bytes([number])
        with pytest.raises(DuplicateMessage):
            await member.service.group_decrypt(alice.address, messages[0])


async def test_a_group_message_needs_its_sender_key(met: tuple["Person", "Person"]) -> None:
    alice, bob = met
    group = uuid4()
    with pytest.raises(NoSession):
        await alice.service.group_encrypt(group, b"hello")
    await alice.service.distribute_sender_key(group)
    message = await alice.service.group_encrypt(group, b"hello")
    with pytest.raises(NoSession):
        await bob.service.group_decrypt(alice.address, message)


async def test_a_late_member_reads_later_messages_alone(met: tuple["Person", "Person"]) -> None:
    alice, bob = met
    group = uuid4()
    await alice.service.distribute_sender_key(group)
    early = await alice.service.group_encrypt(group, b"early")
    await bob.service.process_distribution(alice.address, await alice.service.distribute_sender_key(group))
    late = await alice.service.group_encrypt(group, b"late")
    assert await bob.service.group_decrypt(alice.address, late) == b"late"
    with pytest.raises(ProtocolError):
        await bob.service.group_decrypt(alice.address, early)


async def test_a_rotated_sender_key_shuts_out_who_does_not_get_it(met: tuple["Person", "Person"]) -> None:
    alice, bob = met
    group = uuid4()
    await bob.service.process_distribution(alice.address, await alice.service.distribute_sender_key(group))
    rotated = await alice.service.distribute_sender_key(group, rotate=True)
    message = await alice.service.group_encrypt(group, b"without bob")
    with pytest.raises(NoSession):
        await bob.service.group_decrypt(alice.address, message)
    await bob.service.process_distribution(alice.address, rotated)
    assert await bob.service.group_decrypt(alice.address, message) == b"without bob"


async def test_concurrent_group_messages_never_share_a_chain_position(met: tuple["Person", "Person"]) -> None:
    alice, bob = met
    group = uuid4()
    await bob.service.process_distribution(alice.address, await alice.service.distribute_sender_key(group))
    messages = await asyncio.gather(*(alice.service.group_encrypt(group, bytes([n])) for n in range(20)))
    assert [await bob.service.group_decrypt(alice.address, message) for message in messages] == [
        bytes([n]) for n in range(20)
    ]


async def test_an_altered_group_message_is_refused(met: tuple["Person", "Person"]) -> None:
    alice, bob = met
    group = uuid4()
    await bob.service.process_distribution(alice.address, await alice.service.distribute_sender_key(group))
    message = await alice.service.group_encrypt(group, b"hello")
    for position in (0, 2, 5, 25, -70, -1):
        altered = bytearray(message)
        altered[position] ^= 1
        with pytest.raises(ProtocolError):
            await bob.service.group_decrypt(alice.address, bytes(altered))
    assert await bob.service.group_decrypt(alice.address, message) == b"hello"


# --- sealed sender ---


@pytest.fixture
async def sealed_pair(make_person: "MakePerson", server: "Server") -> tuple["Person", "Person"]:
    roots = [server.root.public_key]
    alice, bob = await make_person(trust_roots=roots), await make_person(trust_roots=roots)
    await alice.service.start_session(bob.address, await bob.bundle())
    await bob.service.start_session(alice.address, await alice.bundle())
    return alice, bob


async def test_a_sealed_message_names_its_sender_to_the_recipient_alone(
    sealed_pair: tuple["Person", "Person"], server: "Server", now: int
) -> None:
    alice, bob = sealed_pair
    certificate = await server.certificate(alice.local, expires=now + 1000_000)
    for plaintext in (b"first", b"second"):
        sealed = await alice.service.encrypt_sealed(bob.address, plaintext, certificate, group_id=b"group")
        assert alice.address.service_id.encode() not in sealed.message
        assert sealed.remote_registration_id == bob.local.registration_id
        received = await bob.service.decrypt_sealed(sealed.message)
        assert (received.sender, received.plaintext, received.group_id) == (alice.address, plaintext, b"group")
        with pytest.raises(DuplicateMessage):
            await bob.service.decrypt_sealed(sealed.message)


async def test_a_sealed_message_needs_a_current_certificate_of_a_trusted_root(
    sealed_pair: tuple["Person", "Person"], server: "Server", crypto: SignalCrypto, now: int
) -> None:
    alice, bob = sealed_pair
    expired = await server.certificate(alice.local, expires=now - 1000)
    other_root = replace(server, root=await crypto.generate_identity())
    unknown = await other_root.certificate(alice.local, expires=now + 1000_000)
    for certificate in (expired, unknown):
        sealed = await alice.service.encrypt_sealed(bob.address, b"hello", certificate)
        with pytest.raises(UntrustedCertificate):
            await bob.service.decrypt_sealed(sealed.message)


async def test_a_certificate_for_another_key_than_the_senders_is_refused(
    sealed_pair: tuple["Person", "Person"], server: "Server", make_person: "MakePerson", now: int
) -> None:
    """Mallory, certified under Alice's address, seals what Alice encrypted: the seal is good, the content is good."""
    alice, bob = sealed_pair
    mallory, session = await make_person(address=alice.address), await stored(alice, bob)
    assert session is not None
    certificate = await server.certificate(mallory.local, expires=now + 1000_000)
    sealed = await alice.crypto.encrypt_sealed(
        local=mallory.local,
        remote=bob.address,
        session=session,
        known=None,
        plaintext=b"hello",
        certificate=certificate,
        now=now,
    )
    with pytest.raises(UntrustedCertificate):
        await bob.service.decrypt_sealed(sealed.message)
    assert await stored(bob, alice) is not None


async def test_a_sealed_message_to_oneself_is_refused(
    sealed_pair: tuple["Person", "Person"], server: "Server", make_person: "MakePerson", now: int
) -> None:
    """It comes back from a relay that delivers to the wrong device: here Bob's keys under Alice's address."""
    alice, bob = sealed_pair
    certificate = await server.certificate(alice.local, expires=now + 1000_000)
    sealed = await alice.service.encrypt_sealed(bob.address, b"hello", certificate)
    same_address = replace(bob.local, address=alice.address)
    confused = sessions.SessionService(bob.crypto, bob.store, same_address, trust_roots=[server.root.public_key])
    with pytest.raises(SelfSend):
        await confused.decrypt_sealed(sealed.message)


async def test_an_altered_sealed_message_is_refused(
    sealed_pair: tuple["Person", "Person"], server: "Server", now: int
) -> None:
    alice, bob = sealed_pair
    certificate = await server.certificate(alice.local, expires=now + 1000_000)
    sealed = await alice.service.encrypt_sealed(bob.address, b"hello", certificate)
    for position in (1, 10, 60, -1):
        altered = bytearray(sealed.message)
        altered[position] ^= 1
        with pytest.raises(InvalidMessage):
            await bob.service.decrypt_sealed(bytes(altered))
    assert (await bob.service.decrypt_sealed(sealed.message)).plaintext == b"hello"


async def test_no_sealed_message_is_made_with_a_malformed_certificate(
    sealed_pair: tuple["Person", "Person"],
) -> None:
    alice, bob = sealed_pair
    before = await stored(alice, bob)
    with pytest.raises(InvalidArgument):
        await alice.service.encrypt_sealed(bob.address, b"hello", b"no certificate")
    assert await stored(alice, bob) == before


async def test_a_group_message_is_sealed_for_many_and_opened_by_each(
    make_person: "MakePerson", server: "Server", now: int
) -> None:
    roots, group = [server.root.public_key], uuid4()
    alice = await make_person(trust_roots=roots)
    members = [await make_person(trust_roots=roots) for _ in range(5)]
    certificate = await server.certificate(alice.local, expires=now + 1000_000)
    distribution = await alice.service.distribute_sender_key(group)
    for member in members:
        await alice.service.start_session(member.address, await member.bundle())
        sealed = await alice.service.encrypt_sealed(member.address, distribution, certificate)
        received = await member.service.decrypt_sealed(sealed.message)
        await member.service.process_distribution(received.sender, received.plaintext)
    for recipients in (members, members[:1]):
        upload = await alice.service.group_encrypt_sealed(
            group, [member.address for member in recipients], b"hello all", certificate
        )
        parts = await server.split(upload)
        assert set(parts) == {member.address.service_id for member in recipients}
        for member in recipients:
            received = await member.service.decrypt_sealed(parts[member.address.service_id])
            assert (received.sender, received.kind) == (alice.address, MessageKind.SENDER_KEY)
            assert received.plaintext == b"hello all"
            with pytest.raises(DuplicateMessage):
                await member.service.decrypt_sealed(parts[member.address.service_id])


async def test_a_sealed_group_message_of_a_key_that_is_not_trusted_is_refused(
    sealed_pair: tuple["Person", "Person"], server: "Server", make_person: "MakePerson", now: int
) -> None:
    alice, bob = sealed_pair
    group = uuid4()
    await bob.service.process_distribution(alice.address, await alice.service.distribute_sender_key(group))
    key = (await make_person()).local.identity.public_key
    certificate = await server.certificate(alice.local, expires=now + 1000_000)
    upload = await alice.service.group_encrypt_sealed(group, [bob.address], b"hello", certificate)
    part = (await server.split(upload))[bob.address.service_id]
    await bob.service.trust_identity(alice.address.service_id, key)
    with pytest.raises(UntrustedIdentity):
        await bob.service.decrypt_sealed(part)


async def test_a_group_message_is_not_sealed_for_nobody_or_without_a_session(
    sealed_pair: tuple["Person", "Person"], server: "Server", make_person: "MakePerson", now: int
) -> None:
    alice, bob = sealed_pair
    group, stranger = uuid4(), await make_person()
    await alice.service.distribute_sender_key(group)
    certificate = await server.certificate(alice.local, expires=now + 1000_000)
    with pytest.raises(InvalidArgument):
        await alice.service.group_encrypt_sealed(group, [], b"hello", certificate)
    with pytest.raises(NoSession):
        await alice.service.group_encrypt_sealed(group, [bob.address, stranger.address], b"hello", certificate)
    await alice.service.archive(bob.address)
    with pytest.raises(NoSession):
        await alice.service.group_encrypt_sealed(group, [bob.address], b"hello", certificate)


# --- safety numbers ---


async def test_both_sides_see_one_safety_number(met: tuple["Person", "Person"], make_person: "MakePerson") -> None:
    alice, bob = met
    ours = await alice.service.safety_number(bob.address.service_id)
    theirs = await bob.service.safety_number(alice.address.service_id)
    assert ours.digits == theirs.digits
    assert len(ours.digits) == 60
    assert ours.digits.isdecimal()
    assert await alice.crypto.compare_safety_numbers(ours.scannable, theirs.scannable)
    carol = await make_person()
    await carol.service.start_session(bob.address, await bob.bundle())
    others = await carol.service.safety_number(bob.address.service_id)
    assert others.digits != ours.digits
    assert not await alice.crypto.compare_safety_numbers(ours.scannable, others.scannable)


async def test_a_stranger_has_no_safety_number(alice: "Person", bob: "Person") -> None:
    with pytest.raises(NoSession):
        await alice.service.safety_number(bob.address.service_id)
