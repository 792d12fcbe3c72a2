"""Collecting evidence: the enclave's side of remote attestation (the attester of RFC 9334).

An :class:`Attester` answers a verifier's nonce. It puts together what collectors get from the hardware: the processor's
report through Linux (``tsm``: SEV-SNP, TDX) or dstack's agent (``dstack``: TDX), and the reports of GPUs through
NVIDIA's library (``nvml``). Nothing is verified here, and nothing is left out in silence: whatever is missing is a
:class:`CollectionError`, of a subclass in ``errors`` that says what to do. Verifiers need none of this.

    Attester(TsmCollector(), NvmlCollector()).attest(nonce, keys)
"""

from attestation.collecting.attester import Attester, CpuCollector, DeviceCollector, NoDevices
from attestation.collecting.certificates import CertificateFolder
from attestation.collecting.dstack import DstackCollector
from attestation.collecting.errors import CollectionError
from attestation.collecting.nvml import NvmlCollector
from attestation.collecting.tsm import TsmCollector

__all__ = [
    "Attester",
    "CertificateFolder",
    "CollectionError",
    "CpuCollector",
    "DeviceCollector",
    "DstackCollector",
    "NoDevices",
    "NvmlCollector",
    "TsmCollector",
]
