"""Appraisal of a SEV-SNP report: which chip, under which rules, with which firmware; natively, and as Azure wraps it."""

from collections.abc import Sequence
from dataclasses import dataclass

from attestation.appraisal.grounds import Grounds
from attestation.appraisal.policy import Policy, Weakening
from attestation.appraisal.trail import Trail
from attestation.document import CpuEvidence, TpmQuote
from attestation.errors import (
    DebugEnabled,
    InvalidTpmQuote,
    MissingCollateral,
    SecureBootOff,
    UnacceptedChip,
    UnacceptedGuestPolicy,
    UnacceptedProduct,
    UnacceptedTcb,
)
from attestation.parsing.azure import HclReport
from attestation.parsing.certificate import Certificate
from attestation.parsing.revocation import RevocationList
from attestation.parsing.snp import Product, SnpReport, Tcb
from attestation.verification import azure
from attestation.verification import snp as verification
from attestation.verification.chain import verify_times
from attestation.verification.revocation import verify_not_listed


@dataclass(frozen=True, slots=True)
class SnpFacts:
    """What a report proved about its machine, once every step passed."""

    report: SnpReport
    product: Product
    provider: str

    @property
    def tcb(self) -> Tcb:
        """The firmware level that the endorsement key was derived for."""
        return Tcb.read(self.report.reported_tcb, self.product)

    @property
    def chip(self) -> bytes:
        """The chip's id, 64 bytes; all zero under a provider's key."""
        return self.report.chip_id


def appraise_snp(trail: Trail, data: bytes, certificates: Sequence[bytes], grounds: Grounds) -> SnpFacts:
    """Walk through all checks of one report (1184 bytes). ``certificates`` come with it, DER in any order."""
    report = trail.require("It is a SEV-SNP report.", SnpReport.parse, data)
    pool = trail.require("Its certificates can be read.", _read, (*certificates, *grounds.collateral.amd_certificates))
    chain = trail.require("The certificate of the chip's key is there.", verification.endorsement_chain, pool)
    endorsement = chain[0]
    certified = trail.check(
        "AMD vouches for the chip's key.", verification.verify_endorsement, chain, roots=grounds.roots.amd
    )
    trail.check("The chip's key signed the report.", verification.verify_report, report, endorsement)
    product = certified or report.product or trail.require("The product is known.", verification.named, endorsement)
    trail.check(
        "Report and certificate mean the same chip and firmware.",
        verification.verify_same_chip,
        report,
        endorsement,
        product,
    )
    trail.check("All certificates are valid now.", verify_times, chain, now=grounds.now)
    if certified:  # else the list would be asked of whoever ends the chain
        trail.check("AMD has withdrawn none of them.", _validate_revocation, chain, grounds)
    trail.check("The product is accepted.", _validate_product, report, product, grounds.policy)
    trail.check("The host may not debug the guest.", _validate_debug, report)
    trail.check("The guest was started under safe rules.", _validate_guest_policy, report)
    trail.check("The firmware is at or above the floor.", _validate_tcb, report, product, grounds.policy)
    trail.check("The memory was checked for aliases.", _validate_memory, report)
    trail.check("The chip is accepted.", _validate_chip, report, grounds.policy)
    provider = trail.require("Whose key it is can be read.", verification.provider, endorsement)
    return SnpFacts(report, product, provider)


@dataclass(frozen=True, slots=True)
class AzureFacts:
    """What the wrapped report and the virtual TPM proved."""

    snp: SnpFacts
    user_data: bytes
    quote: TpmQuote


def appraise_azure(trail: Trail, evidence: CpuEvidence, grounds: Grounds, *, challenge: bytes) -> AzureFacts:
    """Walk through all checks of a report of Azure; ``challenge`` is what its virtual TPM had to quote."""
    hcl = trail.require("It is a report of Azure's host compatibility layer.", HclReport.parse, evidence.report)
    facts = appraise_snp(trail, hcl.report, evidence.certificates, grounds)
    trail.check("The report commits to the virtual TPM's key.", azure.verify_claims, hcl, facts.report.report_data)
    quote = trail.require("The virtual TPM's quote is there.", _present, evidence.tpm)
    trail.check("The virtual TPM quoted its registers freshly.", azure.verify_quote, quote, hcl, challenge=challenge)
    trail.check("The machine started with secure boot.", _validate_secure_boot, hcl)
    return AzureFacts(facts, hcl.user_data, quote)


def _read(certificates: Sequence[bytes]) -> tuple[Certificate, ...]:
    return tuple(Certificate.parse(certificate) for certificate in certificates)


def _present(quote: TpmQuote | None) -> TpmQuote:
    if quote is None:
        raise InvalidTpmQuote("the evidence has no quote of the virtual TPM")
    return quote


def _validate_revocation(chain: Sequence[Certificate], grounds: Grounds) -> str | None:
    """AMD's list is signed by the root and speaks of the intermediates: all chips' certificates have serial 0."""
    if grounds.policy.allows(Weakening.UNSAFE_SKIP_AMD_REVOCATION):
        return "skipped: UnsafeSkipAmdRevocation"
    root = chain[-1]
    crls = [crl for crl in grounds.collateral.amd_crls if RevocationList.parse(crl).issuer == root.subject]
    windows = [verify_not_listed(crl, issuer=root, certificates=chain) for crl in crls]
    if not windows:
        raise MissingCollateral("AMD's revocation list is not there")
    grounds.validate_window(max(windows, key=lambda window: window.since))
    return None


def _validate_product(report: SnpReport, product: Product, policy: Policy) -> str:
    if product is Product.MILAN and not policy.allows(Weakening.UNSAFE_ACCEPT_MILAN):
        raise UnacceptedProduct(
            "Milan is refused: the seed of its attestation keys can be read out in software, so that any report of any "
            "firmware can be made up (MilanLaunchy and BadFuse, arXiv 2605.12990)"
        )
    if report.product is None and product is not Product.MILAN:
        raise UnacceptedProduct("a report of version 2 does not name its processor")
    return str(product)


def _validate_debug(report: SnpReport) -> None:
    if report.policy.debug:
        raise DebugEnabled("the guest policy lets the host debug the guest (bit 19)")


def _validate_guest_policy(report: SnpReport) -> None:
    if not report.policy.well_formed:
        raise UnacceptedGuestPolicy("the guest policy has bits whose meaning is not known here")
    if report.policy.migration_agent:
        raise UnacceptedGuestPolicy("the guest policy allows a migration agent, which could move the guest's memory")
    if report.policy.cxl:
        raise UnacceptedGuestPolicy("the guest policy allows memory behind CXL, outside the processor's protection")
    if report.vmpl != 0:
        raise UnacceptedGuestPolicy("the report was not asked for at the guest's highest privilege level")


def _validate_tcb(report: SnpReport, product: Product, policy: Policy) -> str:
    """Reported is what the key was derived for; committed is what the host can go back to without being noticed."""
    floor = policy.floors[product]
    for level in (report.reported_tcb, report.committed_tcb):
        if not Tcb.read(level, product).reaches(floor):
            raise UnacceptedTcb(f"the firmware is, or can be taken back, below the floor for {product} ({floor})")
    return str(Tcb.read(report.reported_tcb, product))


def _validate_memory(report: SnpReport) -> None:
    if not report.aliases_checked:
        raise UnacceptedTcb(
            "the firmware has not checked the memory for aliases, by which it can be read (BadRAM, AMD-SB-3015)"
        )


def _validate_chip(report: SnpReport, policy: Policy) -> str:
    if policy.chips is None:
        return "any: the policy has no list of chips"
    if report.provider_key:
        raise UnacceptedChip("the report is signed with a provider's key, which proves no chip")
    if report.chip_id not in policy.chips:
        raise UnacceptedChip("the processor is not on the policy's list of chips")
    return "on the policy's list"


def _validate_secure_boot(hcl: HclReport) -> None:
    if not hcl.secure_boot:
        raise SecureBootOff("the claims of the virtual TPM say that secure boot is off")
