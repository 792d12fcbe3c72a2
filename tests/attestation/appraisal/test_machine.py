"""Appraisal says yes to one document, one nonce and one policy; of every other it says which check refused it."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import errors
from attestation.appraisal import appraise, assess
from attestation.appraisal.policy import Policy, Weakening
from attestation.binding import report_data
from attestation.document import CpuType, EvidenceDocument
from attestation.errors import AttestationError, MalformedEvidence
from attestation.limits import MAX_DOCUMENT
from attestation.simulated import SimulatedTee
from attestation.verification.roots import VENDOR_ROOTS
from tests.attestation.machines import (
    KEYS,
    NONCE,
    NOW,
    SIMULATED_MEASUREMENT,
    Machine,
    azure_machine,
    gpu,
    simulated_machine,
    snp_machine,
    switch,
    tdx_machine,
)

MACHINES: dict[str, Callable[[], Machine]] = {
    "SEV-SNP": lambda: snp_machine(devices=[gpu(), gpu(1), switch()]),
    "Azure": lambda: azure_machine(devices=[gpu(arch="blackwell")]),
    "TDX": lambda: tdx_machine(devices=[gpu()]),
    "simulated": simulated_machine,
}
every_machine = pytest.mark.parametrize("name", MACHINES)
Change = Callable[[EvidenceDocument], EvidenceDocument]


# --- One answer -----------------------------------------------------------------------------------------------------------


@every_machine
def test_a_machine_as_it_stands_is_accepted_with_no_exception_but_the_tests_own(name: str) -> None:
    appraisal = MACHINES[name]().assess()
    assert appraisal.errors == ()
    assert set(appraisal.weakenings) <= {"UnsafeTrustOtherRoots", "UnsafeAcceptSimulated"}


@every_machine
def test_appraise_gives_the_claims_that_assess_has(name: str) -> None:
    machine = MACHINES[name]()
    assert machine.appraise() == machine.assess().claims()


@every_machine
def test_the_same_arguments_have_the_same_answer(name: str) -> None:
    machine = MACHINES[name]()
    assert machine.assess() == machine.assess()


@every_machine
def test_the_vendors_own_roots_are_the_default_and_accept_no_machine_of_the_tests(name: str) -> None:
    machine = MACHINES[name]()
    arguments = {"nonce": machine.nonce, "now": machine.now, "collateral": machine.collateral}
    appraisal = assess(machine.document, policy=machine.policy, **arguments)  # type: ignore[arg-type]
    refusals = [type(error) for error in appraisal.errors]
    assert refusals == machine.refusals(roots=VENDOR_ROOTS)
    expected = set() if name == "simulated" else {errors.UntrustedRoot}
    assert set(refusals) == expected
    assert "UnsafeTrustOtherRoots" not in appraisal.weakenings


def test_without_collateral_a_machine_is_refused_for_that() -> None:
    machine = snp_machine()
    with pytest.raises(errors.MissingCollateral):
        appraise(machine.document, nonce=machine.nonce, policy=machine.policy, now=NOW, roots=machine.roots)


# --- Freshness and binding ------------------------------------------------------------------------------------------------


def other_keys(document: EvidenceDocument) -> EvidenceDocument:
    return replace(document, keys=replace(document.keys, identity_key=b"\x05" + b"\1" * 32))


def other_receipts(document: EvidenceDocument) -> EvidenceDocument:
    return replace(document, keys=replace(document.keys, receipt_key=b"\1" * 32))


@pytest.mark.parametrize("name", ["SEV-SNP", "TDX", "simulated"])
def test_a_replayed_document_is_refused_by_the_processor_and_by_every_device(name: str) -> None:
    machine = MACHINES[name]()
    refusals = machine.refusals(nonce=bytes(32))
    assert refusals == [errors.DeviceNonceMismatch] * len(machine.evidence.devices) + [errors.BindingMismatch]


def test_a_replayed_document_of_azure_is_refused_by_its_virtual_tpm_too() -> None:
    refusals = azure_machine().refusals(nonce=bytes(32))
    assert refusals == [errors.BindingMismatch, errors.BindingMismatch]


@pytest.mark.parametrize("swap", [other_keys, other_receipts])
@every_machine
def test_keys_that_the_hardware_does_not_speak_for_are_refused(name: str, swap: Change) -> None:
    machine = MACHINES[name]()
    for refused in (machine.presenting(swap),):
        assert set(refused.refusals()) == {errors.BindingMismatch} | (
            {errors.DeviceNonceMismatch} if machine.evidence.devices else set()
        )


def test_a_release_that_is_claimed_afterwards_is_refused() -> None:
    machine = snp_machine(keys=replace(KEYS, release="subrosa-enclave 0.9"))
    refused = machine.presenting(lambda document: replace(document, keys=KEYS))
    assert refused.refusals() == [errors.BindingMismatch]


def test_the_reports_of_two_machines_do_not_mix() -> None:
    other = tdx_machine().evidence.cpu
    assert snp_machine(keys=replace(KEYS, receipt_key=bytes(32))).presenting(
        lambda document: replace(document, keys=KEYS)
    ).refusals() == [errors.BindingMismatch]
    mixed = snp_machine().presenting(lambda document: replace(document, cpu=other))
    assert errors.MissingCollateral in mixed.refusals()


def test_a_report_of_one_kind_is_none_of_another() -> None:
    for kind in (CpuType.TDX, CpuType.SEV_SNP_AZURE, CpuType.SIMULATED):
        machine = snp_machine().presenting(
            lambda document, kind=kind: replace(document, cpu=replace(document.cpu, type=kind))  # type: ignore[misc]
        )
        assert len(machine.refusals()) == 1
        assert machine.assess().errors[0].kind is errors.Kind.SYNTAX


# --- Simulated ------------------------------------------------------------------------------------------------------------


def test_a_simulation_is_refused_by_every_policy_that_does_not_name_it() -> None:
    machine = simulated_machine()
    every_other = frozenset(Weakening) - {Weakening.UNSAFE_ACCEPT_SIMULATED}
    assert machine.under(unsafe=every_other).refusals() == [errors.SimulatedHardwareRefused]


def test_a_simulation_is_held_to_its_measurement() -> None:
    machine = simulated_machine()
    other = SimulatedTee(bytes(48)).attest(NONCE, KEYS)
    assert machine.refusals(document=other) == [errors.UnacceptedMeasurement]
    assert machine.refusals(document=SimulatedTee(SIMULATED_MEASUREMENT).attest(NONCE, KEYS)) == []


def test_a_simulated_report_that_was_changed_or_cut_is_refused() -> None:
    machine = simulated_machine()
    report = machine.evidence.cpu.report
    for changed, refusal in (
        (report[:-1] + bytes([report[-1] ^ 1]), errors.InvalidReportSignature),
        (report[:-1], errors.MalformedEvidence),
    ):
        refused = machine.presenting(
            lambda document, changed=changed: replace(document, cpu=replace(document.cpu, report=changed))  # type: ignore[misc]
        )
        assert refused.refusals() == [refusal]


def test_a_simulation_with_devices_is_judged_with_them() -> None:
    assert simulated_machine(devices=[gpu()]).refusals() == []
    assert simulated_machine(devices=[gpu()]).under(gpus=0).refusals() == [errors.UnexpectedDeviceCount]


# --- The document ---------------------------------------------------------------------------------------------------------

DOCUMENT = snp_machine().document


@pytest.mark.parametrize(
    "made",
    [
        lambda data: json.dumps(json.loads(data)).encode(),
        lambda data: data + b"\n",
        lambda data: b" " + data,
        lambda data: data[:-1],
        lambda data: data.replace(b'{"cpu"', b'{"again":1,"cpu"', 1),
        lambda data: data.replace(b'"version":2', b'"version":2,"version":2'),
        lambda data: data.replace(b'"version":2', b'"version":1'),
        lambda data: data.replace(b'"version":2', b'"version":2.0'),
        lambda data: data.replace(b'"devices":[],', b""),
        lambda data: data.replace(b"=", b"", 1),
        lambda data: data.replace(b"sev-snp", b"sev-snq"),
        lambda _: b'{"a":' * 5000,
        lambda _: b" " * (MAX_DOCUMENT + 1),
        lambda _: b"[]",
        lambda _: b"",
        lambda _: b"\xff",
    ],
)
def test_refuses_every_spelling_but_the_canonical_one(made: Callable[[bytes], bytes]) -> None:
    appraisal = snp_machine().assess(document=made(DOCUMENT))
    assert [type(error) for error in appraisal.errors] == [errors.MalformedEvidence]
    assert [step.last for step in appraisal.steps] == [False, True]


SIMULATED = simulated_machine()


@given(position=st.integers(0, len(SIMULATED.document) - 1), change=st.integers(1, 255))
def test_no_changed_byte_is_accepted(position: int, change: int) -> None:
    data = SIMULATED.document
    changed = data[:position] + bytes([data[position] ^ change]) + data[position + 1 :]
    with pytest.raises(AttestationError):
        SIMULATED.appraise(document=changed)


@given(
    st.binary(max_size=300) | st.recursive(st.text() | st.integers(), st.lists, max_leaves=5).map(str).map(str.encode)
)
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        SIMULATED.appraise(document=data)


# --- The caller -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(33)])
def test_a_nonce_of_another_length_is_a_fault_of_the_caller(nonce: bytes) -> None:
    for ask, document in product((assess, appraise), (DOCUMENT, b"no document")):
        with pytest.raises(ValueError, match="32 bytes"):
            ask(document, nonce=nonce, policy=Policy(), now=NOW)


def test_a_time_without_a_zone_is_a_fault_of_the_caller() -> None:
    for ask in (assess, appraise):
        with pytest.raises(ValueError, match="time zone"):
            ask(DOCUMENT, nonce=NONCE, policy=Policy(), now=datetime.fromisoformat("2026-06-01"))


@given(hours=st.integers(-23, 23))
def test_a_moment_is_the_same_in_every_time_zone(hours: int) -> None:
    from datetime import timezone

    assert SIMULATED.refusals(now=NOW.astimezone(timezone(timedelta(hours=hours)))) == []


@given(nonce=st.binary(min_size=32, max_size=32))
def test_a_document_answers_one_nonce(nonce: bytes) -> None:
    assert SIMULATED.refusals(nonce=nonce) == ([] if nonce == NONCE else [errors.BindingMismatch])
    assert (report_data(nonce, KEYS) == report_data(NONCE, KEYS)) == (nonce == NONCE)
