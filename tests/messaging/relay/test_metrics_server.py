"""What Prometheus reads: a relay's figures in its text format, on a port of their own, and nobody named in them."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from messaging.relay.database import Database
from messaging.relay.errors import StartupError
from messaging.relay.metrics import Answered, Asked, Figures
from messaging.relay.metrics_server import Exporter, metric_names, metrics_server
from tests.devices import Device, MakePeer
from tests.relays import Relays, StartedRelay

CANARY = "canary"
Labels = frozenset[tuple[str, str]]
SEND = "/v1/messages/{service_id}"


def samples(text: str) -> dict[tuple[str, Labels], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Mapping[tuple[str, Labels], float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


async def scrape(port: int | None) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        return await answer.text()


async def exchange(relay: StartedRelay, peer_of: MakePeer) -> tuple[Device, Device]:
    """Somebody is connected, and gets a message from another."""
    alice, bob = await peer_of(relay).register(), await peer_of(relay).register()
    async with bob.socket() as socket:
        await socket.queue_empty()
        assert (await alice.send(bob, CANARY.encode())).status == 200
        assert await socket.receive(1) == [CANARY.encode()]
    return alice, bob


async def test_what_a_relay_does_is_counted(relays: Relays, backend: str, peer_of: MakePeer) -> None:
    relay = await relays.start(backend, metrics_port=0)
    await exchange(relay, peer_of)
    async with asyncio.timeout(10):  # acknowledged is written down a moment later
        while not value(
            found := samples(await scrape(relay.running.metrics_port)), "subrosa_envelopes_acknowledged_total"
        ):
            await asyncio.sleep(0.02)
    assert value(found, "subrosa_envelopes_stored_total") == 1
    assert value(found, "subrosa_envelopes_delivered_total") == 1
    assert value(found, "subrosa_requests_total", route=SEND, verb="PUT", status="2xx") == 1
    assert value(found, "subrosa_request_seconds_total", route=SEND, verb="PUT", status="2xx") > 0
    assert value(found, "subrosa_commit_seconds_count") == 1
    assert value(found, "subrosa_delivery_seconds_count") == 1
    assert value(found, "subrosa_delivery_seconds_bucket", le="+Inf") == 1
    assert value(found, "subrosa_ready") == 1
    assert value(found, "subrosa_facts_known") == 1
    assert value(found, "subrosa_database_bytes") > 0
    assert value(found, "subrosa_parked_envelopes") == 0
    assert value(found, "subrosa_disk_free_bytes", disk="attachments") > 0
    assert {name for name, _ in found} <= metric_names()


async def test_what_waited_for_its_device_says_nothing_of_how_fast_delivery_is(
    relays: Relays, peer_of: MakePeer
) -> None:
    relay = await relays.start("sqlite", metrics_port=0)
    alice, bob = await peer_of(relay).register(), await peer_of(relay).register()
    await alice.send(bob, b"later")
    async with bob.socket() as socket:
        await socket.receive(1)
        await socket.queue_empty()
    found = samples(await scrape(relay.running.metrics_port))
    assert value(found, "subrosa_envelopes_delivered_total") == 1
    assert value(found, "subrosa_delivery_seconds_count") == 0


async def test_nobody_is_named(relays: Relays, backend: str, peer_of: MakePeer, tmp_path: Path) -> None:
    relay = await relays.start(backend, metrics_port=0, node_name="north")
    alice, bob = await exchange(relay, peer_of)
    await alice.peer.call("GET", f"/{CANARY}/{alice.aci}?{CANARY}={alice.known.number}")
    await alice.peer.call("CANARY", f"/v1/messages/{bob.aci}")
    text = await scrape(relay.running.metrics_port)
    people = [each for device in (alice, bob) for each in (str(device.aci), device.known.number, device.known.password)]
    secrets = [relay.assistant_token, str(tmp_path), relay.settings.database_url]
    for canary in (CANARY, "CANARY", "127.0.0.1", *people, *secrets):
        assert canary not in text
    labels = {name for _, pairs in samples(text) for name, _ in pairs}
    assert labels <= {"node", "version", "route", "verb", "status", "state", "disk", "le"}
    assert ("subrosa_node_info", "north") in {
        (name, value) for name, pairs in samples(text) for label, value in pairs if label == "node"
    }


async def test_every_metric_is_named_before_it_is_there(database: Database, tmp_path: Path) -> None:
    """Boards and alerts are checked against the names: one that is shown under no condition must not be among them."""
    figures = Figures().snapshot({}, {Asked(SEND, "PUT", "2xx"): Answered(1, 2.0)})
    exporter = Exporter(
        database, None if database.turn is None else tmp_path / "r", {"database": tmp_path}, "n", "1", lambda: figures
    )
    shown = {name for name, _ in samples((await exporter.text()).decode())}
    of_postgresql = {f"subrosa_database_{what}" for what in ("connections", "max_connections", "lag_seconds")}
    assert shown | of_postgresql == metric_names()
    assert database.turn is not None or of_postgresql - shown == {"subrosa_database_lag_seconds"}  # no replica


async def test_figures_are_shown_while_the_database_is_away(database: Database) -> None:
    figures = Figures(envelopes_stored=7).snapshot()
    exporter = Exporter(database, None, {}, "n", "1", lambda: figures)
    exporter._database = None  # type: ignore[assignment]  # whatever happens when it is asked
    found = samples((await exporter.text()).decode())
    assert value(found, "subrosa_envelopes_stored_total") == 7
    assert value(found, "subrosa_facts_known") == 0


async def test_the_database_is_not_asked_at_each_look(database: Database) -> None:
    figures = Figures().snapshot()
    exporter = Exporter(database, None, {}, "n", "1", lambda: figures)
    first = await exporter.text()
    exporter._database = None  # type: ignore[assignment]  # another look would fail
    assert samples((await exporter.text()).decode()) == samples(first.decode())


async def test_a_disk_that_does_not_answer_holds_up_nobody_else(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers, waited = threading.Event(), threading.Event(), list[bool]()

    def hangs(_: Path) -> None:
        asked.set()
        waited.append(answers.wait(2))

    monkeypatch.setattr("messaging.relay.metrics_server.disk_facts", hangs)
    exporter = Exporter(database, None, {"attachments": tmp_path}, "n", "1", Figures().snapshot)
    telling = asyncio.create_task(exporter.text())
    assert await asyncio.to_thread(asked.wait, 5)
    answers.set()
    await telling
    assert waited == [True]  # what sets it has gone on meanwhile


async def test_there_is_nothing_else_on_the_port(relays: Relays) -> None:
    relay = await relays.start("sqlite", metrics_port=0)
    async with aiohttp.ClientSession() as http:
        for verb, path in (("GET", "/"), ("GET", "/v1/health/ready"), ("POST", "/metrics")):
            async with http.request(verb, f"http://127.0.0.1:{relay.running.metrics_port}{path}") as answer:
                assert answer.status == 404
        async with http.get(f"{relay.url}/metrics") as answer:
            assert answer.status == 404  # nor are figures on the relay's


async def test_a_port_that_is_taken_is_a_sentence_unless_it_is_to_be_shared(relays: Relays) -> None:
    relay = await relays.start("sqlite")
    exporter = Exporter(None, None, {}, "n", "1", Figures().snapshot)  # type: ignore[arg-type]  # it is never asked
    with pytest.raises(StartupError, match="port of the metrics"):
        async with metrics_server(exporter, "127.0.0.1", relay.port):
            pass
    async with (
        metrics_server(exporter, "127.0.0.1", 0, shared=True) as port,
        metrics_server(exporter, "127.0.0.1", port, shared=True) as again,
    ):
        assert port == again
