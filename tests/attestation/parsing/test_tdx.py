"""Quotes: split where their lengths say, in the versions that are known, with nothing between the parts."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedEvidence, UnsupportedEvidence
from attestation.parsing.tdx import TEE_TDX, Quote, TdAttributes, TdReport
from tests.attestation.authority.intel import (
    AUTH_DATA,
    FIELDS,
    SIGNATURE_FIELDS,
    TD10,
    pem_chain,
    qe_report,
    quote_body,
    raw_public_key,
)
from tests.attestation.parsing.samples import intel_authority
from tests.attestation.vectors import entries

AUTHORITY = intel_authority()
FORMS = list(FIELDS)
QUOTES = {form: AUTHORITY.quote(*form) for form in FORMS}
CHAIN = pem_chain(AUTHORITY.pck, AUTHORITY.platform_ca, AUTHORITY.root_ca).encode()
forms = st.sampled_from(FORMS)


def patched(quote: bytes, where: slice, value: bytes) -> bytes:
    return quote[: where.start] + value + quote[where.stop :]


@pytest.mark.parametrize("form", FORMS)
def test_splits_a_quote_into_its_parts(form: tuple[int, int]) -> None:
    data, fields = QUOTES[form], SIGNATURE_FIELDS[form]
    read = Quote.parse(data)
    body = FIELDS[form]["tee_tcb_svn"].start
    assert (read.version, read.tee, read.clean_padding) == (form[0], TEE_TDX, True)
    assert (read.quote, read.signed) == (data, data[: fields["signature_data_length"].start])
    assert read.body == read.signed[body:]
    assert (read.signature, read.attestation_key) == (data[fields["signature"]], data[fields["attestation_key"]])
    assert read.attestation_key == raw_public_key(AUTHORITY.attestation_key)
    assert read.qe_report == qe_report(read.attestation_key)
    assert read.qe_report_data == read.qe_report[320:]
    assert (read.qe_signature, read.qe_authentication) == (data[fields["qe_signature"]], AUTH_DATA)
    assert read.chain_pem == CHAIN


@given(form=forms, padding=st.integers(0, 4096), garbage=st.binary(max_size=9))
def test_what_follows_the_declared_end_is_not_of_the_quote(form: tuple[int, int], padding: int, garbage: bytes) -> None:
    trailing = bytes(padding) + garbage
    read = Quote.parse(QUOTES[form] + trailing)
    assert read.quote == QUOTES[form]
    assert read.clean_padding == (not any(trailing))


@pytest.mark.parametrize("version", [0, 1, 2, 6, 0xFFFF])
def test_refuses_versions_that_it_does_not_know(version: int) -> None:
    data = QUOTES[4, TD10]
    with pytest.raises(UnsupportedEvidence):
        Quote.parse(patched(data, slice(0, 2), version.to_bytes(2, "little")))


@pytest.mark.parametrize("kind", [0, 1, 3, 0xFFFF])
def test_refuses_keys_that_are_not_of_p256(kind: int) -> None:
    with pytest.raises(UnsupportedEvidence):
        Quote.parse(AUTHORITY.quote(attestation_key_type=kind.to_bytes(2, "little")))


BODIES = [(1, 584), (2, 648), (2, 583), (3, 584), (0, 584), (4, 648), (2, 2**32 - 1), (0xFFFF, 0)]


@pytest.mark.parametrize(("kind", "size"), BODIES)
def test_refuses_bodies_of_another_type_or_size_in_version_5(kind: int, size: int) -> None:
    told = {"body_type": kind.to_bytes(2, "little"), "body_size": size.to_bytes(4, "little")}
    data = QUOTES[5, TD10]
    for name, value in told.items():
        data = patched(data, FIELDS[5, TD10][name], value)
    with pytest.raises(UnsupportedEvidence):
        Quote.parse(data)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["certification_type", "chain_type"])
@pytest.mark.parametrize("kind", [0, 1, 3, 7, 0xFFFF])
def test_refuses_quotes_that_are_certified_otherwise(form: tuple[int, int], name: str, kind: int) -> None:
    with pytest.raises(UnsupportedEvidence):
        Quote.parse(patched(QUOTES[form], SIGNATURE_FIELDS[form][name], kind.to_bytes(2, "little")))


LENGTHS = ["signature_data_length", "certification_length", "auth_data_length", "chain_length"]


@given(form=forms, name=st.sampled_from(LENGTHS), data=st.data())
def test_refuses_a_length_that_does_not_fit_the_parts(form: tuple[int, int], name: str, data: st.DataObject) -> None:
    where = SIGNATURE_FIELDS[form][name]
    size = where.stop - where.start
    told = data.draw(st.integers(0, 256**size - 1)).to_bytes(size, "little")
    if told == QUOTES[form][where]:
        return
    with pytest.raises((MalformedEvidence, UnsupportedEvidence)):
        Quote.parse(patched(QUOTES[form], where, told))


@pytest.mark.parametrize("form", FORMS)
def test_refuses_bytes_between_the_parts(form: tuple[int, int]) -> None:
    data, fields = QUOTES[form], SIGNATURE_FIELDS[form]

    def longer(name: str) -> tuple[slice, bytes]:
        where = fields[name]
        return where, (int.from_bytes(data[where], "little") + 1).to_bytes(4, "little")

    behind = patched(data + b"\0", *longer("signature_data_length"))
    within = patched(behind, *longer("certification_length"))
    for other in (behind, within):  # behind the certification, and behind the chain
        with pytest.raises(MalformedEvidence, match="bytes behind"):
            Quote.parse(other)
    assert Quote.parse(patched(within, *longer("chain_length"))).chain_pem == CHAIN + b"\0"


@given(form=forms, data=st.data())
def test_refuses_a_part_of_a_quote(form: tuple[int, int], data: st.DataObject) -> None:
    with pytest.raises(MalformedEvidence):
        Quote.parse(QUOTES[form][: data.draw(st.integers(0, len(QUOTES[form]) - 1))])


@given(st.binary(max_size=256))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises((MalformedEvidence, UnsupportedEvidence)):
        Quote.parse(data)


@given(form=forms, data=st.data())
def test_a_changed_byte_is_refused_or_makes_another_quote(form: tuple[int, int], data: st.DataObject) -> None:
    whole = QUOTES[form]
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    with contextlib.suppress(MalformedEvidence, UnsupportedEvidence):
        assert Quote.parse(patched(whole, slice(at, at + 1), bytes([byte]))) != Quote.parse(whole)


def test_reads_an_empty_chain_and_no_authentication_data() -> None:
    read = Quote.parse(AUTHORITY.quote(auth_data=b"", chain=b""))
    assert (read.qe_authentication, read.chain_pem) == (b"", b"")


# --- The body -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_reads_the_fields_of_a_trust_domain(form: tuple[int, int]) -> None:
    told = {name: bytes([index]) * 48 for index, name in enumerate(["mr_td", "mr_config_id", *RTMRS], start=1)}
    attributes = (1 << 63 | 1).to_bytes(8, "little")
    version, body_type = form
    signed = quote_body(version, body_type, td_attributes=attributes, report_data=bytes(range(64)), **told)
    read = TdReport.parse(Quote.parse(AUTHORITY.quote(*form, signed=signed)).body)
    assert read.attributes == TdAttributes(1 << 63 | 1)
    assert (read.mrtd, read.mr_config_id) == (told["mr_td"], told["mr_config_id"])
    assert read.rtmrs == tuple(told[name] for name in RTMRS)
    assert read.report_data == bytes(range(64))


@pytest.mark.parametrize("name", ["mr_owner", "mr_owner_config"])
def test_says_whether_the_host_named_an_owner(name: str) -> None:
    def owned(**told: bytes) -> bool:
        version, body_type = 4, TD10
        return TdReport.parse(Quote.parse(AUTHORITY.quote(signed=quote_body(version, body_type, **told))).body).owned

    assert not owned()
    assert owned(**{name: bytes(47) + b"\1"})


RTMRS = ["rtmr0", "rtmr1", "rtmr2", "rtmr3"]


@pytest.mark.parametrize("size", [0, 1, 384, 583])
def test_refuses_a_body_that_is_too_short(size: int) -> None:
    with pytest.raises(MalformedEvidence):
        TdReport.parse(bytes(size))
    TdReport.parse(bytes(584))


@pytest.mark.parametrize("bit", range(64))
def test_each_attribute_means_what_the_specification_says(bit: int) -> None:
    attributes = TdAttributes(1 << bit)
    assert attributes.debug == (bit < 8)
    assert attributes.septve_disabled == (bit == 28)
    assert attributes.migratable == (bit == 29)
    assert attributes.perfmon == (bit == 63)
    assert attributes.well_formed == (bit < 8 or bit in {28, 29, 30, 31, 63})


def test_recorded_quotes_are_split_and_an_sgx_quote_is_known_for_what_it_is() -> None:
    quotes = {name: entry for name, entry in entries().items() if entry.kind == "tdx_quote"}
    assert len(quotes) == 10
    for name, entry in quotes.items():
        read = Quote.parse(entry.read("quote"))
        sgx = name.startswith("sgx")
        assert (read.version, read.tee == TEE_TDX) == ((3, False) if sgx else (4, True)), name
        assert read.clean_padding == ("spr" not in name), name
        assert len(read.body) == (384 if sgx else 584)
        assert read.chain_pem.startswith(b"-----BEGIN CERTIFICATE-----")
        if not sgx:
            assert TdReport.parse(read.body).attributes.debug == name.endswith("debug")
