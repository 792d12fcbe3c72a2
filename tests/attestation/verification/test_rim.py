"""A manifest is believed only as far as its first certificate's key signed it, and its chain leads to the pinned root."""

import base64
import contextlib
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import (
    BrokenChain,
    CertificateOutOfDate,
    InvalidReferenceValues,
    MalformedCollateral,
    UntrustedRoot,
)
from attestation.limits import MAX_RIM
from attestation.parsing.certificate import Certificate
from attestation.parsing.rim import Manifest
from attestation.verification.chain import verify_times
from attestation.verification.rim import SignedManifest
from attestation.verification.roots import VENDOR_ROOTS
from tests.attestation.authority.nvidia import (
    DRIVER_VERSION,
    NOW,
    Signer,
    golden,
    new_key,
    nvidia_authority,
    rim_document,
    rsa_key,
    sign_rim,
)
from tests.attestation.parsing.handmade import CertificateParts, sequence
from tests.attestation.vectors import entries

AUTHORITY = nvidia_authority()
SIGNER = AUTHORITY.rim_signer()
RIM = AUTHORITY.rim("driver", signer=SIGNER)
TEXT = RIM.decode()
ROOT = Certificate.parse(AUTHORITY.rim_root).sha256
EXPECTED = Manifest("GH100", DRIVER_VERSION, golden("driver"))


def verified(data: bytes | str) -> Manifest:
    return SignedManifest.parse(data.encode() if isinstance(data, str) else data).verified()


def test_says_what_the_signer_signed() -> None:
    signed = SignedManifest.parse(RIM)
    assert signed.claimed.version == DRIVER_VERSION
    assert tuple(certificate.der for certificate in signed.chain) == SIGNER.chain
    signed.verify_signer(ROOT)
    assert signed.verified() == EXPECTED


@pytest.mark.parametrize("kind", ["driver", "vbios"])
@pytest.mark.parametrize("arch", ["hopper", "blackwell", "ls10"])
def test_every_kind_of_manifest_holds(kind: str, arch: str) -> None:
    which, of = (
        ("driver" if kind == "driver" else "vbios"),
        {"hopper": "hopper", "blackwell": "blackwell"}.get(arch, "ls10"),
    )
    assert verified(AUTHORITY.rim(which, arch=of)).measurements == golden(which, of)  # type: ignore[arg-type]


def test_claims_to_be_for_a_version_of_its_own_product_and_no_other() -> None:
    signed = SignedManifest.parse(AUTHORITY.rim("vbios", version="96.00.a5.00.01"))
    assert signed.claims(["", "GH100"], "96.00.A5.00.01")
    assert not signed.claims(["GH100"], "96.00.A5.00.02")
    for products in (["GB100"], ["GH10"], [""], []):
        assert not signed.claims(products, "96.00.A5.00.01")


def test_a_switch_is_named_with_and_without_an_underscore() -> None:
    signed = SignedManifest.parse(AUTHORITY.rim("vbios", arch="ls10", version="1"))
    assert signed.claimed.product == "LS10"
    assert signed.claims(["LS_10"], "1")
    assert signed.claims(["LS10"], "1")


def test_the_time_of_the_signer_is_asked_elsewhere() -> None:
    expired = AUTHORITY.rim_signer(life=(NOW.replace(year=2020), NOW.replace(year=2021)))
    signed = SignedManifest.parse(AUTHORITY.rim("driver", signer=expired))
    assert signed.verified() == EXPECTED
    with pytest.raises(CertificateOutOfDate):
        verify_times(signed.chain, now=NOW)


def test_refuses_a_signer_that_was_not_appointed() -> None:
    stranger = AUTHORITY.rim_signer(signed_by=new_key())
    with pytest.raises(BrokenChain):
        SignedManifest.parse(AUTHORITY.rim("driver", signer=stranger)).verify_signer(ROOT)
    for root in (VENDOR_ROOTS.nvidia_rims, Certificate.parse(AUTHORITY.root).sha256):
        with pytest.raises(UntrustedRoot):
            SignedManifest.parse(RIM).verify_signer(root)


def test_refuses_a_chain_without_its_root() -> None:
    shorter = re.sub("<ds:X509Certificate>[^<]*</ds:X509Certificate></ds:X509Data>", "</ds:X509Data>", TEXT)
    with pytest.raises(UntrustedRoot):
        SignedManifest.parse(shorter.encode()).verify_signer(ROOT)


def test_the_first_certificate_counts_and_no_other() -> None:
    texts = re.findall("<ds:X509Certificate>[^<]*</ds:X509Certificate>", TEXT)
    with pytest.raises(InvalidReferenceValues):
        verified(TEXT.replace("".join(texts), "".join([*texts[1:], texts[0]])))


def replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


def emptied(element: str) -> Callable[[str], str]:
    return lambda text: re.sub(f"(<ds:{element}>)[^<]*", r"\1", text, count=1)


EDITS: dict[str, Callable[[str], str]] = {
    "another version": replaced(DRIVER_VERSION, "590.13"),
    "another product": replaced('product="GH100"', 'product="GB100"'),
    "another digest": lambda text: re.sub(
        '(Hash0=")[0-9a-f]{2}', r"\g<1>00", text.replace('active="False"', 'active="False" ')
    ),
    "an index that is switched off": replaced('active="True"', 'active="False"'),
    "an index that is switched on": replaced('active="False"', 'active="True"'),
    "an index that is taken out": lambda text: re.sub(r"\s*<ns0:Resource[^>]*>", "", text, count=1),
    "an element more": replaced("</ns0:Payload>", "<a/></ns0:Payload>"),
    "an instruction": replaced("<ns0:Payload", "<?a b?><ns0:Payload"),
    "a space": replaced("<ns0:Payload", " <ns0:Payload"),
    "no value of the signature": emptied("SignatureValue"),
    "no value of the digest": emptied("DigestValue"),
    "a signature that is not base64": lambda text: re.sub("(<ds:SignatureValue>).", r"\1*", text),
    "a digest that is not base64": lambda text: re.sub("(<ds:DigestValue>).", r"\1*", text),
    "a signature that is too short": lambda text: re.sub("(<ds:SignatureValue>).{4}", r"\1", text),
    "a transform with content": replaced('c14n11"/></ds:Transforms>', 'c14n11"> </ds:Transform></ds:Transforms>'),
    "an attribute more in the signature": replaced("<ds:SignatureValue>", '<ds:SignatureValue a="b">'),
    "an identifier twice": replaced("<ds:SignatureValue>", '<ds:SignatureValue Id="a" id="a">'),
    "a relative namespace": replaced("<ns0:Payload", '<a xmlns="b"/><ns0:Payload'),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_refuses_a_manifest_that_was_edited_after_signing(edit: Callable[[str], str]) -> None:
    edited = edit(TEXT)
    assert edited != TEXT
    with pytest.raises(InvalidReferenceValues):
        verified(edited)


SAME: dict[str, Callable[[str], str]] = {
    "an XML declaration": lambda text: '<?xml version="1.0" encoding="utf-8"?>\n' + text,
    "a comment in front": lambda text: "<!-- 580.00 -->" + text,
    "a comment inside": replaced("<ns0:Payload", "<!-- 580.00 --><ns0:Payload"),
    "an instruction behind": lambda text: text + "<?a b?>",
    "attributes in another order": replaced('corpus="false" name="GH100"', 'name="GH100" corpus="false"'),
    "other quotes": replaced('corpus="false"', "corpus='false'"),
    "a character written as a number": replaced('product="GH100"', 'product="GH&#49;00"'),
    "two tags for one": lambda text: re.sub("(<ns0:Resource[^>]*)/>", r"\1></ns0:Resource>", text, count=1),
}


@pytest.mark.parametrize("write", SAME.values(), ids=SAME)
def test_what_canonical_xml_calls_the_same_is_the_same(write: Callable[[str], str]) -> None:
    written = write(TEXT)
    assert written != TEXT
    assert verified(written) == EXPECTED


def test_refuses_a_signer_with_a_key_of_another_kind() -> None:
    certified = AUTHORITY.rim_signer(key=rsa_key())
    with pytest.raises(InvalidReferenceValues):
        verified(sign_rim(rim_document({}, DRIVER_VERSION), Signer(new_key(), certified.chain)))


def test_refuses_a_signature_of_another_key_than_the_certificates() -> None:
    with pytest.raises(InvalidReferenceValues):
        verified(sign_rim(rim_document({}, DRIVER_VERSION), Signer(new_key(), SIGNER.chain)))


def test_refuses_a_signed_manifest_that_names_an_index_twice() -> None:
    resource = '<ns0:Resource index="7" active="False"/>'
    with pytest.raises(MalformedCollateral):
        SignedManifest.parse(AUTHORITY.rim("driver", resources=resource))


def certified(text: str) -> bytes:
    """The manifest with another first certificate, in base64."""
    return re.sub("<ds:X509Certificate>[^<]*", f"<ds:X509Certificate>{text}", TEXT, count=1).encode()


@pytest.mark.parametrize("text", ["AAAA", ""])
def test_refuses_certificates_that_are_none(text: str) -> None:
    with pytest.raises(MalformedCollateral):
        SignedManifest.parse(certified(text))


UNKNOWN_CURVE = sequence(bytes.fromhex("301006072a8648ce3d020106052b8104007f"), b"\x03\x02\x00\x04")


def test_refuses_a_signer_whose_key_cannot_be_read() -> None:
    signer = CertificateParts(public_key=UNKNOWN_CURVE).encode()
    with pytest.raises(MalformedCollateral):
        verified(certified(base64.b64encode(signer).decode()))


@settings(deadline=None)
@given(at=st.integers(0, len(RIM) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_changes_nothing(at: int, byte: int) -> None:
    try:
        read = verified(RIM[:at] + bytes([byte]) + RIM[at + 1 :])
    except (InvalidReferenceValues, MalformedCollateral):
        return
    assert read == EXPECTED


HOSTILE: dict[str, Callable[[int], str]] = {
    "attributes": lambda size: "<a " + " ".join(f'a{n:05}=""' for n in range(size // 10)) + "/>",
    "elements": lambda size: "<a/>" * (size // 4),
    "comments": lambda size: "<!---->" * (size // 7),
    "references": lambda size: "&amp;" * (size // 5),
    "namespaces": lambda size: "<a " + " ".join(f'xmlns:a{n:05}="u"' for n in range(size // 17)) + "/>",
    "namespaces and elements": lambda size: (
        "<a " + " ".join(f'xmlns:a{n:05}="u"' for n in range(size // 34)) + ">" + "<a/>" * (size // 8) + "</a>"
    ),
    "measurements": lambda size: "<ns0:Resource/>" * (size // 15),
}


@pytest.mark.parametrize("fill", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("before", ["</ns0:Payload>", "</ds:X509Data>"])
def test_a_hostile_manifest_takes_no_longer_than_its_length_deserves(fill: Callable[[int], str], before: str) -> None:
    data = TEXT.replace(before, fill(MAX_RIM - len(TEXT) - 256) + before).encode()
    assert MAX_RIM - 1024 < len(data) <= MAX_RIM
    start = time.process_time()
    with contextlib.suppress(InvalidReferenceValues, MalformedCollateral):
        assert verified(data) == EXPECTED
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("nvidia-rim-550.144.03", None),
        ("nvidia-rim-bad-signature", InvalidReferenceValues),
        ("nvidia-rim-570.124.03-expired", InvalidReferenceValues),
        ("nvidia-rim-535.86.09-measurement-mismatch", InvalidReferenceValues),
        ("nvidia-rim-broken-chain", UntrustedRoot),
    ],
)
def test_recorded_manifests_get_their_verdicts(name: str, refusal: type[Exception] | None) -> None:
    data = entries()[name].read("rim")
    if refusal is None:
        assert len(vendors(data).measurements) == 21
    else:
        with pytest.raises(refusal):
            vendors(data)


def vendors(data: bytes) -> Manifest:
    signed = SignedManifest.parse(data)
    signed.verify_signer(VENDOR_ROOTS.nvidia_rims)
    return signed.verified()
