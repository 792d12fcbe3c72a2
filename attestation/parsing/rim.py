"""NVIDIA's reference integrity manifests: which digest a good device reports at which index.

A manifest is a SWID tag (ISO/IEC 19770-2) with an enveloped XML signature; TCG, PC Client Reference Integrity Manifest
Specification. Nothing of it may be believed before ``attestation.verification.rim`` has returned the part that is signed.
"""

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from lxml import etree

from attestation.errors import MalformedCollateral
from attestation.limits import MAX_CERTIFICATES, MAX_RIM

_SWID: Final = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
_SIGNATURE: Final = "{http://www.w3.org/2000/09/xmldsig#}"
_HASH: Final = "{http://www.w3.org/2001/04/xmlenc#sha384}Hash"
_C14N11: Final = "http://www.w3.org/2006/12/xml-c14n11"
# Everything in a signature before its certificates. What else could be there is signed by nobody, and anybody may add it.
_PARTS: Final = [
    _SIGNATURE + name
    for name in (
        "Signature",
        "SignedInfo",
        "CanonicalizationMethod",
        "SignatureMethod",
        "Reference",
        "Transforms",
        "Transform",
        "Transform",
        "DigestMethod",
        "DigestValue",
        "SignatureValue",
        "KeyInfo",
        "X509Data",
    )
]
_CERTIFICATE: Final = f"{_SIGNATURE}X509Certificate"
_ALGORITHMS: Final = {  # in the order of the document
    f"{_SIGNATURE}CanonicalizationMethod": [_C14N11],
    f"{_SIGNATURE}SignatureMethod": ["http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"],
    f"{_SIGNATURE}Transform": ["http://www.w3.org/2000/09/xmldsig#enveloped-signature", _C14N11],
    f"{_SIGNATURE}DigestMethod": ["http://www.w3.org/2001/04/xmldsig-more#sha384"],
}
_INDEXES: Final = {str(number): number for number in range(256)}
_DIGEST = re.compile(r"[0-9a-f]{96}")  # SHA-384
_ALTERNATIVES: Final = {str(number): number for number in range(1, 64 + 1)}  # how many digests an index may have
_MAX_NAMESPACES = 64  # of the whole document: canonical XML carries each into all that stands below
_MAX_ATTRIBUTES = 128  # of one element: canonical XML sorts them, in a time that grows with the square of their number


def parse_manifest(data: bytes) -> tuple[etree._Element, tuple[bytes, ...]]:
    """The document, and the certificates in its signature in DER, the signer's first; nothing is verified yet.

    Raises:
        MalformedCollateral: no XML of the expected form: a document type, too many attributes, more than one signature, other
            parts of it or another reference than to the whole document, or other algorithms than C14N 1.1 and ECDSA P-384
            with SHA-384.
    """
    if len(data) > MAX_RIM:
        raise MalformedCollateral("a reference manifest is too large")
    if data.count(b"xmlns") > _MAX_NAMESPACES or b"\0" in data:
        raise MalformedCollateral("a reference manifest has too many namespaces, or is no UTF-8")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise MalformedCollateral("a reference manifest is not XML") from None
    signatures = list(root.iter(f"{_SIGNATURE}Signature"))
    if root.tag != f"{_SWID}SoftwareIdentity" or len(signatures) != 1 or signatures[0].getparent() is not root:
        raise MalformedCollateral("a reference manifest is no SWID tag with one signature of its own")
    if (root.getroottree().docinfo.encoding or "UTF-8").upper() != "UTF-8":
        raise MalformedCollateral("a reference manifest is no UTF-8")
    if root.getroottree().docinfo.doctype:
        raise MalformedCollateral("a reference manifest has a document type, which could change what it says")
    if any(len(element.attrib) > _MAX_ATTRIBUTES for element in root.iter("*")):
        raise MalformedCollateral("a reference manifest has an element with too many attributes")
    parts = [element.tag for element in signatures[0].iter()]
    if parts[: len(_PARTS)] != _PARTS or any(part != _CERTIFICATE for part in parts[len(_PARTS) :]):
        raise MalformedCollateral("the signature of a reference manifest has other parts than NVIDIA's have")
    if [element.get("URI") for element in signatures[0].iter(f"{_SIGNATURE}Reference")] != [""]:
        raise MalformedCollateral("the signature of a reference manifest is not over the whole document")
    for tag, algorithms in _ALGORITHMS.items():
        if [element.get("Algorithm") for element in signatures[0].iter(tag)] != algorithms:
            raise MalformedCollateral("a reference manifest is signed by other algorithms than NVIDIA uses")
    return root, _certificates(signatures[0])


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says once its signature holds.

    ``measurements`` maps an index, counted from 0, to the digests of which a good device reports one; ``product`` and
    ``version`` say for which chip and which driver or VBIOS.
    """

    product: str
    version: str
    measurements: Mapping[int, tuple[bytes, ...]] = field(repr=False)

    @classmethod
    def parse(cls, signed: etree._Element) -> "Manifest":
        """Read the signed part; resources that are not active say nothing about a device.

        Raises:
            MalformedCollateral: a member is missing or of another form, or an index comes twice.
        """
        metas, payloads = signed.findall(f"{_SWID}Meta"), signed.findall(f"{_SWID}Payload")
        if len(metas) != 1 or len(payloads) != 1:
            raise MalformedCollateral("a reference manifest has not one description and one list of measurements")
        (meta,), (payload,) = metas, payloads
        measurements: dict[int, tuple[bytes, ...]] = {}
        seen: set[int] = set()
        for resource in payload.iter(f"{_SWID}Resource"):
            index = _index(resource.get("index", ""))
            if index in seen:
                raise MalformedCollateral("a reference manifest names an index twice")
            seen.add(index)
            active = resource.get("active")
            if active not in ("True", "False"):
                raise MalformedCollateral("a reference manifest has a measurement that is neither active nor inactive")
            if active == "True":
                measurements[index] = _alternatives(resource)
        return cls(meta.get("product", ""), meta.get("colloquialVersion", ""), measurements)


def _certificates(signature: etree._Element) -> tuple[bytes, ...]:
    texts = [element.text or "" for element in signature.iter(_CERTIFICATE)]
    try:
        chain = tuple(b64decode("".join(text.split()), validate=True) for text in texts)
    except (NotBase64, ValueError):
        raise MalformedCollateral("a certificate in a reference manifest is not base64") from None
    if not 0 < len(chain) <= MAX_CERTIFICATES:
        raise MalformedCollateral("a reference manifest holds no certificate, or too many")
    return chain


def _index(text: str) -> int:
    if text not in _INDEXES:
        raise MalformedCollateral("a reference manifest has an index that is none")
    return _INDEXES[text]


def _alternatives(resource: etree._Element) -> tuple[bytes, ...]:
    count = resource.get("alternatives", "")
    if count not in _ALTERNATIVES:
        raise MalformedCollateral("a reference manifest has an impossible number of alternatives")
    digests = [resource.get(f"{_HASH}{number}", "") for number in range(_ALTERNATIVES[count])]
    if not all(_DIGEST.fullmatch(digest) for digest in digests):
        raise MalformedCollateral("a reference manifest has a digest that is no SHA-384")
    return tuple(bytes.fromhex(digest) for digest in digests)
