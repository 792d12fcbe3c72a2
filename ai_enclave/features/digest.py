"""A digest: the lines that matter, in the order in which they were said, each with the messages it rests on."""

from dataclasses import dataclass, field

from ai_enclave.engine import Engine
from ai_enclave.features.conversation import Thread
from ai_enclave.features.render import render
from ai_enclave.features.score import Scored, choose, salience
from ai_enclave.features.sentences import Unit, units_of

MOST_LINES = 8
LEAST_LINES = 3  # of ten messages or more
BASE_WORDS, SHARE = 8, 0.15  # the budget: so many words, and this share of the thread's
MAX_CANDIDATES = 12 * MOST_LINES  # only the most salient units get vectors: the others would not be chosen
SUMMARY, QUESTION_TO_YOU = "summary", "question_to_you"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a digest. ``cites`` are ids of messages; without one it cannot be made."""

    text: str = field(repr=False)
    kind: str
    cites: tuple[str, ...]
    speaker: str
    score: float

    def __post_init__(self) -> None:
        if not self.cites:
            raise ValueError("a line must cite the messages it rests on")


@dataclass(frozen=True, slots=True)
class Digest:
    """The lines, and how many messages were read for them."""

    lines: tuple[Line, ...]
    covered: int


class Digester:
    """Makes digests with an engine. Deterministic: the same thread gives the same digest."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def digest(self, thread: Thread, *, viewer: str) -> Digest:
        """The digest of ``thread`` for ``viewer`` (an author id): nobody is told what they wrote themselves as news, unless it is all."""
        units = units_of(thread)
        messages = len(thread.messages)
        scores = {id(unit): salience(unit, messages) for unit in units}
        best = sorted(units, key=lambda unit: (-scores[id(unit)], unit.place))[:MAX_CANDIDATES]
        ranked = [unit for unit in best if _rendered(unit, thread)]
        vectors = self._engine.encode([unit.text for unit in ranked])
        candidates = [Scored(unit, scores[id(unit)], vector) for unit, vector in zip(ranked, vectors, strict=True)]
        total = sum(len(unit.words) for unit in units)
        chosen = choose(
            candidates,
            words=BASE_WORDS + round(SHARE * total),
            least=LEAST_LINES if messages >= 10 else 1,
            most=MOST_LINES,
        )
        chosen.sort(key=lambda scored: (scored.unit.place, scored.unit.text))
        return Digest(tuple(_line(scored, thread, viewer) for scored in chosen), messages)


def _rendered(unit: Unit, thread: Thread) -> str:
    author = unit.message.author
    return render(unit.text, thread.name_of(author), thread.addressee(author))


def _line(scored: Scored, thread: Thread, viewer: str) -> Line:
    unit = scored.unit
    return Line(
        text=_rendered(unit, thread),
        kind=QUESTION_TO_YOU if _asks(unit, thread, viewer) else SUMMARY,
        cites=(unit.message.id,),
        speaker=unit.message.author,
        score=scored.score,
    )


def _asks(unit: Unit, thread: Thread, viewer: str) -> bool:
    """Whether a unit is a question that the viewer has to answer: asked by name, or between two people."""
    if not unit.text.endswith("?") or unit.message.author == viewer:
        return False
    authors = {message.author for message in thread.messages}
    return len(authors | {viewer}) == 2 or thread.name_of(viewer).lower() in unit.words
