"""The simulated TEE makes evidence of the right shape, for anybody: its root's key is in the source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.binding import report_data
from attestation.document import CpuEvidence, CpuType, EvidenceDocument
from attestation.errors import InvalidReportSignature, MalformedEvidence
from attestation.measurement import MEASUREMENT, measure
from attestation.simulated import SimulatedReport, SimulatedTee, verify_report
from tests.attestation.test_document import KEYS

CODE = measure({"main.py": b"print()"})
TEE = SimulatedTee(CODE)
REPORT = TEE.collect(bytes(range(64))).report


@given(measurement=st.binary(min_size=MEASUREMENT, max_size=MEASUREMENT), reported=st.binary(min_size=64, max_size=64))
def test_a_report_says_what_the_code_is_and_what_it_chose(measurement: bytes, reported: bytes) -> None:
    evidence = SimulatedTee(measurement).collect(reported)
    assert evidence == CpuEvidence(CpuType.SIMULATED, evidence.report)
    assert (
        verify_report(evidence.report)
        == SimulatedReport.parse(evidence.report)
        == SimulatedReport(measurement, reported)
    )


def test_a_document_speaks_for_its_nonce_and_keys_and_has_no_devices() -> None:
    nonce = bytes(range(32))
    document = EvidenceDocument.parse(TEE.attest(nonce, KEYS))
    assert (document.keys, document.devices, document.cpu.type) == (KEYS, (), CpuType.SIMULATED)
    assert verify_report(document.cpu.report) == SimulatedReport(CODE, report_data(nonce, KEYS))
    with pytest.raises(ValueError, match="32 bytes"):
        TEE.attest(nonce[:-1], KEYS)


@pytest.mark.parametrize("length", [0, 32, 47, 49])
def test_a_measurement_has_48_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="48 bytes"):
        SimulatedTee(bytes(length))


@given(at=st.integers(0, len(REPORT) - 1), byte=st.integers(0, 255))
def test_a_changed_report_is_refused(at: int, byte: int) -> None:
    changed = REPORT[:at] + bytes([byte]) + REPORT[at + 1 :]
    if changed != REPORT:
        with pytest.raises((InvalidReportSignature, MalformedEvidence)):
            verify_report(changed)


@pytest.mark.parametrize(
    "data", [b"", REPORT[:-1], REPORT + b"\0", b"s" + REPORT[1:], bytes(len(REPORT)), TEE.collect(b"").report]
)
def test_refuses_another_length_or_magic(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        SimulatedReport.parse(data)
    with pytest.raises(MalformedEvidence):
        verify_report(data)
