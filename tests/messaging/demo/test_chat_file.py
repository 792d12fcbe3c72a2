"""Chats are read in every style that exports have, and a broken file gets its line and what was expected."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.demo import chat_file
from messaging.demo.chat_file import (
    MAX_AUTHORS,
    MAX_FILE,
    MAX_MESSAGES,
    MAX_TEXT,
    Chat,
    ChatFileError,
    parse_chat,
    read_chat,
)

SAMPLES = Path(chat_file.__file__).parent / "chats"

Style = Callable[[datetime, str, str], str]


def _clock12(at: datetime, space: str = " ") -> str:
    return f"{at.hour % 12 or 12}:{at:%M}{space}{'AM' if at.hour < 12 else 'PM'}"


STYLES: dict[str, Style] = {
    "iOS, day first, 24 hours": lambda at, who, text: f"[{at:%d/%m/%y, %H:%M:%S}] {who}: {text}",
    "iOS, month first, 12 hours": lambda at, who, text: (
        f"\u200e[{at.month}/{at.day}/{at:%y}, {at.hour % 12 or 12}:{at:%M:%S}\u202f{at:%p}] {who}: {text}"
    ),
    "iOS, dots": lambda at, who, text: f"[{at:%d.%m.%y, %H:%M:%S}] {who}: {text}",
    "iOS, year first": lambda at, who, text: f"[{at:%Y-%m-%d, %H:%M:%S}] {who}: {text}",
    "Android, day first, 24 hours": lambda at, who, text: f"{at:%d/%m/%Y, %H:%M} - {who}: {text}",
    "Android, month first, 12 hours": lambda at, who, text: (
        f"{at.month}/{at.day}/{at:%y}, {_clock12(at, chr(0x202F))} - {who}: {text}"
    ),
    "Android, a.m.": lambda at, who, text: (
        f"{at:%d/%m/%Y}, {at.hour % 12 or 12}:{at:%M} {'a' if at.hour < 12 else 'p'}.\u00a0m. - {who}: {text}"
    ),
    "Android, dots": lambda at, who, text: f"{at:%d.%m.%y, %H:%M} - {who}: {text}",
    "JSON lines": lambda at, who, text: json.dumps({"from": who, "at": at.isoformat(), "text": text}),
    "JSON lines, milliseconds": lambda at, who, text: json.dumps(
        {"from": who, "at": int(at.timestamp() * 1000), "text": text}
    ),
}

words = st.text(alphabet="abcdefghij klmno,.!?äöüß🙂", min_size=1, max_size=40).map(str.strip).filter(bool)


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES.keys())
@given(texts=st.lists(words, min_size=14, max_size=30), start=st.integers(0, 300))
def test_reads_back_what_an_export_in_this_style_says(style: Style, texts: list[str], start: int) -> None:
    first = datetime(2026, 1, 1, 9, 58, tzinfo=UTC) + timedelta(days=start)
    said = [
        (f"Person {number % 3}", first + timedelta(days=number, minutes=7 * number), text)
        for number, text in enumerate(texts)
    ]
    chat = parse_chat("\r\n".join(style(at, who, text) for who, at, text in said))
    assert [(message.author, message.sent_at, message.text) for message in chat.messages] == said


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES.keys())
def test_reads_a_300_message_export(style: Style) -> None:
    first = datetime(2026, 3, 1, 8, tzinfo=UTC)
    lines = [style(first + timedelta(hours=number), f"Person {number % 5}", f"note {number}") for number in range(300)]
    chat = parse_chat("\n".join(lines))
    assert len(chat.messages) == 300
    assert len(chat.authors) == 5
    assert [message.line for message in chat.messages] == list(range(1, 301))


def test_lines_without_a_header_go_on_with_the_message_before() -> None:
    chat = parse_chat("[24/12/23, 21:15:03] Ann: first\nsecond\n\nfourth\n[24/12/23, 21:16:00] Bob: hi\n")
    assert [message.text for message in chat.messages] == ["first\nsecond\n\nfourth", "hi"]


def test_only_a_header_starts_a_message() -> None:
    chat = parse_chat(
        "24/12/2023, 21:15 - Ann: we meet\n25/12/2023 at noon\n24/12/2023, 21:16 - Bob: ok, 12:30 - 13:00"
    )
    assert [message.text for message in chat.messages] == ["we meet\n25/12/2023 at noon", "ok, 12:30 - 13:00"]


def test_placeholders_and_system_lines_are_counted_and_left_out() -> None:
    chat = parse_chat(
        "24/12/2023, 21:10 - Messages and calls are end-to-end encrypted. Tap to learn more.\n"
        '24/12/2023, 21:11 - Ann created group "Trip"\n'
        "24/12/2023, 21:12 - Ann: <Media omitted>\n"
        "24/12/2023, 21:13 - Bob: \u200eimage omitted\n"
        "24/12/2023, 21:14 - Bob: This message was deleted\n"
        "24/12/2023, 21:15 - Bob: <attached: 00000012-PHOTO.jpg>\n"
        "24/12/2023, 21:16 - Bob: see you <This message was edited>\n"
    )
    assert [message.text for message in chat.messages] == ["see you"]
    assert (chat.media, chat.system) == (4, 2)


def test_numbers_as_names_lose_their_invisible_marks() -> None:
    chat = parse_chat("24/12/2023, 21:15 - \u202a+49 170 0000000\u202c: hello there")
    assert chat.authors == ("+49 170 0000000",)


def test_the_order_of_dates_decides_what_numbers_leave_open() -> None:
    month_first = parse_chat("1/2/26, 09:00 - A: one\n2/1/26, 09:00 - A: two\n3/1/26, 09:00 - A: three")
    assert [message.sent_at.month for message in month_first.messages] == [1, 2, 3]
    day_first = parse_chat("1/2/26, 09:00 - A: one\n2/2/26, 09:00 - A: two\n1/3/26, 09:00 - A: three")
    assert [message.sent_at.day for message in day_first.messages] == [1, 2, 1]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hello\n24/12/2023, 21:15 - Ann: hi", 1),
        ("\n\nname,text\n", 3),
        ("31/02/2024, 10:00 - Ann: hi", 1),
        ("24/12/2023, 21:15 - Ann: hi\n24/12/2023, 27:15 - Ann: hi", 2),
        ('{"from": "Ann", "at": "2026-01-01", "text": "hi"}\n{"from": "Ann"}', 2),
        ('{"from": "Ann", "at": "yesterday", "text": "hi"}', 1),
        ('{"from": "Ann", "at": 1e300, "text": "hi"}', 1),
        ('{"from": "", "at": 1, "text": "hi"}', 1),
        ('{"from": "Ann", "at": 1, "text": "\\ud800"}', 1),
        ('{"from": "Ann", "at": 1, "text": "hi"}\nsecret words', 2),
        ("{" * 100_000, 1),
    ],
)
def test_a_broken_line_is_named_with_what_was_expected_and_not_repeated(text: str, line: int) -> None:
    with pytest.raises(ChatFileError) as caught:
        parse_chat(text)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"line {line}: ")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "\n \n", '{"from": "Ann", "at": 1, "text": " "}', "1/1/26, 09:00 - A: <Media omitted>"]
)
def test_a_file_without_a_message_is_refused(text: str) -> None:
    with pytest.raises(ChatFileError):
        parse_chat(text)


def _lines(count: int, authors: int = 1, text: str = "x") -> str:
    return "\n".join(
        json.dumps({"from": f"P{number % authors}", "at": number, "text": text}) for number in range(count)
    )


def test_limits_hold_at_their_edges(tmp_path: Path) -> None:
    assert len(parse_chat(_lines(MAX_MESSAGES)).messages) == MAX_MESSAGES
    assert len(parse_chat(_lines(MAX_AUTHORS, MAX_AUTHORS)).authors) == MAX_AUTHORS
    assert parse_chat(_lines(1, text="x" * MAX_TEXT)).messages
    for beyond in (
        _lines(MAX_MESSAGES + 1),
        _lines(MAX_AUTHORS + 1, MAX_AUTHORS + 1),
        _lines(1, text="x" * (MAX_TEXT + 1)),
    ):
        with pytest.raises(ChatFileError):
            parse_chat(beyond)
    large = tmp_path / "large.txt"
    with large.open("wb") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(ChatFileError, match="larger than 16 MiB"):
        read_chat(large)


def test_files_that_cannot_be_read_get_one_sentence(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"[1/1/26\n\xff\xfe")
    for path in (tmp_path, tmp_path / "missing", binary):
        with pytest.raises(ChatFileError):
            read_chat(path)


@given(st.text(max_size=200) | st.text(alphabet="[]0123456789/.,: -AMP\n{}\"'", max_size=200))
def test_any_text_is_a_chat_or_an_error(text: str) -> None:
    with suppress(ChatFileError):
        assert isinstance(parse_chat(text), Chat)


@pytest.mark.parametrize(("name", "people"), [("weekend.jsonl", 5), ("clinic.txt", 5), ("newsroom.txt", 5)])
def test_the_samples_are_chats_whose_texts_can_be_searched_for(name: str, people: int) -> None:
    chat = read_chat(SAMPLES / name)
    assert len(chat.authors) == people
    assert 24 <= len(chat.messages) <= 45
    texts = [message.text for message in chat.messages]
    assert len(set(texts)) == len(texts)
    assert all(len(text) >= 12 for text in texts)
