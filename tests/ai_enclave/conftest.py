"""The real engine, loaded once."""

import pytest

from ai_enclave.engine import EmbeddedEngine


@pytest.fixture(scope="session")
def engine() -> EmbeddedEngine:
    """all-MiniLM-L6-v2 from its wheel, verified."""
    return EmbeddedEngine.load()
