"""The forms admit what vendors publish, and nothing that is cut, padded, doubled or something else."""

import contextlib
import json
import time

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from attestation.fetching.forms import NotInForm, cut_members, from_hex, from_pem, signed_object, strict_object
from attestation.limits import MAX_CERTIFICATES
from tests.attestation.fetching.replay import Authority
from tests.attestation.vectors import read as vector

AUTHORITY = Authority.make()
DER = AUTHORITY.certificate.public_bytes(Encoding.DER)
PEM = AUTHORITY.certificate.public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "path",
    [
        "amd_sev_snp/milan_v2_virtee/vcek_milan.der",
        "amd_sev_snp/oak_genoa_v5/vcek.der",
        "amd_sev_snp/turin_chain/vcek_turin.der",
        "intel_tdx/go_tdx_guest_spr/pckcrl",
        "intel_tdx/go_tdx_guest_spr/rootcrl.der",
    ],
)
def test_published_certificates_and_revocation_lists_are_signed_objects(path: str) -> None:
    data = vector(path)
    assert signed_object(data) == data


@given(cut=st.integers(0, len(DER) - 1), more=st.binary(max_size=3))
def test_a_signed_object_that_is_cut_or_padded_is_none(cut: int, more: bytes) -> None:
    with pytest.raises(NotInForm):
        signed_object(DER[:cut])
    if more:
        with pytest.raises(NotInForm):
            signed_object(DER + more)


@given(data=st.binary(max_size=64))
def test_any_bytes_are_no_signed_object_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(NotInForm):
        assert signed_object(data) == data


@pytest.mark.parametrize(
    "path", ["ask_ark_milan.pem", "ask_ark_genoa.pem", "ask_ark_turin_vcek.pem", "ask_ark_turin_vlek.pem"]
)
def test_reads_both_line_ends_of_published_pem(path: str) -> None:
    assert [data[:2] for data in from_pem(vector(f"amd_sev_snp/roots/{path}"))] == [b"\x30\x82"] * 2


def test_pem_gives_the_certificates_in_their_order() -> None:
    other = AUTHORITY.issue()
    pem = other.public_bytes(Encoding.PEM) + b"\n" + PEM
    assert from_pem(pem) == (other.public_bytes(Encoding.DER), DER)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"\n",
        PEM[:-10],
        b"text before\n" + PEM,
        PEM + b"text after",
        PEM + PEM[:-30],
        PEM * (MAX_CERTIFICATES + 1),
        PEM.replace(b"CERTIFICATE", b"PRIVATE KEY"),
        PEM.replace(b"M", b"*", 1),
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMA=A\n-----END CERTIFICATE-----\n",
    ],
)
def test_anything_else_in_pem_is_refused(pem: bytes) -> None:
    with pytest.raises(NotInForm):
        from_pem(pem)


@pytest.mark.parametrize(
    "pem",
    [
        b"-----BEGIN CERTIFICATE-----" + b"\n" * 100_000,
        b"\n" * 100_000,
        b"-----BEGIN CERTIFICATE-----\n" * 4_000,
        b"-----BEGIN CERTIFICATE-----\n" + b"A-" * 50_000,
    ],
)
def test_hostile_pem_is_refused_in_time(pem: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(NotInForm):
        from_pem(pem)
    assert time.monotonic() - started < 1


def test_hexadecimal_has_exactly_the_right_length() -> None:
    assert from_hex("00fF", 2) == b"\x00\xff"
    for wrong in ("00f", "00ff00", "00fg", " 0ff", "0\u0660ff", "", None, 255, b"00ff"):
        with pytest.raises(NotInForm):
            from_hex(wrong, 2)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
spaces = st.sampled_from(["", " ", "\n\t", " \r\n "])


@given(
    members=st.dictionaries(st.text(max_size=6), values, min_size=1, max_size=4), space=spaces, ascii_only=st.booleans()
)
def test_each_member_comes_with_the_exact_text_it_was_written_as(
    members: dict[str, object], space: str, ascii_only: bool
) -> None:
    texts = {name: json.dumps(value, ensure_ascii=ascii_only, indent=len(space)) for name, value in members.items()}
    pairs = f"{space},{space}".join(f"{json.dumps(name)}{space}:{space}{text}" for name, text in texts.items())
    data = f"{space}{{{space}{pairs}{space}}}{space}".encode(errors="surrogatepass")
    assert cut_members(data) == {name: (members[name], text) for name, text in texts.items()}
    assert strict_object(data) == members


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b'"a"',
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
        b'{"a":1;"b":2}',
        b'{"a" 1}',
        b"{a:1}",
        b"{'a':1}",
        b"{1:1}",
        b'{"a":1} x',
        b'{"a":1}{"a":1}',
        b'{"a":1}\x00',
        b'\xef\xbb\xbf{"a":1}',
        b'\x0c{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":"\n"}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":01}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":[{"b":{"c":1,"\\u0063":1}}]}',
        b"<!doctype html>",
    ],
)
def test_anything_but_one_object_with_distinct_names_is_refused(data: bytes) -> None:
    with pytest.raises(NotInForm):
        cut_members(data)


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,a1 \\u0', max_size=40).map(str.encode))
def test_what_is_read_means_the_same_to_everybody(data: bytes) -> None:
    try:
        members = strict_object(data)
    except NotInForm:
        return
    assert members == json.loads(data)
