"""A stand-in for an Azure confidential VM: the HCL blob around an SEV-SNP report, and quotes of its virtual TPM.

On Azure the paravisor fills REPORT_DATA with the SHA-256 of JSON runtime claims, which name the TPM's attestation key;
the verifier's challenge is in a TPM quote under that key (TPM 2.0 Library, Part 2, TPMS_ATTEST). The layouts are those
of published evidence of Milan and Genoa machines. Reports and the keys that sign them come from ``amd``.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tests.attestation.authority.amd import REPORT_SIZE, Report, slices

BLOB_SIZE = 2600  # of the TPM's NV index that holds the blob; zeros fill it

AZURE_REPORT = Report(
    product="Genoa",
    version=3,
    guest_svn=0x0001000B,
    policy=0x3001F,
    family_id=bytes.fromhex("01232000").ljust(16, b"\0"),
    image_id=b"\x02".ljust(16, b"\0"),
    platform_info=0x24,
    id_key_digest=hashlib.sha384(b"the paravisor's signer").digest(),
    current_build=0x28,
    committed_build=0x28,
)
"""What the paravisor's reports look like, but for REPORT_DATA."""

VM_CONFIGURATION: Mapping[str, object] = {
    "console-enabled": True,
    "root-cert-thumbprint": "6nZZnYaJc4KqUZ_yvA-mucFdYNouvlPnITnNMXsHl-0",
    "secure-boot": True,
    "tpm-enabled": True,
    "tpm-persisted": True,
    "vmUniqueId": "390CBCF5-6C67-4D9B-98EF-C3F1699CC8FC",
}

PCRS: tuple[bytes, ...] = (
    *(hashlib.sha256(b"PCR %d" % index).digest() for index in range(15)),
    *(bytes(32) for _ in (15, 16)),
    *(b"\xff" * 32 for _ in range(17, 23)),
    bytes(32),
)
"""A booted machine's SHA-256 bank: PCR 15, 16 and 23 unused, 17 to 22 never opened."""


def tpm_key(name: str = "AK") -> rsa.RSAPrivateKey:
    """An RSA-2048 key of a virtual TPM, made once in a process: "AK" signs quotes, "EK" decrypts, others are strangers."""
    return _rsa_key(name)


@functools.cache  # apart from ``tpm_key``: a cache would tell a default argument from the same one written out
def _rsa_key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def jwk(kid: str, operation: str, key: rsa.RSAPublicKey) -> dict[str, object]:
    """``key`` as the runtime claims hold it: kid "HCLAkPub" with operation "sign", "HCLEkPub" with "encrypt"."""
    numbers = key.public_numbers()
    return {"kid": kid, "key_ops": [operation], "kty": "RSA", "e": _base64url(numbers.e), "n": _base64url(numbers.n)}


def _base64url(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def runtime_claims(
    keys: Sequence[Mapping[str, object]] | None = None,
    *,
    vm_configuration: Mapping[str, object] = VM_CONFIGURATION,
    user_data: bytes = b"",
) -> bytes:
    """The JSON bytes that REPORT_DATA binds. ``user_data`` is filled to 64 bytes with zeros, hex in upper case."""
    if keys is None:
        ak, ek = tpm_key("AK").public_key(), tpm_key("EK").public_key()
        keys = [jwk("HCLAkPub", "sign", ak), jwk("HCLEkPub", "encrypt", ek)]
    claims = {
        "keys": keys,
        "vm-configuration": vm_configuration,
        "user-data": user_data.ljust(64, b"\0").hex().upper(),
    }
    return json.dumps(claims, separators=(",", ":")).encode()


def report_data(claims: bytes) -> bytes:
    """The REPORT_DATA that binds ``claims``: their SHA-256, then zeros."""
    return hashlib.sha256(claims).digest() + bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class HclBlob:
    """The paravisor's container; ``None`` stands for the true size. Integers are 32 bits, little endian.

    Only ``report`` is signed, and only ``claims`` are bound by it: the rest is framing that a verifier must check itself.
    """

    report: bytes
    claims: bytes
    magic: bytes = b"HCLA"
    version: int = 2
    content_size: int | None = None
    request_type: int = 2
    status: int = 0
    reserved: bytes = bytes(12)
    claims_data_size: int | None = None
    claims_version: int = 1
    report_type: int = 2  # SEV-SNP
    hash_type: int = 1  # SHA-256
    claims_size: int | None = None
    padding: bytes | None = None  # zeros up to BLOB_SIZE

    def encode(self) -> bytes:
        """The blob as the TPM's NV index gives it."""
        return b"".join(part for _, part in self._parts())

    def fields(self) -> dict[str, slice]:
        """Where each field lies in ``encode()``."""
        return slices([(name, len(part)) for name, part in self._parts()])

    def _parts(self) -> list[tuple[str, bytes]]:
        size = len(self.claims)
        content_size = 32 + REPORT_SIZE + 20 + size
        parts = {
            "magic": self.magic,
            "version": _u32(self.version),
            "content_size": _u32(self.content_size, content_size),
            "request_type": _u32(self.request_type),
            "status": _u32(self.status),
            "reserved": self.reserved,
            "report": self.report,
            "claims_data_size": _u32(self.claims_data_size, 20 + size),
            "claims_version": _u32(self.claims_version),
            "report_type": _u32(self.report_type),
            "hash_type": _u32(self.hash_type),
            "claims_size": _u32(self.claims_size, size),
            "claims": self.claims,
            "padding": bytes(max(0, BLOB_SIZE - content_size)) if self.padding is None else self.padding,
        }
        return list(parts.items())


def _u32(value: int | None, implied: int = 0) -> bytes:
    return (implied if value is None else value).to_bytes(4, "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A TPMS_ATTEST of type quote over one PCR bank. Integers are big endian; ``None``: the digest of the selected PCRs."""

    extra_data: bytes  # the verifier's challenge
    magic: int = 0xFF544347
    type: int = 0x8018
    qualified_signer: bytes = b"\x00\x0b" + hashlib.sha256(b"the name of the AK").digest()
    clock: int = 0x543D38FB
    reset_count: int = 53
    restart_count: int = 0
    safe: int = 1
    firmware_version: int = 0x2020031200120003
    pcr_hash: int = 0x000B  # SHA-256
    pcr_select: bytes = b"\xff\xff\xff"
    pcrs: Sequence[bytes] = PCRS
    pcr_digest: bytes | None = None

    def encode(self) -> bytes:
        """The message that the attestation key signs."""
        return b"".join(part for _, part in self._parts())

    def fields(self) -> dict[str, slice]:
        """Where each field lies in ``encode()``; all of it is signed."""
        return slices([(name, len(part)) for name, part in self._parts()])

    def _parts(self) -> list[tuple[str, bytes]]:
        chosen = (pcr for index, pcr in enumerate(self.pcrs) if self.pcr_select[index // 8] >> index % 8 & 1)
        digest = hashlib.sha256(b"".join(chosen)).digest() if self.pcr_digest is None else self.pcr_digest
        parts = {
            "magic": self.magic.to_bytes(4, "big"),
            "type": self.type.to_bytes(2, "big"),
            "qualified_signer_size": len(self.qualified_signer).to_bytes(2, "big"),
            "qualified_signer": self.qualified_signer,
            "extra_data_size": len(self.extra_data).to_bytes(2, "big"),
            "extra_data": self.extra_data,
            "clock": self.clock.to_bytes(8, "big"),
            "reset_count": self.reset_count.to_bytes(4, "big"),
            "restart_count": self.restart_count.to_bytes(4, "big"),
            "safe": self.safe.to_bytes(1, "big"),
            "firmware_version": self.firmware_version.to_bytes(8, "big"),
            "pcr_bank_count": (1).to_bytes(4, "big"),
            "pcr_hash": self.pcr_hash.to_bytes(2, "big"),
            "pcr_select_size": len(self.pcr_select).to_bytes(1, "big"),
            "pcr_select": self.pcr_select,
            "pcr_digest_size": len(digest).to_bytes(2, "big"),
            "pcr_digest": digest,
        }
        return list(parts.items())


def sign_quote(message: bytes, key: rsa.RSAPrivateKey | None = None) -> bytes:
    """RSASSA PKCS#1 v1.5 with SHA-256 over ``message``, 256 bytes; by the AK unless another ``key`` is given."""
    return (key or tpm_key("AK")).sign(message, padding.PKCS1v15(), hashes.SHA256())


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureEvidence:
    """What such a machine hands to its verifier beside the VCEK: blob, quote, quote signature, PCR values."""

    blob: bytes
    quote: bytes
    quote_signature: bytes
    pcrs: tuple[bytes, ...] = PCRS


def azure_evidence(
    vcek_key: ec.EllipticCurvePrivateKey,
    challenge: bytes,
    *,
    report: Report = AZURE_REPORT,
    claims: bytes | None = None,
    ak: rsa.RSAPrivateKey | None = None,
) -> AzureEvidence:
    """Complete evidence for ``challenge``; ``report`` gets the REPORT_DATA of ``claims``, ``ak`` signs the quote."""
    claims = runtime_claims() if claims is None else claims
    signed = replace(report, report_data=report_data(claims)).sign(vcek_key)
    quote = Quote(extra_data=challenge).encode()
    blob = HclBlob(report=signed, claims=claims).encode()
    return AzureEvidence(blob=blob, quote=quote, quote_signature=sign_quote(quote, ak))
