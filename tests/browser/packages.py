"""npm packages that only the browser tests use: fetched once into ``.venv/browser``, and pinned here by the hash of their archive.

npm takes them from the registry that it is configured for; no script of a package runs, and what they depend on is not fetched.
"""

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from signal_protocol.errors import WorkerUnavailable
from signal_protocol.node import find_node
from signal_protocol.setup import SetupFailed, run_npm

CACHE: Final = Path(__file__).resolve().parents[2] / ".venv" / "browser"
_CHUNK: Final = 1 << 20


class NotFetched(Exception):
    """A package could not be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Package:
    """One version of a package of npm. ``sha256`` is that of its archive, in hexadecimal."""

    name: str
    version: str
    sha256: str

    @property
    def folder_name(self) -> str:
        return f"{self.name.rpartition('/')[2]}-{self.version}"


AXE: Final = Package(
    "axe-core", "4.14.1", "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
)  # MPL-2.0
CHROMIUM: Final = Package(  # MIT; Chromium itself BSD-3-Clause
    "@sparticuz/chromium", "147.0.0", "18fe5404ce845594cd7d592fc07f37a19514079ba4d9c27192ad8b908743f16b"
)


def is_fetched(package: Package, cache: Path = CACHE) -> bool:
    """Whether :func:`fetched` has nothing to do."""
    return (cache / package.folder_name).is_dir()


def fetched(package: Package, unpack: Callable[[Path, Path], None], cache: Path = CACHE) -> Path:
    """The folder of a package; fetched if it is not there.

    Args:
        package: which one.
        unpack: puts into a new folder what is needed of the archive, whose hash has been checked.
        cache: where folders of packages are.

    Raises:
        NotFetched: npm could not bring it, or brought something else.
    """
    folder = cache / package.folder_name
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as work:
        archive = _archive(package, Path(work))
        unpack(archive, Path(work) / "new")
        _into_place(Path(work) / "new", folder)
    return folder


def unpacked(archive: Path, folder: Path, *names: str) -> None:
    """Take the files ``names`` out of an archive into ``folder``, by their last name."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive) as members:
        for name in names:
            member = members.extractfile(name)
            if member is None:
                raise NotFetched(f"{name} is not in the package")
            with (folder / Path(name).name).open("wb") as file:
                shutil.copyfileobj(member, file, _CHUNK)


def axe_script() -> Path:
    """axe-core in one file.

    Raises:
        NotFetched: see :func:`fetched`.
    """
    return fetched(AXE, lambda archive, new: unpacked(archive, new, "package/axe.min.js")) / "axe.min.js"


def _archive(package: Package, work: Path) -> Path:
    try:
        run_npm(find_node(), ["pack", f"{package.name}@{package.version}"], work)
    except (SetupFailed, WorkerUnavailable) as error:
        raise NotFetched(f"{package.name}: {error}") from None
    found = list(work.glob("*.tgz"))
    if len(found) != 1 or _sha256(found[0]) != package.sha256:
        raise NotFetched(f"{package.name} {package.version} of the npm registry is not the package that is pinned here")
    return found[0]


def _into_place(new: Path, folder: Path) -> None:
    """Whole or not at all; another process may have been faster."""
    try:
        os.rename(new, folder)  # noqa: PTH104 - Path.rename promises less about folders that are there
    except OSError:
        if not folder.is_dir():
            raise


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
