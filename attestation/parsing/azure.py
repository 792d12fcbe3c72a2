"""SEV-SNP on Azure: the report comes wrapped, and a virtual TPM speaks for the guest system.

The host compatibility layer (HCL, or OpenHCL) below the guest owns the SEV-SNP report. Its REPORT_DATA commits to runtime claims:
a JSON text with the public key of the virtual TPM and 64 bytes that the guest chose. Source: Microsoft, "Confidential VM guest
attestation", and openhcl_attestation_protocol in microsoft/openvmm; TPM structures: TCG TPM 2.0 Library, part 2, section 10.12.
"""

import hashlib
import json
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from attestation.errors import MalformedEvidence, UnsupportedEvidence
from attestation.parsing.reader import Reader
from attestation.parsing.snp import REPORT

CLAIMS_DIGEST = 32  # bytes of REPORT_DATA that commit to the claims; zeros follow
_HEADER = 32
_SNP = 2  # report type
_SHA256 = 1  # digest type
_RSA_BITS: Final = range(2048, 4096 + 1)  # the sizes that TPMs have; Azure's has 2048
_QUOTE: Final = bytes.fromhex("ff5443478018")  # TPM_GENERATED, TPM_ST_ATTEST_QUOTE
_SHA256_BANK: Final = bytes.fromhex("0000000100 0b03ffffff")  # one selection: SHA-256, three bytes, all 24 registers


@dataclass(frozen=True, slots=True)
class HclReport:
    """The wrapped report, and the claims that it commits to.

    Attributes, with their names in openhcl_attestation_protocol (``igvm_attest``) and in the claims' JSON:
        report: HwReport, 1184 bytes: a SEV-SNP report.
        claims: RuntimeClaims: the exact bytes of the JSON, which the report's digest is over.
        attestation_key: "keys", the one of kid "HCLAkPub": signs quotes of the virtual TPM.
        user_data: "user-data": 64 bytes of the guest.
        secure_boot: "vm-configuration", "secure-boot".
    """

    report: bytes = field(repr=False)
    claims: bytes = field(repr=False)
    attestation_key: RSAPublicKey = field(repr=False)
    user_data: bytes
    secure_boot: bool

    @property
    def claims_digest(self) -> bytes:
        """SHA-256 of the claims: what REPORT_DATA has to begin with."""
        return hashlib.sha256(self.claims).digest()

    @classmethod
    def parse(cls, data: bytes) -> "HclReport":
        """Read the blob of the virtual TPM's index 0x01400001; zeros behind the claims are its padding.

        Raises:
            MalformedEvidence: a length or a claim does not fit.
            UnsupportedEvidence: it wraps no SEV-SNP report.
        """
        read = Reader(data, "Azure report")
        read.expect(b"HCLA", "signature")
        read.take(_HEADER - 4)
        report = read.take(REPORT)
        read.take(4)  # size of header and claims
        if (read.little(4), read.little(4), read.little(4)) != (1, _SNP, _SHA256):
            raise UnsupportedEvidence("the Azure report wraps no SEV-SNP report with SHA-256 claims")
        claims = read.take(read.little(4))
        if any(data[read.position :]):
            raise MalformedEvidence("there are bytes other than padding behind the Azure claims")
        return cls(report, claims, *_claims(claims))


@dataclass(frozen=True, slots=True)
class AttestedQuote:
    """What a TPM signed (TCG TPM 2.0 Library, part 2): ``extra_data`` is TPMS_ATTEST.extraData, the challenge;
    ``pcr_digest`` TPMS_QUOTE_INFO.pcrDigest, over the selected registers.
    """

    extra_data: bytes
    pcr_digest: bytes

    @classmethod
    def parse(cls, data: bytes) -> "AttestedQuote":
        """Read a TPMS_ATTEST of a quote over all 24 registers of the SHA-256 bank.

        Raises:
            MalformedEvidence: it is anything else.
        """
        read = Reader(data, "TPM quote")
        read.expect(_QUOTE, "type")
        read.take(read.big(2))  # the name of the signing key: the signature says more
        extra_data = read.take(read.big(2))
        read.take(17 + 8)  # clock, resets and firmware version
        read.expect(_SHA256_BANK, "selection of registers")
        pcr_digest = read.take(read.big(2))
        read.end()
        return cls(extra_data, pcr_digest)


def _claims(text: bytes) -> tuple[RSAPublicKey, bytes, bool]:
    try:
        claims = json.loads(text)
        keys = [key for key in claims["keys"] if key["kid"] == "HCLAkPub"]
        user_data = bytes.fromhex(claims["user-data"])
        secure_boot = claims["vm-configuration"]["secure-boot"]
        (key,) = keys
        public = RSAPublicNumbers(e=_number(key["e"]), n=_number(key["n"])).public_key()
    except (ValueError, TypeError, KeyError, RecursionError):
        raise MalformedEvidence("the Azure claims lack the key of the virtual TPM, or cannot be read") from None
    if len(user_data) != 64 or not isinstance(secure_boot, bool) or public.key_size not in _RSA_BITS:
        raise MalformedEvidence("the Azure claims have members of the wrong form")
    return public, user_data, secure_boot


def _number(text: str) -> int:
    return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")
