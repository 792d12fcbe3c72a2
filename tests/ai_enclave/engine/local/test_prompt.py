"""Data stays data: no text becomes a control token, and the constant start is constant."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from ai_enclave.engine.local.config import Config, parse_config
from ai_enclave.engine.local.prompt import MAX_CHARACTERS_A_TOKEN, Prompts, TooLong
from ai_enclave.engine.local.vocabulary import parse_vocabulary
from ai_enclave.engine.weights import EngineError
from tests.ai_enclave.engine.local.checkpoints import CHATML, VOCABULARY, save_tokenizer

LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
MISTRAL = ("<s>", "</s>", "[INST]", "[/INST]")
SYSTEM = (*MISTRAL, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
QWEN3 = (*CHATML, "<think>", "</think>")


def a_config(family: str = "qwen3", **changes: object) -> Config:
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    given = {
        "model_type": family,
        "vocab_size": VOCABULARY,
        "eos_token_id": 0,
        **dict.fromkeys(sizes, 2),
        "head_dim": 2,
    }
    return parse_config(json.dumps(given | changes).encode())


def prompts_with(folder: Path, control: tuple[str, ...], config: Config | None = None, most: int = 2000) -> Prompts:
    save_tokenizer(folder, control)
    content = json.loads((folder / "tokenizer.json").read_text())
    return Prompts(content, parse_vocabulary(content, VOCABULARY), config or a_config(), most)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Prompts:
    return prompts_with(tmp_path_factory.mktemp("tokenizer"), QWEN3)


def shown(prompts: Prompts, tokens: Sequence[int], control: tuple[str, ...]) -> str:
    """Tokens as text, control tokens by name: those have the first numbers, as the trainer gave them."""
    content = json.loads(prompts._tokenizer.to_str())["model"]["vocab"]
    pieces = parse_vocabulary(
        {"model": {"type": "BPE", "vocab": content}, "decoder": {"type": "ByteLevel"}, "added_tokens": []}, VOCABULARY
    ).pieces
    return b"".join(control[token].encode() if token < len(control) else pieces[token] for token in tokens).decode()


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        (CHATML, "<|im_start|>system\nI<|im_end|>\n<|im_start|>user\nD<|im_end|>\n<|im_start|>assistant\n"),
        (
            QWEN3,
            "<|im_start|>system\nI<|im_end|>\n<|im_start|>user\nD<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        (
            LLAMA3,
            (
                "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nI<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\nD<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
            ),
        ),
        (MISTRAL, "<s>[INST]I\n\nD[/INST]"),
        (SYSTEM, "<s>[SYSTEM_PROMPT]I[/SYSTEM_PROMPT][INST]D[/INST]"),
        (("<|endoftext|>",), "I\n\nD\n\n"),
    ],
)
def test_the_control_tokens_of_a_tokenizer_say_how_it_is_spoken_to(
    tmp_path: Path, control: tuple[str, ...], expected: str
) -> None:
    prompts = prompts_with(tmp_path, control)
    prompt = prompts.build("I", "D")
    assert shown(prompts, prompt.tokens, control) == expected
    assert (
        shown(prompts, prompt.tokens[: prompt.prefix], control)
        == expected[: expected.index("D<" if "D<" in expected else "D")]
    )


def test_answers_end_with_what_the_template_and_the_config_say(tmp_path: Path) -> None:
    assert prompts_with(tmp_path, QWEN3, a_config(eos_token_id=9)).stops == {0, 2, 9}


def test_a_plain_text_for_llama_begins_with_its_first_token(tmp_path: Path) -> None:
    control = ("<s>", "</s>")
    assert prompts_with(tmp_path, control, a_config("llama", bos_token_id=0)).build("I", "D").tokens[0] == 0
    without = prompts_with(tmp_path, control, a_config("llama", bos_token_id=77)).build("I", "D").tokens
    assert without[0] != 77


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([*QWEN3, "<|im_start|>system\n", "\ud800", "<s>"]), st.text(max_size=9))))
def test_no_text_becomes_a_control_token(prompts: Prompts, parts: list[str]) -> None:
    text = "".join(parts)
    assert min(prompts.encode(text), default=9) >= len(QWEN3)
    harmless, attack = prompts.build("I", "D"), prompts.build(text, text)
    for control in range(len(QWEN3)):
        assert list(attack.tokens).count(control) == list(harmless.tokens).count(control)


def test_what_looks_like_a_control_token_stays_readable_text(prompts: Prompts) -> None:
    assert shown(prompts, prompts.encode("a<|im_end|>b<think>"), QWEN3) == "a<|im_end|>b<think>"


def test_a_control_token_that_merges_lead_to_is_spelled_instead() -> None:
    merging = Tokenizer(models.BPE({"<": 0, "s": 1, ">": 2, "<s": 3, "<s>": 4}, [("<", "s"), ("<s", ">")]))
    merging.decoder = decoders.ByteLevel()
    content = json.loads(merging.to_str())
    content["added_tokens"] = [{"id": 4, "content": "<s>", "special": True}]
    prompts = Prompts(content, parse_vocabulary(content, VOCABULARY), a_config(), 100)
    assert merging.encode("s<s>").ids == [1, 4]
    assert prompts.encode("s<s>") == [1, 0, 1, 2]


def test_the_start_is_the_same_for_all_data(prompts: Prompts) -> None:
    first, second = prompts.build("Be short.", "one"), prompts.build("Be short.", "another text")
    assert first.prefix == second.prefix
    assert first.tokens[: first.prefix] == second.tokens[: second.prefix]
    assert prompts.build("Be long.", "one").tokens[: first.prefix] != first.tokens[: first.prefix]


def test_a_lone_surrogate_is_no_error(prompts: Prompts) -> None:
    assert shown(prompts, prompts.encode("a\ud800b"), QWEN3) == "a?b"


def test_what_does_not_fit_is_refused_and_what_just_fits_is_not(tmp_path: Path) -> None:
    prompts = prompts_with(tmp_path, CHATML, most=200)
    length = 200 - len(prompts.build("", "").tokens)
    assert len(prompts.build("", "\x01" * length).tokens) == 200
    with pytest.raises(TooLong):
        prompts.build("", "\x01" * (length + 1))
    prompts._tokenizer = None  # type: ignore[assignment]  # so long a text is not even encoded
    with pytest.raises(TooLong):
        prompts.build("", "x" * (200 * MAX_CHARACTERS_A_TOKEN + 1))


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary = parse_vocabulary(content, VOCABULARY)
    with pytest.raises(EngineError, match="not a tokenizer"):
        Prompts(content | {"pre_tokenizer": {"type": "secret"}}, vocabulary, a_config(), 100)
