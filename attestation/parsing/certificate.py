"""X.509 certificates (RFC 5280, section 4), read with the one tolerance that AMD needs.

Every VCEK has serial number 0, which RFC 5280 (section 4.1.2.2) forbids and ``cryptography``'s own loader is going to refuse.
So certificates are read here through its declarative DER decoder: strict about the encoding, silent about that number.
"""

import hashlib
import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Annotated, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509 import ObjectIdentifier

from attestation.errors import MalformedCollateral
from attestation.limits import MAX_CERTIFICATE, MAX_CERTIFICATES

BASIC_CONSTRAINTS: Final = "2.5.29.19"
KEY_USAGE: Final = "2.5.29.15"
Time = asn1.UTCTime | asn1.GeneralizedTime  # RFC 5280, section 4.1.2.5
_VERSION_3 = 2
_KEY_CERT_SIGN = 5  # the bit of KeyUsage (RFC 5280, section 4.2.1.3)
_RSA_BITS: Final = range(2048, 4096 + 1)  # AMD's have 4096; larger ones take long to check
MAX_PEM: Final = MAX_CERTIFICATES * MAX_CERTIFICATE * 2  # base64 and its lines take less than twice the bytes
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")


@asn1.sequence
class Extension:
    """One extension of a certificate, a list or an answer (RFC 5280, section 4.1)."""

    oid: ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class _Validity:
    not_before: Time
    not_after: Time


@asn1.sequence
class _ToBeSigned:
    version: Annotated[int, asn1.Explicit(0)]
    serial: int
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: _Validity
    subject: asn1.TLV
    public_key: asn1.TLV
    extensions: Annotated[list[Extension], asn1.Explicit(3)]


@asn1.sequence
class Signed:
    """What certificates and revocation lists have in common: something, and a signature over it."""

    to_be_signed: asn1.TLV
    signature_algorithm: asn1.TLV
    signature: asn1.BitString


@asn1.sequence
class PublicKeyInfo:
    """A public key and its kind (RFC 5280, section 4.1.2.7)."""

    algorithm: asn1.TLV
    key: asn1.BitString


@asn1.sequence
class _BasicConstraints:
    ca: Annotated[bool, asn1.Default(False)]
    path_length: int | None


@dataclass(frozen=True)
class Certificate:
    """One certificate of version 3. ``issuer``, ``subject`` and ``signature_algorithm`` are DER; times have a zone.

    ``public_key_der`` names the kind of the key, ``public_key_bits`` are the key alone, as OCSP digests it.
    """

    der: bytes = field(repr=False)
    to_be_signed: bytes = field(repr=False)
    signature_algorithm: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    serial: int
    issuer: bytes = field(repr=False)
    subject: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime
    public_key_der: bytes = field(repr=False)
    public_key_bits: bytes = field(repr=False)
    extensions: Mapping[str, bytes] = field(repr=False)
    critical: frozenset[str] = field(repr=False)
    may_issue: bool
    path_length: int | None

    @cached_property
    def public_key(self) -> EllipticCurvePublicKey | RSAPublicKey:
        """The key that this certificate vouches for.

        Raises:
            MalformedCollateral: it is no elliptic-curve key, and no RSA key of 2048 to 4096 bits.
        """
        try:
            key = load_der_public_key(self.public_key_der)
        except (ValueError, UnsupportedAlgorithm):
            raise MalformedCollateral("the public key of a certificate cannot be read") from None
        if not isinstance(key, EllipticCurvePublicKey | RSAPublicKey):
            raise MalformedCollateral("the public key of a certificate is of an unexpected kind")
        if isinstance(key, RSAPublicKey) and key.key_size not in _RSA_BITS:
            raise MalformedCollateral("the public key of a certificate is of an unexpected size")
        return key

    @cached_property
    def sha256(self) -> bytes:
        """The digest that roots are pinned by, 32 bytes."""
        return hashlib.sha256(self.der).digest()

    @classmethod
    def parse(cls, der: bytes) -> "Certificate":
        """Read one certificate.

        Raises:
            MalformedCollateral: it is not DER of a version 3 certificate, is too large, names an extension twice, or has a
                negative serial number.
        """
        if len(der) > MAX_CERTIFICATE:
            raise MalformedCollateral("a certificate is too large")
        return _parse(der)


@lru_cache(maxsize=256)  # one appraisal meets the same issuers several times, and the next appraisal again
def _parse(der: bytes) -> Certificate:
    try:
        outer = asn1.decode_der(Signed, der)
        inner = outer.to_be_signed.parse(_ToBeSigned)
        extensions = {extension.oid.dotted_string: extension.value for extension in inner.extensions}
        may_issue, path_length = _authority(extensions)
        signature = signature_bytes(outer.signature)
        public_key = inner.public_key.parse(PublicKeyInfo)
        not_before, not_after = moment(inner.validity.not_before), moment(inner.validity.not_after)
    except ValueError:
        raise MalformedCollateral("a certificate is not well-formed") from None
    if inner.version != _VERSION_3 or inner.serial < 0:
        raise MalformedCollateral("a certificate is of another version than 3, or has a negative serial number")
    if len(extensions) != len(inner.extensions):
        raise MalformedCollateral("a certificate has an extension twice")
    if encoded(inner.signature) != encoded(outer.signature_algorithm):
        raise MalformedCollateral("a certificate contradicts itself about its signature")
    return Certificate(
        der=der,
        to_be_signed=encoded(outer.to_be_signed),
        signature_algorithm=encoded(outer.signature_algorithm),
        signature=signature,
        serial=inner.serial,
        issuer=encoded(inner.issuer),
        subject=encoded(inner.subject),
        not_before=not_before,
        not_after=not_after,
        public_key_der=encoded(inner.public_key),
        public_key_bits=public_key.key.as_bytes(),
        extensions=MappingProxyType(extensions),
        critical=frozenset(extension.oid.dotted_string for extension in inner.extensions if extension.critical),
        may_issue=may_issue,
        path_length=path_length,
    )


def certificates_from_pem(text: bytes) -> tuple[bytes, ...]:
    """The DER of each certificate in a PEM text, in its order (RFC 7468, without its explanatory text).

    Intel's quoting library ends the text with a zero byte.

    Raises:
        MalformedCollateral: none, too many, not base64, or something else than certificates in between.
    """
    if len(text) > MAX_PEM:
        raise MalformedCollateral("a chain of certificates is too large")
    between, bodies = (parts := _PEM.split(text.rstrip(b"\0")))[::2], parts[1::2]
    if any(part.strip() for part in between):
        raise MalformedCollateral("a PEM text holds something other than certificates")
    try:
        chain = tuple(b64decode(b"".join(body.split()), validate=True) for body in bodies)
    except NotBase64:
        raise MalformedCollateral("a PEM certificate is not base64") from None
    if not 0 < len(chain) <= MAX_CERTIFICATES:
        raise MalformedCollateral("a PEM text holds no certificate, or too many")
    return chain


def _authority(extensions: Mapping[str, bytes]) -> tuple[bool, int | None]:
    """Whether this certificate may issue others, and how deep: BasicConstraints and KeyUsage have to agree."""
    if BASIC_CONSTRAINTS not in extensions:
        return False, None
    constraints = asn1.decode_der(_BasicConstraints, extensions[BASIC_CONSTRAINTS])
    usage = extensions.get(KEY_USAGE)
    return constraints.ca and (usage is None or _may_sign_certificates(usage)), constraints.path_length


def _may_sign_certificates(usage: bytes) -> bool:
    bits = asn1.decode_der(asn1.BitString, usage).as_bytes()
    return bool(bits and bits[0] & (0x80 >> _KEY_CERT_SIGN))


def signature_bytes(bits: asn1.BitString) -> bytes:
    """A signature out of its BIT STRING.

    Raises:
        ValueError: the bits are no whole bytes.
    """
    if bits.padding_bits():
        raise ValueError
    return bits.as_bytes()


def moment(time: Time) -> datetime:
    """``time`` with its zone, which is always UTC.

    Raises:
        ValueError: of the decoder: the year is 0, which no calendar has.
    """
    return time.as_datetime().replace(tzinfo=UTC)


def encoded(value: asn1.TLV) -> bytes:
    """The bytes of a value with its tag and length, which DER encodes in one way only."""
    content = bytes(value.data)
    size = len(content)
    if size < 0x80:
        length = bytes([size])
    else:
        digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([0x80 | len(digits)]) + digits
    return value.tag_bytes + length + content
