"""A line, which every feature answers with: what was said, by whom, and the messages that it rests on."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from ai_enclave.features.guard import Mark
from ai_enclave.features.people import People
from ai_enclave.features.render import render
from ai_enclave.features.sentences import Unit


class LineKind(StrEnum):
    """What a line is for; these words travel."""

    SUMMARY = "summary"
    ASK_OF_YOU = "ask_of_you"
    QUESTION_TO_YOU = "question_to_you"
    COMMITMENT = "commitment"
    DECISION = "decision"
    DATE = "date"
    MENTION = "mention"  # of the viewer, by another


@dataclass(frozen=True, slots=True)
class Line:
    """One line. ``cites`` are ids of messages; without one it cannot be made. ``speaker`` is an author id."""

    text: str = field(repr=False)
    kind: LineKind
    cites: tuple[str, ...]
    speaker: str
    score: float
    marks: frozenset[Mark] = frozenset()

    def __post_init__(self) -> None:
        if not self.cites:
            raise ValueError("a line must cite the messages it rests on")


def told(unit: Unit, people: People) -> str:
    """``unit`` as the text of a line; what is marked is quoted. Empty if it says nothing in words."""
    author = unit.message.author
    return render(
        unit.text,
        people.names[author],
        people.addressee(author),
        names=people.name_looks,
        verbatim=bool(unit.marks),
    )


def line_of(unit: Unit, people: People, kind: LineKind, score: float) -> Line:
    """The line that ``unit`` makes; it cites its own message, whatever its text says."""
    return Line(told(unit, people), kind, (unit.message.id,), unit.message.author, score, unit.marks)


def in_order(units: Iterable[Unit]) -> list[Unit]:
    """As they were said."""
    return sorted(units, key=lambda unit: unit.place)
