"""The packed forward pass says what a plain one says, for each text alone."""

import json
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from tokenizers import Tokenizer

from ai_enclave.engine import EmbeddedEngine
from ai_enclave.engine.encoder import MAX_TOKENS, Encoder
from ai_enclave.engine.weights import verified_weights

TEXTS = [
    "We meet at nine at the north station.",
    "ok",
    "",
    "Was kostet die Hütte?",
    "请在星期五之前告诉我",
    "🙂🙂",
    "a" * 3000,
    "One long message. " * 100,
    "\ud800 broken",
    "We meet at nine at the north station.",
]


@pytest.fixture(scope="module")
def exact() -> Encoder:
    return Encoder.load(verified_weights(), torch.float32)


def reference(files: Mapping[str, bytes], text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """One text through torch's own modules, layer by layer, with nothing packed, fused or shared with our code."""
    weights = load(files["model.safetensors"])
    config = json.loads(files["config.json"])
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    size = config["hidden_size"]

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        module = torch.nn.LayerNorm(size, eps=config["layer_norm_eps"])
        module.load_state_dict({"weight": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]})
        return torch.Tensor(module(x).detach())

    ids = torch.tensor(tokenizer.encode(text).ids)
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm("embeddings.LayerNorm", x + weights["embeddings.token_type_embeddings.weight"][0])
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        heads = config["num_attention_heads"]
        q, k, v = (
            linear(f"{layer}.attention.self.{part}", x).view(len(ids), heads, -1).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        attention = torch.softmax(q @ k.transpose(1, 2) / (size // heads) ** 0.5, dim=-1)
        mixed = (attention @ v).transpose(0, 1).reshape(len(ids), size)
        x = norm(f"{layer}.attention.output.LayerNorm", x + linear(f"{layer}.attention.output.dense", mixed))
        hidden = torch.nn.functional.gelu(linear(f"{layer}.intermediate.dense", x))
        x = norm(f"{layer}.output.LayerNorm", x + linear(f"{layer}.output.dense", hidden))
    mean = x.mean(dim=0)
    return np.asarray((mean / mean.norm()).numpy(), dtype=np.float32)


@pytest.mark.parametrize("text", [text for text in TEXTS[:7] if "\ud800" not in text])
def test_equals_a_plain_forward_pass(exact: Encoder, text: str) -> None:
    assert np.allclose(exact.encode([text]).numpy()[0], reference(verified_weights(), text), atol=1e-4)


def test_the_format_chosen_for_speed_bends_no_vector(engine: EmbeddedEngine, exact: Encoder) -> None:
    cosines = (engine.encode(TEXTS) * exact.encode(TEXTS).numpy()).sum(axis=1)
    assert cosines.min() >= 0.999


def test_vectors_have_length_one_and_keep_the_order(engine: EmbeddedEngine) -> None:
    vectors = engine.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[0], vectors[-1], atol=1e-5)


def test_no_texts_are_no_vectors(engine: EmbeddedEngine) -> None:
    assert engine.encode([]).shape == (0, 384)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=8))
def test_a_text_has_the_same_vector_alone_and_among_others(exact: Encoder, texts: list[str]) -> None:
    together = exact.encode(texts).numpy()
    for text, vector in zip(texts, together, strict=True):
        assert np.allclose(exact.encode([text]).numpy()[0], vector, atol=1e-4)


def test_meaning_is_near_meaning(engine: EmbeddedEngine) -> None:
    where, place, fruit = engine.encode(["Where shall we meet?", "At what place do we meet?", "Bananas are yellow."])
    assert where @ place > 0.7 > 0.2 > where @ fruit
