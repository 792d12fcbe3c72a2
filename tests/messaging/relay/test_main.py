"""The relay as a process: how it is started, what it says, how it ends, and what survives its sudden end."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from messaging import cli
from messaging.relay.__main__ import main, relay_options, settings_of, stop_at_end_of_input
from messaging.relay.accounts.invite_service import InviteService
from messaging.relay.accounts.invites import Role, Terms
from messaging.relay.app import now_milliseconds
from messaging.relay.database import normalise_url, open_database
from messaging.relay.errors import StartupError
from messaging.relay.nodes import State, ask_to_drain, read_nodes
from messaging.relay.server_secret import read_secret
from messaging.wire.keys import SetKeysRequest
from tests.devices import Device, MakePeer, Reply, a_number, message_for, one_time_prekey
from tests.processes import READY_SECONDS, relay_process
from tests.relays import Relays
from tests.webhooks import receiving

SESSIONS = "/v1/verification/session"


async def test_a_message_survives_the_sudden_end_of_the_relay(relays: Relays, backend: str, peer_of: MakePeer) -> None:
    """200 means committed: the process is killed as soon as the answer is there."""
    settings = await relays.settings(backend)
    async with relay_process(settings) as relay:
        peer = peer_of(relay.started)
        alice, bob = await peer.register(), await peer.register()
        assert (await alice.send(bob, b"before the end")).status == 200
        relay.process.kill()
        await relay.process.wait()
    async with relay_process(settings) as relay:
        bob = Device(peer_of(relay.started), bob.known, bob.aci, bob.pni)
        async with bob.socket() as socket:
            assert await socket.receive(1) == [b"before the end"]
            await socket.queue_empty()


async def test_an_upload_goes_on_after_the_sudden_end_of_the_relay(
    relays: Relays, backend: str, peer_of: MakePeer
) -> None:
    """What was said to be received is there; and the permission still holds."""
    settings = await relays.settings(backend)
    tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    async with relay_process(settings) as relay:
        alice = await peer_of(relay.started).register()
        form = (await alice.call("GET", "/v4/attachments/form/upload?uploadLength=10")).json()
        headers = {**form["headers"], **tus, "Upload-Length": "10"}
        begun = await alice.peer.call("POST", "/upload/attachments", b"01234", headers)
        assert begun.headers["upload-offset"] == "5"
        relay.process.kill()
        await relay.process.wait()
    async with relay_process(settings) as relay:
        peer = peer_of(relay.started)
        path, headers = f"/upload/attachments/{form['key']}", {**form["headers"], **tus}
        assert (await peer.call("HEAD", path, headers=headers)).headers["upload-offset"] == "5"
        assert (await peer.call("PATCH", path, b"56789", {**headers, "Upload-Offset": "5"})).status == 204
        assert (await peer.call("GET", f"/attachments/{form['key']}")).body == b"0123456789"


async def test_keys_and_idempotent_sends_survive_the_sudden_end_of_the_relay(
    relays: Relays, backend: str, peer_of: MakePeer
) -> None:
    """No one-time prekey is given twice, none is voided, and a send that is repeated is not sent twice."""
    settings = await relays.settings(backend)
    key = {"Idempotency-Key": "0123456789abcdef"}
    given = []
    async with relay_process(settings) as relay:
        alice, bob = await peer_of(relay.started).register(), await peer_of(relay.started).register()
        await bob.upload(SetKeysRequest(pre_keys=tuple(map(one_time_prekey, range(4)))))
    body = message_for(bob, b"once")
    for left in (3, 2, 1):
        async with relay_process(settings) as relay:
            sender = Device(peer_of(relay.started), alice.known, alice.aci, alice.pni)
            fetched = (await sender.call("GET", f"/v2/keys/{bob.aci}/1")).json()
            given.append(fetched["devices"][0]["preKey"]["keyId"])
            assert (await sender.call("PUT", f"/v1/messages/{bob.aci}", body, **key)).status == 200
            relay.process.kill()
            await relay.process.wait()
        assert len(set(given)) == 4 - left
    async with relay_process(settings) as relay:
        receiver = Device(peer_of(relay.started), bob.known, bob.aci, bob.pni)
        assert (await receiver.call("GET", "/v2/keys")).json()["count"] == 1
        async with receiver.socket() as socket:
            assert await socket.receive(1) == [b"once"]
            await socket.queue_empty()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
async def test_a_signal_ends_it_in_order_and_the_log_tells_nothing(
    relays: Relays, peer_of: MakePeer, number: signal.Signals, tmp_path: Path
) -> None:
    async with relay_process(await relays.settings("sqlite")) as relay:
        alice = await peer_of(relay.started).register()
        async with alice.socket() as socket:
            await socket.queue_empty()
            relay.process.send_signal(number)
            assert await socket.close_code() == 1001
        assert await asyncio.wait_for(relay.process.wait(), 20) == 0
        assert relay.process.stderr is not None
        log = (await relay.process.stderr.read()).decode()
    assert {json.loads(line)["event"] for line in log.splitlines()} <= {"calls", "swept"}
    for canary in (alice.known.number, alice.known.password, str(alice.aci), "127.0.0.1", str(tmp_path)):
        assert canary not in log


async def test_a_relay_that_an_operator_has_drain_sends_its_sockets_away_and_ends_in_order(
    relays: Relays, peer_of: MakePeer
) -> None:
    settings = await relays.settings("sqlite")
    database = open_database(normalise_url(settings.database_url))
    async with relay_process(settings) as relay:
        alice = await peer_of(relay.started).register()
        async with alice.socket() as socket, asyncio.timeout(20):
            await socket.queue_empty()
            while True:
                async with database.begin() as db:
                    if (nodes := await read_nodes(db)) and await ask_to_drain(db, [nodes[0].id], alone=True):
                        break
            assert await socket.close_code() == 1001
        assert await asyncio.wait_for(relay.process.wait(), 20) == 0
    async with database.read() as db:
        assert [node.state for node in await read_nodes(db)] == [State.ENDED]
    await database.close()


async def test_of_a_webhook_that_refuses_nothing_is_told(relays: Relays, peer_of: MakePeer, tmp_path: Path) -> None:
    async with receiving(429, 422) as receiver:
        settings = await relays.settings(
            "sqlite", verification=f"webhook:{receiver.url}", webhook_secret_file=receiver.secret_file(tmp_path)
        )
        async with relay_process(settings) as relay:
            peer, number = peer_of(relay.started), a_number()
            path = f"{SESSIONS}/{(await peer.call('POST', SESSIONS, {'number': number})).json()['id']}/code"
            replies = [await peer.call("POST", path, {"transport": "sms", "client": "CANARY"}) for _ in range(2)]
            relay.process.terminate()
            assert relay.process.stdout is not None
            assert relay.process.stderr is not None
            told = (await relay.process.stdout.read() + await relay.process.stderr.read()).decode()
    assert [reply.status for reply in replies] == [440, 440]
    assert [json.loads(line)["status"] for line in told.splitlines() if "code_not_delivered" in line] == [429, 422]
    codes = [body["code"] for body in receiver.bodies]
    for canary in ("CANARY", number, *codes, "/codes", "127.0.0.1", receiver.ids[0]):
        assert canary not in told
        assert all(canary not in reply.body.decode() for reply in replies)


async def test_a_sudden_end_spends_no_use_that_verifies_nobody(relays: Relays, backend: str, peer_of: MakePeer) -> None:
    """The process is killed while invites are submitted: a use is gone exactly if a session is verified."""
    settings = await relays.settings(backend, verification="invite")
    database = open_database(normalise_url(settings.database_url))
    assert settings.secret_file is not None
    invites = InviteService(database, read_secret(settings.secret_file, create=False), now_milliseconds)
    code = (await invites.create(Terms(Role.MEMBER, 20, 60_000))).code
    async with relay_process(settings) as relay:
        peer, paths = peer_of(relay.started), []
        for _ in range(12):
            created = (await peer.call("POST", SESSIONS, {"number": a_number()})).json()
            paths.append(f"{SESSIONS}/{created['id']}/code")
            await peer.call("POST", paths[-1], {"transport": "sms", "client": "test"})
        submits = [asyncio.create_task(peer.call("PUT", path, {"code": code})) for path in paths]
        await asyncio.wait(submits, return_when=asyncio.FIRST_COMPLETED)
        relay.process.kill()
        answered = [
            found for found in await asyncio.gather(*submits, return_exceptions=True) if isinstance(found, Reply)
        ]
    async with database.read() as db:
        query = text("SELECT count(*) FROM verification_sessions WHERE verified")
        verified = (await db.execute(query)).scalar_one()
    [invite] = await invites.all()
    await database.close()
    assert 1 <= len(answered) <= verified == 20 - invite.uses_left


async def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "messaging.relay",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    out, err = await asyncio.wait_for(process.communicate(), READY_SECONDS)
    return process.returncode or 0, out.decode(), err.decode()


async def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    for option in ("--host", "--port", "--tls-cert", "--tls-key", "--database-url", "--redis-url", "--verification"):
        assert option in shown
    assert "SUBROSA_DATABASE_URL" in shown


async def test_a_setting_that_cannot_work_ends_it_with_one_sentence(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'relay.db'}"
    code, out, err = await run("--host", "0.0.0.0", "--database-url", database)  # noqa: S104 - the subject of the test
    assert (code, out) == (1, "")
    assert err.startswith("relay: an address that others can reach needs --tls-cert")
    assert err.count("\n") == 1
    code, out, err = await run("--no-migrate", SUBROSA_DATABASE_URL=database)
    assert (code, out) == (1, "")
    assert "no-migrate" in err


async def test_the_end_of_the_input_is_told_once() -> None:
    """An input that has ended can always be read: a reader that stays would keep a core busy."""
    reading, writing = os.pipe()
    stop = asyncio.Event()
    stop_at_end_of_input(reading, stop)
    await asyncio.sleep(0.01)
    assert not stop.is_set()
    os.close(writing)
    await asyncio.wait_for(stop.wait(), 10)
    still_there = asyncio.get_running_loop().remove_reader(reading)
    os.close(reading)
    assert not still_there


@pytest.mark.parametrize("words", [["--worker", "3"], ["--worker=3"], ["--json"], ["--listen", "3"]], ids=" ".join)
def test_an_option_is_written_out(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Of a short form the supervisor would not know that it is not for its workers."""
    for run_with in (main, lambda words: cli.main(["relay", *words])):
        with pytest.raises(SystemExit) as caught:
            run_with(words)
        assert caught.value.code == 2
        assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("worker", "given", "found"),
    [
        (None, [], ("127.0.0.1", None, False)),
        (None, ["--metrics-port", "9464"], ("127.0.0.1", 9464, False)),
        ("1", ["--metrics-port", "9464"], ("127.0.0.1", 9464, True)),
        ("3", ["--metrics-port", "9464", "--metrics-host", "10.0.0.1"], ("10.0.0.1", 9466, True)),
        ("x", ["--metrics-port", "9464"], ("127.0.0.1", 9464, False)),
    ],
)
def test_each_worker_has_a_name_and_a_port_of_metrics_of_its_own(
    worker: str | None, given: list[str], found: tuple[str, int | None, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUBROSA_WORKER", raising=False)
    if worker is not None:
        monkeypatch.setenv("SUBROSA_WORKER", worker)
    settings = settings_of(relay_options("x", "y").parse_args(["--node-name", "north", *given]))
    assert (settings.metrics_host, settings.metrics_port, settings.metrics_port_shared) == found
    assert settings.node_name == ("north" if worker in (None, "x") else f"north-{worker}")


@pytest.mark.parametrize(
    ("port", "workers", "found"),
    [("0", 1, 0), ("0", 3, 0), ("1", 1, 1), ("65535", 1, 65535), ("65533", 3, 65533)],
)
def test_a_port_of_metrics_may_be(port: str, workers: int, found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUBROSA_WORKER", raising=False)
    given = ["--metrics-port", port, "--workers", str(workers)]
    assert settings_of(relay_options("x", "y").parse_args(given)).metrics_port == found


@pytest.mark.parametrize(
    ("port", "workers", "worker"),
    [("-1", 1, None), ("65536", 1, None), ("70000", 1, None), ("65534", 3, None), ("65535", 1, "2")],
)
def test_a_port_of_metrics_that_cannot_be_is_refused(
    port: str, workers: int, worker: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBROSA_WORKER", worker or "")
    arguments = relay_options("x", "y").parse_args(["--metrics-port", port, "--workers", str(workers)])
    with pytest.raises(StartupError, match="--metrics-port"):
        settings_of(arguments)


def test_each_worker_takes_a_free_port_of_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBROSA_WORKER", "3")
    assert settings_of(relay_options("x", "y").parse_args(["--metrics-port", "0"])).metrics_port == 0
