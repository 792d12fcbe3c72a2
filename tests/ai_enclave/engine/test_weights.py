"""Weights are used if every byte is the pinned one, and importing the engine's face costs no torch."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from ai_enclave.engine.weights import (
    PINNED_FILES,
    EngineError,
    read_pinned,
    read_ranker,
    verified_weights,
    weights_digest,
)


def test_the_installed_weights_are_the_pinned_ones() -> None:
    files = verified_weights()
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == PINNED_FILES
    assert len(weights_digest()) == 32


def test_other_weights_are_refused_without_being_named_by_content(tmp_path: Path) -> None:
    changed = tmp_path / "model.safetensors"
    changed.write_bytes(b"secret weights")
    with pytest.raises(EngineError, match="not the pinned ones") as caught:
        read_pinned(changed, PINNED_FILES["model.safetensors"])
    assert "secret" not in str(caught.value)
    with pytest.raises(EngineError, match="incomplete"):
        read_pinned(tmp_path / "tokenizer.json", PINNED_FILES["tokenizer.json"])


def test_another_ranker_has_another_digest_and_a_missing_one_is_said(tmp_path: Path) -> None:
    assert weights_digest(bytes(32)) != weights_digest()
    assert weights_digest(hashlib.sha256(read_ranker()).digest()) == weights_digest()
    with pytest.raises(EngineError, match="ranker"):
        read_ranker(tmp_path / "nothing")


def test_torch_is_loaded_only_when_the_engine_is_asked_for() -> None:
    program = (
        "import sys; from ai_enclave.engine import Engine, EngineError; import ai_enclave.release, ai_enclave.__main__; "
        "assert 'torch' not in sys.modules; from ai_enclave.engine import EmbeddedEngine; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
