"""The fields of one protobuf message, read strictly and written canonically.

A reader accepts only what a careful writer produces: shortest varints, known wire types, each field once, nothing left
over. What it accepts, every other protobuf decoder reads the same way, which matters where a signature covers the bytes.
Which fields a message has is for its parser to say.

Source: the protobuf documentation, "Encoding".
"""

from typing import Final, TypeVar

from signal_protocol.public.errors import MalformedMessage

T = TypeVar("T")

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5
_FIXED_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}

_MAX_UINT32: Final = 2**32 - 1
_MAX_UINT64: Final = 2**64 - 1
_MAX_VARINT_BYTES: Final = 10


class FieldReader:
    """The fields of one serialized message. Every method raises ``MalformedMessage`` where the bytes break the format.

    A getter returns ``None`` for an absent field. Each field is taken once; ``refuse_others`` then says that no more
    may be there. A parser that does not call it ignores fields of later versions.
    """

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, tuple[int, bytes | int]] = {}
        offset = 0
        while offset < len(data):
            tag, offset = read_varint(data, offset)
            number, wire_type = tag >> 3, tag & 7
            if number == 0 or tag > _MAX_UINT32:
                raise MalformedMessage("a field number is from 1 to 2^29 - 1")
            if number in self._fields:
                raise MalformedMessage("a field stands once")
            value, offset = _read_value(data, offset, wire_type)
            self._fields[number] = wire_type, value

    def uint32(self, number: int) -> int | None:
        """Take an unsigned number below 2^32."""
        value = self._take(number, _VARINT)
        if value is None:
            return None
        if not isinstance(value, int) or value > _MAX_UINT32:
            raise MalformedMessage("a uint32 is below 2^32")
        return value

    def fixed64(self, number: int) -> int | None:
        """Take an unsigned number of eight bytes, little-endian."""
        value = self._take(number, _FIXED64)
        return int.from_bytes(value, "little") if isinstance(value, bytes) else None

    def octets(self, number: int) -> bytes | None:
        """Take a field of bytes, or a nested message."""
        value = self._take(number, _BYTES)
        return value if isinstance(value, bytes) else None

    def text(self, number: int) -> str | None:
        """Take a string."""
        value = self.octets(number)
        try:
            return None if value is None else value.decode()
        except UnicodeDecodeError:
            raise MalformedMessage("a string is UTF-8") from None

    def refuse_others(self) -> None:
        """Raise if a field was not taken."""
        if self._fields:
            raise MalformedMessage("the message has no fields but its own")

    def _take(self, number: int, wire_type: int) -> bytes | int | None:
        if number not in self._fields:
            return None
        found, value = self._fields.pop(number)
        if found != wire_type:
            raise MalformedMessage("a field has the wire type of its kind")
        return value


def required(value: T | None) -> T:
    """Return ``value``; raise ``MalformedMessage`` if the field was absent."""
    if value is None:
        raise MalformedMessage("a required field is present")
    return value


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Read a varint at ``offset``; returns it and the offset behind it.

    Raises:
        MalformedMessage: cut short, above 2^64 - 1, or longer than it needs to be.
    """
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        if offset >= len(data):
            break
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if (byte == 0 and place > 0) or value > _MAX_UINT64:
                break
            return value, offset
    raise MalformedMessage("a varint is complete, shortest and below 2^64")


def _read_value(data: bytes, offset: int, wire_type: int) -> tuple[bytes | int, int]:
    if wire_type == _VARINT:
        return read_varint(data, offset)
    if wire_type == _BYTES:
        size, offset = read_varint(data, offset)
    elif wire_type in _FIXED_SIZES:
        size = _FIXED_SIZES[wire_type]
    else:
        raise MalformedMessage("a field has a wire type in use")
    if size > len(data) - offset:
        raise MalformedMessage("a field ends within the message")
    return data[offset : offset + size], offset + size


def varint(value: int) -> bytes:
    """``value`` as a varint."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def uint32_field(number: int, value: int) -> bytes:
    """A field that holds a number."""
    return varint(number << 3 | _VARINT) + varint(value)


def octets_field(number: int, value: bytes) -> bytes:
    """A field that holds bytes, a string or a nested message."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value


def fixed64_field(number: int, value: int) -> bytes:
    """A field that holds a number of eight bytes."""
    return varint(number << 3 | _FIXED64) + value.to_bytes(8, "little")
