"""How records are sealed: authenticated encryption bound to where a record stands, and names that reveal nothing.

A record is AES-256-GCM-SIV (RFC 8452) with a random nonce, and its kind, name and version as associated data, so that
records cannot be swapped or rolled back one by one. A name is HMAC-SHA-256 under a key of its own: equal names can be
looked up, and nobody reads them. Rolling back the whole file is not noticed here.
"""

import os
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from messaging.client.errors import CorruptStore

KEY = 32  # bytes
SALT = 16  # bytes
_NONCE = 12
_NAME = 16


def derive_key(passphrase: str, salt: bytes) -> bytes:
    """The key of a store from a passphrase (Argon2id, RFC 9106, section 4, second recommendation: 64 MiB, 3 passes).

    ``salt`` is 16 random bytes that the application keeps beside the store. Takes about a tenth of a second; call it in a
    thread.
    """
    if len(salt) != SALT:
        raise ValueError("a salt is 16 bytes")
    return Argon2id(salt=salt, length=KEY, iterations=3, lanes=4, memory_cost=64 * 1024).derive(passphrase.encode())


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals and names the records of one store."""

    _aead: AESGCMSIV = field(repr=False)
    _names: bytes = field(repr=False)

    @classmethod
    def from_key(cls, key: bytes) -> "Sealer":
        """From the key of the store, 32 bytes."""
        if len(key) != KEY:
            raise ValueError("the key of a store is 32 bytes")
        keys = HKDF(hashes.SHA256(), 2 * KEY, salt=None, info=b"subrosa client store v1").derive(key)
        return cls(AESGCMSIV(keys[:KEY]), keys[KEY:])

    def name(self, *parts: str) -> bytes:
        """16 bytes that stand for ``parts``."""
        mac = hmac.HMAC(self._names, hashes.SHA256())
        for part in parts:
            data = part.encode()
            mac.update(len(data).to_bytes(4, "big") + data)
        return mac.finalize()[:_NAME]

    def seal(self, record: bytes, kind: str, name: bytes, version: int) -> bytes:
        """``record`` for this place."""
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, record, _place(kind, name, version))

    def open(self, sealed: bytes, kind: str, name: bytes, version: int) -> bytes:
        """Undo :meth:`seal`.

        Raises:
            CorruptStore: sealed for another place, under another key, or altered.
        """
        try:
            return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], _place(kind, name, version))
        except (InvalidTag, ValueError):
            raise CorruptStore from None


def _place(kind: str, name: bytes, version: int) -> bytes:
    return kind.encode() + b"\x00" + name + version.to_bytes(8, "big")
