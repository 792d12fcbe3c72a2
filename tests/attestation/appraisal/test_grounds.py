"""A vendor's word counts in the window that the vendor gave it, and no longer than the policy lets it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.appraisal.grounds import Grounds
from attestation.appraisal.policy import Policy
from attestation.collateral import NO_COLLATERAL
from attestation.errors import StaleCollateral
from attestation.verification.revocation import Window
from attestation.verification.roots import VENDOR_ROOTS

NOW = datetime(2026, 6, 1, tzinfo=UTC)
AHEAD = timedelta(seconds=300)
ENDS = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
whole_calendar = st.datetimes(
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))])
)


def stands(window: Window, *, age: timedelta | None = None, now: datetime = NOW) -> bool:
    try:
        Grounds(Policy(), NO_COLLATERAL, VENDOR_ROOTS, now).validate_window(window, age=age)
    except StaleCollateral:
        return False
    return True


@given(since=whole_calendar, until=whole_calendar, now=whole_calendar)
def test_now_has_to_lie_between_the_ends_but_for_five_minutes_of_a_clock_that_is_ahead(
    since: datetime, until: datetime, now: datetime
) -> None:
    assert stands(Window(since, until), now=now) == (since - now <= AHEAD and now <= until)


@given(since=whole_calendar, age=st.timedeltas(timedelta(), timedelta(days=60)))
def test_a_word_is_at_most_as_old_as_is_asked(since: datetime, age: timedelta) -> None:
    assert stands(Window(since, ENDS[1]), age=age) == (-AHEAD <= NOW - since <= age)


def test_five_minutes_are_five_minutes() -> None:
    tick = timedelta(microseconds=1)
    assert stands(Window(NOW + AHEAD, ENDS[1]))
    assert not stands(Window(NOW + AHEAD + tick, ENDS[1]))
    assert stands(Window(NOW - AHEAD, ENDS[1]), age=AHEAD)
    assert not stands(Window(NOW - AHEAD - tick, ENDS[1]), age=AHEAD)


@pytest.mark.parametrize("now", ENDS)
def test_both_ends_belong_to_the_window_wherever_they_are(now: datetime) -> None:
    assert stands(Window(now, now), now=now)
    assert stands(Window(*ENDS), now=now)
    assert stands(Window(now, now), now=now, age=timedelta())
