"""Did Azure's virtual TPM say this, and does the processor vouch for that TPM?

Source: TCG TPM 2.0 Library, part 3, section 18.4 (TPM2_Quote); Microsoft, confidential VM guest attestation.
"""

import hashlib
import hmac

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from attestation.document import TpmQuote
from attestation.errors import BindingMismatch, InvalidTpmQuote
from attestation.parsing.azure import CLAIMS_DIGEST, AttestedQuote, HclReport


def verify_claims(hcl: HclReport, report_data: bytes) -> None:
    """Check that the processor's report commits to the claims, the key of the virtual TPM among them.

    Raises:
        BindingMismatch: it commits to others.
    """
    if not hmac.compare_digest(report_data, hcl.claims_digest.ljust(2 * CLAIMS_DIGEST, b"\0")):
        raise BindingMismatch("the report does not commit to the claims of the virtual TPM")


def verify_quote(quote: TpmQuote, hcl: HclReport, *, challenge: bytes) -> None:
    """Check that the attested TPM quoted these registers for ``challenge``.

    Raises:
        MalformedEvidence: the quote cannot be read.
        InvalidTpmQuote: the key did not sign it, or it is over other registers.
        BindingMismatch: it answers another challenge.
    """
    attested = AttestedQuote.parse(quote.message)
    try:
        hcl.attestation_key.verify(quote.signature, quote.message, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        raise InvalidTpmQuote("the virtual TPM did not sign this quote") from None
    if not hmac.compare_digest(attested.pcr_digest, hashlib.sha256(b"".join(quote.pcrs)).digest()):
        raise InvalidTpmQuote("the quote is over other registers")
    if not hmac.compare_digest(attested.extra_data, challenge):
        raise BindingMismatch("the virtual TPM answered another challenge")
