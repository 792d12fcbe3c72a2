"""The embedded engine takes the cores that it owns, or as many as it is told to."""

import os

import pytest

from ai_enclave.engine.embedded import owned_cores


@pytest.mark.parametrize(("asked", "cores"), [("1", 1), ("3", 3)])
def test_takes_as_many_threads_as_it_is_told(asked: str, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert owned_cores() == cores


@pytest.mark.parametrize("asked", ["", "0", "all", "-1"])
def test_takes_no_more_than_it_owns_otherwise(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert 1 <= owned_cores() <= len(os.sched_getaffinity(0))
