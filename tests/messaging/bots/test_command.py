"""``subrosa bot`` as its user has it: processes of their own, a real relay, real encryption."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from messaging.bots.command import main, parser, printable
from messaging.bots.tokens import bot_of
from messaging.client.bot.session import Session, open_account
from messaging.client.bot.settings import Settings
from messaging.client.events import MessageReceived
from messaging.wire.identifiers import ServiceId
from tests.relays import Relays, StartedRelay


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        """What it printed."""
        assert self.code == 0, self.err
        return json.loads(self.out)


async def run(module: str, *arguments: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def bot(*arguments: str) -> Ended:
    return await run("messaging.bots.command", *arguments)


async def invite(relay: StartedRelay) -> str:
    """A code for a bot."""
    places = ["--database-url", relay.settings.database_url, "--secret-file", str(relay.settings.secret_file)]
    made = await run("messaging.relay.invite", "create", "--role", "bot", "--json", *places)
    return str(made.json["code"])


@asynccontextmanager
async def gateway(home: Path) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A gateway in a process of its own; gives its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "messaging.bots.command", "gateway", "--home", str(home), "--port", "0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            yield (await process.stdout.readline()).decode().strip(), process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 30)
        await process.communicate()


@pytest.fixture
async def relay(relays: Relays) -> StartedRelay:
    """A relay where nobody registers without an invite."""
    return await relays.serve(await relays.settings("sqlite", verification="invite"))


@asynccontextmanager
async def somebody(relay: StartedRelay, home: Path) -> AsyncIterator[Session]:
    """A member who is no bot's program."""
    settings = Settings(name="ann", relay=relay.url, home=home, invite=await invite(relay))
    async with open_account(settings) as session:
        yield session


async def answer(session: Session) -> str:
    """What is said to them next."""
    while True:
        for leased in await session.inbox.take(1, lease=60, wait=30):
            await session.inbox.handled(leased)
            if isinstance(leased.event, MessageReceived):
                return leased.event.text


async def test_a_bot_is_made_runs_is_looked_after_and_stops(relay: StartedRelay, tmp_path: Path) -> None:
    home = tmp_path / "g"
    code = await invite(relay)
    made = (await bot("create", "Tea Time", "--relay", relay.url, "--invite", code, "--home", str(home), "--json")).json
    assert made["username"] == "tea_time_bot"
    assert bot_of(made["token"]) == made["bot"]

    async with (
        gateway(home) as (url, process),
        somebody(relay, tmp_path / "ann") as ann,
        aiohttp.ClientSession(f"{url}/bot{made['token']}/") as http,
    ):
        chat = (await ann.create("", [ServiceId.parse(made["account"])])).key
        await ann.write(chat, "is it time?")
        offset, texts = 0, list[dict[str, Any]]()
        while not texts:
            async with http.get("getUpdates", params={"timeout": "20", "offset": str(offset)}) as response:
                for update in (await response.json()).get("result", []):
                    offset = update["update_id"] + 1
                    texts += [update["message"]] if "message" in update else []
        assert texts[0]["text"] == "is it time?"
        async with http.post("sendMessage", json={"chat_id": texts[0]["chat"]["id"], "text": "it is"}) as response:
            assert response.status == 200
        assert await answer(ann) == "it is"

        (listed,) = (await bot("list", "--home", str(home), "--json")).json["bots"]
        assert (listed["connected"], len(listed["tokens"])) == (True, 1)
        new = (
            await bot("token", "rotate", "--bot", "tea_time_bot", "--overlap", "0s", "--home", str(home), "--json")
        ).json
        async with http.get("getMe") as response:
            assert response.status == 401
        async with http.get(f"{url}/bot{new['token']}/getMe") as response:
            assert (await response.json())["result"]["first_name"] == "Tea Time"
        parked = await bot("parked", "--bot", str(made["bot"]), "--home", str(home))
        assert parked.out == "Nothing is set aside.\n"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0

    stopped = await bot("list", "--home", str(home))
    assert "not running" in stopped.out
    assert new["token"] not in stopped.out
    assert "ann" not in stopped.out


async def test_an_invite_that_is_none_makes_nothing(relay: StartedRelay, tmp_path: Path) -> None:
    refused = await bot("create", "X", "--relay", relay.url, "--invite", "AAAA-BBBB", "--home", str(tmp_path / "g"))
    assert refused.code == 1
    assert refused.err.startswith("subrosa bot: the relay refused the registration")
    assert (await bot("list", "--home", str(tmp_path / "g"), "--json")).json == {"bots": []}
    assert list((tmp_path / "g").glob("bots/*")) == []


# --- the command line ---


def test_what_a_program_chose_tells_a_terminal_nothing() -> None:
    assert (
        printable("Ech\x1b[2Jo\r\u202e\nTee 🍵")
        == "Ech\N{REPLACEMENT CHARACTER}[2Jo\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\nTee 🍵"
    )


def test_without_an_invite_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUBROSA_INVITE", raising=False)
    assert main(["create", "X", "--relay", "https://relay.example", "--home", str(tmp_path)]) == 1
    assert "--invite" in capsys.readouterr().err


def test_the_gateway_does_not_listen_for_others_by_accident(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway", "--host", "0.0.0.0", "--home", str(tmp_path)]) == 1  # noqa: S104
    assert "--unsafe-listen-beyond-loopback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["noSuch"],
        ["gateway", "--port", "65536"],
        ["gateway", "--port", "-1"],
        ["gateway", "--allow-webhook-network", "10.0.0.1/8"],
        ["gateway", "--max-file", "0"],
        ["token", "rotate"],
        ["token", "add", "--bot", "x", "--scope", "write"],
        ["token", "add", "--bot", "x", "--expires", "soon"],
        ["replay", "--bot", "x"],
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(wrong)
    assert ended.value.code == 2
    assert "usage: subrosa bot" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [[], ["gateway"], ["create"], ["list"], ["token"], ["token", "rotate"], ["parked"], ["replay"], ["drop"], ["talk"]])  # fmt: skip
def test_every_verb_explains_itself(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([*verb, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert len(told) > 200
    assert not re.search(r"%\(|\{|None", told.replace("{all", "").replace("{", ""))


def test_the_home_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SUBROSA_GATEWAY_HOME", str(tmp_path))
    assert parser().parse_args(["list"]).home == tmp_path
    assert os.environ["SUBROSA_GATEWAY_HOME"] == str(tmp_path)
