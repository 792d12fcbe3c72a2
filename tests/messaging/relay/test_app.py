"""The relay as a whole: several processes, lost services, and what is never written down."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from messaging.relay.errors import StartupError
from messaging.relay.server_secret import SECRET_BYTES
from messaging.wire.keys import SetKeysRequest
from tests.devices import Device, MakePeer, NewDevice, one_time_prekey
from tests.relays import Relays
from tests.servers import own_valkey


async def test_what_is_sent_to_one_relay_reaches_the_socket_on_another(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql")
    here, there = peer_of(await relays.serve(settings)), peer_of(await relays.serve(settings))
    alice, bob = await here.register(), await here.register()
    async with Device(there, bob.known, bob.aci, bob.pni).socket() as socket:
        await socket.queue_empty()
        async with asyncio.timeout(3):  # well before the watch looks
            for number in range(20):
                await alice.send(bob, b"%d" % number)
            assert await socket.receive(20) == [b"%d" % number for number in range(20)]


async def test_displacement_and_replacement_reach_the_other_relay(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql")
    here, there = peer_of(await relays.serve(settings)), peer_of(await relays.serve(settings))
    alice = await here.register()
    async with Device(there, alice.known, alice.aci, alice.pni).socket() as first:
        await first.queue_empty()
        async with alice.socket() as second:
            await second.queue_empty()
            assert await first.close_code() == 4409
            await there.register(NewDevice(number=alice.known.number))
            assert await second.close_code() == 4401


async def test_without_redis_sending_works_and_delivery_takes_seconds(relays: Relays, peer_of: MakePeer) -> None:
    with own_valkey() as valkey:
        settings = replace(await relays.settings("postgresql"), redis_url=valkey.url)
        here, there = peer_of(await relays.serve(settings)), peer_of(await relays.serve(settings))
        alice, bob = await here.register(), await here.register()
        async with Device(there, bob.known, bob.aci, bob.pni).socket() as socket:
            await socket.queue_empty()
            valkey.stop()
            assert (await alice.send(bob, b"without Redis")).status == 200
            async with asyncio.timeout(7):
                assert await socket.receive(1) == [b"without Redis"]
        async with bob.socket() as socket:  # and at once where the sockets of a process are concerned
            await socket.caught_up()  # the other relay may not have forgotten yet what was acknowledged there
            await alice.send(bob, b"here")
            async with asyncio.timeout(2):
                assert await socket.receive(1) == [b"here"]


async def test_a_relay_does_not_need_redis_to_start(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql", redis_url="redis://127.0.0.1:1")
    peer = peer_of(await relays.serve(settings))
    alice, bob = await peer.register(), await peer.register()
    assert (await alice.send(bob, b"hello")).status == 200


async def test_a_database_that_goes_away_is_said_to_be_unavailable(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql")
    peer = peer_of(await relays.serve(settings))
    alice, bob = await peer.register(), await peer.register()
    name = settings.database_url.partition("?")[0].rpartition("/")[2]
    await relays.postgres.drop(name)
    refused = await alice.send(bob, b"hello")
    assert (refused.status, refused.json()) == (503, {"code": "unavailable"})
    assert (await peer.call("GET", "/v1/keepalive")).status == 200
    await relays.stop()
    await relays.postgres.execute(f'CREATE DATABASE "{name}"')  # for the fixture to drop


async def test_canaries_are_in_no_log_and_numbers_and_secrets_in_no_file(
    relays: Relays, backend: str, peer_of: MakePeer, capfd: pytest.CaptureFixture[str]
) -> None:
    relay = await relays.start(backend)
    peer = peer_of(relay)
    alice, bob = await peer.register(), await peer.register()
    await alice.upload(SetKeysRequest(pre_keys=(one_time_prekey(1),)))
    content = b"CANARY-CONTENT-0123456789"
    await alice.send(bob, content)
    async with bob.socket() as socket:
        _, envelope = await socket.envelope()
        await socket.queue_empty()
        await socket.call("GET", f"/v1/nothing/{alice.aci}?CANARY-PATH")
    await peer.call("PUT", f"/v1/messages/{bob.aci}", b'{"messages": "CANARY-JSON"}', alice.authorization)
    await peer.call("POST", "/v1/verification/session", {"number": "CANARY-NUMBER"})
    session = await peer.verified_session(alice.known.number)

    code = relay.last_code(alice.known.number)
    numbers = [device.known.number for device in (alice, bob)]
    passwords = [device.known.password for device in (alice, bob)]
    people = [str(found) for device in (alice, bob) for found in (device.aci, device.pni)]
    await relays.stop()  # and so the last counts are in the log
    captured = capfd.readouterr()
    logs = captured.out + captured.err
    assert '"/v1/messages/{service_id}"' in logs or "/v1/messages/{service_id}" in logs
    secrets = [session, code, relay.assistant_token, str(envelope.guid), content.decode(), "CANARY", "127.0.0.1"]
    for canary in [*secrets, *numbers, *passwords, *people]:
        assert canary not in logs

    if backend == "sqlite":
        folder = Path(relay.settings.database_url.removeprefix("sqlite:///")).parent
        stored = b"".join(path.read_bytes() for path in folder.iterdir() if path.name.startswith("relay.db"))
        assert bob.known.identity.public in stored
        for canary in [*numbers, *passwords, session]:
            assert canary.encode() not in stored


async def test_settings_that_cannot_work_are_a_sentence(relays: Relays, tmp_path: Path) -> None:
    good = await relays.settings("sqlite")
    short = tmp_path / "short"
    short.write_text("short")
    for sentence, changes in (
        ("needs --tls-cert", {"host": "0.0.0.0"}),  # noqa: S104 - the subject of the test
        ("go together", {"tls_key": relays.tls.key}),
        ("verification must be", {"verification": "pigeon"}),
        ("verification must be", {"verification": "file:"}),
        ("verification must be", {"verification": "webhook:"}),
        ("verification must be", {"verification": "invite:x"}),
        ("needs --webhook-secret-file", {"verification": "webhook:https://localhost/"}),
        (
            "cannot read the webhook",
            {"verification": "webhook:https://localhost/", "webhook_secret_file": Path("none")},
        ),
        ("must name a file", {"database_url": "postgresql://host/name", "secret_file": None}),
        ("secret file", {"secret_file": tmp_path / "missing"}),
        ("assistant token", {"assistant_token_file": tmp_path / "missing"}),
        ("at least 16", {"assistant_token_file": short}),
        ("database URL", {"database_url": "mysql://host/name"}),
        ("Redis URL", {"redis_url": "http://host"}),
        ("cannot listen", {"host": "192.0.2.1", "plain_http_behind_a_proxy": True}),
    ):
        with pytest.raises(StartupError, match=sentence):
            await relays.serve(replace(good, **changes))


async def test_the_embedded_default_makes_its_own_secret_and_keeps_it(relays: Relays, peer_of: MakePeer) -> None:
    settings = replace(await relays.settings("sqlite"), secret_file=None)
    first = await relays.serve(settings)
    alice = await peer_of(first).register()
    database = Path(settings.database_url.removeprefix("sqlite:///"))
    assert len((database.parent / "relay.db.secret").read_bytes()) == SECRET_BYTES
    await relays.stop()
    second = await relays.serve(settings)
    assert second.running.trust_root == first.running.trust_root
    again = await peer_of(second).register(NewDevice(number=alice.known.number))
    assert again.aci == alice.aci
