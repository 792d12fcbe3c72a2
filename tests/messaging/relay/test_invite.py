"""``subrosa invite``: what an operator types, what comes back, and that a code so made lets somebody in."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from messaging.cli import main as subrosa
from messaging.relay.accounts.invites import MAX_USES
from messaging.relay.database import normalise_url
from messaging.relay.migrate import migrate
from messaging.relay.settings import Settings
from messaging.wire.accounts import number_without_telephone
from tests.devices import MakePeer, a_number
from tests.output import without_log
from tests.relays import Relays

SESSIONS = "/v1/verification/session"
SMS = {"transport": "sms", "client": "test"}
CODE = re.compile(r"^  ([0-9A-Z]{4}(?:-[0-9A-Z]{4}){3})$", re.MULTILINE)
Operator = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def settings(relays: Relays, backend: str) -> Settings:
    """Of a relay that takes invites."""
    return await relays.settings(backend, verification="invite")


@pytest.fixture
def operator(settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Operator:
    """Types ``subrosa invite`` and more; answers exit code, standard output and standard error."""
    monkeypatch.setenv("SUBROSA_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("SUBROSA_SECRET_FILE", str(settings.secret_file))

    async def types(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()  # what a relay in this process has logged
        code = await asyncio.to_thread(subrosa, ["invite", *words])  # a thread: the command runs a loop of its own
        out, err = capsys.readouterr()
        return code, without_log(out), without_log(err)

    return types


async def test_a_code_that_was_made_lets_somebody_in(
    operator: Operator, settings: Settings, relays: Relays, peer_of: MakePeer
) -> None:
    code, out, err = await operator("create", "--role", "bot", "--uses", "2", "--expires", "12h")
    assert (code, err) == (0, "")
    assert out.startswith("invite 1: bot, 2 uses left, until ")
    found = CODE.search(out)
    assert found is not None

    peer = peer_of(await relays.serve(settings))
    path = f"{SESSIONS}/{(await peer.call('POST', SESSIONS, {'number': number_without_telephone()})).json()['id']}/code"
    await peer.call("POST", path, SMS)
    assert (await peer.call("PUT", path, {"code": found[1]})).json()["verified"] is True

    _, listed, _ = await operator("list")
    assert listed.startswith("invite 1: bot, 1 use left, until ")
    assert listed.endswith(", for new accounts, good\n")
    assert found[1] not in listed


async def test_json_is_for_machines(operator: Operator) -> None:
    number = a_number()
    made = json.loads((await operator("create", "--number", number, "--json"))[1])
    code = made.pop("code")
    assert made["expiresAt"] - made["createdAt"] == 7 * 24 * 60 * 60 * 1000
    assert {name: made[name] for name in ("id", "role", "usesLeft", "forOneNumber", "state")} == {
        "id": 1,
        "role": "member",
        "usesLeft": 1,
        "forOneNumber": True,
        "state": "good",
    }
    _, listed, _ = await operator("list", "--json")
    assert json.loads(listed) == {"invites": [made]}
    assert code not in listed
    assert number not in listed


async def test_a_revoked_invite_stays_in_the_list(operator: Operator) -> None:
    await operator("create")
    assert await operator("revoke", "1") == (0, "Revoked. Who has registered with it stays.\n", "")
    assert (await operator("list"))[1].endswith(", revoked\n")
    assert json.loads((await operator("revoke", "1", "--json"))[1]) == {"revoked": 1}


@pytest.mark.parametrize("number", ["2", "0", "-1", str(2**63 - 1), str(2**63)])
async def test_what_is_not_there_cannot_be_revoked(operator: Operator, number: str) -> None:
    await operator("create")
    assert await operator("revoke", "--", number) == (1, "", "invite: there is no invite with this id\n")


async def test_an_empty_list_says_so(operator: Operator) -> None:
    assert await operator("list") == (0, "There are no invites.\n", "")
    assert json.loads((await operator("list", "--json"))[1]) == {"invites": []}


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["--uses", "0"], f"an invite has 1 to {MAX_USES} uses"),
        (["--uses", str(MAX_USES + 1)], f"an invite has 1 to {MAX_USES} uses"),
        (["--expires", "366d"], "an invite lives from 1 minute to 365 days"),
        (["--expires", "0m"], "an invite lives from 1 minute to 365 days"),
        (["--expires", "CANARY"], "a lifetime is a number with m, h or d, such as 7d"),
        (["--number", "CANARY"], "a number is a plus sign, a country code and digits (E.164)"),
        (
            ["--role", "bot", "--number", "+999000000000001"],
            "an invite for a bot makes a new account, and so is bound to no number",
        ),
    ],
)
async def test_terms_beyond_a_limit_make_nothing(operator: Operator, words: list[str], rule: str) -> None:
    assert await operator("create", *words) == (1, "", f"invite: {rule}\n")
    assert (await operator("list"))[1] == "There are no invites.\n"


@pytest.mark.parametrize("words", [["--uses", str(MAX_USES)], ["--expires", "365d"], ["--expires", "1m"]])
async def test_terms_reach_to_their_limits(operator: Operator, words: list[str]) -> None:
    assert (await operator("create", *words))[0] == 0


async def test_where_there_is_no_database_none_is_made(operator: Operator, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "relay.db"
    code, out, err = await operator("create", "--database-url", f"sqlite:///{nowhere}")
    assert (code, out) == (1, "")
    assert err.startswith("invite: there is no such database")
    assert not nowhere.parent.exists()


async def test_an_older_database_and_a_missing_secret_are_one_sentence(operator: Operator, tmp_path: Path) -> None:
    older = f"sqlite:///{tmp_path / 'older.db'}"
    await migrate(normalise_url(older), revision="0001")
    code, out, err = await operator("list", "--database-url", older)
    assert (code, out, err.count("\n")) == (1, "", 1)
    code, out, err = await operator("create", "--secret-file", str(tmp_path / "none"))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("invite: cannot read the secret file")
    assert not (tmp_path / "none").exists()


async def test_a_database_that_cannot_be_reached_is_one_sentence(operator: Operator) -> None:
    code, out, err = await operator("list", "--database-url", "postgresql://nobody:CANARY@127.0.0.1:1/nothing")
    assert (code, out) == (1, "")
    assert err.startswith("invite: the database cannot be reached")
    assert "CANARY" not in err


@pytest.mark.parametrize("words", [[], ["create"], ["list"], ["revoke"]])
def test_help_teaches(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        subrosa(["invite", *words, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    if not words:
        for taught in ("create --number", "create --uses 20 --expires 48h", "revoke 3", "SUBROSA_SECRET_FILE"):
            assert taught in shown
    else:
        assert "--database-url" in shown


@pytest.mark.parametrize(
    "words", [[], ["make"], ["revoke"], ["create", "--role", "king"], ["create", "--uses", "many"]]
)
def test_what_is_no_command_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        subrosa(["invite", *words])
    assert caught.value.code == 2
    assert "usage: subrosa invite" in capsys.readouterr().err


def test_the_command_is_in_the_list_of_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert subrosa(["--help"]) == 0
    assert "  invite    " in capsys.readouterr().out
