"""Text as bots write it, with markup or without, as the plain text with mentions that conversations have. No I/O.

There are no bold or italic letters here, so markup is taken out and what it said stays: of a link its address, in brackets. A link to
``tg://user?id=NUMBER`` mentions somebody.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from messaging.bots.errors import BadRequest

_USER = re.compile(r"tg://user\?id=([0-9]{1,19})")
_MARKS = {"MarkdownV2": "*_~`|", "Markdown": "*_`"}
_LINK = re.compile(r"!?\[((?:[^\]\\]|\\.)*)\]\(((?:[^)\\]|\\.)*)\)", re.DOTALL)
_COMMAND = re.compile(r"(?<![\w/])/[A-Za-z0-9_]{1,32}(?:@[A-Za-z0-9_]{3,64})?(?![\w/])")
_NAME = re.compile(r"(?<![\w@])@[A-Za-z][A-Za-z0-9_]{2,63}(?![\w@])")


@dataclass(frozen=True, slots=True)
class UserMention:
    """A part of a text that names a user by number: from ``start`` on, ``length`` UTF-16 code units."""

    start: int
    length: int
    user: int


@dataclass(frozen=True, slots=True)
class Plain:
    """A text without markup."""

    text: str = field(repr=False)
    mentions: tuple[UserMention, ...] = ()


def units(text: str) -> int:
    """The length of ``text`` in UTF-16 code units, in which Telegram counts, and mentions do."""
    return len(text) + sum(character > "\uffff" for character in text)


def plain(text: str, parse_mode: str | None, entities: Sequence[Mapping[str, Any]] = ()) -> Plain:
    """What a bot wrote, without its markup. ``entities`` count where there is no ``parse_mode``, as at Telegram.

    Raises:
        BadRequest: another parse mode than Telegram's three, or an entity that is outside of the text.
    """
    match (parse_mode or "").lower():
        case "":
            return Plain(text, _mentions(entities, units(text)))
        case "html":
            return _without_tags(text)
        case "markdownv2":
            return _without_marks(text, "MarkdownV2")
        case "markdown":
            return _without_marks(text, "Markdown")
        case _:
            raise BadRequest("Bad Request: unsupported parse_mode")


def entities_of(text: str) -> list[dict[str, Any]]:
    """The commands and names in a text, as Telegram marks them."""
    found = [("bot_command", match) for match in _COMMAND.finditer(text)]
    found += [("mention", match) for match in _NAME.finditer(text)]
    taken = [(kind, match.start(), match.group()) for kind, match in sorted(found, key=lambda each: each[1].start())]
    return [{"type": kind, "offset": units(text[:start]), "length": units(part)} for kind, start, part in taken]


def _mentions(entities: Sequence[Mapping[str, Any]], length: int) -> tuple[UserMention, ...]:
    try:
        named = [each for each in entities if each["type"] == "text_mention"]
        mentions = tuple(UserMention(int(e["offset"]), int(e["length"]), int(e["user"]["id"])) for e in named)
    except (KeyError, TypeError, ValueError):
        raise BadRequest("Bad Request: can't parse entities") from None
    if any(each.start < 0 or each.length < 1 or each.start + each.length > length for each in mentions):
        raise BadRequest("Bad Request: an entity is outside of the text")
    return mentions


class _Writer:
    """Collects plain text, and who is mentioned in it."""

    def __init__(self) -> None:
        self.text = ""
        self.mentions: list[UserMention] = []

    def link(self, start: int, address: str) -> None:
        """What was written since ``start``, a number of characters, leads to ``address``."""
        named, user = self.text[start:], _USER.fullmatch(address)
        if user is not None and named:
            self.mentions.append(UserMention(units(self.text[:start]), units(named), int(user[1])))
        elif address and address != named:
            self.text += f" ({address})"

    def done(self) -> Plain:
        """The text."""
        return Plain(self.text, tuple(self.mentions))


class _Tags(HTMLParser):
    """Takes tags out, whether or not Telegram knows them; what is left is text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out = _Writer()
        self._links: list[tuple[int, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._links.append((len(self.out.text), dict(attrs).get("href") or ""))
        elif tag == "br":
            self.out.text += "\n"

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._links:
            self.out.link(*self._links.pop())

    def handle_data(self, data: str) -> None:
        self.out.text += data


def _without_tags(text: str) -> Plain:
    parser = _Tags()
    parser.feed(text)
    parser.close()
    return parser.out.done()


def _without_marks(text: str, mode: str) -> Plain:
    out, place = _Writer(), 0
    for match in _LINK.finditer(text):
        if match.start() > 0 and text[match.start() - 1] == "\\":
            continue  # the bracket is meant as one
        out.text += _unmarked(text[place : match.start()], mode)
        start = len(out.text)
        out.text += _unmarked(match[1], mode)
        out.link(start, re.sub(r"\\(.)", r"\1", match[2]))
        place = match.end()
    out.text += _unmarked(text[place:], mode)
    return out.done()


def _unmarked(text: str, mode: str) -> str:
    """Without marks; an escaped character stays. Between backquotes nothing but a backquote and a backslash means anything."""
    marks, kept, in_code, place = _MARKS[mode], [], False, 0
    while place < len(text):
        character = text[place]
        if character == "\\" and place + 1 < len(text):
            place += 1
            kept.append(text[place])
        elif character == "`":
            in_code = not in_code
        elif in_code or character not in marks:
            kept.append(character)
        place += 1
    return "".join(kept)
