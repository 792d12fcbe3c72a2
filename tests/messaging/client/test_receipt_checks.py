"""A receipt counts if the proved enclave signed for exactly this, and everybody whom it names had agreed to it by then."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation import AttestationError, Claims, parse_receipt
from attestation.errors import (
    InvalidReceiptSignature,
    MalformedEvidence,
    MalformedReceipt,
    ReceiptCodeMismatch,
    ReceiptContentMismatch,
    ReceiptEvidenceMismatch,
    ReceiptTooEarly,
)
from messaging.client.receipt_checks import (
    MAX_CONSENT_DRIFT,
    NEEDED_SCOPE,
    ConsentNotInForce,
    ConsentOfAnother,
    ConsentScopeExceeded,
    InvalidConsentSignature,
    MalformedConsent,
    assess_receipt,
)
from messaging.client.receipts import ReceiptFile, ShownConsent
from messaging.wire.consent import ConsentScope
from tests.messaging.client.receipt_files import (
    ALICE,
    BOB,
    BUNDLE,
    EARLIEST,
    MADE,
    MALLORY,
    accepted_file,
    milliseconds,
    proved,
    receipt_file,
)

VECTORS = Path(__file__).parents[2] / "vectors" / "receipts"
SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)


def refusals(file: ReceiptFile, claims: Claims | None = None) -> list[type[AttestationError]]:
    """Why it is refused, in the order of the checks."""
    return [type(error) for error in assess_receipt(file, claims or proved()).errors]


def test_a_genuine_receipt_is_accepted_and_each_check_is_told() -> None:
    file = accepted_file()
    appraisal = assess_receipt(file, proved())
    assert appraisal.errors == ()
    assert appraisal.readable
    assert appraisal.receipt() == parse_receipt(file.signed).unverified
    assert [step.subject for step in appraisal.steps] == (
        ["receipt"] * 6
        + ["content"] * 3
        + [f"consent of {ALICE.service_id}"] * 7
        + [f"consent of {BOB.service_id}"] * 7
    )


def test_the_file_of_the_vectors_is_accepted_but_for_its_evidence_which_is_a_simulation() -> None:
    file = ReceiptFile.parse((VECTORS / "receipt-file.json").read_bytes())
    assert assess_receipt(file, None).errors == ()


def test_without_content_it_is_accepted_too() -> None:
    assert refusals(accepted_file().without_content()) == []


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"request": bytes(32)}, ReceiptContentMismatch),
        ({"answer": bytes(32)}, ReceiptContentMismatch),
        ({"consents": bytes(32)}, ReceiptContentMismatch),
        ({"evidence": bytes(32)}, ReceiptEvidenceMismatch),
        ({"release": "another"}, ReceiptCodeMismatch),
        ({"measurement": bytes(48)}, ReceiptCodeMismatch),
        ({"key": Ed25519PrivateKey.from_private_bytes(bytes(32))}, InvalidReceiptSignature),
    ],
)
def test_a_receipt_for_something_else_is_refused_for_that(
    changes: dict[str, Any], refused: type[AttestationError]
) -> None:
    file = receipt_file(ALICE.consent(), **changes)
    assert refusals(file) == [refused]
    assert assess_receipt(file, None).errors[0].check == refused.check  # whoever has no policy hears of it too
    with pytest.raises(refused):
        assess_receipt(file, proved()).receipt()


@pytest.mark.parametrize(("made", "refused"), [(EARLIEST, []), (EARLIEST - SECOND, [ReceiptTooEarly])])
def test_an_answer_is_not_older_than_its_evidence_but_for_clocks_that_differ_a_little(
    made: datetime, refused: list[type[AttestationError]]
) -> None:
    assert refusals(receipt_file(ALICE.consent(), time=made)) == refused


def test_consents_that_are_left_out_added_or_exchanged_are_noticed() -> None:
    file = accepted_file()
    alice, bob = file.consents
    again = ALICE.consent()  # the same statement under another signature
    for consents in ((alice,), (), (alice, bob, MALLORY.consent()), (again, bob)):
        assert refusals(replace(file, consents=consents)) == [ReceiptContentMismatch]


def test_an_answer_that_rests_on_nobodys_messages_has_no_consents() -> None:
    assert refusals(receipt_file(kind="forget", conversation=None)) == []


OTHER_CONSENTS: dict[str, tuple[Callable[[], ShownConsent], type[AttestationError]]] = {
    "unreadable": (lambda: ALICE.shows(b"\xff"), MalformedConsent),
    "signed by another key": (lambda: replace(ALICE.consent(), identity_key=BOB.keys.public), InvalidConsentSignature),
    "with a key that is none": (lambda: replace(ALICE.consent(), identity_key=bytes(33)), InvalidConsentSignature),
    "changed after signing": (
        lambda: replace(
            ALICE.consent(),
            signed=replace(ALICE.consent().signed, statement=ALICE.statement(expires_at=2**50).encode()),
        ),
        InvalidConsentSignature,
    ),
    "made by another author": (lambda: ALICE.shows(BOB.statement().encode()), ConsentOfAnother),
    "for another conversation": (lambda: ALICE.consent(conversation_id=bytes(32)), ConsentOfAnother),
    "that says no": (lambda: ALICE.consent(opted_in=False), ConsentNotInForce),
    "that had run out": (lambda: ALICE.consent(expires_at=milliseconds(MADE)), ConsentNotInForce),
    "from later": (
        lambda: ALICE.consent(timestamp=milliseconds(MADE + SECOND + MAX_CONSENT_DRIFT)),
        ConsentNotInForce,
    ),
    "for replies only": (lambda: ALICE.consent(scopes=frozenset({ConsentScope.REPLIES})), ConsentScopeExceeded),
    "for nothing": (lambda: ALICE.consent(scopes=frozenset()), ConsentScopeExceeded),
}


@pytest.mark.parametrize("name", OTHER_CONSENTS)
def test_a_consent_that_is_none_is_refused_although_the_enclave_signed_for_it(name: str) -> None:
    make, refused = OTHER_CONSENTS[name]
    appraisal = assess_receipt(receipt_file(make(), BOB.consent()), proved())
    assert [type(error) for error in appraisal.errors] == [refused]
    assert {step.subject for step in appraisal.steps if step.error} == {f"consent of {ALICE.service_id}"}


def test_a_consent_is_in_force_up_to_the_edges() -> None:
    latest = milliseconds(MADE + SECOND + MAX_CONSENT_DRIFT - MILLISECOND)
    for consent in (ALICE.consent(timestamp=latest), ALICE.consent(expires_at=milliseconds(MADE + MILLISECOND))):
        assert refusals(receipt_file(consent)) == []


def test_all_faults_of_a_consent_are_told_at_once() -> None:
    statement = BOB.statement(opted_in=False, conversation_id=bytes(32), expires_at=1, scopes=frozenset())
    shown = replace(ALICE.shows(statement.encode()), identity_key=MALLORY.keys.public)
    assert refusals(receipt_file(shown)) == [
        InvalidConsentSignature,
        ConsentOfAnother,
        ConsentOfAnother,
        ConsentNotInForce,
        ConsentNotInForce,
        ConsentScopeExceeded,
    ]


@pytest.mark.parametrize("kind", NEEDED_SCOPE)
def test_each_kind_of_request_needs_its_own_scope(kind: str) -> None:
    needed = NEEDED_SCOPE[kind]
    for scope in ConsentScope:
        file = receipt_file(ALICE.consent(scopes=frozenset({scope})), kind=kind)
        assert refusals(file) == ([] if needed in (None, scope) else [ConsentScopeExceeded])


def test_summaries_and_replies_are_different_consents() -> None:
    assert NEEDED_SCOPE["summarize"] is ConsentScope.SUMMARIES
    assert NEEDED_SCOPE["suggest_replies"] is ConsentScope.REPLIES


def test_which_consent_an_unknown_kind_needs_nobody_can_say() -> None:
    assert refusals(receipt_file(ALICE.consent(), kind="translate")) == [ConsentScopeExceeded]
    assert refusals(receipt_file(kind="translate")) == []


def test_consents_are_for_a_conversation_and_so_is_the_request() -> None:
    assert refusals(receipt_file(ALICE.consent(), conversation=None)) == [ConsentOfAnother]


def test_a_receipt_that_cannot_be_read_ends_the_checks() -> None:
    appraisal = assess_receipt(replace(accepted_file(), signed=b"\xd2"), proved())
    (step,) = appraisal.steps
    assert isinstance(step.error, MalformedReceipt)
    assert (step.last, appraisal.readable, appraisal.claimed) == (True, False, None)


def test_evidence_that_cannot_be_read_stands_for_no_receipt() -> None:
    file = replace(accepted_file(), bundle=replace(BUNDLE, evidence=b"{}"))
    assert [type(error) for error in assess_receipt(file, None).errors] == [MalformedEvidence]


def test_every_refusal_says_what_it_means() -> None:
    for error in (
        MalformedConsent,
        InvalidConsentSignature,
        ConsentOfAnother,
        ConsentNotInForce,
        ConsentScopeExceeded,
    ):
        assert error.check
        assert error.kind
        assert error.meaning.endswith(".")
