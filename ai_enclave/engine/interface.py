"""What a feature may ask of an engine. An engine knows texts and vectors; conversations are for ``features``."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Engine(Protocol):
    """A language model that is loaded and ready. Calls are blocking: make them in a thread."""

    @property
    def name(self) -> str:
        """What spoke, for people and receipts."""

    @property
    def weights_digest(self) -> bytes:
        """32 bytes that name the weights exactly."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One vector of length 1 for each text, in order: shape (texts, size)."""


class Writer(Protocol):
    """A language model that writes texts of its own. ``EmbeddedEngine`` is none: it can only choose and quote."""

    @property
    def name(self) -> str:
        """What spoke, for people and receipts."""

    @property
    def weights_digest(self) -> bytes:
        """32 bytes that name the weights exactly."""

    def write(self, instructions: str, text: str) -> AsyncIterator[str]:
        """Follow ``instructions``, with ``text`` as data; yields the answer piece by piece. Closing it stops the work."""
