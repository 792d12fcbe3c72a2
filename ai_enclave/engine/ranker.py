"""The ranker: which of the texts of a chat matter, what each is, and what a reply to it would do.

Three small networks over the vectors of an encoder and a few hints, whose answers are averaged: each is one layer of a
transformer (Vaswani et al. 2017) without a notion of place, which the hints have. Trained on the project's own chats
(``engine.train``); it chooses among texts, and writes none. Letters in shapes: M networks, T texts, S size of a vector, N hints,
D size of a hidden state, H heads.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  # as everybody names it
from safetensors.torch import load
from torch import Tensor

from ai_enclave.engine.interface import INTENTS, KINDS, Judgement, Vectors
from ai_enclave.engine.weights import RANKER, EngineError, read_ranker

NETWORKS, HIDDEN, HEADS = 3, 96, 4
OUTPUTS = 1 + len(KINDS) + len(INTENTS)
MAX_TEXTS = 512  # judged at once: what is more is cut into parts of this size, which do not see each other


def shapes(vector: int, hints: int) -> dict[str, tuple[int, ...]]:
    """The shape of every weight."""
    d = HIDDEN
    one = {
        "in": (vector + hints, d),
        "in_bias": (1, d),
        "qkv": (d, 3 * d),
        "out": (d, d),
        "up": (d, 2 * d),
        "up_bias": (1, 2 * d),
        "down": (2 * d, d),
        "down_bias": (1, d),
        "heads": (d, OUTPUTS),
        "heads_bias": (1, OUTPUTS),
    }
    return {name: (NETWORKS, *shape) for name, shape in one.items()}


def forward(weights: Mapping[str, Tensor], vectors: Tensor, hints: Tensor, dropout: float = 0.0) -> Tensor:
    """Logits of each network: (M, T, OUTPUTS), from vectors (T, S) and hints (T, N). ``dropout`` is for training."""
    x = torch.cat([F.dropout(vectors.expand(NETWORKS, -1, -1), dropout), hints.expand(NETWORKS, -1, -1)], dim=2)
    x = F.gelu(_linear(weights, x, "in"))  # (M, T, D)
    x = F.dropout(_norm(x), dropout)
    x = x + F.dropout(_attend(weights, x), dropout)
    hidden = F.gelu(_linear(weights, _norm(x), "up"))
    x = x + F.dropout(_linear(weights, hidden, "down"), dropout)
    return _linear(weights, _norm(x), "heads")


def _linear(weights: Mapping[str, Tensor], x: Tensor, name: str) -> Tensor:
    return torch.baddbmm(weights[f"{name}_bias"], x, weights[name])


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _attend(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Each text sees all others."""
    heads = torch.bmm(x, weights["qkv"]).view(NETWORKS, -1, 3, HEADS, HIDDEN // HEADS)  # (M, T, 3, H, D/H)
    q, k, v = heads.permute(2, 0, 3, 1, 4)  # (M, H, T, D/H) three times
    mixed = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), dim=-1) @ v
    return torch.bmm(mixed.transpose(1, 2).reshape(NETWORKS, -1, HIDDEN), weights["out"])


class Ranker:
    """The shipped networks. Deterministic; what it says of a text depends on the texts around it."""

    def __init__(self, data: bytes) -> None:
        self.digest = hashlib.sha256(data).digest()
        try:
            self.weights = load(data)
        except Exception:  # noqa: BLE001  # safetensors has an error of its own for each fault
            raise EngineError("the ranker's weights cannot be read: install this release again") from None
        expected = shapes(*self._sizes()) if "in" in self.weights else {}
        if {name: tuple(tensor.shape) for name, tensor in self.weights.items()} != expected:
            raise EngineError("the ranker's weights are of another release: install this one again")

    @classmethod
    def load(cls, path: Path = RANKER) -> "Ranker":
        """The weights of this release, which its measurement covers.

        Raises:
            EngineError: they are missing, or of another shape.
        """
        return cls(read_ranker(path))

    def _sizes(self) -> tuple[int, int]:
        vector = 384
        return vector, self.weights["in"].shape[1] - vector

    @torch.inference_mode()
    def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:
        """See ``Reader.judge``."""
        parts = [
            self._judge(
                torch.from_numpy(vectors[start : start + MAX_TEXTS]), torch.from_numpy(hints[start : start + MAX_TEXTS])
            )
            for start in range(0, max(len(vectors), 1), MAX_TEXTS)
        ]
        salience, kinds, intents = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        return Judgement(salience, kinds, intents)

    def _judge(self, vectors: Tensor, hints: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = forward(self.weights, vectors.float(), hints.float())  # (M, T, OUTPUTS)
        chances = torch.sigmoid(logits[:, :, : 1 + len(KINDS)]).mean(0)
        intents = torch.softmax(logits[:, :, 1 + len(KINDS) :], dim=-1).mean(0)
        return chances[:, 0], chances[:, 1:], intents
