"""Which bytes a Range header asks for (RFC 9110, section 14.1.2; the examples are the RFC's)."""

import pytest
from hypothesis import given
from hypothesis.strategies import integers, text

from messaging.relay.attachments.ranges import ByteRange, Unsatisfiable, range_of


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-499", ByteRange(0, 499)),
        ("bytes=500-999", ByteRange(500, 999)),
        ("bytes=-500", ByteRange(9500, 9999)),
        ("bytes=9500-", ByteRange(9500, 9999)),
        ("bytes=0-0", ByteRange(0, 0)),
        ("bytes=9999-20000", ByteRange(9999, 9999)),
        ("bytes=-20000", ByteRange(0, 9999)),
        ("bytes=0-0,-1", None),  # several ranges: all of it
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("lines=0-4", None),
        ("", None),
        (None, None),
    ],
)
def test_a_header_means(header: str | None, expected: ByteRange | None) -> None:
    assert range_of(header, 10_000) == expected


@pytest.mark.parametrize(("header", "length"), [("bytes=10000-", 10_000), ("bytes=-0", 10_000), ("bytes=0-", 0)])
def test_no_byte_is_there(header: str, length: int) -> None:
    with pytest.raises(Unsatisfiable):
        range_of(header, length)


@given(integers(0, 100), integers(0, 120), integers(0, 120))
def test_a_range_is_a_slice(length: int, first: int, last: int) -> None:
    data = bytes(length)
    try:
        found = range_of(f"bytes={first}-{last}", length)
    except Unsatisfiable:
        assert data[first : last + 1] == b""
        return
    if first > last:
        assert found is None
    else:
        assert found is not None
        assert data[found.first : found.last + 1] == data[first : last + 1]


@given(text(max_size=40))
def test_nonsense_is_ignored(header: str) -> None:
    try:
        assert range_of(header, 9) is None or header.strip().startswith("bytes=")
    except Unsatisfiable:
        assert header.strip().startswith("bytes=")
