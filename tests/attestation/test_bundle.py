"""A bundle is one file in one spelling, and what it holds comes out as it went in."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.bundle import Bundle
from attestation.collateral import Collateral, IntelCollateral
from attestation.encoding import encode
from attestation.errors import AttestationError, MalformedCollateral, MalformedEvidence
from attestation.limits import MAX_BUNDLE, MAX_CERTIFICATE, MAX_CRL, MAX_DOCUMENT, MAX_RIM, MAX_RIMS

TIME = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
INTEL = IntelCollateral(
    pck_crl_issuer_chain="chain",
    root_ca_crl=b"root",
    pck_crl=b"crl",
    tcb_info_issuer_chain="chain",
    tcb_info='{"id":"TDX","é":1}',
    tcb_info_signature=bytes(64),
    qe_identity_issuer_chain="chain",
    qe_identity='{"id":"TD_QE"}',
    qe_identity_signature=bytes(64),
)
COLLATERAL = Collateral(amd_certificates=(b"leaf", b"root"), amd_crls=(b"crl",), intel=INTEL, rims=(b"<a/>",))
BUNDLE = Bundle(bytes(range(32)), TIME, b"an evidence document", COLLATERAL)


def test_is_one_canonical_object_and_one_newline() -> None:
    plain = replace(BUNDLE, collateral=Collateral(amd_crls=(b"crl",)))
    assert plain.encode() == (
        b'{"bundle":1,"collateral":{"amd_crls":["Y3Js"]},"evidence":"YW4gZXZpZGVuY2UgZG9jdW1lbnQ=",'
        b'"nonce":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","time":"2026-01-31T12:00:00Z"}\n'
    )


def test_reading_gives_back_everything() -> None:
    assert Bundle.parse(BUNDLE.encode()) == BUNDLE


# A day away from either end of the calendar, so that every time zone can say it.
times = st.integers(-62_135_500_000, 253_402_200_000).map(
    lambda seconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
parts = st.lists(st.binary(max_size=8), max_size=3).map(tuple)
texts = st.text(max_size=8)
intel = st.builds(
    IntelCollateral,
    **{name: texts for name in IntelCollateral.__slots__ if not name.endswith(("signature", "crl"))},
    **{name: st.binary(max_size=8) for name in IntelCollateral.__slots__ if name.endswith(("signature", "crl"))},
)
collaterals = st.builds(Collateral, parts, parts, st.none() | intel, parts, parts)
bundles = st.builds(Bundle, st.binary(min_size=32, max_size=32), times, st.binary(max_size=64), collaterals)


@given(bundles)
def test_reading_undoes_writing(bundle: Bundle) -> None:
    data = bundle.encode()
    assert Bundle.parse(data) == bundle
    assert Bundle.parse(data).encode() == data


@given(bundle=bundles, minutes=st.integers(-23 * 60, 23 * 60))
def test_a_moment_is_written_in_one_way_whatever_the_time_zone(bundle: Bundle, minutes: int) -> None:
    elsewhere = bundle.time.astimezone(timezone(timedelta(minutes=minutes)))
    assert replace(bundle, time=elsewhere).encode() == bundle.encode()


@given(at=st.integers(min_value=0), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_makes_another_bundle(at: int, byte: int) -> None:
    data = BUNDLE.encode()
    at %= len(data)
    changed = data[:at] + bytes([byte]) + data[at + 1 :]
    try:
        bundle = Bundle.parse(changed)
    except (MalformedEvidence, MalformedCollateral):
        return
    assert bundle.encode() == changed
    assert (bundle == BUNDLE) == (changed == data)


@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,bundle1 \n', max_size=60).map(str.encode))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        Bundle.parse(data)


def with_member(name: str, value: object) -> bytes:
    """The bundle with another member; ``None`` leaves it out."""
    members = {**json.loads(BUNDLE.encode()), name: value}
    return encode({key: member for key, member in members.items() if member is not None}) + b"\n"


@pytest.mark.parametrize(
    "made",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data[:-1] + b"\r\n",
        lambda data: data[:-1] + b" \n",
        lambda data: b" " + data,
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.decode().encode("utf-16"),
        lambda data: data.replace(b",", b", "),
        lambda data: data.replace(b'{"bundle":1,', b'{"bundle":1,"bundle":1,'),
        lambda data: data.replace(b'"bundle":1', b'"bundle":1.0'),
        lambda data: data.replace(b'"bundle":1', b'"bundle":true'),
        lambda data: data.replace(b"bundle", b"\\u0062undle"),
        lambda data: data.replace("é".encode(), b"\\u00e9"),
        lambda data: data[: len(data) // 2],
        lambda data: json.dumps(json.loads(data), indent=1).encode() + b"\n",
        lambda data: json.dumps(dict(reversed(json.loads(data).items())), separators=(",", ":")).encode() + b"\n",
        lambda data: b"[" * 100_000,
        lambda data: b" " * (MAX_BUNDLE + 1),
    ],
)
def test_no_other_spelling_is_read(made: Callable[[bytes], bytes]) -> None:
    with pytest.raises(MalformedEvidence):
        Bundle.parse(made(BUNDLE.encode()))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bundle", None),
        ("bundle", 2),
        ("bundle", "1"),
        ("nonce", None),
        ("nonce", 0),
        ("nonce", ""),
        ("nonce", base64.b64encode(bytes(31)).decode()),
        ("nonce", base64.b64encode(bytes(33)).decode()),
        ("nonce", base64.b64encode(bytes(range(32))).decode().rstrip("=")),
        ("nonce", base64.b64encode(bytes(range(32))).decode().replace("h8=", "h9=")),
        ("evidence", None),
        ("evidence", ["YQ=="]),
        ("evidence", base64.b64encode(bytes(MAX_DOCUMENT + 1)).decode()),
        ("time", None),
        ("time", 1769860800),
        ("time", ""),
        ("time", "2026-01-31"),
        ("time", "2026-01-31 12:00:00Z"),
        ("time", "2026-01-31t12:00:00z"),
        ("time", "2026-01-31T12:00:00"),
        ("time", "2026-01-31T12:00:00+00:00"),
        ("time", "2026-01-31T12:00:00.0Z"),
        ("time", "2026-01-31T12:00:60Z"),
        ("time", "2026-01-31T24:00:00Z"),
        ("time", "2026-02-29T12:00:00Z"),
        ("time", "0000-01-01T00:00:00Z"),
        ("time", "2026-01-31T12:00:00Z\n"),
        ("time", "\u0662026-01-31T12:00:00Z"),
        ("more", 1),
    ],
)
def test_a_member_that_is_missing_wrong_or_unknown_is_refused(name: str, value: object) -> None:
    with pytest.raises(MalformedEvidence):
        Bundle.parse(with_member(name, value))


@pytest.mark.parametrize(
    "collateral",
    [
        None,
        [],
        "",
        {"rims": "PGEvPg=="},
        {"rims": ["*"]},
        {"rims": [1]},
        {"rims": [base64.b64encode(bytes(MAX_RIM + 1)).decode()]},
        {"rims": [""] * (MAX_RIMS + 1)},
        {"intel": {}},
        {"intel": None},
        {"intel": {**json.loads(json.dumps(INTEL.members())), "tcb_info": 1}},
    ],
)
def test_collateral_that_cannot_be_read_is_named(collateral: object) -> None:
    with pytest.raises(MalformedCollateral):
        Bundle.parse(with_member("collateral", collateral))


def test_unknown_or_empty_members_of_the_collateral_are_another_spelling() -> None:
    others: list[dict[str, object]] = [{"more": 1}, {"rims": []}]
    for collateral in others:
        with pytest.raises(MalformedEvidence):
            Bundle.parse(with_member("collateral", collateral))


def test_half_a_character_in_the_collateral_is_refused() -> None:
    data = BUNDLE.encode().replace("é".encode(), b"\\ud800")
    with pytest.raises(AttestationError):
        Bundle.parse(data)
    with pytest.raises(ValueError, match="surrogates"):
        replace(BUNDLE, collateral=Collateral(intel=replace(INTEL, tcb_info="\ud800"))).encode()


def test_what_could_not_be_read_again_is_not_written() -> None:
    rim = bytes(MAX_RIM)
    for collateral in (
        Collateral(amd_certificates=(bytes(MAX_CERTIFICATE + 1),)),
        Collateral(amd_crls=(bytes(MAX_CRL + 1),)),
        Collateral(rims=(rim,) * 32),
    ):
        with pytest.raises(ValueError, match="too large"):
            replace(BUNDLE, collateral=collateral).encode()
    large = replace(BUNDLE, evidence=bytes(MAX_DOCUMENT), collateral=Collateral(rims=(rim,) * 15))
    assert Bundle.parse(large.encode()) == large


@pytest.mark.parametrize(
    "time",
    [
        TIME.replace(tzinfo=None),
        TIME.replace(microsecond=1),
        TIME.replace(tzinfo=timezone(timedelta(microseconds=1))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(microsecond=0, tzinfo=timezone(timedelta(hours=-1))),
    ],
)
def test_the_time_has_a_zone_and_whole_seconds(time: datetime) -> None:
    with pytest.raises(ValueError, match="whole seconds"):
        replace(BUNDLE, time=time)


def test_the_nonce_has_32_bytes_and_the_evidence_a_limit() -> None:
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="32 bytes"):
            replace(BUNDLE, nonce=wrong)
    with pytest.raises(ValueError, match="too large"):
        replace(BUNDLE, evidence=bytes(MAX_DOCUMENT + 1))


def test_the_evidence_is_not_shown() -> None:
    assert "evidence document" not in repr(BUNDLE)
