"""Every recorded piece of evidence gets its verdict, and is refused for the reasons that the manifest names and no others.

``genuine`` is the cryptographic verdict, ``accepted`` that of the policy. The recorded set has no measurements of ours, no
revocation lists of AMD and no manifests for the GPUs' firmware: the policies here carry those exceptions, by their unsafe names.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any

import pytest

from attestation import errors
from attestation.appraisal.grounds import Grounds
from attestation.appraisal.nvidia import VendorWord, appraise_device, appraise_manifest, appraise_set
from attestation.appraisal.policy import Policy, Weakening
from attestation.appraisal.snp import appraise_snp
from attestation.appraisal.tdx import appraise_tdx
from attestation.appraisal.trail import Trail
from attestation.collateral import Collateral, IntelCollateral
from attestation.document import DeviceEvidence, DeviceState, DeviceType, TpmQuote
from attestation.errors import AttestationError, Kind
from attestation.parsing.azure import AttestedQuote, HclReport
from attestation.parsing.certificate import Certificate, certificates_from_pem
from attestation.parsing.nvidia import DeviceReport
from attestation.verification import azure
from attestation.verification.chain import order_chain, verify_chain, verify_times
from attestation.verification.rim import SignedManifest
from attestation.verification.roots import VENDOR_ROOTS
from tests.attestation.vectors import Entry, entries

POLICY = Policy(
    unsafe=frozenset(
        {
            Weakening.UNSAFE_LOWER_TCB_FLOORS,
            Weakening.UNSAFE_SKIP_AMD_REVOCATION,
            Weakening.UNSAFE_SKIP_GPU_REFERENCE_VALUES,
            Weakening.UNSAFE_SKIP_GPU_REVOCATION,
        }
    ),
    gpus=1,
)
STATE = DeviceState(confidential=True, developer_tools=False, production=True)

Errors = set[type[AttestationError]]
_MILAN: Errors = {errors.UnacceptedProduct, errors.UnacceptedTcb}
_MADE_UP: Errors = {errors.BrokenChain, errors.InvalidReportSignature, errors.EndorsementMismatch, *_MILAN}
_STALE: Errors = {errors.StaleCollateral}
REFUSALS: dict[str, Errors] = {  # what is not here is accepted
    "amd-milan-v2-virtee": _MILAN,
    "amd-milan-v2-debug": {errors.DebugEnabled, *_MILAN},
    "amd-milan-v2-trustee": _MILAN,
    "amd-milan-vcek-made-up-legacy": _MADE_UP,
    "amd-milan-vcek-made-up-new": _MADE_UP,
    "amd-azure-milan-v2-hcl": _MILAN,
    "amd-azure-milan-v3-evidence-v1": {errors.UnacceptedProduct},
    "amd-azure-milan-v3-evidence-v2": {errors.UnacceptedProduct},
    "tdx-v4-stale-collateral": _STALE,
    "tdx-v4-collateral-from-the-future": _STALE,
    "sgx-v3-hardening-needed": {errors.UnacceptedProduct, errors.UnacceptedTcb},
    "tdx-v4-rtmr3-no-collateral": {errors.MissingCollateral},
    "tdx-v4-tappd-no-collateral": {errors.MissingCollateral},
    # These two have bytes behind the quote and leave SEPT_VE_DISABLE off, too.
    "tdx-v4-spr-no-tcb-level": {errors.UnacceptedTcb, errors.UnsignedBytes, errors.UnacceptedGuestPolicy},
    "tdx-v4-spr-stale": {errors.StaleCollateral, errors.UnsignedBytes, errors.UnacceptedGuestPolicy},
    "tdx-v4-gcp-event-log": {errors.MissingCollateral},
    "tdx-v4-debug": {errors.DebugEnabled, errors.MissingCollateral},
    "nvidia-ls10-same-switch-four-times": {errors.DuplicateDevice},
    "nvidia-h100-invalid-signature": {errors.InvalidReportSignature, errors.DeviceIdentityMismatch},
    "nvidia-ls10-invalid-signature": {errors.InvalidReportSignature, errors.DeviceIdentityMismatch},
    "nvidia-rim-550.144.03-expired-clock": {errors.CertificateOutOfDate},
    "nvidia-rim-bad-signature": {errors.InvalidReferenceValues},
    "nvidia-rim-broken-chain": {errors.UntrustedRoot},
    "nvidia-rim-570.124.03-expired": {errors.InvalidReferenceValues, errors.CertificateOutOfDate},
    "nvidia-rim-535.86.09-measurement-mismatch": {errors.InvalidReferenceValues},
}


def test_every_entry_gets_its_verdict_for_the_reason_of_the_manifest(subtests: pytest.Subtests) -> None:
    recorded = entries()
    assert len(recorded) == 43
    for name, entry in recorded.items():
        with subtests.test(name):
            trail = Trail()
            trail.within("evidence", APPRAISE[entry.kind], trail, entry)
            refused = [step.error for step in trail.steps if step.error is not None]
            assert {type(error) for error in refused} == REFUSALS.get(name, set()), entry.reason
            assert (not refused) == entry.accepted
            assert all(error.kind is Kind.POLICY for error in refused) == entry.genuine


def grounds(entry: Entry, **collateral: Any) -> Grounds:
    return Grounds(POLICY, Collateral(**collateral), VENDOR_ROOTS, entry.time)


def certificates(entry: Entry, *roles: str) -> tuple[bytes, ...]:
    files = [data for role in roles for data in entry.read_all(role)]
    return tuple(
        der for data in files for der in (certificates_from_pem(data) if data.startswith(b"-----") else [data])
    )


def snp_report(trail: Trail, entry: Entry) -> None:
    appraise_snp(trail, entry.read("report"), certificates(entry, "vcek", "vcek_and_chain", "chain"), grounds(entry))
    for container in entry.read_all("container"):
        if b"HCLA" in container[:4] or container.startswith(b"{"):
            trail.within("virtual TPM", virtual_tpm, trail, container, entry.read("report"))


def virtual_tpm(trail: Trail, container: bytes, report: bytes) -> None:
    """The three containers in which Trustee keeps Azure's evidence."""
    if container.startswith(b"HCLA"):
        hcl = trail.require("It is Azure's.", HclReport.parse, container)
        trail.check("Its claims are bound.", azure.verify_claims, hcl, report[0x50:0x90])
        return
    members = json.loads(container)
    if "report" in members:
        blob, quote = bytes(members["report"]), members["quote"]
        message, signature = bytes(quote["message"]), bytes(quote["signature"])
        pcrs = tuple(bytes(register) for register in quote["pcrs"])
    else:
        blob, quote = urlsafe_b64decode(members["hcl_report"] + "=="), members["tpm_quote"]
        message, signature = bytes.fromhex(quote["message"]), bytes.fromhex(quote["signature"])
        pcrs = tuple(bytes.fromhex(register) for register in quote["pcrs"])
    hcl = trail.require("It is Azure's.", HclReport.parse, blob)
    trail.check("Its claims are bound.", azure.verify_claims, hcl, report[0x50:0x90])
    challenge = AttestedQuote.parse(message).extra_data  # whatever was asked then
    trail.check("It is signed.", azure.verify_quote, TpmQuote(message, signature, pcrs), hcl, challenge=challenge)


def snp_chain(trail: Trail, entry: Entry) -> None:
    pool = [Certificate.parse(der) for der in certificates(entry, "vcek", "trust_anchor", "chain")]
    chain = order_chain(pool[0], pool)
    trail.check("It leads to AMD.", verify_chain, chain, roots=set(VENDOR_ROOTS.amd.values()))
    trail.check("It is valid now.", verify_times, chain, now=entry.time)


def tdx_quote(trail: Trail, entry: Entry) -> None:
    joined = entry.read_all("collateral_joined") or [
        data for data in entry.read_all("collateral") if b"pck_crl_issuer_chain" in data
    ]
    intel = read_collateral(json.loads(joined[0])) if joined else None
    log = b"".join(entry.read_all("event_log"))
    appraise_tdx(trail, entry.read("quote"), log, grounds(entry, intel=intel))


def read_collateral(members: dict[str, str]) -> IntelCollateral:
    """The nine-field form of dcap-qvl's samples: bytes are in hex."""
    binary = {"root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"}
    parts: dict[str, Any] = {name: bytes.fromhex(text) if name in binary else text for name, text in members.items()}
    return IntelCollateral(**parts)


def trust_anchor(trail: Trail, entry: Entry, root: bytes) -> None:
    certificate = Certificate.parse(certificates(entry, "trust_anchor")[0])
    trail.check("It is the pinned root.", verify_chain, [certificate, certificate], roots={root})


def device(trail: Trail, entry: Entry) -> None:
    if entry.name == "nvidia-device-identity-root":
        trust_anchor(trail, entry, VENDOR_ROOTS.nvidia_devices)
        return
    switch = "ls10" in entry.name
    kind = DeviceType.SWITCH if switch else DeviceType.GPU
    word = VendorWord.read(grounds(entry))
    reports = entry.read_all("report") * (4 if "four-times" in entry.name else 1)
    chains = entry.read_all("chain") * (4 if "four-times" in entry.name else 1)
    facts = []
    for report, pem in zip(reports, chains, strict=True):
        evidence = DeviceEvidence(kind, report, certificates_from_pem(pem), STATE)
        nonce = DeviceReport.parse(report).nonce  # whatever was asked then
        facts.append(trail.within("device", appraise_device, trail, evidence, nonce=nonce, word=word))
    present = [fact for fact in facts if fact is not None]
    gpus, switches = (0, len(reports)) if switch else (len(reports), 0)
    appraise_set(trail, present, Policy(gpus=gpus, switches=switches))


def rim(trail: Trail, entry: Entry) -> None:
    if entry.name == "nvidia-corim-root":
        trust_anchor(trail, entry, VENDOR_ROOTS.nvidia_rims)
        return
    signed = trail.require("It is a manifest.", SignedManifest.parse, entry.read("rim"))
    appraise_manifest(trail, signed, VendorWord.read(grounds(entry)))


def intel_root(trail: Trail, entry: Entry) -> None:
    trust_anchor(trail, entry, VENDOR_ROOTS.intel)


APPRAISE: dict[str, Callable[[Trail, Entry], None]] = {
    "snp_report": snp_report,
    "snp_chain": snp_chain,
    "tdx_quote": tdx_quote,
    "tdx_collateral": intel_root,
    "gpu_evidence": device,
    "gpu_rim": rim,
}
