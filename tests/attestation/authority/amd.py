"""A stand-in for AMD: ARK, ASK and ASVK of a product, endorsed chip keys, a CRL, and SEV-SNP reports signed by them.

Certificates have the names, extensions, order and algorithms of AMD's own (57230, "VCEK Certificate and KDS Interface
Specification"), reports the layout of 56860 ("SEV-SNP Firmware ABI", ATTESTATION_REPORT). Everything is valid by
default. To break one thing: override a keyword and sign again (only the policy can object), or patch signed bytes at a
slice of ``FIELDS`` and do not sign again (only the signature can object). How a verifier judges the result is not
known here.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypedDict, Unpack

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 6, 1, tzinfo=UTC)

REPORT_SIZE = 0x4A0
SIGNED_SIZE = 0x2A0
VLEK_SIGNED = 1 << 2  # Report.key_info: bits 4:2 are the signing key, 0 VCEK, 1 VLEK
CSP_ID = "CN=cc-eu-west-1.cloud.example"

Role = Literal["ARK", "ASK", "ASVK"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcb:
    """Security patch levels of the firmware parts, each 0 to 255 (56860, TCB_VERSION). Only Turin has an ``fmc``."""

    fmc: int = 0
    bootloader: int = 0
    tee: int = 0
    snp: int = 0
    microcode: int = 0

    def encode(self, product: str) -> bytes:
        """Eight bytes in the order of ``product``: Turin's begins with the FMC, Milan's and Genoa's has no place for it."""
        if product == "Turin":
            return bytes([self.fmc, self.bootloader, self.tee, self.snp, 0, 0, 0, self.microcode])
        if self.fmc:
            raise ValueError("only Turin has an FMC level")
        return bytes([self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode])


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What differs between the products, as read off AMD's certificates and real reports."""

    vcek_name: str  # a VCEK of Milan names the stepping, a VLEK does not
    serials: Mapping[Role, int]
    since: datetime  # of the ARK and its intermediates, which are valid for 25 years
    cpuid: tuple[int, int, int]  # family, model, stepping
    struct_version: int
    hwid_size: int
    spl_order: Sequence[int]  # of the extensions 1.3.6.1.4.1.3704.1.3.N
    tcb: Tcb  # the default: current, and above the floors that AMD-SB-3019 set


_SPLS = (1, 2, 4, 5, 6, 7, 3, 8)
PRODUCTS: Mapping[str, Product] = {
    "Milan": Product(
        vcek_name="Milan-B0",
        serials={"ARK": 0x010000, "ASK": 0x010001, "ASVK": 0x010101},
        since=datetime(2020, 10, 22, 17, 23, 5, tzinfo=UTC),
        cpuid=(0x19, 0x01, 0x01),
        struct_version=0,
        hwid_size=64,
        spl_order=_SPLS,
        tcb=Tcb(bootloader=0x04, snp=0x18, microcode=0xDB),
    ),
    "Genoa": Product(
        vcek_name="Genoa",
        serials={"ARK": 0x020000, "ASK": 0x020002, "ASVK": 0x020101},
        since=datetime(2022, 1, 26, 15, 34, 37, tzinfo=UTC),
        cpuid=(0x19, 0x11, 0x01),
        struct_version=0,
        hwid_size=64,
        spl_order=_SPLS,
        tcb=Tcb(bootloader=0x0A, snp=0x17, microcode=0x54),
    ),
    "Turin": Product(
        vcek_name="Turin",
        serials={"ARK": 0x030000, "ASK": 0x030001, "ASVK": 0x030101},
        since=datetime(2023, 5, 15, 20, 3, 12, tzinfo=UTC),
        cpuid=(0x1A, 0x02, 0x01),
        struct_version=1,
        hwid_size=8,
        spl_order=(9, 1, 2, 3, 5, 6, 7, 8),
        tcb=Tcb(fmc=1, bootloader=1, tee=1, snp=4, microcode=0x51),
    ),
}


def default_chip_id(product: str) -> bytes:
    """The 64 bytes CHIP_ID of this stand-in's only chip; Turin's identifier is 8 bytes with zeros behind."""
    return bytes(range(1, PRODUCTS[product].hwid_size + 1)).ljust(64, b"\0")


# --- Certificates. Written as DER by hand: a builder refuses the serial number 0 that AMD gives every chip key. ---

_AMD = "1.3.6.1.4.1.3704.1"
EXTENSIONS: Mapping[str, str] = {
    "struct_version": f"{_AMD}.1",
    "product_name": f"{_AMD}.2",
    "bootloader": f"{_AMD}.3.1",
    "tee": f"{_AMD}.3.2",
    "snp": f"{_AMD}.3.3",
    "spl4": f"{_AMD}.3.4",
    "spl5": f"{_AMD}.3.5",
    "spl6": f"{_AMD}.3.6",
    "spl7": f"{_AMD}.3.7",
    "microcode": f"{_AMD}.3.8",
    "fmc": f"{_AMD}.3.9",
    "hwid": f"{_AMD}.4",
    "csp_id": f"{_AMD}.5",
    "subject_key_identifier": "2.5.29.14",
    "key_usage": "2.5.29.15",
    "basic_constraints": "2.5.29.19",
    "crl_number": "2.5.29.20",
    "crl_distribution_points": "2.5.29.31",
    "authority_key_identifier": "2.5.29.35",
}
_SPL_NAMES = ("", "bootloader", "tee", "snp", "spl4", "spl5", "spl6", "spl7", "microcode", "fmc")
_CRITICAL = frozenset({"key_usage", "basic_constraints"})


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs a certificate or a CRL: the name that it will carry, and the key."""

    common_name: str
    key: rsa.RSAPrivateKey


class Overrides(TypedDict, total=False):
    """What a test may change in a certificate.

    ``extensions`` maps a name of ``EXTENSIONS``, or a dotted OID, to the bytes inside the extension's OCTET STRING, or to
    ``None`` to leave the extension out. A name that was not there comes last.
    """

    subject: str
    serial: int
    issuer: Issuer
    not_before: datetime
    not_after: datetime
    extensions: Mapping[str, bytes | None]


def _tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


_sequence = functools.partial(_tlv, 0x30)
_integer = asn1.encode_der


def _oid(dotted: str) -> bytes:
    return asn1.encode_der(x509.ObjectIdentifier(dotted))


def _utc(moment: datetime) -> bytes:
    return asn1.encode_der(asn1.UTCTime(moment))


def _name(common_name: str) -> bytes:
    attributes = [
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Engineering"),
        (NameOID.COUNTRY_NAME, "US"),
        (NameOID.LOCALITY_NAME, "Santa Clara"),
        (NameOID.STATE_OR_PROVINCE_NAME, "CA"),
        (NameOID.ORGANIZATION_NAME, "Advanced Micro Devices"),
        (NameOID.COMMON_NAME, common_name),
    ]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes]).public_bytes()


def _pss(*, explicit_trailer: bool) -> bytes:
    """RSASSA-PSS with SHA-384 and salt 48. AMD's CA certificates spell out the default trailer field, newer leaves do not."""
    sha384 = _sequence(_oid("2.16.840.1.101.3.4.2.2"), b"\x05\x00")
    mgf1 = _sequence(_oid("1.2.840.113549.1.1.8"), sha384)
    parts = [_tlv(0xA0, sha384), _tlv(0xA1, mgf1), _tlv(0xA2, _integer(48))]
    if explicit_trailer:
        parts.append(_tlv(0xA3, _integer(1)))
    return _sequence(_oid("1.2.840.113549.1.1.10"), _sequence(*parts))


def _extensions(values: Mapping[str, bytes], overrides: Mapping[str, bytes | None]) -> bytes:
    encoded = []
    for name, value in {**values, **overrides}.items():
        if value is not None:
            critical = b"\x01\x01\xff" if name in _CRITICAL else b""
            encoded.append(_sequence(_oid(EXTENSIONS.get(name, name)), critical, _tlv(0x04, value)))
    return _sequence(*encoded)


def _signed(body: bytes, algorithm: bytes, key: rsa.RSAPrivateKey) -> bytes:
    signature = key.sign(body, padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48), hashes.SHA384())
    return _sequence(body, algorithm, asn1.encode_der(asn1.BitString(signature, 0)))


def _key_identifier(key: rsa.RSAPrivateKey) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest


def _certificate(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    extensions: Mapping[str, bytes],
    overrides: Overrides,
    *,
    subject: str,
    serial: int,
    issuer: Issuer,
    validity: tuple[datetime, datetime],
    explicit_trailer: bool,
) -> bytes:
    algorithm = _pss(explicit_trailer=explicit_trailer)
    issuer = overrides.get("issuer", issuer)
    not_before, not_after = validity
    body = _sequence(
        _tlv(0xA0, _integer(2)),
        _integer(overrides.get("serial", serial)),
        algorithm,
        _name(issuer.common_name),
        _sequence(_utc(overrides.get("not_before", not_before)), _utc(overrides.get("not_after", not_after))),
        _name(overrides.get("subject", subject)),
        key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        _tlv(0xA3, _extensions(extensions, overrides.get("extensions", {}))),
    )
    return _signed(body, algorithm, issuer.key)


@functools.cache
def _rsa_key(owner: str, product: str, role: Role) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 4096)


@functools.cache
def _ca_certificate(authority: "AmdAuthority", role: Role) -> bytes:
    return authority.ca(role)


@dataclass(frozen=True, slots=True)
class AmdAuthority:
    """AMD's hierarchy for ``product``: "Milan", "Genoa" or "Turin".

    Another ``owner`` has the same names and other keys: a stranger. Keys and CA certificates are made once in a process.
    """

    product: str
    owner: str = "AMD"

    def issuer(self, role: Role) -> Issuer:
        """The ARK, the ASK (of VCEKs) or the ASVK (of VLEKs) as a signer."""
        prefix = {"ARK": "ARK", "ASK": "SEV", "ASVK": "SEV-VLEK"}[role]
        return Issuer(f"{prefix}-{self.product}", _rsa_key(self.owner, self.product, role))

    @property
    def root(self) -> bytes:
        """The ARK's self-signed certificate, DER: what a verifier pins."""
        return _ca_certificate(self, "ARK")

    @property
    def ask(self) -> bytes:
        """The certificate, DER, of the intermediate that issues VCEKs."""
        return _ca_certificate(self, "ASK")

    @property
    def asvk(self) -> bytes:
        """The certificate, DER, of the intermediate that issues VLEKs."""
        return _ca_certificate(self, "ASVK")

    def ca(self, role: Role, *, key: rsa.RSAPrivateKey | None = None, **overrides: Unpack[Overrides]) -> bytes:
        """A new certificate, DER, of the ARK or an intermediate; ``key`` is the certified key if not the role's own."""
        ark, subject = self.issuer("ARK"), self.issuer(role)
        key = key or subject.key
        kind = "vlek" if role == "ASVK" else "vcek"
        url = x509.UniformResourceIdentifier(f"https://kdsintf.amd.com/{kind}/v1/{self.product}/crl")
        point = x509.DistributionPoint([url], relative_name=None, reasons=None, crl_issuer=None)
        extensions = {"subject_key_identifier": _tlv(0x04, _key_identifier(key))}
        if role == "ARK":
            extensions = {"key_usage": bytes.fromhex("03020106"), **extensions}  # certificate and CRL sign
            extensions["basic_constraints"] = bytes.fromhex("30030101ff")  # a CA
        else:
            extensions["authority_key_identifier"] = _sequence(_tlv(0x80, _key_identifier(ark.key)))
            extensions["basic_constraints"] = bytes.fromhex("30060101ff020100")  # a CA, path length 0
            # Certificate sign. One unused bit, where DER has two: AMD's intermediates are encoded so.
            extensions["key_usage"] = bytes.fromhex("03020104")
        extensions["crl_distribution_points"] = x509.CRLDistributionPoints([point]).public_bytes()
        product = PRODUCTS[self.product]
        return _certificate(
            key,
            extensions,
            overrides,
            subject=subject.common_name,
            serial=product.serials[role],
            issuer=ark,
            validity=(product.since, product.since.replace(year=product.since.year + 25)),
            explicit_trailer=True,
        )

    def vcek(
        self,
        chip_id: bytes | None = None,
        tcb: Tcb | None = None,
        *,
        key: ec.EllipticCurvePrivateKey | None = None,
        **overrides: Unpack[Overrides],
    ) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
        """A chip key (VCEK) for a report's CHIP_ID and REPORTED_TCB, valid for 7 years: DER certificate and private key.

        The HWID extension holds ``chip_id`` raw: all 64 bytes, or on Turin the first 8.
        """
        product = PRODUCTS[self.product]
        hwid = (default_chip_id(self.product) if chip_id is None else chip_id)[: product.hwid_size]
        extensions = {**self._tcb_extensions(product.vcek_name, tcb or product.tcb), "hwid": hwid}
        validity = (datetime(2025, 8, 7, 17, 21, 41, tzinfo=UTC), datetime(2032, 8, 7, 17, 21, 41, tzinfo=UTC))
        return self._leaf("SEV-VCEK", "ASK", extensions, validity, key, overrides)

    def vlek(
        self,
        csp_id: str = CSP_ID,
        tcb: Tcb | None = None,
        *,
        key: ec.EllipticCurvePrivateKey | None = None,
        **overrides: Unpack[Overrides],
    ) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
        """A cloud provider's key (VLEK) for ``csp_id`` and a REPORTED_TCB, valid for a year: DER certificate and key."""
        extensions = self._tcb_extensions(self.product, tcb or PRODUCTS[self.product].tcb)
        extensions["csp_id"] = asn1.encode_der(asn1.IA5String(csp_id))
        validity = (datetime(2026, 3, 9, 19, 30, 5, tzinfo=UTC), datetime(2027, 3, 9, 19, 30, 5, tzinfo=UTC))
        return self._leaf("SEV-VLEK", "ASVK", extensions, validity, key, overrides)

    def crl(
        self,
        revoked: Sequence[int] = (),
        this_update: datetime = NOW - timedelta(days=7),
        next_update: datetime | None = NOW + timedelta(days=40),
        *,
        issuer: Issuer | None = None,
        number: int = 9,
        extensions: Mapping[str, bytes | None] | None = None,
    ) -> bytes:
        """The ARK's list, DER, of ``revoked`` serial numbers: version 2, with key identifier and number, as AMD KDS's is."""
        issuer = issuer or self.issuer("ARK")
        algorithm = _pss(explicit_trailer=False)
        values = {
            "authority_key_identifier": _sequence(_tlv(0x80, _key_identifier(issuer.key))),
            "crl_number": _integer(number),
        }
        entries = [_sequence(_integer(serial), _utc(this_update)) for serial in revoked]
        body = _sequence(
            _integer(1),
            algorithm,
            _name(issuer.common_name),
            _utc(this_update),
            b"" if next_update is None else _utc(next_update),
            _sequence(*entries) if entries else b"",
            _tlv(0xA0, _extensions(values, extensions or {})),
        )
        return _signed(body, algorithm, issuer.key)

    def _tcb_extensions(self, product_name: str, tcb: Tcb) -> dict[str, bytes]:
        product = PRODUCTS[self.product]
        levels = {_SPL_NAMES[number]: _integer(0) for number in product.spl_order}
        for name in levels.keys() & {"fmc", "bootloader", "tee", "snp", "microcode"}:
            levels[name] = _integer(getattr(tcb, name))
        return {
            "struct_version": _integer(product.struct_version),
            "product_name": asn1.encode_der(asn1.IA5String(product_name)),
            **levels,
        }

    def _leaf(
        self,
        subject: str,
        issuer: Role,
        extensions: Mapping[str, bytes],
        validity: tuple[datetime, datetime],
        key: ec.EllipticCurvePrivateKey | None,
        overrides: Overrides,
    ) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
        key = key or ec.generate_private_key(ec.SECP384R1())
        certificate = _certificate(
            key,
            extensions,
            overrides,
            subject=subject,
            serial=0,
            issuer=self.issuer(issuer),
            validity=validity,
            explicit_trailer=False,
        )
        return certificate, key


# --- Reports ---

_LAYOUT = (
    ("version", 4),
    ("guest_svn", 4),
    ("policy", 8),
    ("family_id", 16),
    ("image_id", 16),
    ("vmpl", 4),
    ("signature_algo", 4),
    ("current_tcb", 8),
    ("platform_info", 8),
    ("key_info", 4),
    ("reserved_04c", 4),
    ("report_data", 64),
    ("measurement", 48),
    ("host_data", 32),
    ("id_key_digest", 48),
    ("author_key_digest", 48),
    ("report_id", 32),
    ("report_id_ma", 32),
    ("reported_tcb", 8),
    ("cpuid_family", 1),
    ("cpuid_model", 1),
    ("cpuid_stepping", 1),
    ("reserved_18b", 21),
    ("chip_id", 64),
    ("committed_tcb", 8),
    ("current_build", 1),
    ("current_minor", 1),
    ("current_major", 1),
    ("reserved_1eb", 1),
    ("committed_build", 1),
    ("committed_minor", 1),
    ("committed_major", 1),
    ("reserved_1ef", 1),
    ("launch_tcb", 8),
    ("launch_mitigation_vector", 8),
    ("current_mitigation_vector", 8),
    ("reserved_208", 152),
)


def slices(layout: Sequence[tuple[str, int]], start: int = 0) -> dict[str, slice]:
    """Where each field of ``layout``, a sequence of names and sizes in bytes, lies."""
    found = {}
    for name, size in layout:
        found[name] = slice(start, start + size)
        start += size
    return found


FIELDS: dict[str, slice] = slices(_LAYOUT)
"""Every byte that the signature covers, by name. Reserved fields are named for their offset and hold zeros."""

SIGNATURE_FIELDS: dict[str, slice] = slices((("r", 72), ("s", 72), ("padding", 368)), SIGNED_SIZE)
"""The bytes after them. The signature does not cover its own padding: a verifier must look at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A guest's report in words; integers are little endian, ``None`` stands for what ``product`` and ``version`` imply.

    Reserved fields are zero: patch them in ``body()`` by ``FIELDS``.
    """

    product: str = "Genoa"
    version: int = 5
    guest_svn: int = 0
    policy: int = 0x30000  # bit 16 SMT allowed, bit 17 always one; DEBUG is bit 19
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    vmpl: int = 0
    signature_algo: int = 1  # ECDSA P-384 with SHA-384
    current_tcb: Tcb | None = None  # as reported
    platform_info: int = 0x25  # SMT, ECC, alias check complete
    key_info: int = 0
    report_data: bytes = bytes(64)
    measurement: bytes = hashlib.sha384(b"a guest").digest()
    host_data: bytes = bytes(32)
    id_key_digest: bytes = bytes(48)
    author_key_digest: bytes = bytes(48)
    report_id: bytes = hashlib.sha256(b"a guest").digest()
    report_id_ma: bytes = b"\xff" * 32  # no migration agent
    reported_tcb: Tcb | None = None  # the product's default
    cpuid_family: int | None = None  # the three of them zero before version 3
    cpuid_model: int | None = None
    cpuid_stepping: int | None = None
    chip_id: bytes | None = None  # zeros when a VLEK signs
    committed_tcb: Tcb | None = None  # as reported
    current_build: int = 0x2B
    current_minor: int = 0x37
    current_major: int = 1
    committed_build: int = 0x2B
    committed_minor: int = 0x37
    committed_major: int = 1
    launch_tcb: Tcb | None = None  # as reported
    launch_mitigation_vector: int | None = None  # 1, or 0 before version 5
    current_mitigation_vector: int | None = None

    def body(self) -> bytes:
        """The ``SIGNED_SIZE`` bytes that the chip signs."""
        product = PRODUCTS[self.product]
        reported = self.reported_tcb or product.tcb
        implied: dict[str, int | bytes | Tcb] = dict.fromkeys(
            ("reported_tcb", "current_tcb", "committed_tcb", "launch_tcb"), reported
        )
        cpuid = product.cpuid if self.version >= 3 else (0, 0, 0)
        implied.update(zip(("cpuid_family", "cpuid_model", "cpuid_stepping"), cpuid, strict=True))
        implied["chip_id"] = bytes(64) if self.key_info & 0x1C == VLEK_SIGNED else default_chip_id(self.product)
        implied["launch_mitigation_vector"] = implied["current_mitigation_vector"] = int(self.version >= 5)
        return b"".join(self._encode(name, size, implied) for name, size in _LAYOUT)

    def sign(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        """The complete report, ``REPORT_SIZE`` bytes."""
        return sign_report(self.body(), key)

    def _encode(self, name: str, size: int, implied: Mapping[str, int | bytes | Tcb]) -> bytes:
        if name.startswith("reserved_"):
            return bytes(size)
        value: int | bytes | Tcb | None = getattr(self, name)
        if value is None:
            value = implied[name]
        if isinstance(value, Tcb):
            value = value.encode(self.product)
        elif isinstance(value, int):
            value = value.to_bytes(size, "little")
        if len(value) != size:
            raise ValueError(f"{name} has {size} bytes, not {len(value)}")
        return value


def signature(r: int, s: int) -> bytes:
    """The signature block, 512 bytes: 72 for each number, little endian; any value below 2^576, so 0 and the order too."""
    return r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)


def sign_report(body: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Sign the first ``SIGNED_SIZE`` bytes of ``body``, which may be a complete report: its old signature is replaced."""
    signed = body[:SIGNED_SIZE]
    return signed + signature(*decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA384()))))


def patched(data: bytes, where: slice, value: bytes) -> bytes:
    """``data`` with ``value`` at ``where``, and every signature left as it was."""
    return data[: where.start] + value + data[where.stop :]
