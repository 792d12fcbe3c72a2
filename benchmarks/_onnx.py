"""The engine's sentence encoder as an ONNX graph, from the same weights: what onnxruntime is measured with.

The graph is what onnxruntime's own optimizer would make of an exported BERT: fused attention, bias with GELU, and residual with norm
(the operators of ``com.microsoft``). Texts of one length are one batch, so that nothing is padded and no mask is needed.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load
from tokenizers import Tokenizer

from ai_enclave.engine.encoder import MAX_TOKENS

MICROSOFT = "com.microsoft"
OPSET, IR = 17, 8
FP32, INT8 = "onnxruntime fp32", "onnxruntime int8"

Array = NDArray[np.float32]


class _Graph:
    """Nodes and weights, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, values: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, domain=domain, **attributes))
        return output


def build_model(weights: dict[str, Array], heads: int, layers: int, eps: float) -> onnx.ModelProto:
    """The encoder: ``ids`` (B, L), texts of one length, to ``vectors`` (B, C) of length 1. Weights as ``model.safetensors`` has them."""
    graph = _Graph()
    x = _embed(graph, weights, eps)
    for number in range(layers):
        x = _layer(graph, weights, number, x, heads, eps)
    mean = graph.node("ReduceMean", [x], "mean", axes=[1], keepdims=0)
    graph.node("LpNormalization", [mean], "vectors", axis=-1, p=2)
    made = helper.make_graph(
        graph.nodes,
        "encoder",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "tokens"])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["texts", weights[_WORDS].shape[1]])],
        graph.weights,
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(made, opset_imports=imports, ir_version=IR)


_WORDS = "embeddings.word_embeddings.weight"


def _embed(graph: _Graph, weights: dict[str, Array], eps: float) -> str:
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    words = graph.node("Gather", [graph.weight("words", weights[_WORDS]), "ids"], "embedded")
    zero, one, two = (graph.weight(f"number_{number}", np.array([number])) for number in range(3))
    length = graph.node("Slice", [graph.node("Shape", ["ids"], "shape"), one, two, zero], "length")
    here = graph.node("Slice", [graph.weight("places", places), zero, length, zero], "here")
    placed = graph.node("Add", [words, here], "placed")
    return graph.node(
        "LayerNormalization", [placed, *_norm(graph, weights, "embeddings.LayerNorm")], "x", axis=-1, epsilon=eps
    )


def _layer(graph: _Graph, weights: dict[str, Array], number: int, x: str, heads: int, eps: float) -> str:
    """Attention and feed-forward, each with a residual and a norm after it."""
    prefix = f"encoder.layer.{number}."
    parts = [f"{prefix}attention.self.{part}" for part in ("query", "key", "value")]
    qkv = graph.weight(
        f"{prefix}qkv", np.concatenate([weights[f"{part}.weight"].T for part in parts], axis=1)
    )  # (C, 3C)
    bias = graph.weight(f"{prefix}qkv_bias", np.concatenate([weights[f"{part}.bias"] for part in parts]))
    mixed = graph.node("Attention", [x, qkv, bias], f"{prefix}mixed", MICROSOFT, num_heads=heads)
    x = _residual(graph, weights, x, mixed, f"{prefix}attention.output", eps)
    up = graph.node("MatMul", [x, _matrix(graph, weights, f"{prefix}intermediate.dense")], f"{prefix}up")
    hidden = graph.node(
        "BiasGelu", [up, _bias(graph, weights, f"{prefix}intermediate.dense")], f"{prefix}hidden", MICROSOFT
    )
    return _residual(graph, weights, x, hidden, f"{prefix}output", eps)


def _residual(graph: _Graph, weights: dict[str, Array], x: str, inner: str, name: str, eps: float) -> str:
    """``x`` and a linear map of ``inner`` together, normalised."""
    mapped = graph.node("MatMul", [inner, _matrix(graph, weights, f"{name}.dense")], f"{name}.mapped")
    norm = _norm(graph, weights, f"{name}.LayerNorm")
    bias = _bias(graph, weights, f"{name}.dense")
    return graph.node("SkipLayerNormalization", [mapped, x, *norm, bias], f"{name}.x", MICROSOFT, epsilon=eps)


def _matrix(graph: _Graph, weights: dict[str, Array], name: str) -> str:
    return graph.weight(f"{name}.weight", weights[f"{name}.weight"].T)


def _bias(graph: _Graph, weights: dict[str, Array], name: str) -> str:
    return graph.weight(f"{name}.bias", weights[f"{name}.bias"])


def _norm(graph: _Graph, weights: dict[str, Array], name: str) -> list[str]:
    return [graph.weight(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias")]


class OnnxEncoder:
    """Turns texts into vectors with onnxruntime."""

    def __init__(self, model: bytes, tokenizer: Tokenizer, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Asleep, as the threads of ours: on cores that others use, too, spinning costs it more than it gains.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> Array:
        """Vectors of length 1, in the order of the texts."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(tokens)), key=lambda text: len(tokens[text]))
        rows: dict[int, Array] = {}
        for _, same in groupby(order, key=lambda text: len(tokens[text])):
            batch = list(same)
            (vectors,) = self._session.run(None, {"ids": np.array([tokens[text] for text in batch], dtype=np.int64)})
            rows.update(zip(batch, vectors, strict=True))
        return np.stack([rows[text] for text in range(len(tokens))])


def load_encoders(files: Mapping[str, bytes], threads: int) -> dict[str, OnnxEncoder]:
    """fp32, and int8 with scales for every column, from the files of the model, which the caller has verified."""
    config = json.loads(files["config.json"])
    weights = {name: values for name, values in load(files["model.safetensors"]).items() if values.dtype == np.float32}
    model = build_model(
        weights, config["num_attention_heads"], config["num_hidden_layers"], float(config["layer_norm_eps"])
    )
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return {
        FP32: OnnxEncoder(model.SerializeToString(), tokenizer, threads),
        INT8: OnnxEncoder(quantized(model), tokenizer, threads),
    }


def quantized(model: onnx.ModelProto) -> bytes:
    """The model with weights of 8 bits, and numbers in between made 8 bits as they come."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model.SerializeToString())
        known = {
            "DefaultTensorType": TensorProto.FLOAT
        }  # of what comes out of the operators that are onnxruntime's own
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8, extra_options=known)
        return target.read_bytes()
