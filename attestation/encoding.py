"""The one canonical form of our JSON: a document that can be written in two ways can be hashed in two ways.

Members sorted by name, no white space, UTF-8 unescaped; bytes as padded standard base64. Reading writes the result again
and compares, which refuses unknown members, duplicate names, other spellings and trailing bytes in one step.
"""

import base64
import json
from collections.abc import Mapping

from attestation.errors import MalformedEvidence
from attestation.limits import MAX_CONTAINERS, MAX_MEMBERS


def encode(members: Mapping[str, object]) -> bytes:
    """``members`` in canonical form; values are strings, integers, lists and mappings of them."""
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: bytes, *, limit: int) -> dict[str, object]:
    """Read a JSON object of at most ``limit`` bytes; the caller builds its type, encodes that and compares with ``data``.

    Raises:
        MalformedEvidence: too large, or not a JSON object.
    """
    if len(data) > limit:
        raise MalformedEvidence("the document is too large")
    if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS or data.count(b",") > MAX_MEMBERS:
        raise MalformedEvidence("the document has too many members")  # each takes a hundred times its bytes in memory
    try:
        members = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedEvidence("the document is not JSON") from None
    if not isinstance(members, dict):
        raise MalformedEvidence("the document is not a JSON object")
    return members


def to_base64(data: bytes) -> str:
    """Padded standard base64."""
    return base64.b64encode(data).decode("ascii")


def from_base64(value: object) -> bytes:
    """Undo :func:`to_base64`, and nothing but what it wrote.

    Raises:
        MalformedEvidence: not a string of base64, or in another spelling.
    """
    if not isinstance(value, str):
        raise MalformedEvidence("a member that has to be base64 is not a string")
    try:
        data = base64.b64decode(value, validate=True)
    except ValueError:
        raise MalformedEvidence("a member is not base64") from None
    if to_base64(data) != value:
        raise MalformedEvidence("a member is not base64 in its one spelling")
    return data


def as_object(value: object) -> dict[str, object]:
    """``value`` if it is a JSON object.

    Raises:
        MalformedEvidence: it is something else.
    """
    if not isinstance(value, dict):
        raise MalformedEvidence("a member that has to be an object is not one")
    return value


def as_list(value: object, *, limit: int) -> list[object]:
    """``value`` if it is a JSON array of at most ``limit`` items.

    Raises:
        MalformedEvidence: it is something else, or longer.
    """
    if not isinstance(value, list) or len(value) > limit:
        raise MalformedEvidence("a member that has to be a short list is not one")
    return value


def as_name(value: object, *, limit: int) -> str:
    """``value`` if it is printable text of 1 to ``limit`` characters.

    Raises:
        MalformedEvidence: it is not.
    """
    if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
        raise MalformedEvidence("a name is not short printable text")
    return value
