"""The search for canaries finds one in each kind of place: a search that finds nothing means something then."""

import base64
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import secrecy
from tests.secrecy import SHORTEST, descendants, find_canaries, holds_canary

ROOT = Path(__file__).parents[1]
CANARY = secrets.token_hex(8).encode()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``$HOME`` and the folder for temporary files, both empty and ours."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return home


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder that is searched."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def found(
    folders: Sequence[Path] = (), pids: Sequence[int] = (), since: float | None = None, ignoring: Sequence[Path] = ()
) -> list[str]:
    places = find_canaries([b"another-canary", CANARY], folders, pids, since or time.time() + 60, ignoring=ignoring)
    assert not any(CANARY.decode() in place for place in places)
    return places


def test_where_there_is_none_it_finds_none(data: Path) -> None:
    (data / "file").write_bytes(CANARY[:-1])
    with process("print('ready', flush=True); input()") as pid:
        assert found([data], [pid], since=time.time() - 10) == []


@pytest.mark.parametrize(
    "spell",
    [
        bytes,
        lambda text: text.decode().encode("utf-16-le"),
        lambda text: text.hex().encode(),
        lambda text: text.hex().upper().encode(),
    ],
)
def test_it_finds_each_spelling(data: Path, spell: Callable[[bytes], bytes]) -> None:
    (data / "deep").mkdir()
    (data / "deep" / "file").write_bytes(b"\x00before" + spell(CANARY) + b"after\xff")
    assert found([data]) == [str(data / "deep" / "file")]


@given(canary=st.binary(min_size=SHORTEST), before=st.binary(max_size=9), after=st.binary(max_size=9))
def test_it_finds_any_canary_in_base64_of_any_alignment(canary: bytes, before: bytes, after: bytes) -> None:
    needles = frozenset(secrecy._spellings(canary))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert secrecy._holds(needles, encode(before + canary + after))


def test_a_canary_that_could_be_found_by_chance_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="at least 8"):
        find_canaries([b"1234567"], [data], [], 0)


@pytest.mark.parametrize("before", [0, (1 << 20) - 3, (1 << 20) - len(CANARY), 1 << 20])
def test_it_finds_a_canary_wherever_in_a_large_file(data: Path, before: int) -> None:
    (data / "large").write_bytes(bytes(before) + CANARY + bytes(100))
    assert found([data]) == [str(data / "large")]


def test_it_finds_a_canary_in_the_journal_of_a_database(data: Path) -> None:
    with closing(sqlite3.connect(data / "db.sqlite")) as db:
        db.execute("pragma journal_mode=wal")
        db.execute("create table texts (text text)")
        db.execute("insert into texts values (?)", [CANARY.decode()])
        db.commit()
        assert found([data]) == [str(data / "db.sqlite-wal")]


def test_it_finds_a_canary_in_a_log_that_is_named_itself(data: Path) -> None:
    (data / "log").write_bytes(CANARY)
    assert found([data / "log"]) == [str(data / "log")]


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/nowhere")])
def test_it_finds_a_canary_in_a_name_and_does_not_repeat_it(data: Path, make: Callable[[Path], None]) -> None:
    make(data / f"x-{CANARY.decode()}")
    assert found([data]) == [f"the name of a file in {data}"]


def test_it_finds_a_canary_in_the_target_of_a_link(data: Path) -> None:
    (data / "link").symlink_to(f"/nowhere/{CANARY.decode()}")
    assert found([data]) == [f"the target of {data / 'link'}"]


def test_pipes_and_sockets_hold_it_up_by_nothing(data: Path) -> None:
    os.mkfifo(data / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(data / "socket"))
        assert found([data]) == []


def test_what_may_not_be_read_was_not_searched_and_says_so(data: Path) -> None:
    (data / "file").touch(0o000)
    if os.geteuid() == 0:
        pytest.skip("root may read all")
    with pytest.raises(PermissionError):
        found([data])


def test_a_folder_that_is_not_there_is_not_searched_in_vain(data: Path) -> None:
    with pytest.raises(FileNotFoundError):
        found([data / "none"])


@pytest.mark.parametrize("place", ["home", "tmp"])
def test_it_finds_new_files_in_home_and_the_temporary_folder(tmp_path: Path, place: str) -> None:
    file = tmp_path / place / ".cache" / "new"
    file.parent.mkdir()
    file.write_bytes(CANARY)
    os.utime(file, (0, 0))  # it was changed now, whatever it says
    assert found(since=time.time() - 10) == [str(file)]
    assert found(since=time.time() + 10) == []
    assert found(since=time.time() - 10, ignoring=[file.parent]) == []


# Processes


@contextmanager
def process(script: str, *arguments: str, **environment: str) -> Iterator[int]:
    """Runs until the block ends; it says ``ready`` first."""
    command = [sys.executable, "-c", script, *arguments]
    pipe, env = subprocess.PIPE, {**os.environ, **environment}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running.pid
        running.communicate("\n")


WAIT = "print('ready', flush=True); input()"


def test_it_finds_a_canary_on_a_command_line_and_in_an_environment() -> None:
    with process(WAIT, CANARY.decode()) as pid:
        assert found(pids=[pid]) == [f"cmdline of process {pid}"]
    with process(WAIT, SECRET=CANARY.decode()) as pid:
        assert found(pids=[pid]) == [f"environ of process {pid}"]


def test_it_finds_a_canary_at_the_child_of_a_child() -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAIT!r}, sys.argv[1][::-1]])"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, sys.argv[1]])"
    with process(script, CANARY.decode()[::-1]) as pid:
        family = descendants([pid])
        assert len(family) == 3
        assert descendants([pid, family[2], pid]) == [pid, family[2], family[1]]
        assert found(pids=[pid]) == [f"cmdline of process {family[2]}"]


AS_ITS_OWN_USER = """
import ctypes, os, signal, sys, time
from ai_enclave.hardening import harden
from tests.secrecy import find_canaries
"".encode("utf-16-le")  # loaded while all of Python can be read
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as it is before: changing the user has turned it off
ready, say = os.pipe()
child = os.fork()
if child == 0:
    if sys.argv[2] == "hardened":
        harden(strict=False)
    os.write(say, b"!")
    signal.pause()
os.read(ready, 1)
try:
    print(*(place.split()[0] for place in find_canaries([sys.argv[1].encode()], [], [child], time.time() + 60)))
finally:
    os.kill(child, signal.SIGKILL)
"""


@pytest.mark.parametrize(("state", "places"), [("hardened", "cmdline"), ("as before", "cmdline environ")])
def test_of_a_hardened_process_its_own_user_finds_the_command_line_only(state: str, places: str) -> None:
    command = [sys.executable, "-c", AS_ITS_OWN_USER, CANARY.decode(), state]
    environment = {**os.environ, "SECRET": CANARY.decode(), "HOME": "/nowhere"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    if "os.set" in done.stderr:
        pytest.skip("this machine does not let us be another user")
    assert done.stdout == f"{places}\n"


@pytest.mark.parametrize(("mode", "deleted"), [("w", False), ("w", True), ("r", True)])
def test_it_finds_a_canary_in_a_file_that_is_open_for_writing_or_deleted(data: Path, mode: str, deleted: bool) -> None:
    (data / "file").write_bytes(CANARY)
    script = "import sys; file = open(sys.argv[1], {'w': 'r+', 'r': 'r'}[sys.argv[2]]); " + WAIT
    with process(script, str(data / "file"), mode) as pid:
        if deleted:
            (data / "file").unlink()
        assert found(pids=[pid]) == [f"a file that process {pid} has open" + (", deleted" if deleted else "")]


def test_a_file_that_is_only_read_is_none_of_the_process(data: Path) -> None:
    (data / "file").write_bytes(CANARY)
    with process("import sys; file = open(sys.argv[1]); " + WAIT, str(data / "file")) as pid:
        assert found(pids=[pid]) == []


def test_it_finds_a_canary_in_the_name_of_a_thread() -> None:
    script = "import pathlib, sys; pathlib.Path('/proc/self/comm').write_text(input()); " + WAIT
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(CANARY.decode()[:15] + "\n")
        running.stdin.flush()
        running.stdout.readline()
        assert find_canaries([CANARY[:15]], [], [running.pid], time.time() + 60) == [
            f"the name of a thread of process {running.pid}"
        ]
        running.communicate("\n")


def test_a_process_that_is_gone_holds_nothing() -> None:
    with process(WAIT, CANARY.decode()) as pid:
        pass
    assert found(pids=[pid]) == []


@pytest.mark.parametrize(
    "spelling", [bytes, lambda text: text.hex().encode(), lambda text: base64.b64encode(b"x" + text)]
)
def test_a_text_is_searched_for_the_same_spellings(spelling: Callable[[bytes], bytes]) -> None:
    assert holds_canary([b"another-canary", CANARY], b"before " + spelling(CANARY) + b" behind")
    assert not holds_canary([b"another-canary", CANARY], b"before " + spelling(CANARY[:-4]) + b" behind")
