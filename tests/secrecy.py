"""Whether anything that must stay secret can be found outside of the memory of those who may know it.

Made for tests that run a whole system, also while it is under load and after a ``kill -9``. A place that is gone when it is
looked at is no finding. Canaries are best made at run time, or the compiled test itself is one of the places.
"""

import base64
import contextlib
import os
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

SHORTEST = 8  # bytes of a canary; in base64 a shorter one could be found by chance
_CHUNK = 1 << 20
_GONE = (FileNotFoundError, ProcessLookupError)


def find_canaries(
    canaries: Iterable[bytes],
    folders: Iterable[Path],
    pids: Iterable[int],
    since: float,
    *,
    ignoring: Collection[Path] = (),
) -> list[str]:
    """Where canaries are, in UTF-8, UTF-16, hexadecimal or base64. The answer names places and never holds a canary.

    Args:
        canaries: at least ``SHORTEST`` bytes each.
        folders: searched wholly, names of files included; single files may be given too.
        pids: processes, searched with all their descendants: command line, environment, names of threads, and files that
            they have open for writing or that were deleted. List :func:`descendants` before a parent is killed.
        since: seconds since 1970; temporary folders and ``$HOME`` are searched for files that changed after that.
        ignoring: folders not to look into, such as those of the test itself.

    Raises:
        ValueError: a canary is too short.
        FileNotFoundError: there is no such folder.
        PermissionError: a folder or a process may not be read. Of a process that is hardened against its own user, what the
            kernel shows to root alone is searched as root, and else left out.
    """
    needles = frozenset(needle for canary in canaries for needle in _spellings(canary))
    skipped = frozenset(path.resolve() for path in ignoring)
    places = [
        *(place for folder in folders for place in _in_folder(needles, folder, skipped)),
        *(place for pid in descendants(pids) for place in _in_process(needles, pid)),
        *(place for folder in _scratch() for place in _in_scratch(needles, folder, skipped, since)),
    ]
    return list(dict.fromkeys(places))


def holds_canary(canaries: Iterable[bytes], text: bytes) -> bool:
    """Whether one of them is in ``text``, in any of the spellings that :func:`find_canaries` knows."""
    return _holds(frozenset(needle for canary in canaries for needle in _spellings(canary)), text)


def descendants(pids: Iterable[int]) -> list[int]:
    """``pids``, their children, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(*_GONE):
                # The name before the last ")" may hold anything; state and parent follow.
                parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = list(dict.fromkeys(pids))
    for pid in found:  # grows while we go
        found += [child for child in children.get(pid, []) if child not in found]
    return found


def _spellings(canary: bytes) -> Iterator[bytes]:
    if len(canary) < SHORTEST:
        raise ValueError(f"a canary has at least {SHORTEST} bytes")
    yield canary
    yield from (canary.hex().encode(), canary.hex().upper().encode())
    with contextlib.suppress(UnicodeDecodeError):
        yield canary.decode().encode("utf-16-le")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):  # so many bytes may stand before it; only whole characters of its own are looked for
            end = (before + len(canary)) * 8 // 6
            yield encode(bytes(before) + canary)[-(-before * 8 // 6) : end]


def _in_folder(needles: frozenset[bytes], top: Path, skipped: frozenset[Path]) -> Iterator[str]:
    for path in _files(top, skipped, may_fail=False):
        yield from _in_path(needles, path)


def _in_scratch(needles: frozenset[bytes], top: Path, skipped: frozenset[Path], since: float) -> Iterator[str]:
    for path in _files(top, skipped, may_fail=True):
        with contextlib.suppress(PermissionError, *_GONE):  # of other users
            about = path.lstat()
            if max(about.st_mtime, about.st_ctime) >= since:
                yield from _in_path(needles, path)


def _files(top: Path, skipped: frozenset[Path], *, may_fail: bool) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        if not may_fail and not isinstance(error, _GONE):
            raise error

    if not top.is_dir():
        top.lstat()  # what was never there would be searched in vain
        yield top
        return
    for folder, folders, names in os.walk(top.resolve(), onerror=fail):
        folders[:] = [name for name in folders if Path(folder, name) not in skipped]
        yield from (Path(folder, name) for name in (*names, *folders))


def _in_path(needles: frozenset[bytes], path: Path) -> Iterator[str]:
    if _holds(needles, os.fsencode(path.name)):
        yield f"the name of a file in {path.parent}"
        return
    with contextlib.suppress(*_GONE):
        about = path.lstat()
        if stat.S_ISLNK(about.st_mode) and _holds(needles, os.fsencode(path.readlink())):
            yield f"the target of {path}"
        if stat.S_ISREG(about.st_mode):
            with path.open("rb") as file:
                if _flows_through(needles, file):
                    yield str(path)


def _in_process(needles: frozenset[bytes], pid: int) -> Iterator[str]:
    proc = Path("/proc", str(pid))
    with contextlib.suppress(*_GONE):
        hidden = (PermissionError,) if _is_hardened(proc) else ()
        for name in ("cmdline", "environ"):
            with contextlib.suppress(*hidden):
                if _holds(needles, (proc / name).read_bytes()):
                    yield f"{name} of process {pid}"
        for thread in (proc / "task").iterdir():
            with contextlib.suppress(*_GONE):
                if _holds(needles, (thread / "comm").read_bytes()):
                    yield f"the name of a thread of process {pid}"
        with contextlib.suppress(*hidden):
            for opened in (proc / "fd").iterdir():
                with contextlib.suppress(*_GONE):
                    yield from _in_open_file(needles, pid, opened)


def _is_hardened(proc: Path) -> bool:
    """Files of a process that is not dumpable are root's; its folder stays its own (proc(5))."""
    return (proc / "environ").stat().st_uid != proc.stat().st_uid


def _in_open_file(needles: frozenset[bytes], pid: int, opened: Path) -> Iterator[str]:
    about, target = opened.stat(), str(opened.readlink())
    if not stat.S_ISREG(about.st_mode) or target.startswith("/memfd:"):  # that is memory
        return
    if about.st_nlink and not _is_writable(opened):
        return
    with opened.open("rb") as file:  # opened anew: the process's own position stays where it is
        if _flows_through(needles, file):
            yield f"a file that process {pid} has open" + ("" if about.st_nlink else ", deleted")


def _is_writable(opened: Path) -> bool:
    info = (opened.parents[1] / "fdinfo" / opened.name).read_text()
    flags = next(line.split()[1] for line in info.splitlines() if line.startswith("flags:"))
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


def _scratch() -> list[Path]:
    named = (Path(tempfile.gettempdir()), Path("/var/tmp"), Path.home())
    return [folder for folder in dict.fromkeys(named) if folder.is_dir()]


def _flows_through(needles: frozenset[bytes], file: BinaryIO) -> bool:
    longest = max(map(len, needles), default=1)
    kept = b""
    while chunk := file.read(_CHUNK):
        if _holds(needles, kept + chunk):
            return True
        kept = (kept + chunk)[-longest:]
    return False


def _holds(needles: frozenset[bytes], text: bytes) -> bool:
    return any(needle in text for needle in needles)
