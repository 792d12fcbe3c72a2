"""The form of an answer, twice: as the schema that a server is told to keep to, and as the check that it did.

The check reads character by character, so that an answer that leaves the form is stopped there, and one that was cut is known to
be the beginning of a right one. It is as strict as the schema: names in their order, no other and none twice. What no grammar of
vLLM's can forbid it lets pass: a label that a line cites twice.
"""

from collections.abc import Generator
from typing import TypeVar

from ai_enclave.engine.interface import Lines

T = TypeVar("T")
_Reading = Generator[None, str, T]  # is sent characters, one at a time, until it has read what it is for

_SPACE = " \t\n\r"
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HEXADECIMAL = "0123456789abcdefABCDEF"
_LONGEST_NAME = 64  # characters of a name or a label


class NotOfTheForm(Exception):
    """The answer is not what it has to be. Says nothing of what it is."""


def schema(form: Lines) -> dict[str, object]:
    """``form`` as JSON Schema; only with keywords that vLLM's grammars (xgrammar, guidance) know."""
    cites = {
        "type": "array",
        "items": {"type": "string", "enum": list(form.labels)},
        "minItems": 1,
        "maxItems": len(form.labels),
    }
    line = {
        "type": "object",
        "properties": {"text": {"type": "string", "minLength": 1, "maxLength": form.longest}, "cites": cites},
        "required": ["text", "cites"],
        "additionalProperties": False,
    }
    return {"type": "array", "items": line, "maxItems": form.most} if _most(form) else {"type": "array", "maxItems": 0}


def _most(form: Lines) -> int:
    """No line can be written where nothing can be cited, or a text may have no character."""
    return form.most if form.labels and form.longest > 0 else 0


class FormCheck:
    """Follows one answer. ``whole`` tells whether it could end here."""

    def __init__(self, form: Lines) -> None:
        self._reading = _lines(form)
        self.whole = False
        next(self._reading)

    def feed(self, text: str) -> None:
        """Read the next piece.

        Raises:
            NotOfTheForm: no right answer goes on like this.
        """
        for character in text:
            if self.whole:
                _require(character in _SPACE)
                continue
            try:
                self._reading.send(character)
            except StopIteration:
                self.whole = True


def _lines(form: Lines) -> _Reading[None]:
    yield from _symbol("[")
    character = yield from _next()
    if character == "]":
        return
    for _ in range(_most(form)):
        _require(character == "{")
        yield from _line(form)
        character = yield from _next()
        if character == "]":
            return
        _require(character == ",")
        character = yield from _next()
    raise NotOfTheForm


def _line(form: Lines) -> _Reading[None]:
    """A line, after its ``{``."""
    yield from _name("text")
    yield from _symbol('"')
    text = yield from _string(form.longest)
    _require(text != "")
    yield from _symbol(",")
    yield from _name("cites")
    yield from _symbol("[")
    for _ in form.labels:
        yield from _symbol('"')
        label = yield from _string(_LONGEST_NAME)
        _require(label in form.labels)
        character = yield from _next()
        if character == "]":
            yield from _symbol("}")
            return
        _require(character == ",")
    raise NotOfTheForm


def _name(name: str) -> _Reading[None]:
    yield from _symbol('"')
    found = yield from _string(_LONGEST_NAME)
    _require(found == name)
    yield from _symbol(":")


def _string(longest: int) -> _Reading[str]:
    """A string, after its first quotation mark: at most ``longest`` characters (code points)."""
    characters: list[str] = []
    while (character := (yield)) != '"':
        _require(character >= " ")
        characters.append((yield from _escape()) if character == "\\" else character)
        _require(len(characters) <= longest)
    return "".join(characters)


def _escape() -> _Reading[str]:
    character = yield
    if character != "u":
        _require(character in _ESCAPES)
        return _ESCAPES[character]
    code = yield from _four_digits()
    if 0xD800 <= code < 0xDC00:  # the first half of a pair (RFC 8259, section 7)
        _require((yield) == "\\")
        _require((yield) == "u")
        second = yield from _four_digits()
        _require(0xDC00 <= second < 0xE000)
        code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00)
    _require(not 0xD800 <= code < 0xE000)
    return chr(code)


def _four_digits() -> _Reading[int]:
    digits = ""
    for _ in range(4):
        digit = yield
        _require(digit in _HEXADECIMAL)
        digits += digit
    return int(digits, 16)


def _symbol(symbol: str) -> _Reading[None]:
    """``symbol``, after any space."""
    character = yield from _next()
    _require(character == symbol)


def _next() -> _Reading[str]:
    """The next character that is no space."""
    while (character := (yield)) in _SPACE:
        pass
    return character


def _require(right: bool) -> None:
    if not right:
        raise NotOfTheForm
