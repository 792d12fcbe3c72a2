"""Appraisal: from a document and a nonce to claims, in five steps that can be counted (RFC 9334, section 3)."""

from dataclasses import dataclass

from attestation import simulated
from attestation.binding import verify_binding
from attestation.document import EvidenceDocument
from attestation.errors import UnsupportedEvidence
from attestation.policy import Policy


@dataclass(frozen=True, slots=True)
class Claims:
    """What was proved: these keys belong to an enclave that runs this code.

    With ``simulated`` the hardware is a simulation and nothing was proved about it; whoever shows these claims to a
    person has to say so. ``checks`` lists what was checked, in order, in plain words.
    """

    identity_key: bytes
    release: str
    measurement: bytes
    simulated: bool
    checks: tuple[str, ...]


def appraise(document: bytes, *, nonce: bytes, policy: Policy) -> Claims:
    """Decide whether an evidence document is acceptable.

    Args:
        document: as the enclave sent it.
        nonce: 32 bytes, the verifier's own, fresh for this document.
        policy: what the relying party accepts.

    Raises:
        AttestationError: it is not; ``check`` says which step refused it.
        ValueError: the nonce is not 32 bytes.
    """
    evidence = EvidenceDocument.parse(document)  # 1. syntax only; nothing is trusted yet
    if evidence.type != simulated.TYPE:
        raise UnsupportedEvidence("this version verifies only the simulated TEE")
    report = simulated.verify_report(evidence.report)  # 2. the root of its type signed this report
    verify_binding(report.report_data, nonce=nonce, keys=evidence.keys)  # 3. it speaks for our nonce and these keys
    policy.validate_simulated()  # 4. the kind of hardware
    policy.validate_measurement(report.measurement)  # 5. the code
    return Claims(
        identity_key=evidence.keys.identity_key,
        release=evidence.keys.release,
        measurement=report.measurement,
        simulated=True,
        checks=(
            "the document is well-formed",
            "the report is signed by the SIMULATED root (which proves nothing about hardware)",
            "the report commits to our fresh nonce and to the enclave's keys",
            "the policy accepts simulated hardware (UnsafeAcceptSimulated)",
            "the measured code is an accepted release",
        ),
    )
