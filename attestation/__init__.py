"""Remote attestation (RFC 9334): one offline verifier for confidential machines of AMD, Intel and NVIDIA.

Three questions, three packages, one direction: what do the bytes say (``parsing``), did this hardware say it
(``verification``), do we accept it (``appraisal``). None of them does input or output or reads a clock; times, collateral, policy
and roots are arguments, and nothing of ours is imported, so that anyone can check an enclave with this package alone.

Beside them: ``document`` and ``binding`` (how one nonce ties processor, devices and keys together), ``collateral`` and ``bundle``
(what vendors say, and one file that holds everything), ``receipt`` (what an enclave signs for each answer), ``collecting`` (the
attester's side, on the machine itself) and ``fetching`` (collateral over an injected transport).
"""

from attestation.appraisal import (
    Appraisal,
    Claims,
    Policy,
    Release,
    UnsafeAcceptAnyMeasurement,
    UnsafeAcceptSimulated,
    Weakening,
    appraise,
    assess,
)
from attestation.collateral import NO_COLLATERAL, Collateral, IntelCollateral
from attestation.document import CpuEvidence, CpuType, DeviceEvidence, DeviceType, EvidenceDocument, KeySection
from attestation.errors import AttestationError
from attestation.measurement import measure
from attestation.receipt import (
    Receipt,
    SignedReceipt,
    consent_set_digest,
    measurement_of,
    parse_receipt,
    sign_receipt,
    verify_receipt,
)
from attestation.simulated import SimulatedTee

__all__ = [
    "NO_COLLATERAL",
    "Appraisal",
    "AttestationError",
    "Claims",
    "Collateral",
    "CpuEvidence",
    "CpuType",
    "DeviceEvidence",
    "DeviceType",
    "EvidenceDocument",
    "IntelCollateral",
    "KeySection",
    "Policy",
    "Receipt",
    "Release",
    "SignedReceipt",
    "SimulatedTee",
    "UnsafeAcceptAnyMeasurement",
    "UnsafeAcceptSimulated",
    "Weakening",
    "appraise",
    "assess",
    "consent_set_digest",
    "measure",
    "measurement_of",
    "parse_receipt",
    "sign_receipt",
    "verify_receipt",
]
