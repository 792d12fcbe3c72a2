"""A thread is read once: vectors are kept with their message, and it makes no difference."""

from collections.abc import Sequence

import numpy as np

from ai_enclave.engine import EmbeddedEngine
from ai_enclave.engine.interface import Judgement, Vectors
from ai_enclave.features.hints import NUMBER, hints_of
from ai_enclave.features.limits import MAX_CANDIDATES, MOST_KEPT
from ai_enclave.features.reading import read_thread
from ai_enclave.features.sentences import units_of
from tests.ai_enclave.features.threads import a_thread, equal_judgement

SAID = [
    ("ann", "Shall we meet on Friday? The cabin is free."),
    ("bob", "I can bring the big stove."),
    ("ann", "Great, then it is settled: Friday at 9:30."),
]


class Counting:
    """An engine that notes what it was asked to encode."""

    name, weights_digest = "counting", bytes(32)

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.texts += texts
        return np.asarray([[len(text), 1.0] for text in texts], dtype=np.float32).reshape(len(texts), 2)

    def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:
        assert len(vectors) == len(hints)
        assert hints.shape[1] == NUMBER
        return equal_judgement(len(vectors))


def test_what_was_encoded_once_is_not_encoded_again_while_its_message_is_held() -> None:
    engine, thread = Counting(), a_thread(*SAID)
    first = read_thread(engine, thread, "ann")
    encoded = list(engine.texts)
    second = read_thread(engine, thread, "bob")
    assert engine.texts == encoded
    assert np.array_equal(first.vectors, second.vectors)
    fresh = read_thread(engine, a_thread(*SAID), "ann")
    assert len(engine.texts) == 2 * len(encoded)
    assert np.array_equal(first.vectors, fresh.vectors)


def test_of_a_message_only_so_many_vectors_are_kept() -> None:
    engine, thread = Counting(), a_thread(("ann", "One is here. Two is here. Three is here. Four is here."))
    read_thread(engine, thread, "bob")
    assert len(thread.messages[0].kept) == MOST_KEPT
    read_thread(engine, thread, "bob")
    assert len(engine.texts) == 4 + 4 - MOST_KEPT


def test_kept_vectors_are_no_part_of_a_message_that_is_compared_or_printed() -> None:
    engine, thread = Counting(), a_thread(*SAID)
    read_thread(engine, thread, "ann")
    assert thread == a_thread(*SAID)
    assert "kept" not in repr(thread)


def test_of_many_units_those_that_seem_to_matter_most_are_read_in_order() -> None:
    said = [(f"p{number % 7}", f"Point {number}: the delivery of part {number * 7} is due.") for number in range(300)]
    reading = read_thread(Counting(), a_thread(*said, ("p1", "ok")), "ann")
    assert len(reading.units) == MAX_CANDIDATES
    assert [unit.place for unit in reading.units] == sorted(unit.place for unit in reading.units)
    assert "ok" not in {unit.text for unit in reading.units}


def test_nothing_is_read_of_nothing() -> None:
    reading = read_thread(Counting(), a_thread(), "ann")
    assert (reading.units, reading.scored(), reading.words) == ((), [], 0)


def test_the_engine_finds_a_question_without_its_mark_and_a_promise_in_other_languages(engine: EmbeddedEngine) -> None:
    thread = a_thread(
        ("ann", "where should we meet tomorrow"),
        ("bob", "Ich bringe den Kuchen mit."),
        ("cem", "The weather was nice all week."),
    )
    reading = read_thread(engine, thread, "dora")
    assert [reading.chance(number, "question") for number in range(3)] == [True, False, False]
    assert [reading.chance(number, "commitment") for number in range(3)] == [False, True, False]


def test_hints_are_numbers_of_about_one_and_tell_no_name() -> None:
    one, two = (
        hints_of(units_of(thread), thread, frozenset([name]))
        for name in ("ann", "eve")
        for thread in [a_thread((name, f"{name.capitalize()}, can you come at 9? ok"), ("bob", "Yes, I'll come."))]
    )
    assert np.array_equal(one, two)
    assert one.shape == (3, NUMBER)
    assert float(np.abs(one).max()) <= 1.5
