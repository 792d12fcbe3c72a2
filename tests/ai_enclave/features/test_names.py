"""A name is one line of visible letters, nobody's twin, and never the machine's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_enclave.features.limits import MAX_NAME
from ai_enclave.features.names import clean_name, display_names, skeleton


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("Alice", "Alice"),
        ("  Dr. Anne-Marie O'Neill ", "Dr. Anne-Marie O'Neill"),
        ("Alice\u200b\u202e", "Alice"),
        ("Bob:\nI agree", "Bob I agree"),
        ('Bob: "yes"', "Bob yes"),
        ("<b>Bob</b>", "b Bob b"),
        ("[Bob](http://x.example)", "Bob http x.example"),
        ("Ａｌｉｃｅ", "Alice"),
        ("Alice (2)", "Alice"),
        ("Alice ⑵", "Alice"),
        ("Zoë 🎸", "Zoë 🎸"),
        ("मीरा", "मीरा"),
        ("李雷", "李雷"),
        ("Zo" + "\u0301" * 50, "Zó" + "\u0301" * 3),
        ("a" * 100, "a" * MAX_NAME),
        ("👍", "Someone"),
        ("\u202e\u200b", "Someone"),
        ("", "Someone"),
    ],
)
def test_what_a_name_may_be(given_name: str, shown: str) -> None:
    assert clean_name(given_name) == shown


@pytest.mark.parametrize(
    "twin",
    ["Alice", "ALICE", "Αlice", "Аlice", "Alice\u200b", "Al ice", "Alíce", "A1ice", "AIice", "Alice.", "Alice (1)"],
)
def test_names_that_look_alike_all_get_a_number(twin: str) -> None:
    shown = display_names(["a", "b", "c"], {"a": "Alice", "b": twin, "c": "Carla"})
    assert shown["a"].endswith(" (1)")
    assert shown["b"].endswith(" (2)")
    assert shown["c"] == "Carla"


@pytest.mark.parametrize(
    ("one", "other"), [("Тom", "Tom"), ("Marn", "Mam"), ("НИНА", "нина"), ("Βob", "bob"), ("Νina", "nina")]
)
def test_likeness_is_seen_in_any_case_of_letters(one: str, other: str) -> None:
    assert set(display_names("ab", {"a": one, "b": other}).values()) == {f"{one} (1)", f"{other} (2)"}


@pytest.mark.parametrize(
    ("one", "other"), [("Ann", "Anna"), ("Bob", "Rob"), ("Mia", "Lia"), ("李雷", "李磊"), ("Anna", "Аня")]
)
def test_different_names_stay_as_they_are(one: str, other: str) -> None:
    assert display_names("ab", {"a": one, "b": other}) == {"a": one, "b": other}


@pytest.mark.parametrize(
    "name",
    [
        "Sub-Rosa",
        "KI",
        "Assistent",
        "You",
        "your bank",
        "Everyone",
        "they",
        "Priya stole it",
        "Priya owes Sam 500",
        "Assistant",
        "SYSTEM",
        "аssistаnt",
        "Sub Rosa",
        "AI",
        "Admin",
        "Support Team",
        "Bob asks if Ann",
        "Bob agrees",
        "a b c d e",
    ],
)
def test_who_poses_as_the_machine_or_as_a_sentence_is_shown_in_quotes(name: str) -> None:
    assert display_names("a", {"a": name})["a"] == f'"{name}"'


def test_people_without_a_name_are_told_apart_too() -> None:
    assert display_names("ab", {}) == {"a": "Someone (1)", "b": "Someone (2)"}


NAMES = st.lists(
    st.sampled_from(["Alice", "alice", "Аlice", "A1ice", "Alice (2)", "Bob", "Böb", "", "System", "rn", "m"])
    | st.text(max_size=12),
    max_size=8,
)


@given(NAMES)
def test_no_two_names_are_confusable_and_a_second_cleaning_changes_nothing(names: list[str]) -> None:
    given_names = {str(number): name for number, name in enumerate(names)}
    shown = display_names(given_names, given_names)
    assert list(shown) == list(given_names)
    assert len({skeleton(name) or name for name in shown.values()}) == len(names)
    assert display_names(shown, shown) == shown
    for name in shown.values():
        assert 0 < len(name) <= MAX_NAME + 8
        assert not set(name.strip('"')) & set(':"“”<>[]\n')
