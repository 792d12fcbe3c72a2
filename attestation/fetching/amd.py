"""AMD's key distribution service: the certificate of a chip at a firmware level, its issuers, what AMD has withdrawn.

The service limits how often one address may ask: put a cache in front. It gives the certificates of VLEKs to cloud
providers alone; such a leaf comes from the provider, beside the report, and only its issuers and its revocation list
are here.

Source: AMD, Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification (57230). Paths and
parameters, those of Turin among them, agree with the clients virtee/snpguest and google/go-sev-guest.
"""

from typing import Final, Protocol

from attestation.fetching.errors import CannotAsk
from attestation.fetching.forms import NotInForm, from_pem, signed_object
from attestation.fetching.transport import DEADLINE, Kind, Request, Response, Transport, ask
from attestation.limits import MAX_CERTIFICATE, MAX_CRL

URL = "https://kdsintf.amd.com"
SERVICE = "AMD's key distribution service"
CHIP_ID = 64  # bytes of a report's CHIP_ID
MAX_CHAIN = 4 * MAX_CERTIFICATE  # bytes of two certificates in PEM
HARDWARE_IDS: Final = {"Milan": 64, "Genoa": 64, "Turin": 8}  # bytes of CHIP_ID that name the chip; zeros follow

Certificates = tuple[bytes, ...]
Crls = tuple[bytes, ...]


class Tcb(Protocol):
    """The firmware level that the report calls REPORTED_TCB, in parts of one byte; ``fmc`` counts on Turin alone."""

    @property
    def bootloader(self) -> int: ...
    @property
    def tee(self) -> int: ...
    @property
    def snp(self) -> int: ...
    @property
    def microcode(self) -> int: ...
    @property
    def fmc(self) -> int: ...


async def fetch_amd(
    transport: Transport, *, product: str, chip_id: bytes, tcb: Tcb, url: str = URL, deadline: float = DEADLINE
) -> tuple[Certificates, Crls]:
    """The chain of a chip's VCEK in DER, leaf first, root last, and the revocation lists of its issuers.

    Args:
        transport: how to reach the service.
        product: Milan, Genoa (Bergamo and Siena too) or Turin.
        chip_id: 64 bytes, CHIP_ID of the report. The service learns it.
        tcb: REPORTED_TCB of the report, read as the product has it.
        url: of the service, or of a mirror with the same paths.
        deadline: seconds for each of the three answers.

    Raises:
        FetchError: a document is not there.
    """
    leaf = Request("GET", vcek_url(product, chip_id, tcb, url=url), limit=MAX_CERTIFICATE, kind=Kind.CERTIFICATE)
    certificate = await ask(transport, leaf, service=SERVICE, read=_signed, deadline=deadline)
    issuers, crls = await _fetch_issuers(transport, f"{url.rstrip('/')}/vcek/v1/{product}", deadline)
    return (certificate, *issuers), crls


async def fetch_amd_issuers(
    transport: Transport, *, product: str, provider: bool, url: str = URL, deadline: float = DEADLINE
) -> tuple[Certificates, Crls]:
    """What stands above a VCEK, or with ``provider`` above a VLEK, in DER, root last, and the revocation lists.

    A VLEK itself cannot be asked for: the provider hands it out. Nothing here names a chip.

    Raises:
        FetchError: a document is not there.
    """
    _check(product)
    kind = "vlek" if provider else "vcek"
    return await _fetch_issuers(transport, f"{url.rstrip('/')}/{kind}/v1/{product}", deadline)


def vcek_url(product: str, chip_id: bytes, tcb: Tcb, *, url: str = URL) -> str:
    """The address of a VCEK. It names the chip.

    Raises:
        CannotAsk: the product is unknown, or the report hides its chip.
        ValueError: a part of ``tcb`` is not one byte, or ``chip_id`` not 64.
    """
    _check(product)
    if len(chip_id) != CHIP_ID:
        raise ValueError("a chip id is 64 bytes")
    hardware_id, rest = chip_id[: HARDWARE_IDS[product]], chip_id[HARDWARE_IDS[product] :]
    if not any(hardware_id):
        raise CannotAsk(SERVICE, "cannot be asked for this chip, because the report hides which one it is")
    if any(rest):
        raise CannotAsk(SERVICE, "cannot be asked for this chip, because its identifier is none of this product")
    parts = {"blSPL": tcb.bootloader, "teeSPL": tcb.tee, "snpSPL": tcb.snp, "ucodeSPL": tcb.microcode}
    if product == "Turin":
        parts = {"fmcSPL": tcb.fmc, **parts}
    if not all(0 <= level < 256 for level in parts.values()):
        raise ValueError("a part of a firmware level is one byte")
    query = "&".join(f"{name}={level:02}" for name, level in parts.items())
    return f"{url.rstrip('/')}/vcek/v1/{product}/{hardware_id.hex()}?{query}"


async def _fetch_issuers(transport: Transport, folder: str, deadline: float) -> tuple[Certificates, Crls]:
    chain = Request("GET", f"{folder}/cert_chain", limit=MAX_CHAIN, kind=Kind.CERTIFICATE)
    crl = Request("GET", f"{folder}/crl", limit=MAX_CRL, kind=Kind.CRL)
    issuers = await ask(transport, chain, service=SERVICE, read=_issuers, deadline=deadline)
    return issuers, (await ask(transport, crl, service=SERVICE, read=_signed, deadline=deadline),)


def _check(product: str) -> None:
    if product not in HARDWARE_IDS:
        raise CannotAsk(SERVICE, "cannot be asked for this product, which this version does not know")


def _signed(response: Response) -> bytes:
    return signed_object(response.body)


def _issuers(response: Response) -> Certificates:
    certificates = from_pem(response.body)
    if len(certificates) != 2:
        raise NotInForm("the issuers are not two certificates, ASK or ASVK and ARK")
    return certificates
