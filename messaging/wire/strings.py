"""Strings of protobuf that are not text: Python's parser gives bytes where UTF-8 is broken, instead of an error."""

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from messaging.wire.errors import MalformedField


def check_strings(message: Message) -> None:
    """Check that every string in ``message`` and in what it holds is text.

    Raises:
        MalformedField: one of them is not UTF-8.
    """
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            if not all(isinstance(each, str) for each in (value if field.is_repeated else [value])):
                raise MalformedField(field.name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for each in value if field.is_repeated else [value]:
                check_strings(each)
