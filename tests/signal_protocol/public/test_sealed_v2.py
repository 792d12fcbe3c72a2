"""An upload to many is split as libsignal splits it, and nothing malformed is."""

from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signal_protocol.public import MalformedMessage, issue_sender_certificate, issue_server_certificate, split_sealed_v2
from signal_protocol.public.keys import generate_key_pair
from signal_protocol.public.sealed_v2 import MAX_RECIPIENTS
from tests.signal_protocol.conftest import MakePerson, Server

A, B = uuid4(), uuid4()
KEY_A, KEY_B, SHARED = b"a" * 48, b"b" * 48, b"s" * 32 + b"ciphertext"


def device(number: int, registration_id: int, more: bool = False) -> bytes:
    return bytes([number]) + (registration_id | more << 15).to_bytes(2, "big")


UPLOAD = (
    b"\x23\x03"
    + (b"\x00" + A.bytes + device(1, 1000, more=True) + device(3, 16383) + KEY_A)
    + (b"\x01" + B.bytes + device(127, 1) + KEY_B)
    + (b"\x00" + B.bytes + b"\x00")
    + SHARED
)


def test_each_account_gets_its_devices_and_its_message() -> None:
    upload = split_sealed_v2(UPLOAD)
    first, second, third = upload.recipients
    assert upload.shared == SHARED
    assert (first.service_id, first.devices) == (str(A), ((1, 1000), (3, 16383)))
    assert first.prefix == b"\x22" + KEY_A
    assert (second.service_id, second.devices) == (f"PNI:{B}", ((127, 1),))
    assert second.prefix == b"\x22" + KEY_B
    assert (third.service_id, third.devices, third.prefix) == (str(B), (), b"")


@pytest.mark.parametrize("size", [1, 2, 20])
async def test_libsignal_splits_the_same_way(make_person: MakePerson, server: Server, now: int, size: int) -> None:
    root, key = generate_key_pair(), generate_key_pair()
    alice = await make_person()
    others = [await make_person() for _ in range(size)]
    for other in others:
        await alice.service.start_session(other.address, await other.bundle())
    certificate = issue_sender_certificate(
        issue_server_certificate(root.private, key_id=1, key=key.public),
        key.private,
        sender=alice.address.service_id,
        device_id=1,
        identity_key=alice.local.identity.public_key,
        expires=now + 60_000,
    )
    group = uuid4()
    await alice.service.distribute_sender_key(group)
    upload = await alice.service.group_encrypt_sealed(group, [other.address for other in others], b"hello", certificate)
    ours = split_sealed_v2(upload)
    messages = {recipient.service_id: recipient.prefix + ours.shared for recipient in ours.recipients}
    assert messages == await server.split(upload)
    assert {recipient.devices for recipient in ours.recipients} == {((1, 1234),)}


def test_an_account_that_appears_twice_has_all_its_devices() -> None:
    upload = b"\x22\x02" + A.bytes + device(1, 5) + KEY_A + A.bytes + device(2, 6) + KEY_A + SHARED
    [recipient] = split_sealed_v2(upload).recipients
    assert recipient.devices == ((1, 5), (2, 6))


@pytest.mark.parametrize(
    "upload",
    [
        b"",
        b"\x21" + UPLOAD[1:],
        b"\x23\x01" + b"\x02" + A.bytes + device(1, 1) + KEY_A + SHARED,  # neither ACI nor PNI
        b"\x22\x01" + A.bytes + device(128, 1) + KEY_A + SHARED,
        b"\x22\x01" + A.bytes + device(1, 1, more=True) + b"\x00" + KEY_A + SHARED,
        b"\x22\x02" + A.bytes + b"\x00" + A.bytes + device(1, 1) + KEY_A + SHARED,  # with and without devices
        b"\x22\x01" + A.bytes + device(1, 1) + KEY_A + SHARED[:31],
        b"\x22" + b"\xf1\x2e" + SHARED,  # 6001 recipients
    ],
)
def test_what_breaks_a_rule_is_refused(upload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        split_sealed_v2(upload)


def test_as_many_recipients_as_allowed_are_split() -> None:
    entry = b"".join(uuid4().bytes + device(1, 1) + KEY_A for _ in range(MAX_RECIPIENTS))
    upload = b"\x22\xf0\x2e" + entry + SHARED
    assert len(split_sealed_v2(upload).recipients) == MAX_RECIPIENTS


def test_no_shorter_upload_passes() -> None:
    for end in range(len(UPLOAD) - len(SHARED) + 32):
        with pytest.raises(MalformedMessage):
            split_sealed_v2(UPLOAD[:end])


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: b"\x23" + data))
def test_any_bytes_are_split_or_malformed(data: bytes) -> None:
    try:
        assert all(len(recipient.devices) <= 127 * 16 for recipient in split_sealed_v2(data).recipients)
    except MalformedMessage as error:
        assert str(error).startswith(("an upload", "a device", "a recipient", "a varint"))  # noqa: PT017
