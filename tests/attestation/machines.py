"""Whole machines: an evidence document with all that an appraisal takes beside it, accepted by a strict policy as it stands.

Each builder takes what makes one thing different: fields of the processor's report by name, a hook on the signed body, devices that
answer otherwise. What nothing signs over (collateral, policy, time, and the document's framing) is changed on the finished machine:
``machine.assess(collateral=...)``, ``machine.presenting(hook)``. The vendors are ``tests.attestation.authority``'s, so that
the one weakening in every result is ``UnsafeTrustOtherRoots``.

A process makes each authority, chip and device once; two machines of the same arguments are the same machine but for signatures.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from itertools import pairwise
from typing import Any, TypedDict, Unpack

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from attestation import (
    Appraisal,
    AttestationError,
    Claims,
    Policy,
    Release,
    SimulatedTee,
    UnsafeAcceptSimulated,
    appraise,
    assess,
)
from attestation.binding import device_nonce, report_data, tpm_nonce
from attestation.collateral import NO_COLLATERAL, Collateral, IntelCollateral
from attestation.document import (
    CpuEvidence,
    CpuType,
    DeviceEvidence,
    DeviceState,
    DeviceType,
    EvidenceDocument,
    KeySection,
    TpmQuote,
)
from attestation.parsing.snp import Product
from attestation.verification.roots import Roots, UnsafeTrustOtherRoots
from tests.attestation.authority import azure, eventlog, intel, nvidia
from tests.attestation.authority.amd import AmdAuthority, Report, sign_report

NOW = datetime.fromisoformat("2026-06-01T00:00:00Z")  # the authorities' clock
NONCE = bytes(range(100, 132))
KEYS = KeySection(
    identity_key=b"\x05" + bytes(range(32)), receipt_key=bytes(range(32, 64)), release="subrosa-enclave 1.0"
)
SAFE = DeviceState(confidential=True, developer_tools=False, production=True)
MEASUREMENT = Report().measurement  # of a guest on AMD, natively and on Azure
SIMULATED_MEASUREMENT = hashlib.sha384(b"simulated code").digest()

Body = Callable[[bytes], bytes]  # from the signed part of a report to another one


def _same(body: bytes) -> bytes:
    return body


class Changes(TypedDict, total=False):
    """What ``assess`` and ``appraise`` can be given instead of the machine's own."""

    document: bytes
    nonce: bytes
    policy: Policy
    now: datetime
    collateral: Collateral
    roots: Roots


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine's evidence, and the arguments under which a strict policy accepts it."""

    document: bytes = field(repr=False)
    nonce: bytes = NONCE
    keys: KeySection = KEYS
    collateral: Collateral = NO_COLLATERAL
    policy: Policy
    roots: Roots
    now: datetime = NOW

    @property
    def evidence(self) -> EvidenceDocument:
        """The document, read."""
        return EvidenceDocument.parse(self.document)

    def assess(self, **changes: Unpack[Changes]) -> Appraisal:
        """All steps of its appraisal, with these arguments instead of its own."""
        return assess(changes.pop("document", self.document), **{**self._arguments(), **changes})

    def appraise(self, **changes: Unpack[Changes]) -> Claims:
        """What it proves, with these arguments instead of its own; raises as ``attestation.appraise`` does."""
        return appraise(changes.pop("document", self.document), **{**self._arguments(), **changes})

    def refusals(self, **changes: Unpack[Changes]) -> list[type[AttestationError]]:
        """The class of every refusal, in the order of the checks."""
        return [type(error) for error in self.assess(**changes).errors]

    def presenting(self, change: Callable[[EvidenceDocument], EvidenceDocument]) -> "Machine":
        """The same machine with another document: nothing in it is signed anew."""
        return replace(self, document=change(self.evidence).encode())

    def under(self, **changes: Any) -> "Machine":
        """The same machine under the same policy but for these fields of it."""
        return replace(self, policy=replace(self.policy, **changes))

    def with_collateral(self, **changes: Any) -> "Machine":
        """The same machine with the same collateral but for these fields of it."""
        return replace(self, collateral=replace(self.collateral, **changes))

    def _arguments(self) -> dict[str, Any]:
        return {
            "nonce": self.nonce,
            "policy": self.policy,
            "now": self.now,
            "collateral": self.collateral,
            "roots": self.roots,
        }


# --- Devices --------------------------------------------------------------------------------------------------------------

Answer = Callable[[nvidia.Device, bytes], bytes]  # from a device and its nonce to a report


def _plain(device: nvidia.Device, nonce: bytes) -> bytes:
    return device.report(nonce)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A device in a machine: how it answers its nonce, and what the document says of it."""

    device: nvidia.Device
    type: DeviceType
    answer: Answer = _plain
    chain: tuple[bytes, ...] | None = None  # instead of the device's own
    state: DeviceState = SAFE

    def evidence(self, nonce: bytes) -> DeviceEvidence:
        """Its part of the document."""
        chain = self.device.chain if self.chain is None else self.chain
        return DeviceEvidence(self.type, self.answer(self.device, nonce), chain, self.state)


@cache
def device(arch: nvidia.Arch, number: int, /) -> nvidia.Device:
    """One of any number of genuine devices, made once."""
    return nvidia.nvidia_authority().device(arch)


def gpu(number: int = 0, *, arch: nvidia.Arch = "hopper", **changes: Any) -> Unit:
    """A GPU in confidential mode; ``changes`` are fields of ``Unit``."""
    return replace(Unit(device=device(arch, number), type=DeviceType.GPU), **changes)


def switch(number: int = 0, **changes: Any) -> Unit:
    """An NVSwitch; ``changes`` are fields of ``Unit``."""
    return replace(Unit(device=device("ls10", number), type=DeviceType.SWITCH), **changes)


def answering(**report: Any) -> Answer:
    """An answer that differs in these keywords of ``nvidia.Device.report``."""
    return lambda device, nonce: device.report(nonce, **report)


@cache
def rim_signer(arch: nvidia.Arch) -> nvidia.Signer:
    """Who signs the manifests of a family by default."""
    return nvidia.nvidia_authority().rim_signer(arch)


@cache
def rims(arch: nvidia.Arch) -> tuple[bytes, ...]:
    """The manifests that a family's devices are judged by: of driver and VBIOS, or of a switch's BIOS."""
    kinds: Sequence[nvidia.Kind] = ("vbios",) if arch == "ls10" else nvidia.KINDS
    return tuple(nvidia.nvidia_authority().rim(kind, arch=arch, signer=rim_signer(arch)) for kind in kinds)


@cache
def ocsp_answer(certificate: bytes, issuer: bytes) -> bytes:
    """NVIDIA calls the certificate good."""
    return nvidia.nvidia_authority().ocsp(certificate, issuer)


def links(devices: Sequence[Unit]) -> list[tuple[bytes, bytes]]:
    """Each certificate that needs an OCSP answer, with its issuer: of devices and manifests, but for leaves and roots.

    NVIDIA has nothing to say of what somebody else issued.
    """
    families = sorted({unit.device.arch for unit in devices})
    chains = [unit.device.chain[1:] for unit in devices] + [rim_signer(arch).chain for arch in families]
    pairs = dict.fromkeys(pair for chain in chains for pair in pairwise(chain))
    return [pair for pair in pairs if pair[1] in nvidia.nvidia_authority()._signers]


def nvidia_collateral(devices: Sequence[Unit]) -> Collateral:
    """Manifests and OCSP answers for these devices, and nothing else."""
    return Collateral(
        rims=tuple(rim for arch in sorted({unit.device.arch for unit in devices}) for rim in rims(arch)),
        ocsp_responses=tuple(ocsp_answer(*link) for link in links(devices)),
    )


# --- Processors -----------------------------------------------------------------------------------------------------------


def amd_authority(product: str = "Genoa") -> AmdAuthority:
    """AMD's hierarchy for one product."""
    return AmdAuthority(product)


def vcek(product: str = "Genoa") -> tuple[bytes, EllipticCurvePrivateKey]:
    """The chip's certificate and key: of the default chip at its default firmware level."""
    return _vcek(product)


@cache
def _vcek(product: str) -> tuple[bytes, EllipticCurvePrivateKey]:
    return amd_authority(product).vcek()


def vlek(product: str = "Genoa") -> tuple[bytes, EllipticCurvePrivateKey]:
    """A cloud provider's certificate and key."""
    return _vlek(product)


@cache
def _vlek(product: str) -> tuple[bytes, EllipticCurvePrivateKey]:
    return amd_authority(product).vlek()


def amd_crl(product: str = "Genoa") -> bytes:
    """AMD's list, with nothing on it."""
    return _amd_crl(product)


@cache
def _amd_crl(product: str) -> bytes:
    return amd_authority(product).crl()


@cache
def intel_authority() -> intel.IntelAuthority:
    """Intel with one platform."""
    return intel.IntelAuthority()


def intel_collateral(**changes: Any) -> IntelCollateral:
    """Intel's nine parts; ``changes`` are keywords of ``IntelAuthority.collateral``."""
    parts: Mapping[str, str] = intel_authority().collateral(**changes)
    binary = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
    return IntelCollateral(**{name: bytes.fromhex(text) if name in binary else text for name, text in parts.items()})  # type: ignore[arg-type]


@cache
def _intel_default() -> IntelCollateral:
    return intel_collateral()


@cache
def roots(*products: str) -> UnsafeTrustOtherRoots:
    """The authorities' roots; of AMD those of ``products`` alone, because RSA keys are slow to make."""
    return UnsafeTrustOtherRoots(
        amd={Product(product): hashlib.sha256(amd_authority(product).root).digest() for product in products},
        intel=hashlib.sha256(intel_authority().root).digest(),
        nvidia_devices=hashlib.sha256(nvidia.nvidia_authority().root).digest(),
        nvidia_rims=hashlib.sha256(nvidia.nvidia_authority().rim_root).digest(),
    )


def snp_machine(
    product: str = "Genoa",
    *,
    devices: Sequence[Unit] = (),
    body: Body = _same,
    endorsed: tuple[bytes, EllipticCurvePrivateKey] | None = None,
    chain: Sequence[bytes] | None = None,
    keys: KeySection = KEYS,
    **report: Any,
) -> Machine:
    """A SEV-SNP machine.

    Args:
        product: "Milan" is refused by every strict policy.
        devices: in the document's order.
        body: changes what the chip is going to sign.
        endorsed: certificate and key of the chip; the default chip's at its default level unless given.
        chain: what stands behind that certificate: the ASK and the ARK unless given.
        keys: of the enclave.
        report: fields of ``amd.Report``.
    """
    certificate, key = endorsed or vcek(product)
    authority = amd_authority(product)
    chain = (authority.ask, authority.root) if chain is None else chain
    evidence = _answers(devices, keys)
    fields = {"product": product, "report_data": report_data(NONCE, keys, evidence), **report}
    signed = Report(**fields)
    return _machine(
        EvidenceDocument(
            keys,
            CpuEvidence(CpuType.SEV_SNP, sign_report(body(signed.body()), key), (certificate, *chain)),
            evidence,
        ),
        Release(name=KEYS.release, type=CpuType.SEV_SNP, measurement=MEASUREMENT),
        devices,
        roots(product),
        amd_crls=(amd_crl(product),),
    )


def azure_machine(
    product: str = "Genoa",
    *,
    devices: Sequence[Unit] = (),
    body: Body = _same,
    user_data: bytes | None = None,
    challenge: bytes | None = None,
    vm_configuration: Mapping[str, object] = azure.VM_CONFIGURATION,
    pcrs: Sequence[bytes] = azure.PCRS,
    **report: Any,
) -> Machine:
    """A SEV-SNP machine on Azure.

    Args:
        product: as for :func:`snp_machine`.
        devices: in the document's order.
        body: changes what the chip is going to sign.
        user_data: in the runtime claims, instead of what binds nonce, keys and devices.
        challenge: that the virtual TPM quotes, instead of the one that follows from that.
        vm_configuration: in the runtime claims.
        pcrs: the registers of the virtual TPM.
        report: fields of ``amd.Report``.
    """
    certificate, key = vcek(product)
    authority = amd_authority(product)
    evidence = _answers(devices, KEYS)
    reported = report_data(NONCE, KEYS, evidence)
    claims = azure.runtime_claims(
        vm_configuration=vm_configuration, user_data=reported if user_data is None else user_data
    )
    fields = {"product": product, "report_data": azure.report_data(claims), **report}
    blob = azure.HclBlob(report=sign_report(body(replace(azure.AZURE_REPORT, **fields).body()), key), claims=claims)
    message = azure.Quote(extra_data=tpm_nonce(reported) if challenge is None else challenge, pcrs=pcrs).encode()
    return _machine(
        EvidenceDocument(
            KEYS,
            CpuEvidence(
                CpuType.SEV_SNP_AZURE,
                blob.encode(),
                (certificate, authority.ask, authority.root),
                tpm=TpmQuote(message, azure.sign_quote(message), tuple(pcrs)),
            ),
            evidence,
        ),
        Release(
            name=KEYS.release,
            type=CpuType.SEV_SNP_AZURE,
            measurement=MEASUREMENT,
            pcrs={number: azure.PCRS[number] for number in (4, 11)},
        ),
        devices,
        roots(product),
        amd_crls=(amd_crl(product),),
    )


FIRMWARE_LOG = eventlog.event_log()
MEASURED_BOOT = [event for event in eventlog.BOOT if event.type != eventlog.EV_NO_ACTION]


def dstack_log(events: Sequence[tuple[str, bytes]] = eventlog.APP, **changes: Any) -> eventlog.RuntimeLog:
    """The log that dstack adds to the same start; ``changes`` are keywords of ``eventlog.runtime_log``."""
    return eventlog.runtime_log(events, boot=MEASURED_BOOT, **changes)


def tdx_machine(
    form: tuple[int, int] = (4, intel.TD10),
    *,
    devices: Sequence[Unit] = (),
    runtime: eventlog.RuntimeLog | None = None,
    **quote: Any,
) -> Machine:
    """A TDX machine, with the firmware's event log; RTMR3 is zero.

    Args:
        form: version of the quote and type of its body.
        devices: in the document's order.
        runtime: dstack's log instead of the firmware's, and the RTMR3 that it leads to; the release then names the event
            "compose-hash".
        quote: fields of the quote, and other keywords of ``IntelAuthority.quote``.
    """
    evidence = _answers(devices, KEYS)
    registers = dict(zip(("rtmr0", "rtmr1", "rtmr2", "rtmr3"), FIRMWARE_LOG.rtmrs, strict=True))
    log = FIRMWARE_LOG.data
    events: Mapping[str, bytes] = {}
    if runtime is not None:
        registers["rtmr3"], log = runtime.rtmr3, runtime.text.encode()
        events = {"compose-hash": dict(eventlog.APP)["compose-hash"]}
    fields = {**registers, "report_data": report_data(NONCE, KEYS, evidence), **quote}
    return _machine(
        EvidenceDocument(
            KEYS, CpuEvidence(CpuType.TDX, intel_authority().quote(*form, **fields), event_log=log), evidence
        ),
        Release(
            name=KEYS.release,
            type=CpuType.TDX,
            measurement=hashlib.sha384(b"mr_td").digest(),
            registers=FIRMWARE_LOG.rtmrs[:3],
            events=events,
        ),
        devices,
        roots(),
        intel=_intel_default(),
    )


def simulated_machine(*, devices: Sequence[Unit] = ()) -> Machine:
    """A machine without hardware, under the only policy that takes it: ``UnsafeAcceptSimulated``."""
    evidence = _answers(devices, KEYS)
    cpu = SimulatedTee(SIMULATED_MEASUREMENT).collect(report_data(NONCE, KEYS, evidence))
    release = Release(name=KEYS.release, type=CpuType.SIMULATED, measurement=SIMULATED_MEASUREMENT)
    machine = _machine(EvidenceDocument(KEYS, cpu, evidence), release, devices, roots())
    return machine.under(unsafe=frozenset({UnsafeAcceptSimulated}))


def _answers(devices: Sequence[Unit], keys: KeySection) -> tuple[DeviceEvidence, ...]:
    return tuple(unit.evidence(device_nonce(NONCE, keys, index)) for index, unit in enumerate(devices))


def _machine(
    document: EvidenceDocument, release: Release, devices: Sequence[Unit], trusted: Roots, **collateral: Any
) -> Machine:
    return Machine(
        document=document.encode(),
        keys=document.keys,
        collateral=replace(nvidia_collateral(devices), **collateral),
        policy=Policy(
            name="strict",
            releases=(release,),
            gpus=sum(unit.type is DeviceType.GPU for unit in devices),
            switches=sum(unit.type is DeviceType.SWITCH for unit in devices),
        ),
        roots=trusted,
    )
