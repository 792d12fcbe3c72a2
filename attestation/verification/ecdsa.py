"""ECDSA signatures in the raw forms that hardware writes: two numbers, in whatever byte order, instead of DER."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurve, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import HashAlgorithm

from attestation.errors import InvalidReportSignature


def verify_raw(
    key: EllipticCurvePublicKey | RSAPublicKey,
    r: int,
    s: int,
    data: bytes,
    *,
    curve: type[EllipticCurve],
    digest: HashAlgorithm,
) -> None:
    """Check that ``key``, which has to lie on ``curve``, signed ``data`` with (``r``, ``s``). Numbers out of range never hold.

    Raises:
        InvalidReportSignature: it did not.
    """
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, curve):
        raise InvalidReportSignature("the signer's key is not of the kind that this hardware has")
    try:
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))
    except InvalidSignature:
        raise InvalidReportSignature("the signature does not hold under the certified key") from None
