"""Bytes changed by chance, anywhere, and the list of what may differ: nobody signs it, and nothing rests on it."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Literal

from lxml import etree

from attestation import AttestationError
from attestation.collateral import Collateral
from attestation.document import CpuEvidence, CpuType, EvidenceDocument
from attestation.parsing.azure import HclReport
from attestation.parsing.certificate import certificates_from_pem
from attestation.parsing.event_log import parse_event_log
from attestation.parsing.rim import parse_manifest
from attestation.parsing.tdx import Quote
from tests.attestation.authority import amd, azure, eventlog, intel, nvidia
from tests.attestation.authority.amd import patched
from tests.attestation.machines import Machine, amd_crl, rims, tdx_machine
from tests.attestation.mutations.families import (
    FORMS,
    INTEL,
    INTEL_BYTES,
    INTEL_CHAINS,
    INTEL_TEXTS,
    MACHINES,
    P256,
    P384,
    TURIN,
    Case,
    Make,
    family,
    flipped,
    genoa,
    intel_part,
    on_azure,
    replaced,
    trust_domain,
    under_dstack,
    with_blackwell,
    with_cpu,
    with_devices,
    with_intel,
    with_item,
    with_log,
    with_report,
    with_unit,
)
from tests.attestation.mutations.fields import UNREAD
from tests.attestation.mutations.strangers import strange_intel
from tests.attestation.mutations.times import SEED

# --- What may differ ------------------------------------------------------------------------------------------------------


def _negated(report: bytes, order: int, where: slice, byteorder: Literal["little", "big"]) -> bytes:
    s = int.from_bytes(report[where], byteorder)
    return patched(report, where, (order - s).to_bytes(where.stop - where.start, byteorder))


def _with_container(field: str) -> Machine:
    hcl = HclReport.parse(on_azure().evidence.cpu.report)
    where = azure.HclBlob(report=hcl.report, claims=hcl.claims).fields()[field]
    return with_report(on_azure, partial(flipped, at=where.start))


def _without_digests(log: bytes) -> bytes:
    events = json.loads(log)
    return json.dumps([{**event, "digest": ""} if event["event"] else event for event in events]).encode()


def _first_manifest(change: Callable[[bytes], bytes]) -> Machine:
    return with_item(with_devices, "rims", 0, change)


QUOTED = intel.SIGNATURE_FIELDS[FORMS[0]]["signature"]
COMPOSE = dict(eventlog.APP)["compose-hash"].hex()
HARMLESS: dict[str, Make] = {
    # ECDSA has two signatures for each statement, (r, s) and (r, -s): both say the same, and nothing here counts signatures.
    "AMD: s negated": lambda: with_report(
        genoa, lambda report: _negated(report, P384, amd.SIGNATURE_FIELDS["s"], "little")
    ),
    "Intel: s negated": lambda: with_report(
        trust_domain, lambda report: _negated(report, P256, slice(QUOTED.start + 32, QUOTED.stop), "big")
    ),
    "NVIDIA: s negated": lambda: with_unit(
        "Hopper", lambda report: _negated(report, P384, slice(len(report) - 48, len(report)), "big")
    ),
    # Certificates beside a SEV-SNP report are a heap; of those that are needed each has a signature of its own.
    "AMD: certificates in another order": lambda: with_cpu(genoa, certificates=genoa().evidence.cpu.certificates[::-1]),
    "AMD: a certificate that is not needed": lambda: with_cpu(
        genoa, certificates=(*genoa().evidence.cpu.certificates, TURIN.root)
    ),
    "AMD: a certificate twice": lambda: with_cpu(genoa, certificates=genoa().evidence.cpu.certificates * 2),
    "AMD: certificates from a cache": lambda: with_cpu(genoa, certificates=()).with_collateral(
        amd_certificates=genoa().evidence.cpu.certificates
    ),
    # Azure's container has a header of its own, and zeros behind its claims.
    **{f"Azure: the container's {field}": partial(_with_container, field) for field in UNREAD},
    "Azure: more zeros behind the claims": lambda: with_report(on_azure, lambda blob: blob + bytes(100)),
    "Azure: no zeros behind the claims": lambda: with_report(on_azure, lambda blob: blob.rstrip(b"\0")),
    # A quote carries its chain as text, and clouds add zeros to it.
    "TDX: zeros behind the quote": lambda: with_report(trust_domain, lambda quote: quote + bytes(100)),
    "TDX: other white space in the chain": lambda: tdx_machine(
        chain=intel.pem_chain(INTEL.pck, INTEL.platform_ca, INTEL.root_ca).replace("\n", "\r\n").encode()
    ),
    # An event log explains registers. What is not measured in it is only told.
    "TDX: no event log": lambda: with_cpu(trust_domain, event_log=b""),
    "TDX: what an event of the firmware tells": lambda: with_log(
        trust_domain, partial(replaced, old="StartupLocality", new="startuplocality")
    ),
    "TDX: less of the area behind the log": lambda: with_log(
        trust_domain, lambda log: log.rstrip(b"\xff") + b"\xff" * 4
    ),
    "dstack: digits in capitals": lambda: with_log(under_dstack, partial(replaced, old=COMPOSE, new=COMPOSE.upper())),
    "dstack: white space": lambda: with_log(under_dstack, lambda log: json.dumps(json.loads(log), indent=1).encode()),
    "dstack: a member that nobody reads": lambda: with_log(
        under_dstack, partial(replaced, old='"event":', new='"unknown": 1, "event":')
    ),
    "dstack: no digests": lambda: with_log(under_dstack, _without_digests),
    # Collateral is a heap, too.
    "AMD's list twice": lambda: genoa().with_collateral(amd_crls=(amd_crl(), amd_crl())),
    "manifests in another order": lambda: with_devices().with_collateral(rims=with_devices().collateral.rims[::-1]),
    "manifests that are not needed": lambda: with_devices().with_collateral(
        rims=(*with_devices().collateral.rims, *rims("blackwell")[1:])
    ),
    "answers in another order": lambda: with_devices().with_collateral(
        ocsp_responses=with_devices().collateral.ocsp_responses[::-1]
    ),
    "answers that are not needed": lambda: with_devices().with_collateral(
        ocsp_responses=(*with_devices().collateral.ocsp_responses, *with_blackwell().collateral.ocsp_responses)
    ),
    # What a manifest's signature is over is canonical XML; its certificates stand outside.
    "manifest: white space within a tag": lambda: _first_manifest(partial(replaced, old=' name="', new='  name="')),
    "manifest: a comment": lambda: _first_manifest(partial(replaced, old="<ns0:Payload", new="<!-- --><ns0:Payload")),
    "manifest: white space at its end": lambda: _first_manifest(lambda rim: rim.rstrip(b"\n") + b" "),
    "manifest: white space in its certificates": lambda: _first_manifest(
        partial(replaced, old="</ds:X509Certificate>", new="\n</ds:X509Certificate>")
    ),
    # The signers of Intel's word lead to the pinned root, of which the copy beside them is not asked. Its list of withdrawn
    # platforms is checked under the quote's own chain.
    "Intel's chains: other white space": lambda: with_intel(
        "tcb_info_issuer_chain", intel_part("tcb_info_issuer_chain").replace("\n", "\r\n")
    ),
    "Intel's chains: another copy of the root": lambda: with_intel(
        "tcb_info_issuer_chain", intel.pem_chain(INTEL.tcb_signing, strange_intel().root_ca)
    ),
    "Intel's chains: a stranger's for the list of platforms": lambda: with_intel(
        "pck_crl_issuer_chain", intel.pem_chain(strange_intel().platform_ca, strange_intel().root_ca)
    ),
}


# --- Chance ---------------------------------------------------------------------------------------------------------------


def essence(machine: Machine) -> object:
    """What of a machine's evidence and collateral is signed, or is rested on; ``None`` if it cannot be read at all.

    Two machines of the same essence differ in nothing but what ``HARMLESS`` lists.
    """
    try:
        document = EvidenceDocument.parse(machine.document)
        log = parse_event_log(document.cpu.event_log) if document.cpu.event_log else ()
        collateral = machine.collateral
        return (
            (document.keys, document.devices, document.cpu.type, _said_by(document.cpu)),
            (document.cpu.certificates, document.cpu.tpm, log),
            (collateral.amd_crls, collateral.ocsp_responses, _said_by_intel(collateral)),
            [_said_by_manifest(rim) for rim in collateral.rims],
        )
    except AttestationError:
        return None


def _said_by(cpu: CpuEvidence) -> object:
    match cpu.type:
        case CpuType.TDX:
            quote = Quote.parse(cpu.report)
            before = quote.quote.removesuffix(quote.chain_pem)
            return before, certificates_from_pem(quote.chain_pem), quote.clean_padding
        case CpuType.SEV_SNP_AZURE:
            hcl = HclReport.parse(cpu.report)
            return hcl.report, hcl.claims
        case _:
            return cpu.report


def _said_by_intel(collateral: Collateral) -> object:
    if collateral.intel is None:
        return None
    chains = [getattr(collateral.intel, part) for part in INTEL_CHAINS[1:]]
    without = replace(collateral.intel, pck_crl_issuer_chain="", tcb_info_issuer_chain="", qe_identity_issuer_chain="")
    return without, [certificates_from_pem(chain.encode())[0] for chain in chains]


@cache
def _said_by_manifest(rim: bytes) -> object:
    root, certificates = parse_manifest(rim)
    (signature,) = root.findall(f"{{{nvidia.DSIG}}}Signature")
    (signed,) = (_canonical(part) for part in signature.iter(f"{{{nvidia.DSIG}}}SignedInfo"))
    (value,) = ("".join((part.text or "").split()) for part in signature.iter(f"{{{nvidia.DSIG}}}SignatureValue"))
    root.remove(signature)
    return _canonical(root), signed, value, certificates


def _canonical(element: etree._Element) -> bytes:
    text: bytes = etree.tostring(element, method="c14n", with_comments=False)
    return text


def flips(count: int, size: int, chance: random.Random) -> set[tuple[int, int]]:
    """Positions below ``size``, and what to change there."""
    return {(chance.randrange(size), chance.randrange(1, 256)) for _ in range(count)}


@family
def flips_by_chance() -> Iterator[Case]:
    """Every kind of evidence and collateral, its framing included."""
    chance = random.Random(SEED)  # noqa: S311 -- nothing here is secret
    for name, make in MACHINES.items():
        before = essence(make())
        assert before is not None
        for label, changed in _changed_by_chance(name, make, chance):
            if essence(changed) != before:
                yield f"{name}: {label}", partial(replace, changed)


def _changed_by_chance(name: str, make: Make, chance: random.Random) -> Iterator[tuple[str, Machine]]:
    machine = make()
    for at, mask in flips(30, len(machine.document), chance):
        changed = flipped(machine.document, at, mask)
        yield f"document, byte {at} ^ {mask}", replace(machine, document=changed)
    for at, mask in flips(30, len(machine.evidence.cpu.report), chance):
        yield f"report, byte {at} ^ {mask}", with_report(make, partial(flipped, at=at, mask=mask))
    for at, mask in flips(20, len(machine.evidence.cpu.event_log.rstrip(b"\xff")), chance) if _has_log(machine) else ():
        yield f"event log, byte {at} ^ {mask}", with_log(make, partial(flipped, at=at, mask=mask))
    for part in ("amd_crls", "rims", "ocsp_responses"):
        for number, item in enumerate(getattr(machine.collateral, part)):
            for at, mask in flips(8, len(item), chance):
                change = partial(flipped, at=at, mask=mask)
                yield f"{part} {number}, byte {at} ^ {mask}", with_item(make, part, number, change)
    if name == "dstack":
        for part in (*INTEL_BYTES, *INTEL_TEXTS, *INTEL_CHAINS):
            value = intel_part(part, make)
            data = value if isinstance(value, bytes) else value.encode()
            for at, mask in flips(24, len(data), chance):
                other = flipped(data, at, mask if isinstance(value, bytes) else mask & 0x7F or 1)
                word = other if isinstance(value, bytes) else other.decode()
                yield f"{part}, byte {at} ^ {mask}", with_intel(part, word, make)


def _has_log(machine: Machine) -> bool:
    return bool(machine.evidence.cpu.event_log)
