"""Markup out, text and mentions in."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.bots.errors import BadRequest
from messaging.bots.formatting import Plain, UserMention, entities_of, plain, units


@given(st.text())
def test_without_a_parse_mode_a_text_is_what_it_is(text: str) -> None:
    assert plain(text, None) == Plain(text)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<b>bold</b> and <i>italic</i>", "bold and italic"),
        ("1 &lt; 2 &amp;&amp; 3 &gt; 2 &quot;&#128515;", '1 < 2 && 3 > 2 "😃'),
        ('<a href="https://example.org/">here</a>', "here (https://example.org/)"),
        ('<a href="https://example.org/">https://example.org/</a>', "https://example.org/"),
        ('<pre><code class="language-python">x = 1\n</code></pre>', "x = 1\n"),
        ("<tg-spoiler>secret</tg-spoiler>", "secret"),
        ("a<br>b", "a\nb"),
        ("<b>never closed", "never closed"),
        ("5 < 6", "5 < 6"),
        ("</a></b>", ""),
        ("<script>alert(1)</script>x", "alert(1)x"),
        ("<!-- a > b -->x<!doctype html>", "x"),
        ("x <![<![ and <![y[", "x <![<![ and <![y["),
        ("I </3 <b title='>'>you</b>", "I </3 you"),
        ("1 <b <i>x</i>", "1 x"),
        ("a <b unclosed", "a <b unclosed"),
        ("<a title=' href=x' HREF = 'https://example.org/?a&amp;b'>here</a>", "here (https://example.org/?a&b)"),
        ("<a href=one>x<a href=two>y</a></a>", "x (one)y (two)"),
    ],
)
def test_tags_are_taken_out(html: str, text: str) -> None:
    assert plain(html, "HTML").text == text


@pytest.mark.parametrize(
    ("mode", "marked", "text"),
    [
        ("MarkdownV2", "*bold* _italic_ __under__ ~gone~ ||hidden||", "bold italic under gone hidden"),
        ("MarkdownV2", r"1 \+ 1 \= 2\.", "1 + 1 = 2."),
        ("MarkdownV2", r"\*not bold\*", "*not bold*"),
        ("MarkdownV2", "`a_b*c` and ```\nx*y\n```", "a_b*c and \nx*y\n"),
        ("MarkdownV2", "[here](https://example.org/a_b)", "here (https://example.org/a_b)"),
        ("MarkdownV2", r"\[no\](link)", "[no](link)"),
        ("MarkdownV2", r"\\[here](https://example.org/)", "\\here (https://example.org/)"),
        ("MarkdownV2", "[no] [here](there)", "[no] here (there)"),
        ("MarkdownV2", "[a [b](c)", "a [b (c)"),
        ("MarkdownV2", "[a](b and [c]", "[a](b and [c]"),
        ("Markdown", "*bold* _italic_ ~stays~", "bold italic ~stays~"),
        ("markdownv2", "*x*", "x"),
        ("MarkdownV2", "ends with \\", "ends with \\"),
    ],
)
def test_marks_are_taken_out(mode: str, marked: str, text: str) -> None:
    assert plain(marked, mode).text == text


@pytest.mark.parametrize("mode", ["HTML", "MarkdownV2"])
def test_a_link_to_a_user_mentions_them_in_utf_16_units(mode: str) -> None:
    marked = {"HTML": '😃 <a href="tg://user?id=7">Zoë 😃</a>!', "MarkdownV2": "😃 [Zoë 😃](tg://user?id=7)\\!"}[mode]
    assert plain(marked, mode) == Plain("😃 Zoë 😃!", (UserMention(3, 6, 7),))


def test_an_entity_mentions_a_user() -> None:
    entity = {"type": "text_mention", "offset": 3, "length": 5, "user": {"id": 7}}
    bold = {"type": "bold", "offset": 0, "length": 2}
    assert plain("Hi Alice", None, [bold, entity]).mentions == (UserMention(3, 5, 7),)


@pytest.mark.parametrize(
    "entity",
    [
        {"type": "text_mention", "offset": 3, "length": 6, "user": {"id": 7}},
        {"type": "text_mention", "offset": -1, "length": 1, "user": {"id": 7}},
        {"type": "text_mention", "offset": 0, "length": 0, "user": {"id": 7}},
        {"type": "text_mention", "offset": 0, "length": 1},
        {"type": "text_mention", "offset": "x", "length": 1, "user": {"id": 7}},
        {"type": "text_mention", "offset": float("inf"), "length": 1, "user": {"id": 7}},
        {},
    ],
)
def test_an_entity_beyond_the_text_is_refused(entity: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        plain("Hi Alice", None, [entity])


def test_there_are_no_other_parse_modes() -> None:
    with pytest.raises(BadRequest):
        plain("x", "LaTeX")


@given(st.text(), st.sampled_from(["HTML", "MarkdownV2", "Markdown"]))
def test_no_text_is_too_odd_and_none_gets_longer_by_more_than_links(text: str, mode: str) -> None:
    found = plain(text, mode)
    assert len(found.text) <= len(text) + 3 * text.count("(") + 3 * text.count("href") + 3
    assert all(each.start >= 0 and each.start + each.length <= units(found.text) for each in found.mentions)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/start", [("bot_command", 0, 6)]),
        ("/start@echo_bot now", [("bot_command", 0, 15)]),
        ("😃 /help", [("bot_command", 3, 5)]),
        ("do /a and /b", [("bot_command", 3, 2), ("bot_command", 10, 2)]),
        ("ask @echo_bot /x", [("mention", 4, 9), ("bot_command", 14, 2)]),
        ("http://x/y 1/2 a@b.example //x /", []),
    ],
)
def test_commands_and_names_are_marked(text: str, expected: list[tuple[str, int, int]]) -> None:
    assert [(each["type"], each["offset"], each["length"]) for each in entities_of(text)] == expected


@given(st.text())
def test_marked_parts_are_in_the_text(text: str) -> None:
    for each in entities_of(text):
        encoded = text.encode("utf-16-le", "surrogatepass")[2 * each["offset"] : 2 * (each["offset"] + each["length"])]
        assert encoded.decode("utf-16-le")[0] in "/@"


def test_a_character_whose_number_has_thousands_of_digits_is_refused() -> None:
    with pytest.raises(BadRequest):
        plain("&#" + "9" * 5000 + ";", "HTML")


# --- what strangers may write ---


def growth(read: Callable[[str], object], repeated: str) -> float:
    """How many times the time of a text it takes to read one that is eight times as long."""

    def seconds(length: int) -> float:
        text, times = repeated * (length // len(repeated)), []
        for _ in range(3):
            before = time.thread_time()
            read(text)
            times.append(time.thread_time() - before)
        return min(times)

    return seconds(32_000) / seconds(4_000)


LINEAR = 24  # eight times the text takes eight times as long, and not 64 times


@pytest.mark.parametrize("repeated", ["/a ", "😃 /a ", "@abc ", "/a@", "/"])
def test_commands_and_names_are_found_in_time_in_proportion(repeated: str) -> None:
    assert growth(entities_of, repeated) < LINEAR


@pytest.mark.parametrize("repeated", ["[", "![", "[a](", "[a](b)", "[a]", "[\\", "\\", "`", "[😃](tg://user?id=7)"])
def test_marks_are_taken_out_in_time_in_proportion(repeated: str) -> None:
    assert growth(lambda text: plain(text, "MarkdownV2"), repeated) < LINEAR


@pytest.mark.parametrize(
    "repeated",
    ["<", "<a", "<a href='", "<a href=x>", "<a href=x>y</a>", "<br>", "<!", "<!--", "<!-->", "<![", "</a", "&", "&#"],
)
def test_tags_are_taken_out_in_time_in_proportion(repeated: str) -> None:
    assert growth(lambda text: plain(text, "HTML"), repeated) < LINEAR


@pytest.mark.parametrize("repeated", ["a", "a ", "a   ", "a=", "'", '"', "href='x'", " "])
def test_attributes_are_read_in_time_in_proportion(repeated: str) -> None:
    assert growth(lambda text: plain(f"<a {text}>x</a>", "HTML"), repeated) < LINEAR
