"""Memory of the enclave reaches no disk: the process closes what it can, and says what its operator has to close.

What changes a process for good is tried in processes of their own.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ai_enclave.hardening import NotHardened, describe, harden
from messaging.wire.content import decode_content
from messaging.wire.errors import MalformedContent

ROOT = Path(__file__).parents[2]
CANARY = "CANARY-91c7"
PR_SET_DUMPABLE = 4
NO_SWAP = "Filename\tType\tSize\tUsed\tPriority\n"
SWAP = f"{NO_SWAP}/dev/sda2 partition 1048572 0 -2\n"

CORE_HANDLER = "core dumps go to another program: run `sysctl -w kernel.core_pattern=core`"
SWAP_IS_ON = "swap is on: run `swapoff -a`, or set MemorySwapMax=0 for this service"


@pytest.fixture(autouse=True)
def _debuggers_may_come_back() -> Iterator[None]:
    """Some tests harden this process; other tests look into it."""
    yield
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


class Machine:
    """Files as a kernel shows them: no core handler, no swap, a control group of version 2 without a limit."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.sysfs = folder / "proc", folder / "sys"
        self.write("proc/sys/kernel/core_pattern", "core\n")
        self.write("proc/swaps", NO_SWAP)
        self.write("proc/self/cgroup", "0::/system.slice/enclave.service\n")

    def write(self, path: str, text: str) -> None:
        file = self.proc.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def faults(self) -> tuple[str, ...]:
        return harden(strict=False, proc=self.proc, sysfs=self.sysfs)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without faults."""
    return Machine(tmp_path)


def test_a_machine_without_swap_and_core_handler_has_no_fault(machine: Machine) -> None:
    assert machine.faults() == ()
    assert harden(strict=True, proc=machine.proc, sysfs=machine.sysfs) == ()


@pytest.mark.parametrize("handler", ["|/usr/share/apport/apport -p%p\n", "@/run/coredump.socket\n"])
def test_a_program_that_gets_core_dumps_is_a_fault(machine: Machine, handler: str) -> None:
    machine.write("proc/sys/kernel/core_pattern", handler)
    assert machine.faults() == (CORE_HANDLER,)


@pytest.mark.parametrize("pattern", ["/var/crash/core.%p\n", "\n"])
def test_core_files_are_none_since_their_size_is_limited_to_nothing(machine: Machine, pattern: str) -> None:
    machine.write("proc/sys/kernel/core_pattern", pattern)
    assert machine.faults() == ()


def test_swap_is_a_fault(machine: Machine) -> None:
    machine.write("proc/swaps", SWAP)
    assert machine.faults() == (SWAP_IS_ON,)


@pytest.mark.parametrize("group", ["system.slice/enclave.service/", "system.slice/", ""])
def test_swap_is_none_of_ours_if_our_control_group_or_one_above_it_may_not_swap(machine: Machine, group: str) -> None:
    machine.write("proc/swaps", SWAP)
    machine.write(f"sys/fs/cgroup/{group}memory.swap.max", "0\n")
    assert machine.faults() == ()


@pytest.mark.parametrize(
    ("group", "limit"), [("system.slice/", "max\n"), ("system.slice/", "4096\n"), ("other/", "0\n")]
)
def test_a_control_group_that_may_swap_or_is_another_does_not_help(machine: Machine, group: str, limit: str) -> None:
    machine.write("proc/swaps", SWAP)
    machine.write(f"sys/fs/cgroup/{group}memory.swap.max", limit)
    assert machine.faults() == (SWAP_IS_ON,)


@pytest.mark.parametrize("membership", ["4:memory:/enclave\n", "0::/../enclave\n", ""])
def test_a_control_group_that_we_cannot_see_does_not_help(machine: Machine, membership: str) -> None:
    machine.write("proc/swaps", SWAP)
    machine.write("proc/self/cgroup", membership)
    machine.write("sys/fs/cgroup/memory.swap.max", "0\n")
    machine.write("sys/fs/cgroup/enclave/memory.swap.max", "0\n")
    machine.write("sys/fs/enclave/memory.swap.max", "0\n")
    assert machine.faults() == (SWAP_IS_ON,)


def test_what_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    handler, swap = harden(strict=False, proc=tmp_path, sysfs=tmp_path)
    assert "/proc/sys/kernel/core_pattern" in handler
    assert "/proc/swaps" in swap


def test_a_hardware_tee_does_not_start_with_faults_and_says_what_to_do(machine: Machine) -> None:
    machine.write("proc/sys/kernel/core_pattern", "|/bin/handler\n")
    machine.write("proc/swaps", SWAP)
    with pytest.raises(NotHardened) as refused:
        harden(strict=True, proc=machine.proc, sysfs=machine.sysfs)
    assert refused.value.faults == (CORE_HANDLER, SWAP_IS_ON)
    assert str(refused.value) == f"{CORE_HANDLER}; {SWAP_IS_ON}"


# The real machine

SEE = """
import ctypes, resource, subprocess, sys
from ai_enclave.hardening import harden
harden(strict=False)
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
subprocess.run([sys.executable, "-c", "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"], check=True)
try:
    resource.setrlimit(resource.RLIMIT_CORE, (4096, 4096))
except ValueError:
    print("not raised again")
"""


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_core_files_and_dumps_are_really_off_and_files_also_for_children() -> None:
    seen = python(SEE).stdout.splitlines()
    assert seen[:2] == ["(0, 0) 0", "(0, 0)"]
    if os.geteuid() != 0:  # root may raise any limit
        assert seen[2:] == ["not raised again"]


NOBODY = """
import ctypes, os, sys
from ai_enclave.hardening import harden
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""
HIDE = """
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as it is before: changing the user has turned it off for a moment
if sys.argv[1] == "hardened":
    harden(strict=False)
print("ready", flush=True)
sys.stdin.read()
"""
PEEK = """
from pathlib import Path
for name in ("environ", "maps"):
    try:
        print(name, "read" if Path("/proc", sys.argv[1], name).read_bytes() else "empty")
    except PermissionError:
        print(name, "forbidden")
"""


@pytest.mark.parametrize(("state", "outcome"), [("hardened", "forbidden"), ("as before", "read")])
def test_others_of_the_same_user_cannot_look_into_the_process(state: str, outcome: str) -> None:
    command = [sys.executable, "-c", NOBODY + HIDE, state]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as hidden:
        assert hidden.stdout is not None
        if hidden.stdout.readline() != "ready\n":
            pytest.skip("this machine does not let us be another user")
        peek = python(NOBODY + PEEK, str(hidden.pid))
        hidden.communicate("")
    assert peek.stdout.splitlines() == [f"environ {outcome}", f"maps {outcome}"]


# Crashes

CRASH = """
import asyncio, gc, logging, sys, threading, warnings

CANARY = "CANARY-91c7"

class Holder:
    def __repr__(self):
        return CANARY
    def __del__(self):
        raise ValueError(CANARY)

def fail(*_arguments):
    held = CANARY
    try:
        raise KeyError(held)
    except KeyError as error:
        raise LookupError(held) from error

async def fail_in_task():
    fail()

async def fail_in_group():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail_in_task(), name=CANARY)

async def main():
    loop = asyncio.get_running_loop()
    if sys.argv[1] == "quiet":
        from ai_enclave.hardening import quiet_crashes
        quiet_crashes(loop)
    for never_awaited in (fail_in_task(), fail_in_group()):
        asyncio.create_task(never_awaited, name=CANARY)
    loop.call_soon(fail, CANARY)
    loop.call_exception_handler({"message": CANARY, "future": CANARY})
    await asyncio.sleep(0.01)
    gc.collect()
    thread = threading.Thread(target=fail, name=CANARY)
    thread.start()
    thread.join()
    Holder()
    warnings.warn(CANARY)
    try:
        fail()
    except LookupError:
        logging.getLogger("some.library").exception("it holds %s", CANARY)
    logging.getLogger("some.library").warning("not %d", CANARY)
    with_handler = logging.getLogger("with.handler")
    with_handler.addHandler(logging.StreamHandler())
    with_handler.warning("not %d", CANARY)
    {}[CANARY]

at_the_end = Holder()
asyncio.run(main())
"""


def test_of_a_crash_only_the_type_is_written() -> None:
    crashed = python(CRASH, "quiet")
    assert CANARY not in crashed.stderr
    assert crashed.stdout == ""
    assert crashed.returncode == 1
    assert sorted(crashed.stderr.splitlines()) == sorted(
        [
            "subrosa enclave: a task failed (LookupError at other code)",  # the task,
            "subrosa enclave: a task failed (LookupError at other code)",  # the one in a group,
            "subrosa enclave: a task failed (LookupError at other code)",  # the callback
            "subrosa enclave: a task failed (no exception)",
            "subrosa enclave: a thread ended (LookupError at other code)",
            "subrosa enclave: an error was ignored (ValueError at other code)",
            "subrosa enclave: a warning (UserWarning)",
            "subrosa enclave: some.library logged ERROR (LookupError at other code)",
            "subrosa enclave: some.library logged WARNING (no exception)",
            "subrosa enclave: it ended (KeyError at other code)",
            "subrosa enclave: an error was ignored (ValueError at other code)",  # at the very end
        ]
    )


def test_without_it_a_crash_tells_all() -> None:
    assert python(CRASH, "loud").stderr.count(CANARY) > 10


def source(place: str) -> str:
    path, line = place.split(":")
    return (ROOT / path).read_text().splitlines()[int(line) - 1]


def test_a_crash_says_where_in_our_code_it_was_innermost_first_and_nothing_of_others() -> None:
    with pytest.raises(MalformedContent) as malformed:
        decode_content(CANARY.encode())
    name, places = describe(malformed.value).split(" at ")
    inner, outer = places.split(" < ")
    assert name == "MalformedContent"
    assert inner.startswith("messaging/wire/padding.py:")
    assert outer.startswith("messaging/wire/content.py:")
    assert "raise MalformedContent" in source(inner)
    assert "unpad" in source(outer)


def test_of_a_group_each_error_is_named() -> None:
    group = ExceptionGroup(CANARY, [ValueError(CANARY), ExceptionGroup(CANARY, [KeyError(CANARY)])])
    assert describe(group) == "ValueError at other code, KeyError at other code"
