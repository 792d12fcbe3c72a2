"""When a target may be called, and whose failure a failure is. Time is a number here."""

import pytest

from messaging.bots.limits import FIRST_PAUSE, MAX_OUTAGE, MAX_PAUSE, MAX_RETRY_AFTER
from messaging.bots.target import Failure, TargetHealth, read_retry_after

DOWN = Failure(error="ClientConnectorError")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422, 500, 501, 505, 100])
def test_what_a_target_says_of_an_event_counts_and_stops_nobody_else(status: int) -> None:
    health = TargetHealth()
    assert health.failed("event", Failure(status), 0, 1.0)
    assert not health.is_down
    assert health.paused_until < 0


@pytest.mark.parametrize("failure", [DOWN, *(Failure(each) for each in (301, 302, 307, 408, 429, 502, 503, 504))])
def test_what_says_nothing_of_the_event_leaves_the_target_alone_for_a_while(failure: Failure) -> None:
    health = TargetHealth()
    assert not health.failed("event", failure, 10, 1.0)
    assert health.is_down
    assert health.paused_until == 10 + FIRST_PAUSE


def test_the_pause_doubles_up_to_its_limit_and_is_spread() -> None:
    health, pauses = TargetHealth(), []
    for _ in range(12):
        now = max(health.paused_until, 0)
        health.failed("event", DOWN, now, 1.0)
        pauses.append(health.paused_until - now)
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == MAX_PAUSE
    spread = TargetHealth()
    spread.failed("event", DOWN, 0, 0.0)
    assert spread.paused_until == FIRST_PAUSE / 2


def test_one_success_ends_it() -> None:
    health = TargetHealth()
    health.failed("event", DOWN, 0, 1.0)
    health.succeeded("event", 5)
    assert not health.is_down
    assert health.paused_until < 0
    health.failed("event", DOWN, 6, 1.0)
    assert health.paused_until == 6 + FIRST_PAUSE


def test_patience_is_as_long_as_it_was_asked_for_even_with_a_status_that_counts() -> None:
    health = TargetHealth()
    assert not health.failed("event", Failure(500, retry_after=90), 10, 1.0)
    assert health.paused_until == 100


def test_in_an_outage_nothing_counts_until_it_is_a_day_long() -> None:
    health = TargetHealth()
    assert not health.failed("event", DOWN, 0, 1.0)
    assert not health.failed("event", DOWN, MAX_OUTAGE, 1.0)
    assert health.failed("event", DOWN, MAX_OUTAGE + 1, 1.0)


def test_an_event_that_fails_while_others_are_taken_is_what_brings_the_target_down() -> None:
    health = TargetHealth()
    assert not health.failed("poison", DOWN, 0, 1.0)
    health.succeeded("other", 5)
    assert health.failed("poison", DOWN, 6, 1.0)
    assert not health.failed("another", DOWN, 7, 1.0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("17", 17),
        (str(MAX_RETRY_AFTER), MAX_RETRY_AFTER),
        (str(MAX_RETRY_AFTER + 1), MAX_RETRY_AFTER),
        ("9" * 5000, MAX_RETRY_AFTER),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_how_much_patience_is_asked_for(header: str | None, seconds: int | None) -> None:
    assert read_retry_after(header) == seconds


def test_a_reason_holds_a_status_or_a_type_and_nothing_else() -> None:
    assert Failure(503).reason == "HTTP 503"
    assert DOWN.reason == "ClientConnectorError"


def test_deliveries_that_fail_together_are_one_failure_of_the_target() -> None:
    health = TargetHealth()
    for number in range(25):
        assert not health.failed(str(number), DOWN, 10, 1.0)
    assert health.paused_until == 10 + FIRST_PAUSE
    health.failed("0", DOWN, health.paused_until, 1.0)
    assert health.paused_until == 10 + FIRST_PAUSE + 2 * FIRST_PAUSE
