"""A digest: the lines that matter, in the order in which they were said, each with the messages it rests on."""

from dataclasses import dataclass

from ai_enclave.engine import Reader
from ai_enclave.features.actions import actions
from ai_enclave.features.conversation import Thread
from ai_enclave.features.limits import BASE_WORDS, LEAST_LINES, LEAST_LINES_FROM, MOST_LINES, SHARE_OF_WORDS
from ai_enclave.features.lines import Line, LineKind, line_of
from ai_enclave.features.people import People
from ai_enclave.features.questions import questions
from ai_enclave.features.reading import read_thread
from ai_enclave.features.score import choose
from ai_enclave.features.sentences import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long a digest may be: words of its messages, as a base and a share of the thread's, and how many lines."""

    words: int = BASE_WORDS
    share: float = SHARE_OF_WORDS
    least: int = LEAST_LINES  # for ``LEAST_LINES_FROM`` messages or more, else 1
    most: int = MOST_LINES
    hear_all: bool = True  # everybody with something to say gets a line, whatever the words


@dataclass(frozen=True, slots=True)
class Digest:
    """The lines, and how many messages were read for them."""

    lines: tuple[Line, ...]
    covered: int


class Digester:
    """Makes digests with an engine. Deterministic: the same thread gives the same digest.

    In all of its methods ``viewer`` is the author id of the requester, who need not have written.
    """

    def __init__(self, engine: Reader) -> None:
        self._engine = engine

    def digest(self, thread: Thread, viewer: str, budget: Budget = Budget()) -> Digest:  # frozen
        """The digest of ``thread`` for ``viewer``."""
        reading = read_thread(self._engine, thread, viewer)
        messages = len(thread.messages)
        chosen = choose(
            reading.scored(),
            words=budget.words + round(budget.share * reading.words),
            least=budget.least if messages >= LEAST_LINES_FROM else 1,
            most=budget.most,
            hear_all=budget.hear_all,
        )
        chosen.sort(key=lambda scored: (scored.unit.place, scored.unit.text))
        people = reading.people
        lines = (line_of(scored.unit, people, _kind(scored.unit, people), scored.score) for scored in chosen)
        return Digest(tuple(lines), messages)

    def questions(self, thread: Thread, viewer: str) -> tuple[Line, ...]:
        """Questions that ``viewer`` has not answered, the newest last."""
        return questions(read_thread(self._engine, thread, viewer))

    def actions(self, thread: Thread, viewer: str) -> tuple[Line, ...]:
        """What is asked of ``viewer``, promised, decided and dated, in the order of the thread."""
        return actions(read_thread(self._engine, thread, viewer))


def _kind(unit: Unit, people: People) -> LineKind:
    """A question that the viewer has to answer, a mention of the viewer, or simply a line."""
    called = people.viewer in people.called_in(unit)
    if unit.asks and (called or (people.are_two and people.is_to_viewer(unit))):
        return LineKind.QUESTION_TO_YOU
    return LineKind.MENTION if called else LineKind.SUMMARY
