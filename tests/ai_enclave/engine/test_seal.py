"""The command that seals weights says what it did, overwrites nothing, and leaves nothing half done."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ai_enclave.engine.keys import read_key_file, write_key_file
from ai_enclave.engine.seal import Progress, main, parser
from ai_enclave.engine.sealed import SealedFiles, sealed_digest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(3000))
    return folder


def test_a_model_is_sealed_with_a_new_key(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sealed, key_file = tmp_path / "sealed", tmp_path / "a.key"
    assert main([str(model), str(sealed), "--key-file", str(key_file), "--new-key"]) == 0
    files = SealedFiles.open(sealed, read_key_file(key_file))
    assert {name: bytes(files.read(name)) for name in files.names()} == {
        path.name: path.read_bytes() for path in model.iterdir()
    }
    said = capsys.readouterr().out
    assert said == f"Sealed 3 files into {sealed}.\nweights digest: {sealed_digest(sealed).hex()}\n"
    assert key_file.read_text().strip() not in said


def test_only_what_the_engine_uses_is_sealed_unless_told_otherwise(model: Path, tmp_path: Path) -> None:
    key = write_key_file(tmp_path / "a.key")
    used = sorted(path.name for path in model.iterdir())
    (model / "onnx").mkdir()
    for name in ("README.md", "pytorch_model.bin", "onnx/model.onnx"):
        (model / name).write_text("more")
    assert main([str(model), str(tmp_path / "used"), "--key-file", str(tmp_path / "a.key")]) == 0
    assert SealedFiles.open(tmp_path / "used", key).names() == used
    assert main([str(model), str(tmp_path / "all"), "--key-file", str(tmp_path / "a.key"), "--all-files"]) == 0
    assert SealedFiles.open(tmp_path / "all", key).names() == sorted(
        [*used, "README.md", "pytorch_model.bin", "onnx/model.onnx"]
    )


def test_weights_that_can_run_programs_are_not_sealed_for_the_engine(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert main([str(model), str(tmp_path / "out"), "--key-file", str(tmp_path / "a.key"), "--new-key"]) == 1
    assert "not safetensors" in capsys.readouterr().err


def test_later_weights_go_under_the_same_key(model: Path, tmp_path: Path) -> None:
    key = write_key_file(tmp_path / "a.key")
    for name in ("one", "two"):
        assert main([str(model), str(tmp_path / name), "--key-file", str(tmp_path / "a.key")]) == 0
        SealedFiles.open(tmp_path / name, key).check()


def test_a_key_that_exists_is_not_overwritten(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = write_key_file(tmp_path / "a.key")
    assert main([str(model), str(tmp_path / "out"), "--key-file", str(tmp_path / "a.key"), "--new-key"]) == 1
    assert "not overwritten" in capsys.readouterr().err
    assert read_key_file(tmp_path / "a.key") == key
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_not_overwritten_and_its_new_key_goes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    assert main([str(model), str(tmp_path / "out"), "--key-file", str(tmp_path / "a.key"), "--new-key"]) == 1
    assert "not taken" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "a.key").exists()


def test_without_a_key_or_a_model_nothing_is_made(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(model), str(tmp_path / "out"), "--key-file", str(tmp_path / "a.key")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert (
        main([str(tmp_path / "none"), str(tmp_path / "out"), "--key-file", str(tmp_path / "a.key"), "--new-key"]) == 1
    )
    assert "is not a folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_interrupted_it_leaves_neither_weights_nor_key(model: Path, tmp_path: Path) -> None:
    os.truncate(model / "model.safetensors", 8 * 1024**3)  # sparse: sealing it takes many seconds
    command = [sys.executable, "-m", "ai_enclave.engine.seal", str(model), str(tmp_path / "out")]
    with subprocess.Popen(
        [*command, "--key-file", str(tmp_path / "a.key"), "--new-key"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job has it ignored
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()  # a line of progress
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert "%" in first
    assert "interrupted" in rest
    assert process.returncode == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_progress_is_told_now_and_then() -> None:
    told: list[str] = []
    clock = iter([0.0, 0.1, 0.3, 0.3, 2.2, 2.3, 2.3])
    progress = Progress(told.append, lambda: next(clock))
    for done in (1, 2, 3, 4):
        progress(done * 10**9, 8 * 10**9)
    assert told == [" 25 %, 2.0 of 8.0 GB", " 50 %, 4.0 of 8.0 GB"]


def test_the_help_says_what_is_secret_and_what_is_not() -> None:
    text = parser().format_help()
    for words in ("--new-key", "must not exist", "Who has it has the weights", "it is not secret", "examples:"):
        assert words in text


def test_sealing_needs_no_torch() -> None:
    subprocess.run(
        [sys.executable, "-c", "import sys, ai_enclave.engine.seal; assert 'torch' not in sys.modules"], check=True
    )
