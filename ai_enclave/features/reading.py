"""A thread as it is read once for every feature: its units, those that may become lines, their vectors, and what each is.

Vectors are kept with their message, and go when it goes. They are rounded, so that it makes no difference whether one was kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ai_enclave.engine import Reader
from ai_enclave.engine.interface import KIND_CHANCES, KINDS, Judgement, Vectors
from ai_enclave.features.conversation import Thread
from ai_enclave.features.hints import hints_of
from ai_enclave.features.limits import MAX_CANDIDATES, MOST_KEPT
from ai_enclave.features.lines import told
from ai_enclave.features.people import People
from ai_enclave.features.score import MIN_CONTENT_WORDS, Scored, blended, content_words, in_turns, salience, weight
from ai_enclave.features.sentences import Unit, units_of

RULED = 0.25  # of the chance from which on a unit counts as of a kind: enough where a rule says so, too


@dataclass(frozen=True, slots=True)
class Reading:
    """The units of a thread that say something, in its order, and what the engine makes of them."""

    people: People
    units: tuple[Unit, ...] = field(repr=False)
    vectors: Vectors = field(repr=False)
    judgement: Judgement = field(repr=False)
    words: int  # of all units, read or not

    def scored(self) -> list[Scored]:
        """The units that are more than small talk, with how much they matter: as the engine judges, helped by ``salience``."""
        messages = len(self.people.thread.messages)
        judged = zip(self.units, self.judgement.salience, self.vectors, strict=True)
        return [
            Scored(unit, blended(float(chance), salience(unit, messages)) * weight(unit), vector)
            for unit, chance, vector in judged
            if len(content_words(unit)) >= MIN_CONTENT_WORDS
        ]

    def chance(self, number: int, kind: str, *, ruled: bool = False) -> bool:
        """Whether a unit counts as of a kind of ``KINDS``; with a rule that says so, too, a smaller chance is enough."""
        place = KINDS.index(kind)
        least = KIND_CHANCES[place] * (RULED if ruled else 1.0)
        return float(self.judgement.kinds[number, place]) >= least


def read_thread(engine: Reader, thread: Thread, viewer: str) -> Reading:
    """Read ``thread`` for ``viewer``. Of many units the ``MAX_CANDIDATES`` that seem to matter most are looked at."""
    people = People(thread, viewer)
    units = units_of(thread, people.compared_names)
    rough = [salience(unit, len(thread.messages)) * weight(unit) for unit in units]
    best = sorted(range(len(units)), key=lambda number: -rough[number])
    numbers = {id(units[number]): number for number in best}
    candidates = in_turns([units[number] for number in best], MAX_CANDIDATES)
    kept = sorted(numbers[id(unit)] for unit in candidates if told(unit, people))
    read = tuple(units[number] for number in kept)
    vectors = vectors_of(engine, read)
    judgement = engine.judge(vectors, hints_of(units, thread, people.name_words)[kept])
    return Reading(people, read, vectors, judgement, sum(len(unit.words) for unit in units))


def vectors_of(engine: Reader, units: Sequence[Unit]) -> Vectors:
    """The vectors of units, kept or new: (units, size)."""
    missing = [unit for unit in units if unit.text not in unit.message.kept]
    found = engine.encode([unit.text for unit in missing]).astype(np.float16)
    new = dict(zip(map(id, missing), found, strict=True))
    rows = [
        new[id(unit)] if id(unit) in new else np.frombuffer(unit.message.kept[unit.text], np.float16) for unit in units
    ]
    for unit in missing:
        if len(unit.message.kept) < MOST_KEPT:
            unit.message.kept[unit.text] = new[id(unit)].tobytes()
    return np.stack(rows).astype(np.float32) if rows else found.astype(np.float32)
