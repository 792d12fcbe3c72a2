"""A policy is strict unless it says otherwise, and what it says otherwise has a name that stands in every result."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from attestation import errors
from attestation.appraisal.policy import DEFAULT_COLLATERAL_AGE, DEFAULT_FLOORS, Policy, Release, Weakening
from attestation.appraisal.policy_file import TEMPLATE, parse_policy_unsigned
from attestation.document import CpuType
from attestation.errors import AttestationError
from attestation.parsing.snp import TCB_PARTS, Product, Tcb
from tests.attestation.authority.amd import PRODUCTS, default_chip_id
from tests.attestation.machines import (
    KEYS,
    MEASUREMENT,
    NOW,
    Machine,
    amd_authority,
    gpu,
    intel_collateral,
    simulated_machine,
    snp_machine,
    tdx_machine,
)

SECOND = timedelta(seconds=1)


# --- The default ----------------------------------------------------------------------------------------------------------


def test_the_default_policy_accepts_no_code() -> None:
    assert snp_machine().refusals(policy=Policy()) == [errors.UnacceptedMeasurement]


def test_the_default_policy_has_no_exception_and_expects_no_device() -> None:
    assert Policy().unsafe == frozenset()
    assert snp_machine(devices=[gpu()]).under(gpus=0).refusals() == [errors.UnexpectedDeviceCount]


def test_the_default_floors_are_those_of_amds_bulletin() -> None:
    assert {product: floor.snp for product, floor in DEFAULT_FLOORS.items()} == {
        Product.MILAN: 0x18,
        Product.GENOA: 0x17,
        Product.TURIN: 0,
    }


# --- Fields ---------------------------------------------------------------------------------------------------------------


def test_a_policy_is_valid_in_its_own_time_both_ends_included() -> None:
    since, until = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
    machine = snp_machine().under(valid_from=since, valid_until=until)
    assert machine.refusals(now=since) == machine.refusals(now=until) == []
    assert machine.refusals(now=since - SECOND) == [errors.PolicyExpired]
    assert machine.refusals(now=until + SECOND) == [errors.PolicyExpired]
    assert snp_machine().under(valid_from=since).refusals(now=until + SECOND) == []
    assert snp_machine().under(valid_until=until).refusals(now=since - SECOND) == []


def test_an_expired_policy_still_shows_what_else_is_wrong() -> None:
    machine = snp_machine(vmpl=1).under(valid_until=NOW - SECOND)
    assert machine.refusals() == [errors.PolicyExpired, errors.UnacceptedGuestPolicy]


def test_a_release_is_accepted_under_its_own_name_alone() -> None:
    machine = snp_machine()
    (release,) = machine.policy.releases
    assert machine.under(releases=(replace(release, name="another"),)).refusals() == [errors.UnacceptedMeasurement]
    for releases in ((release, replace(release, name="another")), (replace(release, name="another"), release)):
        assert machine.under(releases=releases).refusals() == []


def test_the_name_of_one_release_is_no_cover_for_the_code_of_another() -> None:
    machine = snp_machine()
    (release,) = machine.policy.releases
    mine = replace(release, measurement=bytes(48))
    assert machine.under(releases=(mine, replace(release, name="another"))).refusals() == [errors.UnacceptedMeasurement]


def test_a_release_for_one_kind_of_machine_is_none_for_another() -> None:
    machine = snp_machine()
    simulated = Release(name=KEYS.release, type=CpuType.SIMULATED, measurement=MEASUREMENT)
    assert machine.under(releases=(simulated,)).refusals() == [errors.UnacceptedMeasurement]


REASONS = {
    "the policy accepts no release": lambda: snp_machine().under(releases=()),
    "the running code is none of the accepted releases": lambda: snp_machine(measurement=bytes(48)),
    "the running code is an accepted release, but calls itself by another name": lambda: snp_machine(
        keys=replace(KEYS, release="another")
    ),
}


@pytest.mark.parametrize("reason", REASONS)
def test_a_refusal_of_code_says_why(reason: str) -> None:
    with pytest.raises(errors.UnacceptedMeasurement) as refusal:
        REASONS[reason]().appraise()
    assert str(refusal.value) == reason


def test_raising_a_floor_is_free_and_shows_in_the_text() -> None:
    floors = {**DEFAULT_FLOORS, Product.GENOA: Tcb(snp=24)}
    with pytest.raises(errors.UnacceptedTcb, match=r"floor for Genoa \(bootloader 0, tee 0, snp 24, microcode 0\)"):
        snp_machine().under(floors=floors).appraise()


# --- What cannot be written -----------------------------------------------------------------------------------------------

BELOW = {**DEFAULT_FLOORS, Product.GENOA: Tcb(snp=0x16)}
REFUSED: dict[str, dict[str, Any]] = {
    "a product without a floor": {"floors": {Product.GENOA: Tcb(snp=0x17)}},
    "a floor below the default": {"floors": BELOW},
    "collateral older than a month": {"collateral_age": DEFAULT_COLLATERAL_AGE + SECOND},
    "a negative number of GPUs": {"gpus": -1},
    "a negative number of switches": {"switches": -1},
    "the id of no chip": {"chips": frozenset({b""})},
    "half an id of a chip": {"chips": frozenset({bytes(64), bytes(32)})},
    "the id of no device": {"devices": frozenset({bytes(31)})},
    "a beginning without a time zone": {"valid_from": datetime.fromisoformat("2026-06-01")},
    "an end without a time zone": {"valid_until": datetime.fromisoformat("2026-06-01")},
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_policy_that_means_something_else_than_it_says_cannot_be_made(what: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- each has its own text
        Policy(**REFUSED[what])


SNP: dict[str, Any] = {"name": "r", "type": CpuType.SEV_SNP, "measurement": bytes(48)}
TDX: dict[str, Any] = {**SNP, "type": CpuType.TDX, "registers": (bytes(48),) * 3}
AZURE: dict[str, Any] = {**SNP, "type": CpuType.SEV_SNP_AZURE, "pcrs": {4: bytes(32)}}
NO_RELEASES: dict[str, dict[str, Any]] = {
    "a short measurement": {**SNP, "measurement": bytes(47)},
    "a short register": {**TDX, "registers": (bytes(48), bytes(48), bytes(32))},
    "TDX without registers": {**TDX, "registers": ()},
    "TDX with two registers": {**TDX, "registers": (bytes(48),) * 2},
    "TDX with five registers": {**TDX, "registers": (bytes(48),) * 5},
    "SEV-SNP with registers": {**SNP, "registers": (bytes(48),) * 3},
    "SEV-SNP with events": {**SNP, "events": {"compose-hash": b""}},
    "the runtime register and its events": {**TDX, "registers": (bytes(48),) * 4, "events": {"compose-hash": b""}},
    "Azure without registers": {**AZURE, "pcrs": {}},
    "SEV-SNP with registers of a TPM": {**SNP, "pcrs": {4: bytes(32)}},
    "a register that no TPM has": {**AZURE, "pcrs": {24: bytes(32)}},
    "a register below zero": {**AZURE, "pcrs": {-1: bytes(32)}},
    "a register of the wrong size": {**AZURE, "pcrs": {4: bytes(48)}},
    "launch data of the wrong size": {**SNP, "launch_data": bytes(48)},
    "TDX with launch data of SEV-SNP": {**TDX, "launch_data": bytes(32)},
    "Azure with launch data of TDX": {**AZURE, "launch_data": bytes(48)},
    "empty launch data": {**SNP, "launch_data": b""},
}


@pytest.mark.parametrize("what", NO_RELEASES)
def test_a_release_that_means_something_else_than_it_says_cannot_be_made(what: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- each has its own text
        Release(**NO_RELEASES[what])


@pytest.mark.parametrize(
    "release",
    [
        SNP,
        {**SNP, "launch_data": bytes(32)},
        TDX,
        {**TDX, "registers": (bytes(48),) * 4},
        {**TDX, "events": {"compose-hash": b""}},
        {**TDX, "launch_data": bytes(48)},
        AZURE,
        {**AZURE, "pcrs": {0: bytes(32), 23: bytes(32)}},
        {**SNP, "type": CpuType.SIMULATED},
    ],
)
def test_each_kind_of_release_can_be_made(release: dict[str, Any]) -> None:
    assert Release(**release).name == "r"


# --- Exceptions -----------------------------------------------------------------------------------------------------------


def below_the_floor() -> Machine:
    tcb = replace(PRODUCTS["Genoa"].tcb, snp=0x16)
    machine = snp_machine(endorsed=amd_authority().vcek(tcb=tcb), reported_tcb=tcb)
    return replace(machine, policy=replace(machine.policy.weakened_by(Weakening.UNSAFE_LOWER_TCB_FLOORS), floors=BELOW))


def judged(status: str) -> Machine:
    return tdx_machine().with_collateral(intel=intel_collateral(status=status))


def without(**parts: Any) -> Machine:
    return snp_machine(devices=[gpu()]).with_collateral(**parts)


Make = Callable[[], Machine]
EXCEPTIONS: dict[Weakening, tuple[Make, type[AttestationError]]] = {
    Weakening.UNSAFE_ACCEPT_SIMULATED: (
        lambda: simulated_machine().under(unsafe=frozenset()),
        errors.SimulatedHardwareRefused,
    ),
    Weakening.UNSAFE_ACCEPT_ANY_MEASUREMENT: (lambda: snp_machine().under(releases=()), errors.UnacceptedMeasurement),
    Weakening.UNSAFE_ACCEPT_MILAN: (lambda: snp_machine("Milan"), errors.UnacceptedProduct),
    Weakening.UNSAFE_SKIP_AMD_REVOCATION: (
        lambda: snp_machine().with_collateral(amd_crls=()),
        errors.MissingCollateral,
    ),
    Weakening.UNSAFE_ACCEPT_TDX_SW_HARDENING_NEEDED: (lambda: judged("SWHardeningNeeded"), errors.UnacceptedTcb),
    Weakening.UNSAFE_ACCEPT_TDX_CONFIGURATION_NEEDED: (lambda: judged("ConfigurationNeeded"), errors.UnacceptedTcb),
    Weakening.UNSAFE_ACCEPT_TDX_OUT_OF_DATE: (lambda: judged("OutOfDate"), errors.UnacceptedTcb),
    Weakening.UNSAFE_SKIP_GPU_REFERENCE_VALUES: (lambda: without(rims=()), errors.MissingCollateral),
}


@pytest.mark.parametrize("weakening", EXCEPTIONS)
def test_an_exception_lets_one_thing_pass_and_stands_in_the_result(weakening: Weakening) -> None:
    make, refusal = EXCEPTIONS[weakening]
    machine = make()
    assert machine.refusals() == [refusal]
    claims = machine.appraise(policy=machine.policy.weakened_by(weakening))
    assert claims.weakenings == (weakening, "UnsafeTrustOtherRoots")
    others = set(Weakening) - {weakening}
    assert refusal in machine.refusals(policy=replace(machine.policy, unsafe=frozenset(others)))


def test_without_nvidias_answers_a_gpu_passes_by_name_only() -> None:
    machine = without(ocsp_responses=())
    assert machine.refusals() == [errors.MissingCollateral, errors.MissingCollateral]  # the device, and its manifests
    weak = machine.policy.weakened_by(Weakening.UNSAFE_SKIP_GPU_REVOCATION)
    assert "UnsafeSkipGpuRevocation" in machine.appraise(policy=weak).weakenings


def test_a_lower_floor_can_be_written_by_name_only_and_then_holds() -> None:
    machine = below_the_floor()
    assert machine.appraise().weakenings == ("UnsafeLowerTcbFloors", "UnsafeTrustOtherRoots")
    strict = {"floors": DEFAULT_FLOORS, "unsafe": frozenset()}
    assert machine.under(**strict).refusals() == [errors.UnacceptedTcb]


@pytest.mark.parametrize("part", TCB_PARTS)
def test_every_part_of_a_default_floor_counts(part: str) -> None:
    floor = DEFAULT_FLOORS[Product.GENOA]
    lower = replace(floor, **{part: getattr(floor, part) - 1})
    with pytest.raises(ValueError, match="UnsafeLowerTcbFloors"):
        Policy(floors={**DEFAULT_FLOORS, Product.GENOA: lower})


def test_older_collateral_can_be_asked_for_by_name_only_and_then_is_accepted() -> None:
    since, until = NOW - timedelta(days=45), NOW + timedelta(days=1)
    old = intel_collateral(tcb_info_window=(since, until))
    machine = tdx_machine().with_collateral(intel=old)
    assert machine.refusals() == [errors.StaleCollateral]
    weak = {"collateral_age": timedelta(days=45), "unsafe": frozenset({Weakening.UNSAFE_OLDER_COLLATERAL})}
    assert machine.under(**weak).appraise().weakenings == ("UnsafeOlderCollateral", "UnsafeTrustOtherRoots")


def test_a_policy_without_a_signature_is_named_by_whoever_reads_it() -> None:
    assert parse_policy_unsigned(TEMPLATE.encode()).unsafe == {Weakening.UNSAFE_UNSIGNED_POLICY}


def test_exceptions_add_up_and_keep_the_rest_of_the_policy() -> None:
    strict = snp_machine().policy
    weak = strict.weakened_by(Weakening.UNSAFE_ACCEPT_MILAN).weakened_by(Weakening.UNSAFE_OLDER_COLLATERAL)
    assert weak == replace(strict, unsafe=frozenset({Weakening.UNSAFE_ACCEPT_MILAN, Weakening.UNSAFE_OLDER_COLLATERAL}))
    assert strict.unsafe == frozenset()


def test_every_exception_says_in_its_name_that_it_is_unsafe() -> None:
    assert all(name.startswith("Unsafe") for name in Weakening)
    tried = {*EXCEPTIONS, Weakening.UNSAFE_LOWER_TCB_FLOORS, Weakening.UNSAFE_OLDER_COLLATERAL}
    assert tried == set(Weakening) - {Weakening.UNSAFE_SKIP_GPU_REVOCATION, Weakening.UNSAFE_UNSIGNED_POLICY}


def test_a_list_of_chips_is_open_to_both_makers() -> None:
    chips = frozenset({default_chip_id("Genoa"), bytes(16)})
    assert snp_machine().under(chips=chips).refusals() == []
    assert tdx_machine().under(chips=chips).refusals() == [errors.UnacceptedChip]
