"""Changes to bytes that keep their form: of JSON one value, of DER one element, of anything a slice.

Bytes that are changed blindly fail at the first bracket or length. These parse again, mostly, and so reach what stands
behind. ``Edit`` is how the bytes of a leaf are changed: by libFuzzer, or by :func:`edited`.
"""

import base64
import binascii
import copy
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

Edit = Callable[[bytes], bytes]

_VALUES: Final[tuple[object, ...]] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63,
    2**64,
    1.5,
    -0.0,
    float("inf"),
    "",
    "0",
    "é\ud800",
    [],
    {},
    [[]],
    {"": 0},
)
_CONTENTS: Final = (
    b"",
    b"\0",
    b"\xff",
    b"\x7f" * 40,
    b"\xff" * 40,
    b"\x80" + bytes(20),
    b"00010101000000Z",
    b"99991231235959Z",
)
_CONSTRUCTED: Final = 0x20
_BIT_STRING, _OCTET_STRING = 0x03, 0x04
_MAX_DEPTH: Final = 40
_MAX_SLICE: Final = 64  # bytes


def mutated(data: bytes, random: Random, edit: Edit) -> bytes:
    """``data`` with one change, in its own form more often than not."""
    if random.random() < 0.3:  # how often the form may break
        return edit(data)
    for change in (_json, _der):
        changed = change(data, random, edit)
        if changed is not None:
            return changed
    return edit(data)


def edited(data: bytes, random: Random) -> bytes:
    """``data`` with one slice flipped, put in, left out, repeated or moved."""
    start = random.randrange(len(data) + 1)
    end = min(len(data), start + random.randrange(1, _MAX_SLICE))
    head, cut, tail = data[:start], data[start:end], data[end:]
    to = random.randrange(len(data) + 1)
    match random.randrange(6):
        case 0:
            return head + bytes(byte ^ 1 << random.randrange(8) for byte in cut[:1]) + cut[1:] + tail
        case 1:
            return head + bytes(random.randrange(256) for _ in range(random.randrange(1, 9))) + cut + tail
        case 2:
            return head + tail
        case 3:
            return head + cut * random.randrange(2, 5) + tail
        case 4:
            return data[:to] + cut + data[to:]
        case _:
            return head + random.choice(_CONTENTS) + tail[len(cut) :]


# --- JSON ------------------------------------------------------------------------------------------------------------------


def _json(data: bytes, random: Random, edit: Edit) -> bytes | None:
    """Canonical JSON again, with its newline if there was one; ``None`` if ``data`` is no JSON container."""
    try:
        value = json.loads(data)
        places = list(_places(value))
    except (ValueError, RecursionError):
        return None
    if not places:
        return None
    container, key = random.choice(places)
    match random.randrange(5):
        case 0:
            container[key] = random.choice(_VALUES)
        case 1:
            del container[key]
        case 2:
            other, name = random.choice(places)
            container[key] = copy.deepcopy(
                other.get(name) if isinstance(other, dict) else other[name % len(other)] if other else None
            )
        case 3 if isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        case _:
            container[key] = _edited_value(container[key], edit)
    try:
        text = json.dumps(value, sort_keys=random.random() < 0.9, separators=(",", ":"), ensure_ascii=False)
        return text.encode() + (b"\n" if data.endswith(b"\n") else b"")
    except (ValueError, TypeError, RecursionError):  # half a character, names of two types, or too deep
        return None


def _places(value: object, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    if depth > _MAX_DEPTH or not isinstance(value, dict | list):
        return
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        yield from _places(value[key], depth + 1)


def _edited_value(value: object, edit: Edit) -> object:
    if not isinstance(value, str):
        try:
            return json.loads(edit(json.dumps(value).encode()))
        except (ValueError, RecursionError):
            return value
    for decode, encode in ((bytes.fromhex, bytes.hex), (_from_base64, _to_base64)):
        try:
            return encode(edit(decode(value)))
        except (ValueError, binascii.Error):
            continue
    return edit(value.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- DER -------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Element:
    """A DER element. What is DER inside, of strings too, counts as ``elements``, behind ``content``."""

    tag: int
    content: bytes
    elements: list["Element"] = field(default_factory=list)

    def encode(self) -> bytes:
        """Tag, shortest length, content."""
        content = self.content + encoded(self.elements)
        size = len(content)
        octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
        return bytes([self.tag, *((size,) if size < 0x80 else (0x80 | len(octets), *octets))]) + content


def encoded(row: list[Element]) -> bytes:
    """The bytes of a row of elements."""
    return b"".join(element.encode() for element in row)


def exchanged(data: bytes, path: Iterable[int], content: bytes) -> bytes:
    """DER with other content in the element that ``path`` leads to."""
    top = element = Element(0, b"", elements(data))
    for index in path:
        element = element.elements[index]
    element.content, element.elements = content, []
    return encoded(top.elements)


def _der(data: bytes, random: Random, edit: Edit) -> bytes | None:
    """DER again; ``None`` if ``data`` is none."""
    top = Element(0, b"", elements(data))
    places = list(_positions(top))
    if not places:
        return None
    (parent, index), (other, at) = random.choice(places), random.choice(places)
    element, copied = parent.elements[index], copy.deepcopy(other.elements[at])
    match random.randrange(6):
        case 0:
            element.tag = random.choice((copied.tag, random.randrange(256)))
        case 1:
            del parent.elements[index]
        case 2:
            parent.elements.insert(index, copied)
        case 3:
            parent.elements[index] = copied
        case 4:
            parent.elements[index] = Element(element.tag, random.choice(_CONTENTS))
        case _:
            parent.elements[index] = Element(element.tag, edit(element.content + encoded(element.elements)))
    return encoded(top.elements)


def elements(data: bytes, depth: int = 0) -> list[Element]:
    """The DER elements in ``data``, which are all of it, or none."""
    found, at = [], 0
    while at + 1 < len(data) and depth < _MAX_DEPTH:
        tag, size, start = data[at], data[at + 1], at + 2
        if size > 0x80:
            start, octets = start + size - 0x80, data[start : start + size - 0x80]
            size = int.from_bytes(octets, "big")
        found.append(_element(tag, data[start : start + size], depth))
        at = start + size
    return found if encoded(found) == data else []


def _element(tag: int, content: bytes, depth: int) -> Element:
    lead = 1 if tag == _BIT_STRING else 0
    inside = tag & _CONSTRUCTED or tag in (_BIT_STRING, _OCTET_STRING)
    found = elements(content[lead:], depth + 1) if inside else []
    return Element(tag, content[:lead] if found else content, found)


def _positions(parent: Element) -> Iterator[tuple[Element, int]]:
    for index, element in enumerate(parent.elements):
        yield parent, index
        yield from _positions(element)
