"""Weights are used if every byte is the pinned one, and importing the engine's face costs no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from ai_enclave.engine.weights import PINNED_FILES, EngineError, check_digest, verified_weights, weights_digest


def test_the_installed_weights_are_the_pinned_ones() -> None:
    folder = verified_weights()
    assert all((folder / name).is_file() for name in PINNED_FILES)
    assert len(weights_digest()) == 32


def test_other_weights_are_refused_without_being_named_by_content(tmp_path: Path) -> None:
    changed = tmp_path / "model.safetensors"
    changed.write_bytes(b"secret weights")
    with pytest.raises(EngineError, match="not the pinned ones") as caught:
        check_digest(changed, PINNED_FILES["model.safetensors"])
    assert "secret" not in str(caught.value)
    with pytest.raises(EngineError, match="incomplete"):
        check_digest(tmp_path / "tokenizer.json", PINNED_FILES["tokenizer.json"])


def test_torch_is_loaded_only_when_the_engine_is_asked_for() -> None:
    program = (
        "import sys; from ai_enclave.engine import Engine, EngineError; import ai_enclave.release, ai_enclave.__main__; "
        "assert 'torch' not in sys.modules; from ai_enclave.engine import EmbeddedEngine; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
