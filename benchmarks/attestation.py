"""What checking a machine costs, in units of one ECDSA P-384 verification, the least that any of these checks can cost.

``python -m benchmarks.attestation [--rounds 40] [--json]``. All evidence is made here, by fake vendors with the real sizes,
algorithms and chains. The cases of a round alternate, so that a busy machine slows all of them; a figure is the median of the
rounds, and a ratio the median of the ratios within a round.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384

from attestation import DeviceEvidence
from attestation.appraisal.grounds import Grounds
from attestation.appraisal.nvidia import VendorWord, appraise_device
from attestation.appraisal.policy import Weakening
from attestation.appraisal.snp import appraise_snp
from attestation.appraisal.tdx import appraise_tdx
from attestation.appraisal.trail import Trail
from attestation.binding import device_nonce
from attestation.parsing import certificate
from attestation.verification.rim import SignedManifest
from tests.attestation import machines
from tests.attestation.machines import Machine

BASE: Final = "P-384 verification"
TARGETS_MS: Final = {"SEV-SNP report": 2.0, "TDX quote": 2.0, "GPU report": 5.0}
_GPUS_ONLY: Final = (Weakening.UNSAFE_SKIP_GPU_REFERENCE_VALUES, Weakening.UNSAFE_SKIP_GPU_REVOCATION)

Case = Callable[[], object]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a target was missed."""
    options = argparse.ArgumentParser(description="What checking a machine costs, against one P-384 verification.")
    options.add_argument("--rounds", type=int, default=40)
    options.add_argument("--json", action="store_true", help="print JSON")
    arguments = options.parse_args(argv)
    times = measure(cases(), arguments.rounds)
    rows = [row(name, each, times[BASE]) for name, each in times.items()]
    if arguments.json:
        print(json.dumps([asdict(each) for each in rows], indent=2))
    else:
        print(f"median of {arguments.rounds} rounds; ratio to one {BASE}")
        for each in rows:
            target = f"  target {each.target_ms} ms" if each.target_ms else ""
            print(f"  {each.case:<44} {each.ms:>8.3f} ms  {each.ratio:>7.1f}{target}")
    return int(any(each.target_ms is not None and each.ms > each.target_ms for each in rows))


@dataclass(frozen=True, slots=True)
class Row:
    """One line: median milliseconds, median ratio to the base, and what is asked for."""

    case: str
    ms: float
    ratio: float
    target_ms: float | None


def row(case: str, seconds: Sequence[float], base: Sequence[float]) -> Row:
    """The figures of one case."""
    ratio = statistics.median(one / other for one, other in zip(seconds, base, strict=True))
    return Row(case, round(statistics.median(seconds) * 1000, 3), round(ratio, 1), TARGETS_MS.get(case))


def measure(todo: dict[str, Case], rounds: int) -> dict[str, list[float]]:
    """Seconds of each case in each round, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in todo}
    for number in range(rounds + 1):
        for name, case in todo.items():
            certificate._parse.cache_clear()  # as a machine is met for the first time
            started = time.perf_counter()
            case()
            if number:
                times[name].append(time.perf_counter() - started)
    return times


def cases() -> dict[str, Case]:
    """Everything that is measured, by name."""
    snp, tdx = machines.snp_machine(), machines.tdx_machine()
    eight = machines.snp_machine(devices=[machines.gpu(number) for number in range(8)])
    one = machines.snp_machine(devices=[machines.gpu()])
    for machine in (snp, tdx, one, eight):
        machine.appraise()  # nothing that is refused early may be measured
    return {
        BASE: p384(),
        "SEV-SNP report": snp_report(snp),
        "TDX quote": tdx_quote(tdx),
        "GPU report": gpu_report(one),
        "reference manifest of a driver": manifest(one),
        "whole document: SEV-SNP": snp.appraise,
        "whole document: TDX, with its event log": tdx.appraise,
        "whole document: SEV-SNP and a GPU": one.appraise,
        "whole document: SEV-SNP and eight GPUs": eight.appraise,
    }


def p384() -> Case:
    """One verification of a message of 1 KiB, key loaded."""
    key, message = ec.generate_private_key(ec.SECP384R1()), bytes(1024)
    signature, public = key.sign(message, ec.ECDSA(SHA384())), key.public_key()
    return lambda: public.verify(signature, message, ec.ECDSA(SHA384()))


def snp_report(machine: Machine) -> Case:
    """Report, chain of three, revocation list, policy."""
    cpu, grounds = machine.evidence.cpu, grounds_of(machine)
    return lambda: passed(lambda trail: appraise_snp(trail, cpu.report, cpu.certificates, grounds))


def tdx_quote(machine: Machine) -> Case:
    """Quote, chain of three, Intel's collateral, policy."""
    cpu, grounds = machine.evidence.cpu, grounds_of(machine)
    return lambda: passed(lambda trail: appraise_tdx(trail, cpu.report, b"", grounds))


def gpu_report(machine: Machine) -> Case:
    """Report, chain of five, firmware identity, nonce, policy; manifests and revocation are measured by themselves."""
    device: DeviceEvidence = machine.evidence.devices[0]
    nonce = device_nonce(machine.nonce, machine.keys, 0)
    weakened = machine.under(unsafe=frozenset(_GPUS_ONLY))
    word = VendorWord.read(grounds_of(weakened))
    return lambda: passed(lambda trail: appraise_device(trail, device, nonce=nonce, word=word))


def manifest(machine: Machine) -> Case:
    """Parse, XML signature, chain of four."""
    data, root = machine.collateral.rims[0], machine.roots.nvidia_rims

    def case() -> None:
        signed = SignedManifest.parse(data)
        signed.verify_signer(root)
        signed.verified()

    return case


def passed(walk: Callable[[Trail], object]) -> None:
    """One walk through the checks, all of which have to pass: a refusal would be quicker."""
    trail = Trail()
    walk(trail)
    errors = [step.error for step in trail.steps if step.error is not None]
    if errors:
        raise errors[0]


def grounds_of(machine: Machine) -> Grounds:
    """By what a machine is judged."""
    return Grounds(machine.policy, machine.collateral, machine.roots, machine.now)


if __name__ == "__main__":
    sys.exit(main())
