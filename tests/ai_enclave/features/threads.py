"""Threads for tests of the features."""

from collections.abc import Mapping, Sequence

import numpy as np

from ai_enclave.engine.interface import Vectors
from ai_enclave.features import Message, Thread


def a_thread(*said: tuple[str, str], names: Mapping[str, str] | None = None, members: int = 0) -> Thread:
    """Messages ``m0``, ``m1`` and so on; authors are called by their id with a capital, unless ``names`` says else."""
    messages = tuple(Message(f"m{place}", who, place, text) for place, (who, text) in enumerate(said))
    return Thread(messages, {who: who.capitalize() for who, _ in said} if names is None else names, members)


class NoEngine:
    """An engine that knows no text from another: for what rules decide alone."""

    name = "none"
    weights_digest = bytes(32)

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.ones((len(texts), 1), dtype=np.float32)
