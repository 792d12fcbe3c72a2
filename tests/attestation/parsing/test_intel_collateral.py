"""The dates of Intel's collateral: since when and until when each part stands, or a refusal."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.collateral import IntelCollateral
from attestation.errors import MalformedCollateral
from attestation.parsing.intel_collateral import CollateralDates
from attestation.parsing.revocation import NEVER
from tests.attestation.authority.intel import MONTH, NOW, YEAR
from tests.attestation.parsing.handmade import ListParts, extension, integer
from tests.attestation.parsing.samples import intel_authority
from tests.attestation.test_vectors import read_collateral
from tests.attestation.vectors import entries

AUTHORITY = intel_authority()
HOUR = (NOW - timedelta(hours=1), NOW + timedelta(hours=1))
COLLATERAL: IntelCollateral = read_collateral(AUTHORITY.collateral(qe_identity_window=HOUR))


def test_tells_the_dates_of_every_part() -> None:
    dates = CollateralDates.parse(COLLATERAL)
    assert dates.statements == (MONTH, HOUR)
    assert dates.lists == (YEAR, MONTH)
    signers = [AUTHORITY.platform_ca, AUTHORITY.root_ca, *[AUTHORITY.tcb_signing, AUTHORITY.root_ca] * 2]
    assert [certificate.der for certificate in dates.certificates] == [signer.der for signer in signers]


def test_a_list_without_an_end_stands_for_ever() -> None:
    dates = CollateralDates.parse(replace(COLLATERAL, pck_crl=ListParts(next_update=b"").encode()))
    assert dates.lists == (YEAR, (NOW, NEVER))


def with_dates(since: object, until: object) -> IntelCollateral:
    return replace(COLLATERAL, tcb_info=json.dumps({"issueDate": since, "nextUpdate": until}))


zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(timezones=zones)


@given(since=moments, until=moments)
def test_reads_any_date_that_has_a_time_zone(since: datetime, until: datetime) -> None:
    dates = CollateralDates.parse(with_dates(since.isoformat(), until.isoformat()))
    assert dates.statements == ((since, until), HOUR)


WRONG: list[object] = [None, 1, 2.5, True, [], {}, "", "now", "2026-13-01T00:00:00Z", "2026-06-01T00:00:00"]


@pytest.mark.parametrize("date", WRONG)
def test_refuses_dates_that_are_none_or_have_no_time_zone(date: object) -> None:
    good = NOW.isoformat()
    for since, until in ((date, good), (good, date)):
        with pytest.raises(MalformedCollateral):
            CollateralDates.parse(with_dates(since, until))


NO_STATEMENTS = [
    "",
    "{",
    "[]",
    "1",
    '"issueDate"',
    "{}",
    '{"issueDate":"2026-06-01T00:00:00Z"}',
    "[" * 100_000,
    "\ud800",
]


@pytest.mark.parametrize("text", NO_STATEMENTS)
def test_refuses_statements_without_dates(text: str) -> None:
    for broken in (replace(COLLATERAL, tcb_info=text), replace(COLLATERAL, qe_identity=text)):
        with pytest.raises(MalformedCollateral):
            CollateralDates.parse(broken)


DELTA = ListParts(extensions=[extension("2.5.29.27", integer(1), critical=True)])


@pytest.mark.parametrize("data", [b"", b"\x30\x00", DELTA.encode(), ListParts(version=integer(2)).encode()])
def test_refuses_lists_that_cannot_be_read(data: bytes) -> None:
    for broken in (replace(COLLATERAL, root_ca_crl=data), replace(COLLATERAL, pck_crl=data)):
        with pytest.raises(MalformedCollateral):
            CollateralDates.parse(broken)


CHAINS = ["", "\ud800", COLLATERAL.tcb_info_issuer_chain + "garbage", "é" + COLLATERAL.tcb_info_issuer_chain]


@pytest.mark.parametrize("chain", CHAINS)
def test_refuses_chains_that_cannot_be_read(chain: str) -> None:
    for broken in (
        replace(COLLATERAL, pck_crl_issuer_chain=chain),
        replace(COLLATERAL, tcb_info_issuer_chain=chain),
        replace(COLLATERAL, qe_identity_issuer_chain=chain),
    ):
        with pytest.raises(MalformedCollateral):
            CollateralDates.parse(broken)


def test_the_recorded_collateral_stands_in_the_weeks_that_its_notes_name() -> None:
    recorded = {
        name: CollateralDates.parse(
            read_collateral(json.loads((entry.read_all("collateral_joined") or entry.read_all("collateral"))[0]))
        )
        for name, entry in entries().items()
        if name in ("tdx-v4-up-to-date", "tdx-v4-spr-no-tcb-level")
    }
    days = [since.date().isoformat() for since, _ in recorded["tdx-v4-spr-no-tcb-level"].statements]
    assert days == ["2023-06-18", "2023-06-08"]
    for name, dates in recorded.items():
        assert all(since <= entries()[name].time <= until for since, until in (*dates.statements, *dates.lists)), name
    assert min(until for _, until in recorded["tdx-v4-up-to-date"].statements) < datetime(2025, 7, 20, tzinfo=UTC)
