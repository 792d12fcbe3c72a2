"""Has the vendor withdrawn a key? Revocation lists (RFC 5280, section 5) of AMD, and OCSP answers (RFC 6960) of NVIDIA.

An answer counts only if the right issuer signed it for the right certificate. Whether it is fresh enough is policy, so the
window that the vendor gave comes back with it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidSignature

from attestation.errors import BrokenChain, InvalidCollateral, Revoked
from attestation.parsing.certificate import BASIC_CONSTRAINTS, KEY_USAGE, Certificate
from attestation.parsing.revocation import OcspAnswer, RevocationList, Statement, Subject
from attestation.verification.chain import verify_issued, verify_signature

_EXTENDED_KEY_USAGE: Final = "2.5.29.37"
_OCSP_SIGNING: Final = bytes.fromhex(
    "300a06082b06010505070309"
)  # exactly id-kp-OCSPSigning (RFC 6960, section 4.2.2.2)
_NO_CHECK: Final = "1.3.6.1.5.5.7.48.1.5"  # RFC 6960, section 4.2.2.2.1
_UNDERSTOOD: Final = {BASIC_CONSTRAINTS, KEY_USAGE, _EXTENDED_KEY_USAGE, _NO_CHECK}
_HASHES: Final = {
    "1.3.14.3.2.26": hashlib.sha1,  # names certificates only: nothing rests on it
    "2.16.840.1.101.3.4.2.1": hashlib.sha256,
    "2.16.840.1.101.3.4.2.2": hashlib.sha384,
}


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
    return verify_not_on(RevocationList.parse(crl), issuer=issuer, certificates=certificates)


def verify_not_on(listed: RevocationList, *, issuer: Certificate, certificates: Iterable[Certificate]) -> Window:
    """As :func:`verify_not_listed`, for a list that was read before.

    Raises:
        InvalidCollateral: it is not the issuer's.
        Revoked: one is on it.
    """
    if listed.issuer != issuer.subject:
        raise InvalidCollateral("the revocation list is another issuer's")
    try:
        verify_signature(issuer.public_key, listed.signature, listed.to_be_signed, listed.signature_algorithm)
    except InvalidSignature:
        raise InvalidCollateral("the revocation list is not signed by its issuer") from None
    if any(each.issuer == issuer.subject and each.serial in listed.serials for each in certificates):
        raise Revoked("a certificate of the chain is on its issuer's revocation list")
    return Window(listed.since, listed.until)


@dataclass(frozen=True, slots=True)
class OcspAnswers:
    """Answers of an OCSP service, parsed once, to be asked about single certificates.

    Of several statements about one certificate the newest counts, so that an old "good" cannot hide a new "revoked".
    """

    _newest: Mapping[Subject, tuple[Statement, OcspAnswer]]

    @classmethod
    def parse(cls, answers: Iterable[bytes]) -> "OcspAnswers":
        """Read DER answers; refusals of the service ("try later") are no answers and are left out.

        Raises:
            MalformedCollateral: one cannot be read.
        """
        newest: dict[Subject, tuple[Statement, OcspAnswer]] = {}
        for answer in filter(None, map(OcspAnswer.parse, answers)):
            for statement in answer.statements:
                known = newest.get(statement.subject)
                if known is None or _rank(statement) > _rank(known[0]):
                    newest[statement.subject] = statement, answer
        return cls(newest)

    def verify_good(self, certificate: Certificate, issuer: Certificate) -> Window | None:
        """The window in which ``certificate`` is called good; ``None`` if no answer speaks of it.

        It ends no later than the responder's own certificate, which has to be valid when the answer was made.

        Raises:
            InvalidCollateral: the answer is not signed by ``issuer``, or by a responder that it appointed for that time.
            Revoked: the answer is "revoked" or "unknown".
        """
        about = [self._newest[subject] for subject in _subjects(certificate, issuer) if subject in self._newest]
        if not about:
            return None
        statement, answer = max(about, key=lambda found: _rank(found[0]))
        responder = _verify_responder(answer, issuer)
        if not statement.good:
            raise Revoked("the vendor does not call a certificate of the chain good")
        return Window(statement.since, min(statement.until, responder.not_after))


def _rank(statement: Statement) -> tuple[datetime, bool]:
    """The newer statement counts for more, and of two at the same time the worse."""
    return statement.since, not statement.good


def _subjects(certificate: Certificate, issuer: Certificate) -> Iterable[Subject]:
    """All names that an answer may have for ``certificate``."""
    for oid, hashed in _HASHES.items():
        name, key = hashed(issuer.subject).digest(), hashed(issuer.public_key_bits).digest()
        yield Subject(oid, name, key, certificate.serial)


def _verify_responder(answer: OcspAnswer, issuer: Certificate) -> Certificate:
    """The issuer itself, or a certificate that it issued for this purpose alone (RFC 6960, section 4.2.2.2)."""
    candidates = [Certificate.parse(der) for der in answer.certificates]
    for signer in (issuer, *(each for each in candidates if _is_appointed(each, issuer, at=answer.produced_at))):
        try:
            verify_signature(signer.public_key, answer.signature, answer.to_be_signed, answer.signature_algorithm)
        except InvalidSignature:
            continue
        return signer
    raise InvalidCollateral("an OCSP answer is not signed by the issuer or its responder")


def _is_appointed(responder: Certificate, issuer: Certificate, *, at: datetime) -> bool:
    if responder.issuer != issuer.subject or responder.extensions.get(_EXTENDED_KEY_USAGE) != _OCSP_SIGNING:
        return False
    if responder.critical - _UNDERSTOOD or not responder.not_before <= at <= responder.not_after:
        return False
    try:
        verify_issued(responder, issuer)
    except BrokenChain:
        return False
    return True
