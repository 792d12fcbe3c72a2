"""What the operations add to libsignal, and what they promise about it: the check to run at each upgrade."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from signal_protocol.errors import (
    CorruptRecord,
    DuplicateMessage,
    InvalidArgument,
    InvalidMessage,
    KeyNotFound,
    NoSession,
    ProtocolError,
    TooLarge,
)
from signal_protocol.operations import SignalCrypto, distribution_id_of
from signal_protocol.public.keys import verify_signature
from signal_protocol.types import Address, Encrypted, KyberUse, MessageKind, PrekeyRecords

if TYPE_CHECKING:
    from tests.signal_protocol.conftest import Person


async def test_a_worker_answers(crypto: SignalCrypto) -> None:
    assert await crypto.ping(b"anybody there?") == b"anybody there?"
    assert crypto.healthy


# --- keys ---


async def test_each_identity_is_another(crypto: SignalCrypto) -> None:
    one, two = await crypto.generate_identity(), await crypto.generate_identity()
    assert one != two
    assert (len(one.public_key), one.public_key[0], len(one.private_key)) == (33, 5, 32)
    assert one.private_key.hex() not in repr(one)


async def test_one_time_prekeys_have_the_ids_that_were_asked_for(crypto: SignalCrypto) -> None:
    keys = await crypto.generate_one_time_prekeys(first_id=5, count=250)
    assert [key.public.key_id for key in keys] == list(range(5, 255))
    assert len({key.public.public_key for key in keys}) == 250


async def test_signed_and_kyber_prekeys_are_signed_by_the_identity(crypto: SignalCrypto) -> None:
    identity = await crypto.generate_identity()
    signed = await crypto.generate_signed_prekey(key_id=1, identity=identity, now=1_700_000_000_000)
    kyber = await crypto.generate_kyber_prekeys(first_id=1, count=12, identity=identity, now=1_700_000_000_000)
    assert [key.public.key_id for key in kyber] == list(range(1, 13))
    assert {len(key.public.public_key) for key in kyber} == {1569}
    assert {signed.created_at, *(key.created_at for key in kyber)} == {1_700_000_000_000}
    for public in (signed.public, *(key.public for key in kyber)):
        verify_signature(identity.public_key, public.public_key, public.signature)


@pytest.mark.parametrize(("first_id", "count"), [(0, 1), (-1, 1), (1, 0), (1, 1001), (2**24 - 1, 1), (2**24 - 2, 2)])
async def test_key_ids_have_24_bits(crypto: SignalCrypto, first_id: int, count: int) -> None:
    identity = await crypto.generate_identity()
    with pytest.raises(InvalidArgument):
        await crypto.generate_one_time_prekeys(first_id=first_id, count=count)
    with pytest.raises(InvalidArgument):
        await crypto.generate_kyber_prekeys(first_id=first_id, count=count, identity=identity, now=1)


# --- sessions without a service ---


async def test_an_operation_has_no_effect_but_its_result(crypto: SignalCrypto, alice: "Person", bob: "Person") -> None:
    """The same record twice gives the same chain position twice: whoever stores one result must drop the other."""
    session = await crypto.process_bundle(
        local=alice.local, remote=bob.address, session=None, known=None, bundle=await bob.bundle(), now=1
    )
    both = [
        await crypto.encrypt(
            local=alice.local, remote=bob.address, session=session, known=None, plaintext=b"hello", now=1
        )
        for _ in range(2)
    ]
    assert [message.kind for message in both] == [MessageKind.PREKEY] * 2
    assert await receive(bob, alice, both[0]) == b"hello"
    with pytest.raises(DuplicateMessage):
        await receive(bob, alice, both[1])


async def receive(recipient: "Person", sender: "Person", message: Encrypted) -> bytes:
    return (await recipient.service.decrypt(sender.address, message.kind, message.ciphertext)).plaintext


async def test_decrypting_says_which_prekeys_were_used(crypto: SignalCrypto, alice: "Person", bob: "Person") -> None:
    bundle = await bob.bundle()
    assert bundle.one_time_prekey is not None
    key_id = bundle.one_time_prekey.key_id
    await alice.service.start_session(bob.address, bundle)
    message = await alice.service.encrypt(bob.address, b"hello")
    async with bob.store.transaction() as transaction:
        kyber = await transaction.load_kyber_prekey(key_id)
        assert kyber is not None
        keys = PrekeyRecords(
            await transaction.load_one_time_prekey(key_id),
            await transaction.load_signed_prekey(bundle.signed_prekey.key_id),
            kyber.record,
        )
    first = await crypto.decrypt(
        local=bob.local,
        remote=alice.address,
        session=None,
        known=None,
        kind=message.kind,
        ciphertext=message.ciphertext,
        keys=keys,
    )
    assert first.identity_key == alice.local.identity.public_key
    assert first.used_one_time_prekey == key_id
    assert first.used_kyber_prekey is not None
    assert first.used_kyber_prekey == KyberUse(key_id, bundle.signed_prekey.key_id, first.used_kyber_prekey.base_key)
    for missing in ("one_time", "signed", "kyber"):
        with pytest.raises(KeyNotFound):
            await crypto.decrypt(
                local=bob.local,
                remote=alice.address,
                session=None,
                known=None,
                kind=message.kind,
                ciphertext=message.ciphertext,
                keys=replace(keys, **{missing: None}),  # type: ignore[arg-type]  # all three are optional bytes
            )
        with pytest.raises(CorruptRecord):
            await crypto.decrypt(
                local=bob.local,
                remote=alice.address,
                session=None,
                known=None,
                kind=message.kind,
                ciphertext=message.ciphertext,
                keys=replace(keys, **{missing: b"\xff\xff"}),  # type: ignore[arg-type]  # as above
            )


async def test_an_empty_record_is_corrupt_though_libsignal_takes_it(
    crypto: SignalCrypto, alice: "Person", bob: "Person"
) -> None:
    with pytest.raises(CorruptRecord):
        await crypto.encrypt(local=alice.local, remote=bob.address, session=b"", known=None, plaintext=b"", now=1)
    with pytest.raises(CorruptRecord):
        await crypto.session_info(b"", now=1)
    with pytest.raises(CorruptRecord):
        await crypto.group_encrypt(sender=alice.address, distribution_id=uuid4(), sender_key=b"", plaintext=b"")


@pytest.mark.parametrize("kind", [MessageKind.SENDER_KEY, MessageKind.PLAINTEXT])
async def test_only_pairwise_messages_are_decrypted_in_a_session(
    crypto: SignalCrypto, alice: "Person", bob: "Person", kind: MessageKind
) -> None:
    with pytest.raises(InvalidArgument):
        await crypto.decrypt(
            local=bob.local, remote=alice.address, session=None, known=None, kind=kind, ciphertext=b"hello"
        )


async def test_noise_is_refused_by_every_operation_that_reads_messages(
    crypto: SignalCrypto, alice: "Person", bob: "Person"
) -> None:
    process = crypto.worker_process_id
    local, remote, group = bob.local, alice.address, uuid4()
    record = (await crypto.create_distribution(sender=remote, distribution_id=group, sender_key=None)).sender_key
    for noise in (b"", b"\x00", b"\x33" * 40, b"\x44\x0a\xff\xff\xff\xff\x0f", bytes(range(256)) * 8):
        calls = [
            crypto.decrypt(
                local=local, remote=remote, session=None, known=None, kind=MessageKind.PREKEY, ciphertext=noise
            ),
            crypto.decrypt(
                local=local, remote=remote, session=None, known=None, kind=MessageKind.WHISPER, ciphertext=noise
            ),
            crypto.unseal(noise, local=local, trust_roots=[], now=1),
            crypto.group_decrypt(sender=remote, distribution_id=group, sender_key=record, ciphertext=noise),
            crypto.process_distribution(sender=remote, distribution_id=group, sender_key=None, message=noise),
            crypto.read_decryption_error(noise),
            crypto.compare_safety_numbers(noise, noise),
        ]
        for call in calls:
            with pytest.raises((InvalidMessage, NoSession)):
                await call
    assert crypto.worker_process_id == process


async def test_errors_show_neither_addresses_nor_texts_of_libsignal(
    crypto: SignalCrypto, alice: "Person", bob: "Person"
) -> None:
    outcomes = await asyncio.gather(
        alice.service.encrypt(bob.address, b"hello"),
        bob.service.decrypt(alice.address, MessageKind.WHISPER, b"\x44" * 80),
        crypto.unseal(b"\x11" * 80, local=bob.local, trust_roots=[], now=1),
        return_exceptions=True,
    )
    for error in outcomes:
        assert isinstance(error, ProtocolError)
        assert alice.address.service_id not in repr(error)
        assert bob.address.service_id not in repr(error)
        assert error.__cause__ is None


async def test_a_plaintext_beyond_a_frame_is_refused(crypto: SignalCrypto, alice: "Person", bob: "Person") -> None:
    await alice.service.start_session(bob.address, await bob.bundle())
    with pytest.raises(TooLarge):
        await alice.service.encrypt(bob.address, bytes(16 * 1024 * 1024))
    assert await alice.service.has_session(bob.address)


# --- groups ---


async def test_the_distribution_id_stands_in_every_group_message(crypto: SignalCrypto, alice: "Person") -> None:
    group, sender = uuid4(), alice.address
    made = await crypto.create_distribution(sender=sender, distribution_id=group, sender_key=None)
    message = await crypto.group_encrypt(
        sender=sender, distribution_id=group, sender_key=made.sender_key, plaintext=b"hello"
    )
    assert distribution_id_of(made.message) == distribution_id_of(message.ciphertext) == group
    other = uuid4()
    with pytest.raises(InvalidMessage):
        await crypto.process_distribution(sender=sender, distribution_id=other, sender_key=None, message=made.message)
    with pytest.raises(InvalidMessage):
        await crypto.group_decrypt(
            sender=sender, distribution_id=other, sender_key=made.sender_key, ciphertext=message.ciphertext
        )


# --- people ---


async def test_a_safety_number_depends_on_both_keys_and_both_accounts(crypto: SignalCrypto) -> None:
    keys = [(await crypto.generate_identity()).public_key for _ in range(3)]
    names = [str(uuid4()) for _ in range(3)]

    async def digits(local: int, remote: int, local_key: int, remote_key: int) -> str:
        number = await crypto.safety_number(
            local=names[local], local_key=keys[local_key], remote=names[remote], remote_key=keys[remote_key]
        )
        return number.digits

    base = await digits(0, 1, 0, 1)
    assert base == await digits(1, 0, 1, 0)
    others = [await digits(0, 2, 0, 1), await digits(0, 1, 0, 2), await digits(0, 1, 2, 1)]
    assert len({base, *others}) == 4


async def test_a_safety_number_is_for_service_ids(crypto: SignalCrypto) -> None:
    key = (await crypto.generate_identity()).public_key
    with pytest.raises(InvalidArgument):
        await crypto.safety_number(local="alice", local_key=key, remote=str(uuid4()), remote_key=key)


async def test_a_failed_message_can_be_reported_to_its_sender(
    crypto: SignalCrypto, alice: "Person", bob: "Person", now: int
) -> None:
    await alice.service.start_session(bob.address, await bob.bundle())
    message = await alice.service.encrypt(bob.address, b"hello")
    content = await crypto.make_decryption_error(
        kind=message.kind, ciphertext=message.ciphertext, sent_at=now, sender_device_id=1
    )
    error = await crypto.read_decryption_error(content)
    assert (error.sent_at, error.device_id) == (now, 1)
    assert error.ratchet_key is not None


async def test_a_pni_is_an_address_too(crypto: SignalCrypto, alice: "Person", bob: "Person") -> None:
    """Also its first messages are bound to it."""
    pni = Address(f"PNI:{uuid4()}", 1)
    session = await crypto.process_bundle(
        local=alice.local, remote=pni, session=None, known=None, bundle=await bob.last_resort_bundle(), now=1
    )
    message = await crypto.encrypt(
        local=alice.local, remote=pni, session=session, known=None, plaintext=b"hello", now=1
    )
    with pytest.raises(InvalidMessage):
        await bob.service.decrypt(alice.address, message.kind, message.ciphertext)
