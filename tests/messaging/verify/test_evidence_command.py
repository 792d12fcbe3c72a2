"""``subrosa evidence`` saves a bundle or nothing, and says what is missing."""

import os
import stat
from pathlib import Path

import pytest

from attestation.bundle import Bundle
from attestation.document import CpuType, EvidenceDocument
from messaging.verify.__main__ import main as verify
from messaging.verify.evidence_command import main


def test_saves_a_bundle_that_verify_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    assert main(["--unsafe-simulated-tee", "--output", str(path)]) == 0
    assert "subrosa verify" in capsys.readouterr().err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # it names chips
    bundle = Bundle.parse(path.read_bytes())
    assert EvidenceDocument.parse(bundle.evidence).cpu.type is CpuType.SIMULATED
    assert verify([str(path)]) == 1


def test_the_simulation_needs_no_vendor(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    cache = tmp_path / "cache"
    assert main(["--unsafe-simulated-tee", "--fetch", "--cache", str(cache), "--output", str(path)]) == 0
    capsys.readouterr()
    assert list(cache.iterdir()) == []


def test_without_hardware_nothing_is_saved_and_the_remedy_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "bundle.json"
    for options, words in (
        (["--tee", "dstack"], "dstack"),
        (["--unsafe-simulated-tee", "--gpus"], "NVIDIA"),
    ):
        assert main([*options, "--output", str(path)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("subrosa evidence: ")
        assert words in err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--unsafe-simulated-tee", "--output", str(tmp_path / "no" / "where")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_pipe_or_device_is_written_and_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--unsafe-simulated-tee", "--output", os.devnull]) == 0
    assert not Path(os.devnull).is_file()
