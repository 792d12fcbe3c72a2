"""Languages: everything that the console says is said in French, too, with the same things filled in."""

import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from messaging.console import translate
from messaging.console.messages import all_messages
from messaging.console.translate import LANGUAGES, SOURCE, preferred

OTHERS = sorted(LANGUAGES.keys() - {SOURCE})
FILLED = re.compile(r"%\(\w+\)s")


def path_of(language: str) -> Path:
    return translate.FOLDER / language / "LC_MESSAGES" / "console.po"


@pytest.fixture(autouse=True)
def english_again() -> None:
    """Each test speaks English at its start."""
    translate.speak(SOURCE)


@pytest.mark.parametrize("language", OTHERS)
def test_everything_that_is_said_has_a_translation(language: str) -> None:
    with path_of(language).open("rb") as file:
        catalog = read_po(file)
    said = {message.id: message.string for message in catalog if message.id}
    wanted = all_messages()
    assert sorted(map(str, wanted - said.keys())) == [], "not translated"
    assert sorted(map(str, said.keys() - wanted)) == [], "translated, and said no more"
    assert [key for key, value in said.items() if not value or not all(value)] == []


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_fills_in_the_same(language: str) -> None:
    with path_of(language).open("rb") as file:
        for message in read_po(file):
            texts = [message.string] if isinstance(message.string, str) else message.string or []
            sources = [message.id] if isinstance(message.id, str) else message.id
            for text in texts if message.id else ():
                assert set(FILLED.findall(text)) == set(FILLED.findall(sources[-1])), message.id


def test_many_sentences_are_found() -> None:
    found = all_messages()
    assert {
        "Your role does not include this.",
        "Stop an account: it keeps what it has, and can neither connect nor send",
    } <= found
    assert {"Overview", "dry run", "Uses left", "What the columns hold"} <= found
    assert ("%(num)s row", "%(num)s rows") in found


@pytest.mark.parametrize(
    ("setting", "accept", "language"),
    [
        (None, "", "en"),
        (None, "fr", "fr"),
        (None, "fr-CA, en;q=0.5", "fr"),
        (None, "de, en;q=0.5, fr;q=0.8", "fr"),
        (None, "fr;q=0, en", "en"),
        (None, "fr;q=nonsense", "en"),
        (None, "de", "en"),
        (None, "," * 10_000, "en"),
        ("fr", "en", "fr"),
        ("tlh", "fr", "fr"),
    ],
)
def test_the_language_is_what_was_chosen_or_what_the_browser_asks_for(
    setting: str | None, accept: str, language: str
) -> None:
    assert preferred(setting, accept) == language


def test_sentences_numbers_and_times_are_of_the_language() -> None:
    now = 1_800_000_000_000
    assert translate.gettext("Overview") == "Overview"
    assert (translate.number(1234567.5), translate.size(1536), translate.duration(0.0125)) == (
        "1,234,567.5",
        "1.5\N{NO-BREAK SPACE}KiB",
        "12.5\N{NO-BREAK SPACE}ms",
    )
    assert (translate.ago(now - 300_000, now=now), translate.ago(now + 172_800_000, now=now)) == (
        "5 minutes ago",
        "in 2 days",
    )
    assert translate.exact(now) == "15 Jan 2027, 08:00:00 UTC"
    translate.speak("fr")
    assert translate.gettext("Overview") == "Vue d’ensemble"
    assert translate.number(1234567.5) == "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567,5"
    assert translate.ago(now - 300_000, now=now) == "il y a 5 minutes"
    assert translate.exact(now) == "15 janv. 2027, 08:00:00 UTC"
    assert translate.gettext("what nobody has translated") == "what nobody has translated"


@pytest.mark.parametrize("milliseconds", [-(10**18), 10**18])
def test_a_time_that_no_calendar_has_is_shown_all_the_same(milliseconds: int) -> None:
    assert translate.exact(milliseconds)
