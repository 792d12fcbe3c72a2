"""The ranker gives chances, whatever it is given, and takes no weights but its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from ai_enclave.engine.interface import INTENTS, KINDS, Vectors
from ai_enclave.engine.ranker import MAX_TEXTS, Ranker, shapes
from ai_enclave.engine.weights import EngineError
from ai_enclave.features.hints import NUMBER

SIZE = 384


def some(texts: int) -> tuple[Vectors, Vectors]:
    lots = np.random.default_rng(texts)
    vectors: Vectors = lots.standard_normal((texts, SIZE), dtype=np.float32) / np.float32(20)
    return vectors, lots.random((texts, NUMBER), dtype=np.float32)


@pytest.mark.parametrize("texts", [0, 1, 2, 100, MAX_TEXTS, MAX_TEXTS + 1, 3 * MAX_TEXTS])
def test_every_text_gets_chances(texts: int) -> None:
    said = Ranker.load().judge(*some(texts))
    assert said.salience.shape == (texts,)
    assert said.kinds.shape == (texts, len(KINDS))
    assert said.intents.shape == (texts, len(INTENTS))
    for chances in (said.salience, said.kinds, said.intents):
        assert ((chances >= 0) & (chances <= 1)).all()
    assert np.allclose(said.intents.sum(1), 1, atol=1e-5)


def test_it_is_deterministic_and_looks_at_the_texts_around() -> None:
    ranker, (vectors, hints) = Ranker.load(), some(9)
    whole = ranker.judge(vectors, hints).salience
    assert np.array_equal(whole, ranker.judge(vectors, hints).salience)
    assert not np.allclose(whole[:3], ranker.judge(vectors[:3], hints[:3]).salience, atol=1e-4)


@pytest.mark.parametrize("fault", ["no safetensors", "of other texts", "another shape", "one missing"])
def test_other_weights_are_refused(fault: str, tmp_path: Path) -> None:
    weights = {name: torch.zeros(shape) for name, shape in shapes(SIZE, NUMBER).items()}
    data = save(weights)
    if fault == "no safetensors":
        data = b"\x80\x04."  # a pickle
    elif fault == "of other texts":
        data = data[:-1]
    elif fault == "another shape":
        data = save({**weights, "out": torch.zeros(1)})
    else:
        data = save({name: tensor for name, tensor in weights.items() if name != "in"})
    path = tmp_path / "ranker.safetensors"
    path.write_bytes(data)
    with pytest.raises(EngineError, match="ranker"):
        Ranker.load(path)
    with pytest.raises(EngineError, match="missing"):
        Ranker.load(tmp_path / "nothing")
