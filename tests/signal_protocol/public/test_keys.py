"""Signatures pass between us and libsignal in both directions, and no altered one passes."""

import secrets
import subprocess
import sys

import pytest
from cryptography.exceptions import InvalidSignature as CryptographyInvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from signal_protocol.errors import VerificationFailed
from signal_protocol.operations import SignalCrypto
from signal_protocol.public import (
    InvalidKey,
    InvalidSignature,
    check_ec_public_key,
    check_kyber_public_key,
    generate_key_pair,
    public_key_of,
    sign,
    verify_signature,
)
from signal_protocol.types import Address, Identity, LocalDevice, PrekeyBundle, SignedPublicPrekey

PRIME = 2**255 - 19
PAIR = generate_key_pair()


async def test_libsignals_signatures_are_accepted(crypto: SignalCrypto) -> None:
    for _ in range(40):  # half of all keys have the sign bit that needs care
        identity = await crypto.generate_identity()
        signed = await crypto.generate_signed_prekey(key_id=1, identity=identity, now=1)
        [kyber] = await crypto.generate_kyber_prekeys(first_id=1, count=1, identity=identity, now=1)
        for prekey in (signed.public, kyber.public):
            verify_signature(identity.public_key, prekey.public_key, prekey.signature)
        check_ec_public_key(signed.public.public_key)
        check_kyber_public_key(kyber.public.public_key)


async def test_our_signatures_are_accepted_by_libsignal(crypto: SignalCrypto) -> None:
    local = LocalDevice(Address("00000000-0000-4000-8000-000000000001", 1), await crypto.generate_identity(), 1)
    remote = Address("00000000-0000-4000-8000-000000000002", 1)
    for _ in range(40):
        pair = generate_key_pair()
        identity = Identity(pair.public, pair.private)
        [kyber] = await crypto.generate_kyber_prekeys(first_id=1, count=1, identity=identity, now=1)
        prekey = generate_key_pair().public
        good = SignedPublicPrekey(1, prekey, sign(pair.private, prekey))
        bundle = PrekeyBundle(1, 1, pair.public, good, kyber.public)
        await crypto.process_bundle(local=local, remote=remote, session=None, known=None, bundle=bundle, now=1)
        bad = SignedPublicPrekey(1, prekey, sign(generate_key_pair().private, prekey))
        with pytest.raises(VerificationFailed):
            await crypto.process_bundle(
                local=local,
                remote=remote,
                session=None,
                known=None,
                bundle=PrekeyBundle(1, 1, pair.public, bad, kyber.public),
                now=1,
            )


def edwards(public_key: bytes, sign_bit: int) -> Ed25519PublicKey:
    """The same key as an Ed25519 key, by the formula of RFC 7748, section 4.1: y = (u - 1) / (u + 1)."""
    u = int.from_bytes(public_key[1:], "little")
    y = (u - 1) * pow(u + 1, -1, PRIME) % PRIME
    return Ed25519PublicKey.from_public_bytes((y | sign_bit << 255).to_bytes(32, "little"))


@given(st.binary(max_size=200))
def test_a_second_implementation_agrees(message: bytes) -> None:
    signature = sign(PAIR.private, message)
    verify_signature(PAIR.public, message, signature)
    edwards(PAIR.public, 0).verify(signature, message)
    with pytest.raises(CryptographyInvalidSignature):
        edwards(PAIR.public, 0).verify(signature, message + b"!")


@given(st.binary(min_size=1, max_size=64), st.integers(0, 63), st.integers(0, 7))
def test_no_altered_bit_is_accepted(message: bytes, byte: int, bit: int) -> None:
    signature = sign(PAIR.private, message)
    altered = bytearray(signature)
    altered[byte] ^= 1 << bit
    with pytest.raises(InvalidSignature):
        verify_signature(PAIR.public, message, bytes(altered))
    with pytest.raises(InvalidSignature):
        verify_signature(PAIR.public, bytes([message[0] ^ 1]) + message[1:], signature)
    with pytest.raises(InvalidSignature):
        verify_signature(generate_key_pair().public, message, signature)


@pytest.mark.parametrize("key", [b"", bytes(33), b"\x05" + bytes(31), b"\x05" + bytes(33), b"\x06" + bytes(32)])
def test_a_key_of_another_form_proves_nothing(key: bytes) -> None:
    with pytest.raises(InvalidSignature):
        verify_signature(key, b"message", bytes(64))


def test_the_key_for_which_anyone_can_sign_is_refused() -> None:
    with pytest.raises(InvalidSignature):
        verify_signature(b"\x05" + bytes(32), b"message", bytes(64))


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(InvalidSignature):
        verify_signature(PAIR.public, b"message", bytes(size))


def test_public_keys_have_one_encoding() -> None:
    check_ec_public_key(PAIR.public)
    check_ec_public_key(b"\x05" + (PRIME - 1).to_bytes(32, "little"))
    for key in (b"\x05" + PRIME.to_bytes(32, "little"), PAIR.public + b"\x00", b"\x08" + PAIR.public[1:], b""):
        with pytest.raises(InvalidKey):
            check_ec_public_key(key)
    check_kyber_public_key(b"\x08" + bytes(1568))
    for key in (b"\x08" + bytes(1567), b"\x05" + bytes(1568), b""):
        with pytest.raises(InvalidKey):
            check_kyber_public_key(key)


def test_a_public_key_belongs_to_its_private_key_and_neither_shows() -> None:
    assert public_key_of(PAIR.private) == PAIR.public
    assert PAIR.private.hex() not in repr(PAIR)
    assert repr(PAIR.private) not in repr(PAIR)
    for private in (b"", secrets.token_bytes(31), secrets.token_bytes(33)):
        with pytest.raises(InvalidKey):
            public_key_of(private)
        with pytest.raises(InvalidKey):
            sign(private, b"message")


def test_importing_it_loads_nothing_of_the_worker() -> None:
    program = (
        "import sys, signal_protocol.public\n"
        "assert not {'asyncio', 'msgpack', 'signal_protocol.sessions', 'signal_protocol.operations', "
        "'signal_protocol.worker_process'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
