"""Receipts for answers: who asks for one gets what was hashed, by what it was made, and under whose consent."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.receipt import Receipt, consent_set_digest, sign_receipt
from messaging.wire.assistant import AssistantRequest, Result, request_name
from messaging.wire.content import AssistantCall, encode_content
from messaging.wire.limits import FRAME

ROOM = 1024  # bytes: more than any receipt takes, so that the bucket of an answer is known before it is signed


@dataclass(frozen=True, slots=True)
class ReceiptIssuer:
    """Signs for one enclave. ``now`` is in milliseconds since 1970."""

    key: Ed25519PrivateKey = field(repr=False)
    release: str
    now: Callable[[], int]

    def issue(
        self,
        request: AssistantRequest,
        request_bytes: bytes,
        result: Result,
        result_bytes: bytes,
        *,
        evidence: bytes,
        conversation: bytes | None,
        measurement: bytes,
        made_at: int,
        frames: int,
    ) -> bytes:
        """The receipt of one answer, signed.

        Args:
            request: as it was read from ``request_bytes``; ``result`` likewise.
            evidence: SHA-256 of the document that the requester relies on.
            conversation: its id.
            measurement: 48 bytes, as that document says it.
            made_at: when all consents that ``result`` names were in force, in milliseconds since 1970.
            frames: how many the answer has.
        """
        receipt = Receipt(
            kind=request_name(request.kind),
            request=hashlib.sha256(request_bytes).digest(),
            answer=hashlib.sha256(result_bytes).digest(),
            conversation=conversation,
            consents=consent_set_digest((consent.author.to_bytes(), consent.digest) for consent in result.consents),
            engine=result.engine,
            model=result.model,
            instructions=result.instructions,
            release=self.release,
            measurement=measurement,
            evidence=evidence,
            time=datetime.fromtimestamp(made_at // 1000, UTC),
            request_bucket=len(encode_content(AssistantCall(request_bytes))),
            answer_bucket=frames * FRAME,
        )
        return sign_receipt(receipt, self.key)
