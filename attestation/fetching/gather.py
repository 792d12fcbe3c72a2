"""What collateral does this evidence need? Everything that the appraisal of one document will ask for, fetched at once.

The evidence is not trusted here: it only says which documents to ask for. Requests name a chip to AMD and devices to NVIDIA;
Intel learns the family alone.
"""

from itertools import pairwise

from dcap_qvl import Quote

from attestation.collateral import NO_COLLATERAL, Collateral, IntelCollateral
from attestation.document import CpuEvidence, CpuType, DeviceEvidence, EvidenceDocument
from attestation.errors import MalformedEvidence, UnsupportedEvidence
from attestation.fetching.amd import fetch_amd, fetch_amd_issuers
from attestation.fetching.intel import PckCa, fetch_intel
from attestation.fetching.nvidia import fetch_ocsp, fetch_rim
from attestation.fetching.transport import Transport
from attestation.parsing.azure import HclReport
from attestation.parsing.certificate import Certificate
from attestation.parsing.nvidia import DeviceReport
from attestation.parsing.rim import parse_manifest
from attestation.parsing.snp import SnpReport, Tcb
from attestation.verification.nvidia import parse_chain
from attestation.verification.snp import endorsement_chain, named, provider


async def gather(transport: Transport, document: EvidenceDocument) -> Collateral:
    """Fetch what :func:`attestation.assess` needs for ``document``.

    Raises:
        FetchError: a document cannot be had.
        AttestationError: the evidence does not say what to ask for.
    """
    processor = await _for_processor(transport, document.cpu)
    rims, answers = await _for_devices(transport, document.devices)
    return Collateral(
        amd_certificates=processor.amd_certificates,
        amd_crls=processor.amd_crls,
        intel=processor.intel,
        rims=rims,
        ocsp_responses=answers,
    )


async def _for_processor(transport: Transport, cpu: CpuEvidence) -> Collateral:
    match cpu.type:
        case CpuType.SEV_SNP:
            return await _for_snp(transport, cpu.report, cpu.certificates)
        case CpuType.SEV_SNP_AZURE:
            return await _for_snp(transport, HclReport.parse(cpu.report).report, cpu.certificates)
        case CpuType.TDX:
            return Collateral(intel=await _for_tdx(transport, cpu.report))
        case CpuType.SIMULATED:
            return NO_COLLATERAL


async def _for_snp(transport: Transport, data: bytes, certificates: tuple[bytes, ...]) -> Collateral:
    """The chip's own certificate is asked for only if the host did not hand it out: the request names the chip."""
    report = SnpReport.parse(data)
    if certificates:
        chain = endorsement_chain([Certificate.parse(certificate) for certificate in certificates])
        product = named(chain[0])
        issuers, crls = await fetch_amd_issuers(transport, product=product, provider=bool(provider(chain[0])))
        return Collateral(amd_certificates=issuers, amd_crls=crls)
    if report.product is None:
        raise UnsupportedEvidence("a report of version 2 does not say which product to ask AMD for")
    tcb = Tcb.read(report.reported_tcb, report.product)
    found, crls = await fetch_amd(transport, product=report.product, chip_id=report.chip_id, tcb=tcb)
    return Collateral(amd_certificates=found, amd_crls=crls)


async def _for_tdx(transport: Transport, data: bytes) -> IntelCollateral:
    try:
        quote = Quote.parse(data)
        fmspc, authority = bytes.fromhex(quote.fmspc()), PckCa(quote.ca())
    except ValueError:
        raise MalformedEvidence("the quote does not say which family of platforms it is from") from None
    return await fetch_intel(transport, fmspc=fmspc, ca=authority)


async def _for_devices(
    transport: Transport, devices: tuple[DeviceEvidence, ...]
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Manifests and OCSP answers; devices of one kind share most of both."""
    reports = [DeviceReport.parse(device.report) for device in devices]
    names = dict.fromkeys(name for report in reports for name in (report.driver_rim, report.vbios_rim) if name)
    rims = [await fetch_rim(transport, name) for name in names]
    chains = [parse_chain(device.certificates)[1:] for device in devices]
    chains += [tuple(map(Certificate.parse, parse_manifest(rim)[1])) for rim in rims]
    questions = dict.fromkeys((one.der, issuer.der) for chain in chains for one, issuer in pairwise(chain))
    answers = [await fetch_ocsp(transport, *question) for question in questions]
    return tuple(rims), tuple(answers)
