"""Whether uploaded prekeys are what they must be: public keys in form, signed by the identity key.

Source: libsignal signs the serialized public key, type byte included, with XEdDSA.
"""

from collections.abc import Iterable

from messaging.relay.errors import InvalidRequest, InvalidSignedKey
from messaging.wire.keys import KyberPreKey, PreKey, SignedPreKey
from signal_protocol.public.errors import PublicError
from signal_protocol.public.keys import check_ec_public_key, check_kyber_public_key, verify_signature


def check_identity_key(key: bytes) -> None:
    """Check the form of an identity key.

    Raises:
        InvalidSignedKey: not a Curve25519 public key in its one valid encoding.
    """
    try:
        check_ec_public_key(key)
    except PublicError:
        raise InvalidSignedKey from None


def check_prekeys(identity_key: bytes, keys: Iterable[PreKey | SignedPreKey | KyberPreKey]) -> None:
    """Check the form of each key, and the signature of each that carries one.

    Raises:
        InvalidSignedKey: one of them is not in form, or not signed by ``identity_key``.
    """
    try:
        for key in keys:
            if isinstance(key, KyberPreKey):
                check_kyber_public_key(key.public_key)
            else:
                check_ec_public_key(key.public_key)
            if not isinstance(key, PreKey):
                verify_signature(identity_key, key.public_key, key.signature)
    except PublicError:
        raise InvalidSignedKey from None


def check_distinct(keys: Iterable[PreKey | KyberPreKey], member: str) -> None:
    """Check that no id stands twice in one upload: the device could not tell which private key is meant.

    Raises:
        InvalidRequest: an id stands twice.
    """
    ids = [key.key_id for key in keys]
    if len(set(ids)) != len(ids):
        raise InvalidRequest(member)
