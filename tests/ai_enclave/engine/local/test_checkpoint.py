"""Exactly the tensors that the config asks for, or none."""

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from ai_enclave.engine.local.checkpoint import load_tensors
from ai_enclave.engine.local.config import parse_config
from ai_enclave.engine.local.files import VerifiedFiles
from ai_enclave.engine.weights import EngineError
from tests.ai_enclave.engine.local.checkpoints import Checkpoint, Memory

WEIGHTS = "model.safetensors"
Tensors = dict[str, Tensor]


@pytest.fixture
def memory(checkpoints: dict[str, Checkpoint]) -> Memory:
    return Memory.of(checkpoints["llama"].folder)


def loaded(memory: Memory, dtype: torch.dtype = torch.float32) -> Tensors:
    return load_tensors(VerifiedFiles.of(memory), parse_config(memory.files["config.json"]), dtype)


def test_tensors_come_as_they_were_saved(memory: Memory) -> None:
    saved = load(memory.files[WEIGHTS])
    found = loaded(memory)
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], saved[name]) for name in saved)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_formats_are_read_and_made_the_one_that_is_wanted(memory: Memory, dtype: torch.dtype) -> None:
    saved = {name: tensor.to(dtype) for name, tensor in load(memory.files[WEIGHTS]).items()}
    memory.files[WEIGHTS] = save(saved)
    found = loaded(memory)
    assert all(torch.equal(found[name], saved[name].float()) for name in saved)
    assert {tensor.dtype for tensor in loaded(memory, torch.bfloat16).values()} == {torch.bfloat16}


def test_parts_are_put_together(memory: Memory) -> None:
    tensors = load(memory.files.pop(WEIGHTS))
    names = sorted(tensors)
    memory.files["model-00001-of-00002.safetensors"] = save({name: tensors[name] for name in names[::2]})
    memory.files["model-00002-of-00002.safetensors"] = save({name: tensors[name] for name in names[1::2]})
    assert loaded(memory).keys() == tensors.keys()
    memory.files["model-00002-of-00002.safetensors"] = save({name: tensors[name] for name in names})
    with pytest.raises(EngineError, match="twice"):
        loaded(memory)


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {other: tensor for other, tensor in tensors.items() if other != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("model.norm.weight"), "incomplete: 1 tensors are missing, the first is model.norm.weight"),
        (without("lm_head.weight"), "lm_head.weight"),
        (lambda tensors: tensors | {"model.layers.9.secret": torch.ones(1)}, "does not ask for"),
        (lambda tensors: tensors | {"model.norm.weight": torch.ones(63)}, "another shape"),
        (lambda tensors: tensors | {"model.norm.weight": torch.ones(64, 1)}, "another shape"),
        (lambda tensors: tensors | {"model.norm.weight": torch.ones(64, dtype=torch.int32)}, "number format"),
        (lambda tensors: tensors | {"model.norm.weight": torch.ones(64, dtype=torch.float64)}, "number format"),
    ],
)
def test_what_does_not_fit_is_refused(memory: Memory, change: Callable[[Tensors], Tensors], message: str) -> None:
    memory.files[WEIGHTS] = save(change(load(memory.files[WEIGHTS])))
    with pytest.raises(EngineError, match=message):
        loaded(memory)


def test_what_old_checkpoints_hold_beside_their_weights_is_left_out(memory: Memory) -> None:
    tensors = load(memory.files[WEIGHTS])
    memory.files[WEIGHTS] = save(tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    assert loaded(memory).keys() == tensors.keys()


def test_a_second_copy_of_the_embedding_is_fine_and_another_last_layer_is_not(
    checkpoints: dict[str, Checkpoint],
) -> None:
    memory = Memory.of(checkpoints["qwen2"].folder)
    tensors = load(memory.files[WEIGHTS])
    embedding = tensors["model.embed_tokens.weight"]
    memory.files[WEIGHTS] = save(tensors | {"lm_head.weight": embedding.clone()})
    assert loaded(memory).keys() == tensors.keys()
    memory.files[WEIGHTS] = save(tensors | {"lm_head.weight": embedding + 1})
    with pytest.raises(EngineError, match="not the embedding"):
        loaded(memory)


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_damaged_file_is_refused(memory: Memory, size: int) -> None:
    memory.files[WEIGHTS] = memory.files[WEIGHTS][:size]
    with pytest.raises(EngineError, match="not safetensors, or it is damaged"):
        loaded(memory)


def test_a_config_that_asks_for_more_than_there_is_takes_no_memory(memory: Memory) -> None:
    memory.change_json(
        "config.json", hidden_size=65_536, intermediate_size=262_144, num_hidden_layers=256, head_dim=1024
    )
    with pytest.raises(EngineError, match="another shape"):
        loaded(memory)
