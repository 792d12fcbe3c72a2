"""The language model behind one small interface. This package is the only one that imports torch.

Importing it is cheap: torch is loaded with ``EmbeddedEngine``, when it is first asked for.
"""

import os
from typing import TYPE_CHECKING

from ai_enclave.engine.interface import Engine, Reader, Writer
from ai_enclave.engine.weights import EngineError

if TYPE_CHECKING:
    from ai_enclave.engine.embedded import EmbeddedEngine

__all__ = ["EmbeddedEngine", "Engine", "EngineError", "Reader", "Writer"]

# Read when torch is loaded. Its threads would wait for each other by spinning: on cores that others use too, for ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def __getattr__(name: str) -> object:
    if name == "EmbeddedEngine":
        from ai_enclave.engine.embedded import EmbeddedEngine

        return EmbeddedEngine
    raise AttributeError(name)
