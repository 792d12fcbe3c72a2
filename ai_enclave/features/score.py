"""Which units matter: hand-set features, and a choice that spares repetition and lets nobody take a digest over.

No centrality: in chats the sentence nearest the centre is small talk. The weights were set once, by hand, from what
people ask of a summary: decisions, plans, times, asks and promises.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ai_enclave.engine.interface import Vectors
from ai_enclave.features.guard import WEIGHTS
from ai_enclave.features.limits import MAX_UNIT_WORDS, MOST_LINES_OF_A_MESSAGE
from ai_enclave.features.sentences import Unit
from ai_enclave.features.text import word_set

MIN_CONTENT_WORDS = 2  # a unit with fewer is small talk
FEWEST_BY_HAND = 3  # content words from which on the hand-set features say anything
REPETITION = 0.3  # how much being like a chosen line costs
WORTH_A_LINE = 0.12  # the least score of a unit whose sender has something to say
BY_HAND, MOST_BY_HAND = 0.2, 4.0  # how much ``salience`` counts beside the engine, and where it counts in full

STOP_WORDS = word_set(
    "a an the and or but if so then i me my you your he she it we they them his her its our us is are was were be "
    "been am do does did have has had will would can could should shall may might must to of in on at for with "
    "from by as that this these those there here what which who when where why how not no yes ok okay yeah yep "
    "lol haha hi hey hello thanks thank please just also too very really well oh mm hmm hm mhm uh um great good "
    "nice cool sure perfect fine right all any some"
)
_DECISION = re.compile(
    r"\b(?:decid\w+|agreed?|confirm\w*|final|settled|booked|paid"
    r"|cancel\w*|moved|postponed|deadline|instead|changed?|ready"
    r"|let's|lets|we (?:meet|take|go|start|need|will)|goes? out|done)\b",
    re.IGNORECASE,
)
_PROMISE = re.compile(r"\bi(?:'ll| will| can|'m going to| am going to)\b", re.IGNORECASE)
_ASK = re.compile(r"\b(?:please|can you|could you|would you|need(?:s|ed)?|must|have to|should)\b", re.IGNORECASE)
_FACT = re.compile(
    r"\d|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|\b(?:today|tonight|tomorrow|noon)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Scored:
    """A unit that may become a line. Scores compare within one thread only."""

    unit: Unit
    score: float
    vector: Vectors


def content_words(unit: Unit) -> list[str]:
    """The words that carry meaning."""
    return [word for word in unit.words if word not in STOP_WORDS]


def salience(unit: Unit, messages: int) -> float:
    """How much a unit matters by itself, 0 for small talk."""
    content = len(content_words(unit))
    if content < FEWEST_BY_HAND:
        return 0.0
    score = math.log1p(min(content, 12))
    score += 0.9 * bool(_DECISION.search(unit.text))
    score += 0.6 * bool(_PROMISE.search(unit.text))
    score += 0.4 * bool(_ASK.search(unit.text))
    score += 0.5 * min(len(_FACT.findall(unit.text)), 2)
    score += 0.3 * unit.asks
    score += 0.3 * unit.place / max(messages - 1, 1)  # the later word stands
    return score


def blended(chance: float, by_hand: float) -> float:
    """One score between 0 and 1 from what an engine judges and ``salience``, which catches what the engine never saw."""
    return (chance + BY_HAND * min(by_hand, MOST_BY_HAND) / MOST_BY_HAND) / (1 + BY_HAND)


def weight(unit: Unit) -> float:
    """What is left of a unit's score, for its marks."""
    return math.prod(WEIGHTS[mark] for mark in unit.marks)


def in_turns(units: Iterable[Unit], most: int) -> list[Unit]:
    """The first ``most`` of ``units``, best first, where every sender has one before any has two, and so on."""
    taken: Counter[str] = Counter()
    turns = []
    for order, unit in enumerate(units):
        taken[unit.message.author] += 1
        turns.append((taken[unit.message.author], order, unit))
    return [unit for _, _, unit in sorted(turns, key=lambda turn: turn[:2])[:most]]


def choose(candidates: Sequence[Scored], *, words: int, least: int, most: int, hear_all: bool = True) -> list[Scored]:
    """Pick until all who have something to say are heard and ``words`` are spent, at least ``least`` and at most
    ``most`` units.

    The best comes first. Being heard does not depend on ``words``: a long line would spend what the others need. A
    unit loses by what it repeats of those chosen (maximal marginal relevance, Carbonell and Goldstein 1998). Nobody
    is heard twice while somebody else with something to say has not been heard. Nobody gets more than half of the
    lines (rounded up), nor more than half of the words by more than one line, unless they alone have something to
    say. No message gets more than two lines. What is marked so that it is worth no line fills a digest up to
    ``least``, no further.
    """
    left = [candidate for candidate in candidates if candidate.score > 0]
    alone = len({candidate.unit.message.author for candidate in left if candidate.score >= WORTH_A_LINE}) <= 1
    chosen: list[Scored] = []
    spent = 0
    while len(chosen) < most:
        fitting = [candidate for candidate in left if _fits(candidate.unit, chosen, alone)]
        turn = _next_in_turn(fitting, chosen, fill=len(chosen) < least)
        heard = {candidate.unit.message.author for candidate in chosen}
        all_heard = not hear_all or (turn and turn[0].unit.message.author in heard)
        if not turn or (spent >= words and len(chosen) >= least and all_heard):
            break
        best = max(turn, key=lambda candidate: _marginal(candidate, chosen))
        left = [candidate for candidate in left if candidate is not best]
        chosen.append(best)
        spent += len(best.unit.words)
    return chosen


def _fits(unit: Unit, chosen: Sequence[Scored], alone: bool) -> bool:
    """Whether its message and its sender may have one more line."""
    if not chosen:
        return True
    if sum(other.unit.message.id == unit.message.id for other in chosen) >= MOST_LINES_OF_A_MESSAGE:
        return False
    own = [len(other.unit.words) for other in chosen if other.unit.message.author == unit.message.author]
    if alone or not own:
        return True
    own_words = sum(own) + len(unit.words)
    all_words = sum(len(other.unit.words) for other in chosen) + len(unit.words)
    return 2 * (len(own) + 1) <= len(chosen) + 2 and own_words <= max(MAX_UNIT_WORDS, all_words / 2)


def _next_in_turn(left: Sequence[Scored], chosen: Sequence[Scored], *, fill: bool) -> list[Scored]:
    """Those whose turn it is: the least heard among the senders who have something worth a line."""
    worthy = [candidate for candidate in left if candidate.score >= WORTH_A_LINE] or (list(left) if fill else [])
    heard = Counter(candidate.unit.message.author for candidate in chosen)
    fewest = min((heard[candidate.unit.message.author] for candidate in worthy), default=0)
    return [candidate for candidate in worthy if heard[candidate.unit.message.author] == fewest]


def _marginal(candidate: Scored, chosen: Sequence[Scored]) -> float:
    if not chosen:
        return candidate.score
    repeated = max(float(np.dot(candidate.vector, other.vector)) for other in chosen)
    return candidate.score * (1 - REPETITION * max(repeated, 0.0))
