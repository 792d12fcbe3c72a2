"""``subrosa console`` as operators of a machine run it."""

import asyncio
import io
import json
import signal
import sys
from pathlib import Path

import pytest

from messaging import cli
from messaging.console.__main__ import main
from messaging.console.logs import LOGGABLE, configure_logs
from messaging.relay.logs import LOGGABLE as OF_THE_RELAY
from messaging.relay.settings import Settings
from messaging.serving.logs import get_logger
from tests.relays import Relays

READY_SECONDS = 60


@pytest.fixture
async def relay(relays: Relays, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A database, which the environment names as it does for a relay."""
    settings = await relays.settings("sqlite")
    monkeypatch.setenv("SUBROSA_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("SUBROSA_SECRET_FILE", str(settings.secret_file))
    return settings


async def run(*arguments: str) -> int:
    """The command runs a loop of its own."""
    return await asyncio.to_thread(cli.main, ["console", *arguments])


async def test_it_serves_says_where_and_ends_when_it_is_told_to(relay: Settings) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "messaging.cli",
        "console",
        "serve",
        "--port",
        "0",
        "--json-ready",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(READY_SECONDS):
        said = json.loads(await process.stdout.readline())
        assert said["url"] == f"http://localhost:{said['port']}"
        assert said["firstLink"].startswith(f"{said['url']}/enrol#")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_a_link_is_made_from_a_terminal(relay: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run("enroll", "--json", "--public-url", "https://console.example") == 0
    link = json.loads(capsys.readouterr().out)["link"]
    assert link.startswith("https://console.example/enrol#")
    assert await run("operators") == 0
    assert capsys.readouterr().out == "There are no operators.\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["enroll", "--operator", "Nobody"], "There is no operator with this name."),
        (["enroll", "--role", "viewer"], "The first operator has to be an owner."),
        (["enroll", "--public-url", "http://console.example"], "--public-url must be https://HOST"),
    ],
)
async def test_what_cannot_be_is_said_in_one_line(
    relay: Settings, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert await run(*arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("console: ")
    assert why in said
    assert said.count("\n") == 1


def test_beyond_this_machine_it_serves_through_tls_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "0", "--host", "0.0.0.0"]) == 1  # noqa: S104 - that is what is refused
    assert "needs --tls-cert" in capsys.readouterr().err


def test_without_a_database_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["operators", "--database-url", f"sqlite:///{tmp_path / 'none.db'}"]) == 1
    assert "there is no such database" in capsys.readouterr().err


def test_the_log_has_nothing_that_the_relays_has_not() -> None:
    assert LOGGABLE <= OF_THE_RELAY
    stream = io.StringIO()
    configure_logs(stream)
    get_logger().warning("request_failed", route="/x", path="/canary", operator="canary", token="canary")
    assert json.loads(stream.getvalue())["route"] == "/x"
    assert "canary" not in stream.getvalue()
