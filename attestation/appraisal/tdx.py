"""Appraisal of a TDX quote: which platform, in which state, with which firmware, and what ran up to now."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from attestation.appraisal.grounds import Grounds
from attestation.appraisal.policy import Policy, Weakening
from attestation.appraisal.trail import Trail
from attestation.collateral import IntelCollateral
from attestation.errors import (
    DebugEnabled,
    InvalidCollateral,
    MissingCollateral,
    StaleCollateral,
    UnacceptedChip,
    UnacceptedGuestPolicy,
    UnacceptedProduct,
    UnacceptedTcb,
    UnsignedBytes,
)
from attestation.parsing.certificate import Certificate, certificates_from_pem
from attestation.parsing.event_log import Event, parse_event_log
from attestation.parsing.intel_collateral import CollateralDates
from attestation.parsing.tdx import TEE_TDX, Quote, TdReport
from attestation.verification import tdx as verification
from attestation.verification.chain import verify_chain, verify_times
from attestation.verification.revocation import Window
from attestation.verification.tdx import TcbVerdict

_STATUSES: Final = {
    "SWHardeningNeeded": {Weakening.UNSAFE_ACCEPT_TDX_SW_HARDENING_NEEDED},
    "ConfigurationNeeded": {Weakening.UNSAFE_ACCEPT_TDX_CONFIGURATION_NEEDED},
    "ConfigurationAndSWHardeningNeeded": {
        Weakening.UNSAFE_ACCEPT_TDX_SW_HARDENING_NEEDED,
        Weakening.UNSAFE_ACCEPT_TDX_CONFIGURATION_NEEDED,
    },
    "OutOfDate": {Weakening.UNSAFE_ACCEPT_TDX_OUT_OF_DATE},
    "OutOfDateConfigurationNeeded": {
        Weakening.UNSAFE_ACCEPT_TDX_OUT_OF_DATE,
        Weakening.UNSAFE_ACCEPT_TDX_CONFIGURATION_NEEDED,
    },
}


@dataclass(frozen=True, slots=True)
class TdxFacts:
    """What a quote proved about its machine, once every step passed. ``events`` are empty without a log."""

    report: TdReport
    tcb: TcbVerdict | None
    events: tuple[Event, ...]


def appraise_tdx(trail: Trail, data: bytes, event_log: bytes, grounds: Grounds) -> TdxFacts:
    """Walk through all checks of one quote; ``event_log`` may be empty."""
    quote = trail.require("It is a quote of an Intel processor.", Quote.parse, data)
    chain = trail.require("Its certificates can be read.", _chain, quote.chain_pem)
    sound = [
        trail.holds("Intel vouches for the platform.", verify_chain, chain, roots={grounds.roots.intel}),
        trail.holds(
            "The platform vouches for the quoting enclave.", verification.verify_quoting_enclave, quote, chain[0]
        ),
        trail.holds("The quoting enclave's key signed the quote.", verification.verify_quote, quote),
        trail.holds("All certificates are valid now.", verify_times, chain, now=grounds.now),
    ]
    trail.check("Nothing but padding follows the quote.", _validate_padding, quote)
    root = chain[-1] if all(sound) else None
    tcb = trail.within("firmware", _appraise_firmware, trail, quote, root, grounds)
    trail.require("It speaks of a TDX machine.", _validate_tee, quote)
    report = trail.require("Its body can be read.", TdReport.parse, quote.body)
    trail.check("The host may not debug the guest.", _validate_debug, report)
    trail.check("The guest was started under safe rules.", _validate_attributes, report)
    events = trail.check("The event log leads to the signed registers.", _events, report, event_log)
    return TdxFacts(report, tcb, events or ())


def _appraise_firmware(trail: Trail, quote: Quote, root: Certificate | None, grounds: Grounds) -> TcbVerdict | None:
    """``root`` is the pinned one, at which the quote's chain ended; ``None`` if the quote did not hold, and says nothing."""
    intel = trail.require("Intel's word on the firmware is there.", _present, grounds.collateral.intel)
    time = trail.require("Intel's word is of this time.", _validate_dates, intel, grounds)
    if root is None:
        return None
    tcb = trail.require("Intel knows the platform's firmware.", _assess, quote, intel, root, time)
    trail.check("Intel calls the firmware up to date.", _validate_status, tcb, grounds.policy)
    trail.check("The platform is accepted.", _validate_chip, tcb, grounds.policy)
    return tcb


def _assess(quote: Quote, intel: IntelCollateral, root: Certificate, time: datetime) -> TcbVerdict:
    """``dcap-qvl`` refuses guests under unsafe rules as well, and does not say that it was for these."""
    try:
        return verification.assess_tcb(quote, intel, root, now=time)
    except InvalidCollateral:
        if quote.tee == TEE_TDX:
            report = TdReport.parse(quote.body)
            _validate_debug(report)
            _validate_attributes(report)
        raise


def _chain(pem: bytes) -> tuple[Certificate, ...]:
    return tuple(Certificate.parse(der) for der in certificates_from_pem(pem))


def _events(report: TdReport, data: bytes) -> tuple[Event, ...]:
    if not data:
        return ()
    events = parse_event_log(data)
    verification.verify_event_log(report, events)
    return events


def _validate_tee(quote: Quote) -> None:
    if quote.tee != TEE_TDX:
        raise UnacceptedProduct("the quote is of another TEE than TDX: an SGX enclave is no confidential machine")


def _validate_padding(quote: Quote) -> None:
    if not quote.clean_padding:
        raise UnsignedBytes("there are bytes other than zeros behind the quote")


def _validate_debug(report: TdReport) -> None:
    if report.attributes.debug:
        raise DebugEnabled("the attributes put the guest under inspection (TUD bits; bit 0 is DEBUG)")


def _validate_attributes(report: TdReport) -> None:
    if not report.attributes.well_formed:
        raise UnacceptedGuestPolicy("the attributes have bits whose meaning is not known here")
    if report.attributes.migratable:
        raise UnacceptedGuestPolicy("the attributes allow migration, which could move the guest's memory")
    if report.attributes.perfmon:
        raise UnacceptedGuestPolicy("the attributes allow performance counters, which help side channels")
    if not report.attributes.septve_disabled:
        raise UnacceptedGuestPolicy("the attributes let the host interrupt the guest through its page tables")


def _present(collateral: IntelCollateral | None) -> IntelCollateral:
    if collateral is None:
        raise MissingCollateral("there is no TCB information of Intel: the state of the firmware is unknown")
    return collateral


def _validate_dates(collateral: IntelCollateral, grounds: Grounds) -> datetime:
    """The time to judge the firmware at: now, or minutes later if Intel's clock is ahead of ours."""
    dates = CollateralDates.parse(collateral)
    for since, until in dates.statements:
        grounds.validate_window(Window(since, until), age=grounds.policy.collateral_age)
    for since, until in dates.lists:
        grounds.validate_window(Window(since, until))
        if grounds.now == until:  # for ``dcap-qvl`` a list ends where this second begins
            raise StaleCollateral("a revocation list of Intel's is past its next update")
    verify_times(dates.certificates, now=grounds.now)
    return max(grounds.now, *(since for since, _ in dates.statements))


def _validate_status(tcb: TcbVerdict, policy: Policy) -> str:
    for status in tcb.statuses:
        if status != "UpToDate" and not _STATUSES.get(status, {None}) <= policy.unsafe:
            advisories = ", ".join(tcb.advisories) or "no advisories"
            raise UnacceptedTcb(f"Intel calls the firmware {status} ({advisories})")
    return ", ".join((tcb.statuses[0], *tcb.advisories))


def _validate_chip(tcb: TcbVerdict, policy: Policy) -> str:
    if policy.chips is None:
        return "any: the policy has no list of chips"
    if tcb.platform not in policy.chips:
        raise UnacceptedChip("the platform is not on the policy's list of chips")
    return "on the policy's list"
