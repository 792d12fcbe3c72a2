"""A statement says what its author allows, from when on and until when; nobody changes it unseen."""

import hashlib
from contextlib import suppress
from dataclasses import replace
from typing import Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import binary

from messaging.wire.consent import (
    ALL_SCOPES,
    CONSENT_CONTEXT,
    Consent,
    ConsentScope,
    SignedConsent,
    conversation_id,
    member_tag,
    read_consent,
    roster_digest,
)
from messaging.wire.content import Roster
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.limits import DIGEST, MASTER_KEY, MAX_CONSENT, MAX_REVISION, MAX_TIMESTAMP, MEMBER_TAG, SIGNATURE
from messaging.wire.protobuf import assistant_pb2 as pb
from signal_protocol.public.errors import InvalidSignature
from signal_protocol.public.keys import generate_key_pair, sign, verify_signature
from tests.messaging.wire.strategies import broken, consents, keys, service_ids

ALICE = ServiceId(UUID(int=1))
SINCE, UNTIL = 1000, 2000
CONSENT = Consent(bytes(DIGEST), ALICE, SINCE, opted_in=True, expires_at=UNTIL)
SUMMARIES, REPLIES = ConsentScope.SUMMARIES, ConsentScope.REPLIES


def signed(statement: bytes) -> SignedConsent:
    return SignedConsent(statement, bytes(SIGNATURE))


def a_statement(**fields: object) -> pb.ConsentStatement:
    statement = pb.ConsentStatement.FromString(CONSENT.encode())
    for name, value in fields.items():
        setattr(statement, name, value)
    return statement


# --- what it allows ---


@pytest.mark.parametrize(
    ("timestamp", "covered"), [(SINCE - 1, False), (SINCE, True), (UNTIL - 1, True), (UNTIL, False), (UNTIL + 1, False)]
)
def test_it_covers_messages_from_its_own_timestamp_until_it_expires(timestamp: int, covered: bool) -> None:
    assert CONSENT.covers(timestamp, SUMMARIES) is covered


def test_without_an_end_it_covers_all_that_comes() -> None:
    assert replace(CONSENT, expires_at=None).covers(MAX_TIMESTAMP, SUMMARIES)


def test_it_covers_only_what_it_names() -> None:
    narrow = replace(CONSENT, scopes=frozenset({SUMMARIES}))
    assert narrow.covers(SINCE, SUMMARIES)
    assert not narrow.covers(SINCE, REPLIES)


def test_opting_out_covers_nothing_whatever_it_names() -> None:
    out = replace(CONSENT, opted_in=False, scopes=ALL_SCOPES)
    assert not any(out.covers(SINCE, scope) for scope in ConsentScope)


@pytest.mark.parametrize(("now", "in_force"), [(SINCE, True), (UNTIL - 1, True), (UNTIL, False), (UNTIL + 1, False)])
def test_it_is_in_force_until_the_moment_it_expires(now: int, in_force: bool) -> None:
    assert CONSENT.in_force(now) is in_force


def test_without_an_end_it_is_in_force_until_another_takes_its_place() -> None:
    assert replace(CONSENT, expires_at=None).in_force(MAX_TIMESTAMP)
    assert not replace(CONSENT, expires_at=None, opted_in=False).in_force(SINCE)


# --- its bytes ---


@given(consent=consents)
def test_reading_undoes_encoding(consent: Consent) -> None:
    assert read_consent(signed(consent.encode())) == consent


@given(consent=consents)
def test_a_statement_of_this_version_takes_little_of_its_room(consent: Consent) -> None:
    assert len(consent.encode()) <= 77 < MAX_CONSENT


def test_the_largest_statement_has_the_size_that_the_limits_name() -> None:
    author = ServiceId(UUID(int=2**128 - 1), IdentityKind.PNI)
    largest = Consent(bytes(DIGEST), author, MAX_TIMESTAMP, opted_in=True, expires_at=MAX_TIMESTAMP)
    assert len(largest.encode()) == 77


def test_a_scope_of_a_newer_version_is_passed_over_and_the_signature_still_covers_it() -> None:
    statement = CONSENT.encode() + b"\x28\x09"  # scopes = 9
    assert read_consent(signed(statement)) == CONSENT
    assert signed(statement).digest() != signed(CONSENT.encode()).digest()


def test_who_names_no_scope_allows_none() -> None:
    statement = a_statement()
    statement.ClearField("scopes")
    assert read_consent(signed(statement.SerializeToString())).scopes == frozenset()


@pytest.mark.parametrize(
    "fields",
    [
        {"conversation_id": bytes(DIGEST - 1)},
        {"conversation_id": bytes(DIGEST + 1)},
        {"author": bytes(15)},
        {"author": b"\x02" + bytes(16)},
        {"timestamp": 0},
        {"timestamp": MAX_TIMESTAMP + 1},
        {"expires_at": 0},
        {"expires_at": MAX_TIMESTAMP + 1},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_a_field_without_its_shape_is_malformed(fields: dict[str, object]) -> None:
    with pytest.raises(MalformedField):
        read_consent(signed(a_statement(**fields).SerializeToString()))


@pytest.mark.parametrize("field", ["conversation_id", "author", "timestamp"])
def test_a_missing_field_is_malformed(field: Literal["conversation_id", "author", "timestamp"]) -> None:
    statement = a_statement()
    statement.ClearField(field)
    with pytest.raises(MalformedField):
        read_consent(signed(statement.SerializeToString()))


def test_the_latest_time_is_read() -> None:
    statement = a_statement(timestamp=MAX_TIMESTAMP, expires_at=MAX_TIMESTAMP)
    assert read_consent(signed(statement.SerializeToString())).expires_at == MAX_TIMESTAMP


@pytest.mark.parametrize("size", [0, SIGNATURE - 1, SIGNATURE + 1])
def test_a_signature_of_another_size_is_malformed(size: int) -> None:
    with pytest.raises(MalformedField, match="signature"):
        read_consent(SignedConsent(CONSENT.encode(), bytes(size)))


def test_a_statement_may_be_as_large_as_its_limit_and_no_larger() -> None:
    unknown = MAX_CONSENT - len(CONSENT.encode()) - 4
    filled = CONSENT.encode() + b"\x82\x06" + bytes([0x80 | unknown & 0x7F, unknown >> 7]) + bytes(unknown)
    assert len(filled) == MAX_CONSENT
    assert read_consent(signed(filled)) == CONSENT
    with pytest.raises(MalformedField, match="statement"):
        read_consent(signed(filled + b"\x20\x01"))


@given(statement=broken(consents.map(Consent.encode)), signature=binary(max_size=SIGNATURE + 1))
def test_other_bytes_are_a_statement_or_malformed(statement: bytes, signature: bytes) -> None:
    with suppress(MalformedField):
        read_consent(signed(statement))
    with suppress(MalformedField):
        read_consent(SignedConsent(statement, signature))


# --- who said it ---


def test_the_author_signs_the_context_and_the_statement() -> None:
    alice, statement = generate_key_pair(), CONSENT.encode()
    signature = sign(alice.private, CONSENT_CONTEXT + statement)
    verify_signature(alice.public, CONSENT_CONTEXT + statement, signature)
    with pytest.raises(InvalidSignature):
        verify_signature(alice.public, statement, signature)


@given(one=consents, other=consents)
def test_different_statements_have_different_bytes_to_sign(one: Consent, other: Consent) -> None:
    assert (one.encode() == other.encode()) is (one == other)


def test_its_digest_names_statement_and_signature() -> None:
    consent = SignedConsent(b"statement", b"signature")
    assert consent.digest() == hashlib.sha256(b"statementsignature").digest()


def test_a_signed_statement_shows_nothing_in_a_log() -> None:
    assert repr(SignedConsent(b"CANARY", b"CANARY")) == "SignedConsent()"


# --- names that give nothing away ---


@given(key=keys, member=service_ids, identity_key=binary(min_size=33, max_size=33))
def test_a_conversation_and_its_members_are_named_by_hashes_of_its_key(
    key: bytes, member: ServiceId, identity_key: bytes
) -> None:
    assert conversation_id(key) == hashlib.sha256(b"subrosa conversation v1\x00" + key).digest()
    named = member.to_bytes()
    tag = hashlib.sha256(b"subrosa member v1\x00" + key + bytes([len(named)]) + named + identity_key).digest()
    assert member_tag(key, member, identity_key) == tag[:MEMBER_TAG]


def test_a_member_has_a_tag_for_each_identity_key_identity_and_conversation() -> None:
    key, other_key = bytes(MASTER_KEY), bytes(MASTER_KEY - 1) + b"\x01"
    old, new = bytes(33), b"\x05" * 33
    pni = replace(ALICE, kind=IdentityKind.PNI)
    told = [(key, ALICE, old), (key, ALICE, new), (key, pni, old), (other_key, ALICE, old)]
    assert len({member_tag(*each) for each in told}) == 4


@given(key=keys, revision=st.integers(0, MAX_REVISION), tags=st.frozensets(st.binary(min_size=16, max_size=16)))
def test_a_roster_is_named_by_a_hash_of_all_that_it_says(key: bytes, revision: int, tags: frozenset[bytes]) -> None:
    said = b"subrosa roster v1\x00" + key + revision.to_bytes(8, "big") + b"".join(sorted(tags))
    assert roster_digest(key, revision, tags) == Roster(key, revision, tags).digest() == hashlib.sha256(said).digest()


@pytest.mark.parametrize("size", [0, MASTER_KEY - 1, MASTER_KEY + 1])
def test_something_else_than_a_master_key_has_no_id(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        conversation_id(bytes(size))
