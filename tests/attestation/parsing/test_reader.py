"""The cursor reads what is there, and refuses to read what is not."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedEvidence
from attestation.parsing.reader import Reader


@given(st.lists(st.binary(max_size=8)))
def test_reads_the_parts_in_order_and_then_is_at_the_end(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    read = Reader(whole, "thing")
    for index, part in enumerate(parts):
        assert read.position == len(b"".join(parts[:index]))
        assert read.left == len(whole) - read.position
        assert read.take(len(part)) == part
    read.end()


@given(st.binary(max_size=16))
def test_a_number_is_what_to_bytes_wrote(data: bytes) -> None:
    assert Reader(data, "thing").little(len(data)).to_bytes(len(data), "little") == data
    assert Reader(data, "thing").big(len(data)).to_bytes(len(data), "big") == data


READS: list[Callable[[Reader, int], object]] = [Reader.take, Reader.little, Reader.big]


@pytest.mark.parametrize("read", READS)
@given(data=st.binary(max_size=16), more=st.integers(1, 2**64))
def test_never_reads_past_the_end(read: Callable[[Reader, int], object], data: bytes, more: int) -> None:
    with pytest.raises(MalformedEvidence, match="the thing ends too early"):
        read(Reader(data, "thing"), len(data) + more)


def test_expects_exactly_what_it_is_told_to() -> None:
    read = Reader(b"abc", "thing")
    read.expect(b"ab", "signature")
    with pytest.raises(MalformedEvidence, match="the signature of the thing is wrong"):
        read.expect(b"d", "signature")
    with pytest.raises(MalformedEvidence, match="ends too early"):
        Reader(b"a", "thing").expect(b"ab", "signature")


def test_bytes_that_are_left_over_are_refused() -> None:
    with pytest.raises(MalformedEvidence, match="bytes behind the thing"):
        Reader(b"a", "thing").end()
