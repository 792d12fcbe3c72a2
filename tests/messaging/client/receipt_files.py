"""A receipt file with everything real but the hardware: an enclave in the simulated TEE, and authors with identity keys."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation import (
    NO_COLLATERAL,
    Claims,
    Policy,
    Receipt,
    Release,
    SimulatedTee,
    UnsafeAcceptSimulated,
    appraise,
    sign_receipt,
)
from attestation.bundle import Bundle
from attestation.document import CpuType, KeySection
from attestation.limits import MAX_RECEIPT_DRIFT
from messaging.client.receipts import ReceiptFile, ShownConsent
from messaging.wire.consent import CONSENT_CONTEXT, Consent, SignedConsent, conversation_id
from messaging.wire.identifiers import ServiceId
from signal_protocol.public import KeyPair, generate_key_pair, sign
from tests.attestation import machines

NONCE = machines.NONCE
TIME = machines.NOW  # of the evidence
MADE = TIME + timedelta(minutes=10)  # the answer
CONVERSATION = conversation_id(bytes(32))
RELEASE = "subrosa-enclave 1.0"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
DOCUMENT = SimulatedTee(machines.SIMULATED_MEASUREMENT).attest(
    NONCE, KeySection(b"\x05" + bytes(range(32)), KEY.public_key().public_bytes_raw(), RELEASE)
)
BUNDLE = Bundle(NONCE, TIME, DOCUMENT, NO_COLLATERAL)
REQUEST, ANSWER = b"the bytes of a request", b"the bytes of an answer"
EARLIEST = TIME - timedelta(seconds=MAX_RECEIPT_DRIFT)


def milliseconds(time: datetime) -> int:
    """Since 1970."""
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Author:
    """A member with an identity key of their own."""

    service_id: ServiceId
    keys: KeyPair

    def statement(self, **changes: Any) -> Consent:
        """A consent to everything, given an hour before the evidence, until withdrawn."""
        given = Consent(CONVERSATION, self.service_id, milliseconds(TIME - timedelta(hours=1)), True)
        return replace(given, **changes)

    def consent(self, **changes: Any) -> ShownConsent:
        """The same, signed, as a file shows it."""
        return self.shows(self.statement(**changes).encode())

    def shows(self, statement: bytes) -> ShownConsent:
        """Any bytes under this author's signature."""
        signed = SignedConsent(statement, sign(self.keys.private, CONSENT_CONTEXT + statement))
        return ShownConsent(self.service_id, self.keys.public, signed)


ALICE = Author(ServiceId(UUID("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")), generate_key_pair())
BOB = Author(ServiceId(UUID("bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb")), generate_key_pair())
MALLORY = Author(ServiceId(UUID("eeeeeeee-eeee-4eee-8eee-eeeeeeeeeeee")), generate_key_pair())


@cache
def proved() -> Claims:
    """What an appraisal of the enclave's evidence proved."""
    release = Release(name=RELEASE, type=CpuType.SIMULATED, measurement=machines.SIMULATED_MEASUREMENT)
    policy = Policy(releases=(release,), unsafe=frozenset({UnsafeAcceptSimulated}))
    return appraise(DOCUMENT, nonce=NONCE, policy=policy, now=TIME)


def receipt_file(*consents: ShownConsent, key: Ed25519PrivateKey = KEY, **changes: Any) -> ReceiptFile:
    """A file whose receipt is for these consents; ``changes`` are members of the receipt that the enclave signs instead."""
    file = ReceiptFile(bundle=BUNDLE, signed=b"", consents=consents, request=REQUEST, answer=ANSWER)
    members: dict[str, Any] = {
        "kind": "summarize",
        "request": hashlib.sha256(REQUEST).digest(),
        "answer": hashlib.sha256(ANSWER).digest(),
        "conversation": CONVERSATION,
        "consents": file.consent_set_digest(),
        "engine": "extractive",
        "model": bytes(range(32)),
        "instructions": hashlib.sha256(b"").digest(),
        "release": RELEASE,
        "measurement": machines.SIMULATED_MEASUREMENT,
        "evidence": hashlib.sha256(DOCUMENT).digest(),
        "time": MADE,
        "request_bucket": 16399,
        "answer_bucket": 8159,
    }
    return replace(file, signed=sign_receipt(Receipt(**(members | changes)), key))


def accepted_file() -> ReceiptFile:
    """The file of an answer that rests on messages of Alice and Bob."""
    return receipt_file(ALICE.consent(), BOB.consent())
