"""What a text or a deletion is counted as is never less than what it takes."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_enclave.limits import DELETION_BYTES, MAX_DELETIONS, MESSAGE_BYTES
from ai_enclave.share import bytes_of

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(text=texts)
def test_a_text_is_counted_as_wide_as_its_widest_letter_makes_it(text: str) -> None:
    as_utf8 = 0 if text.isascii() else len(text.encode())  # once something has asked for it
    fresh = "".join(list(text))
    around = MESSAGE_BYTES // 2  # the other half is for the message that holds it
    assert sys.getsizeof(fresh) + as_utf8 <= bytes_of(text) + around


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("", 0),
        ("a" * 1000, 1000),
        ("\u00e9" * 10, 30),
        ("\u20ac" * 10, 50),
        ("a" * 20_000 + "\U0001f600", 4 * 20_001 + 20_004),
    ],
)
def test_one_wide_letter_widens_all(text: str, counted: int) -> None:
    assert bytes_of(text) == counted


def test_deletions_are_counted_as_what_they_take() -> None:
    none, first = sys.getsizeof(set()), 10**12
    for many in range(1, MAX_DELETIONS + 2):
        remembered = set(range(first, first + many))
        assert sys.getsizeof(remembered) - none + many * sys.getsizeof(first) <= many * DELETION_BYTES
