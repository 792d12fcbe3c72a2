"""The graph for onnxruntime says what the engine's encoder says, for the same weights."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ai_enclave.engine.encoder import Encoder
from benchmarks._onnx import OnnxEncoder, build_model, quantized

WORDS = ["[UNK]", "[CLS]", "[SEP]", "we", "meet", "at", "nine", "near", "north", "station", "bring", "books", "?"]
SIZE, HEADS, LAYERS, PLACES, EPS = 64, 4, 2, 16, 1e-12
TEXTS = ["we meet at nine", "bring books", "station", "meet near north station ?", "at nine bring books", "we"]


def a_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def random_weights() -> dict[str, NDArray[np.float32]]:
    """With the names of the real ones."""
    lots = np.random.default_rng(5)
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), SIZE),
        "embeddings.position_embeddings.weight": (PLACES, SIZE),
        "embeddings.token_type_embeddings.weight": (2, SIZE),
        **_norm("embeddings.LayerNorm"),
    }
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{layer}.attention.self.{part}", SIZE, SIZE)
        shapes |= _linear(f"{layer}.attention.output.dense", SIZE, SIZE) | _norm(f"{layer}.attention.output.LayerNorm")
        shapes |= _linear(f"{layer}.intermediate.dense", 4 * SIZE, SIZE)
        shapes |= _linear(f"{layer}.output.dense", SIZE, 4 * SIZE) | _norm(f"{layer}.output.LayerNorm")
    return {name: lots.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}


def _linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (SIZE,), f"{name}.bias": (SIZE,)}


@pytest.fixture(scope="module")
def exact() -> NDArray[np.float32]:
    """The vectors of the engine's encoder."""
    weights = {name: torch.from_numpy(values) for name, values in random_weights().items()}
    config = {
        "num_attention_heads": HEADS,
        "layer_norm_eps": EPS,
        "hidden_size": SIZE,
        "num_hidden_layers": LAYERS,
    }
    found: NDArray[np.float32] = Encoder(weights, config, a_tokenizer()).encode(TEXTS).numpy()
    return found


def test_the_graph_gives_the_same_vectors(exact: NDArray[np.float32]) -> None:
    model = build_model(random_weights(), HEADS, LAYERS, EPS)
    found = OnnxEncoder(model.SerializeToString(), a_tokenizer(), threads=1).encode(TEXTS)
    np.testing.assert_allclose(found, exact, atol=1e-5)


def test_with_8_bits_they_are_near_but_not_the_same(exact: NDArray[np.float32]) -> None:
    model = build_model(random_weights(), HEADS, LAYERS, EPS)
    found = OnnxEncoder(quantized(model), a_tokenizer(), threads=1).encode(TEXTS)
    cosine = (found * exact).sum(axis=1)
    assert cosine.min() > 0.97
    assert np.abs(found - exact).max() > 1e-4
