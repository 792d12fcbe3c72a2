"""Which bytes a request asks for (RFC 9110, section 14). Decided here, without I/O."""

import re
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from ``first`` to ``last``."""

    first: int
    last: int


class Unsatisfiable(Exception):
    """No byte of what is there was asked for."""


def range_of(header: str | None, length: int) -> ByteRange | None:
    """The range that ``header`` asks for; ``None`` for all of it.

    Several ranges, another unit or nonsense are ignored, as section 14.2 permits.

    Raises:
        Unsatisfiable: a range behind the end, or of no bytes.
    """
    found = _ONE_RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first == "":
        size = min(int(last), length)
        if size == 0:
            raise Unsatisfiable
        return ByteRange(length - size, length - 1)
    if last != "" and int(last) < int(first):
        return None  # not a valid range, so as if there were none
    if int(first) >= length:
        raise Unsatisfiable
    return ByteRange(int(first), min(int(last), length - 1) if last else length - 1)
