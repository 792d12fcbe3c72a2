"""Fields of protobuf messages that have to have one size, or to be within a bound."""

from messaging.wire.errors import MalformedField
from messaging.wire.limits import MAX_TIMESTAMP


def sized(data: bytes, size: int, field_name: str) -> bytes:
    """``data`` if it has ``size`` bytes.

    Raises:
        MalformedField: it has not.
    """
    if len(data) != size:
        raise MalformedField(field_name)
    return data


def dated(timestamp: int) -> int:
    """``timestamp`` (milliseconds since 1970) if it is a date.

    Raises:
        MalformedField: it is beyond the last one.
    """
    if timestamp > MAX_TIMESTAMP:
        raise MalformedField("timestamp")
    return timestamp
