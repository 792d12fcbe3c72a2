"""Reference manifests: one form of XML, one signature of one form, and each index once."""

import base64
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from attestation.errors import MalformedCollateral
from attestation.limits import MAX_CERTIFICATES, MAX_RIM
from attestation.parsing.rim import Manifest, parse_manifest
from tests.attestation.authority.nvidia import (
    DSIG,
    ECDSA_SHA256,
    HMAC_SHA384,
    NO_SIGNATURE,
    SHA384_URI,
    SWID,
    Golden,
    golden,
    nvidia_authority,
    rim_document,
)
from tests.attestation.vectors import entries

AUTHORITY = nvidia_authority()
SIGNER = AUTHORITY.rim_signer()
RIM = AUTHORITY.rim("driver", signer=SIGNER)
TEXT = RIM.decode()
DIGEST = b"\x11" * 48


def manifest(measurements: Golden | None = None, **parts: str) -> Manifest:
    document = rim_document(
        {} if measurements is None else measurements, "590.12", resources=parts.get("resources", "")
    )
    return Manifest.parse(etree.fromstring(document))


def test_reads_the_certificates_of_the_signature_in_order() -> None:
    root, certificates = parse_manifest(RIM)
    assert certificates == SIGNER.chain
    assert root.tag == f"{{{SWID}}}SoftwareIdentity"


@pytest.mark.parametrize("kind", ["driver", "vbios"])
def test_reads_what_is_active(kind: str) -> None:
    expected = golden("driver" if kind == "driver" else "vbios")
    read = Manifest.parse(parse_manifest(AUTHORITY.rim("driver", expected, version="1.2"))[0])
    assert (read.product, read.version) == ("GH100", "1.2")
    assert read.measurements == expected


digests = st.binary(min_size=48, max_size=48)
measurements = st.dictionaries(st.integers(0, 255), st.lists(digests, min_size=1, max_size=4).map(tuple), max_size=4)


@given(measurements)
def test_any_measurements_are_read_as_they_were_written(expected: Golden) -> None:
    assert manifest(expected).measurements == expected


def test_an_index_may_have_as_many_alternatives_as_the_limit_says_and_no_more() -> None:
    most = {7: tuple(bytes([number]) * 48 for number in range(64))}
    assert manifest(most).measurements == most
    with pytest.raises(MalformedCollateral):
        manifest({7: (*most[7], DIGEST)})


def resource(**attributes: str) -> str:
    told = {"type": "Measurement", "index": "200", "active": "True", "alternatives": "1", "ns2:Hash0": DIGEST.hex()}
    whole = {**told, **attributes}
    return f"<ns0:Resource {' '.join(f'{name}={chr(34)}{value}{chr(34)}' for name, value in whole.items() if value != '-')}/>"


def test_the_hand_made_measurement_is_one() -> None:
    assert manifest(resources=resource()).measurements == {200: (DIGEST,)}
    assert manifest(resources=resource(active="False")).measurements == {}
    inside = f"<ns0:Directory>{resource()}</ns0:Directory>"
    assert manifest(resources=inside).measurements == {200: (DIGEST,)}


RESOURCES: dict[str, str] = {
    "no index": resource(index="-"),
    "an empty index": resource(index=""),
    "an index in words": resource(index="one"),
    "a negative index": resource(index="-1"),
    "an index beyond a byte": resource(index="256"),
    "an index without end": resource(index="9" * 5000),
    "an index in other digits": resource(index="٣"),
    "an index in superscript": resource(index="²"),
    "an index with white space": resource(index=" 200"),
    "an index twice": resource() * 2,
    "an index twice, once inactive": resource() + resource(active="False"),
    "an index with leading zeros": resource(index="020"),
    "neither active nor inactive": resource(active="true"),
    "no word on activity": resource(active="-"),
    "no alternatives": resource(alternatives="-"),
    "an empty number of alternatives": resource(alternatives=""),
    "zero alternatives": resource(alternatives="0"),
    "a negative number of alternatives": resource(alternatives="-1"),
    "65 alternatives": resource(alternatives="65"),
    "alternatives without end": resource(alternatives="9" * 5000),
    "alternatives with leading zeros": resource(alternatives="01"),
    "alternatives in other digits": resource(alternatives="١"),
    "an alternative that is missing": resource(alternatives="2"),
    "a digest in upper case": resource(**{"ns2:Hash0": "AB" * 48}),
    "a short digest": resource(**{"ns2:Hash0": "11" * 47}),
    "a long digest": resource(**{"ns2:Hash0": "11" * 49}),
    "a digest with a line behind it": resource(**{"ns2:Hash0": "11" * 48 + "&#10;"}),
    "a digest under another name": resource(**{"ns2:Hash0": "-", "Hash0": DIGEST.hex()}),
}


@pytest.mark.parametrize("resources", RESOURCES.values(), ids=RESOURCES)
def test_refuses_measurements_of_another_form(resources: str) -> None:
    with pytest.raises(MalformedCollateral):
        manifest(resources=resources)


def without(tag: str) -> Callable[[str], str]:
    """Take an element of this name out."""
    return lambda text: re.sub(rf"<ns0:{tag}\b[^>]*/>|<ns0:{tag}\b.*?</ns0:{tag}>", "", text, count=1, flags=re.DOTALL)


def with_second(tag: str) -> Callable[[str], str]:
    """Put another element of this name in front of the first."""
    return lambda text: text.replace(f"<ns0:{tag}", f"<ns0:{tag}/><ns0:{tag}", 1)


PARTS: dict[str, Callable[[str], str]] = {
    "no description": without("Meta"),
    "no measurements": without("Payload"),
    "two descriptions": with_second("Meta"),
    "two lists of measurements": with_second("Payload"),
    "a second description in other words": lambda text: text.replace(
        "<ns0:Meta", f'<b:Meta xmlns:b="{SWID}"/><ns0:Meta'
    ),
}


@pytest.mark.parametrize("change", PARTS.values(), ids=PARTS)
def test_refuses_a_manifest_without_one_description_and_one_list_of_measurements(change: Callable[[str], str]) -> None:
    changed = change(TEXT)
    assert changed != TEXT
    with pytest.raises(MalformedCollateral):
        Manifest.parse(etree.fromstring(changed))


def test_elements_of_the_same_name_elsewhere_mean_nothing() -> None:
    other = TEXT.replace("<ns0:Meta", '<Meta xmlns="urn:other" product="LS10"/><ns0:Meta')
    assert Manifest.parse(etree.fromstring(other)).product == "GH100"
    nested = TEXT.replace("</ns0:Payload>", f'<Payload xmlns="urn:other">{resource()}</Payload></ns0:Payload>')
    assert 200 in Manifest.parse(etree.fromstring(nested)).measurements  # wherever they are in the list
    attribute = manifest(
        resources=resource().replace("index=", 'xmlns:b="urn:other" b:index="7" b:active="False" index=')
    )
    assert attribute.measurements == {200: (DIGEST,)}


# --- The signature's form -------------------------------------------------------------------------------------------------


def replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


SIGNATURE = f'<ds:Signature xmlns:ds="{DSIG}"/>'
KEY_VALUE = "<ds:KeyValue><ds:RSAKeyValue><ds:Modulus>AQAB</ds:Modulus><ds:Exponent>AQAB</ds:Exponent></ds:RSAKeyValue></ds:KeyValue>"
DER_KEY = '<d:DEREncodedKeyValue xmlns:d="http://www.w3.org/2009/xmldsig11#">AQAB</d:DEREncodedKeyValue>'
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
FORMS: dict[str, Callable[[str], str]] = {
    "no XML": replaced("<SoftwareIdentity", "<SoftwareIdentity<"),
    "a zero byte": replaced("GH100", "\0"),
    "a comment in an attribute": replaced('product="GH100"', 'product="GH<!-- a -->100"'),
    "an attribute twice": replaced('product="GH100"', 'product="GH100" product="GB100"'),
    "a digest twice, under two prefixes of one namespace": lambda text: re.sub(
        '(ns2:Hash0="[0-9a-f]*")', rf'\1 xmlns:b="{SHA384_URI}" b:Hash0="{DIGEST.hex()}"', text, count=1
    ),
    "an unknown encoding": lambda text: '<?xml version="1.0" encoding="utf-99"?>' + text,
    "another encoding than it claims": lambda text: '<?xml version="1.0" encoding="utf-16"?>' + text,
    "two documents": lambda text: text * 2,
    "elements without end": replaced("<ns0:Payload", "<a>" * 300 + "<ns0:Payload"),
    "another root": lambda text: f"<a>{text}</a>",
    "another namespace": lambda text: text.replace(SWID, SWID + "x"),
    "a document type": lambda text: "<!DOCTYPE SoftwareIdentity>" + text,
    "a document type elsewhere": lambda text: '<!DOCTYPE SoftwareIdentity SYSTEM "http://localhost/a.dtd">' + text,
    "defaults by a document type": lambda text: '<!DOCTYPE a [<!ATTLIST ns0:Resource active CDATA "True">]>' + text,
    "entities": lambda text: '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]>' + text.replace("GH100", "&e;"),
    "an entity that nobody declared": replaced("</ns0:Payload>", "&e;</ns0:Payload>"),
    "no signature": lambda text: re.sub("<ds:Signature .*</ds:Signature>", "", text, flags=re.DOTALL),
    "a second signature": replaced("<ds:Signature ", f"{SIGNATURE}<ds:Signature "),
    "a signature in the measurements": replaced("</ns0:Payload>", f"{SIGNATURE}</ns0:Payload>"),
    "a signature deeper down": lambda text: re.sub(
        "(<ds:Signature .*</ds:Signature>)", r"<a>\1</a>", text, flags=re.DOTALL
    ),
    "a signature in the signature": replaced("</ds:KeyInfo>", f"</ds:KeyInfo><ds:Object>{SIGNATURE}</ds:Object>"),
    "a bare key": replaced("<ds:X509Data>", f"{KEY_VALUE}<ds:X509Data>"),
    "a bare key in DER": replaced("<ds:X509Data>", f"{DER_KEY}<ds:X509Data>"),
    "certificates by reference": replaced("<ds:X509Data>", '<ds:RetrievalMethod URI="http://localhost"/><ds:X509Data>'),
    "certificates in two places": replaced("</ds:X509Data>", "</ds:X509Data><ds:X509Data></ds:X509Data>"),
    "a name beside the certificates": replaced(
        "<ds:X509Data>", "<ds:X509Data><ds:X509SubjectName>a</ds:X509SubjectName>"
    ),
    "an object": replaced("</ds:KeyInfo>", "</ds:KeyInfo><ds:Object><a/></ds:Object>"),
    "a comment in the signature": replaced("<ds:SignatureValue>", "<ds:SignatureValue><!-- a -->"),
    "a comment in a certificate": replaced("<ds:X509Certificate>", "<ds:X509Certificate><!-- a -->"),
    "an instruction in a digest": replaced("<ds:DigestValue>", "<ds:DigestValue><?a b?>"),
    "no certificates": lambda text: re.sub("<ds:X509Cert.*</ds:X509Certificate>", "", text, flags=re.DOTALL),
    "no key information": lambda text: re.sub("<ds:KeyInfo.*</ds:KeyInfo>", "", text, flags=re.DOTALL),
    "no signature value": lambda text: re.sub("<ds:SignatureValue.*</ds:SignatureValue>", "", text, flags=re.DOTALL),
    "a reference to a part": replaced('URI=""', 'URI="#a"'),
    "a reference to a file": replaced('URI=""', 'URI="file:///etc/hostname"'),
    "a reference to nothing": replaced(' URI=""', ""),
    "a second reference": lambda text: re.sub("(<ds:Reference.*</ds:Reference>)", r"\1\1", text, flags=re.DOTALL),
    "no transforms": lambda text: re.sub("<ds:Transforms>.*</ds:Transforms>", "", text, flags=re.DOTALL),
    "another transform": replaced(f"{DSIG}enveloped-signature", "http://www.w3.org/TR/1999/REC-xslt-19991116"),
    "other canonical XML": replaced("http://www.w3.org/2006/12/xml-c14n11", "http://www.w3.org/2001/10/xml-exc-c14n#"),
    "canonical XML with comments": replaced("xml-c14n11", "xml-c14n11#WithComments"),
    "another digest": replaced(f"{MORE}sha384", "http://www.w3.org/2000/09/xmldsig#sha1"),
}


@pytest.mark.parametrize("change", FORMS.values(), ids=FORMS)
def test_refuses_another_document_or_another_signature_than_nvidia_makes(change: Callable[[str], str]) -> None:
    changed = change(TEXT)
    assert changed != TEXT
    with pytest.raises(MalformedCollateral):
        parse_manifest(changed.encode())


@pytest.mark.parametrize("algorithm", [ECDSA_SHA256, HMAC_SHA384, NO_SIGNATURE], ids=lambda algorithm: algorithm.uri)
def test_refuses_other_algorithms_of_signature(algorithm: object) -> None:
    assert isinstance(algorithm, type(ECDSA_SHA256))
    with pytest.raises(MalformedCollateral):
        parse_manifest(AUTHORITY.rim("driver", algorithm=algorithm))


def with_certificates(*texts: str) -> bytes:
    listed = "".join(f"<ds:X509Certificate>{text}</ds:X509Certificate>" for text in texts)
    return re.sub("<ds:X509Cert.*</ds:X509Certificate>", listed, TEXT, flags=re.DOTALL).encode()


def test_accepts_as_many_certificates_as_the_limit_says_and_no_more() -> None:
    one = base64.b64encode(SIGNER.chain[0]).decode()
    assert parse_manifest(with_certificates(*[one] * MAX_CERTIFICATES))[1] == (SIGNER.chain[0],) * MAX_CERTIFICATES
    with pytest.raises(MalformedCollateral, match="too many"):
        parse_manifest(with_certificates(*[one] * (MAX_CERTIFICATES + 1)))


@pytest.mark.parametrize("text", ["A", "AA", "AA=A", "AAA_", "é", "=", "AAAA=AAA"])
def test_refuses_certificates_that_are_not_base64(text: str) -> None:
    with pytest.raises(MalformedCollateral):
        parse_manifest(with_certificates(text))


def test_an_empty_certificate_is_left_to_those_who_read_certificates() -> None:
    assert parse_manifest(with_certificates(""))[1] == (b"",)


def test_white_space_in_a_certificate_means_nothing() -> None:
    assert parse_manifest(with_certificates(" AA\n A A\t"))[1] == (bytes(3),)


def test_accepts_a_manifest_up_to_the_limit_and_none_beyond() -> None:
    assert parse_manifest(RIM.ljust(MAX_RIM))[1] == SIGNER.chain
    with pytest.raises(MalformedCollateral, match="too large"):
        parse_manifest(RIM.ljust(MAX_RIM + 1))


def with_attributes(count: int) -> bytes:
    return TEXT.replace(
        "</ns0:Payload>", f"<a {' '.join(f'a{n}={chr(34) * 2}' for n in range(count))}/></ns0:Payload>"
    ).encode()


def test_accepts_as_many_attributes_as_a_measurement_can_need_and_not_many_more() -> None:
    assert parse_manifest(with_attributes(128))[1] == SIGNER.chain
    with pytest.raises(MalformedCollateral, match="too many attributes"):
        parse_manifest(with_attributes(129))


def test_accepts_as_many_namespaces_as_the_limit_says_and_no_more() -> None:
    def with_namespaces(count: int) -> bytes:
        told = " ".join(f'xmlns:a{number}="urn:{number}"' for number in range(count - TEXT.count("xmlns")))
        return TEXT.replace("</ns0:Payload>", f"<a {told}/></ns0:Payload>").encode()

    assert parse_manifest(with_namespaces(64))[1] == SIGNER.chain
    with pytest.raises(MalformedCollateral, match="too many namespaces"):
        parse_manifest(with_namespaces(65))


def test_a_bomb_of_entities_is_refused_before_it_goes_off() -> None:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    start = time.process_time()
    with pytest.raises(MalformedCollateral):
        parse_manifest(f'<!DOCTYPE a [<!ENTITY e0 "a">{levels}]>{TEXT.replace("GH100", "&e11;", 1)}'.encode())
    assert time.process_time() - start < 1


@given(st.binary(max_size=64) | st.text("<>/?!&;= \"'ab", max_size=32).map(str.encode))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedCollateral):
        parse_manifest(data)


@given(at=st.integers(0, len(RIM) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_the_manifest_can_still_be_read(at: int, byte: int) -> None:
    try:
        root, _ = parse_manifest(RIM[:at] + bytes([byte]) + RIM[at + 1 :])
        read = Manifest.parse(root)
    except MalformedCollateral:
        return
    assert all(len(digest) == 48 for digests in read.measurements.values() for digest in digests)


def test_recorded_manifests_are_read() -> None:
    recorded = {
        name: entry.read("rim") for name, entry in entries().items() if entry.kind == "gpu_rim" and "root" not in name
    }
    assert len(recorded) == 6
    for name, data in recorded.items():
        root, certificates = parse_manifest(data)
        read = Manifest.parse(root)
        assert len(certificates) == (2 if "broken-chain" in name else 4)
        assert 20 <= len(read.measurements) <= 22
        (version,) = re.findall(r"\d+\.\d+\.\d+", name) or [read.version]
        assert read.version == version


@pytest.mark.parametrize(
    "change",
    [
        lambda rim: rim.replace(
            b"<ns0:Payload", b"<ns0:Payload" + b"".join(b' xmlns:n%d="u"' % n for n in range(64)), 1
        ),
        lambda rim: rim.decode().encode("utf-16"),
        lambda rim: b'<?xml version="1.0" encoding="ISO-8859-1"?>' + rim,
    ],
    ids=["namespaces", "utf-16", "latin-1"],
)
def test_a_manifest_that_is_written_to_take_time_is_refused_before_it_is_read(change: Callable[[bytes], bytes]) -> None:
    """Canonical XML carries each namespace into all that stands below; another encoding would hide them."""
    with pytest.raises(MalformedCollateral):
        parse_manifest(change(RIM))
