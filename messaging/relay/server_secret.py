"""The one secret of a relay: 32 bytes in a file outside the database, from which each key is derived for one purpose.

Who has the database without this file cannot tell a number from its hash, nor sign a sender certificate.
"""

import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from messaging.relay.errors import StartupError

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class ServerSecret:
    """The keys of one relay, or of all relays on one database. All are 32 bytes."""

    number_hash_key: bytes = field(repr=False)
    verification_key: bytes = field(repr=False)
    number_seal_key: bytes = field(repr=False)
    trust_root_private: bytes = field(repr=False)
    certificate_private: bytes = field(repr=False)
    more_certificates_key: bytes = field(repr=False)
    limit_name_key: bytes = field(repr=False)
    report_key: bytes = field(repr=False)
    link_token_key: bytes = field(repr=False)
    upload_key: bytes = field(repr=False)
    invite_key: bytes = field(repr=False)
    audit_key: bytes = field(repr=False)
    operator_key: bytes = field(repr=False)

    @classmethod
    def derive(cls, secret: bytes) -> "ServerSecret":
        """Derive all keys from the 32 bytes of the file (HKDF-SHA-256, one label each)."""
        return cls(
            number_hash_key=_derive(secret, "number hash"),
            verification_key=_derive(secret, "verification"),
            number_seal_key=_derive(secret, "number seal"),
            trust_root_private=_derive(secret, "sealed sender trust root"),
            certificate_private=_derive(secret, "sealed sender server certificate"),
            more_certificates_key=_derive(secret, "further sealed sender server certificates"),
            limit_name_key=_derive(secret, "names of rate limits"),
            report_key=_derive(secret, "spam report tokens"),
            link_token_key=_derive(secret, "device linking tokens"),
            upload_key=_derive(secret, "attachment upload permissions"),
            invite_key=_derive(secret, "invite"),
            audit_key=_derive(secret, "seals of the audit log"),
            operator_key=_derive(secret, "what operators sign in with"),
        )

    def certificate_key(self, key_id: int) -> bytes:
        """The private key of the sealed sender's server certificate with this number."""
        return self.certificate_private if key_id == 1 else _derive(self.more_certificates_key, str(key_id))

    def number_hash(self, number: str) -> bytes:
        """The only form in which a number is kept with an account (HMAC-SHA-256)."""
        return hmac.digest(self.number_hash_key, number.encode(), sha256)


def _derive(secret: bytes, label: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=f"subrosa relay 1: {label}".encode()).derive(secret)


def secret_of(given: Path | None, database: Path | None, *, create: bool) -> ServerSecret:
    """The secret of the relays on one database: in the file ``given``, or beside the SQLite file ``database``.

    Raises:
        StartupError: neither is named, or see :func:`read_secret`. ``create`` is for the second case only.
    """
    path = secret_path(given, database)
    if path is None:
        raise StartupError("with PostgreSQL, --secret-file must name a file with 32 random bytes")
    return read_secret(path, create=create and given is None)


def secret_path(given: Path | None, database: Path | None) -> Path | None:
    """The file of the secret: ``given``, or the one beside the SQLite file ``database``."""
    return database.with_name(f"{database.name}.secret") if given is None and database is not None else given


def read_secret(path: Path, *, create: bool) -> ServerSecret:
    """Read the secret file, or make it first if ``create``.

    Raises:
        StartupError: the file is missing, unreadable or not 32 bytes long.
    """
    if create and not path.exists():
        _create(path)
    try:
        secret = path.read_bytes()
    except OSError as error:
        raise StartupError(f"cannot read the secret file: {error.strerror}") from None
    if len(secret) != SECRET_BYTES:
        raise StartupError(f"the secret file must hold {SECRET_BYTES} random bytes")
    return ServerSecret.derive(secret)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Written aside and then linked: a second process sees the whole file or none, and the first one stands.
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink()
