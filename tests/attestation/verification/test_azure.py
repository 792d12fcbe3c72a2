"""Azure's virtual TPM is believed only as far as the processor's report commits to its key."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.document import TpmQuote
from attestation.errors import BindingMismatch, InvalidTpmQuote, MalformedEvidence
from attestation.parsing.azure import HclReport
from attestation.verification.azure import verify_claims, verify_quote
from tests.attestation.authority.amd import REPORT_SIZE
from tests.attestation.authority.azure import (
    PCRS,
    HclBlob,
    Quote,
    jwk,
    report_data,
    runtime_claims,
    sign_quote,
    tpm_key,
)

CLAIMS = runtime_claims()
HCL = HclReport.parse(HclBlob(report=bytes(REPORT_SIZE), claims=CLAIMS).encode())
CHALLENGE = bytes(range(32))
MESSAGE = Quote(extra_data=CHALLENGE).encode()
QUOTE = TpmQuote(MESSAGE, sign_quote(MESSAGE), PCRS)


def test_the_report_commits_to_the_claims() -> None:
    verify_claims(HCL, report_data(CLAIMS))


OTHERS = [
    report_data(CLAIMS + b" "),
    bytes(64),
    b"",
    report_data(CLAIMS)[:32],
    report_data(CLAIMS)[:-1] + b"\1",
    report_data(CLAIMS) + b"\0",
    bytes(32) + report_data(CLAIMS)[:32],
]


@pytest.mark.parametrize("reported", OTHERS)
def test_refuses_a_report_that_commits_to_other_claims(reported: bytes) -> None:
    with pytest.raises(BindingMismatch):
        verify_claims(HCL, reported)


def test_refuses_claims_of_another_key() -> None:
    other = runtime_claims([jwk("HCLAkPub", "sign", tpm_key("stranger").public_key())])
    with pytest.raises(BindingMismatch):
        verify_claims(HclReport.parse(HclBlob(report=bytes(REPORT_SIZE), claims=other).encode()), report_data(CLAIMS))


def test_accepts_a_fresh_quote_over_the_registers() -> None:
    verify_quote(QUOTE, HCL, challenge=CHALLENGE)


@pytest.mark.parametrize("challenge", [b"", bytes(32), CHALLENGE[:-1], CHALLENGE + b"\0"])
def test_refuses_an_answer_to_another_challenge(challenge: bytes) -> None:
    with pytest.raises(BindingMismatch):
        verify_quote(QUOTE, HCL, challenge=challenge)


SIGNATURES = {
    "a stranger's": sign_quote(MESSAGE, tpm_key("stranger")),
    "the TPM's other key's": sign_quote(MESSAGE, tpm_key("EK")),
    "of another quote": sign_quote(Quote(extra_data=b"other").encode()),
    "none": b"",
    "zeros": bytes(256),
    "too short": QUOTE.signature[:-1],
    "too long": QUOTE.signature + b"\0",
    "beyond the modulus": b"\xff" * 256,
    "much too long": bytes(64 * 1024),
}


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
def test_refuses_another_signature(signature: bytes) -> None:
    with pytest.raises(InvalidTpmQuote):
        verify_quote(replace(QUOTE, signature=signature), HCL, challenge=CHALLENGE)


def test_refuses_other_registers_than_were_quoted() -> None:
    for pcrs in ((b"\1" * 32, *PCRS[1:]), (PCRS[1], PCRS[0], *PCRS[2:]), PCRS[:-1], ()):
        with pytest.raises(InvalidTpmQuote):
            verify_quote(replace(QUOTE, pcrs=pcrs), HCL, challenge=CHALLENGE)


def test_refuses_a_signed_message_that_is_no_quote_over_all_registers() -> None:
    for message in (b"", CHALLENGE, Quote(extra_data=CHALLENGE, pcr_select=b"\xff\xff\x7f").encode()):
        with pytest.raises(MalformedEvidence):
            verify_quote(TpmQuote(message, sign_quote(message), PCRS), HCL, challenge=CHALLENGE)


@given(at=st.integers(0, len(MESSAGE) - 1), byte=st.integers(0, 255))
def test_a_changed_quote_is_refused(at: int, byte: int) -> None:
    changed = MESSAGE[:at] + bytes([byte]) + MESSAGE[at + 1 :]
    if changed != MESSAGE:
        with pytest.raises((InvalidTpmQuote, MalformedEvidence)):
            verify_quote(replace(QUOTE, message=changed), HCL, challenge=CHALLENGE)
