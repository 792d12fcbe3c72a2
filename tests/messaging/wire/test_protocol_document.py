"""The document for clients in other languages names every word and every number of the assistant's wire."""

import re
from pathlib import Path

import pytest

from attestation.receipt import CONTENT_TYPE, EXTERNAL_AAD
from messaging.client.conversation import LEAVE_STEP, MAX_REVISION_STEP
from messaging.client.receiving import MAX_RECEIPTS
from messaging.wire.assistant import RefusalCode
from messaging.wire.consent import ConsentScope
from messaging.wire.limits import (
    ANSWER_BUCKETS,
    ATTACHMENT_SECRET,
    FRAME,
    FRAME_DATA,
    MAX_ATTACHMENT_KEY,
    MAX_ATTACHMENTS,
    MAX_AUTHORS,
    MAX_BOTS,
    MAX_CONSENT,
    MAX_CONTENT_TYPE,
    MAX_CONVERSATION_MEMBERS,
    MAX_DEADLINE,
    MAX_DRAFT,
    MAX_EMOJI,
    MAX_MENTIONS,
    MAX_PROFILE_ABOUT,
    MAX_PROFILE_NAME,
    MAX_QUOTED,
    MAX_REQUEST,
    MAX_SCOPE,
    MAX_TIMESTAMP,
    REQUEST_BUCKETS,
)
from messaging.wire.protobuf import assistant_pb2, content_pb2

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")
SECTIONS = DOCUMENT[DOCUMENT.index("## 2. Content") : DOCUMENT.index("### The evidence document")]
KINDS = [
    message.DESCRIPTOR.oneofs_by_name["kind"] for message in (assistant_pb2.AssistantRequest, assistant_pb2.Result)
]


@pytest.mark.parametrize("word", [*RefusalCode, *ConsentScope, *(kind.name for one in KINDS for kind in one.fields)])
def test_it_names_every_word(word: str) -> None:
    assert f"`{word}`" in SECTIONS


@pytest.mark.parametrize("field", [field.name for field in content_pb2.Content.DESCRIPTOR.fields])
def test_it_names_every_kind_of_content(field: str) -> None:
    assert re.search(rf"`{field}[.`]", SECTIONS)


@pytest.mark.parametrize(
    "field",
    [
        field.name
        for message in (content_pb2.DataMessage, content_pb2.ConversationUpdate, content_pb2.ProfileUpdate)
        for field in message.DESCRIPTOR.fields
        if field.name != "profile_key"
    ],
)
def test_it_names_every_field_of_what_people_say(field: str) -> None:
    assert re.search(rf"[`{{, ]{field}[.`,}}]", SECTIONS)


@pytest.mark.parametrize(
    "number",
    [
        ATTACHMENT_SECRET,
        MAX_ATTACHMENT_KEY,
        MAX_ATTACHMENTS,
        MAX_BOTS,
        MAX_CONTENT_TYPE,
        MAX_EMOJI,
        MAX_MENTIONS,
        MAX_PROFILE_ABOUT,
        MAX_PROFILE_NAME,
        MAX_QUOTED,
        MAX_RECEIPTS,
        MAX_REVISION_STEP,
        LEAVE_STEP,
        *REQUEST_BUCKETS,
        FRAME,
        FRAME_DATA,
        ANSWER_BUCKETS[-1],
        MAX_AUTHORS,
        MAX_CONSENT,
        MAX_CONVERSATION_MEMBERS,
        MAX_DEADLINE,
        MAX_DRAFT,
        MAX_REQUEST,
        MAX_SCOPE,
        MAX_TIMESTAMP,
    ],
)
def test_it_names_every_limit(number: int) -> None:
    assert re.search(rf"(?<![\d,]){number:,}(?![\d,]\d)", SECTIONS)


def test_it_names_the_labels_of_what_is_hashed_and_signed() -> None:
    for label in ("consent", "conversation", "member", "consent set", "rendezvous", "distribution"):
        assert f'"subrosa {label} v1" ‖' in SECTIONS.replace("\n", " ")
    assert EXTERNAL_AAD.decode() in SECTIONS
    assert CONTENT_TYPE in SECTIONS
