"""A TDX machine is accepted as it stands; with one thing wrong it is refused for that thing alone."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest

from attestation import errors
from attestation.appraisal.claims import RUNTIME_EVENTS
from attestation.appraisal.policy import Weakening
from attestation.document import CpuType
from attestation.errors import AttestationError
from tests.attestation.authority import eventlog, intel
from tests.attestation.authority.intel import MONTH, NOW, PLATFORM, TD10, TD15, Issued, tcb_level
from tests.attestation.machines import (
    FIRMWARE_LOG,
    KEYS,
    MEASURED_BOOT,
    Machine,
    dstack_log,
    intel_authority,
    intel_collateral,
    tdx_machine,
)

SECOND = timedelta(seconds=1)
Make = Callable[[], Machine]
Refusal = type[AttestationError]
INTEL = intel_authority()


# --- What is accepted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [(4, TD10), (5, TD10), (5, TD15)])
def test_accepts_quotes_of_both_versions_and_both_bodies(form: tuple[int, int]) -> None:
    claims = tdx_machine(form).appraise()
    assert (claims.cpu.type, claims.cpu.product, claims.cpu.firmware) == (CpuType.TDX, "FMSPC b0c06f000000", "UpToDate")
    assert claims.cpu.chip == PLATFORM.platform_instance_id
    assert claims.measurement == hashlib.sha384(b"mr_td").digest()


def test_zeros_behind_a_quote_are_padding() -> None:
    assert tdx_machine(trailing=bytes(3000)).refusals() == []


def test_without_an_event_log_the_registers_are_compared_as_they_are() -> None:
    assert with_log(tdx_machine(), b"").refusals() == []


def test_attributes_that_weaken_nothing_are_accepted() -> None:
    for bit in (30, 31):  # protection keys, key locker
        assert attributes(1 << 28 | 1 << bit).refusals() == []


def test_an_input_of_the_host_that_the_release_names_is_accepted() -> None:
    machine = tdx_machine(mr_config_id=b"\1" * 48)
    release = replace(machine.policy.releases[0], launch_data=b"\1" * 48)
    assert machine.under(releases=(release,)).refusals() == []
    assert tdx_machine().under(releases=(release,)).refusals() == [errors.UnacceptedMeasurement]


def test_a_release_may_name_the_runtime_register_itself() -> None:
    machine = tdx_machine(rtmr3=b"\3" * 48)
    release = replace(machine.policy.releases[0], registers=(*FIRMWARE_LOG.rtmrs[:3], b"\3" * 48))
    assert machine.under(releases=(release,)).refusals() == []
    assert tdx_machine().under(releases=(release,)).refusals() == [errors.UnacceptedMeasurement]


def test_a_listed_platform_is_accepted_and_no_other() -> None:
    machine = tdx_machine()
    assert machine.under(chips=frozenset({PLATFORM.platform_instance_id})).refusals() == []
    assert machine.under(chips=frozenset({bytes(16)})).refusals() == [errors.UnacceptedChip]


# --- What is refused ------------------------------------------------------------------------------------------------------


def attributes(bits: int) -> Machine:
    return tdx_machine(td_attributes=bits.to_bytes(8, "little"))


def with_log(machine: Machine, log: bytes) -> Machine:
    return machine.presenting(lambda document: replace(document, cpu=replace(document.cpu, event_log=log)))


def judged(**collateral: Any) -> Machine:
    """The machine, and what Intel says of it."""
    return tdx_machine().with_collateral(intel=intel_collateral(**collateral))


def chained(*certificates: Issued) -> Machine:
    return tdx_machine(chain=intel.pem_chain(*certificates).encode())


def platform(**changes: Any) -> Machine:
    """The machine of another platform, under the same keys."""
    return tdx_machine(pck=INTEL.issue_pck(replace(PLATFORM, **changes)))


def stranger() -> Machine:
    """Everything as Intel would have it, under keys of somebody else."""
    someone = intel.IntelAuthority()
    chain = intel.pem_chain(someone.pck, someone.platform_ca, someone.root_ca).encode()
    return tdx_machine(pck=someone.pck, chain=chain)


def stranger_under_intels_root() -> Machine:
    someone = intel.IntelAuthority()
    chain = intel.pem_chain(someone.pck, someone.platform_ca, INTEL.root_ca).encode()
    return tdx_machine(pck=someone.pck, chain=chain)


def quoting_enclave(**fields: bytes) -> Machine:
    return tdx_machine(qe_body=intel.qe_report(intel.raw_public_key(INTEL.attestation_key), **fields))


def with_statement(name: str, **members: object) -> Machine:
    """A statement of Intel's collateral with other members, unsigned."""
    machine = tdx_machine()
    collateral = machine.collateral.intel
    assert collateral is not None
    changed: dict[str, Any] = {name: json.dumps({**json.loads(getattr(collateral, name)), **members})}
    return machine.with_collateral(intel=replace(collateral, **changed))


FAULTS: dict[str, tuple[Make, Refusal]] = {
    # what the bytes say
    "no quote": (lambda: tdx_machine(signed=b"", chain=b""), errors.UnsupportedEvidence),
    "a certificate that is none": (lambda: tdx_machine(chain=b"no chain"), errors.MalformedCollateral),
    "another version": (lambda: tdx_machine(signed=b"\6\0" + intel.quote_body()[2:]), errors.UnsupportedEvidence),
    "a cut event log": (lambda: with_log(tdx_machine(), FIRMWARE_LOG.data[:70]), errors.MalformedEvidence),
    # whether the hardware said it
    "a stranger": (stranger, errors.UntrustedRoot),
    "a stranger under Intel's root": (stranger_under_intels_root, errors.BrokenChain),
    "no root": (lambda: chained(INTEL.pck, INTEL.platform_ca), errors.UntrustedRoot),
    "another key for the quote": (
        lambda: tdx_machine(attestation_key=intel.new_key(), public_key=intel.raw_public_key(INTEL.attestation_key)),
        errors.InvalidReportSignature,
    ),
    "another event log": (
        lambda: with_log(tdx_machine(), eventlog.event_log(eventlog.BOOT[:-1]).data),
        errors.EventLogMismatch,
    ),
    "Intel's word in a stranger's writing": (
        lambda: judged(tcb_signing=intel.IntelAuthority().tcb_signing),
        errors.InvalidCollateral,
    ),
    "Intel's word on another family": (lambda: judged(fmspc=bytes(6)), errors.InvalidCollateral),
    "an edited word of Intel's": (lambda: with_statement("tcb_info", pceId="0001"), errors.InvalidCollateral),
    "a quoting enclave of another signer": (lambda: quoting_enclave(mr_signer=bytes(32)), errors.InvalidCollateral),
    # whether we accept it
    "garbage behind the quote": (lambda: tdx_machine(trailing=bytes(9) + b"\1"), errors.UnsignedBytes),
    "debug": (lambda: attributes(1 << 28 | 1), errors.DebugEnabled),
    "another bit of inspection": (lambda: attributes(1 << 28 | 1 << 7), errors.DebugEnabled),
    "page-table exceptions": (lambda: attributes(0), errors.UnacceptedGuestPolicy),
    "migration": (lambda: attributes(1 << 28 | 1 << 29), errors.UnacceptedGuestPolicy),
    "performance counters": (lambda: attributes(1 << 28 | 1 << 63), errors.UnacceptedGuestPolicy),
    "an unknown attribute": (lambda: attributes(1 << 28 | 1 << 40), errors.UnacceptedGuestPolicy),
    "no word of Intel's": (lambda: tdx_machine().with_collateral(intel=None), errors.MissingCollateral),
    "a withdrawn platform": (lambda: judged(revoked_by_platform_ca=[INTEL.pck.serial]), errors.Revoked),
    "a withdrawn intermediate": (lambda: judged(revoked_by_root=[INTEL.platform_ca.serial]), errors.Revoked),
    "firmware below all that Intel knows": (
        lambda: judged(levels=[tcb_level(sgx_svns=(255,) * 16, tdx_svns=(255,) * 16)]),
        errors.UnacceptedTcb,
    ),
    "withdrawn firmware": (lambda: judged(status="Revoked"), errors.Revoked),
    "a withdrawn quoting enclave": (lambda: judged(qe_status="Revoked"), errors.Revoked),
    "a status that nobody knows": (lambda: judged(status="Fine"), errors.InvalidCollateral),
    "a signer of Intel's word that was withdrawn": (
        lambda: judged(revoked_by_root=[INTEL.tcb_signing.serial]),
        errors.Revoked,
    ),
    "another initial memory": (lambda: tdx_machine(mr_td=bytes(48)), errors.UnacceptedMeasurement),
    "a used runtime register": (lambda: tdx_machine(rtmr3=b"\1" * 48), errors.UnacceptedMeasurement),
    "an unmeasured input of the host": (lambda: tdx_machine(mr_config_id=b"\1" * 48), errors.UnacceptedMeasurement),
    "an expired certificate": (
        lambda: tdx_machine(pck=INTEL.issue_pck(valid=(NOW - timedelta(days=9), NOW - SECOND))),
        errors.CertificateOutOfDate,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refuses_a_machine_with_one_fault_for_that_fault_alone(fault: str) -> None:
    make, refusal = FAULTS[fault]
    machine = make()
    assert set(machine.refusals()) == {refusal}  # dcap-qvl repeats what was found of the guest's attributes
    with pytest.raises(refusal):
        machine.appraise()


def test_what_the_quote_alone_shows_is_refused_without_intels_word_too() -> None:
    for bits, refusal in ((1 << 28 | 1, errors.DebugEnabled), (0, errors.UnacceptedGuestPolicy)):
        machine = attributes(bits).with_collateral(intel=None)
        assert machine.refusals() == [errors.MissingCollateral, refusal]


@pytest.mark.parametrize("register", range(3))
def test_each_register_of_the_start_counts(register: int) -> None:
    changed: dict[str, Any] = {f"rtmr{register}": b"\1" * 48}
    other = with_log(tdx_machine(**changed), b"")
    assert other.refusals() == [errors.UnacceptedMeasurement]


def test_an_enclave_that_vouches_for_another_key_vouches_for_no_quote() -> None:
    machine = tdx_machine(qe_body=intel.qe_report(intel.raw_public_key(intel.new_key())))
    assert machine.refusals() == [errors.InvalidQuotingEnclave]


def test_an_sgx_quote_is_genuine_and_no_confidential_machine() -> None:
    machine = tdx_machine((5, TD10), tee_type=bytes(4))
    assert errors.UnacceptedProduct in machine.refusals()
    assert machine.assess().steps[-1].subject != "code"


# --- Intel's verdict ------------------------------------------------------------------------------------------------------

SW, CONFIGURATION, OUT_OF_DATE = (
    Weakening.UNSAFE_ACCEPT_TDX_SW_HARDENING_NEEDED,
    Weakening.UNSAFE_ACCEPT_TDX_CONFIGURATION_NEEDED,
    Weakening.UNSAFE_ACCEPT_TDX_OUT_OF_DATE,
)
STATUSES: dict[str, set[Weakening]] = {
    "UpToDate": set(),
    "SWHardeningNeeded": {SW},
    "ConfigurationNeeded": {CONFIGURATION},
    "ConfigurationAndSWHardeningNeeded": {SW, CONFIGURATION},
    "OutOfDate": {OUT_OF_DATE},
    "OutOfDateConfigurationNeeded": {OUT_OF_DATE, CONFIGURATION},
}


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_needs_exactly_its_own_exceptions(status: str) -> None:
    machine = judged(status=status, advisories=("INTEL-SA-00960",))
    for size in range(4):
        for granted in combinations((SW, CONFIGURATION, OUT_OF_DATE), size):
            expected = [] if STATUSES[status] <= set(granted) else [errors.UnacceptedTcb]
            assert machine.under(unsafe=frozenset(granted)).refusals() == expected


def test_a_refusal_names_status_and_advisories() -> None:
    with pytest.raises(errors.UnacceptedTcb, match=r"OutOfDate \(INTEL-SA-00960, INTEL-SA-01036\)"):
        judged(status="OutOfDate", advisories=("INTEL-SA-00960", "INTEL-SA-01036")).appraise()
    with pytest.raises(errors.UnacceptedTcb, match=r"OutOfDate \(no advisories\)"):
        judged(status="OutOfDate").appraise()


def test_an_accepted_advisory_is_told() -> None:
    steps = judged(advisories=("INTEL-SA-00960",)).assess().steps
    assert "UpToDate, INTEL-SA-00960" in {step.detail for step in steps}


def test_an_enclave_or_a_module_that_is_out_of_date_is_refused_although_the_platform_is_not() -> None:
    assert judged(qe_status="OutOfDate").refusals() == [errors.UnacceptedTcb]
    assert judged(module_status="OutOfDate").refusals() == [errors.UnacceptedTcb]


def test_an_older_platform_reaches_a_lower_level_only() -> None:
    machine = platform(pce_svn=6)
    assert machine.refusals() == [errors.UnacceptedTcb]
    assert machine.under(unsafe=frozenset({OUT_OF_DATE})).refusals() == []


def test_a_broken_quote_gets_no_verdict_on_its_firmware() -> None:
    statements = {step.statement for step in stranger().assess().steps}
    assert "Intel's word is of this time." in statements
    assert "Intel knows the platform's firmware." not in statements


# --- Its dates ------------------------------------------------------------------------------------------------------------

PARTS = ("tcb_info_window", "qe_identity_window", "pck_crl_window", "root_crl_window")


@pytest.mark.parametrize("part", PARTS)
def test_each_part_counts_from_five_minutes_before_its_date_to_its_last_second(part: str) -> None:
    since, until = NOW - timedelta(hours=12), NOW + timedelta(hours=12)
    machine = judged(**{part: (since, until)})
    early = since - timedelta(minutes=5)
    last = (
        until - SECOND if "crl" in part else until
    )  # dcap-qvl: a list ends where the second of its next update begins
    assert machine.refusals(now=early - SECOND) == [errors.StaleCollateral]
    assert machine.refusals(now=early) == []
    assert machine.refusals(now=last) == []
    assert machine.refusals(now=last + SECOND) == [errors.StaleCollateral]


@pytest.mark.parametrize("part", PARTS[:2])
def test_a_statement_may_be_no_older_than_the_policy_says(part: str) -> None:
    machine = judged(**{part: (NOW - timedelta(days=10), NOW + timedelta(days=20))})
    assert machine.under(collateral_age=timedelta(days=10)).refusals() == []
    assert machine.under(collateral_age=timedelta(days=10) - SECOND).refusals() == [errors.StaleCollateral]


def test_a_revocation_list_may_be_as_old_as_intel_lets_it() -> None:
    machine = judged(root_crl_window=(NOW - timedelta(days=300), NOW + SECOND))
    assert machine.refusals() == []


@pytest.mark.parametrize("date", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"])
def test_a_date_at_the_end_of_the_calendar_is_stale_and_no_accident(date: str) -> None:
    for name in ("tcb_info", "qe_identity"):
        assert with_statement(name, issueDate=date).refusals() == [errors.StaleCollateral]


def test_a_statement_without_a_date_is_malformed() -> None:
    assert with_statement("tcb_info", issueDate="soon").refusals() == [errors.MalformedCollateral]


def test_a_signer_of_the_collateral_whose_certificate_expired_is_refused() -> None:
    life = (NOW - timedelta(days=9), NOW - SECOND)
    signer = intel.issue("Intel SGX TCB Signing", INTEL.root_ca, valid=life)
    assert judged(tcb_signing=signer).refusals() == [errors.CertificateOutOfDate]


def test_intels_word_may_not_be_older_than_its_window() -> None:
    assert MONTH[1] - MONTH[0] == timedelta(days=30)
    assert tdx_machine().refusals(now=MONTH[1] + SECOND) == [errors.StaleCollateral]


# --- dstack ---------------------------------------------------------------------------------------------------------------

COMPOSE = ("compose-hash", dict(eventlog.APP)["compose-hash"])
OTHER_COMPOSE = ("compose-hash", bytes(32))


def started(events: Sequence[tuple[str, bytes]], **log: Any) -> Machine:
    return tdx_machine(runtime=dstack_log(events, **log))


def without(name: str) -> list[tuple[str, bytes]]:
    return [event for event in eventlog.APP if event[0] != name]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("stripped", [False, True])
def test_accepts_dstacks_events_of_both_versions_with_and_without_digests(version: int, stripped: bool) -> None:
    claims = started(eventlog.APP, version=version, stripped=stripped).appraise()
    assert RUNTIME_EVENTS in claims.not_proved
    assert RUNTIME_EVENTS not in tdx_machine().appraise().not_proved  # register 3 is empty: nothing was appended


def test_events_after_the_start_change_nothing() -> None:
    assert started([*eventlog.APP, OTHER_COMPOSE, ("anything", b"")]).refusals() == []


RUNTIME: dict[str, Make] = {
    "another payload": lambda: started([OTHER_COMPOSE, *without("compose-hash")]),
    "the event twice": lambda: started([COMPOSE, *eventlog.APP]),
    "the event with two payloads": lambda: started([OTHER_COMPOSE, *eventlog.APP]),
    "the event late": lambda: started([*without("compose-hash"), COMPOSE]),
    "no such event": lambda: started(without("compose-hash")),
    "no event at all": lambda: started([]),
    "no log": lambda: with_log(started(eventlog.APP), b""),
    "a log of the firmware alone": lambda: with_log(started(eventlog.APP), FIRMWARE_LOG.data),
}


@pytest.mark.parametrize("fault", RUNTIME)
def test_refuses_a_start_that_does_not_have_the_event_once_and_in_time(fault: str) -> None:
    assert RUNTIME[fault]().refusals() == [errors.UnacceptedMeasurement]


def test_a_release_without_events_accepts_no_runtime_register_that_events_explain() -> None:
    machine = started(eventlog.APP)
    release = replace(machine.policy.releases[0], events={})
    assert machine.under(releases=(release,)).refusals() == [errors.UnacceptedMeasurement]


def test_a_log_that_leaves_out_or_renames_an_event_does_not_lead_to_the_register() -> None:
    machine = started(eventlog.APP)
    for events in (eventlog.APP[:-1], [*eventlog.APP, ("more", b"")], [("renamed", b""), *eventlog.APP[1:]]):
        log = with_log(machine, dstack_log(events).text.encode())
        assert log.refusals() == [errors.EventLogMismatch, errors.UnacceptedMeasurement]


def test_the_events_of_the_firmware_come_with_dstacks_log_and_count() -> None:
    log = eventlog.runtime_log(boot=MEASURED_BOOT[1:])
    machine = with_log(started(eventlog.APP), log.text.encode())
    assert machine.refusals() == [errors.EventLogMismatch, errors.UnacceptedMeasurement]


def test_the_result_names_the_release_that_runs() -> None:
    assert started(eventlog.APP).appraise().release == KEYS.release


def relabelled(machine: Machine, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Machine:
    """The same registers under another log: only what no digest covers is changed."""
    entries = json.loads(machine.evidence.cpu.event_log)
    return with_log(machine, json.dumps([change(entry) for entry in entries]).encode())


def test_an_event_cannot_be_hidden_under_a_label_that_explains_nothing() -> None:
    """The start measured another compose file; what runs appended the accepted one afterwards; the host edits the log."""
    machine = started([OTHER_COMPOSE, *without("compose-hash"), COMPOSE])
    assert machine.refusals() == [errors.UnacceptedMeasurement]

    def hidden(entry: dict[str, Any]) -> dict[str, Any]:
        hide = entry["event_payload"] == OTHER_COMPOSE[1].hex() or entry["event"] == "system-ready"
        return {**entry, "event_type": 0, "event": "", "event_payload": ""} if hide and entry["imr"] == 3 else entry

    assert errors.MalformedEvidence in relabelled(machine, hidden).refusals()


def test_without_the_end_of_the_start_nobody_knows_what_belongs_to_it() -> None:
    assert started(without("system-ready")).refusals() == [errors.UnacceptedMeasurement]


def test_the_end_of_an_events_name_cannot_be_moved_into_its_payload() -> None:
    moved = ("compose-hash", b":" + COMPOSE[1])
    machine = started([moved, *without("compose-hash"), COMPOSE])

    def renamed(entry: dict[str, Any]) -> dict[str, Any]:
        if entry["event_payload"] != moved[1].hex():
            return entry
        return {**entry, "event": "compose-hash:", "event_payload": COMPOSE[1].hex()}

    assert errors.MalformedEvidence in relabelled(machine, renamed).refusals()


def test_only_a_key_that_intel_appointed_for_it_speaks_of_firmware() -> None:
    """Each platform has a key under the same root: one that leaked must not make all others up to date."""
    leaked = INTEL.issue_pck()
    chain = intel.pem_chain(leaked, INTEL.platform_ca, INTEL.root_ca)
    forged = intel_collateral(tcb_signing=leaked)
    for part in ("tcb_info", "qe_identity"):
        word = replace(
            intel_collateral(),
            **{
                part: getattr(forged, part),
                f"{part}_signature": getattr(forged, f"{part}_signature"),
                f"{part}_issuer_chain": chain,
            },
        )
        assert tdx_machine().with_collateral(intel=word).refusals() == [errors.InvalidCollateral]


def test_an_owner_that_the_host_names_is_an_unmeasured_input() -> None:
    for machine in (tdx_machine(mr_owner=b"\1" * 48), tdx_machine(mr_owner_config=b"\1" * 48)):
        assert machine.refusals() == [errors.UnacceptedMeasurement]


def test_intels_word_on_another_provisioning_enclave_is_none_on_this_platform() -> None:
    word = intel_collateral(tcb_info={"pceId": "0001"})
    assert tdx_machine().with_collateral(intel=word).refusals() == [errors.InvalidCollateral]
