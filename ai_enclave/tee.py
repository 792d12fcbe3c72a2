"""Which hardware vouches for this enclave: chosen by the operator, checked by everybody else.

There is no guessing and no falling back: an enclave that was told to prove itself by hardware and cannot do so does not start.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from attestation import SimulatedTee
from attestation.collecting import (
    Attester,
    CertificateFolder,
    CpuCollector,
    DstackCollector,
    NoDevices,
    NvmlCollector,
    TsmCollector,
)


class TeeKind(StrEnum):
    """Where the processor's report comes from."""

    LINUX = "linux"  # configfs-tsm: SEV-SNP or TDX
    DSTACK = "dstack"  # dstack's agent: TDX
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class TeeSettings:
    """How this enclave proves where it runs.

    ``certificates`` is a folder with the chip's certificates, for hosts that do not hand them out; ``gpus`` says that the GPUs of
    this machine prove themselves too.
    """

    kind: TeeKind
    certificates: Path | None = None
    gpus: bool = False

    def attester(self, measurement: bytes) -> Attester:
        """The attester; only the simulation needs ``measurement`` (48 bytes), because hardware measures for itself."""
        return Attester(self._cpu(measurement), NvmlCollector() if self.gpus else NoDevices())

    def _cpu(self, measurement: bytes) -> CpuCollector:
        match self.kind:
            case TeeKind.LINUX:
                return TsmCollector(certificates=CertificateFolder(self.certificates) if self.certificates else None)
            case TeeKind.DSTACK:
                return DstackCollector()
            case TeeKind.SIMULATED:
                return SimulatedTee(measurement)
