"""The answer of an appraisal: what was proved, what cannot be proved this way, and every step that led there."""

from dataclasses import dataclass, field
from typing import cast

from attestation.appraisal.trail import Step
from attestation.document import CpuType, DeviceType
from attestation.errors import AttestationError, Kind


@dataclass(frozen=True, slots=True)
class NotProved:
    """Something that even accepted evidence does not show. ``text`` is for people."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class CpuClaims:
    """The processor. ``chip`` is its id (empty where none is proved); ``firmware`` its level in words."""

    type: CpuType
    product: str
    chip: bytes
    firmware: str
    measurement: bytes


@dataclass(frozen=True, slots=True)
class DeviceClaims:
    """One GPU or switch. ``id`` has 32 bytes and stays the same for the life of the device."""

    type: DeviceType
    id: bytes
    product: str
    driver: str
    vbios: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What was proved: these keys belong to an enclave that runs this code on this machine.

    Whoever shows them to a person has to show ``weakenings`` and ``not_proved`` too. ``checks`` lists what was checked, in order,
    in plain words.
    """

    identity_key: bytes
    receipt_key: bytes
    release: str
    cpu: CpuClaims
    devices: tuple[DeviceClaims, ...]
    weakenings: tuple[str, ...]
    not_proved: tuple[NotProved, ...]
    checks: tuple[str, ...]

    @property
    def measurement(self) -> bytes:
        """48 bytes: the code, as the processor measured it."""
        return self.cpu.measurement

    @property
    def simulated(self) -> bool:
        """Whether there is no confidential hardware, so that the operator can read everything."""
        return self.cpu.type is CpuType.SIMULATED


@dataclass(frozen=True, slots=True)
class Appraisal:
    """All steps of one appraisal. The claims can be had only if every step passed."""

    steps: tuple[Step, ...]
    weakenings: tuple[str, ...]
    _claims: Claims | None = field(repr=False)

    @property
    def errors(self) -> tuple[AttestationError, ...]:
        """Why the evidence is refused; empty if it is accepted."""
        return tuple(step.error for step in self.steps if step.error is not None)

    @property
    def genuine(self) -> bool:
        """Whether hardware of the vendors said all this for us, policy left aside. Never enough to trust a machine.

        False as well where checks could not be made: nothing was shown then.
        """
        made = self._claims is not None and not self._claims.simulated
        return made and all(error.kind is Kind.POLICY for error in self.errors)

    def claims(self) -> Claims:
        """What was proved.

        Raises:
            AttestationError: the first refusal, and so nothing.
        """
        for error in self.errors:
            raise error
        return cast("Claims", self._claims)  # without a refusal every part was made


PHYSICAL = NotProved(
    "physical access",
    "Whoever has the machine in their hands can put a device between processor and memory (TEE.fail, Battering RAM, WireTap, "
    "DDRop) and make evidence that passes. Ask who can enter the room, and list the chips in the policy.",
)
SIDE_CHANNELS = NotProved(
    "side channels",
    "Timing, power and sizes may tell something about what is computed inside. Attestation does not measure that.",
)
CODE = NotProved(
    "what the code does",
    "The measurement says which code runs, not that it is good: somebody has to have read it and built it again.",
)
TIME = NotProved(
    "later",
    "The evidence speaks of the moment at which it was made. What happened to the machine afterwards it cannot know.",
)
ANY_CHIP = NotProved(
    "which machine",
    "Any genuine chip in the world would have passed, because the policy lists none: one chip whose keys leaked is enough to "
    "pretend.",
)
PROVIDER_KEY = NotProved(
    "which chip",
    "The report is signed with the cloud provider's key (VLEK), which says that some chip of theirs made it, and not which.",
)
GPU_RELAY = NotProved(
    "that the GPU sits in this machine",
    "A genuine GPU elsewhere could have answered, with its answers passed on: without TDISP nothing ties the GPU to this "
    "processor's bus. The attested code has to keep it from happening.",
)
GPU_STATE = NotProved(
    "the GPU's mode, by its own signature",
    "Confidential mode and developer tools are read from the driver by the attested code; the GPU signs its measurements only.",
)
NVLINK = NotProved(
    "secrecy between GPUs",
    "On Hopper, traffic between GPUs over NVLink is not encrypted.",
)
NO_GPU = NotProved(
    "that no other device is used",
    "The policy expects no GPU, and none was shown. Only the measured code says that it uses none.",
)
RUNTIME_EVENTS = NotProved(
    "what ran after start",
    "The run-time register was compared by named events: later events can be appended by whatever runs in the machine.",
)
GUEST_SYSTEM = NotProved(
    "memory of the guest system",
    "On Azure the processor measures Microsoft's layer below the guest. The guest system is measured by that layer's virtual "
    "TPM, at start.",
)
SIMULATION = NotProved(
    "everything about hardware",
    "The TEE is SIMULATED: its signing key is public. Whoever runs it can read everything that is sent to it.",
)
