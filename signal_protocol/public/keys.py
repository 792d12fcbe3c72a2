"""Curve25519 keys and their XEdDSA signatures, and the format of the public keys that Signal publishes.

A key that passes a check here has exactly one encoding, and so has a signature up to its sign bit; libsignal is laxer in
both. Random numbers come from the operating system. Private keys pass through Python's memory, which cannot be wiped
reliably; what keeps them at rest is the caller's business.

Sources: Perrin, "The XEdDSA and VXEdDSA Signature Schemes" (2016); RFC 7748, section 5; and for what libsignal does
differently its files ``rust/core/src/curve/curve25519.rs`` and ``rust/protocol/src/kem.rs``.
"""

import secrets
from dataclasses import dataclass, field
from typing import Final

from xeddsa.bindings import (
    curve25519_pub_to_ed25519_pub,
    ed25519_priv_sign,
    ed25519_verify,
    priv_force_sign,
    priv_to_curve25519_pub,
)

from signal_protocol.public.errors import InvalidKey, InvalidSignature

PRIVATE_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
EC_PUBLIC_KEY_BYTES: Final = 33
EC_KEY_TYPE: Final = 0x05
KYBER_PUBLIC_KEY_BYTES: Final = 1569
KYBER_KEY_TYPE: Final = 0x08

_FIELD_PRIME: Final = 2**255 - 19
_SIGN_BIT: Final = 0x80
_ALWAYS_ZERO_BITS: Final = 0x60  # a scalar is below 2^253, and bit 255 of a signature is its sign bit


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A Curve25519 key pair as libsignal serializes it.

    Attributes:
        private: the clamped scalar, 32 bytes, little-endian.
        public: type byte 0x05 and the Montgomery u-coordinate, 33 bytes.
    """

    private: bytes = field(repr=False)
    public: bytes


def generate_key_pair() -> KeyPair:
    """Return a fresh key pair for identities, trust roots, server certificates or prekeys."""
    private = _clamped(secrets.token_bytes(PRIVATE_KEY_BYTES))
    return KeyPair(private, public_key_of(private))


def public_key_of(private_key: bytes) -> bytes:
    """Return the public key, 33 bytes, that belongs to ``private_key``.

    Raises:
        InvalidKey: ``private_key`` is not 32 bytes long.

    Source: RFC 7748, section 6.1.
    """
    return bytes([EC_KEY_TYPE]) + priv_to_curve25519_pub(_clamped(private_key))


def sign(private_key: bytes, message: bytes) -> bytes:
    """Return an XEdDSA signature of ``message``, 64 bytes, valid to libsignal and to :func:`verify_signature`.

    The signature is randomized: two of the same message differ. Its sign bit is always 0, as in the paper; libsignal may
    set it in its own signatures and accepts both.

    Raises:
        InvalidKey: ``private_key`` is not 32 bytes long.

    Source: XEdDSA, section 2.3 (``calculate_key_pair``) and section 2.4 (``xeddsa_sign``).
    """
    return ed25519_priv_sign(priv_force_sign(_clamped(private_key), set_sign_bit=False), message)


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Check that the owner of ``public_key`` signed ``message``; return only if so.

    Args:
        public_key: 33 bytes, type byte 0x05; an unusable key proves nothing and is refused like a wrong signature.
        message: what was signed, any length. For a signed or Kyber prekey: the serialized public key, type byte included.
        signature: 64 bytes. The top bit of the last byte is the sign of the Edwards key; the two bits below it are zero.

    Raises:
        InvalidSignature: the key or the signature breaks its format, or the signature does not match.

    Source: XEdDSA, section 2.4 (``xeddsa_verify``), with the sign bit where libsignal puts it.
    """
    try:
        check_ec_public_key(public_key)
    except InvalidKey as error:
        raise InvalidSignature("a signature needs a Curve25519 public key in its one valid encoding") from error
    if len(signature) != SIGNATURE_BYTES:
        raise InvalidSignature("a signature has 64 bytes")
    last = signature[-1]
    if last & _ALWAYS_ZERO_BITS:
        raise InvalidSignature("bits 5 and 6 of the last byte of a signature are zero")
    if not any(public_key[1:]):
        raise InvalidSignature("the all-zero key signs nothing")  # a point of order 2, for which anyone can sign
    edwards_key = curve25519_pub_to_ed25519_pub(public_key[1:], set_sign_bit=bool(last & _SIGN_BIT))
    if not ed25519_verify(signature[:-1] + bytes([last & ~_SIGN_BIT]), edwards_key, message):
        raise InvalidSignature("the signature does not match key and message")


def check_ec_public_key(key: bytes) -> None:
    """Check the form of a serialized Curve25519 public key: 33 bytes, type byte 0x05, coordinate below 2^255 - 19.

    It says nothing about who owns the key. libsignal ignores trailing bytes and the top bit of the last byte, so that
    there one key has many encodings; here it has one.

    Raises:
        InvalidKey: the form is broken.

    Source: RFC 7748, section 5; libsignal, ``PublicKey::deserialize`` and ``PublicKey::is_canonical``.
    """
    if len(key) != EC_PUBLIC_KEY_BYTES:
        raise InvalidKey("a Curve25519 public key has 33 bytes")
    if key[0] != EC_KEY_TYPE:
        raise InvalidKey("a Curve25519 public key has type 0x05")
    if int.from_bytes(key[1:], "little") >= _FIELD_PRIME:
        raise InvalidKey("the coordinate of a Curve25519 public key is below 2^255 - 19")


def check_kyber_public_key(key: bytes) -> None:
    """Check the form of a serialized Kyber-1024 public key: 1569 bytes, type byte 0x08.

    Raises:
        InvalidKey: the form is broken.

    Source: libsignal, ``kem::PublicKey`` and ``kem::KeyType``.
    """
    if len(key) != KYBER_PUBLIC_KEY_BYTES:
        raise InvalidKey("a Kyber-1024 public key has 1569 bytes")
    if key[0] != KYBER_KEY_TYPE:
        raise InvalidKey("a Kyber-1024 public key has type 0x08")


def _clamped(private_key: bytes) -> bytes:
    """Return the scalar that libsignal would use for these 32 bytes (RFC 7748, section 5)."""
    if len(private_key) != PRIVATE_KEY_BYTES:
        raise InvalidKey("a Curve25519 private key has 32 bytes")
    return bytes([private_key[0] & 0xF8, *private_key[1:31], private_key[31] & 0x7F | 0x40])
