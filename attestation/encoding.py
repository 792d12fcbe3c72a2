"""The one canonical form of our JSON: a document that can be written in two ways can be hashed in two ways.

Members sorted by name, no white space, UTF-8 unescaped; bytes as padded standard base64. Reading writes the result again
and compares, which refuses unknown members, duplicate names, other spellings and trailing bytes in one step.
"""

import base64
import binascii
import json
from collections.abc import Mapping

from attestation.errors import MalformedEvidence

MAX_DOCUMENT = 64 * 1024  # bytes of one evidence document, before anything is parsed


def encode(members: Mapping[str, object]) -> bytes:
    """``members`` in canonical form; values are strings, integers, lists and mappings of them."""
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: bytes) -> dict[str, object]:
    """Read a JSON object; the caller builds its type from it, encodes that and compares with ``data``.

    Raises:
        MalformedEvidence: too large, or not a JSON object.
    """
    if len(data) > MAX_DOCUMENT:
        raise MalformedEvidence("the document is too large")
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
    """Undo :func:`to_base64`.

    Raises:
        MalformedEvidence: not a string of base64.
    """
    if not isinstance(value, str):
        raise MalformedEvidence("a member that has to be base64 is not a string")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedEvidence("a member is not base64") from None
