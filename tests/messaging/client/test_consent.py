"""A statement of consent is its author's alone, about one conversation, and says what the author meant."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.client.consent import ConsentRefused, make_consent, verify_consent
from messaging.wire.consent import ALL_SCOPES, Consent, ConsentScope, SignedConsent, conversation_id
from messaging.wire.content import ConsentUpdate
from messaging.wire.limits import MAX_CONSENT
from tests.messaging.client.people import Person

KEY, OTHER_KEY = b"\x01" * 32, b"\x02" * 32
ANN, BOB = Person.new(), Person.new()
AT = 1_000


@given(
    at=st.integers(1, 2**50),
    scopes=st.sets(st.sampled_from(ConsentScope), min_size=1),
    lasts=st.none() | st.integers(1, 2**40),
)
def test_what_an_author_signs_is_what_others_read(at: int, scopes: set[ConsentScope], lasts: int | None) -> None:
    until = None if lasts is None else at + lasts
    signed = ANN.signed(KEY, at, scopes=scopes, until=until)
    read = verify_consent(ConsentUpdate(KEY, signed), ANN.service_id, ANN.identity_key)
    assert read == Consent(conversation_id(KEY), ANN.service_id, at, True, frozenset(scopes), until)


def test_a_withdrawal_names_no_scope_and_is_in_force_for_nothing() -> None:
    signed = ANN.signed(KEY, AT, opted_in=False)
    read = verify_consent(ConsentUpdate(KEY, signed), ANN.service_id, ANN.identity_key)
    assert (read.opted_in, read.scopes, read.in_force(AT)) == (False, frozenset(), False)


def refused(update: ConsentUpdate, author: Person = ANN, identity_key: bytes = ANN.identity_key) -> bool:
    try:
        verify_consent(update, author.service_id, identity_key)
    except ConsentRefused:
        return True
    return False


def test_nobody_else_can_have_made_it() -> None:
    update = ConsentUpdate(KEY, ANN.signed(KEY, AT))
    assert not refused(update)
    assert refused(update, BOB)
    assert refused(update, BOB, BOB.identity_key)
    assert refused(update, ANN, BOB.identity_key)
    assert refused(update, ANN, bytes(33))
    assert refused(ConsentUpdate(OTHER_KEY, update.consent))
    in_her_name = make_consent(BOB.sign, conversation=KEY, author=ANN.service_id, timestamp=AT, opted_in=True)
    assert refused(ConsentUpdate(KEY, in_her_name))
    assert (
        refused(ConsentUpdate(KEY, in_her_name), ANN, BOB.identity_key) is False
    )  # so the key has to be the trusted one


@given(st.data())
def test_a_changed_bit_is_refused(data: st.DataObject) -> None:
    signed = ANN.signed(KEY, AT)
    part = data.draw(st.sampled_from(["statement", "signature"]))
    whole = bytearray(getattr(signed, part))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changes = {part: bytes(whole)}
    assert refused(ConsentUpdate(KEY, replace(signed, **changes)))


@given(st.binary(max_size=MAX_CONSENT + 1), st.binary(max_size=65))
def test_anything_else_is_refused_too(statement: bytes, signature: bytes) -> None:
    assert refused(ConsentUpdate(KEY, SignedConsent(statement, signature)))


def test_a_signature_for_another_purpose_is_none() -> None:
    statement = ANN.signed(KEY, AT).statement
    assert refused(ConsentUpdate(KEY, SignedConsent(statement, ANN.sign(statement))))


@pytest.mark.parametrize("until", [AT, AT - 1])
def test_consent_that_ends_before_it_begins_is_not_made(until: int) -> None:
    ANN.signed(KEY, AT, until=AT + 1)
    with pytest.raises(ValueError, match="ends after it begins"):
        ANN.signed(KEY, AT, until=until)


def test_consent_to_nothing_is_not_made() -> None:
    with pytest.raises(ValueError, match="one scope at least"):
        ANN.signed(KEY, AT, scopes=())


def test_without_a_scope_it_is_for_all() -> None:
    signed = make_consent(ANN.sign, conversation=KEY, author=ANN.service_id, timestamp=AT, opted_in=True)
    assert verify_consent(ConsentUpdate(KEY, signed), ANN.service_id, ANN.identity_key).scopes == ALL_SCOPES
