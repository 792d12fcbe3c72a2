"""When a code may be requested and submitted, and how often one may guess."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, tuples

from messaging.relay.accounts.invites import Grant, Role
from messaging.relay.accounts.verification import (
    CODE_LIFETIME,
    CODE_PAUSE,
    MAX_ATTEMPTS,
    MAX_CODES,
    Verification,
    begin,
    code_mac,
    code_was_not_delivered,
    code_was_refused,
    request_code,
    submit_code,
    submit_invite,
)
from messaging.relay.errors import VerificationConflict, VerificationRateLimited

RIGHT, WRONG = (code_mac(b"key", "id", code) for code in ("123456", "654321"))


def with_code(now: int = 0) -> Verification:
    return request_code(begin("id", now), RIGHT, now)


def test_a_new_session_may_request_a_code_and_not_submit_one() -> None:
    session = begin("id", 0).describe(0)
    assert (session.allowed_to_request_code, session.next_sms, session.next_verification_attempt) == (True, 0, None)
    with pytest.raises(VerificationConflict):
        submit_code(begin("id", 0), RIGHT, 0)


def test_the_right_code_verifies() -> None:
    verified = submit_code(with_code(), RIGHT, 1)
    assert verified.verified
    assert not verified.describe(1).allowed_to_request_code


def test_a_wrong_code_does_not() -> None:
    tried = submit_code(with_code(), WRONG, 1)
    assert (tried.verified, tried.attempts) == (False, 1)


def test_a_verified_session_takes_nothing_more() -> None:
    verified = submit_code(with_code(), RIGHT, 1)
    with pytest.raises(VerificationConflict):
        submit_code(verified, RIGHT, 2)
    with pytest.raises(VerificationConflict):
        request_code(verified, RIGHT, 2)


def test_a_code_expires() -> None:
    with pytest.raises(VerificationConflict):
        submit_code(with_code(), RIGHT, CODE_LIFETIME)


def test_a_second_code_must_wait() -> None:
    with pytest.raises(VerificationRateLimited) as caught:
        request_code(with_code(), RIGHT, CODE_PAUSE - 1)
    assert caught.value.headers() == {"Retry-After": "1"}
    assert request_code(with_code(), RIGHT, CODE_PAUSE).codes_sent == 2


def test_a_code_that_was_not_delivered_may_be_requested_again_at_once() -> None:
    failed = code_was_not_delivered(with_code(), 1)
    with pytest.raises(VerificationConflict):
        submit_code(failed, RIGHT, 1)
    assert request_code(failed, RIGHT, 1).codes_sent == 2


def test_after_a_code_that_was_refused_there_is_no_other() -> None:
    refused = code_was_refused(with_code(), 1)
    assert not refused.describe(1).allowed_to_request_code
    with pytest.raises(VerificationConflict):
        submit_code(refused, RIGHT, 1)
    with pytest.raises(VerificationRateLimited):
        request_code(refused, RIGHT, CODE_PAUSE)


def test_where_an_invite_is_awaited_no_code_is_right() -> None:
    waiting = request_code(begin("id", 0), None, 0)
    assert waiting.describe(0).next_verification_attempt == 0
    assert not submit_code(waiting, RIGHT, 1).verified


def test_a_good_invite_verifies_and_the_session_keeps_its_grant() -> None:
    waiting = request_code(begin("id", 0), None, 0)
    verified = submit_invite(waiting, Grant(Role.BOT, new_account_only=True), 1)
    assert (verified.verified, verified.role, verified.new_account_only) == (True, "bot", True)
    with pytest.raises(VerificationConflict):
        submit_invite(verified, Grant(Role.BOT, new_account_only=True), 2)


def test_invites_are_tried_as_often_as_codes() -> None:
    state = request_code(begin("id", 0), None, 0)
    for _ in range(MAX_ATTEMPTS):
        state = submit_invite(state, None, 1)
    assert not state.verified
    with pytest.raises(VerificationRateLimited):
        submit_invite(state, Grant(Role.MEMBER, new_account_only=True), 1)
    with pytest.raises(VerificationConflict):
        submit_invite(request_code(begin("id", 0), None, 0), None, CODE_LIFETIME)


@pytest.mark.parametrize(
    ("new_account_only", "made", "account", "may"),
    [
        (False, None, None, True),
        (False, None, 7, True),
        (True, None, None, True),
        (True, None, 7, False),
        (True, 7, 7, True),
        (True, 7, 8, False),
    ],
)
def test_which_account_a_verified_session_may_register(
    new_account_only: bool, made: int | None, account: int | None, may: bool
) -> None:
    grant = Grant(Role.MEMBER, new_account_only=new_account_only)
    verified = submit_invite(request_code(begin("id", 0), None, 0), grant, 1)
    assert replace(verified, account_id=made).may_register(account) is may
    assert not replace(verified, account_id=made, verified=False).may_register(account)


def test_after_the_last_code_no_wait_helps() -> None:
    state = Verification("id", expires_at=10**9, codes_sent=MAX_CODES)
    with pytest.raises(VerificationRateLimited) as caught:
        request_code(state, RIGHT, 10**8)
    assert caught.value.headers() == {}
    assert caught.value.session.next_sms is None


@given(steps=lists(tuples(integers(0, 1), integers(0, CODE_PAUSE)), max_size=60))
def test_nobody_guesses_more_often_than_codes_times_attempts(steps: list[tuple[int, int]]) -> None:
    state, now, guesses = begin("id", 0), 0, 0
    for step, pause in steps:
        now += pause
        try:
            if step:
                state = request_code(state, RIGHT, now)
            else:
                state, guesses = submit_code(state, WRONG, now), guesses + 1
        except (VerificationConflict, VerificationRateLimited):
            continue
    assert guesses <= MAX_CODES * MAX_ATTEMPTS
    assert not state.verified


def test_a_mac_is_bound_to_key_session_and_code() -> None:
    assert len({RIGHT, WRONG, code_mac(b"other", "id", "123456"), code_mac(b"key", "other", "123456")}) == 4


def test_the_state_has_no_secret_in_its_repr() -> None:
    assert "id='id'" not in repr(with_code())
