"""A fake Intel: root, PCK and TCB signing certificates, collateral and TDX quotes, all with real signatures.

The shapes (names, extensions, validity, JSON members, byte layouts) are those of Intel's own evidence; the keys are fresh.
What a builder makes by default is valid and acceptable at ``NOW``, and each keyword changes one thing. To verify is left to
others: they pin ``IntelAuthority().root``.

Sources: Intel TDX DCAP Quote Generation Library API, appendix A (quote versions 4 and 5); Intel SGX PCK Certificate and CRL
Profile Specification; Intel PCS API version 4 (TCB info version 3, enclave identity version 2).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey
Window = tuple[datetime, datetime]  # from the first instant to the last, in UTC
Layout = Sequence[tuple[str, int]]  # name and size in bytes of each field, in order

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MONTH: Window = (NOW - timedelta(days=1), NOW + timedelta(days=29))  # TCB info, QE identity, PCK CRL
YEAR: Window = (NOW - timedelta(days=60), NOW + timedelta(days=305))  # the root's CRL
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_CA_VALID: Window = (datetime(2018, 5, 21, 10, 50, 10, tzinfo=UTC), datetime(2033, 5, 21, 10, 50, 10, tzinfo=UTC))
_ROOT_VALID: Window = (datetime(2018, 5, 21, 10, 45, 10, tzinfo=UTC), datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC))
_LEAF_VALID: Window = (datetime(2025, 5, 6, 9, 25, tzinfo=UTC), datetime(2032, 5, 6, 9, 25, tzinfo=UTC))
_ROOT_CRL_URL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
_PCK_CRL_URL = "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der"

# --- The quote's layout ---------------------------------------------------------------------------------------------------

TD10, TD15 = 2, 3  # body types of version 5; a version 4 quote always holds a TD 1.0 body and does not say so


def _layout(text: str) -> Layout:
    return [(name, int(size)) for name, size in (field.split() for field in text.split(","))]


_HEADER = _layout("version 2, attestation_key_type 2, tee_type 4, reserved 4, qe_vendor_id 16, user_data 20")
_DESCRIPTOR = _layout("body_type 2, body_size 4")
_TD10 = _layout(
    "tee_tcb_svn 16, mr_seam 48, mr_signer_seam 48, seam_attributes 8, td_attributes 8, xfam 8, mr_td 48, mr_config_id 48,"
    "mr_owner 48, mr_owner_config 48, rtmr0 48, rtmr1 48, rtmr2 48, rtmr3 48, report_data 64"
)
_BODIES: Mapping[int, Layout] = {TD10: _TD10, TD15: [*_TD10, *_layout("tee_tcb_svn2 16, mr_service_td 48")]}
_QE_REPORT = _layout(
    "cpu_svn 16, misc_select 4, reserved1 28, attributes 16, mr_enclave 32, reserved2 32, mr_signer 32, reserved3 96,"
    "isv_prod_id 2, isv_svn 2, reserved4 60, report_data 64"
)
_SIGNATURE_DATA: Layout = [
    *_layout("signature_data_length 4, signature 64, attestation_key 64, certification_type 2, certification_length 4"),
    *((f"qe_{name}", size) for name, size in _QE_REPORT),
    *_layout("qe_signature 64, auth_data_length 2, auth_data 32, chain_type 2, chain_length 4"),
]


def _size(layout: Layout) -> int:
    return sum(size for _, size in layout)


def _signed_layout(version: int, body_type: int) -> Layout:
    return [*_HEADER, *(_DESCRIPTOR if version >= 5 else ()), *_BODIES[body_type]]


def _slices(layout: Layout, start: int = 0) -> dict[str, slice]:
    found = {}
    for name, size in layout:
        found[name] = slice(start, start + size)
        start += size
    return found


_FORMS = ((4, TD10), (5, TD10), (5, TD15))
FIELDS: dict[tuple[int, int], dict[str, slice]] = {form: _slices(_signed_layout(*form)) for form in _FORMS}
"""By (version, body type): where each field of header and body lies. The attestation key signs all of them, and no more."""

SIGNATURE_FIELDS: dict[tuple[int, int], dict[str, slice]] = {
    form: _slices(_SIGNATURE_DATA, _size(_signed_layout(*form))) for form in _FORMS
}
"""The same for what follows, up to the PEM chain; ``qe_`` marks the fields of the QE report, which the PCK key signs."""

_QUOTE_DEFAULTS: Mapping[str, bytes] = {
    "attestation_key_type": (2).to_bytes(2, "little"),  # ECDSA over P-256
    "tee_type": (0x81).to_bytes(4, "little"),  # TDX
    "qe_vendor_id": bytes.fromhex("939a7233f79c4ca9940a0db3957f0607"),  # Intel's quoting enclave
    "user_data": bytes(range(16)) + bytes(4),
    "tee_tcb_svn": bytes([6, 1, 3]) + bytes(13),  # module SVN 6, module version 1 (so identity TDX_01), microcode 3
    "tee_tcb_svn2": bytes([6, 1, 3]) + bytes(13),
    "mr_seam": hashlib.sha384(b"TDX module").digest(),
    # mr_signer_seam and seam_attributes stay zero: so it is for a module that Intel signed.
    "td_attributes": (1 << 28).to_bytes(8, "little"),  # SEPT_VE_DISABLE, and no DEBUG
    "xfam": (0x602E7).to_bytes(8, "little"),
    "mr_td": hashlib.sha384(b"mr_td").digest(),
    **{f"rtmr{index}": hashlib.sha384(f"rtmr{index}".encode()).digest() for index in range(4)},
    "report_data": bytes(range(64)),
}
AUTH_DATA = bytes(range(32))
_QE_MR_SIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
_QE_DEFAULTS: Mapping[str, bytes] = {
    "cpu_svn": bytes.fromhex("0303191b04ff00060000000000000000"),
    "attributes": bytes.fromhex("1500000000000000e700000000000000"),
    "mr_enclave": hashlib.sha256(b"TD quoting enclave").digest(),
    "mr_signer": _QE_MR_SIGNER,
    "isv_prod_id": (2).to_bytes(2, "little"),
    "isv_svn": (6).to_bytes(2, "little"),
}


def _pack(layout: Layout, defaults: Mapping[str, bytes], fields: Mapping[str, bytes]) -> bytes:
    if unknown := fields.keys() - dict(layout).keys():
        raise TypeError(f"no such field: {sorted(unknown)}")
    packed = [fields.get(name, defaults.get(name, bytes(size))) for name, size in layout]
    if wrong := [name for (name, size), value in zip(layout, packed, strict=True) if len(value) != size]:
        raise ValueError(f"the wrong length: {wrong}")
    return b"".join(packed)


def quote_body(version: int = 4, body_type: int = TD10, **fields: bytes) -> bytes:
    """Header and body: all that the attestation key signs. ``fields`` are named as in ``FIELDS``, little-endian."""
    sizes = {
        "version": version.to_bytes(2, "little"),
        "body_type": body_type.to_bytes(2, "little"),
        "body_size": _size(_BODIES[body_type]).to_bytes(4, "little"),
    }
    return _pack(_signed_layout(version, body_type), {**_QUOTE_DEFAULTS, **sizes}, fields)


def qe_report(public_key: bytes, auth_data: bytes = AUTH_DATA, **fields: bytes) -> bytes:
    """The quoting enclave's report, 384 bytes: it vouches for an attestation key (x || y) and ``auth_data``."""
    bound = hashlib.sha256(public_key + auth_data).digest() + bytes(32)
    return _pack(_QE_REPORT, {**_QE_DEFAULTS, "report_data": bound}, fields)


# --- Keys, signatures, certificates ---------------------------------------------------------------------------------------


def new_key() -> Key:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def raw_public_key(key: Key) -> bytes:
    """The point's x || y, 64 bytes, big-endian: as a quote carries the attestation key."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def raw_signature(r: int, s: int) -> bytes:
    """The two numbers r || s, 64 bytes, big-endian: as quotes and collateral carry a signature."""
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def sign_report(body: bytes, key: Key) -> bytes:
    """ECDSA over SHA-256 of a quote's header and body, of a QE report, or of a JSON document of the collateral."""
    return raw_signature(*decode_dss_signature(key.sign(body, ec.ECDSA(SHA256()))))


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its private key."""

    key: Key
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def serial(self) -> int:
        """What a CRL calls the certificate."""
        return self.certificate.serial_number


def pem_chain(*issued: Issued) -> str:
    """The certificates in PEM, in the given order: leaf first, root last."""
    return "".join(one.certificate.public_bytes(Encoding.PEM).decode() for one in issued)


def issue(
    common_name: str,
    issuer: Issued | None = None,
    *,
    key: Key | None = None,
    path_length: int | None = None,
    valid: Window = _LEAF_VALID,
    crl_url: str = _ROOT_CRL_URL,
    sgx_extension: bytes | None = None,
) -> Issued:
    """A certificate of Intel's profile; without ``issuer`` it signs itself, without ``path_length`` it is no CA."""
    key = key or new_key()
    subject, is_ca = _name(common_name), path_length is not None
    signing_key, issuer_name = (issuer.key, issuer.certificate.subject) if issuer else (key, subject)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
        .add_extension(_crl_distribution_point(crl_url), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(is_ca=is_ca), critical=True)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
    )
    if sgx_extension is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(_SGX_EXTENSION, sgx_extension), critical=False)
    return Issued(key, builder.sign(signing_key, SHA256()))


def crl(issuer: Issued, *, valid: Window, revoked: Iterable[int] = ()) -> bytes:
    """The revocation list of ``issuer``, DER; ``valid`` is its thisUpdate and nextUpdate, ``revoked`` holds serials."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(valid[0])
        .next_update(valid[1])
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(valid[0])
        entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, SHA256()).public_bytes(Encoding.DER)


def _name(common_name: str) -> x509.Name:
    intel = {
        NameOID.COMMON_NAME: common_name,
        NameOID.ORGANIZATION_NAME: "Intel Corporation",
        NameOID.LOCALITY_NAME: "Santa Clara",
        NameOID.STATE_OR_PROVINCE_NAME: "CA",
        NameOID.COUNTRY_NAME: "US",
    }
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in intel.items()])


def _crl_distribution_point(url: str) -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints([x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)])


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=not is_ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


# --- The platform, and the PCK certificate's extension that describes it --------------------------------------------------

_SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
_SGX_EXTENSION_DER = bytes.fromhex("2a864886f84d010d01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What a PCK certificate says of the machine: its names, and its security version numbers (SVNs)."""

    ppid: bytes = bytes(range(0x80, 0x90))
    sgx_svns: tuple[int, ...] = (3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0)
    pce_svn: int = 11
    cpu_svn: bytes | None = None  # unless given, the 16 component SVNs, one byte each
    pce_id: bytes = bytes(2)
    fmspc: bytes = bytes.fromhex("b0c06f000000")
    sgx_type: int = 1  # 0 standard, 1 scalable, 2 scalable with integrity
    platform_instance_id: bytes = bytes(range(0x90, 0xA0))
    dynamic_platform: bool = False  # servers in the field have all three set; a strict policy wants none
    cached_keys: bool = False
    smt_enabled: bool = False

    def sgx_extension(self) -> bytes:
        """The value of extension 1.2.840.113741.1.13.1, DER (PCK Certificate and CRL Profile, SGX extensions)."""
        tcb = [_entry(_integer(svn), 2, index) for index, svn in enumerate((*self.sgx_svns, self.pce_svn), start=1)]
        tcb.append(_entry(_der(_OCTETS, self.cpu_svn or bytes(self.sgx_svns)), 2, 18))
        flags = (self.dynamic_platform, self.cached_keys, self.smt_enabled)
        configuration = [_entry(_der(_BOOLEAN, bytes([255 * flag])), 7, index) for index, flag in enumerate(flags, 1)]
        return _der(
            _SEQUENCE,
            _entry(_der(_OCTETS, self.ppid), 1),
            _entry(_der(_SEQUENCE, *tcb), 2),
            _entry(_der(_OCTETS, self.pce_id), 3),
            _entry(_der(_OCTETS, self.fmspc), 4),
            _entry(_der(_ENUMERATED, bytes([self.sgx_type])), 5),
            _entry(_der(_OCTETS, self.platform_instance_id), 6),
            _entry(_der(_SEQUENCE, *configuration), 7),
        )


_BOOLEAN, _INTEGER, _OCTETS, _OID, _ENUMERATED, _SEQUENCE = 0x01, 0x02, 0x04, 0x06, 0x0A, 0x30


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content).to_bytes(1 if len(content) < 0x100 else 2, "big")
    return bytes([tag]) + (length if len(content) < 0x80 else bytes([0x80 | len(length)]) + length) + content


def _integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _entry(value: bytes, *path: int) -> bytes:
    return _der(_SEQUENCE, _der(_OID, _SGX_EXTENSION_DER, bytes(path)), value)


PLATFORM = Platform()


# --- The authority --------------------------------------------------------------------------------------------------------


def tcb_level(
    status: str = "UpToDate",
    *,
    sgx_svns: Sequence[int] = (2, 2, 2, 2, 3, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0),
    pce_svn: int = 11,
    tdx_svns: Sequence[int] = (5, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    advisories: Sequence[str] = (),
    date: datetime = datetime(2024, 3, 13, tzinfo=UTC),
) -> dict[str, object]:
    """One entry of ``tcbLevels``: the SVNs a platform and its TDX module need for ``status``."""
    tcb = {
        "sgxtcbcomponents": _components(sgx_svns, _SGX_COMPONENTS),
        "pcesvn": pce_svn,
        "tdxtcbcomponents": _components(tdx_svns, _TDX_COMPONENTS),
    }
    level: dict[str, object] = {"tcb": tcb, "tcbDate": _time(date), "tcbStatus": status}
    return level | ({"advisoryIDs": list(advisories)} if advisories else {})


_SGX_COMPONENTS: Mapping[int, Mapping[str, str]] = {
    0: {"category": "BIOS", "type": "Early Microcode Update"},
    1: {"category": "OS/VMM", "type": "SGX Late Microcode Update"},
    2: {"category": "OS/VMM", "type": "TXT SINIT"},
    3: {"category": "BIOS"},
    4: {"category": "BIOS"},
    5: {"category": "BIOS"},
    7: {"category": "OS/VMM", "type": "SEAMLDR ACM"},
}
_TDX_COMPONENTS: Mapping[int, Mapping[str, str]] = {
    0: {"category": "OS/VMM", "type": "TDX Module"},
    1: {"category": "OS/VMM", "type": "TDX Module"},
    2: {"category": "OS/VMM", "type": "TDX Late Microcode Update"},
}


def _components(svns: Sequence[int], kinds: Mapping[int, Mapping[str, str]]) -> list[dict[str, object]]:
    return [{"svn": svn, **kinds.get(index, {})} for index, svn in enumerate(svns)]


def _svn_level(svn: int, status: str) -> dict[str, object]:
    return {"tcb": {"isvsvn": svn}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": status}


def _time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


class IntelAuthority:
    """A root of its own with all that Intel hangs below it, and one platform with one attestation key."""

    def __init__(self, platform: Platform = PLATFORM) -> None:
        self.platform = platform
        self.root_ca = issue("Intel SGX Root CA", path_length=1, valid=_ROOT_VALID)
        self.platform_ca = issue("Intel SGX PCK Platform CA", self.root_ca, path_length=0, valid=_CA_VALID)
        self.tcb_signing = issue("Intel SGX TCB Signing", self.root_ca)
        self.pck = self.issue_pck()
        self.attestation_key = new_key()

    @property
    def root(self) -> bytes:
        """The certificate to pin, DER."""
        return self.root_ca.der

    def issue_pck(self, platform: Platform | None = None, *, valid: Window = _LEAF_VALID) -> Issued:
        """A PCK certificate for ``platform`` or the authority's own: it signs the reports of its quoting enclave."""
        return issue(
            "Intel SGX PCK Certificate",
            self.platform_ca,
            valid=valid,
            crl_url=_PCK_CRL_URL,
            sgx_extension=(platform or self.platform).sgx_extension(),
        )

    def quote(
        self,
        version: int = 4,
        body_type: int = TD10,
        *,
        signed: bytes | None = None,
        attestation_key: Key | None = None,
        public_key: bytes | None = None,
        signature: bytes | None = None,
        qe_body: bytes | None = None,
        qe_signature: bytes | None = None,
        auth_data: bytes = AUTH_DATA,
        pck: Issued | None = None,
        chain: bytes | None = None,
        trailing: bytes = b"",
        **fields: bytes,
    ) -> bytes:
        """A quote. What is not given is made so that it fits what is.

        Args:
            version: 4 or 5.
            body_type: ``TD10``, or in version 5 also ``TD15``.
            signed: header and body as they are (changed ones, signed anew), instead of ``fields``.
            attestation_key: signs header and body, instead of the authority's.
            public_key: x || y of the attestation key as the quote states it; ``qe_body`` vouches for what is stated.
            signature: instead of the true one, r || s.
            qe_body: another QE report, as from :func:`qe_report`, such as one bound to another key; the PCK key signs it.
            qe_signature: instead of the true one, r || s.
            auth_data: what the QE report binds beside the key; ``SIGNATURE_FIELDS`` holds for 32 bytes.
            pck: another PCK certificate and key than the authority's.
            chain: instead of the PEM chain from the PCK certificate to the root.
            trailing: stands behind the declared end: zeros as a cloud pads with, or garbage.
            fields: of header and body, by the names of ``FIELDS``.
        """
        pck, key = pck or self.pck, attestation_key or self.attestation_key
        signed = quote_body(version, body_type, **fields) if signed is None else signed
        public_key = raw_public_key(key) if public_key is None else public_key
        qe_body = qe_report(public_key, auth_data) if qe_body is None else qe_body
        chain = pem_chain(pck, self.platform_ca, self.root_ca).encode() if chain is None else chain
        certification = (
            qe_body
            + (sign_report(qe_body, pck.key) if qe_signature is None else qe_signature)
            + _counted(auth_data, 2)
            + (5).to_bytes(2, "little")  # a PEM chain follows
            + _counted(chain, 4)
        )
        signature_data = (
            (sign_report(signed, key) if signature is None else signature)
            + public_key
            + (6).to_bytes(2, "little")  # QE report certification data follow
            + _counted(certification, 4)
        )
        return signed + _counted(signature_data, 4) + trailing

    def collateral(
        self,
        *,
        status: str = "UpToDate",
        advisories: Sequence[str] = (),
        fmspc: bytes | None = None,
        levels: Sequence[Mapping[str, object]] | None = None,
        module_status: str = "UpToDate",
        qe_status: str = "UpToDate",
        tcb_info_window: Window = MONTH,
        qe_identity_window: Window = MONTH,
        pck_crl_window: Window = MONTH,
        root_crl_window: Window = YEAR,
        revoked_by_platform_ca: Iterable[int] = (),
        revoked_by_root: Iterable[int] = (),
        tcb_info: Mapping[str, object] | None = None,
        qe_identity: Mapping[str, object] | None = None,
        tcb_signing: Issued | None = None,
    ) -> dict[str, str]:
        """The nine parts, in the form that ``dcap_qvl.QuoteCollateralV3.from_json`` reads.

        Args:
            status: of the level that the default platform reaches; below it lies one for PCE SVN 5, out of date.
            advisories: of that level.
            fmspc: of another platform than the authority's.
            levels: instead of both, as from :func:`tcb_level`; with SVNs higher than the platform's, none matches.
            module_status: of the TDX module's level.
            qe_status: of the quoting enclave's level.
            tcb_info_window: issue time and next update; so for the other three.
            qe_identity_window: see there.
            pck_crl_window: see there.
            root_crl_window: see there.
            revoked_by_platform_ca: serials, such as ``authority.pck.serial``.
            revoked_by_root: serials, such as ``authority.tcb_signing.serial``.
            tcb_info: members of the TCB info that replace the true ones before it is signed.
            qe_identity: members of the QE identity that replace the true ones before it is signed.
            tcb_signing: signs both, instead of the authority's own.
        """
        signer = tcb_signing or self.tcb_signing
        outdated = tcb_level(
            "OutOfDate", pce_svn=5, advisories=("INTEL-SA-00837",), date=datetime(2018, 1, 4, tzinfo=UTC)
        )
        levels = [tcb_level(status, advisories=advisories), outdated] if levels is None else levels
        tcb_document = _json(
            {
                "id": "TDX",
                "version": 3,
                "issueDate": _time(tcb_info_window[0]),
                "nextUpdate": _time(tcb_info_window[1]),
                "fmspc": (self.platform.fmspc if fmspc is None else fmspc).hex().upper(),
                "pceId": self.platform.pce_id.hex().upper(),
                "tcbType": 0,
                "tcbEvaluationDataNumber": 17,
                "tdxModule": _MODULE,
                "tdxModuleIdentities": [
                    {"id": "TDX_03", **_MODULE, "tcbLevels": [_svn_level(3, module_status)]},
                    {
                        "id": "TDX_01",
                        **_MODULE,
                        "tcbLevels": [_svn_level(4, module_status), _svn_level(2, "OutOfDate")],
                    },
                ],
                "tcbLevels": levels,
                **(tcb_info or {}),
            }
        )
        qe_document = _json(
            {
                "id": "TD_QE",
                "version": 2,
                "issueDate": _time(qe_identity_window[0]),
                "nextUpdate": _time(qe_identity_window[1]),
                "tcbEvaluationDataNumber": 17,
                "miscselect": "00000000",
                "miscselectMask": "FFFFFFFF",
                "attributes": "11000000000000000000000000000000",
                "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
                "mrsigner": _QE_MR_SIGNER.hex().upper(),
                "isvprodid": 2,
                "tcbLevels": [_svn_level(4, qe_status)],
                **(qe_identity or {}),
            }
        )
        return {
            "pck_crl_issuer_chain": pem_chain(self.platform_ca, self.root_ca),
            "root_ca_crl": crl(self.root_ca, valid=root_crl_window, revoked=revoked_by_root).hex(),
            "pck_crl": crl(self.platform_ca, valid=pck_crl_window, revoked=revoked_by_platform_ca).hex(),
            "tcb_info_issuer_chain": pem_chain(signer, self.root_ca),
            "tcb_info": tcb_document,
            "tcb_info_signature": sign_report(tcb_document.encode(), signer.key).hex(),
            "qe_identity_issuer_chain": pem_chain(signer, self.root_ca),
            "qe_identity": qe_document,
            "qe_identity_signature": sign_report(qe_document.encode(), signer.key).hex(),
        }


_MODULE: Mapping[str, object] = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}


def _counted(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width, "little") + data


def _json(members: Mapping[str, object]) -> str:
    return json.dumps(members, separators=(",", ":"))
