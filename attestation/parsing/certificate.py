"""X.509 certificates (RFC 5280, section 4), read with the one tolerance that AMD needs.

Every VCEK has serial number 0, which RFC 5280 (section 4.1.2.2) forbids and ``cryptography``'s own loader is going to refuse.
So certificates are read here through its declarative DER decoder: strict about the encoding, silent about that number.
"""

import hashlib
import re
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType
from typing import Annotated

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509 import ObjectIdentifier

from attestation.errors import MalformedCollateral
from attestation.limits import MAX_CERTIFICATE, MAX_CERTIFICATES

BASIC_CONSTRAINTS = "2.5.29.19"
KEY_USAGE = "2.5.29.15"
_KEY_CERT_SIGN = 5  # the bit of KeyUsage (RFC 5280, section 4.2.1.3)
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")


@asn1.sequence
class _Extension:
    oid: ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class _Validity:
    not_before: asn1.UTCTime | asn1.GeneralizedTime
    not_after: asn1.UTCTime | asn1.GeneralizedTime


@asn1.sequence
class _ToBeSigned:
    version: Annotated[int, asn1.Explicit(0)]
    serial: int
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: _Validity
    subject: asn1.TLV
    public_key: asn1.TLV
    extensions: Annotated[list[_Extension], asn1.Explicit(3)]


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
    """One certificate of version 3. ``issuer``, ``subject`` and ``signature_algorithm`` are DER; times have a zone."""

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
    extensions: Mapping[str, bytes] = field(repr=False)
    critical: frozenset[str] = field(repr=False)
    may_issue: bool
    path_length: int | None

    @cached_property
    def public_key(self) -> EllipticCurvePublicKey | RSAPublicKey:
        """The key that this certificate vouches for.

        Raises:
            MalformedCollateral: it is no elliptic-curve and no RSA key.
        """
        try:
            key = load_der_public_key(self.public_key_der)
        except (ValueError, UnsupportedAlgorithm):
            raise MalformedCollateral("the public key of a certificate cannot be read") from None
        if not isinstance(key, EllipticCurvePublicKey | RSAPublicKey):
            raise MalformedCollateral("the public key of a certificate is of an unexpected kind")
        return key

    @cached_property
    def sha256(self) -> bytes:
        """The digest that roots are pinned by, 32 bytes."""
        return hashlib.sha256(self.der).digest()

    @classmethod
    def parse(cls, der: bytes) -> "Certificate":
        """Read one certificate.

        Raises:
            MalformedCollateral: it is not DER of a version 3 certificate, is too large, or names an extension twice.
        """
        if len(der) > MAX_CERTIFICATE:
            raise MalformedCollateral("a certificate is too large")
        try:
            outer = asn1.decode_der(Signed, der)
            inner = outer.to_be_signed.parse(_ToBeSigned)
            extensions = {extension.oid.dotted_string: extension.value for extension in inner.extensions}
            may_issue, path_length = _authority(extensions)
        except ValueError:
            raise MalformedCollateral("a certificate is not well-formed") from None
        if len(extensions) != len(inner.extensions):
            raise MalformedCollateral("a certificate has an extension twice")
        if encoded(inner.signature) != encoded(outer.signature_algorithm) or outer.signature.padding_bits():
            raise MalformedCollateral("a certificate contradicts itself about its signature")
        return cls(
            der=der,
            to_be_signed=encoded(outer.to_be_signed),
            signature_algorithm=encoded(outer.signature_algorithm),
            signature=outer.signature.as_bytes(),
            serial=inner.serial,
            issuer=encoded(inner.issuer),
            subject=encoded(inner.subject),
            not_before=inner.validity.not_before.as_datetime().replace(tzinfo=UTC),
            not_after=inner.validity.not_after.as_datetime().replace(tzinfo=UTC),
            public_key_der=encoded(inner.public_key),
            extensions=MappingProxyType(extensions),
            critical=frozenset(extension.oid.dotted_string for extension in inner.extensions if extension.critical),
            may_issue=may_issue,
            path_length=path_length,
        )


def certificates_from_pem(text: bytes) -> tuple[bytes, ...]:
    """The DER of each certificate in a PEM text, in its order (RFC 7468).

    Raises:
        MalformedCollateral: none, too many, or not base64.
    """
    if len(text) > MAX_CERTIFICATES * MAX_CERTIFICATE * 2:
        raise MalformedCollateral("a chain of certificates is too large")
    try:
        chain = tuple(a2b_base64(body) for body in _PEM.findall(text))
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
