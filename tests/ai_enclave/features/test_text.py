"""Text on a screen hides nothing and is nobody's markup."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_enclave.features.limits import MAX_COMBINING
from ai_enclave.features.text import MARKUP, harmless, latin, visible


@pytest.mark.parametrize(
    "hidden", ["\u200b", "\u202e", "\u2066", "\u00ad", "\ufeff", "\U000e0041", "\x1b", "\u3164", "\u2800", "\ud800"]
)
def test_what_nobody_sees_is_taken_out(hidden: str) -> None:
    assert visible(f"pay{hidden}ment") == "payment"


def test_what_everybody_sees_stays() -> None:
    text = "Grüße, 李雷!\n\tनमस्ते 👍 (½)"
    assert visible(text) == text


def test_every_kind_of_line_end_is_one() -> None:
    assert visible("a\u2028b\u2029c\x85d") == "a\nb\nc\nd"


def test_a_letter_carries_so_many_accents() -> None:
    assert visible("e" + "\u0323" * 99) == "e" + "\u0323" * MAX_COMBINING


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("![x](https://evil.example/?q=1)", "[x] (https://evil.example/?q=1)"),
        ("!!![x](y)", "[x] (y)"),
        ("[click](https://evil.example)", "[click] (https://evil.example)"),
        ("<img src=x onerror=y>", "‹img src=x onerror=y>"),
        ("</b><!-- -->", "‹/b>‹!-- -->"),
        ("a < b, <3 and https://a.example/?x=1&y=2", "a < b, <3 and https://a.example/?x=1&y=2"),
        ("two\nlines\r\n here", "two lines here"),
    ],
)
def test_markup_is_shown_as_text(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(st.text(alphabet="![]()<a/ \n\u200bx") | st.text())
def test_no_text_is_markup_and_harmless_text_stays(text: str) -> None:
    shown = harmless(visible(text))
    assert not MARKUP.search(shown)
    assert harmless(visible(shown)) == shown


def test_lookalikes_are_compared_as_latin_letters() -> None:
    assert latin("Іgnоrе ΑLL Précédentes’") == "ignore all precedentes'"
