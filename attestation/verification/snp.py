"""Did an AMD processor say this? The endorsement key's chain, the report's signature, and that both mean the same chip.

Source: AMD, SEV-SNP Firmware ABI (56860), section 7.3; AMD, VCEK Certificate and KDS Interface Specification (57230), section 3 and table 8
(extensions under 1.3.6.1.4.1.3704.1); Versioned Loaded Endorsement Key specification (58369).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1
from cryptography.hazmat.primitives.hashes import SHA384

from attestation.errors import EndorsementMismatch, MissingCollateral
from attestation.parsing.certificate import Certificate
from attestation.parsing.snp import CHIP_ID, VCEK, VLEK, Product, SnpReport, Tcb
from attestation.verification.chain import order_chain, verify_chain
from attestation.verification.ecdsa import verify_raw

_AMD: Final = "1.3.6.1.4.1.3704.1."
_PRODUCT_NAME: Final = _AMD + "2"
_LEVELS: Final = {
    "bootloader": _AMD + "3.1",
    "tee": _AMD + "3.2",
    "snp": _AMD + "3.3",
    "microcode": _AMD + "3.8",
    "fmc": _AMD + "3.9",  # Turin
}
_HARDWARE_ID: Final = _AMD + "4"  # of a VCEK
_PROVIDER: Final = _AMD + "5"  # of a VLEK: the cloud's identifier


def endorsement_chain(certificates: Sequence[Certificate]) -> tuple[Certificate, ...]:
    """VCEK or VLEK, then its issuers, out of a pool in any order.

    Raises:
        MissingCollateral: no endorsement key among them.
    """
    for certificate in certificates:
        if _LEVELS["snp"] in certificate.extensions:
            return order_chain(certificate, certificates)
    raise MissingCollateral("there is no certificate of the chip's endorsement key (VCEK or VLEK)")


def verify_endorsement(chain: Sequence[Certificate], *, roots: Mapping[Product, bytes]) -> Product:
    """Check the chain of an endorsement key up to AMD; returns the product whose root it reached.

    Raises:
        UntrustedRoot, BrokenChain, MalformedCollateral: it does not hold.
        EndorsementMismatch: the certificate names another product than its root.
    """
    verify_chain(chain, roots=frozenset(roots.values()))
    product = named(chain[0])
    if chain[-1].sha256 != roots.get(product):
        raise EndorsementMismatch("the endorsement key's certificate names another product than its root")
    return product


def named(endorsement: Certificate) -> Product:
    """The product that an endorsement key's certificate names: ``Milan-B0`` as well as ``Genoa``.

    Raises:
        EndorsementMismatch: none that is known.
    """
    name = _text(endorsement, _PRODUCT_NAME).partition("-")[0]
    if name not in set(Product):
        raise EndorsementMismatch("the endorsement key's certificate names an unknown product")
    return Product(name)


def verify_report(report: SnpReport, endorsement: Certificate) -> None:
    """Check the report's signature.

    Raises:
        InvalidReportSignature: the endorsement key did not sign it.
    """
    verify_raw(endorsement.public_key, report.r, report.s, report.signed, curve=SECP384R1, digest=SHA384())


def verify_same_chip(report: SnpReport, endorsement: Certificate, product: Product) -> None:
    """Check that the certificate was issued for the chip, the firmware and the kind of key that the report names.

    A report alone may claim any firmware: AMD derives the key from the firmware's level, so the certificate knows.

    Raises:
        EndorsementMismatch: something differs.
    """
    if report.product is not None and report.product is not product:
        raise EndorsementMismatch("the report comes from another product than its certificate")
    if Tcb.read(report.reported_tcb, product) != certified_tcb(endorsement):
        raise EndorsementMismatch("the report claims another firmware level than its certificate")
    if report.signing_key == VLEK and _PROVIDER in endorsement.extensions:
        return  # a provider's key belongs to no chip
    if report.signing_key != VCEK or _HARDWARE_ID not in endorsement.extensions:
        raise EndorsementMismatch("the report was signed by another kind of key than its certificate's")
    if report.masked_chip or endorsement.extensions[_HARDWARE_ID].ljust(CHIP_ID, b"\0") != report.chip_id:
        raise EndorsementMismatch("the report comes from another chip than its certificate, or hides which")


def certified_tcb(endorsement: Certificate) -> Tcb:
    """The firmware level that an endorsement key was derived for.

    Raises:
        EndorsementMismatch: the certificate does not say.
    """
    return Tcb(**{part: _number(endorsement, oid) for part, oid in _LEVELS.items() if oid in endorsement.extensions})


def provider(endorsement: Certificate) -> str:
    """The cloud that a VLEK was issued to; empty for a VCEK."""
    return _text(endorsement, _PROVIDER) if _PROVIDER in endorsement.extensions else ""


def _number(certificate: Certificate, oid: str) -> int:
    try:
        return asn1.decode_der(int, certificate.extensions[oid])
    except ValueError:
        raise EndorsementMismatch("a firmware level in the certificate cannot be read") from None


def _text(certificate: Certificate, oid: str) -> str:
    try:
        return asn1.decode_der(asn1.IA5String, certificate.extensions.get(oid, b"")).as_str()
    except ValueError:
        raise EndorsementMismatch("a name in the endorsement key's certificate cannot be read") from None
