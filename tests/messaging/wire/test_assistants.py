"""Numbers of a load are steps, and nothing between them can be said."""

import pytest
from hypothesis import given
from hypothesis.strategies import floats, sampled_from

from messaging.wire.assistants import (
    CONVERSATION_STEPS,
    MEMORY_STEPS,
    REQUEST_STEPS,
    AssistantLoad,
    rounded_up,
)
from messaging.wire.json import InvalidEntity

ALL = (REQUEST_STEPS, CONVERSATION_STEPS, MEMORY_STEPS)


@given(exact=floats(0, 1e9), steps=sampled_from(ALL))
def test_a_number_is_rounded_up_to_the_next_step_or_down_to_the_last(exact: float, steps: tuple[int, ...]) -> None:
    told = rounded_up(exact, steps)
    assert told in steps
    assert told >= exact or told == steps[-1]
    assert not [step for step in steps if exact <= step < told]


@pytest.mark.parametrize("steps", ALL)
def test_steps_begin_with_nothing_and_ascend(steps: tuple[int, ...]) -> None:
    assert steps[0] == 0
    assert list(steps) == sorted(set(steps))


def test_of_conversations_and_memory_not_even_a_few_can_be_told_apart() -> None:
    assert {rounded_up(number, CONVERSATION_STEPS) for number in range(1, 11)} == {10}
    assert {rounded_up(number / 10, MEMORY_STEPS) for number in range(1, 161)} == {16}


@pytest.mark.parametrize("number", [-1, 3, 1001])
def test_a_number_between_steps_is_refused(number: int) -> None:
    with pytest.raises(InvalidEntity) as refused:
        AssistantLoad.from_json(
            b'{"waiting":%d,"serving":0,"conversations":0,"memoryMib":0}' % number,
        )
    assert refused.value.fields == ("waiting",)
