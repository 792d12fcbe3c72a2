"""What would change the result and is not known is refused; what is known is read as transformers reads it."""

import json
from typing import Any

import pytest

from ai_enclave.engine.local.config import MAX_CONFIG_BYTES, Config, Llama3, Rope, parse_config
from ai_enclave.engine.weights import EngineError

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "eos_token_id": [1, 2, 700],
}
QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}


def parsed(**changes: Any) -> Config:
    return parse_config(json.dumps(CONFIG | changes).encode())


def test_reads_sizes_and_leaves_out_what_follows() -> None:
    config = parsed(_name_or_path="someone/A-Model/")
    assert (config.heads, config.key_heads, config.head_size, config.title) == (4, 2, 8, "A-Model")
    assert parsed(num_key_value_heads=None).key_heads == 4
    assert parsed(head_dim=16).head_size == 16
    assert parsed(model_type="qwen3", architectures=["Qwen3ForCausalLM"]).head_size == 128
    assert not config.tied
    assert parsed(tie_word_embeddings=True).tied


def test_stops_are_those_of_both_files_that_the_vocabulary_has() -> None:
    assert parsed().stops == {1, 2}
    assert parse_config(json.dumps(CONFIG).encode(), b'{"eos_token_id": 9}').stops == {1, 2, 9}
    assert parsed(eos_token_id=None).stops == set()


@pytest.mark.parametrize(
    ("changes", "rope"),
    [
        ({}, Rope(10_000.0)),
        ({"rope_theta": 500.0}, Rope(500.0)),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, Rope(7.0)),
        ({"rope_parameters": {"rope_theta": 7.0}}, Rope(7.0)),
        ({"rope_theta": 9.0, "rope_scaling": {"type": "linear", "factor": 4.0}}, Rope(9.0, divisor=4.0)),
        (
            {
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                }
            },
            Rope(10_000.0, llama3=Llama3(8.0, 1.0, 4.0, 64)),
        ),
    ],
)
def test_positions_in_the_old_spelling_and_the_new(changes: dict[str, Any], rope: Rope) -> None:
    assert parsed(**changes).rope == rope


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"sliding_window": 8}, (None, None, None)),
        ({"model_type": "mistral", "architectures": ["MistralForCausalLM"]}, (4096, 4096, 4096)),
        ({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 8}, (8, 8, 8)),
        (QWEN2 | {"sliding_window": 8, "use_sliding_window": False}, (None, None, None)),
        (QWEN2 | {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 2}, (None, None, 8)),
        (
            QWEN2
            | {
                "sliding_window": 8,
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention", "full_attention"],
            },
            (8, None, None),
        ),
    ],
)
def test_windows(changes: dict[str, Any], windows: tuple[int | None, ...]) -> None:
    assert parsed(**changes).windows == windows


def test_a_window_of_nothing_is_none() -> None:
    content = CONFIG | {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": None}
    assert parse_config(json.dumps(content).encode()).windows == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "not supported; those that are: llama"),
        ({"model_type": ["llama"]}, "not supported"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "only LlamaForCausalLM"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}}, "auto_map"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantized"),
        ({"hidden_act": "gelu"}, "silu"),
        ({"attention_bias": True}, "biases"),
        ({"mlp_bias": True}, "biases"),
        ({"partial_rotary_factor": 0.5}, "partly rotated"),
        ({"rope_parameters": {"rope_theta": 1.0, "partial_rotary_factor": 0.5}}, "partly rotated"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rotary positions"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "rotary positions"),
        ({"rope_scaling": {"factor": 4.0}}, "rotary positions"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "rotary positions"),
        ({"rope_scaling": {"type": "linear"}}, "factor"),
        ({"rope_scaling": [1]}, "no object"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"hidden_size": 10**7}, "hidden_size"),
        ({"vocab_size": 2**40}, "vocab_size"),
        ({"intermediate_size": "64"}, "intermediate_size"),
        ({"max_position_embeddings": 1.5}, "max_position_embeddings"),
        ({"num_key_value_heads": 3}, "do not fit together"),
        ({"head_dim": 7}, "do not fit together"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"eos_token_id": "x"}, "eos_token_id"),
        ({"eos_token_id": list(range(99))}, "eos_token_id"),
        (
            QWEN2 | {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["linear_attention"] * 3},
            "layer_types",
        ),
        (QWEN2 | {"use_sliding_window": True, "sliding_window": 8, "layer_types": []}, "layer_types"),
    ],
)
def test_what_is_not_supported_is_refused_and_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        parsed(**changes)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b" " * (MAX_CONFIG_BYTES + 1)])
def test_what_is_no_config_is_refused(content: bytes) -> None:
    with pytest.raises(EngineError, match="config"):
        parse_config(content)
