"""The forms that answers have to have: X.509's signed objects in DER and PEM, hexadecimal, and strict JSON. All pure.

Form is not truth: nothing here checks a signature. It keeps web pages, halves of files and double meanings out of
caches and bundles.

Intel signs the text of a JSON object and sends it inside another. To write the object again would change the text on
the day that Intel writes a number or a space differently, so that the text itself is cut out. A name that occurs twice,
at any depth, would let two readers see two documents: such JSON is refused.
"""

import json
import re
from collections.abc import Iterator
from typing import NoReturn, TypeVar

from cryptography.hazmat import asn1

from attestation.errors import MalformedCollateral
from attestation.parsing.certificate import Certificate, Signed, certificates_from_pem

T = TypeVar("T")

_SEQUENCE = b"\x30"
_HEX = re.compile(r"[0-9A-Fa-f]*")
_SPACE = re.compile(r"[ \t\n\r]*")


class NotInForm(ValueError):
    """The bytes are not what they have to be; the text says what that is."""


def signed_object(data: bytes) -> bytes:
    """``data``, if it is one certificate or revocation list in DER and nothing else.

    ``cryptography``'s own loader would say more, but warns of AMD's serial numbers, which are zero.

    Raises:
        NotInForm: it is something else.
    """
    try:
        signed = asn1.decode_der(Signed, data)
    except ValueError:
        raise NotInForm("it is not a signed object in DER") from None
    if signed.to_be_signed.tag_bytes != _SEQUENCE or signed.signature_algorithm.tag_bytes != _SEQUENCE:
        raise NotInForm("it is not a signed object in DER")
    return data


def from_pem(data: bytes) -> tuple[bytes, ...]:
    """The certificates of a PEM file (RFC 7468), in DER, in their order; only white space may stand around them.

    Raises:
        NotInForm: it is something else, or has none or more than ``MAX_CERTIFICATES``.
    """
    if data.endswith(b"\0"):
        raise NotInForm("there is a zero byte behind the certificates")
    try:
        return tuple(Certificate.parse(der).der for der in certificates_from_pem(data))
    except MalformedCollateral as error:
        raise NotInForm(str(error)) from None


def from_hex(text: object, length: int) -> bytes:
    """``length`` bytes, written as hexadecimal digits in either case.

    Raises:
        NotInForm: it is something else.
    """
    if not isinstance(text, str) or len(text) != 2 * length or not _HEX.fullmatch(text):
        raise NotInForm("it has no hexadecimal number of the right length where one has to be")
    return bytes.fromhex(text)


def strict_object(data: bytes) -> dict[str, object]:
    """Read a JSON object that has members.

    Raises:
        NotInForm: it is something else, is followed by something, or has a name twice.
    """
    return {name: value for name, (value, _) in cut_members(data).items()}


def cut_members(data: bytes) -> dict[str, tuple[object, str]]:
    """The members of a JSON object: each with its value, and with the exact text that the value was written as.

    Raises:
        NotInForm: it is something else, is followed by something, or has a name twice.
    """
    try:
        return _distinct(list(_members(data.decode())))
    except (ValueError, RecursionError):
        raise NotInForm("it is not one JSON object with distinct names") from None


def _members(text: str) -> Iterator[tuple[str, tuple[object, str]]]:
    at, mark = 0, "{"
    while mark:
        name, at = _DECODER.raw_decode(text, _after(text, at, mark))
        if not isinstance(name, str):
            raise NotInForm("a name is not a string")
        start = _after(text, at, ":")
        value, end = _DECODER.raw_decode(text, start)
        yield name, (value, text[start:end])
        at = _after(text, end, "")
        mark = "," if text.startswith(",", at) else ""
    if _after(text, at, "}") != len(text):
        raise NotInForm("something follows the object")


def _after(text: str, at: int, mark: str) -> int:
    """Where the text goes on after ``mark``, and after white space on both sides of it."""
    at = _skip(text, at)
    if not text.startswith(mark, at):
        raise NotInForm("a mark of the syntax is missing")
    return _skip(text, at + len(mark))


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _distinct(pairs: list[tuple[str, T]]) -> dict[str, T]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotInForm("a name occurs twice")
    return members


def _refuse(_constant: str) -> NoReturn:
    raise NotInForm("a number is none of JSON's")


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_refuse)
