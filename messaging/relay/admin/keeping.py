"""What is kept of what operators hold: keyed hashes of random values, and seals of what has to be read again.

No value is ever kept as it is. Each kind has a label of its own, so that a code of one kind is worth nothing as another.
"""

import hmac
import secrets
from enum import StrEnum
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from messaging.relay.server_secret import ServerSecret

VALUE_BYTES = 32
_NONCE_BYTES = 12
_CODE_BYTES = 10  # 80 bits: 16 letters, of which nobody guesses one in any time
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32: no I, L, O, U
_GROUP = 4
_MEANT = str.maketrans("OIL" + _ALPHABET.lower() + "oil", "011" + _ALPHABET + "011", "- \t\r\n")


class Kind(StrEnum):
    """What a value is for."""

    SIGN_IN = "sign-in"
    CHALLENGE = "challenge"
    ENROLMENT = "enrolment"
    HANDLE = "handle of who enrols"
    RECOVERY_CODE = "recovery code"
    API = "token of the API"
    TRIES = "tries"
    TOTP = "totp"
    OIDC = "oidc"


class SealBroken(Exception):
    """What was to be unsealed is not what was sealed, or not for this."""


def new_value() -> str:
    """32 random bytes, as 43 letters that may stand in an address or a cookie."""
    return secrets.token_urlsafe(VALUE_BYTES)


def new_code() -> str:
    """A code that people type, in groups: ``K7QX-2M4T-9DPA-VB3E``."""
    value = int.from_bytes(secrets.token_bytes(_CODE_BYTES))
    letters = [_ALPHABET[value >> shift & 31] for shift in range(_CODE_BYTES * 8 - 5, -1, -5)]
    return "-".join("".join(letters[at : at + _GROUP]) for at in range(0, len(letters), _GROUP))


def as_meant(code: str) -> str:
    """A code that somebody has typed. Case, dashes and spaces do not count; O is 0, I and L are 1."""
    return code.translate(_MEANT)


def hash_of(secret: ServerSecret, kind: Kind, value: str | bytes) -> bytes:
    """What is kept of a value (HMAC-SHA-256, 32 bytes): equal values of one kind have equal hashes."""
    return hmac.digest(_key(secret, kind), value.encode() if isinstance(value, str) else value, sha256)


def seal(secret: ServerSecret, kind: Kind, plaintext: bytes, *, whose: bytes) -> bytes:
    """Seal something for one operator (AES-256-GCM); ``whose`` has to be said again to read it."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(_key(secret, kind)).encrypt(nonce, plaintext, whose)


def unseal(secret: ServerSecret, kind: Kind, sealed: bytes, *, whose: bytes) -> bytes:
    """Undo :func:`seal`.

    Raises:
        SealBroken: it was changed, or is somebody else's.
    """
    try:
        return AESGCM(_key(secret, kind)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], whose)
    except (InvalidTag, ValueError):
        raise SealBroken from None


def _key(secret: ServerSecret, kind: Kind) -> bytes:
    return hmac.digest(secret.operator_key, f"subrosa console 1: {kind}".encode(), sha256)
