"""A receipt says of one answer what was hashed, by what it was made, and under whose consent."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ai_enclave.receipts import ROOM, ReceiptIssuer
from attestation import Receipt, consent_set_digest, parse_receipt
from attestation.limits import MAX_NAME
from attestation.receipt import receipt_key_id
from messaging.wire.answers import AnswerPart
from messaging.wire.assistant import (
    AssistantRequest,
    ConsentReference,
    Forget,
    Forgotten,
    QuestionsForMe,
    Result,
    Rewrite,
    Scope,
)
from messaging.wire.content import AssistantCall, encode_content
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import DIGEST, FRAME, MAX_CONSENTS, MAX_DRAFT, MAX_SCOPE, REQUEST_BUCKETS, REQUEST_ID, SALT

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ANN, BOB = (ServiceId(UUID(int=number)) for number in (1, 2))
EVIDENCE, CONVERSATION, MEASUREMENT = b"e" * DIGEST, b"c" * DIGEST, b"m" * 48
MADE = 1_767_225_600_999  # 2026, a millisecond before its first second ends
ISSUER = ReceiptIssuer(KEY, "subrosa-enclave 1.0", lambda: 0)
REQUEST = AssistantRequest(bytes(REQUEST_ID), QuestionsForMe(Scope(bytes(32), ())), EVIDENCE)
RESULT = Result(
    kind=Forgotten(1),
    salt=bytes(SALT),
    engine="an engine",
    model=b"w" * DIGEST,
    instructions=b"i" * DIGEST,
    consents=(ConsentReference(BOB, b"2" * DIGEST), ConsentReference(ANN, b"1" * DIGEST)),
)


def issued(
    request: AssistantRequest = REQUEST,
    result: Result = RESULT,
    issuer: ReceiptIssuer = ISSUER,
    conversation: bytes | None = CONVERSATION,
) -> bytes:
    return issuer.issue(
        request,
        request.encode(),
        result,
        result.encode(),
        evidence=EVIDENCE,
        conversation=conversation,
        measurement=MEASUREMENT,
        made_at=MADE,
        frames=4,
    )


def test_it_names_what_was_asked_and_answered_by_what_where_and_when() -> None:
    signed = parse_receipt(issued())
    assert signed.key_id == receipt_key_id(KEY.public_key().public_bytes_raw())
    assert signed.unverified == Receipt(
        kind="questions_for_me",
        request=hashlib.sha256(REQUEST.encode()).digest(),
        answer=hashlib.sha256(RESULT.encode()).digest(),
        conversation=CONVERSATION,
        consents=consent_set_digest([(ANN.to_bytes(), b"1" * DIGEST), (BOB.to_bytes(), b"2" * DIGEST)]),
        engine="an engine",
        model=b"w" * DIGEST,
        instructions=b"i" * DIGEST,
        release="subrosa-enclave 1.0",
        measurement=MEASUREMENT,
        evidence=EVIDENCE,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        request_bucket=REQUEST_BUCKETS[0],
        answer_bucket=4 * FRAME,
    )


def test_it_is_about_a_conversation_or_about_none() -> None:
    request = replace(REQUEST, kind=Rewrite("a draft"))
    receipt = parse_receipt(issued(request, conversation=None)).unverified
    assert (receipt.kind, receipt.conversation) == ("rewrite", None)


def test_it_shows_none_of_what_was_said() -> None:
    signed = issued(replace(REQUEST, kind=Rewrite("canary " * 20)))
    assert b"canary" not in signed
    assert bytes(REQUEST_ID) not in signed


@pytest.mark.parametrize(
    "kind",
    [
        Rewrite("x" * MAX_DRAFT),
        QuestionsForMe(Scope(bytes(32), tuple(MessageId(ANN, 2**50 + at) for at in range(MAX_SCOPE)))),
        QuestionsForMe(Scope(bytes(32), (), names={ServiceId(UUID(int=n)): "ä" * 64 for n in range(250)})),
        Forget(),
    ],
)
def test_the_bucket_of_a_request_is_what_it_was_padded_to(kind: Rewrite | QuestionsForMe | Forget) -> None:
    request = replace(REQUEST, kind=kind)
    bucket = parse_receipt(issued(request)).unverified.request_bucket
    assert bucket == len(encode_content(AssistantCall(request.encode())))


def test_there_is_room_for_any_receipt_before_it_is_made() -> None:
    longest = replace(ISSUER, release="r" * MAX_NAME)
    consents = tuple(ConsentReference(ServiceId(UUID(int=n)), bytes(DIGEST)) for n in range(MAX_CONSENTS))
    result = replace(RESULT, engine="e" * MAX_NAME, consents=consents)
    signed = issued(result=result, issuer=longest)
    encoded = result.encode()
    assert len(AnswerPart(result=encoded, receipt=signed).encode()) <= len(encoded) + ROOM


def test_the_key_is_not_shown() -> None:
    assert "Ed25519" not in repr(ISSUER)
