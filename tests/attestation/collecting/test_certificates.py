from base64 import encodebytes
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import binary, dictionaries, integers, lists, sampled_from, tuples

from attestation.collecting.certificates import (
    ENTRY,
    MAX_ENTRIES,
    CertificateFolder,
    Endorsement,
    certificates_from_pem,
    endorsements,
    one_certificate,
    parse_certificate_table,
)
from attestation.collecting.errors import MalformedCertificateTable, OversizedAnswer, UnusableCertificate
from attestation.limits import MAX_CERTIFICATE, MAX_CERTIFICATES
from tests.attestation.collecting.samples import GUIDS, der, table
from tests.attestation.vectors import read as vector

VCEK_REPORT = bytes(1184)
VLEK_REPORT = bytes(0x48) + b"\x04" + bytes(1184 - 0x49)
CERTIFICATES = {
    Endorsement.VCEK: der(b"vcek"),
    Endorsement.VLEK: der(b"vlek"),
    Endorsement.ASK: der(b"ask"),
    Endorsement.ARK: der(b"ark"),
}


def pem(*certificates: bytes) -> bytes:
    return b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + encodebytes(certificate) + b"-----END CERTIFICATE-----\n"
        for certificate in certificates
    )


# --- the host's table ------------------------------------------------------------------------------------------------


def test_a_table_gives_its_certificates() -> None:
    given_table = table([(GUIDS[kind], certificate) for kind, certificate in CERTIFICATES.items()])
    assert parse_certificate_table(given_table) == CERTIFICATES


@pytest.mark.parametrize("nothing", [b"", bytes(ENTRY), bytes(4096)])
def test_no_table_and_one_of_zeros_hold_nothing(nothing: bytes) -> None:
    assert parse_certificate_table(nothing) == {}


def test_the_revocation_list_and_unknown_kinds_are_passed_over() -> None:
    entries = [(GUIDS["crl"], b"a list"), (b"\x01" * 16, b"?"), (GUIDS["ark"], der(b"ark"))]
    assert parse_certificate_table(table(entries)) == {Endorsement.ARK: der(b"ark")}


def test_the_bytes_of_a_guid_stand_in_the_order_of_its_text() -> None:
    mixed = bytes.fromhex("8d75da6364e66445adc5f4b93be8accd")
    assert parse_certificate_table(table([(mixed, der(b"vcek"))])) == {}


def test_a_certificate_may_be_pem_and_may_be_padded() -> None:
    entries = [(GUIDS["vcek"], pem(der(b"vcek"))), (GUIDS["ask"], der(b"ask") + bytes(100))]
    assert parse_certificate_table(table(entries)) == {
        Endorsement.VCEK: der(b"vcek"),
        Endorsement.ASK: der(b"ask"),
    }


def entry(guid: bytes, offset: int, length: int) -> bytes:
    return guid + offset.to_bytes(4, "little") + length.to_bytes(4, "little")


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(b"\x01", id="cut off in the first entry"),
        pytest.param(entry(GUIDS["vcek"], 24, 6) + der(b"vcek"), id="no end"),
        pytest.param(entry(GUIDS["vcek"], 48, 7) + bytes(24) + der(b"vcek"), id="one byte too long"),
        pytest.param(entry(GUIDS["vcek"], 0xFFFFFFFF, 6) + bytes(24) + der(b"vcek"), id="far outside"),
        pytest.param(entry(GUIDS["vcek"], 0xFFFFFFFF, 0xFFFFFFFF) + bytes(24), id="outside, if 32 bits wrapped around"),
        pytest.param(entry(GUIDS["crl"], 0, 24) + bytes(24), id="into the entries"),
        pytest.param(entry(GUIDS["crl"], 0, 0xFFFFFFFF) + bytes(24), id="outside, of a kind not used"),
        pytest.param(entry(GUIDS["vcek"], 48, 0) + bytes(24), id="an empty certificate"),
        pytest.param(table([(GUIDS["vcek"], b"no certificate")]), id="no certificate"),
        pytest.param(table([(GUIDS["vcek"], pem(der(b"a"), der(b"b")))]), id="two certificates in one entry"),
        pytest.param(table([(GUIDS["vcek"], der(b"a")), (GUIDS["vcek"], der(b"b"))]), id="one kind twice"),
        pytest.param(table([(GUIDS["vcek"], der(bytes(MAX_CERTIFICATE)))]), id="a certificate that is too large"),
        pytest.param(table([(b"\x01" * 16, b"")] * (MAX_ENTRIES + 1)), id="too many entries"),
        pytest.param(entry(bytes(16), 480, 1) + bytes(25), id="a GUID of zeros that points outside"),
    ],
)
def test_a_hostile_table_is_refused(hostile: bytes) -> None:
    with pytest.raises(MalformedCertificateTable):
        parse_certificate_table(hostile)


@given(dictionaries(sampled_from(Endorsement), binary(max_size=300).map(der)))
def test_what_is_put_into_a_table_comes_out(certificates: dict[Endorsement, bytes]) -> None:
    assert parse_certificate_table(table([(GUIDS[kind], data) for kind, data in certificates.items()])) == certificates


near = integers(0, 400) | integers(0, 0xFFFFFFFF)
guids = sampled_from([*GUIDS.values(), bytes(16)]) | binary(min_size=16, max_size=16)


@given(lists(tuples(guids, near, near), max_size=6), binary(max_size=300))
def test_any_entries_give_whole_certificates_or_the_one_error(
    entries: list[tuple[bytes, int, int]], rest: bytes
) -> None:
    data = b"".join(entry(*fields) for fields in entries) + bytes(ENTRY) + rest
    try:
        found = parse_certificate_table(data)
    except MalformedCertificateTable:
        return
    for certificate in found.values():
        assert certificate in data
        assert one_certificate(certificate) == certificate


@given(binary(max_size=500))
def test_any_bytes_give_certificates_or_the_one_error(data: bytes) -> None:
    try:
        parse_certificate_table(data)
    except MalformedCertificateTable:
        return


# --- the chain of a report -------------------------------------------------------------------------------------------


def test_the_chain_begins_with_the_key_that_signed() -> None:
    ask, ark = CERTIFICATES[Endorsement.ASK], CERTIFICATES[Endorsement.ARK]
    assert endorsements(VCEK_REPORT, CERTIFICATES) == (CERTIFICATES[Endorsement.VCEK], ask, ark)
    assert endorsements(VLEK_REPORT, CERTIFICATES) == (CERTIFICATES[Endorsement.VLEK], ask, ark)


def test_the_chain_ends_where_a_certificate_is_missing() -> None:
    assert endorsements(VCEK_REPORT, without(Endorsement.ASK)) == (CERTIFICATES[Endorsement.VCEK],)
    assert endorsements(VCEK_REPORT, without(Endorsement.VCEK)) == ()
    assert endorsements(VCEK_REPORT, {}) == ()


def without(kind: Endorsement) -> dict[Endorsement, bytes]:
    return {other: certificate for other, certificate in CERTIFICATES.items() if other != kind}


def test_a_recorded_report_names_the_key_that_signed_it() -> None:
    report, leaf = vector("amd_sev_snp/oak_genoa_v5/snp_report.bin"), vector("amd_sev_snp/oak_genoa_v5/vcek.der")
    assert endorsements(report, {Endorsement.VCEK: leaf}) == (leaf,)


# --- the folder ------------------------------------------------------------------------------------------------------


def test_a_folder_gives_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "vcek.der").write_bytes(der(b"vcek"))
    (tmp_path / "ask.pem").write_bytes(b"Issuer: somebody\n" + pem(der(b"ask")))
    (tmp_path / "README").write_text("not a certificate")
    assert CertificateFolder(tmp_path).read() == {Endorsement.VCEK: der(b"vcek"), Endorsement.ASK: der(b"ask")}


def test_of_two_files_the_der_counts(tmp_path: Path) -> None:
    (tmp_path / "ark.der").write_bytes(der(b"binary"))
    (tmp_path / "ark.pem").write_bytes(pem(der(b"text")))
    assert CertificateFolder(tmp_path).read() == {Endorsement.ARK: der(b"binary")}


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert CertificateFolder(tmp_path / "missing").read() == {}


@pytest.mark.parametrize("content", [b"", b"no certificate", pem(der(b"ask"), der(b"ark")), der(b"ask")[:-1]])
def test_a_file_that_is_no_certificate_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ask.pem").write_bytes(content)
    with pytest.raises(UnusableCertificate, match=r"ask\.pem"):
        CertificateFolder(tmp_path).read()


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "vcek.der").mkdir()
    with pytest.raises(UnusableCertificate, match=r"vcek\.der"):
        CertificateFolder(tmp_path).read()


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "vcek.der").write_bytes(bytes(10 * MAX_CERTIFICATE))
    with pytest.raises(OversizedAnswer):
        CertificateFolder(tmp_path).read()


# --- one certificate, and many ---------------------------------------------------------------------------------------


@given(binary(max_size=70_000).map(der) | binary(max_size=300))
def test_one_certificate_is_a_whole_piece_of_der_or_none(data: bytes) -> None:
    try:
        certificate = one_certificate(data)
    except ValueError:
        return
    assert data.startswith(certificate)
    assert one_certificate(certificate) == certificate


@pytest.mark.parametrize(
    "data", [b"", b"\x30", b"\x31\x00", b"\x30\x80\x00\x00", b"\x30\x84\x00\x00\x00\x01\x00", b"\x30\x05\x00"]
)
def test_what_is_not_framed_as_der_is_no_certificate(data: bytes) -> None:
    with pytest.raises(ValueError, match="not DER"):
        one_certificate(data)


@given(lists(binary(max_size=200).map(der), min_size=1, max_size=MAX_CERTIFICATES))
def test_pem_gives_its_certificates_in_order(certificates: list[bytes]) -> None:
    assert certificates_from_pem(pem(*certificates)) == tuple(certificates)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n",
        pem(b"not DER"),
        pem(der(b"a") + b"\x00"),
        pem(der(bytes(MAX_CERTIFICATE))),
        pem(*[der(b"a")] * (MAX_CERTIFICATES + 1)),
    ],
)
def test_text_that_holds_no_chain_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="certificate"):
        certificates_from_pem(text)
