"""Appraisal of NVIDIA GPUs and NVSwitches: which device, with which firmware, in which mode, and all of them distinct.

The comparison follows NVIDIA/nvtrust (verifier.py): every index that a driver's or a VBIOS's manifest calls active has to be reported with
one of its digests; no index may be active in both.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TypeVar, cast

from attestation.appraisal.grounds import Grounds
from attestation.appraisal.policy import Policy, Weakening
from attestation.appraisal.trail import Trail
from attestation.document import DeviceEvidence, DeviceState, DeviceType
from attestation.errors import (
    AttestationError,
    DuplicateDevice,
    MissingCollateral,
    UnacceptedChip,
    UnacceptedDeviceFirmware,
    UnacceptedProduct,
    UnexpectedDeviceCount,
    UnsafeDeviceState,
)
from attestation.parsing.certificate import Certificate
from attestation.parsing.nvidia import DeviceReport
from attestation.parsing.rim import Manifest
from attestation.verification import nvidia as verification
from attestation.verification.chain import verify_chain, verify_times
from attestation.verification.revocation import OcspAnswers
from attestation.verification.rim import SignedManifest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What one device proved, once every step passed. ``id`` has 32 bytes; ``driver`` is empty for a switch."""

    type: DeviceType
    id: bytes
    product: str
    driver: str
    vbios: str


@dataclass(frozen=True, slots=True)
class VendorWord:
    """NVIDIA's collateral, read once for all devices of a machine."""

    manifests: tuple[SignedManifest, ...]
    answers: OcspAnswers
    grounds: Grounds
    _asked: dict[object, object] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, grounds: Grounds) -> "VendorWord":
        """Read manifests and OCSP answers.

        Raises:
            MalformedCollateral: one cannot be read.
        """
        manifests = tuple(SignedManifest.parse(rim) for rim in grounds.collateral.rims)
        return cls(manifests, OcspAnswers.parse(grounds.collateral.ocsp_responses), grounds)

    def validate_revocation(self, chain: Sequence[Certificate]) -> str | None:
        """Check that NVIDIA calls each certificate but the last, a root, good.

        Raises:
            MissingCollateral, StaleCollateral, Revoked, InvalidCollateral: it does not.
        """
        if self.grounds.policy.allows(Weakening.UNSAFE_SKIP_GPU_REVOCATION):
            return "skipped: UnsafeSkipGpuRevocation"
        for certificate, issuer in pairwise(chain):
            ask = partial(self.answers.verify_good, certificate, issuer)
            window = self._once(("answer", certificate.der, issuer.der), ask)
            if window is None:
                raise MissingCollateral("NVIDIA's OCSP answer for a certificate of the chain is not there")
            self.grounds.validate_window(window, age=self.grounds.policy.collateral_age)
        return None

    def manifest(self, products: frozenset[str], version: str) -> Manifest:
        """The verified manifest of a driver or VBIOS for one of ``products``: drivers of several share their versions.

        Raises:
            MissingCollateral: there is none.
            InvalidReferenceValues, UntrustedRoot, BrokenChain, CertificateOutOfDate, Revoked: there are only such as do not
                hold; this is what is wrong with the last of them.
        """
        refusal: AttestationError = MissingCollateral(
            "NVIDIA's reference values for this product and version are not there"
        )
        for number, signed in enumerate(self.manifests):
            if signed.claims(products, version):
                try:
                    return self._once(("manifest", number), partial(self._verified_manifest, signed))
                except AttestationError as error:
                    refusal = error
        raise refusal

    def _verified_manifest(self, signed: SignedManifest) -> Manifest:
        ask = partial(signed.verify_signer, self.grounds.roots.nvidia_rims)
        self._once(("signer", *(certificate.der for certificate in signed.chain)), ask)
        manifest = signed.verified()
        verify_times(signed.chain, now=self.grounds.now)
        self.validate_revocation(signed.chain)
        return manifest

    def _once(self, key: object, ask: Callable[[], T]) -> T:
        """The answer, or the refusal, that was given before: the devices of a machine have much of the vendor's word in common."""
        if key not in self._asked:
            try:
                self._asked[key] = ask()
            except AttestationError as error:
                self._asked[key] = error
        answer = self._asked[key]
        if isinstance(answer, AttestationError):
            raise answer
        return cast("T", answer)


def appraise_manifest(trail: Trail, signed: SignedManifest, word: VendorWord) -> Manifest | None:
    """Walk through the checks of one reference manifest; ``None`` if its signature does not hold."""
    trail.check("NVIDIA appointed the signer.", signed.verify_signer, word.grounds.roots.nvidia_rims)
    manifest = trail.check("The signer signed the whole manifest.", signed.verified)
    trail.check("All certificates are valid now.", verify_times, signed.chain, now=word.grounds.now)
    trail.check("NVIDIA has withdrawn none of them.", word.validate_revocation, signed.chain)
    return manifest


def appraise_device(trail: Trail, evidence: DeviceEvidence, *, nonce: bytes, word: VendorWord) -> DeviceFacts:
    """Walk through all checks of one GPU or switch; ``nonce`` (32 bytes) is the challenge derived for it."""
    report = trail.require("It is a report of a GPU or switch.", DeviceReport.parse, evidence.report)
    chain = trail.require("Its five certificates can be read.", verification.parse_chain, evidence.certificates)
    product = trail.require("Its certificate names its product.", verification.product, chain[0])
    vouched = trail.holds(
        "NVIDIA vouches for the device.", verify_chain, chain, roots={word.grounds.roots.nvidia_devices}
    )
    trail.check("The device's key signed the report.", verification.verify_report, report, chain[0])
    trail.check("The key belongs to the reported firmware.", verification.verify_firmware_identity, report, chain)
    trail.check("It answered the challenge derived for it.", verification.verify_nonce, report, nonce)
    trail.check("All certificates are valid now.", verify_times, chain, now=word.grounds.now)
    if vouched:  # the leaf is made by the device itself at each start: NVIDIA's service knows those above it
        trail.check("NVIDIA has withdrawn none of them.", word.validate_revocation, chain[1:])
    trail.check("It is what the document says it is.", _validate_type, evidence.type, chain[0])
    trail.check("It is in confidential mode.", _validate_state, evidence.state)
    trail.check("Its versions are accepted.", _validate_versions, evidence.type, report, word.grounds.policy)
    trail.check("It runs what NVIDIA published.", _validate_measurements, report, chain[0], word)
    identity = verification.device_id(chain)
    trail.check("The device is accepted.", _validate_device, identity, word.grounds.policy)
    return DeviceFacts(evidence.type, identity, product, report.driver_version, report.vbios_version)


def appraise_set(trail: Trail, devices: Iterable[DeviceFacts], policy: Policy) -> None:
    """Walk through the checks that concern all devices together."""
    facts = tuple(devices)
    trail.check("All devices are distinct.", _validate_distinct, facts)
    trail.check("There are as many as expected.", validate_count, facts, policy)


def _validate_type(claimed: DeviceType, leaf: Certificate) -> None:
    if (claimed is DeviceType.SWITCH) != verification.is_switch(leaf):
        raise UnacceptedProduct("a switch is presented as a GPU, or a GPU as a switch")


def _validate_state(state: DeviceState) -> str:
    if not state.confidential:
        raise UnsafeDeviceState("confidential computing is off")
    if state.developer_tools:
        raise UnsafeDeviceState("developer tools are on: they open the device's memory")
    if not state.production:
        raise UnsafeDeviceState("the device's environment is not the production one")
    return "as the attested code read it from the driver"


def _validate_versions(kind: DeviceType, report: DeviceReport, policy: Policy) -> str:
    if kind is DeviceType.GPU and policy.drivers and report.driver_version not in policy.drivers:
        raise UnacceptedDeviceFirmware("the driver is none of the policy's versions")
    if kind is DeviceType.GPU and policy.vbioses and report.vbios_version not in policy.vbioses:
        raise UnacceptedDeviceFirmware("the VBIOS is none of the policy's versions")
    return f"driver {report.driver_version or 'none'}, VBIOS {report.vbios_version}"


def _validate_measurements(report: DeviceReport, leaf: Certificate, word: VendorWord) -> str:
    if word.grounds.policy.allows(Weakening.UNSAFE_SKIP_GPU_REFERENCE_VALUES):
        return "skipped: UnsafeSkipGpuReferenceValues"
    is_switch = verification.is_switch(leaf)
    versions = (report.vbios_version,) if is_switch else (report.driver_version, report.vbios_version)
    products = frozenset({verification.product(leaf), report.chip})
    expected = _merge(word.manifest(products, version) for version in versions)
    unmeasured = report.unmeasured
    for index, digests in expected.items():
        if index not in unmeasured and report.measurements.get(index) not in digests:
            raise UnacceptedDeviceFirmware(f"measurement {index} is none of those that NVIDIA published")
    return f"{len(expected.keys() - unmeasured)} measurements"


def _merge(manifests: Iterable[Manifest]) -> Mapping[int, tuple[bytes, ...]]:
    expected: dict[int, tuple[bytes, ...]] = {}
    for manifest in manifests:
        if not manifest.measurements:
            raise UnacceptedDeviceFirmware("a manifest says nothing about this device")
        if expected.keys() & manifest.measurements.keys():
            raise UnacceptedDeviceFirmware("two manifests speak of the same measurement")
        expected.update(manifest.measurements)
    return expected


def _validate_device(identity: bytes, policy: Policy) -> str:
    if policy.devices is None:
        return "any: the policy has no list of devices"
    if identity not in policy.devices:
        raise UnacceptedChip("the device is not on the policy's list")
    return "on the policy's list"


def _validate_distinct(facts: Sequence[DeviceFacts]) -> None:
    if len({fact.id for fact in facts}) != len(facts):
        raise DuplicateDevice("the same device is presented more than once")


def validate_count(facts: Sequence[DeviceFacts], policy: Policy) -> str:
    """Check that there are as many GPUs and switches as the policy expects; tells how many.

    Raises:
        UnexpectedDeviceCount: there are more or fewer.
    """
    gpus = sum(fact.type is DeviceType.GPU for fact in facts)
    switches = len(facts) - gpus
    if (gpus, switches) != (policy.gpus, policy.switches):
        raise UnexpectedDeviceCount(
            f"{gpus} GPUs and {switches} switches, where the policy expects {policy.gpus} and {policy.switches}"
        )
    return f"{gpus} GPUs, {switches} switches"
