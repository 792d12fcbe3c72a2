"""No input that coverage finds makes a parser fail, hang, or take memory without bound.

The short form makes a fixed number of inputs for every target, in one process that makes keys and instruments modules once; the long
form takes a minute for each. atheris has wheels for few Pythons, and on Linux for x86-64 alone: elsewhere both are skipped.
"""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.attestation.fuzz.targets import TARGETS

pytestmark = pytest.mark.skipif(
    find_spec("atheris") is None, reason="atheris is not installed: no coverage-guided fuzzing"
)

SLOW = [name for name in TARGETS if name.startswith(("appraise-", "manifest"))]  # signatures, or XML
QUICK = [name for name in TARGETS if name not in SLOW]
SEED = "1"
_LINE = re.compile(r"^([a-z-]+): (passed|FAILED)", re.MULTILINE)


def fuzz(*arguments: str, deadline: float) -> str:
    """What ``python -m tests.attestation.fuzz`` prints, whether or not an input failed."""
    command = [sys.executable, "-m", "tests.attestation.fuzz", *arguments]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=deadline, check=False)
    assert _LINE.search(done.stdout), done.stderr
    return done.stdout


@pytest.mark.parametrize(("names", "runs"), [(QUICK, 300), (SLOW, 40)], ids=["quick", "slow"])
def test_no_input_makes_a_target_fail(names: list[str], runs: int, subtests: pytest.Subtests) -> None:
    told = fuzz(*names, "--runs", str(runs), "--seed", SEED, deadline=200)
    results = dict(_LINE.findall(told))
    assert list(results) == names
    for name, result in results.items():
        with subtests.test(name):
            assert result == "passed", told


@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_of_a_minute_makes_a_target_fail(name: str) -> None:
    told = fuzz(name, "--seconds", "60", deadline=200)
    assert f"{name}: passed" in told, told
