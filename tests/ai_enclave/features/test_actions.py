"""Who promised what, what is asked of the viewer, what was decided, and when."""

import pytest

from ai_enclave.features import Digester, LineKind
from ai_enclave.features.limits import MOST_ACTIONS
from tests.ai_enclave.features.threads import NoEngine, a_thread

Said = tuple[str, str]
GROUP = [("bob", "hi"), ("cem", "hm"), ("dora", "hm")]


def found(*said: Said, viewer: str = "bob") -> list[tuple[str, LineKind, str]]:
    lines = Digester(NoEngine()).actions(a_thread(*GROUP, *said), viewer=viewer)
    return [(line.speaker, line.kind, line.text) for line in lines]


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        ("I will bring the two tents.", LineKind.COMMITMENT, "Ann will bring the two tents."),
        ("Ok, I'll call the owner", LineKind.COMMITMENT, "Ann will call the owner."),
        ("I can drive four people.", LineKind.COMMITMENT, "Ann can drive four people."),
        (
            "Bob, can you bring the first aid kit?",
            LineKind.ASK_OF_YOU,
            'Ann asks: "Bob, can you bring the first aid kit?"',
        ),
        ("Please check the labels.", LineKind.ASK_OF_YOU, 'Ann: "Please check the labels."'),
        ("Can somebody ask the owner?", LineKind.ASK_OF_YOU, 'Ann asks: "Can somebody ask the owner?"'),
        ("Decided: we take the lake cabin.", LineKind.DECISION, 'Ann: "Decided: we take the lake cabin."'),
        ("The meeting is moved to room 5.", LineKind.DECISION, 'Ann: "The meeting is moved to room 5."'),
        ("The deposit is due by Tuesday.", LineKind.DATE, 'Ann: "The deposit is due by Tuesday."'),
        ("The train leaves at 8:15.", LineKind.DATE, 'Ann: "The train leaves at 8:15."'),
    ],
)
def test_kinds(text: str, kind: LineKind, line: str) -> None:
    assert found(("ann", text)) == [("ann", kind, line)]


@pytest.mark.parametrize(
    "text",
    [
        "I can't bring the tents.",
        "I will not come to dinner.",
        "I can see the lake cabin.",
        "Cem, can you bring the first aid kit?",
        "Can you bring the first aid kit?",  # of whoever spoke before, which is not the viewer
        "We have not decided about the cabin yet.",
        "The train left yesterday at 8:15.",
        "Does the train leave at 8:15?",
        "Let's do it!",
        "ok",
    ],
)
def test_what_is_no_action_for_the_viewer(text: str) -> None:
    assert found(("ann", text)) == []


def test_what_the_viewer_asks_is_not_asked_of_them_and_what_they_promise_is_kept() -> None:
    said = [("bob", "Please check the labels."), ("bob", "I will bring the stove.")]
    assert found(*said) == [("bob", LineKind.COMMITMENT, "Bob will bring the stove.")]


def test_lines_cite_their_message_and_stand_in_order() -> None:
    lines = Digester(NoEngine()).actions(
        a_thread(("ann", "I will bring the tents."), ("bob", "The train leaves at 8:15.")), "cem"
    )
    assert [(line.speaker, line.cites) for line in lines] == [("ann", ("m0",)), ("bob", ("m1",))]


def test_a_flood_leaves_room_for_the_others() -> None:
    flood = [("eve", f"I will bring {number} boats.") for number in range(500)]
    speakers = [speaker for speaker, _, _ in found(("ann", "I will bring the tents."), *flood)]
    assert speakers == ["ann", *["eve"] * (MOST_ACTIONS - 1)]


def test_nothing_to_do_is_nothing_found() -> None:
    assert found() == []
