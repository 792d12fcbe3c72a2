"""Has the vendor withdrawn a key? Revocation lists (RFC 5280, section 5) of AMD, and OCSP answers (RFC 6960) of NVIDIA.

An answer counts only if the right issuer signed it for the right certificate. Whether it is fresh enough is policy, so the
window that the vendor gave comes back with it.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import SignatureAlgorithmOID

from attestation.errors import BrokenChain, InvalidCollateral, MalformedCollateral, Revoked
from attestation.limits import MAX_CERTIFICATES, MAX_CRL, MAX_OCSP
from attestation.parsing.certificate import Certificate, PublicKeyInfo, Signed, encoded
from attestation.verification.chain import ECDSA_SHA256, ECDSA_SHA384, verify_issued, verify_signature

_EXTENDED_KEY_USAGE: Final = "2.5.29.37"
_OCSP_SIGNING: Final = bytes.fromhex(
    "300a06082b06010505070309"
)  # exactly id-kp-OCSPSigning (RFC 6960, section 4.2.2.2)
_HASHES: Final = {SHA1: hashlib.sha1, SHA256: hashlib.sha256, SHA384: hashlib.sha384}
_OCSP_ALGORITHMS: Final = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: ECDSA_SHA256,
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: ECDSA_SHA384,
}
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """The time in which the vendor stands by what it said; ``until`` is the end of time if it named none."""

    since: datetime
    until: datetime


def verify_not_listed(crl: bytes, *, issuer: Certificate, certificates: Iterable[Certificate]) -> Window:
    """Check that none of ``certificates`` that ``issuer`` issued is on its revocation list.

    Raises:
        MalformedCollateral: the list cannot be read.
        InvalidCollateral: it is not the issuer's.
        Revoked: one is on it.
    """
    if len(crl) > MAX_CRL:
        raise MalformedCollateral("a revocation list is too large")
    try:
        listed = x509.load_der_x509_crl(crl)
        algorithm = _encoded_algorithm(crl)
        signer = listed.issuer.public_bytes()
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedCollateral("a revocation list cannot be read") from None
    if signer != issuer.subject:
        raise InvalidCollateral("the revocation list is another issuer's")
    try:
        verify_signature(issuer.public_key, listed.signature, listed.tbs_certlist_bytes, algorithm)
    except InvalidSignature:
        raise InvalidCollateral("the revocation list is not signed by its issuer") from None
    withdrawn = {entry.serial_number for entry in listed}
    if any(certificate.issuer == issuer.subject and certificate.serial in withdrawn for certificate in certificates):
        raise Revoked("a certificate of the chain is on its issuer's revocation list")
    return Window(listed.last_update_utc, listed.next_update_utc or _NEVER)


@dataclass(frozen=True, slots=True)
class OcspAnswers:
    """Answers of an OCSP service, parsed once, to be asked about single certificates."""

    _answers: tuple[tuple[ocsp.OCSPResponse, ocsp.OCSPSingleResponse], ...]

    @classmethod
    def parse(cls, answers: Iterable[bytes]) -> "OcspAnswers":
        """Read DER answers; refusals of the service ("try later") are no answers and are left out.

        Raises:
            MalformedCollateral: one cannot be read.
        """
        return cls(tuple(pair for answer in answers for pair in _singles(answer)))

    def verify_good(self, certificate: Certificate, issuer: Certificate) -> Window | None:
        """The window in which ``certificate`` is called good; ``None`` if no answer speaks of it.

        Of several answers the newest counts, so that an old "good" cannot hide a new "revoked".

        Raises:
            InvalidCollateral: the answer is not signed by ``issuer``, or by a responder that it appointed.
            Revoked: the answer is "revoked" or "unknown".
        """
        about = [pair for pair in self._answers if _speaks_of(pair[1], certificate, issuer)]
        if not about:
            return None
        for response, _ in about:
            _verify_responder(response, issuer)
        newest = max((single for _, single in about), key=lambda single: single.this_update_utc)
        if newest.certificate_status is not ocsp.OCSPCertStatus.GOOD:
            raise Revoked("the vendor does not call a certificate of the chain good")
        return Window(newest.this_update_utc, newest.next_update_utc or _NEVER)


def _singles(answer: bytes) -> Iterator[tuple[ocsp.OCSPResponse, ocsp.OCSPSingleResponse]]:
    if len(answer) > MAX_OCSP:
        raise MalformedCollateral("an OCSP answer is too large")
    try:
        response = ocsp.load_der_ocsp_response(answer)
        if response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL:
            for single in response.responses:
                single.hash_algorithm, single.this_update_utc, single.next_update_utc  # noqa: B018 -- parsed lazily
                yield response, single
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedCollateral("an OCSP answer cannot be read") from None


def _speaks_of(single: ocsp.OCSPSingleResponse, certificate: Certificate, issuer: Certificate) -> bool:
    hashed = _HASHES.get(type(single.hash_algorithm))
    return (
        hashed is not None
        and single.serial_number == certificate.serial
        and hmac.compare_digest(single.issuer_name_hash, hashed(issuer.subject).digest())
        and hmac.compare_digest(single.issuer_key_hash, hashed(_key_bits(issuer)).digest())
    )


def _verify_responder(response: ocsp.OCSPResponse, issuer: Certificate) -> None:
    """The issuer itself, or a certificate that it issued for this purpose alone (RFC 6960, section 4.2.2.2)."""
    candidates = [Certificate.parse(der) for der in _embedded(response)]
    for signer in (issuer, *(each for each in candidates if _is_appointed(each, issuer))):
        try:
            verify_signature(
                signer.public_key, response.signature, response.tbs_response_bytes, _ocsp_algorithm(response)
            )
        except InvalidSignature:
            continue
        return
    raise InvalidCollateral("an OCSP answer is not signed by the issuer or its responder")


def _is_appointed(responder: Certificate, issuer: Certificate) -> bool:
    if responder.issuer != issuer.subject or responder.extensions.get(_EXTENDED_KEY_USAGE) != _OCSP_SIGNING:
        return False
    try:
        verify_issued(responder, issuer)
    except BrokenChain:
        return False
    return True


def _encoded_algorithm(crl: bytes) -> bytes:
    """The signature's AlgorithmIdentifier in DER: a list and a certificate are framed in the same way."""
    return encoded(asn1.decode_der(Signed, crl).signature_algorithm)


def _embedded(response: ocsp.OCSPResponse) -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in response.certificates[:MAX_CERTIFICATES]]


def _ocsp_algorithm(response: ocsp.OCSPResponse) -> bytes:
    return _OCSP_ALGORITHMS.get(response.signature_algorithm_oid, b"")


def _key_bits(certificate: Certificate) -> bytes:
    """The bits of the public key alone, which OCSP names an issuer by (RFC 6960, section 4.1.1)."""
    return asn1.decode_der(PublicKeyInfo, certificate.public_key_der).key.as_bytes()
