"""What people say keeps within its limits, names only accounts, and reads the same in versions that know less or more."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given

from messaging.wire.data import (
    AttachmentPointer,
    DataMessage,
    Deletion,
    Edit,
    Mention,
    Quote,
    Reaction,
    Said,
    edit_from_protobuf,
    edit_to_protobuf,
    said_from_protobuf,
    said_to_protobuf,
)
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import IdentityKind, MessageId, ServiceId
from messaging.wire.limits import (
    ATTACHMENT_SECRET,
    DIGEST,
    MASTER_KEY,
    MAX_ATTACHMENT_KEY,
    MAX_ATTACHMENTS,
    MAX_CONTENT_TYPE,
    MAX_EMOJI,
    MAX_EXPIRES_IN,
    MAX_FILE_NAME,
    MAX_MENTIONS,
    MAX_QUOTED,
    MAX_TIMESTAMP,
)
from messaging.wire.protobuf import content_pb2 as pb
from tests.messaging.wire.strategies import broken, said

ANN = ServiceId(UUID(int=1))
TARGET = MessageId(ANN, 7)
KEY = bytes(MASTER_KEY)
POINTER = AttachmentPointer(3, "k", bytes(ATTACHMENT_SECRET), bytes(DIGEST), 5, "text/plain", "note.txt")
MESSAGE = DataMessage("hello", 1, KEY)


def encoded(each: Said) -> bytes:
    return (edit_to_protobuf(each) if isinstance(each, Edit) else said_to_protobuf(each)).SerializeToString()


@given(each=said)
def test_what_is_read_is_what_was_said(each: Said) -> None:
    if isinstance(each, Edit):
        assert edit_from_protobuf(edit_to_protobuf(each)) == each
    else:
        assert said_from_protobuf(said_to_protobuf(each)) == each


@given(data=broken(said.map(encoded)))
def test_other_bytes_are_something_said_or_nothing_or_malformed(data: bytes) -> None:
    with suppress(DecodeError, MalformedField):
        said_from_protobuf(pb.DataMessage.FromString(data))
    with suppress(DecodeError, MalformedField):
        edit_from_protobuf(pb.EditMessage.FromString(data))


# --- limits ---

LIMITED: dict[str, tuple[Callable[[int], Said], int]] = {
    "attachments": (lambda count: replace(MESSAGE, attachments=(POINTER,) * count), MAX_ATTACHMENTS),
    "mentions": (lambda count: replace(MESSAGE, mentions=(Mention(0, 1, ANN),) * count), MAX_MENTIONS),
    "quoted text": (lambda size: replace(MESSAGE, quote=Quote(TARGET, "é" * size)), MAX_QUOTED),
    "time of what is quoted": (lambda at: replace(MESSAGE, quote=Quote(MessageId(ANN, at))), MAX_TIMESTAMP),
    "key of a file": (lambda size: _file(key="k" * size), MAX_ATTACHMENT_KEY),
    "type of a file": (lambda size: _file(content_type="t" * size), MAX_CONTENT_TYPE),
    "name of a file": (lambda size: _file(file_name="é" * size), MAX_FILE_NAME),
    "emoji": (lambda size: Reaction("é" * size, TARGET, 1), MAX_EMOJI),
    "time of a reaction": (lambda at: Reaction("+", TARGET, at), MAX_TIMESTAMP),
    "time of its target": (lambda at: Reaction("+", MessageId(ANN, at), 1), MAX_TIMESTAMP),
    "time of a deletion": (lambda at: Deletion(1, at), MAX_TIMESTAMP),
    "time of what is deleted": (lambda at: Deletion(at, 1), MAX_TIMESTAMP),
    "time of an edit": (lambda at: Edit(1, replace(MESSAGE, timestamp=at)), MAX_TIMESTAMP),
    "time of what is edited": (lambda at: Edit(at, MESSAGE), MAX_TIMESTAMP),
    "attachments of an edit": (
        lambda count: Edit(1, replace(MESSAGE, attachments=(POINTER,) * count)),
        MAX_ATTACHMENTS,
    ),
}


def _file(**fields: str) -> DataMessage:
    return replace(MESSAGE, attachments=(replace(POINTER, **fields),))  # type: ignore[arg-type]


def read(each: Said) -> Said | None:
    if isinstance(each, Edit):
        return edit_from_protobuf(edit_to_protobuf(each))
    return said_from_protobuf(said_to_protobuf(each))


@pytest.mark.parametrize("field", LIMITED)
def test_a_limit_is_kept_and_not_passed(field: str) -> None:
    make, limit = LIMITED[field]
    assert read(make(limit)) == make(limit)
    with pytest.raises(MalformedField):
        read(make(limit + 1))


@pytest.mark.parametrize(("field", "size"), [("secret", ATTACHMENT_SECRET), ("digest", DIGEST)])
def test_a_file_without_its_whole_key_or_digest_is_malformed(field: str, size: int) -> None:
    for wrong in (0, size - 1, size + 1):
        with pytest.raises(MalformedField):
            read(replace(MESSAGE, attachments=(replace(POINTER, **{field: bytes(wrong)}),)))  # type: ignore[arg-type]


def test_the_longest_time_that_the_wire_holds_is_the_longest_until_a_message_goes() -> None:
    longest = replace(MESSAGE, expires_in=MAX_EXPIRES_IN)
    assert read(longest) == longest
    with pytest.raises(ValueError, match="Value out of range"):
        read(replace(MESSAGE, expires_in=MAX_EXPIRES_IN + 1))


def test_a_reaction_is_an_emoji_unless_it_takes_one_back() -> None:
    nothing = Reaction("", TARGET, 1, KEY)
    with pytest.raises(MalformedField):
        read(nothing)
    assert read(replace(nothing, remove=True)) == replace(nothing, remove=True)


def test_people_are_named_by_their_accounts_and_not_by_their_numbers() -> None:
    number = ServiceId(ANN.uuid, IdentityKind.PNI)
    for each in (
        replace(MESSAGE, quote=Quote(MessageId(number, 7))),
        replace(MESSAGE, mentions=(Mention(0, 1, number),)),
        Reaction("+", MessageId(number, 7), 1),
    ):
        with pytest.raises(MalformedField):
            read(each)


@pytest.mark.parametrize("wrong", ["", "somebody", str(ANN).replace("-", "")])
def test_a_name_that_is_no_service_id_is_malformed(wrong: str) -> None:
    reaction = pb.DataMessage.Reaction(emoji="+", target_author_aci=wrong, target_sent_timestamp=7)
    with pytest.raises(MalformedField):
        said_from_protobuf(pb.DataMessage(timestamp=1, reaction=reaction))


# --- versions that know less or more ---


def test_a_message_of_an_earlier_version_reads_as_before() -> None:
    earlier = pb.DataMessage(body="hello", timestamp=1, group_v2=pb.GroupContextV2(master_key=KEY))
    assert said_from_protobuf(earlier) == MESSAGE
    assert earlier.SerializeToString() == encoded(MESSAGE)


def test_what_a_newer_version_says_besides_is_passed_over() -> None:
    newer = said_to_protobuf(MESSAGE).SerializeToString() + b"\xfa\x7f\x01x"  # field 2047
    assert said_from_protobuf(pb.DataMessage.FromString(newer)) == MESSAGE


def test_a_part_of_the_text_that_names_nobody_is_for_the_eye() -> None:
    data = said_to_protobuf(replace(MESSAGE, mentions=(Mention(0, 1, ANN),)))
    data.body_ranges.extend([pb.BodyRange(start=1, length=2)] * MAX_MENTIONS)
    assert said_from_protobuf(data) == replace(MESSAGE, mentions=(Mention(0, 1, ANN),))


def test_a_file_needs_no_text() -> None:
    data = said_to_protobuf(replace(MESSAGE, body="", attachments=(POINTER,)))
    data.ClearField("body")
    assert said_from_protobuf(data) == replace(MESSAGE, body="", attachments=(POINTER,))


def test_who_reacts_or_deletes_says_nothing_else() -> None:
    for each in (Reaction("+", TARGET, 1, KEY), Deletion(7, 1, KEY)):
        data = said_to_protobuf(each)
        data.body = "a text that an older version would show"
        assert said_from_protobuf(data) == each
