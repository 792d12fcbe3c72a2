"""Requests and results come back from their bytes; each limit holds at its edge; hostile bytes cost little."""

import hashlib
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import pytest
from hypothesis import given

from messaging.wire.assistant import (
    AboutMessages,
    Actions,
    AssistantRequest,
    Cancel,
    ConsentReference,
    Coverage,
    Evidence,
    EvidenceRequest,
    Forget,
    Forgotten,
    QuestionsForMe,
    Refusal,
    RefusalCode,
    Replies,
    Reply,
    RequestKind,
    Result,
    Rewrite,
    Rewritten,
    Scope,
    StatusRequest,
    SuggestReplies,
    Summarize,
    Summary,
    SummaryLine,
    is_cancel,
    request_id_of,
    request_name,
)
from messaging.wire.content import AssistantCall, encode_content
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import IdentityKind, MessageId, ServiceId
from messaging.wire.limits import (
    DIGEST,
    MASTER_KEY,
    MAX_AUTHORS,
    MAX_DEADLINE,
    MAX_DRAFT,
    MAX_EVIDENCE,
    MAX_MEMBER_NAME,
    MAX_REQUEST,
    MAX_SCOPE,
    MAX_TIMESTAMP,
    MAX_TONE,
    NONCE,
    REQUEST_BUCKETS,
    REQUEST_ID,
    SALT,
)
from messaging.wire.protobuf import assistant_pb2 as pb
from tests.messaging.wire.strategies import broken, request_kinds, requests, results

KEY, ID, AUTHOR = bytes(MASTER_KEY), bytes(REQUEST_ID), bytes(16)
ROSE = "\N{ROSE}"  # four bytes of UTF-8
CANARY = "CANARY"
AN_AUTHOR = ServiceId(UUID(int=0))


def accounts(count: int) -> list[ServiceId]:
    return [ServiceId(UUID(int=2**128 - 1 - number), IdentityKind.PNI) for number in range(count)]


def a_scope(messages: int, authors: int, name: str = "") -> Scope:
    """The largest timestamps, spread over the authors."""
    known = accounts(authors)
    named = tuple(sorted(MessageId(known[each % authors], MAX_TIMESTAMP - each) for each in range(messages)))
    return Scope(KEY, named, 2**32 - 1, 2**32 - 1, dict.fromkeys(known, name) if name else {})


def parsed(kind: RequestKind) -> RequestKind:
    return AssistantRequest.parse(AssistantRequest(ID, kind).encode()).kind


def parse_request(**fields: object) -> AssistantRequest:
    message = pb.AssistantRequest(**{"request_id": ID, **fields})  # type: ignore[arg-type]
    return AssistantRequest.parse(message.SerializeToString())


def parse_result(**fields: object) -> Result:
    base = {"salt": bytes(SALT), "model": bytes(DIGEST), "instructions": bytes(DIGEST)}
    return Result.parse(pb.Result(**{**base, **fields}).SerializeToString())  # type: ignore[arg-type]


@contextmanager
def at_most(memory: int) -> Iterator[None]:
    """Fails if more bytes than that were allocated at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()


# --- requests ---


@given(request=requests)
def test_a_request_comes_back_from_its_bytes(request: AssistantRequest) -> None:
    assert AssistantRequest.parse(request.encode()) == request
    assert request_id_of(request.encode()) == request.id
    assert is_cancel(request.encode()) == isinstance(request.kind, Cancel)


@given(request=requests)
def test_a_request_has_one_encoding_whatever_the_order_of_its_parts(request: AssistantRequest) -> None:
    if isinstance(request.kind, AboutMessages):
        scope = request.kind.scope
        names = dict(reversed(list(scope.names.items())))
        turned = Scope(scope.conversation, scope.messages[::-1], scope.not_opted_in, scope.not_asked, names)
        other = AssistantRequest(request.id, type(request.kind)(turned), request.evidence, request.deadline)
        same = AssistantRequest(request.id, type(request.kind)(scope), request.evidence, request.deadline)
        assert other.encode() == same.encode()


@given(data=broken(requests.map(AssistantRequest.encode)))
def test_other_bytes_are_a_request_or_malformed(data: bytes) -> None:
    assert len(request_id_of(data) or ID) == REQUEST_ID
    is_cancel(data)
    with suppress(MalformedField):
        AssistantRequest.parse(data)


@given(kind=request_kinds)
def test_each_kind_has_a_name(kind: RequestKind) -> None:
    assert request_name(kind).replace("_", "").isalpha()


SCOPED: list[Callable[[Scope], AboutMessages]] = [Summarize, SuggestReplies, QuestionsForMe, Actions]


@pytest.mark.parametrize("kind", SCOPED)
def test_the_largest_scope_fits_the_last_bucket(kind: Callable[[Scope], AboutMessages]) -> None:
    asked = kind(a_scope(MAX_SCOPE, MAX_AUTHORS, ROSE * MAX_MEMBER_NAME))
    request = AssistantRequest(ID, asked, bytes(DIGEST))
    assert AssistantRequest.parse(request.encode()) == request
    assert len(encode_content(AssistantCall(request.encode()))) == REQUEST_BUCKETS[-1]


def test_a_scope_of_a_few_friends_and_the_largest_draft_fit_the_first_bucket() -> None:
    for kind in (Summarize(a_scope(MAX_SCOPE, 20, "A name as it is")), Rewrite("x" * MAX_DRAFT, ROSE * MAX_TONE)):
        encoded = AssistantRequest(ID, kind, bytes(DIGEST)).encode()
        assert len(encode_content(AssistantCall(encoded))) == REQUEST_BUCKETS[0]


def test_a_request_that_fits_no_bucket_is_not_read() -> None:
    encoded = AssistantRequest(ID, StatusRequest()).encode()
    filling = MAX_REQUEST - len(encoded) - 5  # field 99 and a length of three bytes
    length = bytes([0x80 | filling & 0x7F, 0x80 | filling >> 7 & 0x7F, filling >> 14])
    filled = encoded + b"\x9a\x06" + length + bytes(filling)
    assert len(filled) == MAX_REQUEST
    assert AssistantRequest.parse(filled).kind == StatusRequest()
    with pytest.raises(MalformedField, match="request"):
        AssistantRequest.parse(filled + b"\x18\x01")


@pytest.mark.parametrize(("messages", "authors"), [(MAX_SCOPE + 1, 1), (MAX_AUTHORS + 1, MAX_AUTHORS + 1)])
def test_a_scope_names_no_more_messages_and_authors_than_it_may(messages: int, authors: int) -> None:
    with pytest.raises(MalformedField, match="scope"):
        parsed(Summarize(a_scope(messages, authors)))


def test_names_alone_count_as_authors_too() -> None:
    with pytest.raises(MalformedField, match="scope"):
        parsed(Summarize(Scope(KEY, (), names=dict.fromkeys(accounts(MAX_AUTHORS + 1), "x"))))


def test_a_name_that_is_too_long_is_cut_on_either_side() -> None:
    cut = Summarize(a_scope(1, 1, ROSE * MAX_MEMBER_NAME))
    assert parsed(Summarize(a_scope(1, 1, ROSE * MAX_MEMBER_NAME + "x"))) == cut
    author = pb.AssistantRequest.Author(author=AUTHOR, name=ROSE * MAX_MEMBER_NAME + "x")
    scope = pb.AssistantRequest.Scope(master_key=KEY, authors=[author])
    kind = parse_request(summarize=pb.AssistantRequest.Summarize(scope=scope)).kind
    assert isinstance(kind, Summarize)
    assert kind.scope.names == {AN_AUTHOR: ROSE * MAX_MEMBER_NAME}


def test_a_message_named_twice_is_malformed_even_by_two_entries_of_its_author() -> None:
    with pytest.raises(MalformedField, match="scope"):
        parsed(Summarize(Scope(KEY, (MessageId(AN_AUTHOR, 1),) * 2)))
    twice = [pb.AssistantRequest.Author(author=AUTHOR, timestamps=[1])] * 2
    scope = pb.AssistantRequest.Scope(master_key=KEY, authors=twice)
    with pytest.raises(MalformedField, match="scope"):
        parse_request(summarize=pb.AssistantRequest.Summarize(scope=scope))


def test_a_message_is_not_from_beyond_the_last_date() -> None:
    last = Summarize(Scope(KEY, (MessageId(AN_AUTHOR, MAX_TIMESTAMP),)))
    assert parsed(last) == last
    with pytest.raises(MalformedField, match="timestamp"):
        parsed(Summarize(Scope(KEY, (MessageId(AN_AUTHOR, MAX_TIMESTAMP + 1),))))


def test_a_draft_is_counted_in_bytes_and_a_tone_in_characters() -> None:
    for kept in (Rewrite("x" * MAX_DRAFT), Rewrite(ROSE * (MAX_DRAFT // 4)), Rewrite("", ROSE * MAX_TONE)):
        assert parsed(kept) == kept
    for field, beyond in {
        "draft": Rewrite("x" * (MAX_DRAFT + 1)),
        "draft ": Rewrite(ROSE * (MAX_DRAFT // 4) + "x"),
        "tone": Rewrite("", ROSE * MAX_TONE + "x"),
    }.items():
        with pytest.raises(MalformedField, match=field.strip()):
            parsed(beyond)


@pytest.mark.parametrize(("told", "taken"), [(0, 0), (MAX_DEADLINE, MAX_DEADLINE), (MAX_DEADLINE + 1, MAX_DEADLINE)])
def test_nobody_waits_longer_than_the_limit(told: int, taken: int) -> None:
    assert AssistantRequest.parse(AssistantRequest(ID, StatusRequest(), deadline=told).encode()).deadline == taken


def test_who_names_no_deadline_waits_as_long_as_one_may() -> None:
    assert parse_request(status=pb.AssistantRequest.Status()).deadline == MAX_DEADLINE


def test_only_a_conversation_can_be_forgotten_as_a_whole() -> None:
    assert parsed(Forget()) == Forget()
    assert parsed(Forget(KEY, whole=True)) == Forget(KEY, whole=True)
    with pytest.raises(MalformedField, match="master key"):
        parsed(Forget(None, whole=True))


def test_a_request_of_a_newer_version_is_malformed_and_still_has_an_id_to_answer_to() -> None:
    newer = pb.AssistantRequest(request_id=ID).SerializeToString() + b"\xfa\x7f\x00"  # field 2047
    with pytest.raises(MalformedField, match="kind"):
        AssistantRequest.parse(newer)
    assert request_id_of(newer) == ID


@pytest.mark.parametrize("data", [b"", b"\x0a\x01x", b"\xff", b"\x0a\x11" + bytes(17)])
def test_what_has_no_request_id_cannot_be_answered(data: bytes) -> None:
    assert request_id_of(data) is None


def _scope(key: bytes = KEY, author: bytes = AUTHOR) -> pb.AssistantRequest.Summarize:
    authors = [pb.AssistantRequest.Author(author=author)]
    return pb.AssistantRequest.Summarize(scope=pb.AssistantRequest.Scope(master_key=key, authors=authors))


STATUS = pb.AssistantRequest.Status()
REQUEST_FIELDS: dict[str, tuple[Callable[[bytes], AssistantRequest], int]] = {
    "request id": (lambda data: parse_request(request_id=data, status=STATUS), REQUEST_ID),
    "evidence": (lambda data: parse_request(evidence=data, status=STATUS), DIGEST),
    "nonce": (lambda data: parse_request(evidence_request=pb.AssistantRequest.Evidence(nonce=data)), NONCE),
    "key of a scope": (lambda data: parse_request(summarize=_scope(key=data)), MASTER_KEY),
    "author in a scope": (lambda data: parse_request(summarize=_scope(author=data)), 16),
    "key to forget": (lambda data: parse_request(forget=pb.AssistantRequest.Forget(master_key=data)), MASTER_KEY),
    "key of a status": (lambda data: parse_request(status=pb.AssistantRequest.Status(master_key=data)), MASTER_KEY),
    "request to cancel": (lambda data: parse_request(cancel=pb.AssistantRequest.Cancel(request_id=data)), REQUEST_ID),
}


@pytest.mark.parametrize("field", REQUEST_FIELDS)
def test_a_field_of_a_request_of_another_size_is_malformed(field: str) -> None:
    make, size = REQUEST_FIELDS[field]
    make(bytes(size))
    for wrong in (0, size - 1, size + 1):
        with pytest.raises(MalformedField):
            make(bytes(wrong))


# --- results ---


@given(result=results)
def test_a_result_comes_back_from_its_bytes(result: Result) -> None:
    assert Result.parse(result.encode()) == result


@given(data=broken(results.map(Result.encode)))
def test_other_bytes_are_a_result_or_malformed(data: bytes) -> None:
    with suppress(MalformedField):
        Result.parse(data)


def test_the_salt_makes_two_equal_answers_two_hashes() -> None:
    answers = [Result(kind=Forgotten(1), salt=bytes([salt]) * SALT).encode() for salt in range(2)]
    assert len({hashlib.sha256(answer).digest() for answer in answers}) == 2


def test_a_line_without_the_messages_it_rests_on_can_neither_be_made_nor_read() -> None:
    with pytest.raises(ValueError, match="cite"):
        SummaryLine("text", "topic", ())
    with pytest.raises(MalformedField, match="cites"):
        parse_result(lines=pb.Result.Lines(lines=[pb.Result.Line(text="x")]))


def test_what_was_left_out_is_the_sum_of_its_reasons() -> None:
    assert Coverage(used=1, not_opted_in=20, not_held=300, not_asked=4000).left_out == 4320


def test_replies_are_texts() -> None:
    assert Replies((Reply("Yes", "agree"), Reply("No", "decline")), Coverage(1, 0, 0)).texts == ("Yes", "No")


def test_an_author_may_stand_in_a_consent_set_with_several_statements_but_each_once() -> None:
    two = [pb.Result.ConsentReference(author=AUTHOR, digest=bytes([each]) * DIGEST) for each in range(2)]
    assert len(parse_result(forgotten=pb.Result.Forgotten(), consents=two).consents) == 2
    with pytest.raises(MalformedField, match="consents"):
        parse_result(forgotten=pb.Result.Forgotten(), consents=[*two, two[0]])


def test_consents_travel_in_one_order() -> None:
    references = tuple(ConsentReference(author, bytes(DIGEST)) for author in accounts(3))
    result = Result(kind=Forgotten(0), salt=bytes(SALT), consents=references)
    assert Result.parse(result.encode()).consents == tuple(sorted(references))


def test_a_refusal_of_a_newer_version_is_read_by_its_word() -> None:
    refusal = Refusal("a_new_code")
    assert Result.parse(Result(kind=refusal, salt=bytes(SALT)).encode()).kind == refusal
    assert refusal.code not in list(RefusalCode)


def test_a_result_of_a_newer_version_is_malformed() -> None:
    with pytest.raises(MalformedField, match="kind"):
        parse_result()


CITED = pb.MessageReference(author=AUTHOR, timestamp=1)


def _line(cite: pb.MessageReference = CITED, **fields: bytes) -> Result:
    line = pb.Result.Line(cites=[cite], **fields)  # type: ignore[arg-type]
    return parse_result(lines=pb.Result.Lines(lines=[line]))


def _reference(author: bytes = AUTHOR, digest: bytes = bytes(DIGEST)) -> Result:
    reference = pb.Result.ConsentReference(author=author, digest=digest)
    return parse_result(forgotten=pb.Result.Forgotten(), consents=[reference])


RESULT_FIELDS: dict[str, tuple[Callable[[bytes], Result], int]] = {
    "salt": (lambda data: parse_result(forgotten=pb.Result.Forgotten(), salt=data), SALT),
    "model": (lambda data: parse_result(forgotten=pb.Result.Forgotten(), model=data), DIGEST),
    "instructions": (lambda data: parse_result(forgotten=pb.Result.Forgotten(), instructions=data), DIGEST),
    "author of a consent": (lambda data: _reference(author=data), 16),
    "digest of a consent": (lambda data: _reference(digest=data), DIGEST),
    "author of a cited message": (lambda data: _line(pb.MessageReference(author=data, timestamp=1)), 16),
    "speaker": (lambda data: _line(speaker=data), 16),
    "author who opted in": (lambda data: parse_result(status=pb.Result.Status(opted_in=[data])), 16),
}


@pytest.mark.parametrize("field", RESULT_FIELDS)
def test_a_field_of_a_result_of_another_size_is_malformed(field: str) -> None:
    make, size = RESULT_FIELDS[field]
    make(bytes(size))
    for wrong in (0, size - 1, size + 1):
        with pytest.raises(MalformedField):
            make(bytes(wrong))


def test_a_time_in_a_result_is_not_beyond_the_last_date() -> None:
    def cited(time: int) -> Result:
        return _line(pb.MessageReference(author=AUTHOR, timestamp=time))

    def started(time: int) -> Result:
        return parse_result(status=pb.Result.Status(started_at=time))

    for make in (cited, started):
        make(MAX_TIMESTAMP)
        with pytest.raises(MalformedField, match="timestamp"):
            make(MAX_TIMESTAMP + 1)


# --- evidence ---


def deflated(document: bytes, collateral: bytes | None = None) -> Result:
    return parse_result(evidence=pb.Result.Evidence(deflated=document, collateral=collateral))


@pytest.mark.parametrize("size", [0, 1, MAX_EVIDENCE])
def test_a_document_and_its_collateral_may_be_as_large_as_their_limit(size: int) -> None:
    document = (bytes(range(256)) * (size // 256 + 1))[:size]
    result = Result(kind=Evidence(document, document), salt=bytes(SALT))
    assert Result.parse(result.encode()) == result


def test_no_collateral_takes_no_room() -> None:
    assert deflated(zlib.compress(b"{}")).kind == Evidence(b"{}")


@pytest.mark.parametrize(
    "wrong",
    [
        zlib.compress(bytes(MAX_EVIDENCE + 1)),
        b"no zlib",
        zlib.compress(b"{}")[:-1],
        zlib.compress(b"{}")[:-1] + b"!",
        zlib.compress(b"{}") + b"!",
        zlib.compress(b"{}") * 2,
        b"",
    ],
    ids=["too large", "no zlib", "cut off", "wrong checksum", "a byte more", "two documents", "empty"],
)
def test_what_does_not_inflate_to_one_document_of_its_size_is_malformed(wrong: bytes) -> None:
    with pytest.raises(MalformedField, match="evidence"):
        deflated(wrong)
    with pytest.raises(MalformedField, match="evidence"):
        deflated(zlib.compress(b"{}"), wrong)


def test_a_bomb_is_stopped_at_the_limit() -> None:
    bomb = zlib.compress(bytes(64 * MAX_EVIDENCE))
    with at_most(4 * MAX_EVIDENCE), pytest.raises(MalformedField):
        deflated(bomb)
    with at_most(4 * MAX_EVIDENCE), pytest.raises(MalformedField):
        deflated(zlib.compress(b"{}"), bomb)


# --- silence ---


def test_what_people_wrote_has_no_repr() -> None:
    message = MessageId(AN_AUTHOR, 1)
    shown: list[object] = [
        Scope(CANARY.encode(), (message,), names={AN_AUTHOR: CANARY}),
        Rewrite(CANARY, CANARY),
        Forget(CANARY.encode()),
        StatusRequest(CANARY.encode()),
        SummaryLine(CANARY, "topic", (message,)),
        Reply(CANARY, "agree"),
        Rewritten(CANARY),
        Evidence(CANARY.encode(), CANARY.encode()),
        Result(kind=Summary((SummaryLine(CANARY, "topic", (message,)),), Coverage(1, 0, 0)), salt=CANARY.encode()),
        Cancel(ID),
        EvidenceRequest(bytes(NONCE)),
    ]
    assert CANARY not in repr(shown)
