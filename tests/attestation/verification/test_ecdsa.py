"""Raw signatures hold under their key, their data and their digest, and whatever numbers they are made of, under nothing else."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import InvalidReportSignature
from attestation.verification.ecdsa import verify_raw

KEYS: dict[type[ec.EllipticCurve], ec.EllipticCurvePrivateKey] = {
    curve: ec.generate_private_key(curve()) for curve in (ec.SECP256R1, ec.SECP384R1)
}
DIGESTS: dict[type[ec.EllipticCurve], HashAlgorithm] = {ec.SECP256R1: SHA256(), ec.SECP384R1: SHA384()}
ORDERS: dict[type[ec.EllipticCurve], int] = {
    ec.SECP256R1: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    ec.SECP384R1: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}
curves = st.sampled_from(list(KEYS))


def sign(curve: type[ec.EllipticCurve], data: bytes) -> tuple[int, int]:
    return decode_dss_signature(KEYS[curve].sign(data, ec.ECDSA(DIGESTS[curve])))


def verify(curve: type[ec.EllipticCurve], r: int, s: int, data: bytes) -> None:
    verify_raw(KEYS[curve].public_key(), r, s, data, curve=curve, digest=DIGESTS[curve])


@given(curve=curves, data=st.binary(max_size=64), other=st.binary(max_size=64))
def test_holds_for_what_was_signed_and_nothing_else(curve: type[ec.EllipticCurve], data: bytes, other: bytes) -> None:
    r, s = sign(curve, data)
    verify(curve, r, s, data)
    if other != data:
        with pytest.raises(InvalidReportSignature):
            verify(curve, r, s, other)


@given(curve=curves, bit=st.integers(0, 383), first=st.booleans())
def test_a_changed_number_does_not_hold(curve: type[ec.EllipticCurve], bit: int, first: bool) -> None:
    r, s = sign(curve, b"data")
    with pytest.raises(InvalidReportSignature):
        verify(curve, r ^ first << bit, s ^ (not first) << bit, b"data")


@pytest.mark.parametrize("curve", KEYS)
def test_numbers_out_of_range_do_not_hold(curve: type[ec.EllipticCurve]) -> None:
    order, (r, s) = ORDERS[curve], sign(curve, b"data")
    for other in (
        (0, s),
        (r, 0),
        (0, 0),
        (order, s),
        (r, order),
        (r + order, s),
        (r, s + order),
        (2**576 - 1, s),
        (r, 2**576),
    ):
        with pytest.raises(InvalidReportSignature):
            verify(curve, *other, b"data")


def test_a_key_of_another_curve_or_kind_does_not_hold() -> None:
    r, s = sign(ec.SECP256R1, b"data")
    for key in (KEYS[ec.SECP256R1].public_key(), rsa.generate_private_key(65537, 2048).public_key()):
        with pytest.raises(InvalidReportSignature):
            verify_raw(key, r, s, b"data", curve=ec.SECP384R1, digest=SHA256())


def test_another_digest_does_not_hold() -> None:
    r, s = sign(ec.SECP384R1, b"data")
    with pytest.raises(InvalidReportSignature):
        verify_raw(KEYS[ec.SECP384R1].public_key(), r, s, b"data", curve=ec.SECP384R1, digest=SHA256())
