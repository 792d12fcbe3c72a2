"""Passwords at rest."""

from hypothesis import given
from hypothesis.strategies import text

from messaging.relay.accounts.passwords import hash_password, password_matches


@given(password=text(min_size=1), other=text(min_size=1))
def test_a_password_matches_its_hash_and_no_other(password: str, other: str) -> None:
    stored = hash_password(password)
    assert password_matches(password, stored)
    assert password_matches(other, stored) == (other == password)


def test_the_same_password_is_stored_differently_each_time() -> None:
    assert hash_password("same") != hash_password("same")
    assert "b'" not in repr(hash_password("same"))
