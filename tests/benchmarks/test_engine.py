"""The command teaches, and refuses what is not there in one sentence, before it measures anything."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import engine


@pytest.mark.parametrize("corpus", ["samsum", "dialogsum", "qmsum", "bipia"])
def test_a_corpus_that_is_not_there_ends_it_with_2_and_one_sentence(
    corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert engine.main(["--only", "public", f"--{corpus}", str(tmp_path / "nowhere")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bench engine: ")
    assert err.count("\n") == 1


def test_a_place_where_nothing_can_be_written_ends_it_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "file"
    taken.touch()
    assert engine.main(["--only", "public", "--out", str(taken / "below")]) == 2
    assert engine.main(["--only", "public", "--json", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("cannot be written") == 2


@pytest.mark.parametrize("arguments", [["--only", "everything"], ["--limit", "0"], ["--limit", "few"]])
def test_what_makes_no_sense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        engine.main(arguments)
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err


def test_the_help_names_every_part_and_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        engine.main(["--help"])
    assert ended.value.code == 0
    words = capsys.readouterr().out
    assert all(each in words for each in (*engine.PARTS, *(f"--{corpus}" for corpus in engine.CORPORA), "--bipia"))


@pytest.mark.long
def test_the_smoke_test_measures_every_part(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.engine", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(
        f"## {part}" in done.stdout
        for part in ("summaries-held-out", "cites", "kinds", "replies", "injection", "speed")
    )
    assert (tmp_path / "engine.md").read_text(encoding="utf-8") == done.stdout
