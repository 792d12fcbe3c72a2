"""Recorded evidence: public vectors outside of the repository, in the folder that ``SUBROSA_VECTORS`` names."""

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[3]
VECTORS = Path(os.environ.get("SUBROSA_VECTORS", _REPOSITORY.parent / "shared" / "vectors"))


def vector(name: str) -> bytes:
    """The bytes of a vector; without the folder the test is skipped."""
    if not VECTORS.is_dir():
        pytest.skip("there are no vectors: set SUBROSA_VECTORS to their folder")
    return (VECTORS / name).read_bytes()
