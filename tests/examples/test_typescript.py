"""The TypeScript example, run as its README says, over TLS, on both databases."""

import asyncio
import base64
import json
import os
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from messaging.wire.content import DataMessage, decode_content, encode_content
from messaging.wire.limits import CONTENT_BLOCK
from signal_protocol.node import WORKER_FOLDER, find_node
from tests.relays import Relays, StartedRelay

EXAMPLE = Path(__file__).parents[2] / "examples" / "typescript"
CRASH = Path(__file__).with_name("typescript_crash.ts")
SIGNED_OUT = "  (Bob: the relay ended the connection: ConnectionInvalidated)"
TRANSLATE = """
import { readContent, writeContent } from './src/content.ts';
const content = readContent(Buffer.from(process.argv[2]!, 'base64'));
console.log(JSON.stringify(content));
console.log(Buffer.from(writeContent({ ...content, profileKey: new Uint8Array(32) })).toString('base64'));
"""
ALICE, BOB = "+4915550000301", "+4915550000302"


@dataclass(frozen=True)
class Finished:
    """How a run of the example ended."""

    code: int
    output: str
    errors: str


@dataclass(frozen=True)
class Example:
    """A copy of the example beside the worker's packages, which are the same: nothing is installed twice."""

    folder: Path

    async def run(self, *arguments: str | Path, script: Path | None = None) -> Finished:
        process = await asyncio.create_subprocess_exec(
            find_node(),
            "--disable-warning=ExperimentalWarning",  # Node says this of types until version 24
            script or self.folder / "src" / "story.ts",
            *arguments,
            env={"PATH": os.defpath, "TMPDIR": str(self.folder)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode is not None
        return Finished(process.returncode, output.decode(), errors.decode())

    async def tell(self, relay: StartedRelay, *arguments: str | Path) -> Finished:
        assert relay.tls is not None
        url = f"https://localhost:{relay.port}"
        return await self.run("--relay", url, "--ca", relay.tls.certificate, "--codes", relay.codes, *arguments)


@pytest.fixture
def example(tmp_path: Path) -> Example:
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE / "src", folder / "src")
    shutil.copy(EXAMPLE / "package.json", folder)
    (folder / "node_modules").symlink_to(WORKER_FOLDER / "node_modules")
    return Example(folder)


async def test_it_prints_the_story_that_its_readme_shows(example: Example, tls_relay: StartedRelay) -> None:
    told = await example.tell(tls_relay)
    assert (told.code, told.errors) == (0, "")

    # The old phone hears of it when it hears of it; the order of all other lines is certain.
    lines, shown = told.output.splitlines(), _transcript_in_the_readme()
    lines.remove(SIGNED_OUT)
    shown.remove(SIGNED_OUT)
    assert lines == shown


async def test_it_leaves_nothing_behind_unless_told_to(example: Example, relays: Relays) -> None:
    await example.tell(await relays.start("sqlite", tls=True))
    assert [path.name for path in example.folder.glob("subrosa-example-*")] == []


async def test_a_second_run_with_the_same_state_registers_everybody_anew(example: Example, relays: Relays) -> None:
    relay, state = await relays.start("sqlite", tls=True), example.folder / "state"
    for again in ("", " again, on a new device"):
        told = await example.tell(relay, "--state", state, "--alice", ALICE, "--bob", BOB)
        assert told.code == 0, told.errors
        assert f"  Alice is registered{again}\n" in told.output

    kept = sorted(state.iterdir())
    assert [path.name for path in kept] == ["alice.json", "bob-new-phone.json", "bob.json"]
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}

    # Each message is kept once. Two sessions were begun with Bob's first device: two prekeys of each kind are used up.
    bob = json.loads((state / "bob.json").read_text())
    assert [message["body"] for message in bob["messages"]] == [
        "Hello Bob, under the rose.",
        "Are you there?",
        "I will wait.",
        "This one finds its way.",
    ]
    assert all(message["sealed"] for message in bob["messages"])
    assert (len(bob["prekeys"]), len(bob["kyberPrekeys"])) == (98, 98 + 1)  # and the one of last resort


async def test_a_crash_before_the_acknowledgement_neither_loses_a_message_nor_shows_it_twice(
    example: Example, tls_relay: StartedRelay
) -> None:
    assert tls_relay.tls is not None
    place = (example.folder, f"https://localhost:{tls_relay.port}", tls_relay.tls.certificate)
    state = example.folder / "state"
    state.mkdir()

    async def run(mode: str) -> Finished:
        return await example.run(mode, *place, tls_relay.codes, state, script=CRASH)

    prepared = await run("prepare")
    assert prepared.code == 0, prepared.errors
    crashed = await run("crash")
    assert (crashed.code, crashed.output) == (-signal.SIGKILL, "")
    assert [message["body"] for message in _json(state / "bob.json")["messages"]] == ["one"]

    again = await run("receive")
    assert json.loads(again.output) == {"shown": ["two"], "notices": [], "kept": ["one", "two"]}
    at_last = await run("receive")
    assert json.loads(at_last.output) == {"shown": [], "notices": [], "kept": ["one", "two"]}


async def test_its_content_is_what_our_own_sdk_reads_and_writes(example: Example) -> None:
    message = DataMessage("Über Rosen \U0001f339 " * 20, timestamp=1_790_000_000_123)
    script = example.folder / "translate.ts"
    script.write_text(TRANSLATE)
    told = await example.run(base64.b64encode(encode_content(message)).decode(), script=script)
    read, written = told.output.splitlines()
    assert json.loads(read) == {"body": message.body, "timestamp": message.timestamp}
    assert decode_content(base64.b64decode(written)) == message
    assert len(base64.b64decode(written)) % CONTENT_BLOCK == CONTENT_BLOCK - 1


async def test_help_teaches(example: Example) -> None:
    told = await example.run("--help")
    assert told.code == 0
    assert "npm run story -- --relay https://localhost:8443 --ca" in told.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--relay and --ca are needed"),
        (["--relay", "https://relay.example", "--ca", "README"], "libsignal connects to https://localhost:PORT only"),
        (["--relay", "http://localhost:8443", "--ca", "README"], "libsignal connects to https://localhost:PORT only"),
        (["--what"], "Unknown option"),
    ],
)
async def test_what_cannot_work_is_said_at_once(example: Example, arguments: list[str], said: str) -> None:
    readable = [str(EXAMPLE / "README.md") if argument == "README" else argument for argument in arguments]
    told = await example.run(*readable)
    assert told.code == 1
    assert said in told.errors


async def test_a_failure_in_the_middle_ends_with_one_sentence(example: Example, relays: Relays) -> None:
    relay = await relays.start("sqlite", tls=True)
    told = await example.tell(relay, "--codes", example.folder / "empty")
    assert (told.code, told.output) == (1, "1. Alice and Bob register\n")
    assert re.fullmatch(r"story: ENOENT: .*\n", told.errors)


def test_it_uses_the_libsignal_that_the_project_ships() -> None:
    example, worker = (
        _json(folder / "package-lock.json")["packages"]["node_modules/@signalapp/libsignal-client"]
        for folder in (EXAMPLE, WORKER_FOLDER)
    )
    assert example == worker


def test_its_lock_file_names_no_registry() -> None:
    packages = _json(EXAMPLE / "package-lock.json")["packages"]
    assert all("resolved" not in package for package in packages.values())
    assert all("integrity" in package for name, package in packages.items() if name)


def _transcript_in_the_readme() -> list[str]:
    [transcript] = re.findall(r"```\n(1\. Alice.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    return str(transcript).splitlines()


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))
