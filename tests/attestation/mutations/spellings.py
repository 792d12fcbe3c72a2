"""The same document written otherwise, or nearly the same document: one member missing, unknown, twice, or of another form."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from attestation.encoding import encode
from tests.attestation.mutations.families import Case, family, on_azure, under_dstack, with_devices

DOCUMENTS = {"devices": with_devices, "Azure": on_azure, "dstack": under_dstack}
Path = tuple[str | int, ...]


def places(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every value in a JSON document, the document itself first; of long lists of bytes the first two items."""
    yield path, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    if isinstance(value, list):
        for index, inner in enumerate(value[:2]):
            yield from places(inner, (*path, index))


def with_place(document: Any, path: Path, value: object) -> Any:  # noqa: ANN401 -- JSON
    """A copy in which the value at ``path`` is another one."""
    if not path:
        return value
    first, *rest = path
    copy: Any = dict(document) if isinstance(document, dict) else list(document)
    copy[first] = with_place(document[first], tuple(rest), value)
    return copy


def other_values(value: object) -> Iterator[tuple[str, object]]:
    """What could stand where ``value`` stands."""
    others: tuple[object, ...] = (None, True, False, 0, 1, -1, 2, 1 << 70, 1.5, "", "\0", [], {}, [[]], {"": None})
    for other in others:
        yield repr(other), other
    match value:
        case str():
            yield from _other_texts(value)
        case dict():
            yield "with an unknown member", {**value, "unknown": 1}
            yield "with an empty member", {**value, "": ""}
            yield "with a member behind all", {**value, "zzz": None}
            for name in value:
                yield f"without {name}", {key: inner for key, inner in value.items() if key != name}
                yield f"with {name} in capitals", {key.upper() if key == name else key: value[key] for key in value}
        case list():
            yield "without its last item", value[:-1]
            yield "with its last item twice", [*value, *value[-1:]]
            yield "with nothing in it", [*value, None]
            yield "as an object", {str(index): inner for index, inner in enumerate(value)}


def _other_texts(text: str) -> Iterator[tuple[str, object]]:
    yield "in a list", [text]
    yield "in an object", {"value": text}
    yield "in capitals", text.upper()
    yield "with small letters for capitals", text.swapcase()
    yield "with a space", text + " "
    yield "with a space in front", " " + text
    yield "with a newline", text + "\n"
    yield "with a line break inside", text[:4] + "\r\n" + text[4:]
    yield "doubled", text * 2
    yield "without its end", text[:-1]
    yield "with padding", text + "="
    yield "with more padding", text + "===="
    yield "for addresses", text.replace("+", "-").replace("/", "_")
    yield "with a letter of another width", text[:-2] + "\uff21="
    yield "with half a character", text + "\ud800"
    if text.endswith("="):
        yield "without padding", text.rstrip("=")
        yield "with bits behind its end", _with_spare_bits(text)


def _with_spare_bits(text: str) -> str:
    """Base64 whose last letter has bits that decode to nothing: another spelling of the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = text.rstrip("=")
    return body[:-1] + alphabet[alphabet.index(body[-1]) ^ 1] + text[len(body) :]


# What ``HARMLESS`` lists: an event log may be missing, and a certificate beside a SEV-SNP report come twice.
_ALLOWED = {(("cpu",), "without event_log"), (("cpu", "certificates"), "with its last item twice")}


@family
def other_members_of_the_document() -> Iterator[Case]:
    """One value is another one; all else is canonical, as far as that is possible."""
    for name, make in DOCUMENTS.items():
        original = make().document
        document = json.loads(original)
        for path, value in places(document):
            for label, other in other_values(value):
                changed = _written(with_place(document, path, other))
                if changed != original and (path, label) not in _ALLOWED:
                    place = ".".join(map(str, path))
                    yield f"{name}: {place} {label}", partial(replace, make(), document=changed)


def _written(value: object) -> bytes:
    try:
        return encode(value)  # type: ignore[arg-type]
    except UnicodeEncodeError:  # half a character has no other form than its escape
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def structure(text: bytes) -> Iterator[int]:
    """The positions of a document's own punctuation, outside of strings."""
    inside = False
    for at, byte in enumerate(text):  # no string here has an escape
        if byte == ord('"'):
            inside = not inside
        elif not inside:
            yield at


NUMBERS = ("2.0", "2e0", "20E-1", "02", "+2", "0x2", '"2"', "1", "3", "-2", "2.5", "true", "null", "NaN", "Infinity")
LONG_NUMBERS = ("9" * 5000, "1e400", "-0", "2         ")
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "UTF-16 without a mark": lambda text: text.decode().encode("utf-16-le"),
    "UTF-32": lambda text: text.decode().encode("utf-32"),
    "a newline at the end": lambda text: text + b"\n",
    "a zero at the end": lambda text: text + b"\0",
    "a comment": lambda text: text + b"//",
    "a comma": lambda text: text[:-1] + b",}",
    "two documents": lambda text: text + b"\n" + text,
    "in a list": lambda text: b"[" + text + b"]",
    "in a string": lambda text: json.dumps(text.decode()).encode(),
    "in single quotes": lambda text: text.replace(b'"', b"'"),
    "an overlong letter": lambda text: text.replace(b'"cpu"', b'"\xc1\xa3pu"'),
    "an invalid letter": lambda text: text.replace(b'"cpu"', b'"\xffcpu"'),
    "each solidus escaped": lambda text: text.replace(b"/", b"\\/"),
    "indented": lambda text: json.dumps(json.loads(text), indent=1).encode(),
    "nested without end": lambda _: b"[" * 100_000,
    "nothing": lambda _: b"",
    "an empty object": lambda _: b"{}",
    "null": lambda _: b"null",
}


@family
def other_spellings_of_the_document() -> Iterator[Case]:
    """White space, orders, names twice, escapes, forms of numbers, encodings: every value as it was."""
    for name, make in DOCUMENTS.items():
        text = make().document
        for label, changed in _spellings(text):
            yield f"{name}: {label}", partial(replace, make(), document=changed)


def _spellings(text: bytes) -> Iterator[tuple[str, bytes]]:
    for number, at in enumerate(list(structure(text))[:60]):
        space = (b" ", b"\n", b"\t", b"\r\n")[number % 4]
        yield f"{space!r} before byte {at}", text[:at] + space + text[at:]
    document = json.loads(text)
    for path, value in places(document):
        if isinstance(value, dict):
            turned = with_place(document, path, dict(reversed(value.items())))
            yield f"{path} in another order", json.dumps(turned, separators=(",", ":")).encode()
            for member in value:
                key = json.dumps(member).encode() + b":"
                again = json.dumps(value[member], separators=(",", ":")).encode()
                yield f"{path} {member} twice", text.replace(key, key + again + b"," + key, 1)
                yield f"{path} {member} after nothing", text.replace(key, key + b"null," + key, 1)
                yield f"{path} {member} escaped", text.replace(key, b'"\\u%04x' % ord(member[0]) + key[2:], 1)
    for form in (*NUMBERS, *LONG_NUMBERS):
        yield f"version {form[:9]!r}", text.replace(b'"version":2', b'"version":' + form.encode())
    for label, encoding in ENCODINGS.items():
        yield label, encoding(text)
