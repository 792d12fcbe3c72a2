"""What a ``config.json`` may say. Whatever would change the result and is not known here is refused, not ignored."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ai_enclave.engine.weights import EngineError

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
MAX_CONFIG_BYTES = 1024 * 1024
MAX_LAYERS = 256
MAX_SIZE = 65_536  # of hidden states
MAX_INNER = 262_144  # of hidden states within a feed-forward
MAX_HEADS = 1024
MAX_HEAD_SIZE = 1024
MAX_VOCABULARY = 1_048_576
MAX_POSITIONS = 16_777_216
MAX_STOPS = 64
_THETA = 10_000.0  # where a config is silent
_EPS = 1e-6
_MISTRAL_WINDOW = 4096
_QWEN3_HEAD_SIZE = 128


@dataclass(frozen=True, slots=True)
class Llama3:
    """How Llama 3.1 stretches its positions: long waves by ``factor``, short ones not, those between in between."""

    factor: float
    low: float
    high: float
    positions: int  # that it was trained with at first


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions (Su et al. 2021)."""

    theta: float
    divisor: float = 1.0  # of positions ("linear")
    llama3: Llama3 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The shape of a model."""

    family: str  # a key of ``ARCHITECTURES``
    title: str  # what its directory calls it, may be empty
    layers: int
    size: int  # of hidden states
    inner: int  # of hidden states within a feed-forward
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int
    positions: int
    eps: float
    rope: Rope
    tied: bool  # the last layer is the embedding
    windows: tuple[int | None, ...]  # for each layer, how many tokens back one sees, itself included
    first: int | None  # the token at the start of each text
    stops: frozenset[int]  # tokens that end an answer

    @property
    def qkv_bias(self) -> bool:
        """Whether queries, keys and values have a bias."""
        return self.family == "qwen2"

    @property
    def head_norms(self) -> bool:
        """Whether queries and keys are normed head by head."""
        return self.family == "qwen3"


def parse_config(config: bytes, generation: bytes | None = None) -> Config:
    """Read ``config.json`` and, where there is one, ``generation_config.json``.

    Raises:
        EngineError: it is no such file, or it asks for what is not supported.
    """
    given = read_object(config, "config.json", MAX_CONFIG_BYTES)
    family = _family(given)
    layers = _whole(given, "num_hidden_layers", MAX_LAYERS)
    size, heads = _whole(given, "hidden_size", MAX_SIZE), _whole(given, "num_attention_heads", MAX_HEADS)
    vocabulary = _whole(given, "vocab_size", MAX_VOCABULARY)
    later = {} if generation is None else read_object(generation, "generation_config.json", MAX_CONFIG_BYTES)
    parsed = Config(
        family=family,
        title=_title(given),
        layers=layers,
        size=size,
        inner=_whole(given, "intermediate_size", MAX_INNER),
        heads=heads,
        key_heads=_whole(given, "num_key_value_heads", MAX_HEADS, heads),
        head_size=_whole(given, "head_dim", MAX_HEAD_SIZE, _QWEN3_HEAD_SIZE if family == "qwen3" else size // heads),
        vocabulary=vocabulary,
        positions=_whole(given, "max_position_embeddings", MAX_POSITIONS),
        eps=_number(given, "rms_norm_eps", _EPS),
        rope=_rope(given),
        tied=given.get("tie_word_embeddings") is True,
        windows=_windows(given, family, layers),
        first=next(iter(_tokens(given, "bos_token_id", vocabulary)), None),
        stops=_tokens(given, "eos_token_id", vocabulary) | _tokens(later, "eos_token_id", vocabulary),
    )
    if parsed.heads % parsed.key_heads or parsed.head_size % 2:
        raise EngineError("config.json: the numbers and sizes of attention heads do not fit together")
    return parsed


def read_object(content: bytes, name: str, most: int) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        EngineError: it is none, or it has more than ``most`` bytes.
    """
    if len(content) > most:
        raise EngineError(f"{name} is too large to be what it should be")
    try:
        given = json.loads(content)
    except (ValueError, RecursionError):
        raise EngineError(f"{name} is not JSON") from None
    if not isinstance(given, dict):
        raise EngineError(f"{name} is no JSON object")
    return given


def _family(given: Mapping[str, Any]) -> str:
    """The architecture, if it is allowed and nothing in the config bends it."""
    family = given.get("model_type")
    if not isinstance(family, str) or family not in ARCHITECTURES:
        raise EngineError(
            f"config.json: this architecture is not supported; those that are: {', '.join(ARCHITECTURES)}"
        )
    if given.get("architectures", [ARCHITECTURES[family]]) != [ARCHITECTURES[family]]:
        raise EngineError(f"config.json: of {family} only {ARCHITECTURES[family]} is supported")
    if "auto_map" in given:
        raise EngineError(
            "config.json: auto_map names a program of the directory, and none is ever run; take another directory"
        )
    if given.get("quantization_config") is not None:
        raise EngineError("config.json: quantized weights are not supported; take the original ones")
    if given.get("hidden_act", "silu") != "silu":
        raise EngineError("config.json: no activation but silu is supported")
    biased = given.get("attention_bias", family == "qwen2") is not (family == "qwen2")
    if biased or given.get("mlp_bias", False) is not False:
        raise EngineError("config.json: biases other than those of qwen2 are not supported")
    if given.get("partial_rotary_factor", 1.0) != 1.0:
        raise EngineError("config.json: partly rotated heads are not supported")
    return family


def _title(given: Mapping[str, Any]) -> str:
    title = given.get("_name_or_path", "")
    return title.rstrip("/").rsplit("/", 1)[-1] if isinstance(title, str) else ""


def _whole(given: Mapping[str, Any], name: str, most: int, default: int | None = None) -> int:
    value = given.get(name)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise EngineError(f"config.json: {name} is not a number from 1 to {most}")
    return value


def _number(given: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = given.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise EngineError(f"config.json: {name} is not a number above 0")
    return float(value)


def _tokens(given: Mapping[str, Any], name: str, vocabulary: int) -> frozenset[int]:
    """One token or several; some configs name tokens that the vocabulary does not have, which can then never come."""
    value = given.get(name)
    values = value if isinstance(value, list) else [] if value is None else [value]
    if len(values) > MAX_STOPS or not all(isinstance(each, int) and not isinstance(each, bool) for each in values):
        raise EngineError(f"{name} is not a token or a few")
    return frozenset(each for each in values if 0 <= each < vocabulary)


def _rope(given: Mapping[str, Any]) -> Rope:
    """Newer configs have one ``rope_parameters``; older ones a ``rope_theta`` beside a ``rope_scaling``."""
    scaling = given.get("rope_parameters") or given.get("rope_scaling") or {}
    if not isinstance(scaling, dict):
        raise EngineError("config.json: rope_parameters is no object")
    theta = _number(scaling, "rope_theta", _number(given, "rope_theta", _THETA))
    if scaling.get("partial_rotary_factor", 1.0) != 1.0:
        raise EngineError("config.json: partly rotated heads are not supported")
    match scaling.get("rope_type", scaling.get("type", "default" if scaling.keys() <= {"rope_theta"} else None)):
        case "default":
            return Rope(theta)
        case "linear":
            return Rope(theta, divisor=_number(scaling, "factor"))
        case "llama3":
            return Rope(theta, llama3=_llama3(scaling))
        case _:
            raise EngineError(
                "config.json: rotary positions of this type are not supported; those that are: default, linear, llama3"
            )


def _llama3(scaling: Mapping[str, Any]) -> Llama3:
    stretch = Llama3(
        factor=_number(scaling, "factor"),
        low=_number(scaling, "low_freq_factor"),
        high=_number(scaling, "high_freq_factor"),
        positions=_whole(scaling, "original_max_position_embeddings", MAX_POSITIONS),
    )
    if stretch.low >= stretch.high:
        raise EngineError("config.json: low_freq_factor is not below high_freq_factor")
    return stretch


def _windows(given: Mapping[str, Any], family: str, layers: int) -> tuple[int | None, ...]:
    """Mistral has a window in all layers or none; Qwen in those named, if it is switched on."""
    if family == "mistral" and given.get("sliding_window", _MISTRAL_WINDOW) is not None:
        return (_whole(given, "sliding_window", MAX_POSITIONS, _MISTRAL_WINDOW),) * layers
    if (
        not family.startswith("qwen")
        or given.get("use_sliding_window") is not True
        or given.get("sliding_window") is None
    ):
        return (None,) * layers
    window = _whole(given, "sliding_window", MAX_POSITIONS)
    kinds = given.get("layer_types")
    if kinds is None:
        full = given.get("max_window_layers", layers)
        kinds = ["full_attention" if layer < full else "sliding_attention" for layer in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise EngineError("config.json: layer_types names a kind of layer that is not supported")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)
