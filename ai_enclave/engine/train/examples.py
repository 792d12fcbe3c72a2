"""What the ranker learns from: the units of a chat as an enclave would see them, and what it should say of each."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer

from ai_enclave.engine.interface import INTENTS, KINDS, Vectors
from ai_enclave.engine.train.corpus import AnnotatedChat
from ai_enclave.engine.train.planted import planted_lines
from ai_enclave.features.conversation import Message, Thread
from ai_enclave.features.hints import hints_of
from ai_enclave.features.limits import CONTEXT
from ai_enclave.features.lines import told
from ai_enclave.features.people import People
from ai_enclave.features.sentences import Unit, units_of

MINUTE = 60_000
PLANTED, FOREIGN = "planted", -1
MOST_CHOSEN = 4  # units of the best summary that quoting allows
KEY, CHOSEN = 0.25, 0.75  # what it counts that the summary rests on a message, and that quoting a unit brings it near

_rouge = RougeScorer(["rouge1", "rouge2"], use_stemmer=True)


@dataclass(frozen=True, slots=True)
class Example:
    """One chat, or the beginning of one. Targets: chances for every unit; kinds of every message, which one of its units at
    least has to show; and what the reply to the last unit does, or -1.
    """

    texts: tuple[str, ...]
    hints: Vectors  # (units, hints)
    salience: Vectors  # (units,)
    kinds: Vectors  # (messages, KINDS)
    message_of: NDArray[np.int64]  # (units,): the number of its message
    intent: int = -1
    whole: bool = True  # or only there for its intent


def thread_of(chat: AnnotatedChat) -> Thread:
    """The chat as an enclave holds it: everybody opted in, a message each minute, ids that are places."""
    messages = tuple(
        Message(str(place), said.author, place * MINUTE, said.text) for place, said in enumerate(chat.messages)
    )
    return Thread(messages, {name: name for name in chat.people}, len(chat.people))


def examples_of(chat: AnnotatedChat, lots: random.Random | None = None) -> Iterator[Example]:
    """The chat as a whole; with ``lots`` once more with planted lines; and its beginnings, for what is replied."""
    yield _whole(chat, thread_of(chat))
    if lots is not None:
        yield _whole(chat, planted(chat, lots))
    yield from _replies(chat)


def planted(chat: AnnotatedChat, lots: random.Random) -> Thread:
    """The chat with one line more, whose id is ``PLANTED``, that does not belong to it but stands under somebody's name."""
    thread = thread_of(chat)
    at = lots.randrange(1, len(thread.messages) + 1)
    author = lots.choice([message.author for message in thread.messages])
    line = Message(PLANTED, author, thread.messages[at - 1].sent_at + 1, lots.choice(planted_lines(lots)))
    messages = (*thread.messages[:at], line, *thread.messages[at:])
    return Thread(messages, thread.names, thread.members)


def _whole(chat: AnnotatedChat, thread: Thread) -> Example:
    people = People(thread)
    units = units_of(thread, people.compared_names)
    places = [FOREIGN if unit.message.id == PLANTED else int(unit.message.id) for unit in units]
    chosen = best_units(units, people, chat.summary, [place != FOREIGN for place in places])
    salience = [
        KEY * (place in chat.key) + CHOSEN * (number in chosen) if place != FOREIGN else 0.0
        for number, place in enumerate(places)
    ]
    marks = (chat.asks, chat.questions, chat.commitments, chat.dates, chat.decisions)
    ids = list(dict.fromkeys(unit.message.id for unit in units))
    kinds = [[float(each != PLANTED and int(each) in marked) for marked in marks] for each in ids]
    return Example(
        tuple(unit.text for unit in units),
        hints_of(units, thread, people.name_words),
        np.asarray(salience, dtype=np.float32),
        np.asarray(kinds, dtype=np.float32).reshape(len(ids), len(KINDS)),
        np.asarray([ids.index(unit.message.id) for unit in units], dtype=np.int64),
    )


def best_units(units: Sequence[Unit], people: People, summary: str, allowed: Sequence[bool]) -> set[int]:
    """Numbers of the few units whose lines are nearest to ``summary`` by ROUGE (Lin 2004), found greedily."""
    lines = {number: told(unit, people) for number, unit in enumerate(units) if allowed[number]}
    left = {number: line for number, line in lines.items() if line}
    chosen: set[int] = set()
    best = 0.0
    while left and len(chosen) < MOST_CHOSEN:
        scores = {number: likeness(summary, [lines[each] for each in sorted({*chosen, number})]) for number in left}
        number = max(scores, key=lambda each: (scores[each], -each))
        if scores[number] <= best:
            break
        best = scores[number]
        chosen.add(number)
        del left[number]
    return chosen


def likeness(summary: str, lines: Sequence[str]) -> float:
    """ROUGE-1 and ROUGE-2 F1 together."""
    found = _rouge.score(summary, "\n".join(lines))
    return float(found["rouge1"].fmeasure + found["rouge2"].fmeasure)


def _replies(chat: AnnotatedChat) -> Iterator[Example]:
    thread = thread_of(chat)
    for place, intent in sorted(chat.replies.items()):
        answered = chat.messages[place].answers
        end = place if answered is None else answered + 1
        beginning = Thread(thread.messages[max(0, end - CONTEXT) : end], thread.names, thread.members)
        people = People(beginning)
        units = units_of(beginning, people.compared_names)
        if not units:
            continue
        nothing = np.zeros(len(units), dtype=np.float32)
        yield Example(
            tuple(unit.text for unit in units),
            hints_of(units, beginning, people.name_words),
            nothing,
            np.zeros((1, len(KINDS)), dtype=np.float32),
            np.zeros(len(units), dtype=np.int64),
            INTENTS.index(intent),
            whole=False,
        )
