"""The first message of a session says openly which prekeys it was made for, and is read strictly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_protocol.public import MalformedMessage, PrekeyMessage, parse_prekey_message
from signal_protocol.types import MessageKind
from tests.signal_protocol.conftest import LAST_RESORT_ID, SIGNED_PREKEY_ID, Person


async def test_names_the_prekeys_of_a_message_of_libsignals(alice: Person, bob: Person) -> None:
    bundle = await bob.bundle()
    await alice.service.start_session(bob.address, bundle)
    encrypted = await alice.service.encrypt(bob.address, b"hello")
    assert encrypted.kind is MessageKind.PREKEY
    message = parse_prekey_message(encrypted.ciphertext)
    assert bundle.one_time_prekey is not None
    assert message.one_time_prekey_id == bundle.one_time_prekey.key_id
    assert message.signed_prekey_id == SIGNED_PREKEY_ID
    assert message.kyber_prekey_id == bundle.kyber_prekey.key_id
    assert message.registration_id == alice.local.registration_id
    assert message.identity_key == alice.local.identity.public_key


async def test_without_one_time_prekeys_it_names_the_last_resort(alice: Person, bob: Person) -> None:
    await alice.service.start_session(bob.address, await bob.last_resort_bundle())
    message = parse_prekey_message((await alice.service.encrypt(bob.address, b"hello")).ciphertext)
    assert (message.one_time_prekey_id, message.kyber_prekey_id) == (None, LAST_RESORT_ID)


async def test_what_is_cut_short_repeated_or_of_another_version_is_refused(alice: Person, bob: Person) -> None:
    await alice.service.start_session(bob.address, await bob.bundle())
    whole = (await alice.service.encrypt(bob.address, b"hello")).ciphertext
    parse_prekey_message(whole)
    for end in range(len(whole)):
        with pytest.raises(MalformedMessage):
            parse_prekey_message(whole[:end])
    for broken in (b"\x33" + whole[1:], whole + b"\x28\x01", whole + b"\x08", b"\x44\x28\x81\x00", b"\x44\x0f"):
        with pytest.raises(MalformedMessage):
            parse_prekey_message(broken)


@given(st.binary(max_size=300).map(lambda data: b"\x44" + data))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        assert isinstance(parse_prekey_message(data), PrekeyMessage)
    except MalformedMessage as error:
        assert data.hex() not in str(error)  # noqa: PT017  # both outcomes are right
