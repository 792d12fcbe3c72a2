"""What vendors say of withdrawn keys, by its bytes alone: revocation lists (RFC 5280, section 5) and OCSP answers (RFC 6960).

Both go through the decoder of certificates, and not ``cryptography``'s own loaders, which show no critical extension of an OCSP
statement. One that is not understood may turn the meaning around (a list of changes only, a list for other issuers), so that
what has one is refused.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Final

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from attestation.errors import MalformedCollateral
from attestation.limits import MAX_CERTIFICATES, MAX_CRL, MAX_OCSP
from attestation.parsing.certificate import Extension, Signed, Time, encoded, moment, signature_bytes

NEVER: Final = datetime.max.replace(tzinfo=UTC)
_VERSION_2 = 1
_PARTIAL: Final = {
    "2.5.29.27",
    "2.5.29.28",
}  # delta CRL indicator, issuing distribution point (sections 5.2.4 and 5.2.5)
_SUCCESSFUL: Final = bytes.fromhex("0a0100")
_REFUSALS: Final = {bytes([0x0A, 1, number]) for number in (1, 2, 3, 5, 6)}  # RFC 6960, section 4.2.1
_BASIC: Final = "1.3.6.1.5.5.7.48.1.1"
_GOOD: Final = bytes.fromhex("8000")  # [0] IMPLICIT NULL


@asn1.sequence
class _Entry:
    serial: int
    date: Time
    extensions: list[Extension] | None


@asn1.sequence
class _List:
    version: int
    signature: asn1.TLV
    issuer: asn1.TLV
    this_update: Time
    next_update: Time | None
    entries: list[_Entry] | None
    extensions: Annotated[list[Extension] | None, asn1.Explicit(0)]


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One complete list of version 2. ``issuer`` and ``signature_algorithm`` are DER; ``until`` is the end of time if none is named."""

    to_be_signed: bytes = field(repr=False)
    signature_algorithm: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    issuer: bytes = field(repr=False)
    since: datetime
    until: datetime
    serials: frozenset[int] = field(repr=False)

    @classmethod
    def parse(cls, der: bytes) -> "RevocationList":
        """Read one list.

        Raises:
            MalformedCollateral: it is not DER of a version 2 list, is too large, is only a part of a list, or has a critical
                extension.
        """
        if len(der) > MAX_CRL:
            raise MalformedCollateral("a revocation list is too large")
        try:
            outer = asn1.decode_der(Signed, der)
            inner = outer.to_be_signed.parse(_List)
            signature = signature_bytes(outer.signature)
            since, until = moment(inner.this_update), _until(inner.next_update)
        except ValueError:
            raise MalformedCollateral("a revocation list cannot be read") from None
        if inner.version != _VERSION_2 or encoded(inner.signature) != encoded(outer.signature_algorithm):
            raise MalformedCollateral("a revocation list is of another version than 2, or contradicts itself")
        entries, extensions = inner.entries or [], inner.extensions or []
        if any(extension.oid.dotted_string in _PARTIAL for extension in extensions):
            raise MalformedCollateral("a revocation list is only a part of one")
        _refuse_critical(extensions)
        for entry in entries:
            _refuse_critical(entry.extensions or [])
        return cls(
            to_be_signed=encoded(outer.to_be_signed),
            signature_algorithm=encoded(outer.signature_algorithm),
            signature=signature,
            issuer=encoded(inner.issuer),
            since=since,
            until=until,
            serials=frozenset(entry.serial for entry in entries),
        )


@asn1.sequence
class _Algorithm:
    oid: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _CertificateId:
    hash: _Algorithm
    issuer_name: bytes
    issuer_key: bytes
    serial: int


@asn1.sequence
class _Single:
    subject: _CertificateId
    status: asn1.TLV
    this_update: asn1.GeneralizedTime
    next_update: Annotated[asn1.GeneralizedTime | None, asn1.Explicit(0)]
    extensions: Annotated[list[Extension] | None, asn1.Explicit(1)]


@asn1.sequence
class _ResponseData:
    version: Annotated[int, asn1.Default(0), asn1.Explicit(0)]
    responder: asn1.TLV
    produced_at: asn1.GeneralizedTime
    responses: list[_Single]
    extensions: Annotated[list[Extension] | None, asn1.Explicit(1)]


@asn1.sequence
class _BasicResponse:
    to_be_signed: asn1.TLV
    signature_algorithm: asn1.TLV
    signature: asn1.BitString
    certificates: Annotated[list[asn1.TLV] | None, asn1.Explicit(0)]


@asn1.sequence
class _ResponseBytes:
    type: ObjectIdentifier
    response: bytes


@asn1.sequence
class _Response:
    status: asn1.TLV
    response: Annotated[_ResponseBytes | None, asn1.Explicit(0)]


@dataclass(frozen=True, slots=True)
class Subject:
    """Of which certificate an answer speaks: its number, and digests of its issuer's name and key. ``hash`` is an OID."""

    hash: str
    issuer_name: bytes
    issuer_key: bytes
    serial: int


@dataclass(frozen=True, slots=True)
class Statement:
    """What an answer says of one certificate; ``until`` is the end of time if none is named."""

    subject: Subject
    good: bool
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class OcspAnswer:
    """One answer of an OCSP service. ``certificates`` (DER) are the responder's own offer, and nobody's word yet."""

    to_be_signed: bytes = field(repr=False)
    signature_algorithm: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    certificates: tuple[bytes, ...] = field(repr=False)
    produced_at: datetime
    statements: tuple[Statement, ...]

    @classmethod
    def parse(cls, der: bytes) -> "OcspAnswer | None":
        """Read one answer; ``None`` if the service refused to give one ("try later").

        Raises:
            MalformedCollateral: it is not DER of an OCSP response of version 1, is too large, or has a critical extension.
        """
        if len(der) > MAX_OCSP:
            raise MalformedCollateral("an OCSP answer is too large")
        try:
            outer = asn1.decode_der(_Response, der)
            if outer.response is None and encoded(outer.status) in _REFUSALS:
                return None
            if outer.response is None or encoded(outer.status) != _SUCCESSFUL:
                raise MalformedCollateral("an OCSP answer has no answer in it")
            basic = asn1.decode_der(_BasicResponse, outer.response.response)
            data = basic.to_be_signed.parse(_ResponseData)
            statements = tuple(_statement(single) for single in data.responses)
            signature, produced_at = signature_bytes(basic.signature), moment(data.produced_at)
        except ValueError:
            raise MalformedCollateral("an OCSP answer cannot be read") from None
        if outer.response.type.dotted_string != _BASIC or data.version != 0:
            raise MalformedCollateral("an OCSP answer is of an unknown type or version")
        certificates = basic.certificates or []
        if len(certificates) > MAX_CERTIFICATES:
            raise MalformedCollateral("an OCSP answer has too many certificates")
        _refuse_critical(data.extensions or [])
        return cls(
            to_be_signed=encoded(basic.to_be_signed),
            signature_algorithm=encoded(basic.signature_algorithm),
            signature=signature,
            certificates=tuple(encoded(certificate) for certificate in certificates),
            produced_at=produced_at,
            statements=statements,
        )


def _statement(single: _Single) -> Statement:
    _refuse_critical(single.extensions or [])
    subject = single.subject
    return Statement(
        subject=Subject(subject.hash.oid.dotted_string, subject.issuer_name, subject.issuer_key, subject.serial),
        good=encoded(single.status) == _GOOD,
        since=moment(single.this_update),
        until=_until(single.next_update),
    )


def _until(time: Time | None) -> datetime:
    return NEVER if time is None else moment(time)


def _refuse_critical(extensions: Iterable[Extension]) -> None:
    if any(extension.critical for extension in extensions):
        raise MalformedCollateral(
            "a revocation list or OCSP answer has a critical extension, which is not understood here"
        )
