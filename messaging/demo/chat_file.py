"""Reads a user's own chat: a WhatsApp text export, or JSON lines ``{"from", "at", "text"}``.

WhatsApp gives its export no specification; the phone's language and clock decide how it looks. What is read here was
observed in exports and in their public readers (whatsapp-chat-parser, chat-analytics, whats-reader, WhatsR; facts only):

* A message begins with a header, ``[date, time] Name: text`` (iOS) or ``date, time - Name: text`` (Android), in one
  style for the whole file; lines without a header go on with the message before.
* Dates have the year, the month or the day first; the whole file decides. Clocks have 12 or 24 hours.
* Invisible direction marks stand around numbers and names and before what WhatsApp itself wrote; spaces may be narrow.
* Placeholders stand for media and deleted messages; their words are known here in some common languages.
* A line without a name is a notice of the system. iOS gives notices a name too, and a mark (U+200E) before the text.

A broken file raises :class:`ChatFileError` with the line and what was expected, never with what stands there.
"""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path

MAX_FILE = 16 * 1024 * 1024  # bytes
MAX_TEXT = 64 * 1024  # bytes of UTF-8 in one message
MAX_LINE = 8 * MAX_TEXT  # characters; JSON may spend six on one byte
MAX_NAME = 80  # characters
MAX_HEADER = 80  # characters before the name
MAX_PLACEHOLDER = 300  # characters; it may hold the name of a file
MAX_MESSAGES = 20_000
MAX_ENTRIES = 2 * MAX_MESSAGES  # with media and notices
MAX_AUTHORS = 50

EXPECTED = (
    'a WhatsApp text export ("[24/12/23, 21:15:03] Name: text" or "24/12/2023, 21:15 - Name: text") '
    'or JSON lines ({"from": "Name", "at": "2023-12-24T21:15:03Z", "text": "..."})'
)


class ChatFileError(Exception):
    """The file cannot be played; ``line`` is where (from 1), ``None`` if the whole file is meant."""

    def __init__(self, expected: str, line: int | None = None) -> None:
        super().__init__(expected if line is None else f"line {line}: {expected}")
        self.line = line


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a person. ``sent_at`` has a time zone: an export has none, and is read as UTC."""

    author: str
    sent_at: datetime
    text: str = field(repr=False)
    line: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """How much of the file holds no text of a person."""

    media: int = 0  # placeholders: pictures, voice messages, calls, deleted messages
    system: int = 0  # notices that no person wrote
    empty: int = 0  # messages of nothing but space


@dataclass(frozen=True, slots=True)
class Chat:
    """The messages in the order of the file, and what was left out."""

    messages: tuple[ChatMessage, ...]
    skipped: Skipped = Skipped()

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
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)  # a pipe does not know its size
    except OSError as error:
        raise ChatFileError(f"the file cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise ChatFileError(f"the file is larger than {MAX_FILE // 2**20} MiB")
    if data.startswith(b"PK\x03\x04"):
        raise ChatFileError("this is a ZIP archive; unpack it and give the .txt file inside")
    if b"\0" in data:
        raise ChatFileError("expected UTF-8 text; this is a binary file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ChatFileError("expected UTF-8 text", line=data[: error.start].count(b"\n") + 1) from None
    return parse_chat(text)


def parse_chat(text: str) -> Chat:
    """Read the text of a chat file; the first line that is not empty tells the format.

    Raises:
        ChatFileError: the text is not a chat in one of the formats, or goes beyond a limit.
    """
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise ChatFileError(f"the file is empty; expected {EXPECTED}")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE:
            raise ChatFileError(f"a line of at most {MAX_LINE} characters", line=number)
    chat = _parse_json_lines(lines) if first.lstrip().startswith("{") else _parse_whatsapp(lines)
    _check_limits(chat)
    return chat


def _check_limits(chat: Chat) -> None:
    if not chat.messages:
        raise ChatFileError("the file holds no message with text")
    if len(chat.messages) > MAX_MESSAGES:
        raise ChatFileError(f"at most {MAX_MESSAGES} messages", line=chat.messages[MAX_MESSAGES].line)
    authors: set[str] = set()
    for message in chat.messages:
        authors.add(message.author)
        if len(authors) > MAX_AUTHORS:
            raise ChatFileError(f"at most {MAX_AUTHORS} people in a chat", line=message.line)
        if len(message.author) > MAX_NAME:
            raise ChatFileError(f"a name of at most {MAX_NAME} characters", line=message.line)
        if len(message.text.encode()) > MAX_TEXT:
            raise ChatFileError(f"a message of at most {MAX_TEXT // 1024} KiB", line=message.line)


# Names and texts are shown in a terminal, which control characters could command.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


def _as_name(text: str) -> str:
    return " ".join(text.translate(_CONTROLS).split())


# --- JSON lines --------------------------------------------------------------------------------------------------------

_JSON_EXPECTED = 'expected a JSON object with the strings "from" and "text", and "at" in ISO 8601 or in seconds or milliseconds since 1970'
_FIRST_MILLISECONDS = 10**11  # as seconds this is the year 5138, as milliseconds 1973


def _parse_json_lines(lines: Sequence[str]) -> Chat:
    said = [_json_message(line, number) for number, line in enumerate(lines, start=1) if line.strip()]
    messages = tuple(message for message in said if message.text)
    return Chat(messages, Skipped(empty=len(said) - len(messages)))


def _json_message(line: str, number: int) -> ChatMessage:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise ChatFileError(_JSON_EXPECTED, line=number) from None
    match entry:
        case {"from": str(name), "at": str() | int() | float() as at, "text": str(text)} if not isinstance(at, bool):
            author, sent_at = _as_name(name), _moment(at, number)
        case _:
            raise ChatFileError(_JSON_EXPECTED, line=number)
    if not author:
        raise ChatFileError(_JSON_EXPECTED, line=number)
    if _has_lone_surrogate(author + text):
        raise ChatFileError("expected text that is valid Unicode", line=number)
    return ChatMessage(author, sent_at, text.translate(_CONTROLS).strip(), number)


def _has_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _moment(at: str | float, number: int) -> datetime:
    """ISO 8601, where no zone means UTC; or seconds or milliseconds since 1970."""
    try:
        if isinstance(at, str):
            moment = datetime.fromisoformat(at)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        return datetime.fromtimestamp(at / 1000 if abs(at) >= _FIRST_MILLISECONDS else at, UTC)
    except (ValueError, OverflowError, OSError):
        raise ChatFileError(_JSON_EXPECTED, line=number) from None


# --- WhatsApp: lines to entries ----------------------------------------------------------------------------------------

_MARKS = dict.fromkeys(map(ord, "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"))
_SPACES = dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u202f"), " ")
_NOTICE_MARK = "\u200e"

_DATE = r"(?P<a>\d{4}|\d{1,2})(?P<separator>[./-]) ?(?P<b>\d\d?)(?P=separator) ?(?P<c>\d{4}|\d\d?)\.?"
_TIME = (
    r"(?:(?P<before>[上下]午|午[前後]|오[전후]) ?|[^\W\d]{1,4}\.? )?"  # or a word: "klo" in Finnish
    r"(?P<hour>\d\d?)[:.](?P<minute>\d\d)(?:[:.](?P<second>\d\d))?"
    r"(?: ?(?P<after>[AaPp])\.? ?[Mm]\.?)?"
)
_BRACKETED = re.compile(rf"\[{_DATE},? {_TIME}\] ")
_DASHED = re.compile(rf"{_DATE},? {_TIME} [-–] ")
_AFTER_NOON = {"p", "下午", "午後", "오후"}


@dataclass(frozen=True, slots=True)
class _Style:
    """What all headers of one file have in common; another chat quoted in a message mostly has something else."""

    bracketed: bool
    separator: str
    year_first: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    """One header with the lines that belong to it; marks are still in ``body``."""

    style: _Style
    date: tuple[int, int, int]  # in the order of the file
    time: tuple[int, int, int]  # hour, minute, second
    after_noon: bool | None  # None: the clock has 24 hours
    line: int
    body: str = field(repr=False)


def _entries(lines: Iterable[str]) -> Iterator[_Entry]:
    """The entries of an export; the first line that is not empty has to be a header."""
    started: _Entry | None = None
    body: list[str] = []
    for number, line in enumerate(lines, start=1):
        entry = _header(line, number)
        if entry is None or (started is not None and entry.style != started.style):
            if started is None and line.strip():
                raise ChatFileError(f"expected {EXPECTED}", line=number)
            body.append(line)
            continue
        if started is not None:
            yield replace(started, body="\n".join(body))
        started, body = entry, [entry.body]
    if started is not None:
        yield replace(started, body="\n".join(body))


def _header(line: str, number: int) -> _Entry | None:
    """The entry that ``line`` begins, ``None`` if it begins none."""
    if not line:
        return None
    visible = line[:MAX_HEADER].translate(_MARKS).translate(_SPACES)
    found = _BRACKETED.match(visible + " ") or _DASHED.match(visible + " ")
    if found is None:
        return None
    year_first = len(found["a"]) == 4
    if len(found["c"]) not in ((1, 2) if year_first else (2, 4)):
        return None
    half = (found["before"] or found["after"] or "").lower()
    return _Entry(
        style=_Style(visible.startswith("["), found["separator"], year_first),
        date=(int(found["a"]), int(found["b"]), int(found["c"])),
        time=(int(found["hour"]), int(found["minute"]), int(found["second"] or 0)),
        after_noon=half in _AFTER_NOON if half else None,
        line=number,
        body=_after_visible(line, found.end()),
    )


def _after_visible(line: str, count: int) -> str:
    """What follows the first ``count`` visible characters, with its marks."""
    visible = (place for place, character in enumerate(line) if ord(character) not in _MARKS)
    last = next(islice(visible, count - 1, None), len(line))
    return line[last + 1 :]


# --- WhatsApp: dates ---------------------------------------------------------------------------------------------------

_Order = tuple[int, int, int]  # where year, month and day stand
_YEAR_FIRST, _DAY_FIRST, _MONTH_FIRST = (0, 1, 2), (2, 1, 0), (2, 0, 1)


def _date_order(entries: Sequence[_Entry]) -> _Order:
    """The order in which every date of the file exists; of two, the one that goes back in time less often."""
    orders = [_YEAR_FIRST] if entries[0].style.year_first else [_DAY_FIRST, _MONTH_FIRST]
    for entry in entries:
        orders = [order for order in orders if _exists(entry, order)]
        if not orders:
            raise ChatFileError("expected a date that exists, in the same order as the dates before", line=entry.line)
    return min(orders, key=lambda order: _steps_back(entries, order))  # the first of equals: the day


def _ordered(entry: _Entry, order: _Order) -> tuple[int, int, int]:
    year, month, day = (entry.date[place] for place in order)
    return (year + 2000 if year < 100 else year), month, day


def _exists(entry: _Entry, order: _Order) -> bool:
    try:
        datetime(*_ordered(entry, order), tzinfo=UTC)
    except ValueError:
        return False
    return True


def _steps_back(entries: Sequence[_Entry], order: _Order) -> int:
    return sum(later < earlier for earlier, later in pairwise(_ordered(entry, order) for entry in entries))


def _sent_at(entry: _Entry, order: _Order) -> datetime:
    hour, minute, second = entry.time
    if entry.after_noon is not None:
        if hour > 12:
            raise ChatFileError("expected an hour of at most 12 beside AM or PM", line=entry.line)
        hour = hour % 12 + (12 if entry.after_noon else 0)
    try:
        return datetime(*_ordered(entry, order), hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise ChatFileError("expected a time that exists", line=entry.line) from None


# --- WhatsApp: entries to messages -------------------------------------------------------------------------------------

_NAME = re.compile(rf"(?P<name>[^:\n]{{1,{MAX_NAME}}}):(?: |(?=\n|\Z))(?P<text>.*)", re.DOTALL)
_LONGER_NAME = re.compile(rf"[^:\n]+: [^:\n]{{1,{MAX_NAME}}}(?=: )")
_QUOTES = re.compile('["“”„«»「」『』]')  # 'Ann changed the subject to "Trip: Alps"' has no name before its colon

# Placeholders, for one whole line. First what Android writes: one word for all media, or a file's name.
_OMITTED = (
    "media omitted|medien (?:ausgeschlossen|weggelassen|ausgelassen)|médias omis|fichier omis|multimedia omitido|"
    "archivo omitido|media omess[io]|mídia (?:oculta|omitida)|arquivo de mídia oculto|ficheiro não revelado|"
    "media weggelaten|pominięto multimedia|без медиафайлов|medya dahil edilmedi|media tidak disertakan|"
    "メディアなし|忽略多媒體檔|省略多媒体文件|미디어 파일 제외됨|मीडिया के बिना"
)
_FILE_ATTACHED = (
    "file attached|datei angehängt|fichier joint|archivo adjunto|file allegato|arquivo anexado|ficheiro anexado|"
    "bestand bijgevoegd|файл добавлен|файл прикреплен|ファイル添付|附件"
)
# Then what iOS writes: a noun and a participle, or "<attached: a file's name>" in any language.
_NOUN = (
    "image|imagen|imagem|immagine|bild|afbeelding|video(?: note| message)?|vídeo|vidéo|audio|áudio|voice message|gif|"
    "sticker|figurinha|document|documento|dokument|contact card|kontaktkarte|tarjeta de contacto"
)
_LEFT_OUT = "omitted|weggelassen|weggelaten|absente?|omise?|omitid[oa]|omess[oa]|ocultad[oa]"
_DELETED = (
    "this message was deleted|you deleted this message|diese nachricht wurde gelöscht|du hast diese nachricht gelöscht|"
    "ce message a été supprimé|vous avez supprimé ce message|se eliminó este mensaje|eliminaste este mensaje|"
    "questo messaggio è stato eliminato|hai eliminato questo messaggio|(?:esta )?mensagem (?:foi )?apagada|"
    "você apagou esta mensagem|dit bericht is verwijderd|je hebt dit bericht verwijderd"
)
_PLACEHOLDER = re.compile(
    rf"<(?:{_OMITTED}|(?:{_NOUN}) (?:{_LEFT_OUT}))>|(?:{_NOUN}) (?:{_LEFT_OUT})|"
    rf"<[^<>:\n]{{1,30}}: ?[^<>\n]+\.\w{{2,5}}>|[^\n]+\.\w{{2,5}} \((?:{_FILE_ATTACHED})\)|(?:{_DELETED})\.?|"
    r"missed (?:group )?(?:voice|video) call\b[^\n]*|null",
    re.IGNORECASE,
)
_EDITED = re.compile(
    r"<(?:this message was edited|diese nachricht wurde bearbeitet|ce message a été modifié|se editó este mensaje|"
    r"mensagem editada|questo messaggio è stato modificato|dit bericht is bewerkt)\.?>\s*\Z",
    re.IGNORECASE,
)
_ENCRYPTION_NOTICE = re.compile(
    r"(?:messages and calls are end-to-end encrypted|nachrichten und anrufe sind ende-zu-ende-verschlüsselt|"
    r"les messages et les appels sont chiffrés|los mensajes y las llamadas están cifrados|"
    r"i messaggi e le chiamate sono crittografati|as mensagens e (?:as )?(?:ligações|chamadas) são protegidas)\b",
    re.IGNORECASE,
)


def _parse_whatsapp(lines: Sequence[str]) -> Chat:
    entries = list(islice(_entries(lines), MAX_ENTRIES + 1))
    if len(entries) > MAX_ENTRIES:
        raise ChatFileError(f"at most {MAX_ENTRIES} messages, media and notices together", line=entries[-1].line)
    order = _date_order(entries)
    long_names = _names_with_a_colon(entries)
    messages: list[ChatMessage] = []
    media = system = empty = 0
    for entry in entries:
        sent_at = _sent_at(entry, order)
        name, raw = _name_and_text(entry, long_names)
        text, has_media = _without_placeholder(raw)
        media += has_media
        if not has_media and (not name or _is_notice(entry, raw)):
            system += 1
        elif text:
            messages.append(ChatMessage(name, sent_at, text, entry.line))
        elif not has_media:
            empty += 1
    return Chat(tuple(messages), Skipped(media, system, empty))


def _name_and_text(entry: _Entry, long_names: frozenset[str]) -> tuple[str, str]:
    """The name, empty for a notice without one, and the text with its marks."""
    longer = _LONGER_NAME.match(entry.body)
    if longer is not None and _shown_name(longer[0]) in long_names:
        return _shown_name(longer[0]), entry.body[longer.end() + 2 :]
    found = _NAME.match(entry.body)
    if found is None or _QUOTES.search(found["name"]):
        return "", ""
    return _shown_name(found["name"]), found["text"]


def _shown_name(name: str) -> str:
    """Without marks, and without the tilde that says that the name is the author's own word for themselves."""
    return _as_name(name.translate(_MARKS)).lstrip("~ ")


def _names_with_a_colon(entries: Sequence[_Entry]) -> frozenset[str]:
    """Contacts like "Work: Ann": all that begins with "Work" goes on to a second colon, in words that come again."""
    seconds: defaultdict[str, Counter[str | None]] = defaultdict(Counter)
    for entry in entries:
        first, longer = _NAME.match(entry.body), _LONGER_NAME.match(entry.body)
        if first is not None:
            seconds[first["name"]][_shown_name(longer[0]) if longer else None] += 1
    certain = (counts for counts in seconds.values() if None not in counts and min(counts.values()) > 2)
    return frozenset(name for counts in certain for name in counts if name is not None)


def _is_notice(entry: _Entry, raw: str) -> bool:
    marked = entry.style.bracketed and raw.startswith(_NOTICE_MARK)
    return marked or _ENCRYPTION_NOTICE.match(raw.translate(_MARKS)) is not None


def _without_placeholder(raw: str) -> tuple[str, bool]:
    """The text without marks and placeholder, and whether there was one; a caption stays."""
    caption, _, last = raw.rpartition(_NOTICE_MARK)  # iOS: the caption, then a mark and the placeholder
    if _is_placeholder(last):
        return ("" if "•" in caption else _plain(caption)), True
    first, _, caption = raw.partition("\n")  # Android: the placeholder, then the caption on lines of its own
    if _is_placeholder(first):
        return _plain(caption), True
    return _plain(raw), False


def _is_placeholder(line: str) -> bool:
    if len(line) > MAX_PLACEHOLDER:
        return False
    # Some phones write accents as characters of their own.
    return _PLACEHOLDER.fullmatch(unicodedata.normalize("NFC", _plain(line))) is not None


def _plain(text: str) -> str:
    return _EDITED.sub("", text.translate(_MARKS | _CONTROLS)).strip()
