"""A directory that can be used, or a reason why not, in no time."""

import pytest

from ai_enclave.engine.local.engine import LocalEngine
from ai_enclave.engine.local.files import Folder
from ai_enclave.engine.weights import EngineError
from tests.ai_enclave.engine.local.checkpoints import Checkpoint, Memory


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"no", "not JSON"),
        ("config.json", b'{"model_type": "gpt2"}', "architecture is not supported"),
        ("tokenizer.json", b"{}", "not a tokenizer"),
        ("tokenizer.json", b"[" * 50_000, "not JSON"),
        ("model.safetensors", b"\x80\x04pickle", "not safetensors"),
    ],
)
def test_wrong_directories_are_refused_with_a_reason(
    checkpoints: dict[str, Checkpoint], name: str, content: bytes, message: str
) -> None:
    memory = Memory.of(checkpoints["qwen3"].folder)
    memory.files[name] = content
    with pytest.raises(EngineError, match=message):
        LocalEngine.load(memory, threads=1)


def test_options_that_make_no_sense_are_refused(checkpoints: dict[str, Checkpoint]) -> None:
    folder = Folder(checkpoints["qwen3"].folder)
    with pytest.raises(EngineError, match="single block"):
        LocalEngine.load(folder, threads=1, cache_bytes=10)
    with pytest.raises(EngineError, match="formats"):
        LocalEngine.load(folder, threads=1, number_format="fp4")
    with pytest.raises(EngineError, match="not the expected ones"):
        LocalEngine.load(folder, threads=1, expected=bytes(32))
