"""A trail notes every step with its outcome; a failed step ends what rests on it, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from attestation.appraisal.trail import Step, Trail
from attestation.errors import MalformedEvidence, Revoked, StaleCollateral

SYNTAX, OLD, WITHDRAWN = MalformedEvidence("damaged"), StaleCollateral("old"), Revoked("withdrawn")


def refuse(error: Exception) -> str:
    raise error


def find(value: object) -> object:
    return value


def test_a_passed_check_gives_its_result_and_is_noted() -> None:
    trail = Trail()
    assert trail.check("It holds.", find, 7) == 7
    assert trail.steps == [Step("", "It holds.")]


def test_a_check_that_finds_text_tells_it() -> None:
    trail = Trail()
    trail.check("It holds.", find, "version 7")
    trail.require("It holds, too.", find, "version 8")
    assert [step.detail for step in trail.steps] == ["version 7", "version 8"]


def test_a_failed_check_gives_nothing_and_ends_nothing() -> None:
    trail = Trail()
    assert trail.check("It is fresh.", refuse, OLD) is None
    assert trail.check("It holds.", find, 7) == 7
    assert trail.steps == [Step("", "It is fresh.", OLD), Step("", "It holds.")]


def test_holds_tells_whether_a_check_without_a_result_was_passed() -> None:
    trail = Trail()
    assert trail.holds("It holds.", find, None)
    assert not trail.holds("It is fresh.", refuse, OLD)
    assert trail.steps == [Step("", "It holds."), Step("", "It is fresh.", OLD)]


def test_a_failed_requirement_ends_its_block_and_no_other() -> None:
    def block(trail: Trail) -> str:
        trail.check("It is fresh.", refuse, OLD)
        trail.require("It can be read.", refuse, SYNTAX)
        trail.check("Never asked.", find, 1)
        return "never"

    trail = Trail()
    assert trail.within("first", block, trail) is None
    assert trail.within("second", find, "done") == "done"
    assert trail.steps == [
        Step("first", "It is fresh.", OLD),
        Step("first", "It can be read.", SYNTAX, last=True),
    ]


def test_a_met_requirement_gives_its_result() -> None:
    trail = Trail()
    assert trail.within("evidence", trail.require, "It can be read.", find, 7) == 7


def test_steps_are_of_the_innermost_subject_and_the_outer_one_comes_back() -> None:
    def inner(trail: Trail) -> None:
        trail.require("It is there.", refuse, WITHDRAWN)

    def outer(trail: Trail) -> None:
        trail.check("Before.", find, None)
        trail.within("inner", inner, trail)
        trail.check("After.", find, None)

    trail = Trail()
    trail.within("outer", outer, trail)
    assert [(step.subject, step.statement) for step in trail.steps] == [
        ("outer", "Before."),
        ("inner", "It is there."),
        ("outer", "After."),
    ]


def test_what_is_no_refusal_is_an_accident_and_passes_through() -> None:
    trail = Trail()
    for ask in (trail.check, trail.require, trail.holds):
        try:
            ask("It holds.", refuse, KeyError("accident"))
        except KeyError:
            continue
        raise AssertionError
    assert trail.steps == []


@given(st.lists(st.sampled_from([None, SYNTAX, OLD, WITHDRAWN])))
def test_every_step_is_noted_in_order(outcomes: list[Exception | None]) -> None:
    trail = Trail()
    for outcome in outcomes:
        trail.check("A step.", find if outcome is None else refuse, outcome)  # type: ignore[arg-type]
    assert [step.error for step in trail.steps] == outcomes
