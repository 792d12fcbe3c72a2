"""all-MiniLM-L6-v2 as a plain forward pass: six transformer layers over one packed row of tokens, without padding.

Sentence-BERT (Reimers and Gurevych 2019) over MiniLM (Wang et al. 2020): the vector of a text is the mean of its last hidden
states, scaled to length 1. Letters in shapes: B texts; T tokens of all of them together, filled up with rows of nothing; L tokens of each
text of one length; H heads; D head size; C = H*D.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F  # noqa: N812  # as everybody names it
from safetensors.torch import load
from tokenizers import Tokenizer
from torch import Tensor

MAX_TOKENS = 256  # of one text, as the model was trained; the rest is cut
MAX_PACK = 8192  # tokens of one forward pass: bounds memory
STEP = 128  # a pack is filled up to a multiple of so many tokens: oneDNN keeps 2 MB of code and room for each number it meets


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer; query, key and value are fused."""

    qkv: Tensor  # (3C, C)
    qkv_bias: Tensor
    out: Tensor  # (C, C)
    out_bias: Tensor
    out_norm: tuple[Tensor, Tensor]
    up: Tensor  # (4C, C)
    up_bias: Tensor
    down: Tensor  # (C, 4C)
    down_bias: Tensor
    down_norm: tuple[Tensor, Tensor]


class Encoder:
    """Turns texts into vectors. Results do not depend on what else is in the batch, up to rounding."""

    def __init__(self, weights: Mapping[str, Tensor], config: Mapping[str, int | float], tokenizer: Tokenizer) -> None:
        self.heads = int(config["num_attention_heads"])
        self.eps = float(config["layer_norm_eps"])
        self.size = int(config["hidden_size"])
        self._tokenizer = tokenizer
        self._words = weights["embeddings.word_embeddings.weight"]
        # Every token has type 0, so that its embedding is added to the positions once and for all.
        self._positions = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = _norm(weights, "embeddings.LayerNorm")
        self._layers = [_layer(weights, f"encoder.layer.{n}.") for n in range(int(config["num_hidden_layers"]))]

    @classmethod
    def load(cls, files: Mapping[str, bytes], dtype: torch.dtype) -> "Encoder":
        """From the files of the model, which the caller has verified."""
        config = json.loads(files["config.json"])
        tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        weights = {
            name: tensor.to(dtype)
            for name, tensor in load(files["model.safetensors"]).items()
            if tensor.is_floating_point()
        }
        return cls(weights, config, tokenizer)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors of length 1: (B, C), float32."""
        if not texts:
            return torch.empty(0, self.size)
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch([_clean(text) for text in texts])]
        order = sorted(range(len(tokens)), key=lambda text: len(tokens[text]))
        vectors = torch.empty(len(tokens), self.size)
        for pack in _packs(order, tokens):
            vectors[pack] = self._forward([tokens[text] for text in pack])
        return vectors

    def _forward(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """One packed pass over texts in the order of their lengths."""
        lengths = [len(text) for text in texts]
        ids = torch.tensor([token for text in texts for token in text])  # (T,)
        places = torch.cat([torch.arange(length) for length in lengths])  # (T,)
        x = F.pad(self._words[ids] + self._positions[places], (0, 0, 0, -len(ids) % STEP))  # (T, C)
        x = F.layer_norm(x, (self.size,), *self._norm, self.eps)
        runs = [(length, len(list(same))) for length, same in groupby(lengths)]  # texts of equal length are neighbours
        for layer in self._layers:
            x = self._block(x, layer, runs)
        sums = torch.zeros(len(texts), self.size).index_add_(
            0, torch.repeat_interleave(torch.tensor(lengths)), x[: len(ids)].float()
        )  # (B, C)
        return F.normalize(sums / torch.tensor(lengths).unsqueeze(1), dim=1)

    def _block(self, x: Tensor, layer: Layer, runs: Sequence[tuple[int, int]]) -> Tensor:
        """Attention and feed-forward, each with a residual and a norm after it (BERT, Devlin et al. 2018)."""
        qkv = F.linear(x, layer.qkv, layer.qkv_bias)  # (T, 3C)
        mixed = torch.cat([self._attend(part, length) for part, length in _split(qkv, runs)])
        mixed = F.pad(mixed, (0, 0, 0, len(x) - len(mixed)))  # (T, C)
        x = F.layer_norm(x + F.linear(mixed, layer.out, layer.out_bias), (self.size,), *layer.out_norm, self.eps)
        hidden = F.gelu(F.linear(x, layer.up, layer.up_bias))  # (T, 4C)
        return F.layer_norm(x + F.linear(hidden, layer.down, layer.down_bias), (self.size,), *layer.down_norm, self.eps)

    def _attend(self, qkv: Tensor, length: int) -> Tensor:
        """Each token sees the tokens of its own text and no other: texts of one length are a batch of their own."""
        heads = qkv.view(-1, length, 3, self.heads, self.size // self.heads)  # (B, L, 3, H, D)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, H, L, D) three times
        y = F.scaled_dot_product_attention(q, k, v)  # (B, H, L, D)
        return y.transpose(1, 2).reshape(-1, self.size)  # (B*L, C)


def _packs(order: Sequence[int], tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Texts in this order, cut into packs of at most ``MAX_PACK`` tokens."""
    pack: list[int] = []
    size = 0
    for text in order:
        if pack and size + len(tokens[text]) > MAX_PACK:
            yield pack
            pack, size = [], 0
        pack.append(text)
        size += len(tokens[text])
    yield pack


def _split(qkv: Tensor, runs: Sequence[tuple[int, int]]) -> Iterator[tuple[Tensor, int]]:
    start = 0
    for length, count in runs:
        yield qkv[start : start + length * count], length
        start += length * count


def _clean(text: str) -> str:
    """A lone surrogate is not Unicode text, and the tokenizer refuses it."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _norm(weights: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _layer(weights: Mapping[str, Tensor], prefix: str) -> Layer:
    parts = [f"{prefix}attention.self.{part}" for part in ("query", "key", "value")]
    return Layer(
        qkv=torch.cat([weights[f"{part}.weight"] for part in parts]),
        qkv_bias=torch.cat([weights[f"{part}.bias"] for part in parts]),
        out=weights[f"{prefix}attention.output.dense.weight"],
        out_bias=weights[f"{prefix}attention.output.dense.bias"],
        out_norm=_norm(weights, f"{prefix}attention.output.LayerNorm"),
        up=weights[f"{prefix}intermediate.dense.weight"],
        up_bias=weights[f"{prefix}intermediate.dense.bias"],
        down=weights[f"{prefix}output.dense.weight"],
        down_bias=weights[f"{prefix}output.dense.bias"],
        down_norm=_norm(weights, f"{prefix}output.LayerNorm"),
    )
