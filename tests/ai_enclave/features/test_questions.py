"""Questions that wait for the viewer: addressed to them, and not answered since."""

import pytest

from ai_enclave.features import Digester, Line, LineKind
from ai_enclave.features.limits import ANSWERED_WITHIN, MOST_QUESTIONS
from tests.ai_enclave.features.threads import NoEngine, a_thread

Said = tuple[str, str]


def asked(*said: Said, viewer: str = "bob") -> list[str]:
    return [line.cites[0] for line in lines(*said, viewer=viewer)]


def lines(*said: Said, viewer: str = "bob") -> tuple[Line, ...]:
    return Digester(NoEngine()).questions(a_thread(*said), viewer=viewer)


GROUP = [("cem", "Morning all"), ("bob", "hi"), ("dora", "The bus is late.")]


@pytest.mark.parametrize(
    "text",
    [
        "Bob, can you bring the kit?",
        "Can you bring the kit, @Bob?",
        "bob when do you come?",
        "Bob, wann kommst du?",
        "Bob 你来吗？",
    ],
)
def test_by_name_in_any_language(text: str) -> None:
    (line,) = lines(*GROUP, ("ann", text))
    assert (line.kind, line.cites, line.speaker) == (LineKind.QUESTION_TO_YOU, ("m3",), "ann")
    assert line.text.startswith('Ann asks: "')


def test_between_two_people_every_question_is() -> None:
    def found(*said: tuple[str, str], members: int) -> list[str]:
        names = {"ann": "Ann", "bob": "Bob"}
        return [
            line.text
            for line in Digester(NoEngine()).questions(a_thread(*said, names=names, members=members), viewer="bob")
        ]

    question = ("ann", "Do you have time today?")
    assert found(question, members=2) == ["Ann asks if Bob has time today."]
    for members in (0, 1, 3, 10):  # others may be there who are not heard
        assert found(question, members=members) == []
        assert found(("bob", "I am at the station."), question, members=members) == []
    assert found(question, ("cem", "hm"), members=2) == []  # whoever that is, there are three


def test_right_after_the_viewer_spoke() -> None:
    assert asked(*GROUP, ("bob", "I am at the station."), ("ann", "oh"), ("ann", "Which one?")) == ["m5"]
    assert asked(*GROUP, ("bob", "I am at the station."), ("cem", "nice"), ("ann", "Which one?")) == []
    assert asked(*GROUP, ("bob", "I am at the station."), ("ann", "Cem, which bus is it?")) == []


def test_questions_to_others_to_all_and_by_the_viewer_are_not() -> None:
    assert (
        asked(*GROUP, ("ann", "Dora, can you drive?"), ("ann", "Who brings the cake?"), ("bob", "Ann, can you?")) == []
    )


def test_a_name_that_is_a_word_has_to_be_set_apart() -> None:
    said = [("will", "hello"), *GROUP, ("ann", "When will it start?")]
    assert asked(*said, viewer="will") == []
    assert asked(*said, ("ann", "Will, are you coming?"), viewer="will") == ["m5"]


def test_an_answer_ends_it_and_a_question_back_does_not() -> None:
    question = ("ann", "Bob, can you bring the kit?")
    assert asked(*GROUP, question, ("bob", "Sure")) == []
    assert asked(*GROUP, question, ("bob", "👍")) == []
    assert asked(*GROUP, question, ("bob", "Which kit?")) == ["m3"]
    assert asked(*GROUP, question, ("bob", "Which kit?"), ("ann", "The red one."), ("bob", "ok")) == []
    assert asked(*GROUP, question, ("cem", "Bob said yes, he will")) == ["m3"]


def test_an_answer_comes_soon() -> None:
    said = [*GROUP, ("ann", "Bob, can you bring the kit?"), *[("cem", "hm")] * ANSWERED_WITHIN]
    assert asked(*said, ("bob", "Yes")) == []
    assert asked(*said, ("cem", "hm"), ("bob", "Yes")) == ["m3"]


def test_a_flood_of_questions_leaves_room_for_the_others_and_repeats_count_once() -> None:
    flood = [("eve", f"Bob, do you know number {number}?") for number in range(500)]
    found = lines(*GROUP, ("ann", "Bob, can you bring the kit?"), *flood)
    assert len(found) == MOST_QUESTIONS
    assert [line.speaker for line in found] == ["ann", *["eve"] * (MOST_QUESTIONS - 1)]
    assert found[-1].cites == ("m503",)
    assert len(lines(*GROUP, *[("eve", "Bob, are you there?")] * 50)) == 1


def test_nothing_asked_is_nothing_found() -> None:
    assert asked() == []
    assert asked(("ann", "ok"), ("bob", "?")) == []
