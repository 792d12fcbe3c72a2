"""What holds for all messages that travel as protobuf."""

from collections.abc import Iterable, Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from messaging.wire.protobuf import assistant_pb2, content_pb2, envelope_pb2, provisioning_pb2, websocket_pb2

FILES = (assistant_pb2, content_pb2, envelope_pb2, provisioning_pb2, websocket_pb2)


def all_of(kinds: Iterable[Descriptor]) -> Iterator[Descriptor]:
    for kind in kinds:
        yield kind
        yield from all_of(kind.nested_types)


STRINGS = [
    field
    for file in FILES
    for kind in all_of(file.DESCRIPTOR.message_types_by_name.values())
    for field in kind.fields
    if field.type == FieldDescriptor.TYPE_STRING
]


def a_message_with(field: FieldDescriptor, data: bytes) -> bytes:
    """The encoding of a message of which this field is all: a tag, a length, the data."""
    tag = field.number << 3 | 2
    varint = bytes([tag]) if tag < 0x80 else bytes([tag & 0x7F | 0x80, tag >> 7])
    return varint + bytes([len(data)]) + data


@pytest.mark.parametrize("field", STRINGS, ids=lambda field: field.full_name.removeprefix("subrosa.wire."))
def test_a_string_is_utf_8_or_the_message_is_refused(field: FieldDescriptor) -> None:
    assert field.containing_type is not None
    kind = GetMessageClass(field.containing_type)
    read = getattr(kind.FromString(a_message_with(field, "é".encode())), field.name)
    assert (read[0] if field.is_repeated else read) == "é"
    for data in (
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xc0\x80",
    ):  # no byte of it, cut off, a surrogate, too long a form
        with pytest.raises(DecodeError):
            kind.FromString(a_message_with(field, data))
