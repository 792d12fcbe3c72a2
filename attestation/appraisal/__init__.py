"""Do we accept it? From an evidence document, a nonce and a policy to claims (RFC 9334, section 3).

:func:`assess` walks through every check and tells all that failed; :func:`appraise` raises the first. Both are pure: the clock,
the collateral and the roots are arguments, so that evidence can be judged offline, and years later.
"""

from datetime import datetime

from attestation.appraisal.claims import Appraisal, Claims
from attestation.appraisal.grounds import Grounds
from attestation.appraisal.machine import Machine, appraise_machine
from attestation.appraisal.policy import (
    DEFAULT_COLLATERAL_AGE,
    DEFAULT_FLOORS,
    Policy,
    Release,
    UnsafeAcceptAnyMeasurement,
    UnsafeAcceptSimulated,
    Weakening,
)
from attestation.appraisal.trail import Step, Trail
from attestation.binding import NONCE
from attestation.collateral import NO_COLLATERAL, Collateral
from attestation.document import EvidenceDocument
from attestation.verification.roots import VENDOR_ROOTS, Roots

__all__ = [
    "DEFAULT_COLLATERAL_AGE",
    "DEFAULT_FLOORS",
    "Appraisal",
    "Claims",
    "Policy",
    "Release",
    "Step",
    "UnsafeAcceptAnyMeasurement",
    "UnsafeAcceptSimulated",
    "Weakening",
    "appraise",
    "assess",
]


def assess(
    document: bytes,
    *,
    nonce: bytes,
    policy: Policy,
    now: datetime,
    collateral: Collateral = NO_COLLATERAL,
    roots: Roots = VENDOR_ROOTS,
) -> Appraisal:
    """Judge an evidence document and tell every step, for those who show it to people.

    Args:
        document: as the enclave sent it.
        nonce: 32 bytes, the verifier's own, fresh for this document.
        policy: what the relying party accepts.
        now: the time to judge at, with a time zone.
        collateral: what vendors say; nothing in it is trusted unverified.
        roots: the vendors'; others are for tests.

    Raises:
        ValueError: the nonce is not 32 bytes, or the time has no zone.
    """
    if len(nonce) != NONCE:
        raise ValueError("a nonce is 32 bytes")
    if now.tzinfo is None:
        raise ValueError("the time of an appraisal has a time zone")
    grounds = Grounds(policy, collateral, roots, now)
    trail = Trail()
    trail.within("policy", trail.check, "The policy may be used now.", policy.validate_time, now)
    claims = trail.within("document", _assess, trail, document, nonce, grounds)
    return Appraisal(tuple(trail.steps), (*sorted(policy.unsafe), *roots.weakenings), claims)


def _assess(trail: Trail, document: bytes, nonce: bytes, grounds: Grounds) -> Claims | None:
    evidence = trail.require("It is an evidence document, canonically encoded.", EvidenceDocument.parse, document)
    return appraise_machine(trail, Machine(evidence, nonce, grounds))


def appraise(
    document: bytes,
    *,
    nonce: bytes,
    policy: Policy,
    now: datetime,
    collateral: Collateral = NO_COLLATERAL,
    roots: Roots = VENDOR_ROOTS,
) -> Claims:
    """Decide whether an evidence document is acceptable; arguments as for :func:`assess`.

    Raises:
        AttestationError: it is not; ``check`` says which step refused it first.
        ValueError: the nonce is not 32 bytes, or the time has no zone.
    """
    return assess(document, nonce=nonce, policy=policy, now=now, collateral=collateral, roots=roots).claims()
