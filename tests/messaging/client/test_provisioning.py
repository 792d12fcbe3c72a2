"""Links, envelopes and names are Signal's to the byte; what was altered, or is for somebody else, is refused."""

from base64 import b64decode
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st

from messaging.client.account import PhoneNumberIdentity
from messaging.client.errors import InvalidDeviceName, MalformedLink, MalformedProvisioning
from messaging.client.provisioning import (
    MAX_CODE,
    MAX_LINK,
    MAX_NAME,
    Link,
    ProvisionMessage,
    decrypt_body,
    decrypt_name,
    decrypt_provision,
    encrypt_body,
    encrypt_name,
    encrypt_provision,
    public_bytes,
)
from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.limits import MAX_DEVICE_NAME
from messaging.wire.protobuf import provisioning_pb2 as pb
from signal_protocol.public import generate_key_pair, public_key_of
from signal_protocol.types import Identity

# Signal-iOS, OWSProvisioningCipherTest.
IV = bytes.fromhex("ec670bb718e1e90acc5ecb37ab79e009")
THEIR_PUBLIC = bytes.fromhex("055e23e849b22321db2e3a77746f3b4418cc6c81ced5c291afedfb214e59cc19a4")
OUR_PRIVATE = bytes.fromhex("60fdc1eb6a683d2b51231fea1a5e80880c652d3d479e28c19f482c66de485d57")
OUR_PUBLIC = bytes.fromhex("0502627b5c2115591b37d1feeb155dd2950acee8b21e8ec8d6534f1acdf2009832")
PLAINTEXT = bytes.fromhex("193378649656a7d06eff371d")
BODY = bytes.fromhex(
    "01ec670bb718e1e90acc5ecb37ab79e009f72bf7143d45d745791e4f9d348a2d43"
    "64d47d489adc5ac372fa63417aa84536e9c5cbee9bc11fec311ec2332d9554cc"
)

# libsignal-service-rs, account_manager.rs, decrypt_device_name.
NAME_PRIVATE = b64decode("0CgxHjwwblXjvX8sD5wZDWdYToMRf+CZSlgaUrxCGVo=")
NAME = pb.DeviceName(
    ephemeral_public=b64decode("BcZS+Lt6yAKbEpXnRX+I5wHqesuvu93Q2V+fjidwW8R6"),
    synthetic_iv=b64decode("86gekHGmltnnZ9QARhiFcg=="),
    ciphertext=b64decode("MtJ9/9KBWLBVAxfZJD4pLKzP4q+iodRJeCc+/A=="),
).SerializeToString()


def an_identity() -> Identity:
    pair = generate_key_pair()
    return Identity(pair.public, pair.private)


MESSAGE = ProvisionMessage(
    ServiceId(UUID(int=1)),
    an_identity(),
    "code",
    b"\x07" * 32,
    PhoneNumberIdentity(ServiceId(UUID(int=2), IdentityKind.PNI), an_identity()),
    "+4915550000201",
)


def decoded(**changes: object) -> ProvisionMessage:
    """What is read after fields of ``MESSAGE`` were set to something else, or cleared."""
    message = pb.ProvisionMessage.FromString(MESSAGE.encode())
    for name, value in changes.items():
        message.ClearField(name)  # type: ignore[arg-type]
        if value is not None:
            setattr(message, name, value)
    return ProvisionMessage.decode(message.SerializeToString())


def test_a_body_is_encrypted_as_signal_encrypts_it() -> None:
    private = X25519PrivateKey.from_private_bytes(OUR_PRIVATE)
    assert public_bytes(private) == OUR_PUBLIC
    assert encrypt_body(PLAINTEXT, private, THEIR_PUBLIC, IV) == BODY


@given(plaintext=st.binary(max_size=70))
def test_the_other_side_reads_what_one_side_encrypted(plaintext: bytes) -> None:
    ours, theirs = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    body = encrypt_body(plaintext, ours, public_bytes(theirs), IV)
    assert decrypt_body(body, theirs, public_bytes(ours)) == plaintext


@given(at=st.integers(0, len(BODY) - 1), flip=st.integers(1, 255))
def test_an_altered_body_is_refused(at: int, flip: int) -> None:
    ours, theirs = X25519PrivateKey.from_private_bytes(OUR_PRIVATE), X25519PrivateKey.generate()
    body = bytearray(encrypt_body(PLAINTEXT, ours, public_bytes(theirs), IV))
    body[at] ^= flip
    with pytest.raises(MalformedProvisioning):
        decrypt_body(bytes(body), theirs, OUR_PUBLIC)


@given(kept=st.integers(0, len(BODY) - 1))
def test_a_cut_body_is_refused(kept: int) -> None:
    ours, theirs = X25519PrivateKey.from_private_bytes(OUR_PRIVATE), X25519PrivateKey.generate()
    body = encrypt_body(PLAINTEXT, ours, public_bytes(theirs), IV)
    with pytest.raises(MalformedProvisioning):
        decrypt_body(body[:kept], theirs, OUR_PUBLIC)


@pytest.mark.parametrize("key", [b"", OUR_PUBLIC[1:], b"\x06" + OUR_PUBLIC[1:], b"\x05" + bytes(32)])
def test_an_envelope_under_a_key_that_is_none_is_refused(key: bytes) -> None:
    with pytest.raises(MalformedProvisioning):
        decrypt_body(BODY, X25519PrivateKey.from_private_bytes(OUR_PRIVATE), key)


@pytest.mark.parametrize("message", [MESSAGE, replace(MESSAGE, pni=None), replace(MESSAGE, number=None)])
def test_a_message_arrives_as_it_was_sent(message: ProvisionMessage) -> None:
    private = X25519PrivateKey.generate()
    assert decrypt_provision(encrypt_provision(message, public_bytes(private)), private) == message


def test_each_envelope_has_a_key_of_its_own() -> None:
    one, other = (pb.ProvisionEnvelope.FromString(encrypt_provision(MESSAGE, THEIR_PUBLIC)) for _ in range(2))
    assert one.public_key != other.public_key
    assert one.body[1:17] != other.body[1:17]


def test_no_message_goes_out_under_a_key_that_keeps_nothing_secret() -> None:
    with pytest.raises(MalformedLink):
        encrypt_provision(MESSAGE, b"\x05" + bytes(32))


def test_an_envelope_for_another_device_is_refused() -> None:
    envelope = encrypt_provision(MESSAGE, public_bytes(X25519PrivateKey.generate()))
    with pytest.raises(MalformedProvisioning):
        decrypt_provision(envelope, X25519PrivateKey.generate())


@pytest.mark.parametrize("envelope", [b"", b"\xff", b"\x0a\x01x"])
def test_bytes_that_are_no_envelope_are_refused(envelope: bytes) -> None:
    with pytest.raises(MalformedProvisioning):
        decrypt_provision(envelope, X25519PrivateKey.generate())


def test_ids_are_read_from_either_of_their_forms() -> None:
    assert decoded(aci=None, pni=None) == decoded(aci_binary=None, pni_binary=None) == MESSAGE
    assert decoded(pni_binary=None, pni=f"PNI:{UUID(int=2)}") == MESSAGE


@pytest.mark.parametrize(
    "changes",
    [
        {"aci": None, "aci_binary": None},
        {"aci": "x", "aci_binary": None},
        {"aci_binary": b"short"},
        {"aci_identity_key_private": None},
        {"aci_identity_key_private": b"\x01" * 32},  # of another public key
        {"pni_identity_key_public": OUR_PUBLIC},
        {"provisioning_code": None},
        {"provisioning_code": "x" * (MAX_CODE + 1)},
        {"number": "not a number"},
        {"profile_key": b"\x07" * 31},
        {"profile_key": None},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_message_that_lacks_what_a_device_needs_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedProvisioning):
        decoded(**changes)


def test_a_code_of_the_greatest_length_is_read() -> None:
    assert len(decoded(provisioning_code="x" * MAX_CODE).provisioning_code) == MAX_CODE


@given(data=st.binary())
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    with pytest.raises(MalformedProvisioning):
        ProvisionMessage.decode(data)


def test_no_secret_is_in_a_repr() -> None:
    text = repr(MESSAGE)
    assert "code" not in text.replace("provisioning_code", "")
    assert MESSAGE.number is not None
    assert MESSAGE.number not in text
    assert repr(MESSAGE.identity.private_key) not in text


def test_a_link_is_as_signal_writes_it() -> None:
    url = Link("dz5j4uXnkytQoPIRTe8sUw==", OUR_PUBLIC).url
    assert url.startswith("sgnl://linkdevice?uuid=dz5j4uXnkytQoPIRTe8sUw%3D%3D&pub_key=BQJie1whFVkbN9H%2B")
    assert parse_qs(urlsplit(url).query).keys() == {"uuid", "pub_key"}


@given(address=st.text(min_size=1, max_size=40))
def test_a_link_is_read_as_it_was_written(address: str) -> None:
    link = Link(address, OUR_PUBLIC)
    assert Link.parse(link.url) == link


def test_what_newer_clients_add_to_a_link_is_ignored() -> None:
    link = Link("address", OUR_PUBLIC)
    assert Link.parse(link.url + "&capabilities=backup5") == link
    assert Link.parse(link.url.replace("%3D", "")) == link  # without padding


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sgnl://linkdevice",
        "sgnl://linkdevice?uuid=address",
        "sgnl://linkdevice?uuid=address&pub_key=%00",
        "https://linkdevice?" + Link("address", OUR_PUBLIC).url.partition("?")[2],
        "sgnl://elsewhere?" + Link("address", OUR_PUBLIC).url.partition("?")[2],
        Link("", OUR_PUBLIC).url,
        Link("address", OUR_PUBLIC[:-1]).url,
        Link("address", OUR_PUBLIC).url + "&uuid=another",
        "sgnl://[",
    ],
)
def test_a_link_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(MalformedLink):
        Link.parse(url)


def test_a_link_has_a_greatest_length() -> None:
    url = Link("address", OUR_PUBLIC).url + "&x="
    assert Link.parse(url + "x" * (MAX_LINK - len(url))).address == "address"
    with pytest.raises(MalformedLink):
        Link.parse(url + "x" * (MAX_LINK - len(url) + 1))


def test_a_name_is_decrypted_as_signal_decrypts_it() -> None:
    identity = Identity(public_key_of(NAME_PRIVATE), NAME_PRIVATE)
    assert decrypt_name(NAME, identity) == "Nokia 3310 Millenial Edition"


@given(name=st.text(min_size=1, max_size=MAX_NAME // 4))
def test_the_account_reads_the_names_of_its_devices(name: str) -> None:
    identity = an_identity()
    assert decrypt_name(encrypt_name(name, identity.public_key), identity) == name


def test_the_longest_name_fits_what_the_relay_takes() -> None:
    assert len(encrypt_name("x" * MAX_NAME, OUR_PUBLIC)) == MAX_DEVICE_NAME
    for name in ("", "x" * (MAX_NAME + 1), "ä" * (MAX_NAME // 2 + 1)):
        with pytest.raises(InvalidDeviceName):
            encrypt_name(name, OUR_PUBLIC)


@given(at=st.integers(0, len(NAME) - 1), flip=st.integers(1, 255))
def test_an_altered_name_is_refused(at: int, flip: int) -> None:
    assume((at, flip) != (34, 0x80))  # the top bit of the ephemeral key, which does not count (RFC 7748, section 5)
    data = bytearray(NAME)
    data[at] ^= flip
    with pytest.raises(MalformedProvisioning):
        decrypt_name(bytes(data), Identity(public_key_of(NAME_PRIVATE), NAME_PRIVATE))


def test_a_name_of_another_account_is_refused() -> None:
    with pytest.raises(MalformedProvisioning):
        decrypt_name(NAME, an_identity())
