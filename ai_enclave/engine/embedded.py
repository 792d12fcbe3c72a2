"""The default engine: a sentence encoder on the CPU, with no download and nothing that could follow an instruction."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ai_enclave.engine.encoder import Encoder
from ai_enclave.engine.interface import Judgement, Vectors
from ai_enclave.engine.ranker import Ranker
from ai_enclave.engine.weights import verified_weights, weights_digest

_PROBE = ["How fast is this machine with numbers of this size, over a text of some length?"] * 48


class EmbeddedEngine:
    """all-MiniLM-L6-v2, in the number format that is faster here, and the ranker."""

    def __init__(self, encoder: Encoder, ranker: Ranker, number_format: str) -> None:
        self._encoder = encoder
        self._ranker = ranker
        self._format = number_format
        self._digest = weights_digest(ranker.digest)

    @classmethod
    def load(cls) -> "EmbeddedEngine":
        """Verify and load the weights; time both number formats once and keep the faster one. Takes a second or two.

        Raises:
            EngineError: the weights are missing or not the pinned ones.
        """
        files, ranker = verified_weights(), Ranker.load()
        torch.set_num_threads(owned_cores())
        encoders = {name: Encoder.load(files, dtype) for name, dtype in _FORMATS.items()}
        fastest = min(encoders, key=lambda name: _seconds(encoders[name]))
        return cls(encoders[fastest], ranker, fastest)

    @property
    def name(self) -> str:
        """What spoke."""
        return f"embedded/all-MiniLM-L6-v2/{self._format}"

    @property
    def weights_digest(self) -> bytes:
        """Of the pinned files and the ranker's."""
        return self._digest

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One vector of length 1 for each text: (texts, 384)."""
        return self._encoder.encode(texts).numpy()

    def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:
        """What the texts of these vectors are."""
        return self._ranker.judge(vectors, hints)


_FORMATS = {"bf16": torch.bfloat16, "fp32": torch.float32}


def owned_cores() -> int:
    """The cores that this process may really use: its affinity, its cgroup's quota, and ``OMP_NUM_THREADS`` where there is one."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores


def _seconds(encoder: Encoder) -> float:
    """The best of a few runs: a neighbour on the cores only ever makes one slower."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        encoder.encode(_PROBE)
        times.append(time.perf_counter() - start)
    return min(times)
