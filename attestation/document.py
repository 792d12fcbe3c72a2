"""An evidence document: a hardware report, and the keys that it speaks for. Syntax only; nothing here is trusted yet."""

import hashlib
from dataclasses import dataclass, field

from attestation.encoding import decode, encode, from_base64, to_base64
from attestation.errors import MalformedEvidence

VERSION = 1
IDENTITY_KEY = 33  # bytes: a type byte 0x05, then the Curve25519 point (libsignal)
MAX_RELEASE = 128  # characters


@dataclass(frozen=True, slots=True)
class KeySection:
    """The keys made inside the TEE at start.

    ``identity_key`` is the Signal identity that messages are encrypted to; ``release`` names the running version.
    """

    identity_key: bytes
    release: str

    def digest(self) -> bytes:
        """SHA-256 of the canonical form: what the report commits to."""
        return hashlib.sha256(encode(self.members())).digest()

    def members(self) -> dict[str, object]:
        """The JSON members."""
        return {
            "identity_key": to_base64(self.identity_key),
            "release": self.release,
        }


@dataclass(frozen=True, slots=True)
class EvidenceDocument:
    """What an enclave answers to a nonce. The nonce is not in it: a verifier uses its own."""

    type: str
    report: bytes = field(repr=False)
    keys: KeySection

    def encode(self) -> bytes:
        """The canonical bytes."""
        return encode(
            {
                "keys": self.keys.members(),
                "report": to_base64(self.report),
                "type": self.type,
                "version": VERSION,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "EvidenceDocument":
        """Undo :meth:`encode`.

        Raises:
            MalformedEvidence: anything but the canonical encoding of a document of this version.
        """
        members = decode(data)
        try:
            document = cls(_text(members["type"]), from_base64(members["report"]), _key_section(members["keys"]))
        except KeyError:
            raise MalformedEvidence("a member is missing") from None
        if document.encode() != data:
            raise MalformedEvidence("the document is not in canonical form, or has members unknown to this version")
        return document


def _key_section(value: object) -> KeySection:
    if not isinstance(value, dict):
        raise MalformedEvidence("the key section is not an object")
    keys = KeySection(from_base64(value["identity_key"]), _text(value["release"]))
    if len(keys.identity_key) != IDENTITY_KEY:
        raise MalformedEvidence("the identity key has the wrong length")
    return keys


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_RELEASE or not value.isprintable():
        raise MalformedEvidence("a name is not short printable text")
    return value
