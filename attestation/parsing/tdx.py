"""Intel's quotes: those of TDX in versions 4 and 5, and the frame of SGX's, so that these are refused for what they are.

Source: Intel, TDX DCAP Quote Generation Library and Quote Verification Library, appendix A (quote formats); Intel TDX Module Base
Specification, TDREPORT_STRUCT. What is here splits the bytes; the verdict on firmware levels is ``dcap-qvl``'s.
"""

from dataclasses import dataclass, field
from typing import Final

from attestation.errors import UnsupportedEvidence
from attestation.parsing.reader import Reader

TEE_TDX: Final = 0x81
ECDSA_P256: Final = 2
REGISTER = 48  # bytes of MRTD and of each RTMR
_HEADER = 48
_VERSIONS: Final = (3, 4, 5)
_SGX_VERSION = 3  # has its quoting enclave's report without a type in front
_TYPED_VERSION = 5  # names its body's type
_BODY_SGX = 384
_BODY_10 = 584
_BODY_15 = 648
_BODIES: Final = {1: _BODY_SGX, 2: _BODY_10, 3: _BODY_15}  # type in a version 5 quote: its size
_QE_REPORT = 384
_CERTIFIED_BY_QE = 6
_PEM_CHAIN = 5
_QE_REPORT_DATA = slice(320, 384)


@dataclass(frozen=True, slots=True)
class TdAttributes:
    """Attributes of the trust domain (TDX Module Base Specification, "ATTRIBUTES")."""

    bits: int

    @property
    def debug(self) -> bool:
        """Bits 0 to 7, the TUD group: any of them puts the domain under inspection; bit 0 is DEBUG."""
        return bool(self.bits & 0xFF)

    @property
    def septve_disabled(self) -> bool:
        """Bit 28: pages that the host takes away cause no exception in the guest, which could be exploited."""
        return bool(self.bits >> 28 & 1)

    @property
    def well_formed(self) -> bool:
        """No bit without a published meaning: 28 SEPT_VE_DISABLE, 29 MIGRATABLE, 30 PKS, 31 KL, 63 PERFMON."""
        return not self.bits & ~(0xFF | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 31 | 1 << 63)

    @property
    def migratable(self) -> bool:
        """Bit 29: another machine may receive the memory of this one."""
        return bool(self.bits >> 29 & 1)

    @property
    def perfmon(self) -> bool:
        """Bit 63: performance counters run inside the domain, which help side channels."""
        return bool(self.bits >> 63 & 1)


@dataclass(frozen=True, slots=True)
class Quote:
    """The frame that Intel's quotes share, whatever TEE they are of: an attestation key signs, Intel's quoting enclave vouches
    for that key, and a chain of certificates for the enclave.

    Attributes, with their names in Intel's quote format (TDX DCAP Quoting Library API, appendix A.3):
        version, tee: of the Quote Header; ``tee`` is 0x81 for TDX and 0 for SGX.
        clean_padding: whether only zeros follow the declared end, which clouds add; nothing of Intel's.
        body: TD Quote Body, or an SGX enclave report.
        quote: everything up to the declared end, as ``dcap-qvl`` wants it.
        signed: header and body, which the signature is over.
        signature: Quote Signature, r then s, 64 bytes.
        attestation_key: ECDSA Attestation Key, x then y, 64 bytes.
        qe_report: QE Report, 384 bytes.
        qe_signature: QE Report Signature, by the platform's PCK key, 64 bytes.
        qe_authentication: QE Authentication Data.
        chain_pem: QE Certification Data of type 5: the PCK certificate and its issuers.
    """

    version: int
    tee: int
    clean_padding: bool
    body: bytes = field(repr=False)
    quote: bytes = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    attestation_key: bytes = field(repr=False)
    qe_report: bytes = field(repr=False)
    qe_signature: bytes = field(repr=False)
    qe_authentication: bytes = field(repr=False)
    chain_pem: bytes = field(repr=False)

    @property
    def qe_report_data(self) -> bytes:
        """The 64 bytes that the quoting enclave committed to."""
        return self.qe_report[_QE_REPORT_DATA]

    @classmethod
    def parse(cls, data: bytes) -> "Quote":
        """Read one quote of version 3 (SGX), 4 or 5.

        Raises:
            MalformedEvidence: a length does not fit.
            UnsupportedEvidence: another version, not an ECDSA P-256 key, or certified otherwise than by a PEM chain.
        """
        read = Reader(data, "quote")
        version, key_type, tee = read.little(2), read.little(2), read.little(4)
        if version not in _VERSIONS or key_type != ECDSA_P256:
            raise UnsupportedEvidence("quotes are known in versions 3 to 5 with ECDSA P-256 keys")
        read.take(_HEADER - 8)  # the quoting enclave's versions and vendor, 20 bytes of its own
        body = read.take(_body_size(read, version, tee))
        signed = data[: read.position]
        block = Reader(read.take(read.little(4)), "quote's signature block")
        signature, attestation_key = block.take(64), block.take(64)
        certification = block if version == _SGX_VERSION else _certification(block, _CERTIFIED_BY_QE)
        qe_report, qe_signature = certification.take(_QE_REPORT), certification.take(64)
        qe_authentication = certification.take(certification.little(2))
        chain = _certification(certification, _PEM_CHAIN)
        certification.end()
        block.end()
        return cls(
            version,
            tee,
            not any(data[read.position :]),
            body=body,
            quote=data[: read.position],
            signed=signed,
            signature=signature,
            attestation_key=attestation_key,
            qe_report=qe_report,
            qe_signature=qe_signature,
            qe_authentication=qe_authentication,
            chain_pem=chain.take(chain.left),
        )


@dataclass(frozen=True, slots=True)
class TdReport:
    """What a quote's body says of a trust domain.

    Attributes, with their names in TDREPORT (TDX Module Base Specification, "TDINFO_STRUCT"; quote format, "TD Quote Body") and their
    offsets in the body:
        attributes: ATTRIBUTES, 0x78.
        mrtd: MRTD, 0x88: 48 bytes, the initial memory.
        mr_config_id: MRCONFIGID, 0xB8: 48 bytes of the host.
        owned: whether MROWNER (0xE8) or MROWNERCONFIG (0x118) is not zero.
        rtmrs: RTMR0 to RTMR3, 0x148: 48 bytes each, which grow at run time.
        report_data: REPORTDATA, 0x208: 64 bytes of the guest.
    """

    attributes: TdAttributes
    mrtd: bytes
    mr_config_id: bytes
    owned: bool
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes

    @classmethod
    def parse(cls, body: bytes) -> "TdReport":
        """Read the body of a TDX quote, 584 bytes (TDX 1.0) or more (1.5); what is behind is ``dcap-qvl``'s.

        Raises:
            MalformedEvidence: it is shorter.
        """
        read = Reader(body, "trust domain's report")
        # TEE_TCB_SVN, MRSEAM, MRSIGNERSEAM, SEAMATTRIBUTES: dcap-qvl compares them with the TDX module's identity.
        read.take(16 + REGISTER + REGISTER + 8)
        attributes = TdAttributes(read.little(8))
        read.take(8)  # XFAM
        mrtd, mr_config_id = read.take(REGISTER), read.take(REGISTER)
        owned = any(read.take(2 * REGISTER))  # MROWNER, MROWNERCONFIG
        rtmrs = (read.take(REGISTER), read.take(REGISTER), read.take(REGISTER), read.take(REGISTER))
        return cls(attributes, mrtd, mr_config_id, owned, rtmrs, read.take(64))


def _body_size(read: Reader, version: int, tee: int) -> int:
    if version < _TYPED_VERSION:
        return _BODY_10 if tee == TEE_TDX else _BODY_SGX
    kind, size = read.little(2), read.little(4)
    if _BODIES.get(kind) != size:
        raise UnsupportedEvidence("the body of the quote is of an unknown type")
    return size


def _certification(read: Reader, kind: int) -> Reader:
    if read.little(2) != kind:
        raise UnsupportedEvidence("the quote is certified in a way that cannot be checked offline")
    return Reader(read.take(read.little(4)), "quote's certification data")
