"""Did NVIDIA publish these reference values? The chain of the signer, and the XML signature over the whole manifest.

Source: W3C, XML Signature Syntax and Processing 1.1 (checked by ``signxml``); NVIDIA, CoRIM signing root.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.x509 import load_der_x509_certificate
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from attestation.errors import InvalidReferenceValues
from attestation.parsing.certificate import Certificate
from attestation.parsing.rim import Manifest, parse_manifest
from attestation.verification.chain import verify_chain


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """A manifest as it came: its chain, signer first, and its bytes. ``verified`` gives what it says.

    ``claimed`` is what the whole document says of itself before its signature was checked; the signature is over all of it.
    """

    chain: tuple[Certificate, ...]
    claimed: Manifest
    data: bytes

    @classmethod
    def parse(cls, data: bytes) -> "SignedManifest":
        """Read the frame of a manifest.

        Raises:
            MalformedCollateral: it is no manifest of the expected form.
        """
        root, certificates = parse_manifest(data)
        chain = tuple(Certificate.parse(certificate) for certificate in certificates)
        return cls(chain, Manifest.parse(root), data)

    def claims(self, products: Collection[str], version: str) -> bool:
        """Whether it says that it is for this version of one of ``products``. Leaves write ``LS_10`` where manifests have LS10."""
        return self.claimed.version.upper() == version.upper() and any(
            self.claimed.product.replace("_", "") == product.replace("_", "") for product in products if product
        )

    def verify_signer(self, root: bytes) -> None:
        """Check the signer's chain up to ``root`` (SHA-256 of the root's certificate).

        Raises:
            UntrustedRoot, BrokenChain: it is not one that NVIDIA appointed.
        """
        verify_chain(self.chain, roots={root})

    def verified(self) -> Manifest:
        """Check the signature of the first certificate's key, and read the part that it is over and nothing else.

        Raises:
            InvalidReferenceValues: the signature does not hold, or the manifest was edited after signing.
            MalformedCollateral: the signed part is not of the expected form, or the signer's key cannot be read.
        """
        signer = self.chain[0]
        if not isinstance(signer.public_key, EllipticCurvePublicKey):
            raise InvalidReferenceValues("the signer's key is not of the kind that signs manifests")
        configuration = SignatureConfiguration(
            signature_methods=frozenset({SignatureMethod.ECDSA_SHA384}),
            digest_algorithms=frozenset({DigestAlgorithm.SHA384}),
            verification_time=signer.not_after,  # whether the certificate is valid now is asked elsewhere
        )
        try:
            result = XMLVerifier().verify(
                self.data, x509_cert=load_der_x509_certificate(signer.der), expect_config=configuration
            )
        except (SignXMLException, etree.LxmlError, ValueError, TypeError):
            raise InvalidReferenceValues(
                "the signature does not hold, or the manifest was edited after signing"
            ) from None
        signed = cast("VerifyResult", result).signed_data  # of one reference, to the whole document: ``parse_manifest``
        return Manifest.parse(etree.fromstring(signed))
