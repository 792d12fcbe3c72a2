"""Certificate chains up to a pinned root (RFC 5280, section 6, as far as these vendors use it).

Leaf first. Signatures, names, the right to issue and its depth are checked here; times are a matter of policy and have a
function of their own, because evidence can be judged years later.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from attestation.errors import BrokenChain, CertificateOutOfDate, UntrustedRoot
from attestation.limits import MAX_CERTIFICATES
from attestation.parsing.certificate import BASIC_CONSTRAINTS, KEY_USAGE, Certificate

# AlgorithmIdentifiers in DER: ecdsa-with-SHA256 and ecdsa-with-SHA384 (RFC 5758, section 3.2).
ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_SHA384: Final = bytes.fromhex("300a06082a8648ce3d040303")
_ECDSA: Final = {ECDSA_SHA256: SHA256, ECDSA_SHA384: SHA384}
# RSASSA-PSS with SHA-384, MGF1 with SHA-384 and 48 bytes of salt (RFC 4055, section 3.1); older VCEKs spell out the default
# trailer field as well.
_PSS_SHA384: Final = (
    bytes.fromhex(
        "304106092a864886f70d01010a3034a00f300d06096086480165030402020500a11c301a06092a864886f70d010108"
        "300d06096086480165030402020500a203020130"
    ),
    bytes.fromhex(
        "304606092a864886f70d01010a3039a00f300d06096086480165030402020500a11c301a06092a864886f70d010108"
        "300d06096086480165030402020500a203020130a303020101"
    ),
)
_PSS: Final = padding.PSS(mgf=padding.MGF1(SHA384()), salt_length=48)
_UNDERSTOOD: Final = {BASIC_CONSTRAINTS, KEY_USAGE}


def order_chain(leaf: Certificate, pool: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """``leaf`` and its issuers as far as ``pool`` has them, found by name. Proves nothing: :func:`verify_chain` does."""
    by_subject = {certificate.subject: certificate for certificate in pool}
    chain = [leaf]
    while len(chain) < MAX_CERTIFICATES and chain[-1].issuer != chain[-1].subject and chain[-1].issuer in by_subject:
        chain.append(by_subject[chain[-1].issuer])
    return tuple(chain)


def verify_chain(chain: Sequence[Certificate], *, roots: Collection[bytes]) -> None:
    """Check that ``chain`` leads from its first certificate to one of ``roots`` (SHA-256 of a certificate, 32 bytes).

    Raises:
        UntrustedRoot: it ends elsewhere.
        BrokenChain: a certificate was not issued by the next, or the next may not issue it.
        MalformedCollateral: a key cannot be read.
    """
    if not chain or chain[-1].sha256 not in roots:
        raise UntrustedRoot("the chain does not end in the pinned root")
    for depth, (certificate, issuer) in enumerate(pairwise(chain)):
        if certificate.issuer != issuer.subject:
            raise BrokenChain("a certificate names another issuer than the next in the chain")
        if not issuer.may_issue or (issuer.path_length is not None and issuer.path_length < depth):
            raise BrokenChain("a certificate of the chain may not issue the one before it")
        if certificate.critical - _UNDERSTOOD:
            raise BrokenChain("a certificate has a critical extension that is not understood here")
        verify_issued(certificate, issuer)


def verify_issued(certificate: Certificate, issuer: Certificate) -> None:
    """Check the signature of ``issuer`` on ``certificate``.

    Raises:
        BrokenChain: it is not the issuer's, or of an algorithm that these vendors do not use.
        MalformedCollateral: the issuer's key cannot be read.
    """
    try:
        verify_signature(
            issuer.public_key, certificate.signature, certificate.to_be_signed, certificate.signature_algorithm
        )
    except InvalidSignature:
        raise BrokenChain("a certificate is not signed by the next in the chain") from None


def verify_signature(
    key: EllipticCurvePublicKey | RSAPublicKey, signature: bytes, data: bytes, algorithm: bytes
) -> None:
    """Check a signature whose ``algorithm`` is given as the DER of an X.509 AlgorithmIdentifier.

    Raises:
        InvalidSignature: of ``cryptography``: the signature does not hold, or the algorithm does not fit the key.
    """
    if isinstance(key, EllipticCurvePublicKey) and algorithm in _ECDSA:
        key.verify(signature, data, ec.ECDSA(_ECDSA[algorithm]()))
    elif isinstance(key, RSAPublicKey) and algorithm in _PSS_SHA384:
        key.verify(signature, data, _PSS, SHA384())
    else:
        raise InvalidSignature


def verify_times(chain: Iterable[Certificate], *, now: datetime) -> None:
    """Check that every certificate is valid at ``now`` (with a time zone).

    Raises:
        CertificateOutOfDate: one is not.
    """
    for certificate in chain:
        if now < certificate.not_before:
            raise CertificateOutOfDate("a certificate of the chain is not valid yet")
        if now > certificate.not_after:
            raise CertificateOutOfDate("a certificate of the chain has expired")
