"""What commits to what: one nonce of the verifier binds processor, devices and keys together.

    K = SHA-256 of the canonical key section
    nonce of device i = SHA-256("subrosa device nonce v1", 0x00, N, K, i)      i in four bytes, big endian
    D = SHA-256 of the canonical list of device evidence
    REPORT_DATA = SHA-512("subrosa evidence v2", 0x00, N, K, D)                64 bytes, as SEV-SNP and TDX carry

The parts have fixed lengths, so that no two inputs give the same bytes. Devices answer first, then the processor signs: a
device's answer cannot be exchanged without a new report, and a report cannot be reused with another device.
"""

import hashlib
import hmac

from attestation.document import DeviceEvidence, KeySection, device_members
from attestation.encoding import encode
from attestation.errors import BindingMismatch

NONCE = 32  # bytes, random, from the verifier
_LABEL = b"subrosa evidence v2\x00"
_DEVICE_LABEL = b"subrosa device nonce v1\x00"
_TPM_LABEL = b"subrosa tpm nonce v1\x00"


def report_data(nonce: bytes, keys: KeySection, devices: tuple[DeviceEvidence, ...] = ()) -> bytes:
    """The 64 bytes that the processor signs.

    Raises:
        ValueError: the nonce is not 32 bytes.
    """
    _check(nonce)
    evidence = hashlib.sha256(encode({"devices": device_members(devices)})).digest()
    return hashlib.sha512(_LABEL + nonce + keys.digest() + evidence).digest()


def device_nonce(nonce: bytes, keys: KeySection, index: int) -> bytes:
    """The 32 bytes that device ``index`` has to sign.

    Raises:
        ValueError: the nonce is not 32 bytes.
    """
    _check(nonce)
    return hashlib.sha256(_DEVICE_LABEL + nonce + keys.digest() + index.to_bytes(4, "big")).digest()


def tpm_nonce(reported: bytes) -> bytes:
    """The 32 bytes that the virtual TPM has to quote, from the 64 bytes of the report: TPMs take no more than a digest."""
    return hashlib.sha256(_TPM_LABEL + reported).digest()


def verify_binding(
    reported: bytes, *, nonce: bytes, keys: KeySection, devices: tuple[DeviceEvidence, ...] = ()
) -> None:
    """Check that a report speaks for this nonce, these keys and these devices.

    Raises:
        BindingMismatch: it speaks for others.
    """
    if not hmac.compare_digest(reported, report_data(nonce, keys, devices)):
        raise BindingMismatch("the report does not commit to this nonce, these keys and these devices")


def _check(nonce: bytes) -> None:
    if len(nonce) != NONCE:
        raise ValueError("a nonce is 32 bytes")
