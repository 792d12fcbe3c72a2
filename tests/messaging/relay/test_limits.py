"""Token buckets, and the file that sets them."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import floats, lists

from messaging.relay.errors import RateLimited, StartupError
from messaging.relay.limits import DEFAULTS, MAX_BUCKETS, Bucket, Limit, RateLimits, read_limits


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def limits_of(size: float, refill: float) -> tuple[RateLimits, Clock]:
    clock = Clock()
    return RateLimits({limit: Bucket(size, refill) for limit in Limit}, clock), clock


def test_a_bucket_gives_its_size_and_then_says_how_long_to_wait() -> None:
    limits, clock = limits_of(2, 10)
    limits.take(Limit.MESSAGES, "a")
    limits.take(Limit.MESSAGES, "a")
    with pytest.raises(RateLimited) as caught:
        limits.take(Limit.MESSAGES, "a")
    assert caught.value.retry_after == 10
    clock.now = 10
    limits.take(Limit.MESSAGES, "a")


def test_buckets_do_not_share() -> None:
    limits, _ = limits_of(1, 10)
    limits.take(Limit.MESSAGES, "a")
    limits.take(Limit.MESSAGES, "b")
    limits.take(Limit.PREKEYS, "a")
    with pytest.raises(RateLimited):
        limits.take(Limit.MESSAGES, "a")


def test_what_is_larger_than_the_bucket_passes_when_it_is_full() -> None:
    limits, _ = limits_of(10, 1)
    limits.take(Limit.INBOUND_MESSAGE_BYTES, "a", amount=100)
    with pytest.raises(RateLimited):
        limits.take(Limit.INBOUND_MESSAGE_BYTES, "a", amount=1)


@given(pauses=lists(floats(0, 30), max_size=40))
def test_no_more_passes_than_the_size_and_what_came_back(pauses: list[float]) -> None:
    limits, clock = limits_of(3, 10)
    passed = 0
    for pause in pauses:
        clock.now += pause
        try:
            limits.take(Limit.REGISTRATION, "a")
        except RateLimited:
            continue
        passed += 1
    assert passed <= 3 + clock.now / 10 + 1e-6


def test_the_number_of_buckets_is_bounded() -> None:
    limits, _ = limits_of(1, 10)
    limits.take(Limit.MESSAGES, "first")
    for number in range(MAX_BUCKETS):
        limits.take(Limit.MESSAGES, number)
    limits.take(Limit.MESSAGES, "first")  # forgotten: the bound on memory comes first


def test_a_file_overrides_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text("[messages]\nsize = 5\nrefill = 0.5\n")
    assert read_limits(tmp_path / "limits.toml") == {**DEFAULTS, Limit.MESSAGES: Bucket(5, 0.5)}
    assert read_limits(None) == DEFAULTS


@pytest.mark.parametrize(
    "text",
    ["messages", "[unknown]\nsize=1\nrefill=1", "[messages]\nsize=1", "[messages]\nsize=0\nrefill=1", "messages=1"],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "limits.toml").write_text(text)
    with pytest.raises(StartupError):
        read_limits(tmp_path / "limits.toml")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="limits file"):
        read_limits(tmp_path / "limits.toml")
