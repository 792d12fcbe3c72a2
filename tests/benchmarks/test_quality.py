"""The measures give known values for small chats."""

from typing import Any

import pytest

from ai_enclave.features import Line, LineKind, Suggestion
from benchmarks._quality import (
    OWN_BUDGET,
    Found,
    actions_found,
    chat_of,
    cites,
    compare,
    everything_said,
    hits,
    intents_of,
    is_grounded,
    kinds,
    listed_at_the_end,
    questions_found,
    replies,
    rouge,
    standard_error,
    summaries,
    total,
    until,
)
from tests.ai_enclave.features.threads import NoEngine
from tests.benchmarks.samples import a_sample


def test_rouge_is_100_of_the_same_and_0_of_something_else() -> None:
    same = rouge("Bob fetches Tim.", ["Bob fetches Tim"])
    assert same.best == same.mean == (100.0, 100.0, 100.0)
    assert rouge("green kitchen", ["Bob fetches Tim"]).best == (0.0, 0.0, 0.0)


def test_rouge_counts_words_and_pairs_of_words() -> None:
    found = rouge("bob fetch tim", ["tim and bob fetch"])  # words: 3 of 3 and 4; pairs: "bob fetch" of 2 and 3
    assert found.best[0] == pytest.approx(100 * 6 / 7)
    assert found.best[1] == pytest.approx(100 * 2 / 5)
    assert found.best[2] == pytest.approx(100 * 4 / 7)


def test_of_several_references_the_nearest_and_the_mean_count() -> None:
    found = rouge("one two", ["one two", "three four"])
    assert found.best == (100.0, 100.0, 100.0)
    assert found.mean == (50.0, 50.0, 50.0)


def test_accents_count_outside_english() -> None:
    assert rouge("déjà", ["deja"], "fr").best[0] == 0
    assert rouge("déjà vu", ["Déjà vu!"], "fr").best[0] == 100


def test_summaries_have_a_row_for_every_method_and_form() -> None:
    found = summaries(NoEngine(), [a_sample(), a_sample(id="family-010")], (2, OWN_BUDGET), "test")
    assert found["chats"] == 2
    for budget in ("2", OWN_BUDGET):
        rows = found["budgets"][budget]
        assert set(rows) >= {"LEAD", "LONGEST", "LSA (sumy)", "LexRank (sumy)", "ours", "best possible"}
        best = rows["best possible"]["sentences, told"]["best"]
        assert best[0] + best[1] >= sum(rows["LEAD"]["sentences, told"]["best"][:2])
        assert rows["LEAD"]["sentences, told"]["ours_ahead"] == pytest.approx(
            rows["ours"]["sentences, told"]["best"][0] - rows["LEAD"]["sentences, told"]["best"][0], abs=0.02
        )
    assert "ours, as delivered" in found["budgets"][OWN_BUDGET]


def test_a_standard_error_needs_two_values() -> None:
    assert standard_error([3.0]) == 0
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)


def test_precision_and_recall() -> None:
    found = compare({"1", "2", "3"}, {"3", "4"})
    assert found == Found(both=1, given=2, true=3)
    assert [found.precision, found.recall, found.f1] == pytest.approx([0.5, 1 / 3, 0.4])
    assert total([found, compare({"9"}, {"9"})]) == Found(2, 3, 4)
    nothing = compare(set(), set())
    assert (nothing.precision, nothing.recall, nothing.f1) == (1, 1, 1)


def test_cites_are_compared_with_the_key_messages_and_every_line_is_checked() -> None:
    sample = a_sample()
    found = cites(NoEngine(), [sample])
    lead = found["budgets"]["3"]["LEAD"]
    assert lead["true"] == 2
    assert lead["precision"] == pytest.approx(1 / 3, abs=0.001)  # of messages 0, 1 and 2, 2 is one
    assert found["lines_checked"] == len(list(everything_said(NoEngine(), sample.thread))) > 0
    assert found["lines_refused"] == 0


def test_a_line_is_grounded_in_what_it_cites_and_said_by_its_author() -> None:
    thread = a_sample().thread

    def line(text: str, speaker: str = "Bob", cite: str = "2") -> Line:
        return Line(text, LineKind.SUMMARY, (cite,), speaker, 1.0)

    assert is_grounded(line("Bob will take the old car to the school."), thread)
    assert not is_grounded(line("Bob will take the red car to the school."), thread)
    assert not is_grounded(line("Bob will take the old car to the school.", cite="4"), thread)
    assert not is_grounded(line("Bob will take the old car to the school.", speaker="Ann"), thread)


def test_actions_are_compared_for_every_member() -> None:
    found = dict[str, list[Found]]()
    for kind, each in actions_found(NoEngine(), a_sample()):
        found.setdefault(kind, []).append(each)
    assert set(found) == {"ask_of_you", "commitment", "decision", "date", "any_action"}
    assert total(found["ask_of_you"]).true == 1  # of Bob alone
    assert total(found["decision"]).true == 3  # for each of three
    assert total(found["commitment"]).recall == 1
    assert total(found["ask_of_you"]).recall == 1


def test_a_question_counts_when_it_is_asked() -> None:
    assert questions_found(NoEngine(), a_sample()) == Found(both=1, given=1, true=1)
    not_marked = a_sample(questions=[])
    assert questions_found(NoEngine(), not_marked) == Found(both=0, given=1, true=0)


def test_at_the_end_answered_questions_are_gone_and_open_ones_are_there() -> None:
    open_, answered = listed_at_the_end(NoEngine(), a_sample())
    assert (open_.true, answered) == (0, Found(both=0, given=0, true=1))
    waiting = a_sample(
        messages=[["Ann", "hello"], ["Cem", "Bob, what does the new bicycle of Tim cost?"]],
        key=[1], asks=[], questions=[[1, "Bob"]], commitments=[], dates=[], decisions=[], replies=[],
    )  # fmt: skip
    assert listed_at_the_end(NoEngine(), waiting)[0] == Found(both=1, given=1, true=1)


def test_kinds_have_figures_for_pairs_and_groups_apart() -> None:
    pair = a_sample(
        id="family-010",
        people=["Ann", "Bob"],
        messages=[["Ann", "Can you bring the big ladder tomorrow?"], ["Bob", "Yes, I'll bring the big ladder"]],
        key=[1], asks=[[0, "Bob"]], questions=[[0, "Bob"]], commitments=[1], dates=[0], decisions=[], replies=[[1, "accept"]],
    )  # fmt: skip
    found = kinds(NoEngine(), [a_sample(), pair])
    delivered = found["delivered"]
    assert delivered["question_to_you"]["true"] == 2
    assert delivered["question_to_you_of_two"]["true"] == delivered["question_to_you_in_groups"]["true"] == 1
    assert found["ranker_alone"]["question_f1"] == 0  # it finds nothing likely


def test_a_reply_is_hit_if_its_intent_was_suggested_just_before() -> None:
    sample = a_sample()
    found = replies(NoEngine(), [sample], [chat_of(sample)])
    assert found["replies"] == 2
    assert 0 <= found["hit_at_1"] <= found["hit_at_3"] <= 1
    assert found["usual_hit_at_3"] == 1  # of the same chat
    assert found["usual_that_can_be_said"] == ["accept", "thank"]


def test_what_was_said_before_does_what_it_did_then() -> None:
    marks: dict[str, Any] = {kind: [] for kind in ("asks", "questions", "commitments", "dates", "decisions")}
    said = [["Ann", "Coming?"], ["Bob", "on my way"], ["Ann", "And now?"], ["Bob", "on my  way"]]
    chat = chat_of(a_sample(messages=said, key=[1], **marks, replies=[[1, "inform"], [3, "inform"]]))
    assert intents_of(Suggestion("on my way", "as before", 1.0), chat, 3) == {"as before", "inform"}
    assert intents_of(Suggestion("on my way", "as before", 1.0), chat, 1) == {"as before"}  # that would be later
    assert intents_of(Suggestion("Yes.", "accept", 1.0), chat, 3) == {"accept"}


def test_hits_are_places_below_a_number() -> None:
    assert hits([0, 2, 3, None], 1) == 0.25
    assert hits([0, 2, 3, None], 3) == 0.5
    assert hits([], 3) == 0


def test_a_thread_until_a_message_has_the_same_people() -> None:
    thread = a_sample().thread
    start = until(thread, 2)
    assert [message.id for message in start.messages] == ["0", "1"]
    assert (start.names, start.members) == (thread.names, 3)
