"""A receipt: what an enclave says of one answer, under the receipt key that its evidence vouches for.

It names the request and the answer by digest, whose consent they rest on, what computed them, and the evidence, release and
measurement of the machine. Whoever holds it can check it offline, years later. It shows none of the content.

The form is a COSE_Sign1 (RFC 9052, section 4.2) with Ed25519 (RFC 9864), its payload a deterministic CBOR map (RFC 8949, section
4.2.1). One encoding is read: what is read is written again and compared, which refuses unknown members, duplicate keys, other
spellings and trailing bytes in one step. No input, no output, no clock: that the consents are genuine is for who knows their form.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from attestation.appraisal.claims import Claims
from attestation.appraisal.trail import Trail
from attestation.document import CpuEvidence, CpuType, EvidenceDocument
from attestation.errors import (
    InvalidReceiptSignature,
    MalformedReceipt,
    ReceiptCodeMismatch,
    ReceiptEvidenceMismatch,
)
from attestation.limits import MAX_NAME, MAX_RECEIPT
from attestation.measurement import MEASUREMENT
from attestation.parsing.azure import HclReport
from attestation.parsing.snp import SnpReport
from attestation.parsing.tdx import Quote, TdReport
from attestation.simulated import SimulatedReport

VERSION: Final = 1
CONTENT_TYPE: Final = "application/vnd.subrosa.receipt+cbor"
EXTERNAL_AAD: Final = b"subrosa receipt v1"
DIGEST: Final = 32  # bytes: SHA-256
KEY_ID: Final = 8  # bytes at the front of the SHA-256 of the receipt key
SIGNATURE: Final = 64  # bytes (RFC 8032)
_CONSENT_LABEL: Final = b"subrosa consent set v1\x00"
_COSE_SIGN1: Final = 18  # CBOR tag (RFC 9052, section 2)
_ALG, _CONTENT_TYPE, _KID = 1, 3, 4  # header parameters (RFC 9052, section 3.1)
_ED25519: Final = -19  # RFC 9864, section 2.2
_DEPTH: Final = 4  # tag, array, map, value
_DIGESTS: Final = ("request", "answer", "consents", "model", "instructions", "evidence")
_NAMES: Final = ("kind", "engine", "release")
_BUCKETS: Final = ("request_bucket", "answer_bucket")
_MAX_BUCKET: Final = 2**32 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What is said of one answer.

    Attributes:
        kind: of the request: ``summarize``, ``suggest_replies``, ``questions_for_me``, ``actions``, ``rewrite`` or ``forget``.
        request: SHA-256 of the request's bytes as they travelled.
        answer: SHA-256 of the result's bytes as they travelled; they hold a random salt, so that it cannot be guessed.
        conversation: its id, a hash of 32 bytes; ``None`` for requests about no conversation.
        consents: the digest of the consent set, as :func:`consent_set_digest` makes it.
        engine: what computed the answer.
        model: SHA-256 of its weights.
        instructions: SHA-256 of the text that the engine was instructed with; of nothing if there was none.
        release: the running version, by the name that the evidence carries.
        measurement: 48 bytes: the code, as the processor measured it.
        evidence: SHA-256 of the evidence document that the requester relies on.
        time: when the answer was made, by the enclave's clock: whole seconds, with a time zone.
        request_bucket: bytes that the request was padded to.
        answer_bucket: bytes that the answer was padded to.
    """

    kind: str
    request: bytes
    answer: bytes
    conversation: bytes | None
    consents: bytes
    engine: str
    model: bytes
    instructions: bytes
    release: str
    measurement: bytes
    evidence: bytes
    time: datetime
    request_bucket: int
    answer_bucket: int

    def __post_init__(self) -> None:
        for name in _NAMES:
            text = getattr(self, name)
            if not 0 < len(text) <= MAX_NAME or not text.isprintable():
                raise ValueError(f"the {name} of a receipt is short printable text")
        for name in _DIGESTS:
            if len(getattr(self, name)) != DIGEST:
                raise ValueError(f"the {name} of a receipt is a digest of 32 bytes")
        if self.conversation is not None and len(self.conversation) != DIGEST:
            raise ValueError("the conversation of a receipt is a digest of 32 bytes")
        if len(self.measurement) != MEASUREMENT:
            raise ValueError("the measurement of a receipt is 48 bytes")
        if not all(0 < getattr(self, name) <= _MAX_BUCKET for name in _BUCKETS):
            raise ValueError("the buckets of a receipt are numbers of bytes")
        _seconds(self.time)

    def encode(self) -> bytes:
        """The payload: a deterministic CBOR map of text keys; what is ``None`` is left out, the time is seconds since 1970."""
        members: dict[str, object] = {name: getattr(self, name) for name in (*_NAMES, *_DIGESTS, *_BUCKETS)}
        members |= {"version": VERSION, "measurement": self.measurement}
        members["time"] = _seconds(self.time)
        if self.conversation is not None:
            members["conversation"] = self.conversation
        return _encode(members)

    @classmethod
    def _read(cls, payload: bytes) -> "Receipt":
        members = _decode(payload)
        if not isinstance(members, Mapping) or _member(members, "version", int) != VERSION:
            raise MalformedReceipt("the payload is not a receipt of this version")
        seconds = _member(members, "time", int)
        if not 0 <= seconds <= _LAST_SECOND:
            raise MalformedReceipt("the time of the receipt is none of the calendar")
        try:
            return cls(
                kind=_member(members, "kind", str),
                request=_member(members, "request", bytes),
                answer=_member(members, "answer", bytes),
                conversation=_member(members, "conversation", bytes) if "conversation" in members else None,
                consents=_member(members, "consents", bytes),
                engine=_member(members, "engine", str),
                model=_member(members, "model", bytes),
                instructions=_member(members, "instructions", bytes),
                release=_member(members, "release", str),
                measurement=_member(members, "measurement", bytes),
                evidence=_member(members, "evidence", bytes),
                time=_EPOCH + seconds * _SECOND,
                request_bucket=_member(members, "request_bucket", int),
                answer_bucket=_member(members, "answer_bucket", int),
            )
        except ValueError as error:
            raise MalformedReceipt(str(error)) from None


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A receipt under a signature that nobody has checked yet: ``unverified`` is what it claims.

    ``key_id`` hints at the key; only the signature (64 bytes) says whose it is.
    """

    unverified: Receipt
    key_id: bytes
    signature: bytes = field(repr=False)

    @property
    def to_be_signed(self) -> bytes:
        """The bytes that the signature is over."""
        return sig_structure(_protected(self.key_id), EXTERNAL_AAD, self.unverified.encode())

    def encode(self) -> bytes:
        """The tagged COSE_Sign1, deterministically encoded."""
        parts = [_protected(self.key_id), {}, self.unverified.encode(), self.signature]
        return _encode(cbor2.CBORTag(_COSE_SIGN1, parts))


@dataclass(frozen=True, slots=True)
class Signer:
    """Whom a receipt has to be of: the enclave that one evidence document speaks for. ``evidence`` is the document's SHA-256."""

    receipt_key: bytes
    release: str
    measurement: bytes
    evidence: bytes

    @classmethod
    def proved(cls, claims: Claims, evidence_document: bytes) -> "Signer":
        """Who was proved: ``claims`` have to be those of an appraisal of ``evidence_document``."""
        return cls(claims.receipt_key, claims.release, claims.measurement, hashlib.sha256(evidence_document).digest())

    @classmethod
    def claimed(cls, evidence_document: bytes) -> "Signer":
        """Who the document says it is. Syntax only: without an accepting appraisal it proves nothing.

        Raises:
            MalformedEvidence: the document or the report in it cannot be read.
            UnsupportedEvidence: the report is of a type or version unknown here.
        """
        keys = EvidenceDocument.parse(evidence_document).keys
        digest = hashlib.sha256(evidence_document).digest()
        return cls(keys.receipt_key, keys.release, measurement_of(evidence_document), digest)


def sign_receipt(receipt: Receipt, key: Ed25519PrivateKey) -> bytes:
    """The receipt as it travels: a tagged COSE_Sign1 of at most ``MAX_RECEIPT`` bytes."""
    unsigned = SignedReceipt(receipt, receipt_key_id(key.public_key().public_bytes_raw()), b"")
    return SignedReceipt(receipt, unsigned.key_id, key.sign(unsigned.to_be_signed)).encode()


def parse_receipt(data: bytes) -> SignedReceipt:
    """Undo :func:`sign_receipt`. Syntax only: nothing in it may be trusted before :func:`verify_receipt`.

    Raises:
        MalformedReceipt: anything but the one encoding of a receipt of this version.
    """
    if len(data) > MAX_RECEIPT:
        raise MalformedReceipt("the receipt is too large")
    match _decode(data):
        case cbor2.CBORTag(tag=18, value=[bytes(protected), _, bytes(payload), bytes(signature)]):
            pass
        case _:
            raise MalformedReceipt("the receipt is not a tagged COSE_Sign1")
    header = _decode(protected)
    if not isinstance(header, Mapping) or header.get(_ALG) != _ED25519:
        raise MalformedReceipt("the receipt is not signed with Ed25519")
    key_id = header.get(_KID)
    if not isinstance(key_id, bytes) or len(key_id) != KEY_ID or len(signature) != SIGNATURE:
        raise MalformedReceipt("the key id or the signature of the receipt has the wrong form")
    signed = SignedReceipt(Receipt._read(payload), key_id, signature)
    if signed.encode() != data:
        raise MalformedReceipt("the receipt is not in its one encoding, or has members unknown to this version")
    return signed


def check_receipt(trail: Trail, signed: SignedReceipt, signer: Signer) -> None:
    """Walk through all checks of one receipt; it counts only if the trail holds no refusal."""
    trail.check("The receipt key of the evidence signed it.", _verify_signature, signed, signer)
    trail.check("It names this evidence.", _verify_evidence, signed, signer)
    trail.check("It names the release of the evidence.", _verify_release, signed, signer)
    trail.check("It names the measurement of the evidence.", _verify_measurement, signed, signer)


def verify_receipt(signed: SignedReceipt, claims: Claims, evidence_document: bytes) -> Receipt:
    """Check that the enclave of an accepted appraisal stands for this receipt, and return what it says.

    Args:
        signed: from :func:`parse_receipt`.
        claims: what the appraisal of ``evidence_document`` proved.
        evidence_document: as the enclave sent it.

    Raises:
        InvalidReceiptSignature: the attested receipt key did not sign it.
        ReceiptEvidenceMismatch: it rests on other evidence.
        ReceiptCodeMismatch: it names another release or measurement than was proved.
    """
    trail = Trail()
    check_receipt(trail, signed, Signer.proved(claims, evidence_document))
    for step in trail.steps:
        if step.error is not None:
            raise step.error
    return signed.unverified


def consent_set_digest(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """One digest for the consents that an answer rests on.

    Args:
        entries: for each statement the author's binary service id, and the SHA-256 of the signed statement; in any order. An
            author whose messages were written under several statements has several.

    Returns:
        SHA-256 over a label and, in the byte order of authors and digests: the author's length in one byte, the author, the digest.

    Raises:
        ValueError: a statement stands there twice, an author is not 1 to 255 bytes, or a digest is not 32.
    """
    ordered = sorted(entries)
    if len(set(ordered)) != len(ordered):
        raise ValueError("a statement stands in a set once")
    if not all(0 < len(author) <= 255 and len(digest) == DIGEST for author, digest in ordered):
        raise ValueError("a consent set holds service ids and digests of 32 bytes")
    parts = (len(author).to_bytes(1, "big") + author + digest for author, digest in ordered)
    return hashlib.sha256(_CONSENT_LABEL + b"".join(parts)).digest()


def measurement_of(evidence_document: bytes) -> bytes:
    """The 48 bytes that ``Claims.measurement`` has if the document is accepted. Syntax only, and no trust.

    An enclave learns from it what its own receipts have to say.

    Raises:
        MalformedEvidence: the document or the report in it cannot be read.
        UnsupportedEvidence: the report is of a type or version unknown here.
    """
    return _measurement(EvidenceDocument.parse(evidence_document).cpu)


def receipt_key_id(receipt_key: bytes) -> bytes:
    """What a receipt calls its key: the first 8 bytes of the SHA-256 of the public key's 32 bytes."""
    return hashlib.sha256(receipt_key).digest()[:KEY_ID]


def sig_structure(protected: bytes, external_aad: bytes, payload: bytes) -> bytes:
    """What a COSE_Sign1 signs (RFC 9052, section 4.4)."""
    return _encode(["Signature1", protected, external_aad, payload])


def _measurement(cpu: CpuEvidence) -> bytes:
    match cpu.type:
        case CpuType.SEV_SNP:
            return SnpReport.parse(cpu.report).measurement
        case CpuType.SEV_SNP_AZURE:
            return SnpReport.parse(HclReport.parse(cpu.report).report).measurement
        case CpuType.TDX:
            return TdReport.parse(Quote.parse(cpu.report).body).mrtd
        case _:  # SIMULATED; whatever else came here would have no report of it
            return SimulatedReport.parse(cpu.report).measurement


def _verify_signature(signed: SignedReceipt, signer: Signer) -> None:
    if signed.key_id != receipt_key_id(signer.receipt_key):
        raise InvalidReceiptSignature("the receipt names another key than the receipt key of the evidence")
    try:
        Ed25519PublicKey.from_public_bytes(signer.receipt_key).verify(signed.signature, signed.to_be_signed)
    except InvalidSignature:
        raise InvalidReceiptSignature("the receipt key of the evidence did not sign this receipt") from None


def _verify_evidence(signed: SignedReceipt, signer: Signer) -> None:
    if not hmac.compare_digest(signed.unverified.evidence, signer.evidence):
        raise ReceiptEvidenceMismatch("the receipt rests on another evidence document")


def _verify_release(signed: SignedReceipt, signer: Signer) -> str:
    if signed.unverified.release != signer.release:
        raise ReceiptCodeMismatch("the receipt names another release than the evidence")
    return signer.release


def _verify_measurement(signed: SignedReceipt, signer: Signer) -> None:
    if not hmac.compare_digest(signed.unverified.measurement, signer.measurement):
        raise ReceiptCodeMismatch("the receipt names another measurement than the evidence")


def _seconds(time: datetime) -> int:
    if time.tzinfo is None or (since := time - _EPOCH) % _SECOND or not 0 <= since // _SECOND <= _LAST_SECOND:
        raise ValueError("the time of a receipt has a time zone and whole seconds, from 1970 on")
    return since // _SECOND


def _protected(key_id: bytes) -> bytes:
    return _encode({_ALG: _ED25519, _CONTENT_TYPE: CONTENT_TYPE, _KID: key_id})


def _encode(value: object) -> bytes:
    """Deterministic: for keys under 24 bytes the library's order (shorter first) is that of RFC 8949, section 4.2.1."""
    return cbor2.dumps(value, canonical=True)


def _decode(data: bytes) -> object:
    """One CBOR value, of bytes already bounded. What follows it, and other spellings, show when it is written again."""
    try:
        value: object = cbor2.loads(
            data, max_depth=_DEPTH, allow_indefinite=False, allow_duplicate_keys=False, strict_hashable_types=False
        )
    except cbor2.CBORDecodeError:
        raise MalformedReceipt("the receipt is not CBOR in its deterministic form") from None
    return value


def _member(members: Mapping[object, object], name: str, kind: type[T]) -> T:
    """A member of exactly this type: ``True`` is no number here."""
    value = members.get(name)
    if type(value) is not kind:
        raise MalformedReceipt(f"the {name} of the receipt is missing or of the wrong type")
    return value
