"""What a receipt shows, and what it cannot: in words for people, and the same as facts for machines.

All here is said of a receipt whose every check passed, together with its evidence; of any other nothing is.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

from attestation import Receipt
from attestation.appraisal.claims import NotProved
from messaging.client.receipt_checks import ReceiptAppraisal
from messaging.client.receipts import ReceiptFile, ShownConsent
from messaging.wire.consent import Consent, read_consent
from messaging.wire.identifiers import ServiceId

NO_INSTRUCTIONS: Final = hashlib.sha256(b"").digest()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

PEOPLE = NotProved(
    "whose consents they are",
    "The consents are signed by the identity keys shown here. That a key belongs to a person only that person can show you: "
    "compare safety numbers.",
)
WITHDRAWN = NotProved(
    "that nobody had withdrawn",
    "The enclave knew these consents when it answered. One that was withdrawn just before may not have reached it: the relay "
    "could have held it back.",
)
MESSAGES = NotProved(
    "which messages were used",
    "The receipt names authors, not messages. The lines of the answer cite theirs, for those who may read it.",
)
CLOCK = NotProved(
    "when it was",
    "The time is that of the enclave's clock, which its host sets. It is not before the evidence, by the clock of whoever saved it.",
)
NOTHING_ELSE = NotProved(
    "that nothing else was computed",
    "A receipt speaks of one answer. That nothing else was made of the messages only the measured code shows, to those who read it.",
)
TRUTH = NotProved(
    "that the answer is true",
    "The receipt says what computed it and from whose messages, not that it is right. Look at the messages that it cites.",
)
UNREAD = NotProved(
    "what was asked and answered",
    "Request and answer are not both in this file. Their digests tell nothing about them: whoever has the bytes can compare.",
)


def rows(appraisal: ReceiptAppraisal) -> list[tuple[str, str]]:
    """What an accepted receipt proves, line by line."""
    receipt, file = appraisal.receipt(), appraisal.file
    return [
        ("answer to", receipt.kind),
        ("made at", f"{receipt.time.isoformat(' ')}, by the enclave's clock"),
        ("engine", receipt.engine),
        ("model", receipt.model.hex()),
        ("instructions", _instructions(receipt) or "none"),
        ("conversation", "none" if receipt.conversation is None else receipt.conversation.hex()),
        ("request", f"{receipt.request.hex()} ({_where(file.request)}), padded to {receipt.request_bucket} bytes"),
        ("answer", f"{receipt.answer.hex()} ({_where(file.answer)}), padded to {receipt.answer_bucket} bytes"),
        ("consents", receipt.consents.hex()),
        *(("consented", f"{shown.author}, {_words(shown)}") for shown in file.consents),
        *([] if file.consents else [("consented", "nobody: no member's messages were to be used")]),
    ]


def gaps(appraisal: ReceiptAppraisal) -> tuple[NotProved, ...]:
    """What even an accepted receipt does not show, beside what its evidence does not."""
    file = appraisal.file
    unread = file.request is None or file.answer is None
    return (
        *((PEOPLE, WITHDRAWN, MESSAGES) if file.consents else ()),
        *((UNREAD,) if unread else ()),
        TRUTH,
        NOTHING_ELSE,
        CLOCK,
    )


def about(appraisal: ReceiptAppraisal, member: ServiceId, *, proved: bool) -> str:
    """What the receipt says of one member."""
    if not proved:
        return "The receipt is refused, so that it says nothing of this member."
    shown = appraisal.file.consents_of(member)
    if not shown:
        return "Not named: none of this member's messages were to be used for the answer."
    consents = "; ".join(map(_words, shown))
    return f"Named: this member's messages could be used for the answer, under this consent: {consents}"


def facts(appraisal: ReceiptAppraisal, member: ServiceId | None, *, proved: bool) -> dict[str, object]:
    """What ``--json`` tells of a receipt; ``None`` where it is refused. Bytes are hexadecimal, times RFC 3339."""
    told: dict[str, object] = {"receipt": _facts(appraisal.receipt(), appraisal.file) if proved else None}
    if member is not None:
        shown = appraisal.file.consents_of(member)
        about_me = {"named": bool(shown), "consents": [_consent_facts(each) for each in shown]}
        told["me"] = {"service_id": str(member), **(about_me if proved else {"named": None, "consents": []})}
    return told


def _facts(receipt: Receipt, file: ReceiptFile) -> dict[str, object]:
    return {
        "kind": receipt.kind,
        "time": receipt.time.isoformat(),
        "engine": receipt.engine,
        "model": receipt.model.hex(),
        "instructions": _instructions(receipt),
        "conversation": None if receipt.conversation is None else receipt.conversation.hex(),
        "request": receipt.request.hex(),
        "request_shown": file.request is not None,
        "request_bucket": receipt.request_bucket,
        "answer": receipt.answer.hex(),
        "answer_shown": file.answer is not None,
        "answer_bucket": receipt.answer_bucket,
        "release": receipt.release,
        "measurement": receipt.measurement.hex(),
        "evidence": receipt.evidence.hex(),
        "consent_set": receipt.consents.hex(),
        "consents": [_consent_facts(shown) for shown in file.consents],
    }


def _consent_facts(shown: ShownConsent) -> dict[str, object]:
    consent = read_consent(shown.signed)
    return {
        "author": str(shown.author),
        "identity_key": shown.identity_key.hex(),
        "statement": shown.signed.digest().hex(),
        "scopes": _scopes(consent),
        "since": _moment(consent.timestamp),
        "until": None if consent.expires_at is None else _moment(consent.expires_at),
    }


def _words(shown: ShownConsent) -> str:
    consent = read_consent(shown.signed)
    until = "until withdrawn" if consent.expires_at is None else f"until {_moment(consent.expires_at)}"
    scopes = " and ".join(_scopes(consent)) or "nothing"
    return f"to {scopes}, since {_moment(consent.timestamp)}, {until}; identity key {shown.identity_key.hex()}"


def _scopes(consent: Consent) -> list[str]:
    return sorted(str(scope) for scope in consent.scopes)


def _instructions(receipt: Receipt) -> str | None:
    """The digest of the engine's instructions; ``None`` if it was given none."""
    return None if receipt.instructions == NO_INSTRUCTIONS else receipt.instructions.hex()


def _where(content: bytes | None) -> str:
    return "not in this file" if content is None else "in this file"


def _moment(milliseconds: int) -> str:
    """RFC 3339; far beyond our calendar the number itself."""
    try:
        return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds")
    except OverflowError:
        return f"{milliseconds} ms after 1970"
