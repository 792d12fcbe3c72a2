"""Azure's wrapping is read to its last byte: the report, the claims that it commits to, and the quote of the virtual TPM."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedEvidence, UnsupportedEvidence
from attestation.parsing.azure import AttestedQuote, HclReport
from attestation.parsing.snp import REPORT
from tests.attestation.authority.amd import patched
from tests.attestation.authority.azure import (
    BLOB_SIZE,
    PCRS,
    VM_CONFIGURATION,
    HclBlob,
    Quote,
    jwk,
    runtime_claims,
    tpm_key,
)

AK, EK = tpm_key("AK").public_key(), tpm_key("EK").public_key()
BLOB = HclBlob(
    report=bytes(range(256)) * (REPORT // 256) + bytes(REPORT % 256), claims=runtime_claims(user_data=b"\xab")
)
QUOTE = Quote(extra_data=bytes(range(32)))
UNREAD = {
    "version",
    "content_size",
    "request_type",
    "status",
    "reserved",
    "claims_data_size",
}  # the claims' digest binds


def test_reads_report_claims_key_and_user_data() -> None:
    read = HclReport.parse(BLOB.encode())
    assert (read.report, read.claims) == (BLOB.report, BLOB.claims)
    assert read.claims_digest == hashlib.sha256(BLOB.claims).digest()
    assert read.attestation_key == AK
    assert read.user_data == b"\xab" + bytes(63)
    assert read.secure_boot


def test_zeros_behind_the_claims_are_padding_and_anything_else_is_refused() -> None:
    for padding in (b"", bytes(1), bytes(5000)):
        assert HclReport.parse(replace(BLOB, padding=padding).encode()) == HclReport.parse(BLOB.encode())
    for padding in (b"\1", bytes(5000) + b"\1"):
        with pytest.raises(MalformedEvidence):
            HclReport.parse(replace(BLOB, padding=padding).encode())


@given(st.binary(max_size=40) | st.integers(0, BLOB_SIZE - 1).map(lambda size: BLOB.encode()[:size].rstrip(b"\0")[:-1]))
def test_refuses_other_bytes_and_parts(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        HclReport.parse(data)


@pytest.mark.parametrize("field", ["claims_version", "report_type", "hash_type"])
@pytest.mark.parametrize("value", [0, 3, 4])
def test_refuses_what_wraps_something_else(field: str, value: int) -> None:
    with pytest.raises(UnsupportedEvidence):
        HclReport.parse(patched(BLOB.encode(), BLOB.fields()[field], value.to_bytes(4, "little")))


@pytest.mark.parametrize("size", [0, len(BLOB.claims) - 1, len(BLOB.claims) + 1, 2**32 - 1])
def test_refuses_a_length_of_the_claims_that_does_not_fit(size: int) -> None:
    with pytest.raises(MalformedEvidence):
        HclReport.parse(replace(BLOB, claims_size=size).encode())


@given(data=st.data())
def test_a_changed_byte_is_refused_or_seen_or_of_the_frame(data: st.DataObject) -> None:
    whole, fields = BLOB.encode(), BLOB.fields()
    at, byte = data.draw(st.integers(0, BLOB_SIZE - 1)), data.draw(st.integers(0, 255))
    changed = patched(whole, slice(at, at + 1), bytes([byte]))
    try:
        same = HclReport.parse(changed) == HclReport.parse(whole)
    except (MalformedEvidence, UnsupportedEvidence):
        return
    (name,) = (name for name, where in fields.items() if where.start <= at < where.stop)
    assert same == (changed == whole or name in UNREAD)


def claimed(members: Mapping[str, object] | str | bytes) -> HclReport:
    text = json.dumps(members) if isinstance(members, dict) else members
    claims = text.encode() if isinstance(text, str) else text
    assert isinstance(claims, bytes)
    return HclReport.parse(replace(BLOB, claims=claims).encode())


KEY = jwk("HCLAkPub", "sign", AK)
CLAIMS: Mapping[str, object] = {"keys": [KEY], "vm-configuration": VM_CONFIGURATION, "user-data": "00" * 64}


def test_the_claims_may_say_more_and_in_any_order() -> None:
    keys = [{"kid": "other"}, jwk("HCLEkPub", "encrypt", EK), KEY]
    read = claimed({"more": {}, **dict(reversed(list(CLAIMS.items()))), "keys": keys})
    assert read.attestation_key == AK
    assert not claimed({**CLAIMS, "vm-configuration": {"secure-boot": False}}).secure_boot


def number(value: int) -> str:
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


ODD = (1 << 2047) + 1
MALFORMED: dict[str, Mapping[str, object] | str | bytes] = {
    "no JSON": "{",
    "no text": b"\xff\xfe",
    "half a surrogate": b'{"keys":"\xed\xa0\x80"}',
    "a list": "[]",
    "a number": "1",
    "a number without end": "9" * 5000,
    "lists without end": "[" * 100_000,
    "no keys": {**CLAIMS, "keys": []},
    "keys that are no list": {**CLAIMS, "keys": {"kid": "HCLAkPub"}},
    "a key that is none": {**CLAIMS, "keys": ["HCLAkPub"]},
    "a key without a name": {**CLAIMS, "keys": [{"kty": "RSA"}]},
    "only the other key": {**CLAIMS, "keys": [jwk("HCLEkPub", "encrypt", EK)]},
    "the key twice": {**CLAIMS, "keys": [KEY, KEY]},
    "a key without a modulus": {**CLAIMS, "keys": [{**KEY, "n": None}]},
    "a key of numbers": {**CLAIMS, "keys": [{**KEY, "e": 65537}]},
    "a key of lists": {**CLAIMS, "keys": [{**KEY, "n": []}]},
    "a key that is not ASCII": {**CLAIMS, "keys": [{**KEY, "n": "é"}]},
    "a key of half a surrogate": {**CLAIMS, "keys": [{**KEY, "n": "\ud800"}]},
    "a key that is not base64": {**CLAIMS, "keys": [{**KEY, "n": "A"}]},
    "a key of nothing": {**CLAIMS, "keys": [{**KEY, "n": "", "e": ""}]},
    "an exponent of one": {**CLAIMS, "keys": [{**KEY, "e": number(1)}]},
    "an even exponent": {**CLAIMS, "keys": [{**KEY, "e": number(4)}]},
    "an exponent above the modulus": {**CLAIMS, "keys": [{**KEY, "e": number(ODD + 2), "n": number(ODD)}]},
    "a short key": {**CLAIMS, "keys": [{**KEY, "n": number((1 << 2046) + 1)}]},
    "a very short key": {**CLAIMS, "keys": [{**KEY, "n": number((1 << 70) + 1)}]},
    "a long key": {**CLAIMS, "keys": [{**KEY, "n": number((1 << 4096) + 1)}]},
    "a very long key": {**CLAIMS, "keys": [{**KEY, "n": number((1 << 300_000) + 1)}]},
    "no user data": {**CLAIMS, "user-data": None},
    "user data that are not hex": {**CLAIMS, "user-data": "xx" * 64},
    "too few user data": {**CLAIMS, "user-data": "00" * 63},
    "too many user data": {**CLAIMS, "user-data": "00" * 65},
    "no configuration": {**CLAIMS, "vm-configuration": None},
    "a configuration that is a text": {**CLAIMS, "vm-configuration": "secure-boot"},
    "no word on secure boot": {**CLAIMS, "vm-configuration": {}},
    "a number for secure boot": {**CLAIMS, "vm-configuration": {"secure-boot": 1}},
    "a text for secure boot": {**CLAIMS, "vm-configuration": {"secure-boot": "true"}},
}


@pytest.mark.parametrize("claims", MALFORMED.values(), ids=MALFORMED)
def test_refuses_claims_that_do_not_name_one_usable_key_and_the_rest(
    claims: Mapping[str, object] | str | bytes,
) -> None:
    with pytest.raises(MalformedEvidence):
        claimed(claims)


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_accepts_keys_of_the_sizes_that_a_tpm_has(bits: int) -> None:
    numbers = RSAPublicNumbers(65537, (1 << bits - 1) + 1)
    assert claimed({**CLAIMS, "keys": [{**KEY, "n": number(numbers.n)}]}).attestation_key == numbers.public_key()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kid", "n", "e"]), inner, max_size=3),
)


@given(name=st.sampled_from(list(CLAIMS)), value=json_values)
def test_any_value_of_a_claim_is_refused_or_read(name: str, value: object) -> None:
    try:
        read = claimed({**CLAIMS, name: value})
    except MalformedEvidence:
        return
    assert read.attestation_key == AK


# --- The quote of the virtual TPM -----------------------------------------------------------------------------------------


@given(st.binary(max_size=64))
def test_reads_challenge_and_digest_of_a_quote(challenge: bytes) -> None:
    read = AttestedQuote.parse(replace(QUOTE, extra_data=challenge).encode())
    assert read == AttestedQuote(challenge, hashlib.sha256(b"".join(PCRS)).digest())


OTHER_QUOTES: dict[str, Quote] = {
    "another magic": replace(QUOTE, magic=0xFF544348),
    "a certification": replace(QUOTE, type=0x8017),
    "another bank": replace(QUOTE, pcr_hash=0x0004),
    "fewer registers": replace(QUOTE, pcr_select=b"\xff\xff\x7f"),
    "a shorter selection": replace(QUOTE, pcr_select=b"\xff\xff", pcr_digest=bytes(32)),
    "a longer selection": replace(QUOTE, pcr_select=b"\xff\xff\xff\x00", pcr_digest=bytes(32)),
}


@pytest.mark.parametrize("quote", OTHER_QUOTES.values(), ids=OTHER_QUOTES)
def test_refuses_what_is_no_quote_over_all_registers_of_one_bank(quote: Quote) -> None:
    with pytest.raises(MalformedEvidence):
        AttestedQuote.parse(quote.encode())


def test_refuses_a_quote_over_two_banks() -> None:
    bank = bytes.fromhex("000b03ffffff")
    with pytest.raises(MalformedEvidence):
        AttestedQuote.parse(QUOTE.encode().replace(b"\0\0\0\1" + bank, b"\0\0\0\2" + bank + bank))


@given(st.data())
def test_refuses_a_quote_that_is_too_short_or_too_long(data: st.DataObject) -> None:
    whole = QUOTE.encode()
    for other in (whole[: data.draw(st.integers(0, len(whole) - 1))], whole + data.draw(st.binary(min_size=1))):
        with pytest.raises(MalformedEvidence):
            AttestedQuote.parse(other)
