"""Signatures that cannot be: numbers at the edges of their range, and algorithms that prove nothing."""

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from lxml import etree

from attestation.parsing.certificate import Certificate
from tests.attestation.authority import amd, intel, nvidia
from tests.attestation.authority.amd import patched
from tests.attestation.machines import NONCE, rim_signer, tdx_machine
from tests.attestation.mutations.families import (
    DOMAINS,
    FORMS,
    INTEL,
    NVIDIA,
    P256,
    P384,
    PROCESSORS,
    UNITS,
    Case,
    family,
    genoa,
    intel_part,
    on_azure,
    replaced,
    trust_domain,
    with_chain,
    with_cpu,
    with_devices,
    with_intel,
    with_item,
    with_report,
    with_unit,
)

# --- Numbers --------------------------------------------------------------------------------------------------------------


def signatures(order: int, true: tuple[int, int]) -> Iterator[tuple[str, int, int]]:
    """Pairs (r, s) that hold for nothing, or not for what ``true`` signs."""
    r, s = true
    special = {
        "0": 0,
        "1": 1,
        "the order": order,
        "the order and one": order + 1,
        "all ones": (1 << order.bit_length()) - 1,
    }
    for name, number in special.items():
        yield f"r is {name}", number, s
        yield f"s is {name}", r, number
        for other, value in special.items():
            yield f"r is {name}, s is {other}", number, value
    yield "r and s exchanged", s, r
    yield "r negated", order - r, s


@family
def signatures_of_amd() -> Iterator[Case]:
    """In fields that are larger than their numbers, so that other numbers of the same remainder find a place, too."""
    for name, make in PROCESSORS.items():
        report = make().evidence.cpu.report
        r, s = (int.from_bytes(report[amd.SIGNATURE_FIELDS[part]], "little") for part in "rs")
        pairs = [
            *signatures(P384, (r, s)),
            ("r and the order", r + P384, s),
            ("s and the order", r, s + P384),
            ("a bit above s", r, s | 1 << 400),
            ("r as large as its field", (1 << 576) - 1, s),
        ]
        for label, *pair in pairs:
            changed = report[: amd.SIGNED_SIZE] + amd.signature(*pair)
            yield f"{name}: {label}", partial(with_cpu, make, report=changed)


def raw_pair(data: bytes) -> tuple[int, int]:
    """Two numbers of the same size, most significant byte first."""
    half = len(data) // 2
    return int.from_bytes(data[:half], "big"), int.from_bytes(data[half:], "big")


@family
def signatures_of_intel() -> Iterator[Case]:
    """Of the quote, of the quoting enclave's report, and of the collateral's texts."""
    for form, (name, make) in zip(FORMS, DOMAINS.items(), strict=True):
        for field in ("signature", "qe_signature"):
            where = intel.SIGNATURE_FIELDS[form][field]
            for label, r, s in signatures(P256, raw_pair(make().evidence.cpu.report[where])):
                change = partial(patched, where=where, value=intel.raw_signature(r, s))
                yield f"{name}: {field}, {label}", partial(with_report, make, change)
        key = intel.SIGNATURE_FIELDS[form]["attestation_key"]
        for label, value in {"a key of zeros": bytes(64), "a key that is no point": b"\1" * 64}.items():
            yield f"{name}: {label}", partial(with_report, make, partial(patched, where=key, value=value))
    for part in ("tcb_info_signature", "qe_identity_signature"):
        for label, r, s in signatures(P256, raw_pair(intel_part(part))):
            yield f"{part}: {label}", partial(with_intel, part, intel.raw_signature(r, s))


@family
def signatures_of_nvidia() -> Iterator[Case]:
    """Of devices' reports."""
    for unit in UNITS:
        for number, (label, _, _) in enumerate(signatures(P384, (1, 2))):
            yield f"{unit}: {label}", partial(with_unit, unit, partial(_signed_otherwise, number=number))


def _signed_otherwise(report: bytes, number: int) -> bytes:
    body, signature = report[: -nvidia.SIGNATURE_BYTES], report[-nvidia.SIGNATURE_BYTES :]
    _, r, s = list(signatures(P384, raw_pair(signature)))[number]
    return body + nvidia.raw_signature(r, s)


# --- Certificates without a signature -------------------------------------------------------------------------------------

NO_SIGNATURE = bytes.fromhex("300a06082b06010505070602")  # id-alg-noSignature, as CMC has it (RFC 5272)
NULL = bytes.fromhex("3000")
FORMS_OF_NONE = [(algorithm, signature) for algorithm in (NO_SIGNATURE, NULL) for signature in (b"", bytes(64))]


def unsigned(certificate: bytes, algorithm: bytes, signature: bytes) -> bytes:
    """The certificate under another algorithm, which it names inside and outside."""
    parsed = Certificate.parse(certificate)
    content = parsed.to_be_signed[4:].replace(parsed.signature_algorithm, algorithm, 1)  # behind tag and length
    return nvidia.der(0x30, nvidia.der(0x30, content), algorithm, nvidia.der(3, b"\0" + signature))


def unsigned_chains(chain: Iterable[bytes]) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """A chain in which one certificate has no signature, in each place and each form."""
    certificates = tuple(chain)
    for number, certificate in enumerate(certificates):
        for kind, form in enumerate(FORMS_OF_NONE):
            changed = (*certificates[:number], unsigned(certificate, *form), *certificates[number + 1 :])
            yield f"certificate {number}, form {kind}", changed


@family
def certificates_without_a_signature() -> Iterator[Case]:
    """``alg: none``, as X.509 would say it."""
    for name, make in PROCESSORS.items():
        for label, chain in unsigned_chains(make().evidence.cpu.certificates):
            yield f"{name}: {label}", partial(with_cpu, make, certificates=chain)
    for unit, made in UNITS.items():
        for label, chain in unsigned_chains(made().device.chain):
            yield f"{unit}: {label}", partial(with_chain, unit, chain)
    for label, chain in unsigned_chains(issued.der for issued in (INTEL.pck, INTEL.platform_ca, INTEL.root_ca)):
        yield f"TDX: {label}", partial(tdx_machine, chain=_pem(chain))


def _pem(chain: Iterable[bytes]) -> bytes:
    bodies = (base64.encodebytes(certificate).decode() for certificate in chain)
    return "".join(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n" for body in bodies).encode()


# --- Tokens ---------------------------------------------------------------------------------------------------------------


def tokens(data: bytes) -> Iterator[tuple[str, bytes]]:
    """``data`` in tokens that ask not to be verified: JWS (RFC 7515), NVIDIA's detached EAT bundle, and COSE (RFC 9052)."""

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
    yield "COSE without a signature", bytes.fromhex("d28443a10100a044") + data[:4] + b"\x40"


@family
def tokens_that_ask_not_to_be_verified() -> Iterator[Case]:
    """In the place of a document, of a processor's report and of a device's."""
    for name, make in {"Genoa": genoa, "TDX": trust_domain, "Azure": on_azure}.items():
        for label, token in tokens(make().document):
            yield f"{name}: document, {label}", partial(replace, make(), document=token)
        for label, token in tokens(make().evidence.cpu.report):
            yield f"{name}: report, {label}", partial(with_cpu, make, report=token)
    for unit in UNITS:
        for number, (label, _) in enumerate(tokens(b"")):
            yield f"{unit}: report, {label}", partial(with_unit, unit, partial(_as_token, number=number))


def _as_token(data: bytes, number: int) -> bytes:
    return list(tokens(data))[number][1]


# --- XML signatures -------------------------------------------------------------------------------------------------------

METHODS = {
    "none": nvidia.NO_SIGNATURE,
    "ECDSA with SHA-256": nvidia.ECDSA_SHA256,
    "HMAC under the public key": nvidia.HMAC_SHA384,
    "a method without a name": replace(nvidia.NO_SIGNATURE, uri=""),
    "the true name and nothing": replace(nvidia.ECDSA_SHA384, sign=lambda _key, _data: b""),
    "the true name and zeros": replace(nvidia.ECDSA_SHA384, sign=lambda _key, _data: bytes(96)),
    "the true name and DER": replace(nvidia.ECDSA_SHA384, sign=lambda _key, _data: bytes.fromhex("3006020101020101")),
}
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
OTHER_NAMES = {
    f"{_MORE}ecdsa-sha384": [
        "none",
        "",
        f"{_MORE}hmac-sha384",
        f"{_MORE}ecdsa-sha256",
        f"{_MORE}rsa-sha384",
        "http://www.w3.org/2000/09/xmldsig#hmac-sha1",
        "http://www.w3.org/2000/09/xmldsig#dsa-sha1",
        "http://www.w3.org/2021/04/xmldsig-more#eddsa-ed25519",
    ],
    f"{_MORE}sha384": ["none", "", "http://www.w3.org/2000/09/xmldsig#sha1", "http://www.w3.org/2001/04/xmlenc#sha256"],
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


@family
def manifests_with_another_algorithm() -> Iterator[Case]:
    """``alg: none`` and its like, as XML says it: truly signed in that way, or only named so."""
    for number, kind in enumerate(nvidia.KINDS):
        for label, algorithm in METHODS.items():
            rim = partial(NVIDIA.rim, kind, signer=rim_signer("hopper"), algorithm=algorithm)
            change = partial(_instead, made=rim)
            yield f"{kind}: signed with {label}", partial(with_item, with_devices, "rims", number, change)
        for old, new in ((old, new) for old, names in OTHER_NAMES.items() for new in names):
            rename = partial(replaced, old=f'"{old}"', new=f'"{new}"')
            yield f"{kind}: {old} named {new!r}", partial(with_item, with_devices, "rims", number, rename)


def _instead(_: bytes, made: Callable[[], bytes]) -> bytes:
    return made()


@family
def manifests_with_another_form() -> Iterator[Case]:
    """What a reader could be led to take for the signed part."""
    for label, edit in EDITS.items():
        for number, kind in enumerate(nvidia.KINDS):
            yield f"{kind}: {label}", partial(with_item, with_devices, "rims", number, edit)


def _without_signature(rim: bytes) -> bytes:
    root = etree.fromstring(rim)
    (signature,) = root.findall(f"{{{nvidia.DSIG}}}Signature")
    root.remove(signature)
    unsigned_rim: bytes = etree.tostring(root)
    return unsigned_rim


def _signature(rim: bytes) -> tuple[bytes, bytes, bytes]:
    start, end = b"<ds:Signature ", b"</ds:Signature>"
    at, until = rim.index(start), rim.index(end) + len(end)
    return rim[:at], rim[at:until], rim[until:]


def _with_two_signatures(rim: bytes) -> bytes:
    head, signature, tail = _signature(rim)
    return head + signature + signature + tail


def _signature_first(rim: bytes) -> bytes:
    head, signature, tail = _signature(rim)
    at = head.index(b">", head.index(b"<SoftwareIdentity")) + 1
    return head[:at] + signature + head[at:] + tail + b"<"


def _wrapped(rim: bytes) -> bytes:
    """The signed document within one that says something else, the signature in its place."""
    head, signature, tail = _signature(rim)
    other = head.replace(b'active="True"', b'active="False"')
    return other + signature + head[head.index(b"<SoftwareIdentity") :] + tail + tail


def _with_capital_digests(rim: bytes) -> bytes:
    known = (nvidia.golden("driver")[21][0].hex(), nvidia.golden("vbios")[1][0].hex())
    (digest,) = (digest for digest in known if digest.encode() in rim)
    return replaced(rim, digest, digest.upper())


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "no signature": _without_signature,
    "two signatures": _with_two_signatures,
    "a signature in front": _signature_first,
    "wrapped": _wrapped,
    "within another element": lambda rim: b"<SoftwareIdentity>" + rim + b"</SoftwareIdentity>",
    "digests in capitals": _with_capital_digests,
    "no certificates": partial(replaced, old="X509Certificate", new="X509Certificat"),
    "another reference": partial(replaced, old='URI=""', new='URI="#x"'),
    "no reference": partial(replaced, old=' URI=""', new=""),
    "a document type": lambda rim: b"<!DOCTYPE SoftwareIdentity []>" + rim,
    "an entity": lambda rim: b'<!DOCTYPE SoftwareIdentity [<!ENTITY x "y">]>' + rim,
    "an instruction": partial(replaced, old="<ns0:Payload", new="<?x y?><ns0:Payload"),
    "a text": partial(replaced, old="<ns0:Payload", new="x<ns0:Payload"),
    "everything inactive": partial(replaced, old='active="True"', new='active="False"'),
    "everything active": partial(replaced, old='active="False"', new='active="True"'),
    "another index": partial(replaced, old='index="63"', new='index="64"'),
    "an index twice": partial(replaced, old='index="63"', new='index="62"'),
    "another version": partial(replaced, old="colloquialVersion", new="colloquialversion"),
    "another edition": partial(replaced, old='edition="GPU"', new='edition="CPU"'),
    "another product": partial(replaced, old='product="GH100"', new='product="GB100"'),
    "a second payload": partial(replaced, old="<ns0:Entity", new="<ns0:Payload/><ns0:Entity"),
    "no alternatives": partial(replaced, old='alternatives="1"', new='alternatives="0"'),
}
