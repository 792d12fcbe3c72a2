"""The pinned roots are the vendors', and others say so in every result."""

from itertools import chain

import pytest

from attestation.parsing.certificate import Certificate, certificates_from_pem
from attestation.parsing.snp import Product
from attestation.verification.roots import VENDOR_ROOTS, Roots, UnsafeTrustOtherRoots
from tests.attestation.vectors import entries


def test_every_product_of_amd_has_a_root_and_no_two_roots_are_the_same() -> None:
    assert set(VENDOR_ROOTS.amd) == set(Product)
    pinned = [*VENDOR_ROOTS.amd.values(), VENDOR_ROOTS.intel, VENDOR_ROOTS.nvidia_devices, VENDOR_ROOTS.nvidia_rims]
    assert len(set(pinned)) == 6
    assert {len(digest) for digest in pinned} == {32}


def test_other_roots_show_in_every_result() -> None:
    assert VENDOR_ROOTS.weakenings == ()
    assert Roots(amd={}, intel=b"", nvidia_devices=b"", nvidia_rims=b"").weakenings == ()
    others = UnsafeTrustOtherRoots(amd={}, intel=b"", nvidia_devices=b"", nvidia_rims=b"")
    assert others.weakenings == ("UnsafeTrustOtherRoots",)


ANCHORS = {
    "amd-root-milan": VENDOR_ROOTS.amd[Product.MILAN],
    "amd-root-milan-vlek": VENDOR_ROOTS.amd[Product.MILAN],
    "amd-root-genoa": VENDOR_ROOTS.amd[Product.GENOA],
    "amd-root-genoa-vlek": VENDOR_ROOTS.amd[Product.GENOA],
    "amd-root-turin-vcek": VENDOR_ROOTS.amd[Product.TURIN],
    "amd-root-turin-vlek": VENDOR_ROOTS.amd[Product.TURIN],
    "intel-sgx-root-ca": VENDOR_ROOTS.intel,
    "nvidia-device-identity-root": VENDOR_ROOTS.nvidia_devices,
    "nvidia-corim-root": VENDOR_ROOTS.nvidia_rims,
}


@pytest.mark.parametrize("name", ANCHORS)
def test_the_pinned_digests_are_those_of_the_published_certificates(name: str) -> None:
    pems = entries()[name].read_all("trust_anchor")
    published = [Certificate.parse(der) for der in chain.from_iterable(map(certificates_from_pem, pems))]
    (root,) = [certificate for certificate in published if certificate.issuer == certificate.subject]
    assert root.sha256 == ANCHORS[name]
