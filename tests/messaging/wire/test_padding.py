"""Padding comes off again, and shows a length only in steps, or as one of a few."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis.strategies import binary, just

from messaging.wire.errors import MalformedContent
from messaging.wire.limits import CONTENT_BLOCK
from messaging.wire.padding import pad, pad_to_bucket, unpad

BUCKETS = (20, 300)


@given(data=binary(max_size=300))
def test_padding_comes_off_and_hides_the_length(data: bytes) -> None:
    padded = pad(data)
    assert unpad(padded) == data
    assert (len(padded) + 1) % CONTENT_BLOCK == 0


@pytest.mark.parametrize(
    ("length", "padded"), [(0, 79), (1, 79), (78, 79), (79, 159), (158, 159), (159, 239), (238, 239)]
)
def test_the_first_byte_of_padding_always_has_room(length: int, padded: int) -> None:
    assert len(pad(bytes(length))) == padded


@given(data=binary(max_size=299))
def test_a_bucket_comes_off_too(data: bytes) -> None:
    padded = pad_to_bucket(data, BUCKETS)
    assert unpad(padded) == data
    assert len(padded) in BUCKETS


@pytest.mark.parametrize(("length", "bucket"), [(0, 20), (19, 20), (20, 300), (299, 300)])
def test_the_smallest_bucket_is_taken_that_holds_the_data_and_the_first_byte_of_padding(
    length: int, bucket: int
) -> None:
    assert len(pad_to_bucket(b"x" * length, BUCKETS)) == bucket


def test_what_no_bucket_holds_is_not_padded_some_other_way() -> None:
    with pytest.raises(ValueError, match="too large"):
        pad_to_bucket(bytes(300), BUCKETS)


@pytest.mark.parametrize("data", [b"", bytes(79), b"data", b"data\x00\x00", b"\x80data"])
def test_without_its_first_byte_it_is_no_padding(data: bytes) -> None:
    with pytest.raises(MalformedContent):
        unpad(data)


@given(data=binary(max_size=300) | just(b"\x80"))
def test_whatever_comes_off_was_there(data: bytes) -> None:
    with suppress(MalformedContent):
        assert data.startswith(unpad(data) + b"\x80")
