"""Reads a user's own chat: a WhatsApp text export, or JSON lines ``{"from", "at", "text"}``.

A WhatsApp export has no specification. What this reads: a header in one of two styles, ``[date, time] Name: text`` (iOS)
or ``date, time - Name: text`` (Android), 12- or 24-hour clocks, day, month or year first, invisible direction marks and
narrow spaces where the phone's language puts them; lines without a header go on with the message before; a header
without a name is a line of the system. Day or month first is decided by the whole file.

An error names the line and what was expected, never what stands there.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

MAX_FILE = 16 * 1024 * 1024  # bytes
MAX_MESSAGES = 20_000
MAX_AUTHORS = 50
MAX_TEXT = 64 * 1024  # bytes of UTF-8 in one message

EXPECTED = (
    'a WhatsApp text export ("[24/12/23, 21:15:03] Name: text" or "24/12/2023, 21:15 - Name: text") '
    'or JSON lines ({"from": "Name", "at": "2023-12-24T21:15:03Z", "text": "..."})'
)


class ChatFileError(Exception):
    """The file cannot be played; ``line`` is where, ``None`` if the whole file is meant."""

    def __init__(self, expected: str, line: int | None = None) -> None:
        super().__init__(expected if line is None else f"line {line}: {expected}")
        self.line = line


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a person. ``sent_at`` has a time zone; an export without one is read as UTC."""

    author: str
    sent_at: datetime
    text: str = field(repr=False)
    line: int = 0


@dataclass(frozen=True, slots=True)
class Chat:
    """The messages in the order of the file, and how many lines had no text to play."""

    messages: tuple[ChatMessage, ...]
    media: int = 0  # placeholders of pictures, voice messages, deleted messages
    system: int = 0  # lines that no person wrote

    @property
    def authors(self) -> tuple[str, ...]:
        """Who wrote, in the order of their first messages."""
        return tuple(dict.fromkeys(message.author for message in self.messages))


def read_chat(path: Path) -> Chat:
    """Read a chat file.

    Raises:
        ChatFileError: it cannot be read, is too large, or is not a chat in one of the formats.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise ChatFileError(f"the file is larger than {MAX_FILE // 2**20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise ChatFileError(f"the file cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ChatFileError("expected UTF-8 text", line=data[: error.start].count(b"\n") + 1) from None
    return parse_chat(text)


def parse_chat(text: str) -> Chat:
    """Read the text of a chat file; the format is told from its first line that is not empty.

    Raises:
        ChatFileError: see :func:`read_chat`.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise ChatFileError(f"the file is empty; expected {EXPECTED}")
    chat = _parse_json_lines(lines) if first.lstrip().startswith("{") else _parse_whatsapp(lines)
    _check_limits(chat)
    return chat


def _check_limits(chat: Chat) -> None:
    if not chat.messages:
        raise ChatFileError("the file holds no message with text")
    if len(chat.messages) > MAX_MESSAGES:
        raise ChatFileError(f"at most {MAX_MESSAGES} messages", line=chat.messages[MAX_MESSAGES].line)
    if len(chat.authors) > MAX_AUTHORS:
        raise ChatFileError(f"at most {MAX_AUTHORS} people in a chat")
    for message in chat.messages:
        if len(message.text.encode()) > MAX_TEXT:
            raise ChatFileError(f"a message of at most {MAX_TEXT // 1024} KiB", line=message.line)


# --- JSON lines --------------------------------------------------------------------------------------------------------

_JSON_EXPECTED = 'a JSON object with the strings "from" and "text", and "at" in ISO 8601 or as a number since 1970'


def _parse_json_lines(lines: Sequence[str]) -> Chat:
    messages = tuple(_json_message(line, number) for number, line in enumerate(lines, start=1) if line.strip())
    return Chat(tuple(message for message in messages if message.text.strip()))


def _json_message(line: str, number: int) -> ChatMessage:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise ChatFileError(_JSON_EXPECTED, line=number) from None
    match entry:
        case {"from": str(author), "at": str() | int() | float() as at, "text": str(text)} if author.strip():
            sent_at = _moment(at, number)
        case _:
            raise ChatFileError(_JSON_EXPECTED, line=number)
    if _has_lone_surrogate(author + text):
        raise ChatFileError("text that is valid Unicode", line=number)
    return ChatMessage(author.strip(), sent_at, text, number)


def _has_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _moment(at: str | float, number: int) -> datetime:
    """ISO 8601, or seconds or milliseconds since 1970; without a zone, UTC."""
    try:
        if isinstance(at, str):
            moment = datetime.fromisoformat(at)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        return datetime.fromtimestamp(at / 1000 if abs(at) >= 1e11 else at, UTC)
    except (ValueError, OverflowError, OSError):
        raise ChatFileError(_JSON_EXPECTED, line=number) from None


# --- WhatsApp ----------------------------------------------------------------------------------------------------------

_MARKS = dict.fromkeys(map(ord, "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"))
_SPACES = dict.fromkeys(map(ord, "\u00a0\u202f\u2009"), " ")

_DATE = r"(?P<a>\d{1,4})[./-](?P<b>\d{1,2})[./-](?P<c>\d{2,4})\.?"
_TIME = r"(?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2}))?(?: ?(?P<half>[AaPp])\.? ?[Mm]\.?)?"
_HEADERS = (re.compile(rf"\[{_DATE},? {_TIME}\] "), re.compile(rf"{_DATE},? {_TIME} - "))  # iOS, Android
_NAME = re.compile(r"(?P<name>[^:\n]{1,80}?): ?(?P<text>.*)", re.DOTALL)

# Placeholders of the export, in the languages that we could check. Matched against the whole message.
_MEDIA = re.compile(
    r"<(?:media omitted|medien ausgeschlossen|médias omis|multimedia omitido|media weggelaten|mídia oculta|"
    r"archivo omitido|media omessi|attached: [^>]+|anhang: [^>]+|pièce jointe : [^>]+|adjunto: [^>]+)>"
    r"|(?:image|video|audio|gif|sticker|document|contact card|video note|voice message) omitted"
    r"|(?:bild|video|audio|sticker|gif|dokument|kontaktkarte) weggelassen"
    r"|(?:image|vidéo|audio|gif|sticker|document) (?:absente|omise?|absent)"
    r"|(?:imagen|video|audio|gif|sticker|documento) omitid[oa]"
    r"|this message was deleted\.?|you deleted this message\.?|diese nachricht wurde gelöscht\.?"
    r"|du hast diese nachricht gelöscht\.?|ce message a été supprimé\.?|se eliminó este mensaje\.?"
    r"|missed (?:voice|video) call\.?|null|\S+\.(?:jpg|jpeg|png|webp|mp4|opus|pdf|vcf) \([^)]+\)",
    re.IGNORECASE,
)
_EDITED = re.compile(
    r"\s*<(?:this message was edited|diese nachricht wurde bearbeitet|ce message a été modifié"
    r"|se editó este mensaje\.?)>\s*$",
    re.IGNORECASE,
)
_SYSTEM_TEXT = re.compile(
    r"messages and calls are end-to-end encrypted\b.*|nachrichten und anrufe sind ende-zu-ende-verschlüsselt\b.*"
    r"|les messages et les appels sont chiffrés\b.*|los mensajes y las llamadas están cifrados\b.*",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One header with the lines that belong to it."""

    numbers: tuple[int, int, int]  # the date, in the order of the file
    hour: int
    minute: int
    second: int
    half: str  # "", "a" or "p"
    body: str = field(repr=False)
    line: int


def _parse_whatsapp(lines: Sequence[str]) -> Chat:
    entries = list(_entries(lines))
    order = _date_order(entries)
    messages: list[ChatMessage] = []
    media = system = 0
    for entry in entries:
        sent_at = _entry_moment(entry, order)
        named = _NAME.fullmatch(entry.body)
        if named is None or _SYSTEM_TEXT.fullmatch(named["text"].strip()):
            system += 1
            continue
        text = _EDITED.sub("", named["text"]).strip()
        if not text or _MEDIA.fullmatch(text):
            media += 1
            continue
        messages.append(ChatMessage(named["name"].strip(" ~"), sent_at, text, entry.line))
    return Chat(tuple(messages), media, system)


def _entries(lines: Iterable[str]) -> Iterator[_Entry]:
    """Headers with their following lines; the first line that is not empty has to be a header."""
    started: _Entry | None = None
    body: list[str] = []
    for number, raw in enumerate(lines, start=1):
        line = raw.translate(_MARKS)
        plain = line.translate(_SPACES)
        header = _HEADERS[0].match(plain) or _HEADERS[1].match(plain)
        if header is None:
            if started is None and line.strip():
                raise ChatFileError(f"expected {EXPECTED}", line=number)
            body.append(line)
            continue
        if started is not None:
            yield _with_body(started, body)
        started, body = _entry(header, number), [line[header.end() :]]
    if started is not None:
        yield _with_body(started, body)


def _with_body(entry: _Entry, body: list[str]) -> _Entry:
    text = "\n".join(body).strip("\n")
    return _Entry(entry.numbers, entry.hour, entry.minute, entry.second, entry.half, text, entry.line)


def _entry(header: re.Match[str], line: int) -> _Entry:
    return _Entry(
        numbers=(int(header["a"]), int(header["b"]), int(header["c"])),
        hour=int(header["hour"]),
        minute=int(header["minute"]),
        second=int(header["second"] or 0),
        half=(header["half"] or "").lower(),
        body="",
        line=line,
    )


_DAY_FIRST, _MONTH_FIRST, _YEAR_FIRST = (2, 1, 0), (2, 0, 1), (0, 1, 2)  # where year, month and day stand


def _date_order(entries: Sequence[_Entry]) -> tuple[int, int, int]:
    """Which order the dates of this file have: a number that can only be one thing decides, else going backwards in time."""
    if any(entry.numbers[0] > 31 for entry in entries):
        return _YEAR_FIRST
    if any(entry.numbers[0] > 12 for entry in entries):
        return _DAY_FIRST
    if any(entry.numbers[1] > 12 for entry in entries):
        return _MONTH_FIRST
    return min((_DAY_FIRST, _MONTH_FIRST), key=lambda order: _steps_back(entries, order))


def _steps_back(entries: Sequence[_Entry], order: tuple[int, int, int]) -> int:
    dates = [tuple(entry.numbers[place] for place in order) for entry in entries]
    return sum(later < earlier for earlier, later in pairwise(dates))


def _entry_moment(entry: _Entry, order: tuple[int, int, int]) -> datetime:
    year, month, day = (entry.numbers[place] for place in order)
    hour = entry.hour % 12 + (12 if entry.half == "p" else 0) if entry.half else entry.hour
    try:
        return datetime(year + 2000 if year < 100 else year, month, day, hour, entry.minute, entry.second, tzinfo=UTC)
    except ValueError:
        raise ChatFileError("a date and time that exist", line=entry.line) from None
