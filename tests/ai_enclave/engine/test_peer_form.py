"""The check follows a right answer to its end, and stops a wrong one."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_enclave.engine.interface import Lines
from ai_enclave.engine.peer_form import FormCheck, NotOfTheForm, schema

FORM = Lines(labels=("A1", "B2"), most=2, longest=10)
line = st.builds(
    lambda text, cites: {"text": text, "cites": cites},
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10),
    st.lists(st.sampled_from(FORM.labels), min_size=1, max_size=2),
)
answers = st.builds(
    lambda lines, escaped, indent: json.dumps(lines, ensure_ascii=escaped, indent=indent),
    st.lists(line, max_size=2),
    st.booleans(),
    st.sampled_from([None, 1]),
)


def is_right(answer: str) -> bool:
    """The same question, asked of the whole."""

    def in_order(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if [name for name, _ in pairs] != ["text", "cites"]:
            raise ValueError
        return dict(pairs)

    def is_line(value: object) -> bool:
        match value:
            case {"text": str(text), "cites": [_, *_] as cites}:
                fits = 0 < len(text) <= FORM.longest and not any("\ud800" <= each <= "\udfff" for each in text)
                return fits and len(cites) <= len(FORM.labels) and all(each in FORM.labels for each in cites)
            case _:
                return False

    try:
        lines = json.loads(answer, object_pairs_hook=in_order)
    except ValueError:
        return False
    return isinstance(lines, list) and len(lines) <= FORM.most and all(map(is_line, lines))


def accepts(answer: str, form: Lines = FORM) -> bool:
    check = FormCheck(form)
    try:
        check.feed(answer)
    except NotOfTheForm:
        return False
    return check.whole


@given(answers, st.lists(st.integers(0, 200)))
def test_a_right_answer_is_followed_however_it_is_cut(answer: str, cuts: list[int]) -> None:
    check = FormCheck(FORM)
    edges = sorted({0, len(answer), *(cut % (len(answer) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        assert not check.whole
        check.feed(answer[start:end])
    assert check.whole
    check.feed(" \n")
    assert check.whole


@settings(max_examples=400)
@given(answers, st.data())
def test_an_answer_that_was_changed_is_judged_as_the_whole_would_be(answer: str, data: st.DataObject) -> None:
    where = data.draw(st.integers(0, len(answer)))
    removed = data.draw(st.integers(0, 3))
    put = data.draw(st.text('[]{}",:\\ud8c0/ tAB12\n\x00é', max_size=3))
    changed = answer[:where] + put + answer[where + removed :]
    assert accepts(changed) == is_right(changed)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("[]", True),
        (" [ ] ", True),
        ('[{"text":"a","cites":["A1"]}]', True),
        ('[{"text":"","cites":["A1"]}]', False),
        (r'[{"text":"\ud83d\ude42","cites":["A1"]}]', True),
        (r'[{"\u0074ext":"a","cites":["A1"]}]', True),
        (r'[{"text":"\ud83d","cites":["A1"]}]', False),
        (r'[{"text":"\ude42","cites":["A1"]}]', False),
        (r'[{"text":"\ud83d\ud83d","cites":["A1"]}]', False),
        ("", False),
        ("{}", False),
        ("[", False),
        ("[]]", False),
        ("[] []", False),
        ("```json\n[]\n```", False),
        ('[{"text":"12345678901","cites":["A1"]}]', False),
        ('[{"text":"a\nb","cites":["A1"]}]', False),
        ('[{"text":"a","cites":[]}]', False),
        ('[{"text":"a","cites":["C3"]}]', False),
        ('[{"text":"a","cites":["A1","A1","A1"]}]', False),
        ('[{"text":"a","cites":"A1"}]', False),
        ('[{"text":"a"}]', False),
        ('[{"cites":["A1"],"text":"a"}]', False),
        ('[{"text":"a","text":"a","cites":["A1"]}]', False),
        ('[{"text":"a","cites":["A1"],"more":1}]', False),
        ('[{"text":null,"cites":["A1"]}]', False),
        ('[{"text":"a","cites":["A1"]},]', False),
    ],
)
def test_the_form_and_nothing_else(answer: str, right: bool) -> None:
    assert accepts(answer) is right is is_right(answer)


def test_no_more_lines_than_there_may_be() -> None:
    three = json.dumps([{"text": "a", "cites": ["A1"]}] * 3)
    assert not accepts(three)
    assert accepts(three, Lines(labels=("A1",), most=3, longest=1))


@pytest.mark.parametrize("nothing", [Lines(labels=(), most=3, longest=10), Lines(labels=("A",), most=3, longest=0)])
def test_without_anything_to_cite_or_to_say_there_is_no_line(nothing: Lines) -> None:
    assert accepts("[]", nothing)
    assert not accepts('[{"text":"a","cites":["A"]}]', nothing)
    assert schema(nothing) == {"type": "array", "maxItems": 0}


def test_the_schema_says_the_same() -> None:
    assert schema(FORM) == {
        "type": "array",
        "maxItems": 2,
        "items": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "minLength": 1, "maxLength": 10},
                "cites": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 2,
                    "items": {"type": "string", "enum": ["A1", "B2"]},
                },
            },
            "required": ["text", "cites"],
            "additionalProperties": False,
        },
    }
