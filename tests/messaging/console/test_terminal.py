"""``subrosa admin``: commands of the registry, over the API of a real console."""

import asyncio
import json
import sys
import time
from io import StringIO
from pathlib import Path

import pytest

from messaging.console.terminal import WAITS, main, plain, show_result, table
from messaging.relay.admin.permissions import Permission, Role
from messaging.relay.admin.registry import ACTIONS, VIEWS
from tests.consoles import StartedConsole
from tests.messaging.console.test_api import program_of
from tests.messaging.console.test_pages import let_wait
from tests.messaging.relay.admin.town import Town, a_town


class Terminal:
    """Somebody at a terminal, with a token in a file."""

    def __init__(self, url: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self.file = file
        self.capsys = capsys

    async def run(self, *argv: str) -> tuple[int, str, str]:
        """Run a command; returns its exit code, and what it wrote on both streams."""
        self.capsys.readouterr()
        code = await asyncio.to_thread(main, [*argv, "--url", self.url, "--token-file", str(self.file)])
        said = self.capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
async def town(console: StartedConsole) -> Town:
    console.clock.now = time.time_ns() // 1_000_000
    await console.owner("Ada")
    return await a_town(console.database)


@pytest.fixture
async def terminal(console: StartedConsole, town: Town, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    owner = await console.operator(Role.OWNER, "Olaf")
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text((await program_of(console, owner, Role.OWNER)).token + "\n")
    return Terminal(console.running.url, file, capsys)


def lines_of(said: str) -> list[str]:
    return [line for line in said.splitlines() if "[debug" not in line]


async def test_says_whose_the_token_is(terminal: Terminal) -> None:
    code, said, _ = await terminal.run("me")
    assert code == 0
    assert "Olaf" in said
    assert "accounts.suspend" in said


async def test_shows_a_view_for_people_and_for_programs(terminal: Terminal, town: Town) -> None:
    aci = str(town.people[0].aci)
    code, said, _ = await terminal.run("accounts", "show", aci)
    assert code == 0
    assert aci in said
    assert "Device ID" in said
    code, said, _ = await terminal.run("accounts", "show", aci, "--json")
    (line,) = [line for line in lines_of(said) if line.startswith("{")]
    assert (code, json.loads(line)["aci"]) == (0, aci)


async def test_tries_then_does_with_a_reason(terminal: Terminal, town: Town) -> None:
    aci = str(town.people[0].aci)
    code, said, _ = await terminal.run("accounts", "suspend", aci, "--dry-run")
    assert code == 0
    assert "It would touch: account" in said
    code, _, told = await terminal.run("accounts", "suspend", aci)
    assert code == 1
    assert "Say why" in told
    code, said, _ = await terminal.run("accounts", "suspend", aci, "--reason", "ticket 4711")
    assert code == 0
    assert "Done. account" in said
    _, said, _ = await terminal.run("audit", "list", "--action", "accounts.suspend")
    assert " api " in said  # a token is one, whatever program has it
    assert "ticket 4711" in said


async def test_what_is_shown_once_is_shown(terminal: Terminal) -> None:
    code, said, _ = await terminal.run("invites", "make", "--role", "member", "--uses", "2")
    assert code == 0
    assert "shown this once" in said


async def test_a_number_can_come_from_standard_input(
    terminal: Terminal, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO(f"{town.people[0].number}\n"))
    code, said, _ = await terminal.run("accounts", "search", "--number", "-")
    assert code == 0
    assert str(town.people[0].number) not in said


async def test_a_second_operator_approves(
    console: StartedConsole, terminal: Terminal, town: Town, tmp_path: Path
) -> None:
    await let_wait(console, "accounts.suspend")
    aci = str(town.people[0].aci)
    code, _, told = await terminal.run("accounts", "suspend", aci, "--reason", "spam")
    assert code == WAITS
    number = told.rstrip(".\n").rpartition("proposal ")[2]
    own, _, told = await terminal.run("approve", number)
    assert (own, "Another operator" in told) == (1, True)
    file = tmp_path / "other"
    file.touch(0o600)
    file.write_text((await program_of(console, await console.operator(Role.SECURITY, "Bo"), Role.SECURITY)).token)
    other = Terminal(terminal.url, file, terminal.capsys)
    code, said, _ = await other.run("approve", number)
    assert code == 0
    assert "Done." in said


async def test_what_is_refused_is_said(console: StartedConsole, terminal: Terminal, town: Town) -> None:
    assert (await terminal.run("accounts", "show", "51b48244-357e-4e29-a27e-0d7973494b43"))[0] == 1
    code, _, told = await terminal.run("accounts", "show", "nonsense")
    assert (code, "--aci" in told) == (2, True)
    terminal.file.write_text("srt_wrong")
    code, _, told = await terminal.run("me")
    assert (code, "Sign in first." in told) == (1, True)
    assert Permission.HEALTH_SEE


@pytest.mark.parametrize(
    ("mode", "content", "told"),
    [
        (0o644, "srt_x", "chmod 600"),
        (0o600, "", "holds no token"),
        (0o600, "a b", "holds no token"),
        (None, "", "cannot be read"),
    ],
)
def test_a_token_is_read_from_a_file_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int | None, content: str, told: str
) -> None:
    file = tmp_path / "token"
    if mode is not None:
        file.touch(mode)
        file.write_text(content)
    assert main(["me", "--token-file", str(file)]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://console.example", "ftp://localhost", "console.example"])
def test_a_token_goes_nowhere_in_the_clear(tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("srt_x")
    assert main(["me", "--token-file", str(file), "--url", url]) == 1
    assert "https://" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*VIEWS, *ACTIONS])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], name: str) -> None:
    domain, _, verb = name.partition(".")
    with pytest.raises(SystemExit) as ended:
        main([domain, verb.replace("_", "-"), "--help"])
    assert ended.value.code == 0
    assert "For tokens with" in " ".join(capsys.readouterr().out.split())


def test_what_a_server_sends_does_not_work_the_terminal() -> None:
    assert plain("a\x1b[2Jb\r\nc\u202e") == "a·[2Jb··c·"
    hostile = "\x1b]0;x\x07"
    assert "\x1b" not in table([{"name": hostile, hostile: "x", "rows": {"count": hostile, "estimated": True}}])
    assert "\x1b" not in show_result(
        {"notice": hostile, hostile: hostile, "rows": [{"name": hostile}], "load": {hostile: hostile}}
    )
