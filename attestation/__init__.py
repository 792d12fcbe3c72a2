"""Remote attestation (RFC 9334): what evidence says, whether the hardware said it, whether we accept it.

Shared by clients, who appraise, and enclaves, who attest. No input or output, no clock and no randomness except in
arguments, and nothing of ours is imported, so that anyone can check an enclave with this package alone.

Of this version the only evidence is that of the simulated TEE, which proves nothing about hardware and is refused by
every policy but :class:`UnsafeAcceptSimulated`.
"""

from attestation.appraisal import Claims, appraise
from attestation.document import EvidenceDocument, KeySection
from attestation.errors import (
    AttestationError,
    BindingMismatch,
    InvalidReportSignature,
    MalformedEvidence,
    SimulatedHardwareRefused,
    UnacceptedMeasurement,
    UnsupportedEvidence,
)
from attestation.measurement import measure
from attestation.policy import Policy, UnsafeAcceptSimulated
from attestation.simulated import SimulatedTee

__all__ = [
    "AttestationError",
    "BindingMismatch",
    "Claims",
    "EvidenceDocument",
    "InvalidReportSignature",
    "KeySection",
    "MalformedEvidence",
    "Policy",
    "SimulatedHardwareRefused",
    "SimulatedTee",
    "UnacceptedMeasurement",
    "UnsafeAcceptSimulated",
    "UnsupportedEvidence",
    "appraise",
    "measure",
]
