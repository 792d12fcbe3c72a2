"""Every answer leaves a file that anybody can check offline, without its content, and nobody can change."""

import base64
import json
import random
from pathlib import Path

import pytest

from messaging.client.receipts import ReceiptFile
from messaging.verify.__main__ import ACCEPTED, REFUSED, UNREADABLE
from messaging.verify.__main__ import main as verify
from tests.system.assistant.desk import talk
from tests.system.assistant.world import World, policy_text

CHANGED = 24  # bytes that are changed, one at a time


@pytest.fixture
def policy_file(world: World, tmp_path: Path) -> Path:
    """The policy that the clients judge by, as a file that nobody signed."""
    path = tmp_path / "policy.toml"
    path.write_text(policy_text(world.policy))
    return path


async def test_each_kind_of_answer_leaves_a_receipt_that_verifies_offline(
    world: World, policy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = await talk(world, world.serving())
    ann, key = world["Ann"].phone, world.key
    answers = {
        "summarize": await ann.chats.summarize(key, asked, world.names),
        "questions_for_me": await ann.chats.questions_for_me(key, asked, world.names),
        "actions": await ann.chats.actions(key, asked, world.names),
        "suggest_replies": await ann.chats.suggest_replies(key, asked, world.names),
        "forget": await ann.chats.forget(key),
    }
    for kind, answered in answers.items():
        file = await ann.chats.receipt_file(key, answered)
        path = tmp_path / f"{kind}.json"
        path.write_bytes(file.encode())
        options = ["--policy", str(policy_file), "--unsafe-unsigned-policy"]
        assert verify([str(path), *options]) == ACCEPTED
        assert verify([str(path)]) == REFUSED  # without a policy no code is accepted
        capsys.readouterr()
        assert verify([str(path), *options, "--json"]) == ACCEPTED
        said = json.loads(capsys.readouterr().out)
        assert (said["verdict"], said["receipt"]["kind"]) == ("accepted", kind)
        assert {consent["author"] for consent in said["receipt"]["consents"]} == (
            set() if kind == "forget" else {str(world[name].service_id) for name in ("Ann", "Bob")}
        )


async def test_another_member_sees_without_its_content_that_they_are_named_and_under_which_consent(
    world: World, policy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = await talk(world, world.serving())
    ann, bob, cem = world.everybody
    answered = await ann.phone.chats.summarize(world.key, asked, world.names)
    whole = await ann.phone.chats.receipt_file(world.key, answered)
    shown, path = whole.without_content().encode(), tmp_path / "shown.json"
    path.write_bytes(shown)
    assert json.loads(whole.encode()).keys() - json.loads(shown).keys() == {"request", "answer"}
    assert any(text in answered.result_bytes.decode(errors="ignore") for text, _ in world.written.values())

    options = [str(path), "--policy", str(policy_file), "--unsafe-unsigned-policy", "--json", "--me"]
    said = {}
    for person in (bob, cem):
        capsys.readouterr()
        assert verify([*options, str(person.service_id)]) == ACCEPTED
        said[person] = json.loads(capsys.readouterr().out)["me"]
    assert said[cem] == {"service_id": str(cem.service_id), "named": False, "consents": []}
    own = bob.laptop.conversation.statement_of(bob.service_id)  # as another device of theirs remembers it
    assert own is not None
    assert said[bob]["named"] is True
    assert [consent["statement"] for consent in said[bob]["consents"]] == [own.signed.digest().hex()]
    assert said[bob]["consents"][0]["scopes"] == ["replies", "summaries"]


async def test_a_receipt_in_which_one_byte_was_changed_is_refused(
    world: World, policy_file: Path, tmp_path: Path
) -> None:
    asked = await talk(world, world.serving())
    ann = world["Ann"].phone
    whole = (await ann.chats.receipt_file(world.key, await ann.chats.actions(world.key, asked, world.names))).encode()
    path = tmp_path / "changed.json"
    draw = random.Random(7)  # noqa: S311  # which bytes, no secret
    time = range(
        whole.index(b'"time":"'), whole.index(b'Z"')
    )  # at which the evidence was judged; nobody vouches for it
    for at in draw.sample([at for at in range(len(whole)) if at not in time], CHANGED):
        changed = bytearray(whole)
        changed[at] ^= 1 << draw.randrange(7)
        path.write_bytes(changed)
        assert verify([str(path), "--policy", str(policy_file), "--unsafe-unsigned-policy"]) in (REFUSED, UNREADABLE)
    for part in ("request", "answer", "signed"):  # and where every bit is content or signature
        members = json.loads(whole)
        data = bytearray(base64.b64decode(members[part]))
        data[len(data) // 2] ^= 1
        members[part] = base64.b64encode(data).decode()
        path.write_bytes(json.dumps(members, separators=(",", ":"), sort_keys=True).encode() + b"\n")
        assert verify([str(path), "--policy", str(policy_file), "--unsafe-unsigned-policy"]) in (REFUSED, UNREADABLE)
    assert ReceiptFile.parse(whole).encode() == whole
