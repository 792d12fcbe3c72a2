"""Nothing of the enclave reaches a disk or a log by the back door: core dumps, swap, and the words of a crash.

``harden`` closes what a process can close itself and names what only its operator can. It looks once, at the start: inside
a hardware TEE nobody outside can change these settings later. Hibernation and snapshots of a virtual machine's memory are
the machine's; a TEE encrypts that memory.
"""

import asyncio
import contextlib
import ctypes
import logging
import resource
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType

PROC = Path("/proc")
SYSFS = Path("/sys")

OURS = ("ai_enclave", "attestation", "messaging", "signal_protocol")

_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_ROOT = Path(__file__).parent.parent
_PREFIX = "subrosa enclave:"


class NotHardened(Exception):
    """What this process holds could reach a disk. The text says what to do, one sentence for each fault."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def harden(strict: bool, *, proc: Path = PROC, sysfs: Path = SYSFS) -> tuple[str, ...]:
    """Turn core dumps and debuggers off for this process, and look for what else writes memory to a disk.

    Args:
        strict: whether a fault stops the enclave: yes in a hardware TEE, whose operator must not read it.
        proc: where ``/proc`` is mounted.
        sysfs: where ``/sys`` is mounted.

    Returns:
        The faults, as sentences that say what to do; there are none if ``strict``.

    Raises:
        NotHardened: ``strict``, and there are faults.

    Source: core(5), prctl(2) PR_SET_DUMPABLE, cgroups(7).
    """
    faults = (*_no_core_files(), *_not_dumpable(), *_no_core_handler(proc), *_no_swap(proc, sysfs))
    if faults and strict:
        raise NotHardened(faults)
    return faults


def quiet_crashes(loop: asyncio.AbstractEventLoop) -> None:
    """Say of an exception that nobody caught, in ``loop`` or any thread, its type and where in our code it was: no more.

    Its text, what it was caused by, local variables and the names of tasks may hold content. So may warnings, of which the
    category is written, and what a library logs: where it has no handler, its name and the level are written.
    """
    sys.excepthook = _of_main_thread
    threading.excepthook = lambda crash: _say("a thread ended", crash.exc_value or crash.exc_type)
    sys.unraisablehook = lambda crash: _say("an error was ignored", crash.exc_value or crash.exc_type)
    loop.set_exception_handler(lambda _, context: _say("a task failed", context.get("exception")))
    warnings.showwarning = lambda _, category, *_where: _say("a warning", category)
    logging.lastResort = _OnlyNames(logging.WARNING)
    logging.raiseExceptions = False  # it would print the record that could not be written


def describe(error: BaseException) -> str:
    """The type of ``error`` and where it passed through our code, innermost first; of a group, each of its errors."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(describe(each) for each in error.exceptions)
    places = " < ".join(reversed(list(_our_places(error.__traceback__)))) or "other code"
    return f"{type(error).__name__} at {places}"


def _no_core_files() -> Iterator[str]:
    """The worker process inherits the limit; it is the hard one, so that no code can raise it again."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
        yield "core files are on: set LimitCORE=0 for this service"


def _not_dumpable() -> Iterator[str]:
    """No core dump, also none to a pipe; no debugger, and none of /proc/PID/mem and environ for others of this user.

    The worker process does not inherit it: execve(2) makes a process dumpable again.
    """
    try:
        prctl = ctypes.CDLL(None).prctl
    except AttributeError:
        yield "this process can be dumped and debugged: run it on Linux, which can forbid that"
        return
    zero = ctypes.c_ulong(0)
    if prctl(_PR_SET_DUMPABLE, zero, zero, zero, zero) or prctl(_PR_GET_DUMPABLE, zero, zero, zero, zero):
        yield "this process can be dumped and debugged: allow it prctl(PR_SET_DUMPABLE)"


def _no_core_handler(proc: Path) -> Iterator[str]:
    """A program or (since Linux 6.16) a socket gets the core of a process whatever its limit, here the worker's, and may store it.

    No value of kernel.core_pipe_limit turns that off: 0 means any number at once.
    """
    pattern = _text(proc / "sys/kernel/core_pattern")
    if pattern is None:
        yield "who gets core dumps is unknown: let this service read /proc/sys/kernel/core_pattern"
    elif pattern.startswith(("|", "@")):
        yield "core dumps go to another program: run `sysctl -w kernel.core_pattern=core`"


def _no_swap(proc: Path, sysfs: Path) -> Iterator[str]:
    """Locking this process's pages (mlockall) would not do: the worker's are its own, and execve unlocks them."""
    swaps = _text(proc / "swaps")
    if swaps is None:
        yield "whether there is swap is unknown: let this service read /proc/swaps"
    elif len(swaps.splitlines()) > 1 and not _never_swapped(proc, sysfs):  # the first line is a heading
        yield "swap is on: run `swapoff -a`, or set MemorySwapMax=0 for this service"


def _never_swapped(proc: Path, sysfs: Path) -> bool:
    """Whether the control group of this process, or one above it, may not swap. Version 1 cannot say so: no."""
    for line in (_text(proc / "self/cgroup") or "").splitlines():
        if line.startswith("0::/"):  # version 2
            group = PurePosixPath(line.removeprefix("0::/"))
            if ".." in group.parts:  # outside of what this namespace shows
                return False
            return any(_text(sysfs / "fs/cgroup" / each / "memory.swap.max") == "0" for each in (group, *group.parents))
    return False


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _of_main_thread(_type: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
    _say("it ended", error)


def _say(what: str, error: BaseException | type[BaseException] | None) -> None:
    with contextlib.suppress(Exception):  # there may be nowhere to write, and a hook that fails tells its own story
        match error:
            case BaseException():
                text = describe(error)
            case None:
                text = "no exception"
            case _:
                text = error.__name__
        print(f"{_PREFIX} {what} ({text})", file=sys.stderr)  # noqa: T201


def _our_places(trace: TracebackType | None) -> Iterator[str]:
    for frame, line in traceback.walk_tb(trace):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_ROOT) and (place := path.relative_to(_ROOT)).parts[0] in OURS:
            yield f"{place}:{line}"


class _OnlyNames(logging.Handler):
    """Of a record, who logged it and how bad it is."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(f"{record.name} logged {record.levelname}", record.exc_info[1] if record.exc_info else None)
