"""Whatever a model prefers, what it writes is the form's JSON; and everything of the form can be written."""

import json
import random
import string
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_enclave.engine.interface import Lines
from ai_enclave.engine.local.grammar import Grammar, Writing
from ai_enclave.engine.weights import EngineError

# Single bytes, and tokens that cross every border there is: into a text, out of it, within characters, escapes and labels.
WORDS = [
    '[{"text": "', '{"text"', ": ", ' "', '"A', '": "The', "the ", "and", '."', '", "cites": ["', '", "', '", "cites": ["a',
    '"]}, {', '"]}]', '"]}, {"text": "', "]", "[]", "ab", "b2", 'b2"', '"]}, {"text": "So', "\\", '\\"', "\\\\", "\\n", "é", "ü.",
    "🙂", "\n", "\x00", "x\n", 'y", ', '"ab"', "[", "cites", "\x7f",
]  # fmt: skip
CUT = [b"\xf0\x9f", b"\x99\x82", b"\x82 ok", b"caf\xc3", b"\xa9", b'\xa9"', b"\xed\xa0", b"\xc0\x80", b"\xff"]
PIECES = [b"", *(bytes([byte]) for byte in range(256)), *(word.encode() for word in WORDS), *CUT]
GRAMMAR = Grammar(PIECES)
LABELS = ("ab", "ab2c", "b", "7")


def allowed(writing: Writing) -> list[int]:
    bits = np.unpackbits(writing.mask().astype("<i4").view(np.uint8), bitorder="little")
    assert not bits[len(PIECES) :].any()
    return [int(token) for token in np.flatnonzero(bits)]


def spelled(tokens: list[int]) -> bytes:
    return b"".join(PIECES[token] for token in tokens)


def parsed(written: bytes, form: Lines) -> list[dict[str, Any]]:
    """The answer, if it is what the form promises."""
    lines = json.loads(written.decode())
    assert written.decode() == json.dumps(lines, ensure_ascii=False)
    assert len(lines) <= form.most
    for line in lines:
        assert list(line) == ["text", "cites"]
        assert 1 <= len(line["text"]) <= form.longest
        assert line["text"].isprintable() or not any(ord(sign) < 32 or ord(sign) == 127 for sign in line["text"])
        assert 1 <= len(line["cites"]) == len(set(line["cites"]))
        assert set(line["cites"]) <= set(form.labels)
    return lines  # type: ignore[no-any-return]


forms = st.builds(
    Lines,
    labels=st.lists(st.sampled_from(LABELS), max_size=4, unique=True).map(tuple),
    most=st.integers(0, 3),
    longest=st.integers(1, 12),
)


@settings(max_examples=200, deadline=None)
@given(forms, st.integers(0, 2**32))
def test_any_walk_through_what_is_allowed_ends_in_the_form(form: Lines, seed: int) -> None:
    choice, writing, tokens = random.Random(seed), GRAMMAR.begin(form), []  # noqa: S311  # no secret
    while not writing.ended:
        options = allowed(writing)
        rare = [token for token in options if len(PIECES[token]) > 1]  # such as cross borders
        token = choice.choice(rare if rare and choice.random() < 0.5 else options)
        assert writing.take(token)
        tokens.append(token)
        assert len(tokens) < 400
    parsed(spelled(tokens), form)


@settings(max_examples=100, deadline=None)
@given(forms, st.integers(0, 2**32), st.integers(0, 30))
def test_what_is_not_allowed_could_not_go_on(form: Lines, seed: int, steps: int) -> None:
    """Of every state: a token without a bit is refused, but for those that cross two borders."""
    choice, writing = random.Random(seed), GRAMMAR.begin(form)  # noqa: S311  # no secret
    for _ in range(steps):
        if not writing.ended:
            writing.take(choice.choice(allowed(writing)))
    options, state = set(allowed(writing)), writing._state
    for token, piece in enumerate(PIECES):
        taken = writing.take(token)
        crosses_twice = piece.count(b'"') > 1 or b'"a' in piece or piece == b'\xa9"'
        assert token not in options or taken
        assert not taken or token in options or crosses_twice or piece == b"\\"
        writing._state = state


controls = [chr(each) for each in (*range(32), 127)]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=controls), min_size=1, max_size=12)
cites = st.lists(st.sampled_from(LABELS), min_size=1, unique=True)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(texts, cites), max_size=3))
def test_every_answer_of_the_form_can_be_written_byte_by_byte(lines: list[tuple[str, list[str]]]) -> None:
    writing = GRAMMAR.begin(Lines(LABELS, most=3, longest=12))
    wanted = json.dumps([{"text": text, "cites": cites} for text, cites in lines], ensure_ascii=False).encode()
    place = 0
    while place < len(wanted):
        # A backslash comes only together with what it escapes.
        piece = wanted[place : place + 2] if wanted[place : place + 1] == b"\\" else wanted[place : place + 1]
        token = PIECES.index(piece)
        assert token in allowed(writing)
        assert writing.take(token)
        place += len(piece)
    assert writing.ended


@pytest.mark.parametrize(
    "wrong",
    [
        '[{"text": "x", "cites": []', '[{"text": ""', '[{"text": "x", "cites": ["zz', '[{"text": "x"}', '[{"text": "x", "other"',
        '[{"text": "x", "cites": ["ab", "ab"', '[{"text": "\\u', '[{"text": "\n', "{", "[ ", "[,", "true", '[{"text": "123456789',
        '[{"text": "x", "cites": ["ab"]}, {"text": "x", "cites": ["ab"]}, {',
    ],
)  # fmt: skip
def test_nothing_else_can_be_written(wrong: str) -> None:
    writing = GRAMMAR.begin(Lines(("ab", "b"), most=2, longest=8))
    assert not all(writing.take(PIECES.index(bytes([byte]))) for byte in wrong.encode())


def test_a_long_text_leaves_only_its_end() -> None:
    writing = GRAMMAR.begin(Lines(("ab",), most=1, longest=3))
    for token in (PIECES.index(b'[{"text": "'), PIECES.index("é".encode()), PIECES.index(b"ab")):
        assert writing.take(token)
    assert {PIECES[token] for token in allowed(writing)} == {b'"', b'", "', b'", "cites": ["'}


def test_without_labels_or_lines_only_the_empty_answer_is_left() -> None:
    for form in (Lines((), 3, 10), Lines(("ab",), 0, 10), Lines(("ab",), 3, 0)):
        assert {PIECES[token] for token in allowed(GRAMMAR.begin(form))} == {b"[", b"[]"}


@pytest.mark.parametrize("labels", [("",), ("a" * 9,), ('a"',), ("ä",), ("a b",), tuple(map(str, range(1001)))])
def test_labels_are_letters_and_digits(labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="labels"):
        GRAMMAR.begin(Lines(labels, 1, 10))


def test_many_labels_are_quick_enough_for_each_token() -> None:
    letters = string.ascii_lowercase
    labels = tuple(first + second + "x" for first in letters for second in letters)
    writing = GRAMMAR.begin(Lines(labels, 1, 10))
    for byte in b'[{"text": "x", "cites": ["':
        writing.take(PIECES.index(bytes([byte])))
    assert {PIECES[token] for token in allowed(writing)} >= {bytes([ord(letter)]) for letter in letters}


def test_a_vocabulary_that_cannot_spell_is_refused() -> None:
    with pytest.raises(EngineError, match="cannot write every character"):
        Grammar([piece for piece in PIECES if piece != b'"'])
