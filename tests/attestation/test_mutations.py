"""Every change of accepted evidence is refused: whatever was flipped, cut, appended, exchanged, replayed, back-dated or respelt.

A family takes machines that a strict policy accepts and changes them in one way, many times; there are thousands of cases, and
each has to be refused with an ``AttestationError``, with nothing else, and within ``LIMIT``. Where a device is changed, the
processor signs anew over what came out, so that not the binding alone refuses it.

The other way round, ``HARMLESS`` lists all that may differ in evidence because nobody signs it and nothing rests on it. Random
changes are held to that list: one that changes nothing else is left to the parsers' taste, every other one is refused.
"""

import base64
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import permutations
from typing import Any

import pytest
from lxml import etree

from attestation import AttestationError, Weakening
from attestation.collateral import Collateral
from attestation.document import DeviceEvidence, DeviceType, EvidenceDocument
from attestation.encoding import encode
from attestation.parsing.azure import HclReport
from attestation.parsing.certificate import Certificate, certificates_from_pem
from attestation.parsing.event_log import parse_event_log
from attestation.parsing.rim import parse_manifest
from attestation.parsing.tdx import Quote
from tests.attestation.authority import amd, azure, eventlog, intel, nvidia
from tests.attestation.authority.amd import PRODUCTS, AmdAuthority, patched
from tests.attestation.machines import (
    KEYS,
    NONCE,
    NOW,
    SAFE,
    Machine,
    Unit,
    amd_authority,
    amd_crl,
    answering,
    azure_machine,
    device,
    dstack_log,
    gpu,
    intel_authority,
    intel_collateral,
    links,
    rim_signer,
    rims,
    roots,
    simulated_machine,
    snp_machine,
    switch,
    tdx_machine,
    vcek,
    vlek,
)

LIMIT = 0.050  # seconds of this process's own time for one appraisal
FEWEST = 2000
SEED = 20260601

Case = tuple[str, Callable[[], Machine]]
FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {}


def family(cases: Callable[[], Iterator[Case]]) -> Callable[[], Iterator[Case]]:
    """Register a family under its name."""
    FAMILIES[cases.__name__] = cases
    return cases


# --- The machines ---------------------------------------------------------------------------------------------------------

P384 = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
P256 = intel.P256_ORDER
FORMS = ((4, intel.TD10), (5, intel.TD10), (5, intel.TD15))
GENOA, TURIN, NVIDIA = amd_authority("Genoa"), amd_authority("Turin"), nvidia.nvidia_authority()
BOTH = roots("Genoa", "Turin")
INTEL = intel_authority()


@cache
def genoa() -> Machine:
    return replace(snp_machine(), roots=BOTH)


@cache
def turin() -> Machine:
    return replace(snp_machine("Turin", version=3), roots=BOTH)


@cache
def provider() -> Machine:
    return snp_machine(endorsed=vlek(), chain=(GENOA.asvk, GENOA.root), key_info=amd.VLEK_SIGNED)


@cache
def on_azure() -> Machine:
    return azure_machine()


@cache
def trust_domain(form: tuple[int, int]) -> Machine:
    return tdx_machine(form)


@cache
def under_dstack() -> Machine:
    return tdx_machine(FORMS[2], runtime=dstack_log(version=2))


@cache
def with_devices() -> Machine:
    return snp_machine(devices=[gpu(), switch()])


@cache
def with_blackwell() -> Machine:
    return tdx_machine(devices=[gpu(arch="blackwell")])


PROCESSORS: Mapping[str, Callable[[], Machine]] = {"Genoa": genoa, "Turin": turin, "VLEK": provider}
DOMAINS: Mapping[str, Callable[[], Machine]] = {
    f"TDX {version}, body {body}": partial(trust_domain, (version, body)) for version, body in FORMS
}
MACHINES: Mapping[str, Callable[[], Machine]] = {
    **PROCESSORS,
    **DOMAINS,
    "Azure": on_azure,
    "dstack": under_dstack,
    "devices": with_devices,
    "Blackwell": with_blackwell,
}
UNITS: Mapping[str, Callable[[], Unit]] = {
    "Hopper": gpu,
    "Blackwell": partial(gpu, arch="blackwell"),
    "LS10": switch,
}


def flipped(data: bytes, at: int, mask: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def ends(where: slice) -> list[int]:
    """The first and the last byte of a field."""
    return sorted({where.start, where.stop - 1})


def spread(size: int, count: int) -> list[int]:
    """``count`` positions below ``size``, evenly, the ends among them."""
    return sorted({round(number * (size - 1) / max(count - 1, 1)) for number in range(count)}) if size else []


def with_cpu(make: Callable[[], Machine], **parts: Any) -> Machine:
    return make().presenting(lambda document: replace(document, cpu=replace(document.cpu, **parts)))


def with_report(make: Callable[[], Machine], change: Callable[[bytes], bytes]) -> Machine:
    return with_cpu(make, report=change(make().evidence.cpu.report))


def with_tpm(**parts: Any) -> Machine:
    tpm = on_azure().evidence.cpu.tpm
    assert tpm is not None
    return with_cpu(on_azure, tpm=replace(tpm, **parts))


@cache
def answer(unit: str, nonce: bytes) -> bytes:
    return UNITS[unit]().device.report(nonce)


def with_unit(unit: str, change: Callable[[bytes], bytes]) -> Machine:
    """A machine whose one device reports what came out of a change, and whose processor signed for it.

    Reference values and revocation are not asked for: the report has to fail by itself.
    """
    machine = snp_machine(devices=[UNITS[unit](answer=lambda _, nonce: change(answer(unit, nonce)))])
    lenient = {Weakening.UNSAFE_SKIP_GPU_REFERENCE_VALUES, Weakening.UNSAFE_SKIP_GPU_REVOCATION}
    return machine.under(unsafe=frozenset(lenient))


def with_chain(unit: str, chain: Sequence[bytes]) -> Machine:
    """A machine whose one device shows other certificates; the processor signed for it."""
    made = UNITS[unit]()
    return snp_machine(devices=[replace(made, device=replace(made.device, chain=tuple(chain)))])


def with_parts(make: Callable[[], Machine], **parts: Any) -> Machine:
    return make().with_collateral(**parts)


def with_item(make: Callable[[], Machine], part: str, number: int, change: Callable[[bytes], bytes]) -> Machine:
    """One item of a list of the collateral is another one."""
    items = list(getattr(make().collateral, part))
    items[number] = change(items[number])
    return with_parts(make, **{part: tuple(items)})


def with_intel(make: Callable[[], Machine], part: str, change: Callable[[Any], Any]) -> Machine:
    collateral = make().collateral.intel
    assert collateral is not None
    changed: dict[str, Any] = {part: change(getattr(collateral, part))}
    return with_parts(make, intel=replace(collateral, **changed))


INTEL_BYTES = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
INTEL_TEXTS = ("tcb_info", "qe_identity", "pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")


# --- Flipped fields -------------------------------------------------------------------------------------------------------


@family
def fields_of_amd() -> Iterator[Case]:
    for name, make in PROCESSORS.items():
        for field, where in (*amd.FIELDS.items(), *amd.SIGNATURE_FIELDS.items()):
            for at in ends(where):
                yield f"{name}: {field}, byte {at}", partial(with_report, make, partial(flipped, at=at))


@family
def fields_of_intel() -> Iterator[Case]:
    for form, (name, make) in zip(FORMS, DOMAINS.items(), strict=True):
        for field, where in (*intel.FIELDS[form].items(), *intel.SIGNATURE_FIELDS[form].items()):
            for at in ends(where):
                yield f"{name}: {field}, byte {at}", partial(with_report, make, partial(flipped, at=at))


UNREAD = ("version", "content_size", "request_type", "status", "reserved", "claims_data_size")  # of Azure's container


@family
def fields_of_azure() -> Iterator[Case]:
    cpu = on_azure().evidence.cpu
    hcl = HclReport.parse(cpu.report)
    blob = azure.HclBlob(report=hcl.report, claims=hcl.claims).fields()
    for field, where in blob.items():
        if field not in UNREAD:
            at = where.start if field != "padding" else where.stop - 1
            yield f"container: {field}", partial(with_report, on_azure, partial(flipped, at=at))
    for field, where in amd.FIELDS.items():
        at = blob["report"].start + where.start
        yield f"report: {field}", partial(with_report, on_azure, partial(flipped, at=at))
    for at in spread(len(hcl.claims), 80):
        change = partial(flipped, at=blob["claims"].start + at)
        yield f"claims: byte {at}", partial(with_report, on_azure, change)


@family
def fields_of_the_virtual_tpm() -> Iterator[Case]:
    tpm = on_azure().evidence.cpu.tpm
    assert tpm is not None
    for field, where in azure.Quote(extra_data=bytes(32)).fields().items():
        for at in ends(where):
            yield f"message: {field}, byte {at}", partial(with_tpm, message=flipped(tpm.message, at))
    for at in spread(len(tpm.signature), 16):
        yield f"signature: byte {at}", partial(with_tpm, signature=flipped(tpm.signature, at))
    for number, register in enumerate(tpm.pcrs):
        pcrs = (*tpm.pcrs[:number], flipped(register, number), *tpm.pcrs[number + 1 :])
        yield f"register {number}", partial(with_tpm, pcrs=pcrs)


@family
def fields_of_nvidia() -> Iterator[Case]:
    for unit in UNITS:
        for field, where in nvidia.fields(answer(unit, bytes(32))).items():
            kind, _, index = field.partition("[")
            if kind == "measurement" and int(index.partition("]")[0]) % 3:
                continue  # all measurements have the same form
            for at in ends(where)[-1:]:
                yield f"{unit}: {field}", partial(with_unit, unit, partial(flipped, at=at))


@family
def bytes_of_certificates() -> Iterator[Case]:
    for name, make in PROCESSORS.items():
        chain = make().evidence.cpu.certificates
        for number, certificate in enumerate(chain):
            for at in spread(len(certificate), 24):
                changed = (*chain[:number], flipped(certificate, at), *chain[number + 1 :])
                yield f"{name}: certificate {number}, byte {at}", partial(with_cpu, make, certificates=changed)
    for unit, made in UNITS.items():
        chain = made().device.chain
        for number, certificate in enumerate(chain):
            for at in spread(len(certificate), 8):
                changed = (*chain[:number], flipped(certificate, at), *chain[number + 1 :])
                yield f"{unit}: certificate {number}, byte {at}", partial(with_chain, unit, changed)


# --- Cut, and added to ----------------------------------------------------------------------------------------------------


def resized(data: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    for size in spread(len(data), count):
        yield f"cut to {size}", data[:size]
    for added in (b"\x01", bytes(15) + b"\x01", data[:16]):
        yield f"{len(added)} bytes added", data + added
    yield "a byte in front", b"\0" + data
    yield "twice", data + data


@family
def sizes_of_reports() -> Iterator[Case]:
    for name, make in MACHINES.items():
        if name in {"devices", "Blackwell"}:
            continue
        for label, changed in resized(make().evidence.cpu.report, 24):
            yield f"{name}: {label}", partial(with_cpu, make, report=changed)
    for unit in UNITS:
        for number, (label, _) in enumerate(resized(answer(unit, bytes(32)), 10)):
            change = partial(lambda report, number: list(resized(report, 10))[number][1], number=number)
            yield f"{unit}: {label}", partial(with_unit, unit, change)
    tpm = on_azure().evidence.cpu.tpm
    assert tpm is not None
    for label, changed in resized(tpm.message, 16):
        yield f"the TPM's quote: {label}", partial(with_tpm, message=changed)
    for label, changed in resized(tpm.signature, 8):
        yield f"the TPM's signature: {label}", partial(with_tpm, signature=changed)


@family
def sizes_of_documents() -> Iterator[Case]:
    for name, make in MACHINES.items():
        for label, changed in resized(make().document, 12):
            yield f"{name}: {label}", partial(replace, make(), document=changed)


@family
def sizes_of_collateral() -> Iterator[Case]:
    for label, changed in resized(amd_crl(), 12):
        yield f"AMD's list: {label}", partial(with_parts, genoa, amd_crls=(changed,))
    make = DOMAINS["TDX 4, body 2"]
    collateral = make().collateral.intel
    assert collateral is not None
    for part in INTEL_BYTES:
        for label, changed in resized(getattr(collateral, part), 8):
            yield f"Intel's {part}: {label}", partial(with_intel, make, part, lambda _, changed=changed: changed)
    for part in INTEL_TEXTS[:2]:
        text: str = getattr(collateral, part)
        for size in spread(len(text), 8)[:-1]:
            yield f"Intel's {part}: cut to {size}", partial(with_intel, make, part, lambda text, size=size: text[:size])
        yield f"Intel's {part}: a space added", partial(with_intel, make, part, lambda text: text + " ")
    for part, number in (("ocsp_responses", 0), ("ocsp_responses", 3), ("rims", 0), ("rims", 1)):
        for label, changed in resized(getattr(with_devices().collateral, part)[number], 6):
            change = partial(lambda _, changed: changed, changed=changed)
            yield f"NVIDIA's {part} {number}: {label}", partial(with_item, with_devices, part, number, change)


# --- Numbers of signatures ------------------------------------------------------------------------------------------------


def numbers(order: int, top: int) -> dict[str, int]:
    return {"0": 0, "1": 1, "the order": order, "the order and one": order + 1, "all ones": top}


def signatures(order: int, top: int, true: tuple[int, int]) -> Iterator[tuple[str, int, int]]:
    r, s = true
    special = numbers(order, top)
    for name, number in special.items():
        yield f"r is {name}", number, s
        yield f"s is {name}", r, number
        for other, value in special.items():
            yield f"r is {name}, s is {other}", number, value
    yield "r and s exchanged", s, r
    yield "r negated", order - r, s


@family
def signatures_of_amd() -> Iterator[Case]:
    for name, make in PROCESSORS.items():
        report = make().evidence.cpu.report
        r, s = (int.from_bytes(report[amd.SIGNATURE_FIELDS[part]], "little") for part in "rs")
        forms = [
            *signatures(P384, (1 << 384) - 1, (r, s)),
            ("r and the order", r + P384, s),
            ("s and the order", r, s + P384),
            ("s and a bit above it", r, s | 1 << 400),
            ("r as large as its field", (1 << 576) - 1, s),
        ]
        for label, *pair in forms:
            changed = report[: amd.SIGNED_SIZE] + amd.signature(*pair)
            yield f"{name}: {label}", partial(with_cpu, make, report=changed)


@family
def signatures_of_intel() -> Iterator[Case]:
    top = (1 << 256) - 1
    for form, (name, make) in zip(FORMS, DOMAINS.items(), strict=True):
        for field in ("signature", "qe_signature"):
            where = intel.SIGNATURE_FIELDS[form][field]
            true = make().evidence.cpu.report[where]
            pair = int.from_bytes(true[:32], "big"), int.from_bytes(true[32:], "big")
            for label, r, s in signatures(P256, top, pair):
                change = partial(patched, where=where, value=intel.raw_signature(r, s))
                yield f"{name}: {field}, {label}", partial(with_report, make, change)
        key = intel.SIGNATURE_FIELDS[form]["attestation_key"]
        for label, value in {"no key": bytes(64), "no point": b"\1" * 64}.items():
            yield f"{name}: {label}", partial(with_report, make, partial(patched, where=key, value=value))
    make = DOMAINS["TDX 4, body 2"]
    collateral = make().collateral.intel
    assert collateral is not None
    for part in ("tcb_info_signature", "qe_identity_signature"):
        true = getattr(collateral, part)
        pair = int.from_bytes(true[:32], "big"), int.from_bytes(true[32:], "big")
        for label, r, s in signatures(P256, top, pair):
            value = intel.raw_signature(r, s)
            yield f"{part}: {label}", partial(with_intel, make, part, lambda _, value=value: value)


@family
def signatures_of_nvidia() -> Iterator[Case]:
    def change(report: bytes, number: int) -> bytes:
        pair = int.from_bytes(report[-96:-48], "big"), int.from_bytes(report[-48:], "big")
        _, r, s = list(signatures(P384, (1 << 384) - 1, pair))[number]
        return report[:-96] + nvidia.raw_signature(r, s)

    for unit in UNITS:
        for number, (label, _, _) in enumerate(signatures(P384, (1 << 384) - 1, (1, 2))):
            yield f"{unit}: {label}", partial(with_unit, unit, partial(change, number=number))


# --- Algorithms that prove nothing ----------------------------------------------------------------------------------------

NO_SIGNATURE = bytes.fromhex("300a06082b06010505070602")  # id-alg-noSignature (RFC 8737, and CMC)
NULL = bytes.fromhex("3000")


def unsigned_certificate(certificate: bytes, algorithm: bytes, signature: bytes) -> bytes:
    """The certificate with another algorithm, inside and outside."""
    parsed = Certificate.parse(certificate)
    body = parsed.to_be_signed
    content = body[4:].replace(parsed.signature_algorithm, algorithm, 1)
    return nvidia.der(0x30, nvidia.der(0x30, content), algorithm, nvidia.der(3, b"\0" + signature))


@family
def certificates_without_a_signature() -> Iterator[Case]:
    forms = [(algorithm, signature) for algorithm in (NO_SIGNATURE, NULL) for signature in (b"", bytes(64))]
    for name, make in PROCESSORS.items():
        chain = make().evidence.cpu.certificates
        for number, certificate in enumerate(chain):
            for kind, form in enumerate(forms):
                bare = unsigned_certificate(certificate, *form)
                changed = (*chain[:number], bare, *chain[number + 1 :])
                yield f"{name}: certificate {number}, form {kind}", partial(with_cpu, make, certificates=changed)
    for unit, made in UNITS.items():
        chain = made().device.chain
        for number, certificate in enumerate(chain):
            for kind, form in enumerate(forms):
                changed = (*chain[:number], unsigned_certificate(certificate, *form), *chain[number + 1 :])
                yield f"{unit}: certificate {number}, form {kind}", partial(with_chain, unit, changed)
    issuers = (INTEL.pck, INTEL.platform_ca, INTEL.root_ca)
    for number, _ in enumerate(issuers):
        for kind, form in enumerate(forms):
            chain = tuple(
                unsigned_certificate(issued.der, *form) if index == number else issued.der
                for index, issued in enumerate(issuers)
            )
            yield f"TDX: certificate {number}, form {kind}", partial(tdx_machine, chain=pem(chain))


def pem(chain: Iterable[bytes]) -> bytes:
    bodies = (base64.encodebytes(certificate).decode() for certificate in chain)
    return "".join(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n" for body in bodies).encode()


def tokens(data: bytes) -> Iterator[tuple[str, bytes]]:
    """``data`` as a token that asks not to be verified: JWS (RFC 7515), CWT (RFC 8392), and NVIDIA's detached EAT bundle."""

    def part(value: object) -> str:
        text = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    claims = {
        "eat_nonce": NONCE.hex(),
        "measres": "success",
        "x-nvidia-overall-att-result": True,
        "evidence": part(data),
    }
    for algorithm in ("none", "None", "NONE", "", "HS256"):
        token = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}."
        yield f"a token, alg {algorithm!r}", token.encode()
        yield f"a token around the bytes, alg {algorithm!r}", f"{part({'alg': algorithm})}.{part(data)}.".encode()
        yield f"a detached bundle, alg {algorithm!r}", json.dumps([["JWT", token], {"GPU-0": token}]).encode()
    yield "a token without a signature part", f"{part({'alg': 'none'})}.{part(claims)}".encode()
    yield "COSE without a signature", bytes.fromhex("d28443a10100a0") + b"\x44" + data[:4] + b"\x40"


@family
def tokens_that_ask_not_to_be_verified() -> Iterator[Case]:
    for name, make in {"Genoa": genoa, "TDX": DOMAINS["TDX 4, body 2"], "Azure": on_azure}.items():
        for label, token in tokens(make().document):
            yield f"{name}: document, {label}", partial(replace, make(), document=token)
        for label, token in tokens(make().evidence.cpu.report):
            yield f"{name}: report, {label}", partial(with_cpu, make, report=token)
    for unit in UNITS:
        for number, (label, _) in enumerate(tokens(b"")):
            change = partial(lambda report, number: list(tokens(report))[number][1], number=number)
            yield f"{unit}: report, {label}", partial(with_unit, unit, change)


METHODS = {
    "none": nvidia.NO_SIGNATURE,
    "ECDSA with SHA-256": nvidia.ECDSA_SHA256,
    "HMAC under the public key": nvidia.HMAC_SHA384,
    "empty name": replace(nvidia.NO_SIGNATURE, uri=""),
    "true name, no signature": replace(nvidia.ECDSA_SHA384, sign=lambda _key, _data: b""),
    "true name, zeros": replace(nvidia.ECDSA_SHA384, sign=lambda _key, _data: bytes(96)),
    "true name, DER": replace(nvidia.ECDSA_SHA384, sign=lambda _key, _data: bytes.fromhex("3006020101020101")),
}
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
NAMES = {
    f"{MORE}ecdsa-sha384": [
        "none",
        "",
        f"{MORE}hmac-sha384",
        f"{MORE}ecdsa-sha256",
        f"{MORE}rsa-sha384",
        "http://www.w3.org/2000/09/xmldsig#hmac-sha1",
        "http://www.w3.org/2000/09/xmldsig#dsa-sha1",
        "http://www.w3.org/2021/04/xmldsig-more#eddsa-ed25519",
    ],
    f"{MORE}sha384": ["none", "", "http://www.w3.org/2000/09/xmldsig#sha1", "http://www.w3.org/2001/04/xmlenc#sha256"],
    "http://www.w3.org/2000/09/xmldsig#enveloped-signature": [
        "",
        "http://www.w3.org/TR/1999/REC-xpath-19991116",
        "http://www.w3.org/2002/06/xmldsig-filter2",
        "http://www.w3.org/TR/1999/REC-xslt-19991116",
        "http://www.w3.org/2000/09/xmldsig#base64",
    ],
    nvidia.C14N_11: [
        "",
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315#WithComments",
        "http://www.w3.org/2001/10/xml-exc-c14n#",
        "http://www.w3.org/2006/12/xml-c14n11#WithComments",
    ],
}


def replaced(data: bytes, old: str, new: str, count: int = -1) -> bytes:
    changed = data.replace(old.encode(), new.encode(), count)
    assert changed != data
    return changed


@family
def manifests_with_another_algorithm() -> Iterator[Case]:
    kinds = list(enumerate(nvidia.KINDS))
    for number, kind in kinds:
        for label, algorithm in METHODS.items():
            rim = partial(NVIDIA.rim, kind, signer=rim_signer("hopper"), algorithm=algorithm)
            change = partial(lambda _, rim: rim(), rim=rim)
            yield f"{kind}: signed with {label}", partial(with_item, with_devices, "rims", number, change)
        for old, new in ((old, new) for old, names in NAMES.items() for new in names):
            change = partial(replaced, old=f'"{old}"', new=f'"{new}"')
            yield f"{kind}: {old} named {new!r}", partial(with_item, with_devices, "rims", number, change)
    for label, edit in {
        "no signature": lambda rim: etree.tostring(_without_signature(rim)),
        "two signatures": lambda rim: _with_second_signature(rim),
        "no key": lambda rim: replaced(rim, "X509Certificate", "X509Certificat"),
        "another reference": lambda rim: replaced(rim, 'URI=""', 'URI="#x"'),
        "a document type": lambda rim: b"<!DOCTYPE SoftwareIdentity []>" + rim,
        "an entity": lambda rim: b'<!DOCTYPE SoftwareIdentity [<!ENTITY x "y">]>' + rim,
        "wrapped": lambda rim: b"<SoftwareIdentity>" + rim + b"</SoftwareIdentity>",
        "everything inactive": lambda rim: replaced(rim, 'active="True"', 'active="False"'),
        "everything active": lambda rim: replaced(rim, 'active="False"', 'active="True"'),
        "one index more": lambda rim: replaced(rim, 'index="63"', 'index="64"'),
        "digests in capitals": lambda rim: _upper(rim),
        "another version": lambda rim: replaced(rim, "colloquialVersion", "colloquialversion"),
        "another edition": lambda rim: replaced(rim, 'edition="GPU"', 'edition="CPU"'),
        "a comment": lambda rim: replaced(rim, "<ns0:Payload", "<!-- --><ns0:Payload") + b" " * 0 + b"<",
        "a second payload": lambda rim: replaced(rim, "<ns0:Entity", "<ns0:Payload/><ns0:Entity"),
        "no alternatives": lambda rim: replaced(rim, 'alternatives="1"', 'alternatives="0"'),
    }.items():
        for number, kind in kinds:
            yield f"{kind}: {label}", partial(with_item, with_devices, "rims", number, edit)


def _without_signature(rim: bytes) -> etree._Element:
    root = etree.fromstring(rim)
    for signature in root.findall(f"{{{nvidia.DSIG}}}Signature"):
        root.remove(signature)
    return root


def _with_second_signature(rim: bytes) -> bytes:
    start, end = rim.index(b"<ds:Signature"), rim.index(b"</ds:Signature>") + len(b"</ds:Signature>")
    return rim[:end] + rim[start:end] + rim[end:]


def _upper(rim: bytes) -> bytes:
    digest = nvidia.golden("driver")[21][0].hex(), nvidia.golden("vbios")[1][0].hex()
    for one in digest:
        if one.encode() in rim:
            return replaced(rim, one, one.upper())
    raise AssertionError


# --- Certificates of others -----------------------------------------------------------------------------------------------


@cache
def strange_amd() -> AmdAuthority:
    return AmdAuthority("Genoa", owner="a stranger")


@cache
def strange_nvidia() -> nvidia.NvidiaAuthority:
    return nvidia.NvidiaAuthority()


@cache
def strange_intel() -> intel.IntelAuthority:
    return intel.IntelAuthority()


@family
def certificates_of_other_chips() -> Iterator[Case]:
    stranger = strange_amd()
    theirs, _ = stranger.vcek()
    another, _ = GENOA.vcek(chip_id=b"\7" * 64)
    lower, _ = GENOA.vcek(tcb=replace(PRODUCTS["Genoa"].tcb, snp=0x16))
    mine, ask, root = vcek()[0], GENOA.ask, GENOA.root
    chains: dict[str, Sequence[bytes]] = {
        "nothing": (),
        "another chip's": (another, ask, root),
        "another level's": (lower, ask, root),
        "another product's": (vcek("Turin")[0], TURIN.ask, TURIN.root),
        "another product's under this root": (vcek("Turin")[0], ask, root),
        "this chip's under another product": (mine, TURIN.ask, TURIN.root),
        "a provider's": (vlek()[0], GENOA.asvk, root),
        "a provider's under the chips' intermediate": (vlek()[0], ask, root),
        "a chip's under the providers' intermediate": (mine, GENOA.asvk, root),
        "a stranger's": (theirs, stranger.ask, stranger.root),
        "a stranger's leaf": (theirs, ask, root),
        "a stranger's leaf and intermediate": (theirs, stranger.ask, root),
        "a stranger's intermediate": (mine, stranger.ask, root),
        "a stranger's root": (mine, ask, stranger.root),
        "a stranger's root behind AMD's": (mine, ask, root, stranger.root),
        "a stranger's intermediate behind AMD's": (mine, ask, root, stranger.ask),
        "no intermediate": (mine, root),
        "no root": (mine, ask),
        "no leaf": (ask, root),
        "the root alone": (root,),
        "the leaf alone": (mine,),
        "another chip's first": (another, mine, ask, root),
        "a stranger's first": (theirs, mine, ask, root, stranger.ask, stranger.root),
    }
    for label, chain in chains.items():
        yield f"Genoa: {label}", partial(with_cpu, genoa, certificates=tuple(chain))
        yield f"Azure: {label}", partial(with_cpu, on_azure, certificates=tuple(chain))
    for label, issuer in {
        "AMD's root": replace(stranger.issuer("ARK"), common_name="ARK-Genoa"),
        "the intermediate": replace(stranger.issuer("ASK"), common_name="SEV-Genoa"),
        "the leaf itself": amd.Issuer("SEV-VCEK", stranger.issuer("ASK").key),
    }.items():
        leaf, key = GENOA.vcek(issuer=issuer)
        yield f"issued in the name of {label}", partial(snp_machine, endorsed=(leaf, key))


@family
def certificates_of_other_devices() -> Iterator[Case]:
    stranger = strange_nvidia()
    for unit, made in UNITS.items():
        mine = made().device
        other, strange = device(mine.arch, 1), stranger.device(mine.arch)
        blackwell = device("blackwell" if mine.arch != "blackwell" else "hopper", 0)
        chains: dict[str, Sequence[bytes]] = {
            "nothing": (),
            "another device's": other.chain,
            "another product's": blackwell.chain,
            "another device's leaf": (other.chain[0], *mine.chain[1:]),
            "another device's certificate": (mine.chain[0], other.chain[1], *mine.chain[2:]),
            "a stranger's": strange.chain,
            "a stranger's with NVIDIA's root": (*strange.chain[:4], mine.chain[4]),
            "a stranger's leaf": (strange.chain[0], *mine.chain[1:]),
            "another product's provisioner": (*mine.chain[:2], *blackwell.chain[2:]),
            "six certificates": (*mine.chain, mine.chain[4]),
            "the leaf twice": (mine.chain[0], *mine.chain[:4]),
            "the signers of manifests": (*mine.chain[:2], *rim_signer(mine.arch).chain[1:]),
            "the root of manifests": (*mine.chain[:4], NVIDIA.rim_root),
        }
        for label, chain in chains.items():
            yield f"{unit}: {label}", partial(with_chain, unit, chain)
        for count in range(1, 5):
            yield f"{unit}: {count} certificates", partial(with_chain, unit, mine.chain[:count])
        for order in permutations(range(5)):
            if sum(at != number for at, number in enumerate(order)) == 2:  # two exchanged
                yield f"{unit}: in the order {order}", partial(with_chain, unit, [mine.chain[at] for at in order])
        for label, change in {
            "a leaf of another key": {"leaf_signed_by": nvidia.new_key()},
            "a device that may not certify": {"device_is_ca": False},
            "no early firmware": {"dice": b""},
            "other early firmware": {"certified_fwid": bytes(48)},
        }.items():
            broken = NVIDIA.device(mine.arch, **change)  # type: ignore[arg-type]
            if unit != "LS10" or "other" not in label:  # switches name no firmware in their reports
                yield f"{unit}: {label}", partial(snp_machine, devices=[replace(made(), device=broken)])


@family
def certificates_of_other_platforms() -> Iterator[Case]:
    stranger = strange_intel()
    mine = (INTEL.pck, INTEL.platform_ca, INTEL.root_ca)
    theirs = (stranger.pck, stranger.platform_ca, stranger.root_ca)
    other = INTEL.issue_pck(replace(INTEL.platform, ppid=bytes(16)))
    processor = intel.issue("Intel SGX PCK Processor CA", INTEL.root_ca, path_length=0)
    chains: dict[str, Sequence[intel.Issued]] = {
        "another platform's": (other, *mine[1:]),
        "a stranger's": theirs,
        "the leaf alone": mine[:1],
        "no root": mine[:2],
        "no intermediate": (mine[0], mine[2]),
        "no leaf": mine[1:],
        "another intermediate": (mine[0], processor, mine[2]),
        "the signer of TCB information": (mine[0], INTEL.tcb_signing, mine[2]),
        "a stranger behind": (*mine, stranger.root_ca),
        **{f"mixed {mask:03b}": [(theirs if mask >> at & 1 else mine)[at] for at in range(3)] for mask in range(1, 8)},
        **{f"in the order {order}": [mine[at] for at in order] for order in list(permutations(range(3)))[1:]},
    }
    for label, chain in chains.items():
        yield label, partial(tdx_machine, chain=intel.pem_chain(*chain).encode())
    for label, pck in {"another platform's key": other, "a stranger's key": stranger.pck}.items():
        yield label, partial(tdx_machine, pck=pck, chain=intel.pem_chain(*mine).encode())
    for label, key in {"another attestation key": intel.new_key(), "a stranger's": stranger.attestation_key}.items():
        yield label, partial(tdx_machine, attestation_key=key, public_key=intel.raw_public_key(INTEL.attestation_key))
        yield (
            f"{label}, named",
            partial(
                tdx_machine,
                attestation_key=key,
                qe_body=intel.qe_report(intel.raw_public_key(INTEL.attestation_key)),
            ),
        )


@family
def collateral_of_others() -> Iterator[Case]:
    serial = PRODUCTS["Genoa"].serials["ASK"]
    stranger = strange_amd()
    lists = {
        "none": (),
        "another product's": (amd_crl("Turin"),),
        "a stranger's": (stranger.crl(),),
        "a stranger's behind AMD's": (amd_crl(), stranger.crl()),
        "the intermediate's": (GENOA.crl(issuer=GENOA.issuer("ASK")),),
        "one with the intermediate on it": (GENOA.crl(revoked=[1, serial]),),
        "the one before last": (GENOA.crl(revoked=[serial]), amd_crl()),
        "a certificate": (GENOA.root,),
    }
    for label, crls in lists.items():
        yield f"AMD's list: {label}", partial(with_parts, genoa, amd_crls=crls)
    domain = DOMAINS["TDX 4, body 2"]
    theirs = strange_intel().collateral()
    for part in (*INTEL_BYTES, *INTEL_TEXTS):
        value: Any = bytes.fromhex(theirs[part]) if part in INTEL_BYTES else theirs[part]
        yield f"Intel's {part}: a stranger's", partial(with_intel, domain, part, lambda _, value=value: value)
        empty: Any = b"" if part in INTEL_BYTES else ""
        yield f"Intel's {part}: empty", partial(with_intel, domain, part, lambda _, empty=empty: empty)
    changes: list[dict[str, Any]] = [
        {"fmspc": bytes(6)},
        {"status": "OutOfDate"},
        {"status": "Revoked"},
        {"qe_status": "OutOfDate"},
        {"module_status": "Revoked"},
        {"levels": []},
        {"tcb_info": {"id": "SGX"}},
        {"tcb_info": {"version": 2}},
        {"tcb_info": {"tdxModuleIdentities": []}},
        {"qe_identity": {"id": "QE"}},
        {"qe_identity": {"isvprodid": 1}},
        {"qe_identity": {"mrsigner": "00" * 32}},
        {"qe_identity": {"tcbLevels": []}},
        {"qe_identity": {"miscselect": "00000001"}},
        {"revoked_by_platform_ca": [INTEL.pck.serial]},
        {"revoked_by_root": [INTEL.platform_ca.serial]},
        {"revoked_by_root": [INTEL.tcb_signing.serial]},
        {"tcb_signing": INTEL.platform_ca},
        {"tcb_signing": INTEL.pck},
        {"tcb_signing": strange_intel().tcb_signing},
    ]
    for change in changes:
        yield f"Intel says {change}"[:60], lambda change=change: with_parts(domain, intel=intel_collateral(**change))  # type: ignore[misc]
    for name, link in enumerate(links([gpu(), switch()])):
        for label, keywords in {
            "revoked": {"status": "revoked"},
            "unknown": {"status": "unknown"},
            "a stranger's": {"responder": "stranger"},
            "nobody's": {"responder": "no_ocsp_signing"},
        }.items():
            change_of = partial(lambda _, link, keywords: NVIDIA.ocsp(*link, **keywords), link=link, keywords=keywords)
            yield f"answer {name}: {label}", partial(with_item, with_devices, "ocsp_responses", name, change_of)
        yield f"answer {name}: missing", partial(without_item, "ocsp_responses", name)
    for number in range(3):
        yield f"manifest {number}: missing", partial(without_item, "rims", number)
    for number, kind in enumerate(nvidia.KINDS):
        strange = strange_nvidia()
        signer = strange.rim_signer()
        mixed = replace(signer, chain=(signer.chain[0], *rim_signer("hopper").chain[1:]))
        for label, rim in {
            "a stranger's": partial(strange.rim, kind),
            "a stranger's under NVIDIA's chain": partial(NVIDIA.rim, kind, signer=mixed),
            "a device's": partial(NVIDIA.rim, kind, signer=nvidia.Signer(gpu().device.key, gpu().device.chain)),
            "another family's": partial(NVIDIA.rim, kind, arch="blackwell", signer=rim_signer("blackwell")),
            "of other values": partial(
                NVIDIA.rim, kind, {7 if kind == "driver" else 1: (bytes(48),)}, signer=rim_signer("hopper")
            ),
            "of no values": partial(NVIDIA.rim, kind, {}, signer=rim_signer("hopper"))
            if kind == "vbios"
            else partial(NVIDIA.rim, kind, version="1"),
        }.items():
            change_of = partial(lambda _, rim: rim(), rim=rim)
            yield f"manifest of {kind}: {label}", partial(with_item, with_devices, "rims", number, change_of)


def without_item(part: str, number: int) -> Machine:
    items = getattr(with_devices().collateral, part)
    return with_parts(with_devices, **{part: (*items[:number], *items[number + 1 :])})


# --- Times ----------------------------------------------------------------------------------------------------------------

DAYS = (41, 45, 60, 90, 180, 365, 1000, 4000, 10_000, 100_000, 700_000)
ENDS = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@family
def times_at_which_nothing_is_valid() -> Iterator[Case]:
    for name, make in MACHINES.items():
        for days in DAYS:
            for sign in (-1, 1):
                now = NOW + sign * timedelta(days=days)
                yield f"{name}: {sign * days} days", partial(replace, make(), now=now)
        for now in ENDS:
            yield f"{name}: {now.year}", partial(replace, make(), now=now)
        for moment, label in ((NOW - HOUR, "ended"), (NOW + HOUR, "not begun")):
            field = "valid_until" if label == "ended" else "valid_from"
            yield f"{name}: the policy has {label}", partial(make().under, **{field: moment})


@family
def collateral_of_another_time() -> Iterator[Case]:
    late = [
        (NOW - 20 * DAY, NOW - timedelta(seconds=1)),
        (NOW - 400 * DAY, NOW - 300 * DAY),
        (NOW - 2 * DAY, NOW - DAY),
    ]
    early = [(NOW + timedelta(seconds=301), NOW + DAY), (NOW + DAY, NOW + 2 * DAY), (NOW + 400 * DAY, NOW + 500 * DAY)]
    for since, until in (*late, *early):
        crl = partial(GENOA.crl, this_update=since, next_update=until)
        yield f"AMD's list of {since}", lambda crl=crl: with_parts(genoa, amd_crls=(crl(),))  # type: ignore[misc]
        for part in ("tcb_info", "qe_identity", "pck_crl", "root_crl"):
            change: dict[str, Any] = {f"{part}_window": (since, until)}
            yield (
                f"Intel's {part} of {since}",
                lambda change=change: with_parts(  # type: ignore[misc]
                    DOMAINS["TDX 4, body 2"], intel=intel_collateral(**change)
                ),
            )
        for number, link in enumerate(links([gpu(), switch()])):
            ocsp = partial(
                lambda _, link, window: NVIDIA.ocsp(*link, this_update=window[0], next_update=window[1]), link=link
            )
            yield (
                f"answer {number} of {since}",
                partial(with_item, with_devices, "ocsp_responses", number, partial(ocsp, window=(since, until))),
            )
    for label, life in {"yesterday": (NOW - 9 * DAY, NOW - DAY), "tomorrow": (NOW + DAY, NOW + 9 * DAY)}.items():
        yield f"a chip of {label}", partial(_chip_of, life)
        yield f"a platform of {label}", partial(tdx_machine, pck=INTEL.issue_pck(valid=life))
        for unit, made in UNITS.items():
            old = NVIDIA.device(made().device.arch, life=life)
            yield f"{unit} of {label}", partial(snp_machine, devices=[replace(made(), device=old)])
        for number, kind in enumerate(nvidia.KINDS):
            rim = partial(
                lambda _, kind, life: NVIDIA.rim(kind, signer=NVIDIA.rim_signer(life=life)), kind=kind, life=life
            )
            yield f"a signer of manifests of {label}", partial(with_item, with_devices, "rims", number, rim)


def _chip_of(life: tuple[datetime, datetime]) -> Machine:
    return snp_machine(endorsed=GENOA.vcek(not_before=life[0], not_after=life[1]))


# --- Replayed, and for other keys -----------------------------------------------------------------------------------------


@family
def replayed_nonces() -> Iterator[Case]:
    chance = random.Random(SEED)
    for name, make in {**MACHINES, "simulated": simulated_machine}.items():
        nonces = [bytes(32), b"\xff" * 32, NONCE[::-1], *(chance.randbytes(32) for _ in range(4))]
        nonces += [flipped(NONCE, at) for at in range(0, 32, 1 if name in {"Genoa", "Azure"} else 8)]
        for nonce in nonces:
            yield f"{name}: {nonce.hex()}", partial(replace, make(), nonce=nonce)


def with_keys(make: Callable[[], Machine], **keys: Any) -> Machine:
    return make().presenting(lambda document: replace(document, keys=replace(document.keys, **keys)))


@family
def other_keys() -> Iterator[Case]:
    for name, make in {**MACHINES, "simulated": simulated_machine}.items():
        step = 1 if name in {"Genoa", "Turin", "Azure", "simulated"} else 11
        for at in range(0, 33, step):
            yield f"{name}: identity {at}", partial(with_keys, make, identity_key=flipped(KEYS.identity_key, at))
        for at in range(0, 32, step):
            yield f"{name}: receipts {at}", partial(with_keys, make, receipt_key=flipped(KEYS.receipt_key, at))
        for release in ("another", KEYS.release + " ", KEYS.release.upper(), KEYS.release[:-1]):
            yield f"{name}: release {release!r}", partial(with_keys, make, release=release)
        yield f"{name}: exchanged", partial(with_keys, make, identity_key=b"\5" + KEYS.receipt_key)


# --- Rules and levels that the hardware truly signed ----------------------------------------------------------------------


@family
def rules_that_weaken_the_guest() -> Iterator[Case]:
    for bit in (18, 19, 21, *range(26, 64)):
        yield f"Genoa: policy bit {bit}", partial(snp_machine, policy=0x30000 | 1 << bit)
    yield "Genoa: policy bit 17 clear", partial(snp_machine, policy=0x10000)
    for bit in (18, 19, 21, 26, 63):
        yield f"Azure: policy bit {bit}", partial(azure_machine, policy=0x3001F | 1 << bit)
    for vmpl in (1, 2, 3, 4, 0xFFFFFFFF):
        yield f"Genoa: VMPL {vmpl}", partial(snp_machine, vmpl=vmpl)
    for key in (1 << 1, *(number << 2 for number in range(1, 8))):
        yield f"Genoa: key information {key}", partial(snp_machine, key_info=key, chip_id=amd.default_chip_id("Genoa"))
    for bit in (*range(8), *range(8, 28), 29, *range(32, 64)):
        bits = (1 << 28 | 1 << bit).to_bytes(8, "little")
        yield f"TDX: attribute {bit}", partial(tdx_machine, td_attributes=bits)
    yield "TDX: attribute 28 clear", partial(tdx_machine, td_attributes=bytes(8))
    for name in ("mr_td", "mr_config_id", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "report_data"):
        changed: dict[str, Any] = {name: b"\1" * (64 if name == "report_data" else 48)}
        yield f"TDX: another {name}", partial(tdx_machine, **changed)
    for name, size in (("measurement", 48), ("host_data", 32), ("report_data", 64)):
        yield f"Genoa: another {name}", partial(snp_machine, **{name: b"\1" * size})
        if name != "host_data":  # on Azure it is Microsoft's layer that is started with it
            yield f"Azure: another {name}", partial(azure_machine, **{name: b"\1" * size})
    for number in range(24):
        pcrs = tuple(b"\1" * 32 if index == number else value for index, value in enumerate(azure.PCRS))
        if number in {4, 11}:
            yield f"Azure: register {number}", partial(azure_machine, pcrs=pcrs)


@family
def levels_that_the_certificate_does_not_have() -> Iterator[Case]:
    for name, make in {"Genoa": snp_machine, "Turin": partial(snp_machine, "Turin"), "Azure": azure_machine}.items():
        tcb = PRODUCTS["Turin" if name == "Turin" else "Genoa"].tcb
        for part in ("bootloader", "tee", "snp", "microcode", *(("fmc",) if name == "Turin" else ())):
            level = getattr(tcb, part)
            for other in sorted({0, 1, level - 1, level + 1, level + 16, 0x80, 0xFF} - {level, -1}):
                claimed = replace(tcb, **{part: other})
                yield f"{name}: {part} {other} for {level}", partial(make, reported_tcb=claimed, committed_tcb=tcb)
    for snp in range(0x17):
        lower = replace(PRODUCTS["Genoa"].tcb, snp=snp)
        yield f"Genoa: committed to {snp}", partial(snp_machine, committed_tcb=lower)
        yield (
            f"Genoa: truly at {snp}",
            lambda lower=lower: snp_machine(endorsed=GENOA.vcek(tcb=lower), reported_tcb=lower),
        )  # type: ignore[misc]
    for at in range(16):
        svns = list(INTEL.platform.sgx_svns)
        if svns[at]:
            svns[at] = 0
            older = INTEL.issue_pck(replace(INTEL.platform, sgx_svns=tuple(svns)))
            yield f"TDX: component {at}", partial(tdx_machine, pck=older)
    for svn in range(11):
        yield f"TDX: PCE {svn}", partial(tdx_machine, pck=INTEL.issue_pck(replace(INTEL.platform, pce_svn=svn)))
    for svns in (bytes(16), bytes([3, 1, 3]) + bytes(13), bytes([6, 1, 1]) + bytes(13), bytes([6, 9, 3]) + bytes(13)):
        yield f"TDX: module {svns.hex()}", partial(tdx_machine, tee_tcb_svn=svns)
    key = intel.raw_public_key(INTEL.attestation_key)
    for name, value in {
        "isv_svn": bytes([3, 0]),
        "isv_prod_id": bytes([1, 0]),
        "mr_signer": bytes(32),
        "attributes": bytes.fromhex("1700000000000000e700000000000000"),  # debug
        "misc_select": b"\1\0\0\0",
    }.items():
        fields: dict[str, Any] = {name: value}
        yield f"TDX: quoting enclave, {name}", partial(tdx_machine, qe_body=intel.qe_report(key, **fields))


# --- Devices ---------------------------------------------------------------------------------------------------------------


def machine(*devices: Unit) -> Callable[[], Machine]:
    return lambda: snp_machine(devices=devices)


@family
def devices_that_are_shown_twice_or_not_at_all() -> Iterator[Case]:
    sets = {
        "one GPU twice": [gpu(), gpu()],
        "one GPU three times": [gpu(), gpu(), gpu()],
        "one of two GPUs twice": [gpu(), gpu(1), gpu()],
        "one switch twice": [switch(), switch()],
        "one switch twice beside a GPU": [switch(), gpu(), switch()],
        "one Blackwell GPU twice": [gpu(arch="blackwell"), gpu(arch="blackwell")],
        "one GPU as a GPU and as a switch": [gpu(), gpu(type=DeviceType.SWITCH)],
    }
    for label, devices in sets.items():
        yield label, machine(*devices)
    for unit in UNITS:
        made = UNITS[unit]()
        kind = DeviceType.GPU if made.type is DeviceType.SWITCH else DeviceType.SWITCH
        yield f"{unit} as another kind", machine(replace(made, type=kind))
        for flag in ("confidential", "developer_tools", "production"):
            state = replace(SAFE, **{flag: not getattr(SAFE, flag)})
            yield f"{unit}: {flag}", machine(replace(made, state=state))
        for nonce in (bytes(32), NONCE, NONCE[::-1]):
            replayed = lambda one, _, nonce=nonce: one.report(nonce)  # noqa: E731
            yield f"{unit}: an answer to {nonce[:2].hex()}", machine(replace(made, answer=replayed))
    whole = machine(gpu(), gpu(1), switch(), switch(1))
    for order in list(permutations(range(4)))[1:]:
        yield f"in the order {order}", partial(_arranged, whole, order)
    for count in range(4):
        yield f"the first {count}", partial(_arranged, whole, range(count))
    for gpus, switches in ((0, 0), (1, 2), (2, 1), (3, 2), (2, 3), (0, 4), (4, 0)):
        yield (
            f"{gpus} GPUs and {switches} switches expected",
            lambda gpus=gpus, switches=switches: whole().under(  # type: ignore[misc]
                gpus=gpus, switches=switches
            ),
        )
    yield "a GPU where none is expected", lambda: machine(gpu())().under(gpus=0)
    for index in (3, 12, 21, 30, 40):
        for digest in (bytes(48), b"\1" * 48):
            if device("hopper", 0).measurements()[index] != digest:
                yield f"measurement {index}", machine(gpu(answer=answering(measurements={index: digest})))
    for field, value in {3: b"1.0\0", 6: nvidia.vbios_field("96.00.A5.00.02"), 20: bytes(48), 11: b"\x56"}.items():
        yield f"field {field}", machine(gpu(answer=answering(changed={field: value})))
        yield (
            f"no field {field}",
            machine(gpu(answer=answering(without=[field]))) if field != 11 else machine(gpu(), gpu()),
        )


def _arranged(make: Callable[[], Machine], order: Iterable[int]) -> Machine:
    """These devices of a machine's document, in this order, and a policy that expects so many."""
    made = make()
    shown = [made.evidence.devices[at] for at in order]
    gpus = sum(each.type is DeviceType.GPU for each in shown)
    return made.presenting(lambda document: replace(document, devices=tuple(shown))).under(
        gpus=gpus, switches=len(shown) - gpus
    )


# --- Other spellings of the document ----------------------------------------------------------------------------------------

Path = tuple[str | int, ...]


def places(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every value in a JSON document, the document itself first."""
    yield path, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def with_place(document: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    """A copy in which the value at ``path`` is another one."""
    if not path:
        return change(document)
    first, *rest = path
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[first] = with_place(document[first], tuple(rest), change)
    return copy


def other_values(value: object) -> Iterator[tuple[str, object]]:
    for other in (None, True, False, 0, 1, -1, 2, 1 << 70, 1.5, "", "\0", [], {}, [[]], {"": None}):
        if other != value or type(other) is not type(value):
            yield repr(other), other
    if isinstance(value, str):
        yield from (
            ("in a list", [value]),
            ("in an object", {"value": value}),
            ("in capitals", value.upper()),
            ("in small letters", value.swapcase()),
            ("with a space", value + " "),
            ("with a space in front", " " + value),
            ("with a newline", value + "\n"),
            ("with a line break inside", value[:4] + "\r\n" + value[4:]),
            ("doubled", value * 2),
            ("without its end", value[:-1]),
            ("with padding", value + "="),
            ("with more padding", value + "===="),
            ("for addresses", value.translate(str.maketrans("+/", "-_")) if set("+/") & set(value) else value + "-"),
            ("with a letter from elsewhere", value[:-2] + "ａ="),
            ("with half a character", value + "\ud800"),
        )
        if value.endswith("="):
            yield "without padding", value.rstrip("=")
            yield "with bits behind its end", _with_spare_bits(value)
    if isinstance(value, dict):
        yield "with an unknown member", {**value, "unknown": 1}
        yield "with an empty member", {**value, "": ""}
        yield "with a member behind all", {**value, "zzz": None}
        for name in value:
            yield f"without {name}", {key: inner for key, inner in value.items() if key != name}
            yield f"with {name} in capitals", {key.upper() if key == name else key: v for key, v in value.items()}
    if isinstance(value, list):
        yield "without its last item", value[:-1]
        yield "with its first item twice", [*value[:1], *value]
        yield "with nothing in it", [*value, None]
        yield "as an object", {str(index): inner for index, inner in enumerate(value)}


def _with_spare_bits(text: str) -> str:
    """Base64 whose last letter has bits that decode to nothing: another spelling of the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = text.rstrip("=")
    return body[:-1] + alphabet[alphabet.index(body[-1]) ^ 1] + text[len(body) :]


OPTIONAL = {("cpu", "event_log")}  # leaving it out is allowed: the registers are signed


@family
def other_members_of_the_document() -> Iterator[Case]:
    for name in ("devices", "Azure", "dstack"):
        make = MACHINES[name]
        document = json.loads(make().document)
        for path, value in places(document):
            if len(path) > 3 and path[-1] not in (0, "state", "confidential") or isinstance(path[-1:], int):
                continue  # one item of each list speaks for the others
            for label, other in other_values(value):
                if path == ("cpu",) and label == "without event_log":
                    continue
                changed = with_place(document, path, lambda _, other=other: other)
                if changed != document or json.dumps(changed) != json.dumps(document):
                    yield (
                        f"{name}: {'.'.join(map(str, path))} {label}",
                        partial(replace, make(), document=spelt(changed)),
                    )


def spelt(value: object) -> bytes:
    """Canonical wherever that is possible, so that the change alone is to blame."""
    try:
        return encode(value)  # type: ignore[arg-type]
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def structure(text: bytes) -> list[int]:
    """The positions of a document's own punctuation, which is outside of strings."""
    inside, found = False, []
    for at, byte in enumerate(text):  # no string here has an escape
        if byte == 0x22:
            inside = not inside
        elif not inside:
            found.append(at)
    return found


@family
def other_spellings_of_the_document() -> Iterator[Case]:
    for name, make in {"devices": with_devices, "Azure": on_azure, "dstack": under_dstack}.items():
        text = make().document
        for at in structure(text)[:60]:
            for label, space in {"space": b" ", "newline": b"\n", "tab": b"\t"}.items():
                if label == "space" or at % 5 == 0:
                    yield (
                        f"{name}: {label} before {at}",
                        partial(replace, make(), document=text[:at] + space + text[at:]),
                    )
        document = json.loads(text)
        for path, value in places(document):
            if isinstance(value, dict) and len(path) < 3:
                turned = dict(reversed(value.items()))
                changed = json.dumps(with_place(document, path, lambda _, turned=turned: turned), separators=(",", ":"))
                yield f"{name}: {path} in another order", partial(replace, make(), document=changed.encode())
                for member in value:
                    key = json.dumps(member).encode() + b":"
                    twice = text.replace(
                        key, key + json.dumps(value[member], separators=(",", ":")).encode() + b"," + key, 1
                    )
                    yield f"{name}: {path} {member} twice", partial(replace, make(), document=twice)
                    nothing = text.replace(key, key + b"null," + key, 1)
                    yield f"{name}: {path} {member} after nothing", partial(replace, make(), document=nothing)
                    escaped = text.replace(key, b'"\\u%04x' % ord(member[0]) + key[2:], 1)
                    yield f"{name}: {path} {member} escaped", partial(replace, make(), document=escaped)
        for number in (
            "2.0",
            "2e0",
            "20E-1",
            "02",
            "+2",
            "0x2",
            '"2"',
            "1",
            "3",
            "-2",
            "2.5",
            "true",
            "null",
            "NaN",
            "Infinity",
        ):
            changed_version = text.replace(b'"version":2', b'"version":' + number.encode())
            yield f"{name}: version {number}", partial(replace, make(), document=changed_version)
        for number in ("9" * 5000, "1e400", "-0", "2" + " " * 9):
            changed_version = text.replace(b'"version":2', b'"version":' + number.encode())
            yield f"{name}: version {number[:9]}", partial(replace, make(), document=changed_version)
        plain = text.decode()
        for label, other in {
            "a byte order mark": b"\xef\xbb\xbf" + text,
            "UTF-16": plain.encode("utf-16"),
            "UTF-16 without a mark": plain.encode("utf-16-le"),
            "UTF-32": plain.encode("utf-32"),
            "a newline at the end": text + b"\n",
            "a zero at the end": text + b"\0",
            "a comment": text + b"//",
            "a comma": text[:-1] + b",}",
            "two documents": text + b"\n" + text,
            "in a list": b"[" + text + b"]",
            "in a string": json.dumps(plain).encode(),
            "in single quotes": text.replace(b'"', b"'"),
            "an overlong letter": text.replace(b'"cpu"', b'"\xc1\xa3pu"'),
            "an invalid letter": text.replace(b'"cpu"', b'"\xffcpu"'),
            "solidus escaped": text.replace(b"/", b"\\/"),
            "nested without end": b"[" * 100_000,
            "nothing": b"",
            "empty": b"{}",
            "null": b"null",
        }.items():
            if other != text:
                yield f"{name}: {label}", partial(replace, make(), document=other)


# --- What may differ ---------------------------------------------------------------------------------------------------------

TDX4 = DOMAINS["TDX 4, body 2"]


def _negated(report: bytes, order: int, size: int, byteorder: Any, where: slice) -> bytes:
    s = int.from_bytes(report[where], byteorder)
    return patched(report, where, (order - s).to_bytes(size, byteorder))


def with_container(field: str) -> Machine:
    hcl = HclReport.parse(on_azure().evidence.cpu.report)
    where = azure.HclBlob(report=hcl.report, claims=hcl.claims).fields()[field]
    return with_report(on_azure, partial(flipped, at=where.start))


def with_log(make: Callable[[], Machine], change: Callable[[bytes], bytes]) -> Machine:
    return with_cpu(make, event_log=change(make().evidence.cpu.event_log))


HARMLESS: dict[str, Callable[[], Machine]] = {
    # ECDSA knows two signatures for each statement, (r, s) and (r, -s): both say the same.
    "AMD: s negated": lambda: with_report(
        genoa, lambda report: _negated(report, P384, 72, "little", amd.SIGNATURE_FIELDS["s"])
    ),
    "Intel: s negated": lambda: with_report(
        TDX4,
        lambda report: _negated(
            report,
            P256,
            32,
            "big",
            slice(
                intel.SIGNATURE_FIELDS[FORMS[0]]["signature"].start + 32,
                intel.SIGNATURE_FIELDS[FORMS[0]]["signature"].stop,
            ),
        ),
    ),
    "NVIDIA: s negated": lambda: with_unit(
        "Hopper", lambda report: _negated(report, P384, 48, "big", slice(len(report) - 48, len(report)))
    ),
    # Certificates beside a SEV-SNP report are a pool: of those that are needed each has its own signature.
    "AMD: certificates in another order": lambda: with_cpu(genoa, certificates=genoa().evidence.cpu.certificates[::-1]),
    "AMD: a certificate that is not needed": lambda: with_cpu(
        genoa, certificates=(*genoa().evidence.cpu.certificates, TURIN.root)
    ),
    "AMD: a certificate twice": lambda: with_cpu(genoa, certificates=genoa().evidence.cpu.certificates * 2),
    "AMD: certificates from a cache": lambda: with_parts(
        genoa, amd_certificates=genoa().evidence.cpu.certificates
    ).presenting(lambda document: replace(document, cpu=replace(document.cpu, certificates=()))),
    # Azure's container has a header that nothing rests on, and zeros behind its claims.
    **{f"Azure: the container's {field}": partial(with_container, field) for field in UNREAD},
    "Azure: more zeros behind the claims": lambda: with_report(on_azure, lambda blob: blob + bytes(100)),
    "Azure: no zeros behind the claims": lambda: with_report(on_azure, lambda blob: blob.rstrip(b"\0")),
    # A quote carries its chain as text; clouds add zeros.
    "TDX: zeros behind the quote": lambda: with_report(TDX4, lambda quote: quote + bytes(100)),
    "TDX: another white space in the chain": lambda: tdx_machine(
        chain=intel.pem_chain(INTEL.pck, INTEL.platform_ca, INTEL.root_ca).replace("\n", "\r\n").encode()
    ),
    # An event log explains registers; what is not measured in it is only told.
    "TDX: no event log": lambda: with_cpu(TDX4, event_log=b""),
    "TDX: what an event of the firmware tells": lambda: with_log(
        TDX4, lambda log: replaced(log, "StartupLocality", "StartupLocalitx")
    ),
    "TDX: less of the area behind the log": lambda: with_log(TDX4, lambda log: log.rstrip(b"\xff") + b"\xff" * 4),
    "dstack: digits in capitals": lambda: with_log(
        under_dstack,
        lambda log: replaced(
            log, dict(eventlog.APP)["compose-hash"].hex(), dict(eventlog.APP)["compose-hash"].hex().upper()
        ),
    ),
    "dstack: white space": lambda: with_log(under_dstack, lambda log: json.dumps(json.loads(log), indent=1).encode()),
    "dstack: a member that nobody reads": lambda: with_log(
        under_dstack, lambda log: replaced(log, '"event":', '"unknown": 1, "event":')
    ),
    "dstack: no digests": lambda: with_log(under_dstack, _without_digests),
    # Collateral is a heap.
    "AMD's list twice": lambda: with_parts(genoa, amd_crls=(amd_crl(), amd_crl())),
    "manifests in another order": lambda: with_parts(with_devices, rims=with_devices().collateral.rims[::-1]),
    "manifests that are not needed": lambda: with_parts(
        with_devices, rims=(*with_devices().collateral.rims, *rims("blackwell"))
    ),
    "answers in another order": lambda: with_parts(
        with_devices, ocsp_responses=with_devices().collateral.ocsp_responses[::-1]
    ),
    "answers that are not needed": lambda: with_parts(
        with_devices,
        ocsp_responses=(*with_devices().collateral.ocsp_responses, *with_blackwell().collateral.ocsp_responses),
    ),
    "manifest: white space between a tag's attributes": lambda: with_item(
        with_devices, "rims", 0, lambda rim: replaced(rim, ' name="', '  name="')
    ),
    "manifest: white space in its certificates": lambda: with_item(
        with_devices, "rims", 0, lambda rim: replaced(rim, "</ds:X509Certificate>", "\n</ds:X509Certificate>")
    ),
    "manifest: a comment, which canonical XML leaves out": lambda: with_item(
        with_devices, "rims", 0, lambda rim: replaced(rim, "<ns0:Payload", "<!-- --><ns0:Payload")
    ),
    "Intel's chains: another white space": lambda: with_intel(
        TDX4, "tcb_info_issuer_chain", lambda text: text.replace("\n", "\r\n")
    ),
}


def _without_digests(log: bytes) -> bytes:
    events = json.loads(log)
    return json.dumps([{**event, "digest": ""} if event["event"] else event for event in events]).encode()


@pytest.mark.parametrize("what", HARMLESS)
def test_what_nobody_signs_and_nothing_rests_on_may_differ(what: str) -> None:
    assert HARMLESS[what]().refusals() == []


# --- Chance ------------------------------------------------------------------------------------------------------------------


def essence(changed: Machine) -> object:
    """What of a machine's evidence and collateral is signed, or is read; ``None`` if it cannot be read at all.

    What this leaves out is what ``HARMLESS`` lists.
    """
    try:
        document = EvidenceDocument.parse(changed.document)
        cpu = document.cpu
        report: object = cpu.report
        if cpu.type == "tdx":
            quote = Quote.parse(cpu.report)
            certificates = certificates_from_pem(quote.chain_pem)
            quote_end = len(quote.quote) - len(quote.chain_pem)
            report = quote.quote[:quote_end], certificates, quote.clean_padding
        if cpu.type == "sev-snp-azure":
            hcl = HclReport.parse(cpu.report)
            report = hcl.report, hcl.claims
        log = parse_event_log(cpu.event_log) if cpu.event_log else ()
        return (
            document.keys,
            cpu.type,
            report,
            cpu.certificates,
            log,
            cpu.tpm,
            document.devices,
            _heap(changed.collateral),
        )
    except AttestationError:
        return None


def _heap(collateral: Collateral) -> object:
    intels: list[object] = []
    if collateral.intel is not None:
        chains = {part: getattr(collateral.intel, part) for part in INTEL_TEXTS if part.endswith("chain")}
        intels = [
            replace(collateral.intel, **dict.fromkeys(chains, "")),
            *(certificates_from_pem(chain.encode()) for chain in chains.values()),
        ]
    return collateral.amd_crls, collateral.ocsp_responses, intels, [_said(rim) for rim in collateral.rims]


def _said(rim: bytes) -> object:
    """What the signature of a manifest is over, and the signature with its certificates."""
    root, certificates = parse_manifest(rim)
    (signature,) = root.iter(f"{{{nvidia.DSIG}}}Signature")
    signed = [
        etree.tostring(part, method="c14n", with_comments=False)
        for part in signature.iter(f"{{{nvidia.DSIG}}}SignedInfo")
    ]
    value = ["".join((part.text or "").split()) for part in signature.iter(f"{{{nvidia.DSIG}}}SignatureValue")]
    root.remove(signature)
    return etree.tostring(root, method="c14n", with_comments=False), signed, value, certificates


def by_chance(count: int, size: int, chance: random.Random) -> Iterator[tuple[int, int]]:
    for _ in range(count):
        yield chance.randrange(size), chance.randrange(1, 256)


@family
def flips_by_chance() -> Iterator[Case]:
    chance = random.Random(SEED)
    for name, make in MACHINES.items():
        before = essence(make())
        assert before is not None
        tries: list[tuple[str, Machine]] = []
        text = make().document
        for at, mask in by_chance(60, len(text), chance):
            tries.append((f"document, byte {at} ^ {mask}", replace(make(), document=flipped(text, at, mask))))
        for at, mask in by_chance(40, len(make().evidence.cpu.report), chance):
            change = partial(flipped, at=at, mask=mask)
            tries.append((f"report, byte {at} ^ {mask}", with_report(make, change)))
        if make().evidence.cpu.event_log:
            for at, mask in by_chance(20, len(make().evidence.cpu.event_log.rstrip(b"\xff")), chance):
                tries.append((f"event log, byte {at} ^ {mask}", with_log(make, partial(flipped, at=at, mask=mask))))
        for part in ("amd_crls", "rims", "ocsp_responses"):
            for number, item in enumerate(getattr(make().collateral, part)):
                for at, mask in by_chance(12, len(item), chance):
                    change = partial(flipped, at=at, mask=mask)
                    tries.append((f"{part} {number}, byte {at} ^ {mask}", with_item(make, part, number, change)))
        if make().collateral.intel is not None and name in {"TDX 4, body 2", "Blackwell"}:
            for part in INTEL_BYTES:
                for at, mask in by_chance(12, len(getattr(make().collateral.intel, part)), chance):
                    change = partial(flipped, at=at, mask=mask)
                    tries.append((f"{part}, byte {at} ^ {mask}", with_intel(make, part, change)))
            for part in INTEL_TEXTS:
                for at, mask in by_chance(12, len(getattr(make().collateral.intel, part)), chance):
                    change_text = partial(_letter, at=at, mask=mask & 0x7F or 1)
                    tries.append((f"{part}, letter {at} ^ {mask}", with_intel(make, part, change_text)))
        for label, changed in tries:
            if essence(changed) != before:
                yield f"{name}: {label}", partial(replace, changed)


def _letter(text: str, at: int, mask: int) -> str:
    return text[:at] + chr(ord(text[at]) ^ mask) + text[at + 1 :]


# --- The tests ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MACHINES)
def test_every_machine_is_accepted_before_it_is_changed(name: str) -> None:
    appraisal = MACHINES[name]().assess()
    assert appraisal.errors == ()
    assert appraisal.weakenings == ("UnsafeTrustOtherRoots",)


@cache
def cases_of(name: str) -> tuple[Case, ...]:
    """All cases of a family; most are made when they are tried."""
    return tuple(FAMILIES[name]())


def fault(case: Case) -> str:
    """What is wrong with the verifier if it does not refuse this case as it should; empty if all is well."""
    label, make = case
    changed = make()
    try:
        refused, seconds = timed(changed)
        if seconds > LIMIT:  # once more: something else may have run on this core
            refused, seconds = timed(changed)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is the finding
        return f"{label}: raised {type(error).__name__}"
    if not refused:
        return f"{label}: accepted"
    return f"{label}: took {1000 * seconds:.0f} ms" if seconds > LIMIT else ""


def timed(changed: Machine) -> tuple[bool, float]:
    started = time.process_time()
    errors = changed.assess().errors
    seconds = time.process_time() - started
    return any(isinstance(error, AttestationError) for error in errors), seconds


@pytest.mark.parametrize("name", FAMILIES)
def test_refuses_every_case_of_the_family(name: str) -> None:
    assert [found for found in map(fault, cases_of(name)) if found] == []


def test_the_families_have_thousands_of_cases_and_no_two_of_the_same_name() -> None:
    sizes = {name: len(cases_of(name)) for name in FAMILIES}
    assert sum(sizes.values()) >= FEWEST, sizes
    assert min(sizes.values()) >= 20, sizes
    for name in FAMILIES:
        labels = [label for label, _ in cases_of(name)]
        assert len(set(labels)) == len(labels), name
