"""``subrosa enclave`` starts with the hardware that it was told to prove itself by, or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from ai_enclave.__main__ import one_of
from messaging.client import CredentialsRevoked


def enclave(*options: str) -> subprocess.CompletedProcess[str]:
    """The command with a relay that nobody runs: it must not come so far as to look for it."""
    command = [sys.executable, "-m", "ai_enclave", "--relay", "https://127.0.0.1:1", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def token(tmp_path: Path) -> str:
    """A file with an assistant token."""
    path = tmp_path / "assistant.token"
    path.write_text("token")
    return str(path)


@pytest.mark.parametrize(
    ("hardware", "missing"),
    [(["--tee", "dstack"], "dstack"), (["--unsafe-simulated-tee", "--gpus"], "NVIDIA")],
)
def test_without_the_hardware_it_was_told_to_use_it_does_not_start(
    token: str, hardware: list[str], missing: str
) -> None:
    done = enclave("--assistant-token-file", token, *hardware)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("subrosa enclave: ")
    assert missing in done.stderr
    assert "relay" not in done.stderr


@pytest.mark.parametrize("hardware", [[], ["--tee", "linux", "--unsafe-simulated-tee"], ["--tee", "other"]])
def test_exactly_one_kind_of_hardware_is_named(token: str, hardware: list[str]) -> None:
    assert enclave("--assistant-token-file", token, *hardware).returncode == 2


def test_of_errors_in_tasks_within_tasks_one_is_told_and_not_their_group() -> None:
    replaced = CredentialsRevoked()
    assert one_of(ExceptionGroup("tasks", [ExceptionGroup("tasks", [replaced])])) is replaced
