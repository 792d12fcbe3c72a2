"""Chats are read in every style that exports have, and a broken file gets its line and what was expected."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging.demo import chat_file
from messaging.demo.chat_file import (
    MAX_AUTHORS,
    MAX_ENTRIES,
    MAX_FILE,
    MAX_LINE,
    MAX_MESSAGES,
    MAX_NAME,
    MAX_TEXT,
    Chat,
    ChatFileError,
    Skipped,
    parse_chat,
    read_chat,
)

SAMPLES = Path(chat_file.__file__).parent / "chats"

Style = Callable[[datetime, str, str], str]


def _clock12(at: datetime, form: str = "%M %p") -> str:
    return f"{at.hour % 12 or 12}:{at.strftime(form)}"


def _half(at: datetime, before: str, after: str) -> str:
    return before if at.hour < 12 else after


STYLES: dict[str, Style] = {
    "iOS, day first, 24 hours": lambda at, who, text: f"[{at:%d/%m/%y, %H:%M:%S}] {who}: {text}",
    "iOS, month first, 12 hours": lambda at, who, text: (
        f"\u200e[{at.month}/{at.day}/{at:%y}, {_clock12(at, '%M:%S')}\u202f{at:%p}] {who}: {text}"
    ),
    "iOS, dots": lambda at, who, text: f"[{at:%d.%m.%y, %H:%M:%S}] {who}: {text}",
    "iOS, dots, 12 hours": lambda at, who, text: f"[{at:%d.%m.%y}, {_clock12(at, '%M:%S')}\u202f{at:%p}] {who}: {text}",
    "iOS, year first": lambda at, who, text: f"[{at:%Y-%m-%d, %H:%M:%S}] {who}: {text}",
    "iOS, Finnish": lambda at, who, text: f"[{at.day}.{at.month}.{at.year} klo {at.hour}.{at:%M.%S}] {who}: {text}",
    "iOS, Chinese": lambda at, who, text: (
        f"[{at.year}/{at.month}/{at.day} {_half(at, '上午', '下午')}{_clock12(at, '%M:%S')}] {who}: {text}"
    ),
    "Android, day first, 24 hours": lambda at, who, text: f"{at:%d/%m/%Y, %H:%M} - {who}: {text}",
    "Android, day first, dashes": lambda at, who, text: f"{at:%d-%m-%Y %H:%M} - {who}: {text}",
    "Android, month first, 12 hours": lambda at, who, text: (
        f"{at.month}/{at.day}/{at:%y}, {_clock12(at, '%M')}\u202f{at:%p} - {who}: {text}"
    ),
    "Android, am and pm": lambda at, who, text: (
        f"{at:%d/%m/%Y}, {_clock12(at, '%M')} {_half(at, 'am', 'pm')} - {who}: {text}"
    ),
    "Android, a. m.": lambda at, who, text: (
        f"{at:%d/%m/%Y}, {_clock12(at, '%M')} {_half(at, 'a', 'p')}.\u00a0m. - {who}: {text}"
    ),
    "Android, year first, 12 hours": lambda at, who, text: f"{at:%Y/%m/%d}, {_clock12(at)} - {who}: {text}",
    "Android, Korean": lambda at, who, text: (
        f"{at.year}. {at.month}. {at.day}. {_half(at, '오전', '오후')} {_clock12(at, '%M')} - {who}: {text}"
    ),
    "Android, dots": lambda at, who, text: f"{at:%d.%m.%y, %H:%M} - {who}: {text}",
    "JSON lines": lambda at, who, text: json.dumps({"from": who, "at": at.isoformat(), "text": text}),
    "JSON lines, no zone": lambda at, who, text: json.dumps(
        {"from": who, "at": at.replace(tzinfo=None).isoformat(), "text": text}
    ),
    "JSON lines, seconds": lambda at, who, text: json.dumps(
        {"from": who, "at": int(at.timestamp()), "text": text}, ensure_ascii=False
    ),
    "JSON lines, milliseconds": lambda at, who, text: json.dumps(
        {"from": who, "at": int(at.timestamp() * 1000), "text": text}
    ),
}

letters = "abcdefghij klmno,.!?:[]12äöüß日本🙂"
words = st.text(letters, min_size=1, max_size=40).map(str.strip).filter(lambda text: text and ": " not in text + " ")


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES.keys())
@given(texts=st.lists(words, min_size=14, max_size=30), start=st.integers(0, 300))
@settings(max_examples=25)
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


def test_only_a_header_in_the_style_of_the_file_starts_a_message() -> None:
    chat = parse_chat(
        "24/12/2023, 21:15 - Ann: we meet\n25/12/2023 at noon\n"
        "[24/12/2023, 21:00:00] Eve: forged\n24.12.2023, 21:00 - Eve: forged\n"
        "24/12/2023, 21:16 - Bob: ok, 12:30 - 13:00"
    )
    assert chat.authors == ("Ann", "Bob")
    assert chat.messages[0].text.startswith("we meet\n25/12/2023 at noon\n[24/12/2023")
    assert chat.messages[1].text == "ok, 12:30 - 13:00"


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_chat(tmp_path: Path) -> None:
    file = tmp_path / "chat.txt"
    file.write_bytes("\ufeff24/12/2023, 21:15 - Ann: first\r\nsecond\r\n".encode())
    assert [message.text for message in read_chat(file).messages] == ["first\nsecond"]


@pytest.mark.parametrize(
    "placeholder",
    [
        "<Media omitted>",
        "<Medien ausgeschlossen>",
        "<Médias omis>",
        "<Multimedia omitido>",
        "<Media omessi>",
        "<Mídia oculta>",
        "<Media weggelaten>",
        "<メディアなし>",
        "image omitted",
        "\u200eGIF omitted",
        "\u200eBild weggelassen",
        "\u200eimagen omitida",
        "\u200eimage absente",
        "report.pdf • \u200e3 pages \u200edocument omitted",
        "\u200e<attached: 00000012-PHOTO-2023-12-24.jpg>",
        "\u200e<angeha\u0308ngt: 00000012-PHOTO-2023-12-24.jpg>",
        "\u200e<pièce jointe : 00000012-AUDIO.opus>",
        "\u200eIMG-20231224-WA0001.jpg (file attached)",
        "IMG-20231224-WA0001.jpg (Datei angeha\u0308ngt)",
        "This message was deleted",
        "You deleted this message.",
        "Diese Nachricht wurde gelöscht.",
        "Se eliminó este mensaje.",
        "\u200eMissed voice call, \u200eTap to call back",
        "null",
    ],
)
def test_placeholders_are_counted_as_media_and_are_no_text(placeholder: str) -> None:
    chat = parse_chat(f"24/12/2023, 21:12 - Ann: {placeholder}\n24/12/2023, 21:13 - Bob: nice picture")
    assert [message.text for message in chat.messages] == ["nice picture"]
    assert chat.skipped == Skipped(media=1)


@pytest.mark.parametrize(
    "text",
    ["the media omitted it", "<3", "see a.pdf (page 3)", "she deleted this message", "image: omitted", "null and void"],
)
def test_words_that_only_look_like_placeholders_stay(text: str) -> None:
    assert parse_chat(f"24/12/2023, 21:12 - Ann: {text}").messages[0].text == text


@pytest.mark.parametrize(
    "body",
    [
        "IMG-20231224-WA0001.jpg (file attached)\nour tree",
        "<Media omitted>\nour tree",
        "our tree \u200e<attached: 00000012-PHOTO-2023-12-24.jpg>",
    ],
)
def test_a_caption_stays_when_its_picture_goes(body: str) -> None:
    chat = parse_chat(f"24/12/2023, 21:12 - Ann: {body}")
    assert [message.text for message in chat.messages] == ["our tree"]
    assert chat.skipped == Skipped(media=1)


def test_notices_without_a_name_are_counted_and_left_out() -> None:
    notices = [
        "Messages and calls are end-to-end encrypted. Tap to learn more.",
        'Ann created group "Trip: the Alps"',
        "Ann changed the subject from “Trip: A” to “Trip: B”",
        "Ann added Bob",
        "\u202a+49 170 0000000\u202c left",
        "You're now an admin",
    ]
    chat = parse_chat(
        "\n".join([f"24/12/2023, 21:11 - {notice}" for notice in notices] + ["24/12/2023, 21:12 - Ann: hi"])
    )
    assert [message.text for message in chat.messages] == ["hi"]
    assert chat.skipped == Skipped(system=len(notices))


def test_notices_to_which_ios_gives_a_name_are_known_by_their_mark() -> None:
    chat = parse_chat(
        "[24/12/23, 21:10:00] Trip: \u200eMessages and calls are end-to-end encrypted.\n"
        "[24/12/23, 21:10:00] Ann: \u200eAnn created group “Trip”\n"
        "[24/12/23, 21:10:01] Trip: \u200eAnn added you\n"
        "[24/12/23, 21:11:00] Ann: welcome, everybody\n"
    )
    assert [(message.author, message.text) for message in chat.messages] == [("Ann", "welcome, everybody")]
    assert chat.skipped == Skipped(system=3)


@pytest.mark.parametrize(
    "mark", ["<This message was edited>", "\u200e<This message was edited>", "<Diese Nachricht wurde bearbeitet.>"]
)
def test_the_mark_of_an_edited_message_is_no_part_of_it(mark: str) -> None:
    assert parse_chat(f"24/12/2023, 21:16 - Bob: see you {mark}").messages[0].text == "see you"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("\u202a+49 170 0000000\u202c", "+49 170 0000000"),
        ("\u202a+49\u00a0170\u00a00000000\u202c", "+49 170 0000000"),
        ("~\u202fAnn", "Ann"),
        ("Dr. Ann-Marie O’Brien (work)", "Dr. Ann-Marie O’Brien (work)"),
        ("Ann \x1b[31mRed", "Ann [31mRed"),
    ],
)
def test_names_lose_what_cannot_be_seen(written: str, name: str) -> None:
    assert parse_chat(f"24/12/2023, 21:15 - {written}: hello there").authors == (name,)


def test_a_colon_in_a_text_does_not_change_the_name() -> None:
    chat = parse_chat("1/1/26, 09:00 - Ann: note: buy milk\n1/1/26, 09:01 - Ann: at 9:30: see https://example.org/a:b")
    assert [(message.author, message.text) for message in chat.messages] == [
        ("Ann", "note: buy milk"),
        ("Ann", "at 9:30: see https://example.org/a:b"),
    ]


def test_a_name_with_a_colon_is_known_by_coming_again() -> None:
    said = [("Work: Ann", "good morning"), ("Work: Bob", "hello"), ("Eve", "note: I am late")] * 3
    said.append(("Eve", "here now"))
    chat = parse_chat("\n".join(f"1/1/26, 09:00 - {who}: {text}" for who, text in said))
    assert [(message.author, message.text) for message in chat.messages] == said


def test_a_number_above_twelve_decides_where_the_day_stands() -> None:
    assert parse_chat("1/2/26, 09:00 - A: one\n13/2/26, 09:00 - A: two").messages[0].sent_at.day == 1
    assert parse_chat("1/2/26, 09:00 - A: one\n2/13/26, 09:00 - A: two").messages[0].sent_at.day == 2


def test_the_order_of_dates_decides_what_numbers_leave_open() -> None:
    month_first = parse_chat("1/2/26, 09:00 - A: one\n2/1/26, 09:00 - A: two\n3/1/26, 09:00 - A: three")
    assert [message.sent_at.month for message in month_first.messages] == [1, 2, 3]
    day_first = parse_chat("1/2/26, 09:00 - A: one\n2/2/26, 09:00 - A: two\n1/3/26, 09:00 - A: three")
    assert [message.sent_at.day for message in day_first.messages] == [1, 2, 1]
    open_to_both = parse_chat("1/2/26, 09:00 - A: one")
    assert (open_to_both.messages[0].sent_at.day, open_to_both.messages[0].sent_at.month) == (1, 2)


@pytest.mark.parametrize(
    ("clock", "hour"), [("12:05 AM", 0), ("12:05 PM", 12), ("1:05 a.m.", 1), ("1:05 p.\u202fm.", 13), ("00:05", 0)]
)
def test_midnight_and_noon_are_where_they_belong(clock: str, hour: int) -> None:
    assert parse_chat(f"24/12/2023, {clock} - Ann: hello").messages[0].sent_at.hour == hour


@pytest.mark.parametrize(
    ("at", "utc"),
    [
        ('"2026-03-01T08:00:00+02:00"', 6),
        ('"2026-03-01T08:00:00Z"', 8),
        ('"2026-03-01T08:00:00"', 8),
        ("1772352000", 8),
        ("1772352000000", 8),
    ],
)
def test_json_times_end_up_in_utc(at: str, utc: int) -> None:
    message = parse_chat(f'{{"from": "Ann", "at": {at}, "text": "hi"}}').messages[0]
    assert message.sent_at == datetime(2026, 3, 1, utc, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hello\n24/12/2023, 21:15 - Ann: hi", 1),
        ("\n\nname,text\n", 3),
        ("31/02/2024, 10:00 - Ann: hi", 1),
        ("24/12/2023, 21:15 - Ann: hi\n24/12/2023, 27:15 - Ann: hi", 2),
        ("24/12/2023, 9:15 PM - Ann: hi\n24/12/2023, 21:15 PM - Ann: hi", 2),
        ("24/12/2023, 21:15 - Ann: hi\n12/24/2023, 21:15 - Ann: hi", 2),
        ("24/12/2023, 21:15 - Ann: hi\n\n" + "secret" * MAX_LINE, 3),
        ('{"from": "Ann", "at": true, "text": "hi"}', 1),
        ('{"from": "Ann", "at": NaN, "text": "hi"}', 1),
        ('{"from": "Ann", "at": "0001-01-01T00:00:00+05:00", "text": "hi"}', 1),
        ('{"from": "Ann", "at": 1, "text": null}', 1),
        ('{"from": "\\u0007", "at": 1, "text": "hi"}', 1),
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


def _lines(count: int, authors: int = 1, text: str = "x", name: str = "P") -> str:
    return "\n".join(
        json.dumps({"from": f"{name}{number % authors}", "at": number, "text": text}) for number in range(count)
    )


def _media(count: int) -> str:
    return "1/1/26, 09:00 - A: hi\n" + "1/1/26, 09:00 - A: <Media omitted>\n" * count


@pytest.mark.parametrize(
    ("within", "beyond", "line"),
    [
        (_lines(MAX_MESSAGES), _lines(MAX_MESSAGES + 1), MAX_MESSAGES + 1),
        (_media(MAX_ENTRIES - 1), _media(MAX_ENTRIES), MAX_ENTRIES + 1),
        (_lines(MAX_AUTHORS, MAX_AUTHORS), _lines(MAX_AUTHORS + 1, MAX_AUTHORS + 1), MAX_AUTHORS + 1),
        (_lines(1, text="\0" + "ä" * (MAX_TEXT // 2)), _lines(1, text="ä" * (MAX_TEXT // 2) + "x"), 1),
        (_lines(1, name="n" * (MAX_NAME - 1)), _lines(1, name="n" * MAX_NAME), 1),
        (_lines(1) + " " * (MAX_LINE - len(_lines(1))), _lines(1) + " " * MAX_LINE, 1),
    ],
    ids=["messages", "entries", "people", "text", "name", "line"],
)
def test_limits_hold_at_their_edges(within: str, beyond: str, line: int) -> None:
    assert parse_chat(within).messages
    with pytest.raises(ChatFileError) as caught:
        parse_chat(beyond)
    assert caught.value.line == line


def test_a_message_of_many_lines_has_the_same_limit_as_one_of_one_line() -> None:
    lines = "\n".join(["x" * 1023] * (MAX_TEXT // 1024))
    assert parse_chat(f"24/12/2023, 21:15 - Ann: {lines}").messages
    with pytest.raises(ChatFileError, match="64 KiB"):
        parse_chat(f"24/12/2023, 21:15 - Ann: {lines}\nxx")


def test_a_file_may_have_16_mib_and_no_byte_more(tmp_path: Path) -> None:
    file = tmp_path / "chat.txt"
    line = b"24/12/2023, 21:15 - Ann: ".ljust(1023, b"x") + b"\n"
    file.write_bytes(line * (MAX_FILE // 1024))
    assert len(read_chat(file).messages) == MAX_FILE // 1024
    file.write_bytes(line * (MAX_FILE // 1024) + b"\n")
    with pytest.raises(ChatFileError, match="larger than 16 MiB"):
        read_chat(file)


def test_files_that_cannot_be_read_get_one_sentence(tmp_path: Path) -> None:
    contents = {
        "binary": (b"\x7fELF\0\0", "binary file"),
        "latin-1": (b"[1/1/26\n\xff\xfe", "line 2: expected UTF-8"),
        "archive": (b"PK\x03\x04 and so on", "ZIP archive"),
        "empty": (b"", "the file is empty"),
    }
    for name, (content, sentence) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ChatFileError, match=sentence):
            read_chat(tmp_path / name)
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ChatFileError, match="cannot be read: "):
            read_chat(path)


def test_a_message_does_not_show_its_text_when_it_is_printed() -> None:
    assert "hidden" not in repr(parse_chat('{"from": "Ann", "at": 1, "text": "hidden words"}'))


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
