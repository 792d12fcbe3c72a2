"""Appraisal of a whole machine: processor, devices, keys and code, and that they speak for each other and for our nonce."""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from attestation import simulated
from attestation.appraisal import claims as told
from attestation.appraisal.claims import Claims, CpuClaims, DeviceClaims, NotProved
from attestation.appraisal.grounds import Grounds
from attestation.appraisal.nvidia import DeviceFacts, VendorWord, appraise_device, appraise_set, validate_count
from attestation.appraisal.policy import Policy, Release, UnsafeAcceptAnyMeasurement
from attestation.appraisal.snp import AzureFacts, SnpFacts, appraise_azure, appraise_snp
from attestation.appraisal.tdx import TdxFacts, appraise_tdx
from attestation.appraisal.trail import Trail
from attestation.binding import device_nonce, report_data, tpm_nonce, verify_binding
from attestation.document import CpuType, DeviceType, EvidenceDocument
from attestation.errors import UnacceptedMeasurement
from attestation.parsing.event_log import Event
from attestation.simulated import SimulatedReport

_LAST_MEASURED_EVENT = "system-ready"  # dstack: what comes later, anything in the machine can append
_RUNTIME_REGISTER = 3


@dataclass(frozen=True, slots=True)
class _Cpu:
    """What the rest needs of any processor: 64 bytes that it signed for us, and whether it runs a given release."""

    claims: CpuClaims
    reported: bytes
    runs: Callable[[Release], bool]
    not_proved: tuple[NotProved, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine's evidence, the nonce that it has to speak for, and by what it is judged."""

    evidence: EvidenceDocument
    nonce: bytes
    grounds: Grounds


def appraise_machine(trail: Trail, machine: Machine) -> Claims | None:
    """Walk through all checks; the claims count only if the trail holds no refusal. ``None`` if they could not be made."""
    cpu = trail.within("processor", _appraise_cpu, trail, machine)
    devices = trail.within("devices", _appraise_devices, trail, machine)
    if cpu is None:
        return None
    trail.within("binding", _appraise_binding, trail, machine, cpu)
    trail.within("code", _appraise_code, trail, machine, cpu)
    return _claims(trail, machine, cpu, devices or ())


def _appraise_cpu(trail: Trail, machine: Machine) -> _Cpu:
    evidence = machine.evidence.cpu
    expected = report_data(machine.nonce, machine.evidence.keys, machine.evidence.devices)
    match evidence.type:
        case CpuType.SEV_SNP:
            return _snp(appraise_snp(trail, evidence.report, evidence.certificates, machine.grounds))
        case CpuType.SEV_SNP_AZURE:
            return _azure(appraise_azure(trail, evidence, machine.grounds, challenge=tpm_nonce(expected)))
        case CpuType.TDX:
            return _tdx(appraise_tdx(trail, evidence.report, evidence.event_log, machine.grounds))
        case _:  # SIMULATED; whatever else came here would have no report of it
            report = trail.require("It is a report of the SIMULATED TEE.", simulated.verify_report, evidence.report)
            trail.check("The policy allows a simulation.", machine.grounds.policy.validate_hardware)
            return _simulated(report)


def _appraise_devices(trail: Trail, machine: Machine) -> tuple[DeviceFacts, ...]:
    if not machine.evidence.devices:
        trail.check("There are as many as expected.", validate_count, (), machine.grounds.policy)
        return ()
    word = trail.require("NVIDIA's collateral can be read.", VendorWord.read, machine.grounds)
    found: list[DeviceFacts | None] = []
    for index, device in enumerate(machine.evidence.devices):
        nonce = device_nonce(machine.nonce, machine.evidence.keys, index)
        name = f"{'GPU' if device.type is DeviceType.GPU else 'switch'} {index}"
        found.append(trail.within(name, appraise_device, trail, device, nonce=nonce, word=word))
    devices = tuple(facts for facts in found if facts is not None)
    if len(devices) == len(found):  # one that cannot be read is refused for that, and is not missing
        appraise_set(trail, devices, machine.grounds.policy)
    return devices


def _appraise_binding(trail: Trail, machine: Machine, cpu: _Cpu) -> None:
    trail.check(
        "The processor speaks for the nonce, these keys and these devices.",
        verify_binding,
        cpu.reported,
        nonce=machine.nonce,
        keys=machine.evidence.keys,
        devices=machine.evidence.devices,
    )


def _appraise_code(trail: Trail, machine: Machine, cpu: _Cpu) -> None:
    name, policy = machine.evidence.keys.release, machine.grounds.policy
    trail.check("The code is an accepted release.", _validate_release, cpu, name, policy)


def _snp(facts: SnpFacts) -> _Cpu:
    report = facts.report
    claims = CpuClaims(CpuType.SEV_SNP, facts.product, facts.chip, str(facts.tcb), report.measurement)
    return _Cpu(claims, report.report_data, _runs_snp(facts), (told.PROVIDER_KEY,) if facts.provider else ())


def _runs_snp(facts: SnpFacts) -> Callable[[Release], bool]:
    def runs(release: Release) -> bool:
        return _equal(release.measurement, facts.report.measurement) and _equal(
            release.launch_data or bytes(len(facts.report.host_data)), facts.report.host_data
        )

    return runs


def _azure(facts: AzureFacts) -> _Cpu:
    report = facts.snp.report
    claims = CpuClaims(CpuType.SEV_SNP_AZURE, facts.snp.product, facts.snp.chip, str(facts.snp.tcb), report.measurement)

    def runs(release: Release) -> bool:
        return _runs_snp(facts.snp)(release) and all(
            _equal(value, facts.quote.pcrs[number]) for number, value in release.pcrs.items()
        )

    return _Cpu(claims, facts.user_data, runs, (told.GUEST_SYSTEM,))


def _tdx(facts: TdxFacts) -> _Cpu:
    report, tcb = facts.report, facts.tcb
    claims = CpuClaims(
        CpuType.TDX,
        f"FMSPC {tcb.fmspc}" if tcb else "",
        tcb.platform if tcb else b"",
        tcb.statuses[0] if tcb else "",
        report.mrtd,
    )

    def runs(release: Release) -> bool:
        registers = release.registers
        if not release.events and len(registers) <= _RUNTIME_REGISTER:
            registers = (*registers, bytes(len(report.mrtd)))  # an unexplained register has to be empty
        return (
            not report.owned  # an input of the host that no release can name
            and _equal(release.measurement, report.mrtd)
            and _equal(release.launch_data or bytes(len(report.mr_config_id)), report.mr_config_id)
            and all(_equal(*pair) for pair in zip(registers, report.rtmrs, strict=False))
            and _has_events(facts.events, release.events)
        )

    by_events = any(event.register == _RUNTIME_REGISTER for event in facts.events)
    return _Cpu(claims, report.report_data, runs, (told.RUNTIME_EVENTS,) if by_events else ())


def _simulated(report: SimulatedReport) -> _Cpu:
    claims = CpuClaims(CpuType.SIMULATED, "SIMULATED", b"", "SIMULATED", report.measurement)

    def runs(release: Release) -> bool:
        return _equal(release.measurement, report.measurement)

    return _Cpu(claims, report.report_data, runs, (told.SIMULATION,))


def _has_events(events: tuple[Event, ...], wanted: Mapping[str, bytes]) -> bool:
    """Each wanted event is there exactly once, with its payload, before anything else could have written the register."""
    if not wanted:
        return True
    runtime = [event for event in events if event.register == _RUNTIME_REGISTER]
    names = [event.name for event in runtime]
    if _LAST_MEASURED_EVENT not in names:
        return False  # nobody could say which events are those of the start
    measured = runtime[: names.index(_LAST_MEASURED_EVENT)]
    return all([event.payload for event in measured if event.name == name] == [value] for name, value in wanted.items())


def _validate_release(cpu: _Cpu, name: str, policy: Policy) -> str:
    if policy.allows(UnsafeAcceptAnyMeasurement):
        return "skipped: UnsafeAcceptAnyMeasurement"
    running = [release for release in policy.releases if release.type is cpu.claims.type and cpu.runs(release)]
    if not policy.releases:
        raise UnacceptedMeasurement("the policy accepts no release")
    if not running:
        raise UnacceptedMeasurement("the running code is none of the accepted releases")
    if name not in {release.name for release in running}:
        raise UnacceptedMeasurement("the running code is an accepted release, but calls itself by another name")
    return name


def _claims(trail: Trail, machine: Machine, cpu: _Cpu, devices: tuple[DeviceFacts, ...]) -> Claims:
    evidence, policy = machine.evidence, machine.grounds.policy
    return Claims(
        identity_key=evidence.keys.identity_key,
        receipt_key=evidence.keys.receipt_key,
        release=evidence.keys.release,
        cpu=cpu.claims,
        devices=tuple(DeviceClaims(fact.type, fact.id, fact.product, fact.driver, fact.vbios) for fact in devices),
        weakenings=(*sorted(policy.unsafe), *machine.grounds.roots.weakenings),
        not_proved=_not_proved(policy, cpu.not_proved, devices),
        checks=tuple(f"{step.subject}: {step.statement}" for step in trail.steps),
    )


def _not_proved(
    policy: Policy, of_cpu: tuple[NotProved, ...], devices: tuple[DeviceFacts, ...]
) -> tuple[NotProved, ...]:
    """What an acceptance under ``policy`` still does not show, the gravest first."""
    gpus = [device for device in devices if device.type is DeviceType.GPU]
    return (
        *of_cpu,
        told.PHYSICAL,
        *((told.ANY_CHIP,) if policy.chips is None else ()),
        *((told.GPU_RELAY, told.GPU_STATE) if gpus else (told.NO_GPU,)),
        *((told.NVLINK,) if len([gpu for gpu in gpus if gpu.product.startswith("GH")]) > 1 else ()),
        told.CODE,
        told.SIDE_CHANNELS,
        told.TIME,
    )


def _equal(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)
