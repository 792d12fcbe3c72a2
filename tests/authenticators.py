"""An authenticator in software, for tests: it makes passkeys and signs with them as Web Authentication, Level 3, says.

What it says can be made wrong by a field: another origin, no user verification, a count that goes back.
"""

import base64
import json
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

USER_PRESENT, USER_VERIFIED, HAS_CREDENTIAL = 0x01, 0x04, 0x40


def letters(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def data(text: str) -> bytes:
    """Undo ``letters``."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """One device with at most one passkey, as seen by pages of ``origin``."""

    origin: str
    flags: int = USER_PRESENT | USER_VERIFIED
    count: int = 0
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    handle: bytes = b""

    def create(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Make the passkey, as ``navigator.credentials.create`` does."""
        self.handle = data(options["user"]["id"])
        credential = bytes(16) + struct.pack(">H", len(self.credential_id)) + self.credential_id + self._cose_key()
        authenticator = self._said(options["rp"]["id"], self.flags | HAS_CREDENTIAL) + credential
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": authenticator})
        client = self._client("webauthn.create", options["challenge"])
        return self._answer({"clientDataJSON": letters(client), "attestationObject": letters(attestation)})

    def get(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Sign a challenge, as ``navigator.credentials.get`` does."""
        self.count += 1
        authenticator = self._said(options["rpId"], self.flags)
        client = self._client("webauthn.get", options["challenge"])
        signature = self.key.sign(authenticator + sha256(client).digest(), ec.ECDSA(SHA256()))
        return self._answer(
            {
                "clientDataJSON": letters(client),
                "authenticatorData": letters(authenticator),
                "signature": letters(signature),
                "userHandle": letters(self.handle),
            }
        )

    def _said(self, site: str, flags: int) -> bytes:
        return sha256(site.encode()).digest() + struct.pack(">BI", flags, self.count)

    def _client(self, kind: str, challenge: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False}).encode()

    def _cose_key(self) -> bytes:
        point = self.key.public_key().public_numbers()
        x, y = (number.to_bytes(32) for number in (point.x, point.y))
        return cbor2.dumps({1: 2, 3: -7, -1: 1, -2: x, -3: y})

    def _answer(self, response: Mapping[str, str]) -> dict[str, Any]:
        name = letters(self.credential_id)
        return {"id": name, "rawId": name, "type": "public-key", "response": response}
