"""Device passwords at rest.

A device password is 16 or more random bytes that a client made, not something a person chose; so a salted HKDF is enough,
as Signal-Server has it, and costs microseconds on each connection.
"""

import hmac
import secrets
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """What is stored: a random salt, and 32 bytes derived from salt and password."""

    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)


def hash_password(password: str) -> PasswordHash:
    """Hash with a fresh salt."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return PasswordHash(salt, _digest(salt, password))


def password_matches(password: str, stored: PasswordHash) -> bool:
    """Whether ``password`` is the one that was hashed; in constant time."""
    return hmac.compare_digest(_digest(stored.salt, password), stored.digest)


def _digest(salt: bytes, password: str) -> bytes:
    return HKDF(SHA256(), 32, salt=salt, info=b"subrosa device password").derive(password.encode())
