"""What is used is what was hashed, nothing that could run is opened, and a digest is checked before anything is read as what it claims."""

import hashlib
from pathlib import Path

import pytest

from ai_enclave.engine.local.files import MAX_JSON_BYTES, Folder, VerifiedFiles, used_names
from ai_enclave.engine.weights import EngineError
from tests.ai_enclave.engine.local.checkpoints import Memory

FILES = {"config.json": b"{}", "tokenizer.json": b"[]", "model.safetensors": b"weights"}


def test_the_digest_is_one_over_names_sizes_and_digests() -> None:
    lines = "".join(
        f"{hashlib.sha256(content).hexdigest()} {len(content)} {name}\n" for name, content in sorted(FILES.items())
    )
    assert VerifiedFiles.of(Memory(FILES)).digest == hashlib.sha256(lines.encode()).digest()


def test_the_digest_names_every_file_that_is_used_and_no_other() -> None:
    digest = VerifiedFiles.of(Memory(FILES)).digest
    assert VerifiedFiles.of(Memory(FILES | {"README.md": b"x", "modeling_evil.py": b"x"})).digest == digest
    for name in [*FILES, "generation_config.json"]:
        assert VerifiedFiles.of(Memory(FILES | {name: b"other"})).digest != digest


def test_another_digest_is_refused_before_anything_is_parsed() -> None:
    digest = VerifiedFiles.of(Memory(FILES)).digest
    assert VerifiedFiles.of(Memory(FILES), digest).digest == digest
    with pytest.raises(EngineError, match="not the expected ones"):
        VerifiedFiles.of(Memory(FILES | {"config.json": b"{ no json"}), digest)


def test_a_file_that_changes_after_it_was_hashed_is_not_used() -> None:
    memory = Memory(FILES)
    verified = VerifiedFiles.of(memory)
    assert verified.read("model.safetensors") == b"weights"
    memory.files["model.safetensors"] = b"w3ights"
    with pytest.raises(EngineError, match="changed"):
        verified.read("model.safetensors")


def test_only_what_is_used_is_opened() -> None:
    memory = Memory(
        FILES | {"pytorch_model.bin": b"", "modeling.py": b"", "chat_template.jinja": b"", "x.safetensors": b""}
    )
    VerifiedFiles.of(memory)
    assert set(memory.reads) == set(FILES)
    with pytest.raises(EngineError, match="has no modeling"):
        VerifiedFiles.of(memory).read("modeling.py")


def test_numbered_parts_are_used_if_there_is_no_whole() -> None:
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert used_names(["config.json", "tokenizer.json", *parts]) == sorted(["config.json", "tokenizer.json", *parts])
    assert parts[0] not in used_names([*FILES, *parts])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no weights"),
        (["config.json", "tokenizer.json"], "holds no weights"),
        (["config.json", "tokenizer.json", "pytorch_model.bin"], "not safetensors"),
        (["config.json", "tokenizer.json", "consolidated.00.pth"], "not safetensors"),
        (["model.safetensors", "tokenizer.json"], "no config.json"),
        (["model.safetensors", "config.json", "tokenizer.model"], "no tokenizer.json"),
        (["config.json", *(f"model-{number:05}-of-02000.safetensors" for number in range(2000))], "more than"),
    ],
)
def test_directories_that_cannot_be_used_say_why(names: list[str], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        used_names(names)


def test_a_folder_that_is_not_there_or_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be read"):
        VerifiedFiles.of(Folder(tmp_path / "missing"))
    with pytest.raises(EngineError, match="holds no weights"):
        VerifiedFiles.of(Folder(tmp_path))
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    assert VerifiedFiles.of(Folder(tmp_path)).digest == VerifiedFiles.of(Memory(FILES)).digest
    verified = VerifiedFiles.of(Folder(tmp_path))
    (tmp_path / "config.json").unlink()
    with pytest.raises(EngineError, match="cannot be read"):
        verified.read("config.json")


def test_a_text_file_of_any_size_is_not_taken() -> None:
    verified = VerifiedFiles.of(Memory(FILES | {"tokenizer.json": b" " * (MAX_JSON_BYTES + 1)}))
    with pytest.raises(EngineError, match="too large"):
        verified.text("tokenizer.json")
