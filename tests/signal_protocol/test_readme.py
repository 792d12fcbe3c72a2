"""The example in the README runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import signal_protocol

README = Path(signal_protocol.__file__).parent / "README.md"


def test_the_example_says_hello() -> None:
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=README.parents[1],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("Hello, Bob\n", "")


def test_the_public_part_imports_nothing_of_the_rest() -> None:
    program = (
        "import sys, signal_protocol.public\n"
        "rest = ('worker_process', 'operations', 'sessions')\n"
        "print([m for m in sys.modules if m in ('msgpack', 'asyncio') or m.split('.')[1:] and m.split('.')[1] in rest])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=README.parents[1], capture_output=True, text=True, timeout=30, check=True
    )
    assert result.stdout == "[]\n"
