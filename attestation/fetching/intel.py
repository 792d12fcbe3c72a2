"""Intel's provisioning certification service, or a cache of it (PCCS): the nine parts of collateral for a TDX quote.

Source: Intel SGX and Intel TDX Provisioning Certification Service, API version 4
(api.portal.trustedservices.intel.com): paths, parameters, and the headers that carry the issuers. Where a PCCS differs,
Intel's SGXDataCenterAttestationPrimitives (QuoteGeneration/pccs): it writes revocation lists in hexadecimal, and has
the list of the root under a path of its own.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from urllib.parse import unquote_to_bytes

from attestation.collateral import IntelCollateral
from attestation.fetching.errors import CannotAsk
from attestation.fetching.forms import NotInForm, cut_members, from_hex, from_pem, signed_object
from attestation.fetching.transport import DEADLINE, Kind, Request, Response, Transport, ask
from attestation.limits import MAX_CRL, MAX_TCB_INFO

URL = "https://api.trustedservices.intel.com"
ROOT_CRL_URL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
SERVICE = "Intel's provisioning certification service"
FMSPC = 6  # bytes
SIGNATURE = 64  # bytes: r, then s, of ECDSA with P-256
MAX_CHAIN = 32 * 1024  # characters of a header with two certificates; real ones have about 2,600
MAX_ENVELOPE = MAX_TCB_INFO + 1024  # bytes of a signed document with its signature
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2})+\s*")


class PckCa(StrEnum):
    """Which of Intel's authorities issued the certificate in the quote: the last but one word of its issuer's name."""

    PLATFORM = "platform"
    PROCESSOR = "processor"


async def fetch_intel(
    transport: Transport, *, fmspc: bytes, ca: PckCa, url: str = URL, deadline: float = DEADLINE
) -> IntelCollateral:
    """All collateral for one family of platforms.

    Args:
        transport: how to reach the service.
        fmspc: 6 bytes, from the certificate in the quote; it names a family, not a machine.
        ca: who issued that certificate.
        url: of Intel's service, or of a PCCS. No path.
        deadline: seconds for each of the four answers.

    Raises:
        FetchError: a document is not there.
    """
    if len(fmspc) != FMSPC:
        raise CannotAsk(SERVICE, "cannot be asked for this platform, whose family is not six bytes")
    base = url.rstrip("/")
    root = ROOT_CRL_URL if base == URL else f"{base}/sgx/certification/v4/rootcacrl"
    tcb = Request(
        "GET", f"{base}/tdx/certification/v4/tcb?fmspc={fmspc.hex().upper()}", limit=MAX_ENVELOPE, kind=Kind.TCB
    )
    identity = Request("GET", f"{base}/tdx/certification/v4/qe/identity", limit=MAX_ENVELOPE, kind=Kind.TCB)
    # A PCCS writes hexadecimal, which takes twice the space.
    crl_url = f"{base}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"
    pck_crl = Request("GET", crl_url, limit=2 * MAX_CRL, kind=Kind.CRL)
    root_crl = Request("GET", root, limit=2 * MAX_CRL, kind=Kind.CRL)

    tcb_info, tcb_signature, tcb_chain = await ask(
        transport, tcb, service=SERVICE, read=partial(_read_tcb_info, fmspc), deadline=deadline
    )
    qe_identity, qe_signature, qe_chain = await ask(
        transport, identity, service=SERVICE, read=_read_qe_identity, deadline=deadline
    )
    crl, crl_chain = await ask(transport, pck_crl, service=SERVICE, read=_read_pck_crl, deadline=deadline)
    return IntelCollateral(
        pck_crl_issuer_chain=crl_chain,
        root_ca_crl=await ask(transport, root_crl, service=SERVICE, read=_read_crl, deadline=deadline),
        pck_crl=crl,
        tcb_info_issuer_chain=tcb_chain,
        tcb_info=tcb_info,
        tcb_info_signature=tcb_signature,
        qe_identity_issuer_chain=qe_chain,
        qe_identity=qe_identity,
        qe_identity_signature=qe_signature,
    )


Signed = tuple[str, bytes, str]  # the exact text, its signature, the issuers in PEM


def _read_tcb_info(fmspc: bytes, response: Response) -> Signed:
    def of_this_family(members: dict[str, object]) -> None:
        if from_hex(members.get("fmspc"), FMSPC) != fmspc:
            raise NotInForm("it is about another family of platforms")

    # The second name is that of older versions, which some caches kept.
    return _read_signed(response, "tcbInfo", ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"), of_this_family)


def _read_qe_identity(response: Response) -> Signed:
    return _read_signed(response, "enclaveIdentity", ("SGX-Enclave-Identity-Issuer-Chain",), lambda _: None)


def _read_signed(
    response: Response, name: str, chains: tuple[str, ...], check: Callable[[dict[str, object]], None]
) -> Signed:
    members = cut_members(response.body)
    if members.keys() != {name, "signature"}:
        raise NotInForm("it is not a document and its signature")
    document, text = members[name]
    if not isinstance(document, dict) or len(text) > MAX_TCB_INFO:
        raise NotInForm("the signed document is not a small object")
    check(document)
    return text, from_hex(members["signature"][0], SIGNATURE), _read_chain(response, chains)


def _read_pck_crl(response: Response) -> tuple[bytes, str]:
    return _read_crl(response), _read_chain(response, ("SGX-PCK-CRL-Issuer-Chain",))


def _read_crl(response: Response) -> bytes:
    # DER of this size begins with 0x30 0x82, of which the second is no digit: no bytes are both.
    body = bytes.fromhex(response.body.decode("ascii")) if _HEX.fullmatch(response.body) else response.body
    if len(body) > MAX_CRL:
        raise NotInForm("the revocation list is too large")
    return signed_object(body)


def _read_chain(response: Response, names: tuple[str, ...]) -> str:
    """The issuers: PEM, percent-encoded so that it fits into a header."""
    values = [value for value in (response.header(name) for name in names) if value is not None]
    if len(values) != 1 or len(values[0]) > MAX_CHAIN:
        raise NotInForm("the header with the issuers is missing, repeated or too large")
    chain = unquote_to_bytes(values[0])
    from_pem(chain)  # which leaves ASCII alone
    return chain.decode("ascii")
