"""Remote configuration, one's own quotas, and what an operator grants."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
import pytest

from messaging.relay import grants as module
from messaging.relay.database import normalise_url, open_database
from messaging.relay.errors import NotFound, StartupError
from messaging.relay.grants import list_grants, set_grant
from messaging.relay.limits import OF_ACCOUNT, Bucket, Limit
from messaging.relay.remote_config import ConfigValue, read_remote_config
from tests.bots import register_bot
from tests.devices import Device, MakePeer
from tests.relays import UNLIMITED, Relays


async def test_a_client_gets_what_is_for_its_account_and_304_if_it_knows(relays: Relays, peer_of: MakePeer) -> None:
    config = {"everybody": ConfigValue("1"), "nobody": ConfigValue("1", percentage=0)}
    relay = await relays.start("sqlite", remote_config=config)
    alice = await peer_of(relay).register()
    config["chosen"] = ConfigValue("yes", 0, frozenset({alice.aci.uuid}))
    reply = await alice.call("GET", "/v2/config")
    assert reply.json() == {"config": {"chosen": "yes", "everybody": "1"}}
    tag = reply.headers["etag"]
    for known in (tag, f'"x", W/{tag}'):
        same = await alice.call("GET", "/v2/config", None, **{"If-None-Match": known})
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
    config["chosen"] = ConfigValue("no")
    assert (await alice.call("GET", "/v2/config", None, **{"If-None-Match": tag})).status == 200
    assert (await alice.peer.call("GET", "/v2/config")).status == 401


def test_a_percentage_is_a_part_of_the_accounts_and_always_the_same_one() -> None:
    people = [uuid4() for _ in range(4000)]
    ten, fifty = ConfigValue("x", 10), ConfigValue("x", 50)
    chosen = {person for person in people if ten.is_for("a", person)}
    assert chosen == {person for person in people if ten.is_for("a", person)}
    assert 0.07 < len(chosen) / len(people) < 0.13
    assert all(fifty.is_for("a", person) for person in chosen)  # who has it keeps it when it grows
    assert chosen != {person for person in people if ten.is_for("b", person)}
    assert all(ConfigValue("x").is_for("a", person) for person in people)


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    someone = UUID(int=7)
    file.write_text(f'[a.b]\n[plain]\nvalue = true\n[part]\nvalue = 3\npercentage = 12.5\naccounts = ["{someone}"]\n')
    with pytest.raises(StartupError):
        read_remote_config(file)
    file.write_text(file.read_text().removeprefix("[a.b]\n"))
    assert read_remote_config(file) == {
        "plain": ConfigValue("true"),
        "part": ConfigValue("3", 12.5, frozenset({someone})),
    }
    assert read_remote_config(None) == {}


@pytest.mark.parametrize(
    "text",
    ["x", "x = 1", "[x]", "[x]\nvalue=1\npercentage=101", '[x]\nvalue=1\naccounts=["y"]', "[x]\nvalue=1\nother=2"],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(StartupError, match="remote configuration"):
        read_remote_config(tmp_path / "config.toml")
    with pytest.raises(StartupError, match="remote configuration"):
        read_remote_config(tmp_path / "missing.toml")


async def test_an_account_sees_its_quotas(relays: Relays, peer_of: MakePeer) -> None:
    limits = {**UNLIMITED, Limit.ALLOCATE_DEVICE: Bucket(3, 60)}
    alice = await peer_of(await relays.start("sqlite", limits=limits)).register()
    token = await alice.call("GET", "/v1/devices/provisioning/code")
    assert '"allocateDevice";r=2;t=60' in token.headers["ratelimit"]
    quotas = {each["name"]: each for each in (await alice.call("GET", "/v1/limits")).json()["limits"]}
    assert quotas.keys() == set(OF_ACCOUNT)
    assert quotas["allocateDevice"] == {
        "name": "allocateDevice",
        "size": 3,
        "refillSeconds": 60.0,
        "remaining": 2,
        "fullInSeconds": 60,
    }


async def test_every_answer_has_rate_limit_headers(relays: Relays, peer_of: MakePeer) -> None:
    peer = peer_of(await relays.start("sqlite", limits={**UNLIMITED, Limit.REQUESTS: Bucket(3, 60)}))
    found = [
        await peer.call("GET", path) for path in ("/v1/keepalive", "/nowhere", "/v1/accounts/whoami", "/v1/keepalive")
    ]
    assert [reply.status for reply in found] == [200, 404, 401, 429]
    assert all('"requests";r=' in reply.headers["ratelimit"] for reply in found)
    assert 1 <= int(found[-1].headers["retry-after"]) <= 60


async def test_an_operator_grants_more_to_one_account(
    relays: Relays, peer_of: MakePeer, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr(module, "READ_SECONDS", 0.05)
    relay = await relays.start(backend, limits={**UNLIMITED, Limit.MESSAGES: Bucket(1, 3600)})
    alice, bob = await peer_of(relay).register(), await peer_of(relay).register()
    database = open_database(normalise_url(relay.settings.database_url))
    async with database.begin() as db:
        await set_grant(db, alice.aci.uuid, Limit.MESSAGES, Bucket(3, 3600))
        with pytest.raises(NotFound):
            await set_grant(db, uuid4(), Limit.MESSAGES, Bucket(3, 3600))
    await asyncio.sleep(0.3)
    assert [(await alice.send(bob, b"x")).status for _ in range(4)] == [200, 200, 200, 429]
    assert [(await bob.send(alice, b"x")).status for _ in range(2)] == [200, 429]
    async with database.begin() as db:
        assert await list_grants(db) == [(alice.aci.uuid, "messages", Bucket(3, 3600))]
        await set_grant(db, alice.aci.uuid, Limit.MESSAGES, None)
        assert await list_grants(db) == []
    await database.close()


async def test_opening_sockets_is_counted_too(relays: Relays, peer_of: MakePeer) -> None:
    peer = peer_of(await relays.start("sqlite", limits={**UNLIMITED, Limit.REQUESTS: Bucket(2, 60)}))
    for path in ("/v1/websocket/", "/v1/websocket/provisioning/"):
        async with peer.http.ws_connect(peer.relay.url + path):
            pass
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await peer.http.ws_connect(peer.relay.url + "/v1/websocket/")
    assert caught.value.status == 429


async def test_a_bot_has_limits_of_its_own(relays: Relays, peer_of: MakePeer, backend: str) -> None:
    limits = {**UNLIMITED, Limit.MESSAGES: Bucket(1, 3600, fail_open=True)}
    bot_limits = {
        Limit.MESSAGES: Bucket(2, 3600, fail_open=True),
        Limit.ALLOCATE_DEVICE: Bucket(9, 60),
        Limit.INBOUND_MESSAGE_BYTES: Bucket(5, 3600, fail_open=True),
    }
    peer = peer_of(await relays.start(backend, limits=limits, bot_limits=bot_limits))
    alice, bob, bot = await peer.register(), await peer.register(), await register_bot(peer)
    assert [(await alice.send(bob, b"x")).status for _ in range(2)] == [200, 429]
    sent = [await bot.send(bob, b"x") for _ in range(3)]
    assert [reply.status for reply in sent] == [200, 200, 429]
    assert '"messages";q=2;w=7200' in sent[0].headers["ratelimit-policy"]
    quotas = {each["name"]: each["size"] for each in (await bot.call("GET", "/v1/limits")).json()["limits"]}
    assert quotas["allocateDevice"] == 9
    assert (await alice.send(bot, b"12345")).status == 200
    assert (await bob.send(bot, b"1")).status == 429  # counted by who receives, and that is a bot


async def test_an_operator_grants_more_to_one_bot(relays: Relays, peer_of: MakePeer, backend: str) -> None:
    settings = await relays.settings(backend, bot_limits={Limit.MESSAGES: Bucket(1, 3600, fail_open=True)})
    peer = peer_of(await relays.serve(settings))
    bot, bob = await register_bot(peer), await peer.register()
    database = open_database(normalise_url(settings.database_url))
    async with database.begin() as db:
        await set_grant(db, bot.aci.uuid, Limit.MESSAGES, Bucket(3, 3600))
    await database.close()
    another = peer_of(await relays.serve(settings))  # a relay reads what was granted when it starts
    there = Device(another, bot.known, bot.aci, bot.pni)
    sent = await there.send(bob, b"x")
    assert '"messages";q=3' in sent.headers["ratelimit-policy"]
    assert sent.status == 200


async def test_the_requests_of_a_bots_socket_are_its_own_too(relays: Relays, peer_of: MakePeer) -> None:
    bot_limits = {Limit.REQUESTS: Bucket(2, 3600, fail_open=True)}
    peer = peer_of(await relays.start("sqlite", bot_limits=bot_limits))
    for device, statuses in ((await register_bot(peer), [200, 200, 429]), (await peer.register(), [200] * 3)):
        async with device.socket() as socket:
            await socket.queue_empty()
            assert [(await socket.call("GET", "/v1/keepalive")).status for _ in range(3)] == statuses
