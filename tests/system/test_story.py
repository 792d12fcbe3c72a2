"""The first story, as a newcomer sees it: real processes, real keys, the real model. And what happens when parts are killed."""

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from messaging.demo.chat_file import read_chat
from messaging.demo.findings import search_server
from messaging.demo.services import Folders
from messaging.demo.story import Outcome, StoryFailed, play, write_script
from messaging.verify.__main__ import main as verify

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "messaging" / "demo" / "chats"


class Watcher:
    """A narrator that acts when a step begins."""

    def __init__(self, on_message: int = -1, act: Callable[[], None] | None = None) -> None:
        self._on_message = on_message
        self._act = act

    def __enter__(self) -> "Watcher":  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def step(self, what: str) -> None:
        self._talking = what.startswith("Playing")

    def progress(self, done: int, total: int) -> None:
        if self._talking and done == self._on_message and self._act is not None:
            self._act()


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "run")
    made.create()
    return made


def pids_of(module: str) -> list[int]:
    """Processes that this test process started for a module, the oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            parent, started = int(fields[1]), int(fields[19])
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, IndexError):
            continue
        if parent == os.getpid() and any(module.encode() in part for part in command):
            found.append((started, int(entry.name)))
    return [pid for _, pid in sorted(found)]


def kill(module: str) -> None:
    os.kill(pids_of(module)[-1], signal.SIGKILL)  # other tests may have older ones


async def told(folders: Folders, watcher: Watcher, name: str = "weekend.jsonl") -> Outcome:
    script = write_script(read_chat(SAMPLES / name))
    async with asyncio.timeout(120), play(script, folders, watcher) as outcome:
        return outcome


def assert_nothing_was_lost(outcome: Outcome) -> None:
    assert outcome.messages_delivered == outcome.messages_sent == 29 * 4
    assert outcome.findings.places == ()
    assert outcome.findings.control_found
    assert outcome.went_well


async def run_command(*arguments: str) -> tuple[int, str, str]:
    """``python -m messaging.demo`` as a person or a machine calls it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "messaging.demo", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def test_the_sample_story_says_the_facts_that_machines_want(tmp_path: Path) -> None:
    bundle, receipt, policy = tmp_path / "bundle.json", tmp_path / "receipt.json", tmp_path / "policy.toml"
    code, output, errors = await run_command("--once", "--json", "--bundle", str(bundle), "--receipt", str(receipt))
    assert code == 0, errors
    facts = json.loads(output)
    assert facts["summary"]
    assert all(line["cites"] and line["text"] for line in facts["summary"])
    assert len(facts["replies"]) == 3
    assert facts["left_out"] == facts["coverage"]["not_opted_in"] == 4
    assert facts["not_opted_in"] == ["Sam"]
    assert "Sam" not in {cite["from"] for line in facts["summary"] for cite in line["cites"]}
    assert facts["evidence"]["simulated"] is True
    assert "simulated" in facts["evidence"]["strict_policy_says"]
    policy.write_text(
        f"""policy = 1
name = "the story's"
unsafe = ["UnsafeAcceptSimulated"]
[[releases]]
name = "{facts["evidence"]["release"]}"
type = "simulated"
measurement = "{facts["evidence"]["measurement"]}"
"""
    )
    assert verify([str(bundle)]) == 1
    assert verify([str(bundle), "--policy", str(policy), "--unsafe-unsigned-policy"]) == 0
    assert verify([str(receipt), "--policy", str(policy), "--unsafe-unsigned-policy"]) == 0
    assert verify([str(receipt)]) == 1
    assert facts["receipt"]["accepted"] is True
    assert sorted(facts["receipt"]["consents"]) == facts["opted_in"]
    assert "not opted in" in facts["refusals"]["not_opted_in"]
    assert "writes no texts" in facts["refusals"]["needs_generating_engine"]
    assert facts["upgrade"]["used_at_first"] == 0
    assert facts["upgrade"]["used_after_one_message"] == 1
    assert facts["plaintext_found"] == 0
    assert facts["server"]["search_works"]
    assert facts["messages_delivered"] == facts["messages_sent"] == 116


@pytest.mark.parametrize("count", [60, pytest.param(300, marks=pytest.mark.long)])
async def test_an_export_is_played_whole(count: int, tmp_path: Path) -> None:
    first = datetime(2026, 3, 1, 8, tzinfo=UTC)
    people = ["Ann", "Bob", "Cem", "Dia", "Eli"]
    lines = [
        f"[{first + timedelta(hours=n):%d/%m/%y, %H:%M:%S}] {people[n * 7 % 5]}: Part {n} of the delivery comes on Friday at {n % 12}:15."
        for n in range(count)
    ]
    export = tmp_path / "export.txt"
    export.write_text("\n".join(lines))
    code, output, errors = await run_command("--once", "--json", "--chat", str(export), "--without", "Bob")
    assert code == 0, errors
    facts = json.loads(output)
    assert facts["messages_delivered"] == facts["messages_sent"] == count * 4
    assert facts["left_out"] == count // 5
    assert len(facts["replies"]) == 3
    assert facts["plaintext_found"] == 0


async def test_a_relay_killed_in_the_middle_loses_nothing(folders: Folders) -> None:
    assert_nothing_was_lost(await told(folders, Watcher(10, lambda: kill("messaging.relay"))))


async def test_a_worker_killed_in_the_middle_loses_nothing(folders: Folders) -> None:
    assert_nothing_was_lost(await told(folders, Watcher(10, lambda: kill("worker/main.js"))))


async def test_an_enclave_killed_in_the_middle_loses_nothing_between_people(folders: Folders) -> None:
    outcome = await told(folders, Watcher(10, lambda: kill("ai_enclave")))
    assert_nothing_was_lost(outcome)
    coverage = outcome.summary.coverage
    assert coverage.used + coverage.left_out == 29
    assert pids_of("messaging.relay") == pids_of("ai_enclave") == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--chat", "/nowhere.txt"), 2, "cannot be read"),
        (("--without", "Nobody"), 2, "Not in the cast"),
        (("--requester", "Sam"), 2, "Only somebody who has opted in"),
        (("--unknown",), 2, "unrecognized"),
    ],
)
async def test_wrong_options_get_one_sentence(arguments: tuple[str, ...], code: int, words: str) -> None:
    found, output, errors = await run_command(*arguments)
    assert (found, output) == (code, "")
    assert words in errors
    assert "Traceback" not in errors


async def test_a_broken_file_gets_its_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"from": "Ann", "at": 1, "text": "hi"}\n{"from": "Bob"}\n')
    code, _, errors = await run_command("--chat", str(broken))
    assert code == 2
    assert "line 2" in " ".join(errors.split())


def test_a_script_needs_two_people_and_somebody_to_share() -> None:
    chat = read_chat(SAMPLES / "weekend.jsonl")
    with pytest.raises(StoryFailed, match="Nobody is left"):
        write_script(chat, without=chat.authors)
    script = write_script(chat)
    assert script == write_script(chat)
    assert script.requester in script.opted_in


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "relay.log").write_bytes(b"\x00\x01control" + "grüße an alle".encode("utf-16-le"))
    findings = search_server(tmp_path, ["grüße an alle", "nowhere to be found", "ok"], "control")
    assert findings.places == ("relay.log",)
    assert findings.control_found
    assert (findings.searched, findings.too_short) == (2, 1)
    assert not search_server(tmp_path, [], "not there").control_found


@pytest.mark.parametrize("before", [b"", b"1", b"22", b"333"])
def test_the_search_finds_base64_at_every_alignment(tmp_path: Path, before: bytes) -> None:
    text = "meet me under the rose"
    (tmp_path / "file").write_bytes(base64.b64encode(before + text.encode() + b"after"))
    assert search_server(tmp_path, [text], "x").places == ("file",)
