"""Did an Intel processor say this, and what does Intel say of its firmware?

The chain of signatures (root, PCK certificate, quoting enclave, attestation key, quote) is checked here, so that evidence without
collateral still gets an answer to "is it genuine"; the firmware level is ``dcap-qvl``'s verdict over Intel's collateral.
Source: Intel, ECDSA Quote Library API, appendix A.4; Intel, PCS API version 4.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from dcap_qvl import QuoteCollateralV3, QuotePolicy, QuoteVerifier

from attestation.collateral import IntelCollateral
from attestation.errors import (
    BrokenChain,
    EventLogMismatch,
    InvalidCollateral,
    InvalidQuotingEnclave,
    InvalidReportSignature,
    Revoked,
    UnacceptedTcb,
    UntrustedRoot,
)
from attestation.parsing.certificate import Certificate, certificates_from_pem
from attestation.parsing.event_log import Event, replay
from attestation.parsing.revocation import RevocationList
from attestation.parsing.tdx import Quote, TdReport
from attestation.verification.chain import order_chain, verify_chain
from attestation.verification.ecdsa import verify_raw
from attestation.verification.revocation import verify_not_on

_SCALAR = 32  # bytes of r and of s on P-256
_TCB_SIGNER = b"Intel SGX TCB Signing"  # the common name of who signs TCB information and identities
_TCB_SIGNER_CHAIN = 2  # issued by the root itself
_SGX_EXTENSION = "1.2.840.113741.1.13.1"  # what certificates of platforms have
_REFUSED: Final = "Verification failed: "
_WITHDRAWN: Final = f"{_REFUSED}TCB status is invalid: Revoked"
_BELOW: Final = (  # beginnings of what ``dcap-qvl`` says of the platform's own level, its TDX module's and its quoting enclave's
    f"{_REFUSED}No matching TCB level found",
    f"{_REFUSED}TDX module TCB level check",
    f"{_REFUSED}QE ISVSVN ",
)


@dataclass(frozen=True, slots=True)
class TcbVerdict:
    """Intel's word on the firmware.

    ``statuses`` are those of the platform as a whole, of its own level and of the quoting enclave, as in ``UpToDate``;
    ``platform`` is the platform instance (16 bytes; empty where there is none), ``fmspc`` its family in hex.
    """

    statuses: tuple[str, ...]
    advisories: tuple[str, ...]
    platform: bytes
    fmspc: str


def verify_quote(quote: Quote) -> None:
    """Check that the quote's own attestation key signed it.

    Raises:
        InvalidReportSignature: it did not, or the key is no point of P-256.
    """
    try:
        key = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), b"\x04" + quote.attestation_key)
    except ValueError:
        raise InvalidReportSignature("the attestation key is no point of the curve") from None
    _verify(key, quote.signature, quote.signed)


def verify_quoting_enclave(quote: Quote, pck: Certificate) -> None:
    """Check that the quoting enclave, which ``pck`` vouches for, made the attestation key.

    Raises:
        InvalidQuotingEnclave: its report commits to another key, or is not signed by the platform's key.
    """
    committed = hashlib.sha256(quote.attestation_key + quote.qe_authentication).digest()
    if quote.qe_report_data != committed.ljust(64, b"\0"):
        raise InvalidQuotingEnclave("the quoting enclave commits to another attestation key")
    try:
        _verify(pck.public_key, quote.qe_signature, quote.qe_report)
    except InvalidReportSignature:
        raise InvalidQuotingEnclave("the platform did not sign the quoting enclave's report") from None


def verify_event_log(report: TdReport, events: Sequence[Event]) -> None:
    """Check that the log leads to each register that it speaks of.

    Raises:
        EventLogMismatch: it does not.
    """
    for register in {event.register for event in events}:
        if replay(events, register) != report.rtmrs[register]:
            raise EventLogMismatch("the event log does not lead to a register of the quote")


def assess_tcb(quote: Quote, collateral: IntelCollateral, root: Certificate, *, now: datetime) -> TcbVerdict:
    """What Intel's collateral says of this platform at ``now``, whatever it is; ``root`` is the pinned one.

    Raises:
        Revoked: a key of the platform or of the collateral's signer is withdrawn, or the firmware's level.
        UnacceptedTcb: no level of the collateral matches the platform.
        InvalidCollateral: the collateral is not Intel's for this platform, or not of this time.
        MalformedCollateral: a certificate or a revocation list of the collateral cannot be read.
    """
    lists = [RevocationList.parse(crl) for crl in (collateral.root_ca_crl, collateral.pck_crl)]
    signers = [  # Intel signs both with one key, so that there is mostly one chain
        _verified_chain(pem, root) for pem in {collateral.tcb_info_issuer_chain, collateral.qe_identity_issuer_chain}
    ]
    for chain in signers:
        _verify_appointed(chain)
    _verify_not_withdrawn([_verified_chain(quote.chain_pem, root), *signers], lists)
    seconds = int(now.timestamp())
    try:
        claims = QuoteVerifier(root.der).verify_with_policy(
            quote.quote, _native(collateral), seconds, QuotePolicy.claims_only(seconds)
        )
    except (ValueError, OverflowError) as error:
        raise _refusal(str(error)) from None
    told: dict[str, Any] = json.loads(claims.to_json())
    platform = told["platform"]
    if str(json.loads(collateral.tcb_info).get("pceId")).lower() != bytes(platform["pck"]["pce_id"]).hex():
        raise InvalidCollateral("the collateral is for another provisioning enclave than the platform's")
    return TcbVerdict(
        # The whole may say UpToDate although the enclave's identity does not, so each is asked.
        statuses=(told["tcb"]["status"], platform["tcb_level"]["tcbStatus"], told["qe"]["tcb_level"]["tcbStatus"]),
        advisories=tuple(told["tcb"]["advisory_ids"]),
        platform=bytes(platform["pck"]["platform_instance_id"] or b""),
        fmspc=bytes(platform["pck"]["fmspc"]).hex(),
    )


def _refusal(text: str) -> Revoked | UnacceptedTcb | InvalidCollateral:
    """The library has one error with a text, which may hold words of the collateral: only its beginning counts."""
    if text == _WITHDRAWN:
        return Revoked("Intel has withdrawn the firmware level of this platform")
    if text.startswith(_BELOW):
        return UnacceptedTcb("no firmware level that Intel published matches this platform: it is below all of them")
    return InvalidCollateral("the collateral is not Intel's for this platform")


def _verify_appointed(chain: Sequence[Certificate]) -> None:
    """``dcap-qvl`` takes the word of any key under Intel's root, those of single platforms among them."""
    signer = chain[0]
    if (
        len(chain) != _TCB_SIGNER_CHAIN
        or signer.may_issue
        or _TCB_SIGNER not in signer.subject
        or _SGX_EXTENSION in signer.extensions
    ):
        raise InvalidCollateral("the collateral is signed by a key that Intel did not appoint for it")


def _verified_chain(pem: bytes | str, root: Certificate) -> tuple[Certificate, ...]:
    text = pem if isinstance(pem, bytes) else pem.encode("utf-8", "replace")
    told = [Certificate.parse(der) for der in certificates_from_pem(text)]
    chain = order_chain(told[0], [*told, root])
    try:
        verify_chain(chain, roots={root.sha256})
    except (BrokenChain, UntrustedRoot):
        raise InvalidCollateral("a chain does not lead to the root of the platform") from None
    return chain


def _verify_not_withdrawn(chains: Iterable[Sequence[Certificate]], lists: Iterable[RevocationList]) -> None:
    """``dcap-qvl`` refuses withdrawn keys as well, but says no more of them than that a chain does not hold."""
    pairs = [pair for chain in chains for pair in pairwise(chain)]
    for issuer in {issuer.der: issuer for _, issuer in pairs}.values():
        certificates = [certificate for certificate, its in pairs if its.der == issuer.der]
        for listed in lists:
            if listed.issuer == issuer.subject:
                verify_not_on(listed, issuer=issuer, certificates=certificates)


def _native(collateral: IntelCollateral) -> QuoteCollateralV3:
    return QuoteCollateralV3(
        pck_crl_issuer_chain=collateral.pck_crl_issuer_chain,
        root_ca_crl=collateral.root_ca_crl,
        pck_crl=collateral.pck_crl,
        tcb_info_issuer_chain=collateral.tcb_info_issuer_chain,
        tcb_info=collateral.tcb_info,
        tcb_info_signature=collateral.tcb_info_signature,
        qe_identity_issuer_chain=collateral.qe_identity_issuer_chain,
        qe_identity=collateral.qe_identity,
        qe_identity_signature=collateral.qe_identity_signature,
    )


def _verify(key: EllipticCurvePublicKey | RSAPublicKey, signature: bytes, data: bytes) -> None:
    r, s = (int.from_bytes(part, "big") for part in (signature[:_SCALAR], signature[_SCALAR:]))
    verify_raw(key, r, s, data, curve=SECP256R1, digest=SHA256())
