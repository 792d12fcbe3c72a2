"""The threat model names proofs that exist, and leaves none of the 28 known faults out."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
ROWS = re.findall(r"^\| (\d+) \|(.+)\|$", TEXT, re.MULTILINE)
SHORT = "tests/attestation/"  # as the page says of appraisal/ and test_vectors.py


def test_no_fault_is_left_out_and_each_has_a_proof_or_a_reason() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, 29))
    for number, row in ROWS:
        _, verdict, proof = (cell.strip() for cell in row.split("|"))
        assert verdict == "**open**" or verdict.startswith("covered"), number
        assert len(proof) >= len("as 14"), number
        assert verdict == "**open**" or "`" in proof or "the SDK" in proof, number


def test_every_test_that_is_named_is_there() -> None:
    named = set(re.findall(r"`((?:tests/|appraisal/|test_)[\w/]+\.py)(?:::(\w+))?`", TEXT))
    assert len(named) >= 20
    for path, test in named:
        file = ROOT / path if path.startswith("tests/") else ROOT / SHORT / path
        assert file.is_file(), path
        assert not test or f"def {test}(" in file.read_text("utf-8"), f"{path}::{test}"
