"""Tensors from safetensors files: exactly those that the config asks for, each of the shape that it must have."""

from collections.abc import Iterator
from typing import Any

import torch
from safetensors import SafetensorError, deserialize
from torch import Tensor

from ai_enclave.engine.local.config import Config
from ai_enclave.engine.local.files import VerifiedFiles
from ai_enclave.engine.weights import EngineError

EMBEDDING, HEAD, LAST_NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
_FORMATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_COMPUTED = ".rotary_emb.inv_freq"  # old checkpoints hold it, and it follows from the config


def expected_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor that there must be, by name."""
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocabulary, config.size), LAST_NORM: (config.size,)}
    if not config.tied:
        shapes[HEAD] = (config.vocabulary, config.size)
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}."
        shapes |= {prefix + name: shape for name, shape in _layer_shapes(config).items()}
    return shapes


def load_tensors(files: VerifiedFiles, config: Config, dtype: torch.dtype) -> dict[str, Tensor]:
    """Every tensor, in this number format.

    Raises:
        EngineError: a tensor is missing, unknown, there twice, of another shape, or of a number format that is not supported.
    """
    shapes = expected_shapes(config)
    tensors: dict[str, Tensor] = {}
    for name in files.weights:
        for tensor_name, spec in _tensors(files.read(name)):
            if tensor_name.endswith(_COMPUTED):
                continue
            if tensor_name in tensors:
                raise EngineError("the weights hold a tensor twice")
            tensors[tensor_name] = _tensor(tensor_name, spec, _shape(tensor_name, shapes, config), dtype)
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise EngineError(f"the weights are incomplete: {len(missing)} tensors are missing, the first is {missing[0]}")
    return _without_second_head(tensors, config)


def _layer_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    queries, keys = config.heads * config.head_size, config.key_heads * config.head_size
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (config.size,),
        "post_attention_layernorm.weight": (config.size,),
        "self_attn.q_proj.weight": (queries, config.size),
        "self_attn.k_proj.weight": (keys, config.size),
        "self_attn.v_proj.weight": (keys, config.size),
        "self_attn.o_proj.weight": (config.size, queries),
        "mlp.gate_proj.weight": (config.inner, config.size),
        "mlp.up_proj.weight": (config.inner, config.size),
        "mlp.down_proj.weight": (config.size, config.inner),
    }
    if config.qkv_bias:
        shapes |= {
            "self_attn.q_proj.bias": (queries,),
            "self_attn.k_proj.bias": (keys,),
            "self_attn.v_proj.bias": (keys,),
        }
    if config.head_norms:
        shapes |= {"self_attn.q_norm.weight": (config.head_size,), "self_attn.k_norm.weight": (config.head_size,)}
    return shapes


def _tensors(content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and description of each tensor; a description is let go as soon as the next one is asked for."""
    try:
        found = list(deserialize(content))  # type: ignore[no-untyped-call]  # it has no annotations
    except SafetensorError:
        raise EngineError("a file of the weights is not safetensors, or it is damaged") from None
    found.reverse()
    while found:
        yield found.pop()


def _shape(name: str, shapes: dict[str, tuple[int, ...]], config: Config) -> tuple[int, ...]:
    if name == HEAD and config.tied:
        return shapes[EMBEDDING]
    if name not in shapes:
        raise EngineError(
            "the weights hold a tensor that the config does not ask for; it would be ignored, so they are not used"
        )
    return shapes[name]


def _tensor(name: str, spec: dict[str, Any], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if tuple(spec["shape"]) != shape:
        raise EngineError(f"the weights do not fit the config: {name} has another shape")
    if spec["dtype"] not in _FORMATS:
        raise EngineError("the weights are in a number format that is not supported; those that are: F32, F16, BF16")
    return torch.frombuffer(spec["data"], dtype=_FORMATS[spec["dtype"]]).view(shape).to(dtype)


def _without_second_head(tensors: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Some directories hold the embedding a second time as the last layer."""
    if config.tied and HEAD in tensors and not torch.equal(tensors.pop(HEAD), tensors[EMBEDDING]):
        raise EngineError("the weights hold a last layer that is not the embedding, which the config says that it is")
    return tensors
