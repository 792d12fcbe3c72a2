"""Tokens are bytes, and a growing text is given out in whole characters."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers

from ai_enclave.engine.local.vocabulary import Text, Vocabulary, parse_vocabulary
from ai_enclave.engine.weights import EngineError
from tests.ai_enclave.engine.local.checkpoints import VOCABULARY, save_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def content(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "tokenizer.json").read_text()))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def with_fallback(**decoder: object) -> dict[str, Any]:
    """A vocabulary as Llama 2 has it."""
    vocabulary = {"<unk>": 0, "<s>": 1, "▁the": 2, "<0xF0>": 3, "<0x9F>": 4, "<0x99>": 5, "<0x82>": 6, "re": 7, "▁": 8}
    steps = [{"type": "Replace"}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "start": 1}]
    return {
        "model": {"type": "BPE", "vocab": vocabulary},
        "decoder": {"type": "Sequence", "decoders": steps} | decoder,
        "added_tokens": [
            {"id": 1, "content": "<s>", "special": True},
            {"id": 9, "content": "<tool>", "special": False},
        ],
    }


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_says_what_the_tokenizer_says_piece_by_piece(content: dict[str, Any], tokenizer: Tokenizer, text: str) -> None:
    growing = Text(parse_vocabulary(content, VOCABULARY))
    pieces = [growing.add(token) for token in tokenizer.encode(text).ids]
    assert "".join(pieces) == text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(3, VOCABULARY - 20), max_size=12))
def test_never_gives_out_half_a_character(content: dict[str, Any], tokenizer: Tokenizer, tokens: list[int]) -> None:
    growing = Text(parse_vocabulary(content, VOCABULARY))
    given_out = ""
    for place, token in enumerate(tokens):
        given_out += growing.add(token)
        assert tokenizer.decode(tokens[: place + 1]).startswith(given_out)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_says_what_a_tokenizer_with_byte_fallback_says(text: str) -> None:
    """As Llama 2 and the first Mistral models have it, made of tokenizers' own parts."""
    letters = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghij", "ab", "▁ab"]
    tokenizer = Tokenizer(
        models.BPE(
            {letter: number for number, letter in enumerate(letters)},
            [("a", "b"), ("▁", "ab")],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    growing = Text(parse_vocabulary(json.loads(tokenizer.to_str()), len(letters)))
    tokens = tokenizer.encode(text).ids
    assert "".join(map(growing.add, tokens)) == tokenizer.decode(tokens) == text.replace("▁", " ")


def test_a_character_comes_with_its_last_byte() -> None:
    growing = Text(parse_vocabulary(with_fallback(), 10))
    assert [growing.add(token) for token in (2, 3, 4, 5, 6, 7, 8)] == ["the", "", "", "", "🙂", "re", " "]


def test_control_tokens_say_nothing_and_others_that_were_added_are_text() -> None:
    vocabulary = parse_vocabulary(with_fallback(), 12)
    assert (vocabulary.pieces[1], vocabulary.pieces[9], vocabulary.pieces[11]) == (b"", b"<tool>", b"")
    assert vocabulary.control == {"<s>": 1, "<tool>": 9}


def test_only_the_first_blank_is_no_part_of_an_answer() -> None:
    growing = Text(parse_vocabulary(with_fallback(), 10))
    assert [growing.add(token) for token in (8, 2)] == ["", " the"]
    with_all = Text(Vocabulary(parse_vocabulary(with_fallback(), 10).pieces, {}, strips_blank=False))
    assert [with_all.add(token) for token in (8, 2)] == [" ", " the"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"type": "Unigram", "vocab": {}}}, "only BPE"),
        ({"model": {"type": "BPE", "vocab": []}}, "not a tokenizer"),
        ({"model": None}, "not a tokenizer"),
        ({"added_tokens": [{"id": 0}]}, "not a tokenizer"),
        ({"decoder": {"type": "WordPiece"}}, "only byte-level"),
        ({"model": {"type": "BPE", "vocab": {"x": 10}}}, "does not have"),
        ({"model": {"type": "BPE", "vocab": {"x": -1}}}, "does not have"),
        ({"model": {"type": "BPE", "vocab": {"x" * 2000: 5}}}, "more than"),
    ],
)
def test_other_tokenizers_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        parse_vocabulary(with_fallback() | changes, 10)
