"""Text as bots write it, with markup or without, as the plain text with mentions that conversations have. No I/O.

There are no bold or italic letters here, so markup is taken out and what it said stays: of a link its address, in brackets. A link to
``tg://user?id=NUMBER`` mentions somebody.

Strangers write these texts, so reading one takes time in proportion to its length: a pattern that finds no end takes all that is left, and
is not tried again from every place in it.
"""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from messaging.bots.errors import BadRequest

_MALFORMED = "Bad Request: can't parse entities"
_USER = re.compile(r"tg://user\?id=([0-9]{1,19})")
_MARKS = {"MarkdownV2": "*_~`|", "Markdown": "*_`"}
_LINK = re.compile(  # or an escaped character, or a bracket that begins no link: those have no "end"
    r"\\.|!?\[(?P<name>[^\]\\]*(?:\\.[^\]\\]*)*)(?:\](?:\((?P<address>[^)\\]*(?:\\.[^)\\]*)*)(?P<end>\))?)?)?",
    re.DOTALL,
)
_TAG = re.compile(  # or a comment or declaration; without "end" it is none, and neither is what follows
    r"""<(?:!--.*?(?:--(?=>)|\Z)|[!?][^>]*|(?P<tag>/?[A-Za-z][^\s/>]*)(?P<attributes>(?:[^>"']|"[^"]*"?|'[^']*'?)*))(?P<end>>)?""",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(
    r"""(?P<name>[^\s"'>/=]+)(?:\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'>]+)))?"""
)
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
    entities, place, offset = [], 0, 0
    for kind, match in sorted(found, key=lambda each: each[1].start()):
        offset += units(text[place : match.start()])
        place = match.start()
        entities.append({"type": kind, "offset": offset, "length": units(match.group())})
    return entities


def _mentions(entities: Sequence[Mapping[str, Any]], length: int) -> tuple[UserMention, ...]:
    try:
        named = [each for each in entities if each["type"] == "text_mention"]
        mentions = tuple(UserMention(int(e["offset"]), int(e["length"]), int(e["user"]["id"])) for e in named)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BadRequest(_MALFORMED) from None
    if any(each.start < 0 or each.length < 1 or each.start + each.length > length for each in mentions):
        raise BadRequest("Bad Request: an entity is outside of the text")
    return mentions


class _Writer:
    """Collects plain text, and who is mentioned in it."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._units = 0
        self._mentions: list[UserMention] = []
        self._link: tuple[int, int, str] | None = None  # pieces and units before it, and where it leads

    def write(self, text: str) -> None:
        """Add text."""
        self._pieces.append(text)
        self._units += units(text)

    def begin_link(self, address: str) -> None:
        """What is written until :meth:`end_link` leads to ``address``. A link in a link ends the one that it is in."""
        self.end_link()
        self._link = len(self._pieces), self._units, address

    def end_link(self) -> None:
        """The link ends here, if there is one."""
        if self._link is None:
            return
        (pieces, start, address), self._link = self._link, None
        named, user = "".join(self._pieces[pieces:]), _USER.fullmatch(address)
        if user is not None and named:
            self._mentions.append(UserMention(start, self._units - start, int(user[1])))
        elif address and address != named:
            self.write(f" ({address})")

    def done(self) -> Plain:
        """The text."""
        return Plain("".join(self._pieces), tuple(self._mentions))


def _without_tags(text: str) -> Plain:
    """Without tags, whether or not Telegram knows them; what is left is text."""
    out, place = _Writer(), 0
    for match in _TAG.finditer(text):
        if match["end"] is None:
            break
        out.write(_unescaped(text[place : match.start()]))
        place = match.end()
        match (match["tag"] or "").lower():
            case "a":
                out.begin_link(_attributes(match["attributes"]).get("href", ""))
            case "/a":
                out.end_link()
            case "br":
                out.write("\n")
    out.write(_unescaped(text[place:]))
    return out.done()


def _attributes(text: str) -> dict[str, str]:
    found = _ATTRIBUTE.finditer(text)
    return {each["name"].lower(): _unescaped(each["double"] or each["single"] or each["bare"] or "") for each in found}


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a character's number with thousands of digits
        raise BadRequest(_MALFORMED) from None


def _without_marks(text: str, mode: str) -> Plain:
    out, place = _Writer(), 0
    for match in _LINK.finditer(text):
        if match["end"] is None:
            continue
        out.write(_unmarked(text[place : match.start()], mode))
        out.begin_link(re.sub(r"\\(.)", r"\1", match["address"]))
        out.write(_unmarked(match["name"], mode))
        out.end_link()
        place = match.end()
    out.write(_unmarked(text[place:], mode))
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
