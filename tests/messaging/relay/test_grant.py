"""``subrosa grant`` and ``subrosa migrate``: what an operator types, and what comes back."""

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import pytest

from messaging.cli import main as subrosa
from messaging.relay.limits import Limit
from tests.devices import MakePeer
from tests.output import without_log
from tests.relays import Relays


async def types(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = await asyncio.to_thread(subrosa, list(words))
    out, err = capsys.readouterr()
    return code, without_log(out), without_log(err)


async def test_a_grant_is_set_listed_and_removed(
    relays: Relays, peer_of: MakePeer, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = await relays.start(backend)
    alice = await peer_of(relay).register()
    where = ("--database-url", relay.settings.database_url)
    account = str(alice.aci)
    assert await types(capsys, "grant", "list", *where) == (0, "There are no grants.\n", "")
    code, out, _ = await types(capsys, "grant", "set", account, "messages", "--size", "9", "--refill", "0.5", *where)
    assert (code, out) == (0, "Granted.\n")
    _, listed, _ = await types(capsys, "grant", "list", "--json", *where)
    assert json.loads(listed) == {"grants": [{"account": account, "limit": "messages", "size": 9, "refill": 0.5}]}
    assert (await types(capsys, "grant", "remove", account, "messages", *where))[0] == 0
    assert (await types(capsys, "grant", "list", *where))[1] == "There are no grants.\n"
    stranger = await types(capsys, "grant", "remove", str(uuid4()), "messages", *where)
    assert stranger == (1, "", "grant: there is no such account\n")


@pytest.mark.parametrize(
    "words",
    [
        ("set", str(uuid4()), "unknown", "--size", "1", "--refill", "1"),
        ("set", str(uuid4()), "messages", "--size", "x", "--refill", "1"),
        ("set", "nobody", "messages", "--size", "1", "--refill", "1"),
        ("set", str(uuid4()), "messages"),
        (),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        subrosa(["grant", *words])
    assert caught.value.code == 2


@pytest.mark.parametrize(("size", "refill"), [("0", "1"), ("inf", "1"), ("nan", "1"), ("1e200", "1e200"), ("1", "0")])
async def test_a_bucket_beyond_its_bounds_is_refused(
    relays: Relays, capsys: pytest.CaptureFixture[str], size: str, refill: str
) -> None:
    settings = await relays.settings("sqlite")
    where = ("--database-url", settings.database_url)
    await types(capsys, "migrate", *where)
    granted = ("set", str(uuid4()), "messages", "--size", size, "--refill", refill)
    code, _, err = await types(capsys, "grant", *granted, *where)
    assert (code, err.startswith("grant: --size goes from 1 to ")) == (1, True)


async def test_help_names_every_limit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        subrosa(["grant", "--help"])
    shown = capsys.readouterr().out
    assert all(limit in shown for limit in Limit)
    assert shown.count("  messages  ") == 2  # of everybody, and of bots


async def test_a_database_is_made_and_brought_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'relay.db'}"
    missing = await types(capsys, "grant", "list", "--database-url", url)
    assert missing[0] == 1
    assert "there is no such database" in missing[2]
    for _ in range(2):
        assert await types(capsys, "migrate", "--database-url", url) == (0, "The database is up to date.\n", "")
    assert (await types(capsys, "grant", "list", "--database-url", url))[0] == 0
    assert (await types(capsys, "migrate", "--database-url", "mysql://x"))[0] == 1
