"""Appraising what assistants have reported, by the operator's policy, in sentences.

The nonce is the relay's and the evidence minutes old: this says what an operator may take for true about their own enclaves. Whoever
asks an assistant chooses a nonce of their own and rests on nobody's word for it, this server's least of all.
"""

import hmac
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from attestation import Appraisal, AttestationError, Claims, CpuType, EvidenceDocument, Policy, assess, measurement_of
from attestation.appraisal import Step, UnsafeAcceptAnyMeasurement
from attestation.appraisal.policy_file import PolicyKey, parse_policy
from attestation.bundle import Bundle
from attestation.errors import MalformedPolicy
from attestation.limits import MAX_BUNDLE, MAX_POLICY
from attestation.verification.roots import VENDOR_ROOTS, Roots
from messaging.relay.admin.evidence import Appraised, EvidenceStep, NotProvedItem, Shown
from messaging.relay.errors import StartupError

SIMULATED: Final = "SIMULATED TEE: there is no confidential hardware. Whoever runs this enclave can read everything that is sent to it."
NO_POLICY: Final = (
    "NOT APPRAISED: this console has no policy, so that nothing of this is checked but its form. Name a signed policy and the key of "
    "whoever signed it (--policy, --policy-key)."
)
ACCEPTED: Final = "ACCEPTED: genuine hardware runs code that the policy accepts, and its keys belong to this account."
REFUSED: Final = "REFUSED: what failed stands below. Nothing of what this evidence says is proved."
UNREAD: Final = "UNREADABLE: what was reported is no evidence. Nothing is known of where this assistant runs."
OUR_NONCE: Final = NotProvedItem(
    what="that it is so to others",
    why="The nonce is this server's, and the evidence as old as is shown. A client asks anew with a nonce of its own, and trusts no server.",
)
_UNREAD: Final = Appraised(verdict="unread", notice=UNREAD)
_KEY_FILE: Final = 4096  # bytes; a key is one line
_THIS_KEY: Final = "Its keys are those under which this account is registered."
_EARLIER: Final = "The account has another identity key than the evidence."
_EARLIER_MEANS: Final = "The evidence is of an earlier start of the enclave, or of another enclave. It says nothing about whom clients speak to now."
_SILICON: Final = {
    CpuType.SEV_SNP: "AMD SEV-SNP",
    CpuType.SEV_SNP_AZURE: "AMD SEV-SNP on Azure",
    CpuType.TDX: "Intel TDX",
    CpuType.SIMULATED: "SIMULATED",
}


@dataclass(frozen=True, slots=True)
class PolicyAppraiser:
    """Judges by ``policy``, which ``signer`` has signed; without a policy it reads and judges nothing. Other ``roots`` are for tests."""

    policy: Policy | None = None
    signer: str = ""
    roots: Roots = VENDOR_ROOTS

    def __call__(self, shown: Shown, now: int) -> Appraised:
        """Judge evidence as of ``now``, in milliseconds since 1970. It never raises."""
        try:
            bundle = Bundle.parse(_inflated(shown.bundle))
            document = EvidenceDocument.parse(bundle.evidence)
            measurement = measurement_of(bundle.evidence)
        except (AttestationError, ValueError):
            return _UNREAD
        said = Appraised(
            verdict="not appraised",
            notice=NO_POLICY,
            simulated=document.cpu.type is CpuType.SIMULATED,
            tee=_SILICON[document.cpu.type],
            release=document.keys.release,
            measurement=measurement.hex(),
        )
        if self.policy is None:
            return said.model_copy(update={"notice": f"{SIMULATED} {NO_POLICY}"} if said.simulated else {})
        appraisal = assess(
            bundle.evidence,
            nonce=shown.nonce,
            policy=self.policy,
            now=_time(now),
            collateral=bundle.collateral,
            roots=self.roots,
        )
        own = hmac.compare_digest(document.keys.identity_key, shown.identity_key)
        return said.model_copy(update=self._judged(appraisal, said, own=own))

    def accepts(self, measurement: bytes) -> bool | None:
        """Whether the policy lists code of this measurement; ``None`` without a policy."""
        if self.policy is None:
            return None
        listed = any(hmac.compare_digest(release.measurement, measurement) for release in self.policy.releases)
        return listed or self.policy.allows(UnsafeAcceptAnyMeasurement)

    def _judged(self, appraisal: Appraisal, said: Appraised, *, own: bool) -> dict[str, object]:
        claims = None if appraisal.errors or not own else appraisal.claims()
        policy = "" if self.policy is None else self.policy.name
        signed = f"{policy}, signed by {self.signer}" if self.signer else policy
        steps = (*(_step(step) for step in appraisal.steps), _key_step(own=own))
        told: dict[str, object] = {
            "policy": signed,
            "weakened_by": tuple(map(str, appraisal.weakenings)),
            "steps": steps,
        }
        if claims is None:
            return {**told, "verdict": "refused", "notice": f"{SIMULATED} {REFUSED}" if said.simulated else REFUSED}
        verdict, notice = _verdict(claims, appraisal.weakenings)
        return {
            **told,
            "verdict": verdict,
            "notice": notice,
            "proved": _proved(claims),
            "not_proved": (OUR_NONCE, *(NotProvedItem(what=item.name, why=item.text) for item in claims.not_proved)),
        }


def open_appraiser(policy: Path | None, key: str | None) -> PolicyAppraiser:
    """The appraiser of a console with this policy file, which has to carry a signature of ``key``: a key, or the file that holds one.

    Raises:
        StartupError: one is named without the other, or cannot be read, or the signature does not hold.
    """
    if policy is None and key is None:
        return PolicyAppraiser()
    if policy is None or key is None:
        raise StartupError("a policy and the key of whoever signed it belong together: --policy and --policy-key")
    try:
        signer = PolicyKey.parse(key if "+" in key else _read(Path(key), _KEY_FILE).decode("utf-8", "replace"))
        return PolicyAppraiser(parse_policy(_read(policy, MAX_POLICY), signer), signer.name)
    except MalformedPolicy as error:
        raise StartupError(f"the policy cannot be used: {error}") from None


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise StartupError(f"cannot read {path.name}: {error.strerror or 'input or output failed'}") from None
    if len(data) > limit:
        raise StartupError(f"{path.name} is too large to be what it should be")
    return data


def _inflated(data: bytes) -> bytes:
    """Undo the deflation, and stop where it would grow beyond what a bundle may have."""
    inflater = zlib.decompressobj()
    try:
        bundle = inflater.decompress(data, MAX_BUNDLE)
    except zlib.error:
        raise ValueError("not deflated") from None
    if not inflater.eof or inflater.unused_data:
        raise ValueError("not whole, or too large")
    return bundle


def _time(now: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now)


def _step(step: Step) -> EvidenceStep:
    passed = EvidenceStep(about=step.subject, statement=step.statement, passed=step.error is None, found=step.detail)
    if step.error is None:
        return passed
    means = step.error.meaning + (" Checks that rest on this one were not made." if step.last else "")
    return passed.model_copy(update={"why": str(step.error), "means": means})


def _key_step(*, own: bool) -> EvidenceStep:
    step = EvidenceStep(about="account", statement=_THIS_KEY, passed=own)
    return step if own else step.model_copy(update={"why": _EARLIER, "means": _EARLIER_MEANS})


def _verdict(claims: Claims, weakenings: Sequence[str]) -> tuple[str, str]:
    if claims.simulated:
        return "simulated", SIMULATED
    if weakenings:
        return (
            "weakened",
            f"ACCEPTED, BUT ONLY UNDER {', '.join(weakenings)}: the policy leaves out what others ask for.",
        )
    return "accepted", ACCEPTED


def _proved(claims: Claims) -> tuple[str, ...]:
    """What follows from an appraisal that was passed. A simulation proves no more than that somebody has its public key."""
    if claims.simulated:
        return ("Nothing about hardware. The parts of the evidence fit together, and answer this server's nonce.",)
    cpu = claims.cpu
    return (
        f"The keys of this account belong to a confidential machine: {_SILICON[cpu.type]}, {cpu.product}.",
        f"Its firmware is at {cpu.firmware}, which the policy accepts.",
        f"It was started with code that the policy accepts, and that calls itself {claims.release}.",
        "It may not be debugged: its host cannot look into its memory by the ways that the processor offers.",
        *(f"It has a genuine {device.product}, with driver {device.driver or 'none'}." for device in claims.devices),
    )
