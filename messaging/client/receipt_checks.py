"""Judging a receipt file: did the proved enclave sign for this answer, and did everybody consent whom it names?

A pure walk through all checks, in the form of ``attestation``'s appraisals, so that a refusal can be explained. The evidence in the
file is judged before, by ``attestation.assess``; that an identity key belongs to a person is for safety numbers to show.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from attestation import AttestationError, Claims, Receipt, parse_receipt
from attestation.appraisal import Step
from attestation.appraisal.trail import Trail
from attestation.errors import Kind, ReceiptContentMismatch, ReceiptTooEarly
from attestation.limits import MAX_RECEIPT_DRIFT
from attestation.receipt import Signer, check_receipt
from messaging.client.receipts import ReceiptFile, ShownConsent
from messaging.wire.consent import CONSENT_CONTEXT, Consent, ConsentScope, read_consent
from messaging.wire.errors import MalformedField
from signal_protocol.public import InvalidSignature, verify_signature

NEEDED_SCOPE: Final[dict[str, ConsentScope | None]] = {
    "summarize": ConsentScope.SUMMARIES,
    "questions_for_me": ConsentScope.SUMMARIES,
    "actions": ConsentScope.SUMMARIES,
    "rewrite": ConsentScope.SUMMARIES,
    "suggest_replies": ConsentScope.REPLIES,
    "forget": None,  # nobody's messages are used
}
MAX_CONSENT_DRIFT: Final = timedelta(minutes=1)  # by which an author's clock may be ahead of the enclave's
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_RECEIPT = "receipt"


class MalformedConsent(AttestationError):
    """The bytes are not a statement of consent."""

    check = "consent syntax"
    kind = Kind.SYNTAX
    meaning = "What stands for this author's consent cannot be read, and so is none."


class InvalidConsentSignature(AttestationError):
    """The identity key in the file did not sign the statement."""

    check = "consent signature"
    kind = Kind.CRYPTOGRAPHY
    meaning = "Nothing shows that this author agreed: the statement was changed, or somebody else made it."


class ConsentOfAnother(AttestationError):
    """The statement is another author's, or about another conversation."""

    check = "consent's subject"
    kind = Kind.POLICY
    meaning = "Somebody agreed to something, but not this author to this."


class ConsentNotInForce(AttestationError):
    """The author had said no, or not yet yes, or the statement had run out."""

    check = "consent in force"
    kind = Kind.POLICY
    meaning = "When the answer was made, this author's messages were not to be used."


class ConsentScopeExceeded(AttestationError):
    """The consent is for other kinds of requests."""

    check = "consent's scope"
    kind = Kind.POLICY
    meaning = "This author agreed to the use of their messages, but not to this use."


@dataclass(frozen=True, slots=True)
class ReceiptAppraisal:
    """All steps of one judgement. ``claimed`` is what the receipt says, and counts only if there are no ``errors``."""

    file: ReceiptFile
    steps: tuple[Step, ...]
    claimed: Receipt | None

    @property
    def errors(self) -> tuple[AttestationError, ...]:
        """Why the receipt is refused; empty if it is accepted."""
        return tuple(step.error for step in self.steps if step.error is not None)

    @property
    def readable(self) -> bool:
        """Whether there was a receipt to be judged at all."""
        return not any(step.subject == _RECEIPT and step.last for step in self.steps)

    def receipt(self) -> Receipt:
        """What was shown.

        Raises:
            AttestationError: the first refusal, and so nothing.
        """
        for error in self.errors:
            raise error
        return cast("Receipt", self.claimed)  # without a refusal there is one


def assess_receipt(file: ReceiptFile, claims: Claims | None) -> ReceiptAppraisal:
    """Walk through all checks of a receipt, its content and its consents.

    Args:
        file: as its holder shows it.
        claims: what an appraisal of the evidence in it proved. ``None`` if that was refused: then the receipt is held against what
            the evidence says of itself, which finds faults and proves nothing.
    """
    trail = Trail()
    receipt = trail.within(_RECEIPT, _check_receipt, trail, file, claims)
    if receipt is not None:
        trail.within("content", _check_content, trail, file, receipt)
        for shown in file.consents:
            trail.within(f"consent of {shown.author}", _check_consent, trail, shown, receipt)
    return ReceiptAppraisal(file, tuple(trail.steps), receipt)


def _check_receipt(trail: Trail, file: ReceiptFile, claims: Claims | None) -> Receipt:
    signed = trail.require("It is a receipt, canonically encoded.", parse_receipt, file.signed)
    evidence = file.bundle.evidence
    if claims is None:
        signer = trail.require("The evidence says whose receipts it is for.", Signer.claimed, evidence)
    else:
        signer = Signer.proved(claims, evidence)
    check_receipt(trail, signed, signer)
    trail.check("It is not older than the evidence.", _validate_time, signed.unverified, file.bundle.time)
    return signed.unverified


def _check_content(trail: Trail, file: ReceiptFile, receipt: Receipt) -> None:
    if file.request is not None:
        trail.check("The request is the one that it names.", _verify_digest, file.request, receipt.request, "request")
    if file.answer is not None:
        trail.check("The answer is the one that it names.", _verify_digest, file.answer, receipt.answer, "answer")
    trail.check("The consents are exactly those that it names.", _verify_consent_set, file, receipt)


def _check_consent(trail: Trail, shown: ShownConsent, receipt: Receipt) -> None:
    consent = trail.require("The statement can be read.", _read, shown)
    trail.check("The identity key beside it signed it.", _verify_signature, shown)
    trail.check("It is this author's.", _validate_author, consent, shown)
    trail.check("It is about this conversation.", _validate_conversation, consent, receipt)
    trail.check("It says yes.", _validate_opted_in, consent)
    trail.check("It was in force when the answer was made.", _validate_time_of_consent, consent, receipt)
    trail.check("It covers this kind of request.", _validate_scope, consent, receipt)


def _validate_time(receipt: Receipt, evidence_time: datetime) -> str:
    if receipt.time + timedelta(seconds=MAX_RECEIPT_DRIFT) < evidence_time:
        raise ReceiptTooEarly("the receipt is dated before the evidence that it names")
    return receipt.time.isoformat(" ")


def _verify_digest(data: bytes, digest: bytes, what: str) -> None:
    if not hmac.compare_digest(hashlib.sha256(data).digest(), digest):
        raise ReceiptContentMismatch(f"the receipt is for another {what} than the one in the file")


def _verify_consent_set(file: ReceiptFile, receipt: Receipt) -> str:
    if not hmac.compare_digest(file.consent_set_digest(), receipt.consents):
        raise ReceiptContentMismatch("the consents in the file are not the ones that the receipt names")
    return str(len(file.consents) or "none")


def _read(shown: ShownConsent) -> Consent:
    try:
        return read_consent(shown.signed)
    except MalformedField:
        raise MalformedConsent("the statement of consent does not have its shape") from None


def _verify_signature(shown: ShownConsent) -> None:
    try:
        verify_signature(shown.identity_key, CONSENT_CONTEXT + shown.signed.statement, shown.signed.signature)
    except InvalidSignature:
        raise InvalidConsentSignature("the identity key beside the statement did not sign it") from None


def _validate_author(consent: Consent, shown: ShownConsent) -> None:
    if consent.author != shown.author:
        raise ConsentOfAnother("the statement names another author")


def _validate_conversation(consent: Consent, receipt: Receipt) -> None:
    if consent.conversation_id != receipt.conversation:
        raise ConsentOfAnother("the statement is about another conversation than the receipt")


def _validate_opted_in(consent: Consent) -> None:
    if not consent.opted_in:
        raise ConsentNotInForce("the statement says no")


def _validate_time_of_consent(consent: Consent, receipt: Receipt) -> None:
    """A receipt's second lasts to its end; authors date statements by clocks of their own, and enclaves ends by theirs."""
    made = (receipt.time - _EPOCH) // _MILLISECOND
    latest = made + (timedelta(seconds=1) + MAX_CONSENT_DRIFT) // _MILLISECOND
    if consent.timestamp >= latest:
        raise ConsentNotInForce("the statement was made after the answer")
    if consent.expires_at is not None and made >= consent.expires_at:
        raise ConsentNotInForce("the statement had run out before the answer was made")


def _validate_scope(consent: Consent, receipt: Receipt) -> str:
    if receipt.kind not in NEEDED_SCOPE:
        raise ConsentScopeExceeded("which consent a request of this kind needs is not known here")
    scope = NEEDED_SCOPE[receipt.kind]
    if scope is not None and scope not in consent.scopes:
        raise ConsentScopeExceeded(f"a request of this kind needs consent to {scope}, which the author did not give")
    return str(scope or "needs none")
