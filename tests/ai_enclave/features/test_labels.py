"""Labels differ, are drawn by lot, and say nothing."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_enclave.features import label_messages
from ai_enclave.features.limits import LABEL_LETTERS, MAX_LABELS


@given(st.integers(0, 500))
def test_labels_are_short_and_no_two_are_equal(count: int) -> None:
    labels = label_messages(count, secrets.token_bytes)
    assert len(labels) == len(set(labels)) == count
    assert all(
        len(label) == LABEL_LETTERS and set(label) <= set("abcdefghijklmnopqrstuvwxyz234567") for label in labels
    )


def test_who_knows_one_request_does_not_know_the_next() -> None:
    first, second = (set(label_messages(1000, secrets.token_bytes)) for _ in range(2))
    assert len(first & second) < 20  # one in a thousand of a million is expected once


@given(st.integers(0, 2**20 - 1), st.integers(0, 2**20 - 1))
def test_every_draw_has_a_label_of_its_own(one: int, other: int) -> None:
    labels = [label_messages(1, lambda _, drawn=drawn: drawn.to_bytes(3, "big")) for drawn in (one, other)]  # type: ignore[misc]
    assert (labels[0] == labels[1]) == (one == other)


def test_a_label_that_is_drawn_twice_is_drawn_again() -> None:
    draws = iter([b"\0\0\1", b"\0\0\1", b"\0\0\2"])
    assert len(set(label_messages(2, lambda _: next(draws)))) == 2


def test_a_broken_source_and_too_many_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats itself"):
        label_messages(2, bytes)
    with pytest.raises(ValueError, match="not labelled"):
        label_messages(MAX_LABELS + 1, secrets.token_bytes)
    assert len(label_messages(MAX_LABELS, secrets.token_bytes)) == MAX_LABELS
