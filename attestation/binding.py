"""What a report commits to: the verifier's nonce and the enclave's keys, in 64 bytes of REPORT_DATA.

REPORT_DATA = SHA-512(label, nonce, SHA-256 of the key section). The parts have fixed lengths, so that no two inputs
give the same bytes. Both SEV-SNP and TDX carry 64 bytes of report data.
"""

import hashlib
import hmac

from attestation.document import KeySection
from attestation.errors import BindingMismatch

NONCE = 32  # bytes, random, from the verifier
_LABEL = b"subrosa evidence v1\x00"


def report_data(nonce: bytes, keys: KeySection) -> bytes:
    """The 64 bytes that the hardware signs.

    Raises:
        ValueError: the nonce is not 32 bytes.
    """
    if len(nonce) != NONCE:
        raise ValueError("a nonce is 32 bytes")
    return hashlib.sha512(_LABEL + nonce + keys.digest()).digest()


def verify_binding(reported: bytes, *, nonce: bytes, keys: KeySection) -> None:
    """Check that a report speaks for this nonce and these keys.

    Raises:
        BindingMismatch: it speaks for others.
    """
    if not hmac.compare_digest(reported, report_data(nonce, keys)):
        raise BindingMismatch("the report does not commit to this nonce and these keys")
