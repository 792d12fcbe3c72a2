"""What a relying party accepts (RFC 9334, section 8.5: appraisal policy for evidence).

A policy is strict unless it says otherwise, and it can say otherwise only by an ``Unsafe`` name, which then stands in every
result. ``attestation.appraisal.policy_file`` reads one from a signed text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from attestation.document import PCR, PCRS, CpuType
from attestation.errors import PolicyExpired, SimulatedHardwareRefused
from attestation.measurement import MEASUREMENT
from attestation.parsing.snp import CHIP_ID, Product, Tcb


class Weakening(StrEnum):
    """Every way to make a policy weaker than the default. Each name stands in every result that it made possible."""

    UNSAFE_ACCEPT_SIMULATED = "UnsafeAcceptSimulated"
    UNSAFE_ACCEPT_ANY_MEASUREMENT = "UnsafeAcceptAnyMeasurement"
    UNSAFE_ACCEPT_MILAN = "UnsafeAcceptMilan"
    UNSAFE_LOWER_TCB_FLOORS = "UnsafeLowerTcbFloors"
    UNSAFE_SKIP_AMD_REVOCATION = "UnsafeSkipAmdRevocation"
    UNSAFE_ACCEPT_TDX_SW_HARDENING_NEEDED = "UnsafeAcceptTdxSwHardeningNeeded"
    UNSAFE_ACCEPT_TDX_CONFIGURATION_NEEDED = "UnsafeAcceptTdxConfigurationNeeded"
    UNSAFE_ACCEPT_TDX_OUT_OF_DATE = "UnsafeAcceptTdxOutOfDate"
    UNSAFE_SKIP_GPU_REFERENCE_VALUES = "UnsafeSkipGpuReferenceValues"
    UNSAFE_SKIP_GPU_REVOCATION = "UnsafeSkipGpuRevocation"
    UNSAFE_OLDER_COLLATERAL = "UnsafeOlderCollateral"
    UNSAFE_UNSIGNED_POLICY = "UnsafeUnsignedPolicy"


UnsafeAcceptSimulated: Final = Weakening.UNSAFE_ACCEPT_SIMULATED
UnsafeAcceptAnyMeasurement: Final = Weakening.UNSAFE_ACCEPT_ANY_MEASUREMENT

# AMD-SB-3019 (microcode signatures could be forged below these): SNP level 0x17 on Genoa, 0x18 on Milan, read in
# microsoft/CCF #6812. For Turin no bulletin with a level was at hand: any level is accepted until a policy raises it.
DEFAULT_FLOORS: Final[Mapping[Product, Tcb]] = MappingProxyType(
    {Product.MILAN: Tcb(snp=0x18), Product.GENOA: Tcb(snp=0x17), Product.TURIN: Tcb()}
)
DEFAULT_COLLATERAL_AGE: Final = timedelta(days=30)  # the window that Intel gives its own TCB information
_REGISTERS: Final = 4
_LAUNCH_DATA: Final = {CpuType.SEV_SNP: 32, CpuType.SEV_SNP_AZURE: 32, CpuType.TDX: 48}
_CHIP_IDS: Final = {CHIP_ID, 16}  # bytes: AMD's, and Intel's platform instance
_DEVICE_ID: Final = 32  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One version of the enclave whose code the relying party accepts, as one kind of machine measures it.

    ``measurement`` has 48 bytes: SEV-SNP's launch digest, TDX's MRTD, or the simulation's. A TDX release names registers 0 to
    2 as well, and register 3 or single ``events`` in it (dstack: name to payload), else register 3 has to be zero; one on Azure
    names registers of the virtual TPM, because there the launch digest covers Microsoft's layer and not the guest system.
    ``launch_data`` is what the host passes in beside the image: HOST_DATA of SEV-SNP (32 bytes), MRCONFIGID of TDX (48
    bytes). It has to be zero if it is not given, because an input that nobody measured can change what code does.
    """

    name: str
    type: CpuType
    measurement: bytes
    registers: tuple[bytes, ...] = ()
    events: Mapping[str, bytes] = field(default_factory=dict)
    pcrs: Mapping[int, bytes] = field(default_factory=dict)
    launch_data: bytes | None = None

    def __post_init__(self) -> None:
        if len(self.measurement) != MEASUREMENT or any(len(value) != MEASUREMENT for value in self.registers):
            raise ValueError("a measurement has 48 bytes")
        if (self.type is CpuType.TDX) != (len(self.registers) in (_REGISTERS - 1, _REGISTERS)):
            raise ValueError("a TDX release names registers 0 to 2, or 0 to 3; others name none")
        if self.events and (self.type is not CpuType.TDX or len(self.registers) == _REGISTERS):
            raise ValueError("only TDX releases name events, and then not the register that they explain")
        if (self.type is CpuType.SEV_SNP_AZURE) != bool(self.pcrs):
            raise ValueError("a release on Azure names registers of the virtual TPM; others name none")
        if any(number not in range(PCRS) or len(value) != PCR for number, value in self.pcrs.items()):
            raise ValueError("registers of a TPM are 0 to 23, of 32 bytes")
        if self.launch_data is not None and len(self.launch_data) != _LAUNCH_DATA.get(self.type):
            raise ValueError("launch data are 32 bytes on SEV-SNP and 48 on TDX")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Genuine hardware with good firmware that runs one of the accepted releases; nothing else.

    Attributes:
        name: for people.
        releases: the code that is accepted. None by default, so that the default policy accepts nothing.
        valid_from, valid_until: when the policy may be used; no limit if ``None``.
        floors: for each AMD product the least firmware level, asked of the reported and of the committed level. Raising is
            free; lowering needs ``UnsafeLowerTcbFloors``.
        chips: ids of processors (AMD: 64 bytes; Intel: the platform instance, 16 bytes) that alone are accepted; any if
            ``None``.
        gpus, switches: how many devices there have to be: exactly so many.
        devices: ids of GPUs and switches that alone are accepted (``device_id``, 32 bytes); any if ``None``.
        drivers, vbioses: versions of which a GPU has to run one; any that has reference values if empty.
        collateral_age: how old TCB information and OCSP answers may be, beside the window that their vendor gave them.
        unsafe: what weakens the policy.
    """

    name: str = "strict default"
    releases: tuple[Release, ...] = ()
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    floors: Mapping[Product, Tcb] = field(default_factory=lambda: DEFAULT_FLOORS)
    chips: frozenset[bytes] | None = None
    gpus: int = 0
    switches: int = 0
    devices: frozenset[bytes] | None = None
    drivers: frozenset[str] = frozenset()
    vbioses: frozenset[str] = frozenset()
    collateral_age: timedelta = DEFAULT_COLLATERAL_AGE
    unsafe: frozenset[Weakening] = frozenset()

    def __post_init__(self) -> None:
        if set(self.floors) != set(Product):
            raise ValueError("a policy has a floor for each product")
        lowered = any(not self.floors[product].reaches(floor) for product, floor in DEFAULT_FLOORS.items())
        if lowered and not self.allows(Weakening.UNSAFE_LOWER_TCB_FLOORS):
            raise ValueError("a floor below the default needs UnsafeLowerTcbFloors")
        if self.collateral_age > DEFAULT_COLLATERAL_AGE and not self.allows(Weakening.UNSAFE_OLDER_COLLATERAL):
            raise ValueError("collateral older than 30 days needs UnsafeOlderCollateral")
        if self.gpus < 0 or self.switches < 0:
            raise ValueError("a number of devices is not negative")
        if any(len(chip) not in _CHIP_IDS for chip in self.chips or ()):
            raise ValueError("the id of a chip has 64 bytes (AMD) or 16 (Intel)")
        if any(len(device) != _DEVICE_ID for device in self.devices or ()):
            raise ValueError("the id of a device has 32 bytes")
        if any(time is not None and time.tzinfo is None for time in (self.valid_from, self.valid_until)):
            raise ValueError("the times of a policy have a time zone")

    def allows(self, weakening: Weakening) -> bool:
        """Whether the policy carries this exception."""
        return weakening in self.unsafe

    def weakened_by(self, *weakenings: Weakening) -> "Policy":
        """The same policy with more exceptions; their names will stand in every result."""
        return replace(self, unsafe=self.unsafe | set(weakenings))

    def validate_hardware(self) -> None:
        """Check that a simulation is accepted.

        Raises:
            SimulatedHardwareRefused: it is not: a simulation protects nobody.
        """
        if not self.allows(UnsafeAcceptSimulated):
            raise SimulatedHardwareRefused("the TEE is simulated: its operator can read everything in it")

    def validate_time(self, now: datetime) -> None:
        """Check that the policy may be used at ``now``.

        Raises:
            PolicyExpired: not yet, or no longer.
        """
        if self.valid_from is not None and now < self.valid_from:
            raise PolicyExpired("the policy is not valid yet")
        if self.valid_until is not None and now > self.valid_until:
            raise PolicyExpired("the policy has expired")
