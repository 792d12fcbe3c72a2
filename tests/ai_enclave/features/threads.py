"""Threads for tests of the features."""

from collections.abc import Mapping, Sequence

import numpy as np

from ai_enclave.engine.interface import INTENTS, KIND_CHANCES, Judgement, Vectors
from ai_enclave.features import Message, Thread
from ai_enclave.features.reading import RULED


def a_thread(*said: tuple[str, str], names: Mapping[str, str] | None = None, members: int = 0) -> Thread:
    """Messages ``m0``, ``m1`` and so on; authors are called by their id with a capital, unless ``names`` says else."""
    messages = tuple(Message(f"m{place}", who, place, text) for place, (who, text) in enumerate(said))
    return Thread(messages, {who: who.capitalize() for who, _ in said} if names is None else names, members)


class NoEngine:
    """An engine that knows no text from another: for what rules decide alone. All kinds are possible, none is likely."""

    name = "none"
    weights_digest = bytes(32)

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.ones((len(texts), 1), dtype=np.float32)

    def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:
        return equal_judgement(len(vectors))


def equal_judgement(texts: int) -> Judgement:
    """As of an engine that finds all texts equally salient, and of no kind unless a rule says so."""
    return Judgement(
        np.full(texts, 0.5, dtype=np.float32),
        np.tile(np.asarray(KIND_CHANCES, dtype=np.float32) * RULED * 1.01, (texts, 1)),
        np.full((texts, len(INTENTS)), 1 / len(INTENTS), dtype=np.float32),
    )
