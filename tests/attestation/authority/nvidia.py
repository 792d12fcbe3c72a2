"""A fake NVIDIA: device identity chains, SPDM reports, reference manifests (RIM) and OCSP answers, all truly signed.

Two roots, as with the vendor: one for devices (root, identity, provisioner, device, leaf: P-384 with SHA-384, valid to the
year 9999) and one for the signers of manifests. The defaults make one GPU in confidential mode whose measurements are those
of the default manifests; each argument changes one thing. The shapes are those of published H100, GB100 and LS10 evidence;
the report is DMTF SPDM 1.1 (DSP0274, GET_MEASUREMENTS, MEASUREMENTS), the leaf extension is DICE (TCG, Attestation
Architecture, section 6.1), the manifest SWID (ISO/IEC 19770-2) with an enveloped XML signature.

Measurements are named by their index in the manifests, from 0; the SPDM index on the wire is one higher.
"""

import base64
import hashlib
import hmac
import os
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Literal, TypedDict, Unpack

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from lxml import etree

Arch = Literal["hopper", "blackwell", "ls10"]
Kind = Literal["driver", "vbios"]  # of a manifest; the BIOS of a switch is "vbios"
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Life = tuple[datetime, datetime]  # first and last moment of a certificate
Extensions = Iterable[tuple[x509.ExtensionType, bool]]  # with whether it is critical
Blocks = Sequence[tuple[int, bytes]]  # SPDM index and digest
Opaque = Sequence[tuple[int, bytes]]  # type and value
Golden = Mapping[int, tuple[bytes, ...]]  # index -> the digests that are acceptable there

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
OCSP_URL = "http://ocsp.ndis.nvidia.com"
DEVICE_INFO = x509.ObjectIdentifier("1.3.6.1.4.1.412.274.1")  # DMTF: "manufacturer:product:serial number"
DICE_DEVICE_ID = x509.ObjectIdentifier("2.23.133.5.4.1")  # Hopper and LS10
DICE_TCB_INFO = x509.ObjectIdentifier("2.23.133.5.4.1.1")  # Blackwell

DRIVER, VBIOS, NVDEC0, COUNTS, FWID, PROTECTED_PCIE_STATUS, PDI, FEATURE_FLAG = 3, 6, 11, 12, 20, 21, 22, 36
OPAQUE_ORDER = (6, 14, 15, 16, 17, 18, 19, 3, 4, 12, 13, 11, 20, 21, 22, 33, 34, 35, 36)  # of a GPU
PROTECTED_PCIE: Mapping[int, bytes] = {PROTECTED_PCIE_STATUS: b"\xaa", PDI: bytes(144), FEATURE_FLAG: b"\x02\x00"}
DRIVER_VERSION = "590.12"
KINDS: tuple[Kind, ...] = ("driver", "vbios")
ZERO = bytes(48)  # the digest of an index at which nothing was measured
SIGNATURE_BYTES = 96


@dataclass(frozen=True, slots=True)
class _Family:
    """What differs between the device families; ``product`` is the chip's name in manifests."""

    chip: str
    firmware: str
    identity: str
    provisioner: str
    product: str
    vbios: str
    blocks: int = 64


FAMILIES: Mapping[Arch, _Family] = {
    "hopper": _Family("GH100", "GH100 A01 GSP", "GH100", "NVIDIA GH100 Provisioner ICA 1", "GH100", "96.00.A5.00.01"),
    "blackwell": _Family(
        "GB100", "GB100 A01 GSP", "GB100", "NVIDIA GB100 Provisioner ICA 00000", "GB100", "97.00.88.00.0F"
    ),
    "ls10": _Family("LS_10", "LS_10 A01 FSP", "GH100", "NVIDIA LS_10 Provisioner ICA 1", "LS10", "96.10.55.00.01", 31),
}


# Keys, DER and certificates


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """One RSA key for the whole process: the algorithm that a verifier must not be talked into."""
    return rsa.generate_private_key(65537, 2048)


def der(tag: int, *parts: bytes) -> bytes:
    """One DER value: tag, shortest length, content."""
    content = b"".join(parts)
    size = len(content)
    width = b"" if size < 0x80 else size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(width), *width] if width else [tag, size]) + content


_OID_SHA384 = der(6, bytes.fromhex("608648016503040202"))
_OID_ECDSA_SHA384 = der(6, bytes.fromhex("2a8648ce3d040303"))
_OID_OCSP_BASIC = der(6, bytes.fromhex("2b0601050507300101"))


def _spki(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def dice_device_id(device_key: PrivateKey, fwid: bytes) -> bytes:
    """The extension of Hopper and LS10: version, key of the device certificate, and last the FWID."""
    return der(0x30, der(2, b"\x01"), _spki(device_key), der(0x30, _OID_SHA384, der(4, fwid)))


def dice_tcb_info(model: str, *fwids: bytes) -> bytes:
    """DiceTcbInfo, the extension of Blackwell: ``fwids`` is its element [6], the first of them counts."""
    head = (b"NVIDIA", model.encode(), b"01", b"\x01", b"\x00", b"\x00")
    tail = der(0x87, bytes.fromhex("0080000001")), der(0x88, b"\xc0"), der(0x89, b"\x00")
    listed = der(0xA6, *(der(0x30, _OID_SHA384, der(4, fwid)) for fwid in fwids))
    return der(0x30, *(der(0x80 + tag, value) for tag, value in enumerate(head)), listed, *tail)


def _name(**parts: str) -> x509.Name:
    oids = {
        "cn": NameOID.COMMON_NAME,
        "o": NameOID.ORGANIZATION_NAME,
        "c": NameOID.COUNTRY_NAME,
        "sn": NameOID.SERIAL_NUMBER,
    }
    return x509.Name([x509.NameAttribute(oids[key], value) for key, value in parts.items()])


def _usage(*, signs: bool = False, certifies: bool = False, crl: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(signs, False, False, False, False, certifies, crl, False, False)


_AIA = x509.AuthorityInformationAccess(
    [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(OCSP_URL))]
)


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate, the key in it, and the certificates above it, the root last."""

    key: PrivateKey = field(repr=False)
    chain: tuple[bytes, ...]

    @property
    def subject(self) -> x509.Name:
        """Subject of the first certificate."""
        return x509.load_der_x509_certificate(self.chain[0]).subject


def issue(
    issuer: Signer | None,
    subject: x509.Name,
    key: PrivateKey,
    extensions: Extensions,
    life: Life,
    *,
    serial: int | None = None,
    signed_by: PrivateKey | None = None,
) -> Signer:
    """Certify ``key`` under ``issuer`` (``None``: itself); ``signed_by`` signs with another key in the issuer's name."""
    above = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(life[0])
        .not_valid_after(life[1])
    )
    identifiers: Extensions = (
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), False),
    )
    for extension, critical in (*extensions, *identifiers):
        builder = builder.add_extension(extension, critical)
    certificate = builder.sign(signed_by or above, hashes.SHA384())
    return Signer(key, (certificate.public_bytes(Encoding.DER), *(issuer.chain if issuer else ())))


def _ca(crl: str | None = None, *, aia: bool = True, path: int | None = None, signs_crl: bool = True) -> Extensions:
    yield x509.BasicConstraints(ca=True, path_length=path), True
    yield _usage(certifies=True, crl=signs_crl), True
    if crl:
        uri = x509.UniformResourceIdentifier(f"http://crl.ndis.nvidia.com/{crl}")
        yield x509.CRLDistributionPoints([x509.DistributionPoint([uri], None, None, None)]), False
    if aia:
        yield _AIA, False


# Reports


def sign_report(body: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The whole report: ``body`` (request, then response without signature) and its signature."""
    return body + raw_signature(*decode_dss_signature(key.sign(body, ec.ECDSA(hashes.SHA384()))))


def raw_signature(r: int, s: int) -> bytes:
    """A P-384 signature as SPDM has it: r, then s, 48 bytes each, big endian."""
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "little")


def report_body(nonce: bytes, responder_nonce: bytes, blocks: Blocks, opaque: Opaque) -> bytes:
    """The request, and the response without its signature."""
    record = b"".join(
        bytes([index, 1]) + _u16(3 + len(digest)) + b"\x01" + _u16(len(digest)) + digest for index, digest in blocks
    )
    tlvs = b"".join(_u16(kind) + _u16(len(value)) + value for kind, value in opaque)
    request = bytes.fromhex("11e001ff") + nonce + b"\x00"
    head = bytes.fromhex("11600000") + bytes([len(blocks)]) + len(record).to_bytes(3, "little")
    return request + head + record + responder_nonce + _u16(len(tlvs)) + tlvs


def fields(report: bytes) -> dict[str, slice]:
    """Where each field of a well-formed report lies: the slices follow one another and cover all of it.

    Measurements are ``measurement[INDEX].digest`` by SPDM index, opaque fields ``opaque[TYPE].value``; a repeated one
    gets ``#2`` after its bracket.
    """
    found: dict[str, slice] = {}
    at = 0

    def take(size: int, name: str) -> bytes:
        nonlocal at
        found[name], at = slice(at, at + size), at + size
        return report[at - size : at]

    def number(size: int, name: str) -> int:
        return int.from_bytes(take(size, name), "little")

    def label(kind: str, key: int) -> str:
        seen = sum(name.startswith(f"{kind}[{key}]") and name.endswith((".index", ".type")) for name in found)
        return f"{kind}[{key}]" + (f"#{seen + 1}" if seen else "")

    for part, size in (("version", 1), ("code", 1), ("attributes", 1), ("operation", 1), ("nonce", 32), ("slot", 1)):
        take(size, f"request.{part}")
    for part in ("version", "code", "param1", "param2"):
        take(1, f"response.{part}")
    take(1, "response.block_count")
    record_length = number(3, "response.record_length")
    end = at + record_length
    while at < end:
        block = label("measurement", report[at])
        for part, size in (("index", 1), ("specification", 1), ("size", 2), ("value_type", 1)):
            take(size, f"{block}.{part}")
        digest_size = number(2, f"{block}.value_size")
        take(digest_size, f"{block}.digest")
    take(32, "response.nonce")
    opaque_length = number(2, "response.opaque_length")
    end = at + opaque_length
    while at < end:
        tlv = label("opaque", int.from_bytes(report[at : at + 2], "little"))
        take(2, f"{tlv}.type")
        length = number(2, f"{tlv}.length")
        take(length, f"{tlv}.value")
    take(48, "signature.r")
    take(48, "signature.s")
    return found


def golden(kind: Kind, arch: Arch = "hopper") -> dict[int, tuple[bytes, ...]]:
    """The default active measurements of a manifest; a device's default measurement is the last alternative."""
    alternatives = {12: 4, 23: 2, 24: 2, 32: 2, 33: 2, 34: 2, 35: 4, 36: 3}
    active = [7, *range(21, 41)] if kind == "driver" else [*range(7), *range(8, 13)]
    if arch == "ls10":
        active = [] if kind == "driver" else list(range(31))  # a switch has one manifest, of its BIOS
    zero = (0, 8, 10, 28)
    return {index: tuple(_measurement(index, n, zero) for n in range(alternatives.get(index, 1))) for index in active}


def _measurement(index: int, alternative: int, zero: Iterable[int]) -> bytes:
    text = f"measurement {index}, alternative {alternative}"
    return ZERO if index in zero else hashlib.sha384(text.encode()).digest()


def vbios_field(version: str) -> bytes:
    """Opaque field 6 of a GPU for a version like ``96.00.A5.00.01``: four bytes backwards, the fifth, three zeros."""
    first = bytes.fromhex(version.replace(".", ""))
    return first[3::-1] + first[4:] + bytes(3)


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU or switch: its chain (leaf first), the leaf's key, and what its reports say."""

    arch: Arch
    chain: tuple[bytes, ...]
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    fwid: bytes
    pdi: bytes

    @property
    def pem(self) -> bytes:
        """The chain as the driver gives it out."""
        return b"".join(x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in self.chain)

    @property
    def serial(self) -> int:
        """Serial number of the leaf: the identity of the device (``ueid``)."""
        return x509.load_der_x509_certificate(self.chain[0]).serial_number

    def measurements(self, changed: Mapping[int, bytes] | None = None) -> dict[int, bytes]:
        """Digest of each manifest index; index 41 of a GPU is measured although no manifest speaks of it."""
        known = {index: values[-1] for kind in KINDS for index, values in golden(kind, self.arch).items()}
        if self.arch != "ls10":
            known[41] = _measurement(41, 0, ())
        return {index: known.get(index, ZERO) for index in range(FAMILIES[self.arch].blocks)} | dict(changed or {})

    def blocks(self, measurements: Mapping[int, bytes] | None = None) -> list[tuple[int, bytes]]:
        """Measurement blocks; ``measurements`` (by manifest index) replaces some."""
        return [(index + 1, digest) for index, digest in sorted(self.measurements(measurements).items())]

    def opaque(
        self,
        changed: Mapping[int, bytes] | None = None,
        without: Iterable[int] = (),
        measurements: Mapping[int, bytes] | None = None,
    ) -> list[tuple[int, bytes]]:
        """Opaque fields in the firmware's order; ``changed`` replaces or adds, ``without`` leaves out, by type."""
        family = FAMILIES[self.arch]
        # How many measurements went into each digest: none exactly where the digest is zero.
        counts = b"".join(int(any(digest)).to_bytes(4, "little") for digest in self.measurements(measurements).values())
        if self.arch == "ls10":
            found = {VBIOS: family.vbios.encode(), PDI: self.pdi, COUNTS: counts[: 26 * 4], 26: bytes(range(128))}
            found |= {23: b"\xec\x00", 24: b"\x02\x00", 25: b"\x01\x00"}
        else:
            found = {VBIOS: vbios_field(family.vbios), DRIVER: DRIVER_VERSION.encode() + b"\x00", COUNTS: counts}
            found |= {14: bytes.fromhex("37040000"), 15: b"885".ljust(9, b"\x00"), 16: b"0".ljust(5, b"\x00")}
            found |= {17: b"G520\x00", 18: b"0200\x00", 19: b"\x00\x00", 4: bytes.fromhex("8001000000000000")}
            found |= {13: bytes.fromhex("00c00100"), NVDEC0: b"\x55", FWID: self.fwid}
            found |= {34: b"\x01\x00", FEATURE_FLAG: b"\x00\x00"}
        if self.arch == "hopper":
            found |= {PROTECTED_PCIE_STATUS: b"\x55"}
        if self.arch == "blackwell":
            found |= {33: b"\x07\x07", 35: b"GB100\x00"}
        order = list(dict.fromkeys([*(found if self.arch == "ls10" else OPAQUE_ORDER), *(changed or {})]))
        found |= dict(changed or {})
        return [(kind, found[kind]) for kind in order if kind in found and kind not in set(without)]

    def report(
        self,
        nonce: bytes,
        *,
        measurements: Mapping[int, bytes] | None = None,
        changed: Mapping[int, bytes] | None = None,
        without: Iterable[int] = (),
        blocks: Blocks | None = None,
        opaque: Opaque | None = None,
        responder_nonce: bytes | None = None,
        signature: bytes | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        trailing: bytes = b"",
    ) -> bytes:
        """A signed report on ``nonce``.

        Args:
            measurements: digests to replace, by manifest index.
            changed: opaque fields to replace or add, by type; ``PROTECTED_PCIE`` is a ready set.
            without: types of opaque fields to leave out.
            blocks, opaque: all of them instead, e.g. ``device.blocks()`` with one repeated.
            signature: these bytes instead of a signature; ``raw_signature`` makes odd ones.
            key: sign with this key instead of the leaf's.
            trailing: bytes after the signature.
        """
        body = report_body(
            nonce,
            os.urandom(32) if responder_nonce is None else responder_nonce,
            self.blocks(measurements) if blocks is None else blocks,
            self.opaque(changed, without, measurements) if opaque is None else opaque,
        )
        return (sign_report(body, key or self.key) if signature is None else body + signature) + trailing


# Reference manifests

SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
TCG_RIM = "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/"
SHA384_URI = "http://www.w3.org/2001/04/xmlenc#sha384"
DSIG = "http://www.w3.org/2000/09/xmldsig#"
C14N_11 = "http://www.w3.org/2006/12/xml-c14n11"


@dataclass(frozen=True, slots=True)
class XmlAlgorithm:
    """An XML signature algorithm: the name in the document, and how it signs."""

    uri: str
    sign: Callable[[PrivateKey, bytes], bytes]


def _ecdsa(key: PrivateKey, data: bytes, hash_algorithm: hashes.HashAlgorithm) -> bytes:
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return raw_signature(*decode_dss_signature(key.sign(data, ec.ECDSA(hash_algorithm))))


def _rsa(key: PrivateKey, data: bytes) -> bytes:
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.sign(data, padding.PKCS1v15(), hashes.SHA384())


_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
ECDSA_SHA384 = XmlAlgorithm(_MORE + "ecdsa-sha384", lambda key, data: _ecdsa(key, data, hashes.SHA384()))
ECDSA_SHA256 = XmlAlgorithm(_MORE + "ecdsa-sha256", lambda key, data: _ecdsa(key, data, hashes.SHA256()))
RSA_SHA384 = XmlAlgorithm(_MORE + "rsa-sha384", _rsa)  # needs a signer with ``rsa_key()``
# The public key as the secret: what a verifier that takes the algorithm from the document would accept.
HMAC_SHA384 = XmlAlgorithm(_MORE + "hmac-sha384", lambda key, data: hmac.digest(_spki(key), data, "sha384"))
NO_SIGNATURE = XmlAlgorithm("none", lambda _key, _data: b"")


def _canonical(element: etree._Element) -> bytes:
    # C14N 1.1 differs from 1.0 in xml:id and xml:base alone, which no manifest has.
    canonical: bytes = etree.tostring(element, method="c14n")
    return canonical


def sign_rim(document: bytes, signer: Signer, algorithm: XmlAlgorithm = ECDSA_SHA384) -> bytes:
    """Put an enveloped signature at the end of an unsigned ``document``; ``signer.chain`` is embedded as it is."""
    digest = base64.b64encode(hashlib.sha384(_canonical(etree.fromstring(document))).digest()).decode()
    texts = ["\n".join(textwrap.wrap(base64.b64encode(one).decode(), 64)) for one in signer.chain]
    certificates = "".join(f"<ds:X509Certificate>{text}\n</ds:X509Certificate>" for text in texts)
    value = "@value@"
    signature = (
        f'<ds:Signature xmlns:ds="{DSIG}"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{C14N_11}"/>'
        f'<ds:SignatureMethod Algorithm="{algorithm.uri}"/><ds:Reference URI=""><ds:Transforms>'
        f'<ds:Transform Algorithm="{DSIG}enveloped-signature"/><ds:Transform Algorithm="{C14N_11}"/></ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{_MORE}sha384"/><ds:DigestValue>{digest}</ds:DigestValue></ds:Reference>'
        f"</ds:SignedInfo><ds:SignatureValue>{value}</ds:SignatureValue>"
        f"<ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature>"
    )
    head, end, tail = document.rpartition(b"</SoftwareIdentity>")
    signed = head + signature.encode() + end + tail
    info = etree.fromstring(signed).find(f"{{{DSIG}}}Signature/{{{DSIG}}}SignedInfo")
    assert info is not None
    return signed.replace(value.encode(), base64.b64encode(algorithm.sign(signer.key, _canonical(info))))


class RimParts(TypedDict, total=False):
    """What can be said of a manifest besides its measurements."""

    inactive: Golden  # values of indices that are not active; zeros otherwise
    meta: Mapping[str, str]  # attributes of ``Meta`` to replace or add
    resources: str  # XML after the last resource, such as an index twice
    inside: str  # XML after the payload, which the signature will cover
    doctype: str  # text before the root element, which canonical XML drops


def rim_document(measurements: Golden, version: str, product: str = "GH100", **parts: Unpack[RimParts]) -> bytes:
    """An unsigned manifest of 64 indices: those of ``measurements`` are active, the others are not."""
    inactive = parts.get("inactive", {})

    def resource(index: int) -> str:
        values = measurements.get(index) or inactive.get(index) or (ZERO,)
        listed = " ".join(f'ns2:Hash{n}="{value.hex()}"' for n, value in enumerate(values))
        return (
            f'        <ns0:Resource type="Measurement" index="{index}" active="{index in measurements}" '
            f'alternatives="{len(values)}" {listed} name="Measurement_{index}" size="{len(values[0])}"/>\n'
        )

    attributes = {
        "colloquialVersion": version,
        "edition": "SWITCH" if product == "LS10" else "GPU",
        "product": product,
        "revision": "r1",
        "PayloadType": "direct",
        "ns1:BindingSpec": "RIMIM",
        "ns1:BindingSpecVersion": "1.01",
        "ns1:PlatformManufacturerId": "5703",
        "ns1:PlatformManufacturerStr": "NVIDIA Corporation",
        "ns1:PlatformModel": product,
        "ns1:FirmwareManufacturer": "NVIDIA Corporation",
        "ns1:FirmwareManufacturerId": "5703",
        **parts.get("meta", {}),
    }
    listed = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    tag = hashlib.sha384(f"{product} {version}".encode()).hexdigest()
    resources = "".join(resource(index) for index in sorted({*range(64), *measurements, *inactive}))
    return (
        f'{parts.get("doctype", "")}<SoftwareIdentity xmlns="{SWID}" xmlns:ns0="{SWID}" xmlns:ns2="{SHA384_URI}" '
        f'corpus="false" name="{product}" patch="false" supplemental="false" tagId="{tag}" version="1.0" '
        'tagVersion="0">\n    <ns0:Entity name="NVIDIA Corporation" role="softwareCreator tagCreator"/>\n'
        f'    <ns0:Meta xmlns:ns1="{TCG_RIM}" {listed}/>\n    <ns0:Payload xmlns:SHA384="{SHA384_URI}">\n'
        f"{resources}{parts.get('resources', '')}    </ns0:Payload>\n{parts.get('inside', '')}</SoftwareIdentity>\n"
    ).encode()


# The authority

_CA_LIFE = datetime(2021, 11, 5, tzinfo=UTC), FOREVER
_RIM_ROOT_LIFE = datetime(2023, 3, 16, tzinfo=UTC), datetime(2053, 3, 8, tzinfo=UTC)
_RIM_CA_LIFE = datetime(2023, 5, 11, tzinfo=UTC), datetime(2033, 5, 11, 23, 59, 59, tzinfo=UTC)
_RIM_ISSUER_LIFE = datetime(2023, 10, 31, tzinfo=UTC), datetime(2027, 4, 30, 23, 59, 59, tzinfo=UTC)


class NvidiaAuthority:
    """A vendor with keys of its own: pin ``root`` for devices and ``rim_root`` for manifests (DER)."""

    def __init__(self) -> None:
        self._signers: dict[bytes, Signer] = {}
        self._provisioners: dict[Arch, Signer] = {}
        self._rim_issuers: dict[Arch, Signer] = {}
        name = _name(cn="NVIDIA Device Identity CA", o="NVIDIA")
        root = self._keep(issue(None, name, new_key(), _ca(aia=False), _CA_LIFE))
        name = _name(c="US", o="NVIDIA", cn="NVIDIA CoRIM signing Root CA")
        rim_root = self._keep(issue(None, name, new_key(), _ca(aia=False), _RIM_ROOT_LIFE))
        self.root, self.rim_root = root.chain[0], rim_root.chain[0]
        identities: dict[str, Signer] = {}
        for arch, family in FAMILIES.items():
            common = {"o": "NVIDIA Corporation", "c": "US"}
            if family.identity not in identities:
                name = _name(cn=f"NVIDIA {family.identity} Identity", o="NVIDIA Corporation")
                identity = self._keep(issue(root, name, new_key(), _ca("crl/l1-root.crl"), _CA_LIFE))
                identities[family.identity] = identity
            name, crl = _name(cn=family.provisioner, **common), f"crl/l2-{family.identity.lower()}.crl"
            provisioner = issue(identities[family.identity], name, new_key(), _ca(crl), _CA_LIFE)
            self._provisioners[arch] = self._keep(provisioner)
            name = _name(cn=f"NVIDIA Reference Value {family.product} CA", **common)
            middle = self._keep(issue(rim_root, name, new_key(), _ca("crl-corim/l1-corim"), _RIM_CA_LIFE))
            name = _name(cn=f"NVIDIA Reference Value L3 {family.product} 002", **common)
            self._rim_issuers[arch] = self._keep(issue(middle, name, new_key(), _ca(path=0), _RIM_ISSUER_LIFE))

    def signer_of(self, certificate: bytes) -> Signer:
        """The key behind a certificate of this authority (DER), with its chain: what whoever stole it could sign with."""
        return self._signers[certificate]

    def _keep(self, signer: Signer) -> Signer:
        self._signers[signer.chain[0]] = signer
        return signer

    def device(
        self,
        arch: Arch = "hopper",
        *,
        fwid: bytes | None = None,
        certified_fwid: bytes | None = None,
        dice: bytes | None = None,
        pdi: bytes | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        device_is_ca: bool = True,
        leaf_signed_by: PrivateKey | None = None,
        life: Life = (datetime(2020, 10, 17, tzinfo=UTC), FOREVER),
    ) -> Device:
        """A device with fresh device and leaf keys.

        Args:
            fwid: digest of the firmware, 48 bytes, in its reports (GPU) and in its leaf.
            certified_fwid: another one for the leaf alone.
            dice: content of the DICE extension instead; empty bytes leave the extension out.
            pdi: identity of the chip, 8 bytes, in the device certificate's serial number.
            key: the leaf's key, e.g. another device's.
            leaf_signed_by: signs the leaf in the device certificate's name.
            life: of the device certificate and the leaf.
        """
        family, provisioner = FAMILIES[arch], self._provisioners[arch]
        fwid, pdi = fwid or os.urandom(48), pdi or os.urandom(8)
        key, device_key = key or new_key(), new_key()
        blackwell = arch == "blackwell"
        common = {"c": "US", "o": "NVIDIA Corporation"}
        serial = bytes([0x50 if arch == "ls10" else 0x41]) + pdi
        name = _name(sn=serial.hex().upper(), **common, cn=f"{family.firmware} BROM")
        constraints, *others = _ca(aia=blackwell, signs_crl=False)
        extensions = [constraints if device_is_ca else (x509.BasicConstraints(False, None), True), *others]
        number = int.from_bytes(serial, "big")
        device = self._keep(issue(provisioner, name, device_key, extensions, life, serial=number))
        listed = certified_fwid or fwid
        content = dice_tcb_info(family.firmware, listed, ZERO) if blackwell else dice_device_id(device_key, listed)
        content = content if dice is None else dice
        info = x509.OtherName(
            DEVICE_INFO, der(12, f"NVIDIA:{family.chip}:48B02D{os.urandom(5).hex().upper()}".encode())
        )
        extensions = [(_usage(signs=True), True), (x509.SubjectAlternativeName([info]), False)]
        if content:
            oid = DICE_TCB_INFO if blackwell else DICE_DEVICE_ID
            extensions.append((x509.UnrecognizedExtension(oid, content), False))
        serial = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
        serial = bytes([serial[0] & 0x7F | 0x40]) + serial[1:]  # positive, and always 20 bytes
        name = _name(sn=serial.hex().upper(), **common, cn=f"{family.firmware} FMC LF")
        number = int.from_bytes(serial, "big")
        leaf = issue(device, name, key, extensions, life, serial=number, signed_by=leaf_signed_by)
        return Device(arch, leaf.chain, key, fwid, pdi)

    def rim_signer(
        self,
        arch: Arch = "hopper",
        *,
        life: Life = (datetime(2024, 12, 30, tzinfo=UTC), datetime(2026, 12, 30, tzinfo=UTC)),
        key: PrivateKey | None = None,
        signed_by: PrivateKey | None = None,
    ) -> Signer:
        """A signer of manifests with its chain of four certificates; ``signed_by`` signs it in its issuer's name."""
        extensions: Extensions = ((x509.BasicConstraints(False, None), True), (_usage(signs=True), True), (_AIA, False))
        name = _name(c="US", o="NVIDIA Corporation", cn="HCC RIM L4 Signer")
        issuer = self._rim_issuers[arch]
        return self._keep(issue(issuer, name, key or new_key(), extensions, life, signed_by=signed_by))

    def rim(
        self,
        kind: Kind,
        measurements: Golden | None = None,
        *,
        arch: Arch = "hopper",
        version: str | None = None,
        signer: Signer | None = None,
        algorithm: XmlAlgorithm = ECDSA_SHA384,
        **parts: Unpack[RimParts],
    ) -> bytes:
        """A signed manifest, whose golden values are the default measurements of a device unless given."""
        family = FAMILIES[arch]
        found = golden(kind, arch) if measurements is None else measurements
        version = version or (DRIVER_VERSION if kind == "driver" else family.vbios)
        document = rim_document(found, version, family.product, **parts)
        return sign_rim(document, signer or self.rim_signer(arch), algorithm=algorithm)

    def ocsp(
        self,
        certificate: bytes,
        issuer: bytes,
        status: Literal["good", "revoked", "unknown"] = "good",
        *,
        this_update: datetime = NOW - timedelta(hours=1),
        next_update: datetime | None = NOW + timedelta(hours=23),
        produced_at: datetime = NOW - timedelta(hours=1),
        revoked_at: datetime = NOW - timedelta(days=30),
        reason: x509.ReasonFlags | None = None,
        responder: Literal["delegated", "issuer", "stranger", "no_ocsp_signing"] = "delegated",
        responder_life: Life = (NOW - timedelta(days=30), NOW + timedelta(days=30)),
        nonce: bytes | None = None,
        certificate_id_hash: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        """An answer about ``certificate`` of ``issuer`` (both DER, ``issuer`` of this authority), RFC 6960.

        Args:
            next_update: ``None`` leaves it out.
            responder: who signs: a certificate of the issuer for this purpose, the issuer itself, one of another key in
                the issuer's name, or one of the issuer without the extended key usage.
            certificate_id_hash: SHA-384 unless given.
        """
        above = self._signers[issuer]
        signer = above
        if responder != "issuer":
            name = _name(cn="NVIDIA OCSP Responder", o="NVIDIA Corporation", c="US")
            extensions: list[tuple[x509.ExtensionType, bool]] = [
                (_usage(signs=True), True),
                (x509.OCSPNoCheck(), False),
            ]
            if responder != "no_ocsp_signing":
                extensions.append((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False))
            stranger = new_key() if responder == "stranger" else None
            signer = issue(above, name, new_key(), extensions, responder_life, signed_by=stranger)
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                x509.load_der_x509_certificate(certificate),
                x509.load_der_x509_certificate(issuer),
                certificate_id_hash or hashes.SHA384(),
                ocsp.OCSPCertStatus[status.upper()],
                this_update,
                next_update,
                revoked_at if status == "revoked" else None,
                reason,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, x509.load_der_x509_certificate(signer.chain[0]))
        )
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        assert isinstance(signer.key, ec.EllipticCurvePrivateKey)
        drafted = builder.sign(signer.key, hashes.SHA384())
        # The builder stamps the answer with the machine's clock; the tests have a clock of their own.
        stamped = drafted.tbs_response_bytes.replace(_time(drafted.produced_at_utc), _time(produced_at), 1)
        return sign_ocsp(stamped, signer.key, () if responder == "issuer" else signer.chain[:1])


def _time(moment: datetime) -> bytes:
    return der(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


def sign_ocsp(body: bytes, key: ec.EllipticCurvePrivateKey, certificates: Iterable[bytes] = ()) -> bytes:
    """An OCSPResponse around the ResponseData ``body``, signed with ``key``."""
    signature = key.sign(body, ec.ECDSA(hashes.SHA384()))
    listed = b"".join(certificates)
    attached = der(0xA0, der(0x30, listed)) if listed else b""
    basic = der(0x30, body, der(0x30, _OID_ECDSA_SHA384), der(3, b"\x00", signature), attached)
    return der(0x30, der(0x0A, b"\x00"), der(0xA0, der(0x30, _OID_OCSP_BASIC, der(4, basic))))


@cache
def nvidia_authority() -> NvidiaAuthority:
    """One authority for the whole process."""
    return NvidiaAuthority()
