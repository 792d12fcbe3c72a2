"""Content comes back from its padded bytes, and shows its length only in steps."""

import zlib
from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis.strategies import (
    binary,
    booleans,
    builds,
    dictionaries,
    integers,
    just,
    lists,
    none,
    sampled_from,
    text,
    uuids,
)

from messaging.wire.content import (
    AssistantAnswer,
    AssistantRequest,
    ConsentUpdate,
    Content,
    ConversationUpdate,
    Coverage,
    DataMessage,
    DeliveryReceipt,
    Evidence,
    EvidenceRequest,
    MessageId,
    Refusal,
    Replies,
    Scope,
    SuggestReplies,
    Summarize,
    Summary,
    SummaryLine,
    Unsupported,
    decode_content,
    encode_content,
    pad,
    unpad,
)
from messaging.wire.errors import MalformedContent
from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.limits import CONTENT_BLOCK, MASTER_KEY, MAX_CONTENT, MAX_EVIDENCE, NONCE, REQUEST_ID
from messaging.wire.protobuf import content_pb2 as pb

service_ids = builds(ServiceId, uuids(), sampled_from(IdentityKind))
times, counts = integers(0, 2**63), integers(0, 2**32 - 1)
keys = binary(min_size=MASTER_KEY, max_size=MASTER_KEY)
texts = text(max_size=20)
message_ids = lists(builds(MessageId, service_ids, times), max_size=3).map(tuple)
cited = lists(builds(MessageId, service_ids, times), min_size=1, max_size=3).map(tuple)
scopes = builds(Scope, keys, message_ids, counts, dictionaries(service_ids, texts, max_size=3))
coverages = builds(Coverage, counts, counts, counts)
lines = lists(builds(SummaryLine, texts, texts, cited), max_size=3).map(tuple)
requests = (
    builds(EvidenceRequest, binary(min_size=NONCE, max_size=NONCE))
    | builds(Summarize, scopes)
    | builds(SuggestReplies, scopes, counts)
)
answers = (
    builds(Evidence, binary(max_size=20))
    | builds(Summary, lines, coverages, texts, binary(max_size=32))
    | builds(Replies, lists(texts, max_size=3).map(tuple), coverages, texts, binary(max_size=32))
    | builds(Refusal, texts)
)
request_ids = binary(min_size=REQUEST_ID, max_size=REQUEST_ID)
contents = (
    builds(DataMessage, texts, times, none() | keys)
    | builds(DeliveryReceipt, lists(times, max_size=3).map(tuple))
    | builds(ConversationUpdate, keys, texts, lists(service_ids, max_size=3).map(tuple))
    | builds(ConsentUpdate, keys, service_ids, booleans(), times)
    | builds(AssistantRequest, request_ids, requests)
    | builds(AssistantAnswer, request_ids, answers)
)


@given(content=contents)
def test_decode_undoes_encode(content: Content) -> None:
    assert decode_content(encode_content(content)) == content


@given(data=binary(max_size=300))
def test_padding_comes_off_and_hides_the_length(data: bytes) -> None:
    padded = pad(data)
    assert unpad(padded) == data
    assert (len(padded) + 1) % CONTENT_BLOCK == 0


@given(data=binary(max_size=60) | just(bytes(79)))
def test_other_bytes_are_content_or_malformed(data: bytes) -> None:
    with suppress(MalformedContent):
        assert decode_content(data) is not None


@pytest.mark.parametrize(
    "message",
    [
        pb.Content(consent_update=pb.ConsentUpdate(master_key=b"short")),
        pb.Content(assistant_request=pb.AssistantRequest(request_id=b"short")),
        pb.Content(
            assistant_answer=pb.AssistantAnswer(
                request_id=bytes(REQUEST_ID),
                summary=pb.AssistantAnswer.Summary(lines=[pb.AssistantAnswer.Line(text="x")]),
            )
        ),
    ],
    ids=["master key", "request id", "a line without citation"],
)
def test_a_field_without_its_shape_is_malformed(message: pb.Content) -> None:
    with pytest.raises(MalformedContent):
        decode_content(pad(message.SerializeToString()))


def test_content_of_a_newer_version_is_unsupported_and_nobody_sends_it() -> None:
    assert decode_content(pad(b"")) == Unsupported()
    with pytest.raises(ValueError, match="unsupported"):
        encode_content(Unsupported())


def test_what_people_wrote_has_no_repr() -> None:
    line = SummaryLine("CANARY", "topic", (MessageId(ServiceId(UUID(int=1)), 1),))
    assert "CANARY" not in repr(DataMessage("CANARY", 1)) + repr(line)


def test_evidence_of_a_machine_with_many_devices_fits_into_one_message() -> None:
    document = b"".join(bytes(range(256)) for _ in range(MAX_EVIDENCE // 256))
    answer = AssistantAnswer(bytes(REQUEST_ID), Evidence(document))
    encoded = encode_content(answer)
    assert len(encoded) < MAX_CONTENT
    assert decode_content(encoded) == answer


@pytest.mark.parametrize(
    "deflated",
    [zlib.compress(bytes(MAX_EVIDENCE + 1)), b"no zlib", zlib.compress(b"{}")[:-1], zlib.compress(b"{}") + b"!", b""],
)
def test_evidence_that_does_not_inflate_to_one_document_of_its_size_is_malformed(deflated: bytes) -> None:
    content = pb.Content()
    content.assistant_answer.request_id = bytes(REQUEST_ID)
    content.assistant_answer.evidence.deflated = deflated
    with pytest.raises(MalformedContent):
        decode_content(pad(content.SerializeToString()))
