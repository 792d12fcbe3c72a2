"""Certificates, revocation lists and OCSP answers out of single DER parts, so that one of them can be what no library writes.

Everything is well-formed by default and signed by one P-384 key for all; every field holds the DER of its part.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.attestation.authority.nvidia import der

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LATER = datetime(2027, 6, 1, tzinfo=UTC)
ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
NAME = bytes.fromhex("300d310b3009060355040613025553")  # C=US
OTHER_NAME = bytes.fromhex("300d310b3009060355040613024445")  # C=DE
BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE = "2.5.29.19", "2.5.29.15", "2.5.29.37"
CA = bytes.fromhex("30030101ff")
OCSP_SIGNING = bytes.fromhex("300a06082b06010505070309")


@functools.cache
def key() -> ec.EllipticCurvePrivateKey:
    """The key that signs everything here."""
    return ec.generate_private_key(ec.SECP384R1())


def spki(public: ec.EllipticCurvePublicKey | None = None) -> bytes:
    """A public key in DER; of ``key`` if no other is given."""
    return (public or key().public_key()).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def integer(value: int) -> bytes:
    """An INTEGER."""
    return asn1.encode_der(value)


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER."""
    return asn1.encode_der(x509.ObjectIdentifier(dotted))


def sequence(*parts: bytes) -> bytes:
    """A SEQUENCE."""
    return der(0x30, *parts)


def utc(moment: datetime) -> bytes:
    """A UTCTime, for years up to 2049."""
    return der(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


def generalized(moment: datetime | str) -> bytes:
    """A GeneralizedTime; text is taken as it is."""
    return der(0x18, (moment if isinstance(moment, str) else moment.strftime("%Y%m%d%H%M%SZ")).encode())


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    """One extension around ``value``, which may be anything."""
    return sequence(oid(dotted), b"\x01\x01\xff" if critical else b"", der(4, value))


def signed(body: bytes, algorithm: bytes, signer: ec.EllipticCurvePrivateKey, *tail: bytes, unused: int = 0) -> bytes:
    """``body``, the algorithm and the signature over it; ``unused`` is how many bits of the last byte do not count."""
    digest = hashes.SHA256() if algorithm == ECDSA_SHA256 else hashes.SHA384()
    signature = signer.sign(body, ec.ECDSA(digest))
    while unused and signature[-1] & (1 << unused) - 1:  # DER wants them to be zero
        signature = signer.sign(body, ec.ECDSA(digest))
    return sequence(body, algorithm, der(3, bytes([unused]), signature), *tail)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateParts:
    """A certificate, part by part."""

    version: bytes = der(0xA0, integer(2))
    serial: bytes = integer(1)
    algorithm: bytes = ECDSA_SHA384
    issuer: bytes = NAME
    validity: bytes = sequence(utc(NOW), utc(LATER))
    subject: bytes = NAME
    public_key: bytes = field(default_factory=spki)
    extensions: Sequence[bytes] = ()
    tail: bytes = b""  # behind the extensions
    outer_algorithm: bytes = ECDSA_SHA384
    unused: int = 0

    def encode(self, signer: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        """The certificate, DER."""
        body = sequence(
            self.version,
            self.serial,
            self.algorithm,
            self.issuer,
            self.validity,
            self.subject,
            self.public_key,
            der(0xA3, sequence(*self.extensions)),
            self.tail,
        )
        return signed(body, self.outer_algorithm, signer or key(), unused=self.unused)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListParts:
    """A revocation list, part by part."""

    version: bytes = integer(1)
    algorithm: bytes = ECDSA_SHA384
    issuer: bytes = NAME
    this_update: bytes = utc(NOW)
    next_update: bytes = utc(LATER)
    entries: bytes = b""
    extensions: Sequence[bytes] = (extension("2.5.29.20", integer(1)),)
    outer_algorithm: bytes = ECDSA_SHA384
    unused: int = 0

    def encode(self, signer: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        """The list, DER."""
        extensions = der(0xA0, sequence(*self.extensions)) if self.extensions else b""
        parts = (self.version, self.algorithm, self.issuer, self.this_update, self.next_update, self.entries)
        return signed(sequence(*parts, extensions), self.outer_algorithm, signer or key(), unused=self.unused)


def entry(serial: int, *extensions: bytes) -> bytes:
    """One line of a revocation list."""
    return sequence(integer(serial), utc(NOW), sequence(*extensions) if extensions else b"")


GOOD, UNKNOWN = der(0x80), der(0x82)
REVOKED = der(0xA1, generalized(NOW))
SHA1, SHA256, SHA384 = "1.3.14.3.2.26", "2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.2"


def subject(
    name: bytes, public_key: bytes, serial: int, digest: str = SHA384, parameters: bytes = b"\x05\x00"
) -> bytes:
    """Of which certificate an answer speaks; ``name`` and ``public_key`` are digests of its issuer's."""
    return sequence(sequence(oid(digest), parameters), der(4, name), der(4, public_key), integer(serial))


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleParts:
    """What an answer says of one certificate, part by part."""

    subject: bytes = subject(b"name", b"key", 1)
    status: bytes = GOOD
    this_update: bytes = generalized(NOW)
    next_update: bytes = der(0xA0, generalized(LATER))
    extensions: Sequence[bytes] = ()

    def encode(self) -> bytes:
        """The statement, DER."""
        extensions = der(0xA1, sequence(*self.extensions)) if self.extensions else b""
        return sequence(self.subject, self.status, self.this_update, self.next_update, extensions)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerParts:
    """An OCSP answer, part by part."""

    status: bytes = bytes.fromhex("0a0100")
    type: str = "1.3.6.1.5.5.7.48.1.1"
    version: bytes = b""
    responder: bytes = der(0xA2, der(4, bytes(20)))
    produced_at: bytes = generalized(NOW)
    singles: Sequence[SingleParts] = (SingleParts(),)
    extensions: Sequence[bytes] = ()
    algorithm: bytes = ECDSA_SHA384
    certificates: Sequence[bytes] = ()
    unused: int = 0

    def encode(self, signer: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        """The answer, DER."""
        extensions = der(0xA1, sequence(*self.extensions)) if self.extensions else b""
        singles = sequence(*(single.encode() for single in self.singles))
        body = sequence(self.version, self.responder, self.produced_at, singles, extensions)
        attached = der(0xA0, sequence(*self.certificates)) if self.certificates else b""
        basic = signed(body, self.algorithm, signer or key(), attached, unused=self.unused)
        return sequence(self.status, der(0xA0, sequence(oid(self.type), der(4, basic))))
