"""A digest: the lines that matter, in the order in which they were said, each with the messages it rests on."""

from dataclasses import dataclass

from ai_enclave.engine import Engine
from ai_enclave.features.actions import actions
from ai_enclave.features.conversation import Thread
from ai_enclave.features.limits import (
    BASE_WORDS,
    LEAST_LINES,
    LEAST_LINES_FROM,
    MAX_CANDIDATES,
    MOST_LINES,
    SHARE_OF_WORDS,
)
from ai_enclave.features.lines import Line, LineKind, line_of, told
from ai_enclave.features.people import People
from ai_enclave.features.questions import questions
from ai_enclave.features.score import Scored, choose, in_turns, salience
from ai_enclave.features.sentences import Unit, units_of


@dataclass(frozen=True, slots=True)
class Digest:
    """The lines, and how many messages were read for them."""

    lines: tuple[Line, ...]
    covered: int


class Digester:
    """Makes digests with an engine. Deterministic: the same thread gives the same digest.

    In all of its methods ``viewer`` is the author id of the requester, who need not have written.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def digest(self, thread: Thread, viewer: str) -> Digest:
        """The digest of ``thread`` for ``viewer``."""
        people = People(thread, viewer)
        units = units_of(thread, people.compared_names)
        messages = len(thread.messages)
        scores = {id(unit): salience(unit, messages) for unit in units}
        best = sorted(
            (unit for unit in units if scores[id(unit)] > 0), key=lambda unit: (-scores[id(unit)], unit.place)
        )
        ranked = [unit for unit in in_turns(best, MAX_CANDIDATES) if told(unit, people)]
        vectors = self._engine.encode([unit.text for unit in ranked])
        total = sum(len(unit.words) for unit in units)
        chosen = choose(
            [Scored(unit, scores[id(unit)], vector) for unit, vector in zip(ranked, vectors, strict=True)],
            words=BASE_WORDS + round(SHARE_OF_WORDS * total),
            least=LEAST_LINES if messages >= LEAST_LINES_FROM else 1,
            most=MOST_LINES,
        )
        chosen.sort(key=lambda scored: (scored.unit.place, scored.unit.text))
        lines = (line_of(scored.unit, people, _kind(scored.unit, people), scored.score) for scored in chosen)
        return Digest(tuple(lines), messages)

    def questions(self, thread: Thread, viewer: str) -> tuple[Line, ...]:
        """Questions that ``viewer`` has not answered, the newest last; by rules alone."""
        return questions(thread, viewer)

    def actions(self, thread: Thread, viewer: str) -> tuple[Line, ...]:
        """What is asked of ``viewer``, promised, decided and dated, in the order of the thread; by rules alone."""
        return actions(thread, viewer)


def _kind(unit: Unit, people: People) -> LineKind:
    """A question that the viewer has to answer, a mention of the viewer, or simply a line."""
    called = people.viewer in people.called_in(unit)
    if unit.asks and (called or (people.are_two and people.is_to_viewer(unit))):
        return LineKind.QUESTION_TO_YOU
    return LineKind.MENTION if called else LineKind.SUMMARY
