"""What an invite's code looks like, which terms it may have, and what it is good for."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, integers, lists, none, sampled_from, tuples

from messaging.relay.accounts.invites import (
    CODE_BYTES,
    MAX_LIFETIME,
    MAX_USES,
    MIN_LIFETIME,
    Grant,
    InvalidTerms,
    Invite,
    Role,
    Terms,
    grant_of,
    hash_code,
    new_code,
    parse_lifetime,
)
from messaging.relay.server_secret import ServerSecret
from messaging.wire.limits import MAX_VERIFICATION_CODE

SECRET = ServerSecret.derive(bytes(32))
ANN, BEN = bytes([1]) * 32, bytes([2]) * 32
MINUTE, DAY = 60 * 1000, 24 * 60 * 60 * 1000
GOOD = Invite(1, Role.MEMBER, uses_left=1, expires_at=DAY, created_at=0, number_hash=None, revoked=False)


FOR_A_BOT = replace(GOOD, role=Role.BOT)


def grant(invite: Invite | None, **facts: Any) -> Grant | None:
    """What an invite gives for Ann's number, a telephone's without an account, a moment after it was made."""
    usual: dict[str, Any] = {
        "number_hash": ANN,
        "has_telephone": True,
        "account_exists": False,
        "bots_only": False,
        "now": 1,
    }
    return grant_of(invite, **{**usual, **facts})


def granted(invite: Invite | None, number_hash: bytes = ANN, **facts: Any) -> bool:
    return grant(invite, number_hash=number_hash, **facts) is not None


def test_a_code_has_80_bits_in_four_groups_that_can_be_typed() -> None:
    codes = {new_code() for _ in range(1000)}
    assert len(codes) == 1000
    assert CODE_BYTES * 8 == 80
    for code in codes:
        assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}", code)
        assert len(code) <= MAX_VERIFICATION_CODE
    assert len({letter for code in codes for letter in code}) == 33  # every letter of the alphabet, and the dash


@pytest.mark.parametrize(
    "typed", ["01ab-cdef-ghjk-mnpq", "O1AB CDEF GHJK MNPQ", "oiabcdefghjkmnpq", "0LABCDEF-GHJKMNPQ"]
)
def test_case_dashes_and_letters_that_look_alike_do_not_count(typed: str) -> None:
    assert hash_code(SECRET, typed) == hash_code(SECRET, "01AB-CDEF-GHJK-MNPQ")


@pytest.mark.parametrize(
    "typed", ["", "01AB-CDEF-GHJK-MNPR", "01AB-CDEF-GHJK-MNP", "01AB-CDEF-GHJK-MNPQ0", "０１AB-CDEF-GHJK-MNPQ"]
)
def test_other_codes_have_other_hashes(typed: str) -> None:
    assert hash_code(SECRET, typed) != hash_code(SECRET, "01AB-CDEF-GHJK-MNPQ")


def test_a_hash_needs_the_key() -> None:
    other = ServerSecret.derive(b"a" * 32)
    assert hash_code(SECRET, "01AB-CDEF-GHJK-MNPQ") != hash_code(other, "01AB-CDEF-GHJK-MNPQ")


@pytest.mark.parametrize("uses", [1, MAX_USES])
@pytest.mark.parametrize("lifetime", [MIN_LIFETIME, MAX_LIFETIME])
def test_terms_reach_to_their_limits(uses: int, lifetime: int) -> None:
    assert Terms(Role.MEMBER, uses, lifetime).uses == uses


@pytest.mark.parametrize(
    ("uses", "lifetime", "number"),
    [
        (0, DAY, None),
        (MAX_USES + 1, DAY, None),
        (1, MIN_LIFETIME - 1, None),
        (1, MAX_LIFETIME + 1, None),
        (1, DAY, "CANARY"),
        (1, DAY, ""),
    ],
)
def test_and_not_beyond(uses: int, lifetime: int, number: str | None) -> None:
    with pytest.raises(InvalidTerms) as caught:
        Terms(Role.MEMBER, uses, lifetime, number)
    assert "CANARY" not in str(caught.value)


def test_one_for_a_bot_is_bound_to_no_number() -> None:
    assert Terms(Role.BOT, 1, DAY).number is None
    with pytest.raises(InvalidTerms, match="bound to no number"):
        Terms(Role.BOT, 1, DAY, "+999000000000001")


@pytest.mark.parametrize(("text", "lifetime"), [("1m", MINUTE), ("12h", DAY // 2), ("7d", 7 * DAY)])
def test_a_lifetime_is_a_number_and_a_unit(text: str, lifetime: int) -> None:
    assert parse_lifetime(text) == lifetime


@pytest.mark.parametrize("text", ["", "7", "d", "-7d", "7 d", "7w", "1.5d", "1234567d", "٧d", "7d\n"])
def test_another_lifetime_is_refused(text: str) -> None:
    with pytest.raises(InvalidTerms):
        parse_lifetime(text)


def test_an_invite_gives_its_role_for_new_accounts_and_a_bound_one_for_every() -> None:
    assert grant(GOOD) == Grant(Role.MEMBER, new_account_only=True)
    bound = replace(GOOD, role=Role.OPERATOR, number_hash=ANN)
    for exists in (False, True):
        assert grant(bound, account_exists=exists) == Grant(Role.OPERATOR, new_account_only=False)


@pytest.mark.parametrize(
    "invite",
    [
        None,
        replace(GOOD, uses_left=0),
        replace(GOOD, revoked=True),
        replace(GOOD, expires_at=1),
        replace(GOOD, number_hash=BEN),
    ],
    ids=["unknown", "used up", "revoked", "expired", "another's"],
)
def test_it_gives_nothing_if_anything_is_wrong(invite: Invite | None) -> None:
    assert not granted(invite)


@pytest.mark.parametrize("bots_only", [False, True])
def test_one_for_a_bot_makes_a_new_account_of_a_number_without_telephone_whatever_proves_numbers(
    bots_only: bool,
) -> None:
    assert grant(FOR_A_BOT, has_telephone=False, bots_only=bots_only) == Grant(Role.BOT, new_account_only=True)
    assert not granted(FOR_A_BOT, has_telephone=True, bots_only=bots_only)
    assert not granted(FOR_A_BOT, has_telephone=False, bots_only=bots_only, account_exists=True)


def test_one_for_a_bot_that_was_bound_to_a_number_takes_no_account_over_either() -> None:
    bound = replace(FOR_A_BOT, number_hash=ANN)
    assert grant(bound, has_telephone=False) == Grant(Role.BOT, new_account_only=True)
    assert not granted(bound, has_telephone=False, account_exists=True)
    assert not granted(bound, BEN, has_telephone=False)


@pytest.mark.parametrize("has_telephone", [False, True])
@pytest.mark.parametrize("role", [Role.MEMBER, Role.OPERATOR])
@pytest.mark.parametrize("number_hash", [None, ANN])
def test_where_people_prove_their_numbers_otherwise_no_other_is_good(
    has_telephone: bool, role: Role, number_hash: bytes | None
) -> None:
    invite = replace(GOOD, role=role, number_hash=number_hash)
    assert granted(invite, has_telephone=has_telephone)
    assert not granted(invite, has_telephone=has_telephone, bots_only=True)


def test_it_takes_no_account_over() -> None:
    assert not granted(GOOD, account_exists=True)
    assert not granted(replace(GOOD, number_hash=BEN), account_exists=True)


def test_it_is_good_until_the_millisecond_it_expires() -> None:
    assert granted(GOOD, now=DAY - 1)
    assert not granted(GOOD, now=DAY)


def test_the_operator_sees_why_one_is_not_good() -> None:
    states = [GOOD, replace(GOOD, uses_left=0), replace(GOOD, revoked=True)]
    assert [invite.state(1) for invite in states] == ["good", "used up", "revoked"]
    assert GOOD.state(DAY) == "expired"


@given(
    uses=integers(1, 5),
    role=sampled_from(Role),
    number_hash=sampled_from([ANN, BEN]) | none(),
    submits=lists(tuples(sampled_from([ANN, BEN]), booleans(), integers(0, 2 * DAY), booleans()), max_size=30),
)
def test_whatever_the_order_no_more_sessions_than_uses(
    uses: int, role: Role, number_hash: bytes | None, submits: list[tuple[bytes, bool, int, bool]]
) -> None:
    invite, granted_to = replace(GOOD, role=role, uses_left=uses, number_hash=number_hash), []
    for number, account_exists, now, then_revoked in submits:
        if granted(invite, number, has_telephone=role is not Role.BOT, account_exists=account_exists, now=now):
            granted_to.append((number, account_exists, now))
            invite = replace(invite, uses_left=invite.uses_left - 1)
        invite = replace(invite, revoked=invite.revoked or then_revoked)
    assert len(granted_to) <= uses
    assert all(now < invite.expires_at for _, _, now in granted_to)
    assert all(number == number_hash if number_hash else not exists for number, exists, _ in granted_to)
    assert role is not Role.BOT or not any(exists for _, exists, _ in granted_to)


def test_neither_number_nor_hash_is_shown() -> None:
    assert "+4915550000101" not in repr(Terms(Role.MEMBER, 1, DAY, "+4915550000101"))
    assert repr(ANN) not in repr(replace(GOOD, number_hash=ANN))
