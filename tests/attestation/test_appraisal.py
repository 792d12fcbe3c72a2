"""Appraisal says yes to one document and no to every other, and says which check refused it."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import (
    AttestationError,
    BindingMismatch,
    EvidenceDocument,
    InvalidReportSignature,
    KeySection,
    MalformedEvidence,
    Policy,
    SimulatedHardwareRefused,
    SimulatedTee,
    UnacceptedMeasurement,
    UnsafeAcceptSimulated,
    UnsupportedEvidence,
    appraise,
    measure,
)
from attestation.encoding import MAX_DOCUMENT

MEASUREMENT = measure({"main.py": b"print()"})
KEYS = KeySection(identity_key=b"\x05" + bytes(32), release="subrosa 0.1.0")
NONCE = bytes(range(32))
DOCUMENT = SimulatedTee(MEASUREMENT).attest(NONCE, KEYS)
UNSAFE = UnsafeAcceptSimulated(frozenset({MEASUREMENT}))


def test_accepts_simulated_evidence_only_under_the_policy_that_says_it_is_unsafe() -> None:
    claims = appraise(DOCUMENT, nonce=NONCE, policy=UNSAFE)
    assert claims.simulated
    assert (claims.identity_key, claims.release) == (KEYS.identity_key, KEYS.release)
    assert claims.measurement == MEASUREMENT
    with pytest.raises(SimulatedHardwareRefused):
        appraise(DOCUMENT, nonce=NONCE, policy=Policy(frozenset({MEASUREMENT})))


def test_refuses_a_replayed_document() -> None:
    with pytest.raises(BindingMismatch):
        appraise(DOCUMENT, nonce=bytes(32), policy=UNSAFE)


def test_refuses_keys_that_the_report_does_not_commit_to() -> None:
    document = EvidenceDocument.parse(DOCUMENT)
    swapped = replace(document, keys=replace(KEYS, identity_key=b"\x05" + b"\x01" * 32))
    with pytest.raises(BindingMismatch):
        appraise(swapped.encode(), nonce=NONCE, policy=UNSAFE)


def test_refuses_code_that_is_no_accepted_release() -> None:
    other = measure({"main.py": b"print(1)"})
    with pytest.raises(UnacceptedMeasurement):
        appraise(SimulatedTee(other).attest(NONCE, KEYS), nonce=NONCE, policy=UNSAFE)


def test_refuses_a_report_that_the_simulated_root_did_not_sign() -> None:
    document = EvidenceDocument.parse(DOCUMENT)
    forged = replace(document, report=document.report[:-1] + bytes([document.report[-1] ^ 1]))
    with pytest.raises(InvalidReportSignature):
        appraise(forged.encode(), nonce=NONCE, policy=UNSAFE)


def test_refuses_types_that_it_cannot_verify() -> None:
    with pytest.raises(UnsupportedEvidence):
        appraise(replace(EvidenceDocument.parse(DOCUMENT), type="sev-snp").encode(), nonce=NONCE, policy=UNSAFE)


def test_a_nonce_of_another_length_is_a_fault_of_the_caller() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        appraise(DOCUMENT, nonce=b"short", policy=UNSAFE)


def test_refuses_every_spelling_but_the_canonical_one() -> None:
    members = json.loads(DOCUMENT)
    for spelling in (
        json.dumps(members).encode(),
        DOCUMENT + b"\n",
        DOCUMENT.replace(b'{"keys"', b'{"extra":1,"keys"', 1),
        DOCUMENT.replace(b'"version":1', b'"version":1,"version":1'),
        DOCUMENT.replace(b'"version":1', b'"version":2'),
        DOCUMENT.replace(b'"version":1', b'"version":1.0'),
        b'{"a":' * 5000,
        b" " * (MAX_DOCUMENT + 1),
        b"[]",
        b"",
        b"\xff",
    ):
        with pytest.raises(MalformedEvidence):
            appraise(spelling, nonce=NONCE, policy=UNSAFE)


@given(position=st.integers(0, len(DOCUMENT) - 1), change=st.integers(1, 255))
def test_no_changed_byte_is_accepted(position: int, change: int) -> None:
    changed = DOCUMENT[:position] + bytes([DOCUMENT[position] ^ change]) + DOCUMENT[position + 1 :]
    with pytest.raises(AttestationError):
        appraise(changed, nonce=NONCE, policy=UNSAFE)


@given(
    st.binary(max_size=300) | st.recursive(st.text() | st.integers(), st.lists, max_leaves=5).map(str).map(str.encode)
)
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        appraise(data, nonce=NONCE, policy=UNSAFE)


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.binary(max_size=4), min_size=1, max_size=4), st.data())
def test_a_measurement_covers_names_and_contents(files: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    assert measure(files) == measure(dict(reversed(files.items())))
    assert measure(files) != measure({**files, name: files[name] + b"!"})
    renamed = {key: value for key, value in files.items() if key != name} | {name + "!x": files[name]}
    assert measure(files) != measure(renamed)


def test_every_refusal_names_its_check() -> None:
    checks = [error.check for error in AttestationError.__subclasses__()]
    assert len(checks) == len(set(checks)) == 6
