"""Every method chooses among the same pieces, in order, and no more than it may."""

import os
import subprocess
import sys

import pytest

from benchmarks._corpora import Sample, thread_from
from benchmarks._methods import (
    METHODS,
    ORACLE,
    OURS,
    OURS_UNTRAINED,
    RANDOM,
    Cut,
    Form,
    Prepared,
    best_possible,
    by_lot,
    lead,
    longest,
    pieces_of,
    summary,
    words_for,
)
from tests.ai_enclave.features.threads import NoEngine
from tests.benchmarks.samples import a_sample

TWO = thread_from(
    [
        ("Ann", "I need two strong tents for the trip. Hello!"),
        ("Bob", "🙂"),
        ("Bob", "ok"),
        ("Ann", "The train to the mountains leaves at nine on Friday"),
        ("Bob", "I'll bring the blue tent and the stove"),
    ]
)


def prepared(*references: str) -> Prepared:
    return Prepared(Sample("trip", TWO, references or ("Ann needs two tents.",)), NoEngine())


def test_pieces_are_messages_or_their_sentences_and_all_say_something() -> None:
    pieces = pieces_of(TWO)
    assert [piece.message for piece in pieces[Cut.MESSAGES]] == ["0", "2", "3", "4"]
    assert [piece.message for piece in pieces[Cut.SENTENCES]] == ["0", "0", "2", "3", "4"]


def test_a_piece_is_named_as_it_was_said_or_told_as_the_assistant_tells_it() -> None:
    first = pieces_of(TWO)[Cut.SENTENCES][0]
    assert first.say(Form.NAMED) == "Ann: I need two strong tents for the trip."
    assert first.say(Form.TOLD) == "Ann needs two strong tents for the trip."
    whole = pieces_of(TWO)[Cut.MESSAGES][0]
    assert whole.say(Form.NAMED) == "Ann: I need two strong tents for the trip. Hello!"
    assert whole.say(Form.TOLD).startswith("Ann needs two strong tents for the trip. Ann")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_method_chooses_as_many_as_it_may_in_order(name: str, cut: Cut, count: int) -> None:
    chat = prepared()
    chosen = list(METHODS[name](chat, cut, count))
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(len(chat.pieces[cut])))
    assert len(chosen) <= count
    if name not in (OURS, OURS_UNTRAINED, ORACLE):
        assert len(chosen) == count


@pytest.mark.parametrize("name", METHODS)
def test_a_method_copes_with_a_chat_that_says_nothing(name: str) -> None:
    empty = Prepared(Sample("empty", thread_from([("Ann", "🙂"), ("Bob", "...")]), ("Nothing.",)), NoEngine())
    assert list(METHODS[name](empty, Cut.SENTENCES, 3)) == []


def test_lead_takes_the_first_and_longest_the_longest() -> None:
    chat = prepared()
    assert list(lead(chat, Cut.SENTENCES, 2)) == [0, 1]
    assert list(longest(chat, Cut.MESSAGES, 2)) == [0, 2]  # of 9, 1, 10 and 8 words
    assert list(longest(chat, Cut.SENTENCES, 2)) == [0, 3]  # of 8, 1, 1, 10 and 8: the first of equals


def test_a_draw_is_the_same_each_time_and_other_draws_differ() -> None:
    sample = a_sample()
    chat = Prepared(sample, NoEngine())
    assert by_lot(chat, Cut.SENTENCES, 2, 1) == by_lot(chat, Cut.SENTENCES, 2, 1)
    assert len({tuple(by_lot(chat, Cut.SENTENCES, 2, draw)) for draw in range(10)}) > 1
    assert METHODS[RANDOM] is by_lot


def test_lsa_chooses_the_same_whatever_the_order_of_a_set_is() -> None:
    program = (
        "from benchmarks._corpora import held_out; from benchmarks._methods import Cut, Prepared, lsa;"
        "from tests.ai_enclave.features.threads import NoEngine;"
        "print([lsa(Prepared(sample, NoEngine()), Cut.SENTENCES, 3) for sample in held_out()[:12]])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_ours_is_what_the_digest_rests_on() -> None:
    chat = Prepared(a_sample(), NoEngine())
    lines = {line.text for line in chat.own.lines}
    count = len(lines)
    told = {chat.pieces[Cut.SENTENCES][number].told for number in METHODS[OURS](chat, Cut.SENTENCES, count)}
    assert len(told) == count
    assert told <= {piece.told for piece in chat.pieces[Cut.SENTENCES]}


def test_the_best_possible_finds_the_reference_and_stops_where_more_would_harm() -> None:
    chat = prepared("Ann needs two strong tents for the trip.")
    assert best_possible(chat, Cut.SENTENCES, 3) == [0]
    both = prepared("Ann needs two strong tents for the trip. The train to the mountains leaves at nine on Friday.")
    assert best_possible(both, Cut.SENTENCES, 3) == [0, 3]
    assert best_possible(both, Cut.SENTENCES, 1) != [0, 3]


def test_a_summary_is_a_line_for_each_piece() -> None:
    pieces = pieces_of(TWO)[Cut.SENTENCES]
    assert summary(pieces, [2, 4], Form.NAMED) == "Bob: ok\nBob: I'll bring the blue tent and the stove"


def test_words_are_stems_in_english_and_keep_their_accents_elsewhere() -> None:
    assert words_for("en").tokenize("The trains, leaving!") == ["the", "train", "leav"]
    assert words_for("fr").tokenize("Les élèves, déjà!") == ["les", "élèves", "déjà"]
