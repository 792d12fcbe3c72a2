"""Traces: a span for a request, with its route and its status, to a collector that is really there; and nobody in it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from messaging.relay.errors import StartupError
from messaging.relay.metrics import Asked
from messaging.relay.tracing import TracedTraffic, open_traffic
from messaging.relay.traffic import Traffic
from tests.devices import MakePeer
from tests.relays import Relays

CANARY = "canary"
# What a span takes. Other parts are imported by redis-py where they are installed.
OURS = ("opentelemetry.exporter", "opentelemetry.sdk.trace.export")


@dataclass
class Collector:
    """A collector of OTLP over HTTP, which keeps what it was sent."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)

    async def take(self, request: web.BaseRequest) -> web.StreamResponse:
        assert (request.method, request.path) == ("POST", "/v1/traces")
        self.headers.append(str(request.headers))
        self.bodies.append(await request.read())
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    def spans(self) -> list[dict[str, Any]]:
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                about = {each.key: each.value.string_value for each in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        said = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
                        lasted = span.end_time_unix_nano - span.start_time_unix_nano
                        found.append(
                            {"name": span.name, "lasted": lasted, "parent": span.parent_span_id, "said": said, **about}
                        )
        return found


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    runner = web.ServerRunner(web.Server(collector.take))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


async def test_requests_are_spans_with_their_route_and_status_and_nobody_is_in_them(
    relays: Relays, backend: str, peer_of: MakePeer
) -> None:
    async with collecting() as collector:
        relay = await relays.start(backend, otlp_endpoint=collector.url, otlp_ratio=1.0, node_name="north")
        alice, bob = await peer_of(relay).register(), await peer_of(relay).register()
        assert (await alice.send(bob, CANARY.encode())).status == 200
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        told = {"User-Agent": CANARY, "traceparent": parent, "tracestate": f"x={CANARY}", "baggage": f"x={CANARY}"}
        await alice.peer.call("GET", f"/{CANARY}/{alice.aci}?{CANARY}=1", headers=told)
        await alice.peer.call("OPTIONS", f"/v1/messages/{bob.aci}", headers=told)
        await relays.stop()  # what is left is sent
    spans = collector.spans()
    (sent,) = [span for span in spans if span["name"] == "PUT /v1/messages/{service_id}"]
    assert sent["said"] == {
        "http.request.method": "PUT",
        "http.route": "/v1/messages/{service_id}",
        "http.response.status_code": 200,
    }
    assert sent["lasted"] > 0
    assert (sent["service.name"], sent["service.instance.id"]) == ("subrosa-relay", "north")
    assert sorted(span["said"]["http.response.status_code"] for span in spans if span["name"] == "_OTHER unknown") == [
        404,
        405,
    ]
    assert {span["parent"] for span in spans} == {b""}
    everything = b"".join(collector.bodies)
    people = [each for one in (alice, bob) for each in (str(one.aci), one.known.number, one.known.password)]
    for canary in (CANARY, "OPTIONS", "127.0.0.1", *people, relay.assistant_token):
        assert canary.encode() not in everything
    for binary in (alice.aci.to_bytes(), bob.aci.to_bytes(), bytes.fromhex(parent.split("-")[1])):
        assert binary not in everything
    assert CANARY not in "".join(collector.headers)


def traced(ratio: float, *draws: float) -> tuple[TracedTraffic, InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    drawn = cycle(draws)
    return TracedTraffic(provider.get_tracer("test"), ratio, lambda: next(drawn)), exporter


def test_a_share_of_calls_is_traced_and_all_are_counted() -> None:
    traffic, exporter = traced(0.5, 0.4, 0.5, 0.6, 0.0)
    for _ in range(4):
        traffic.count("/v1/x", "GET", 200, 1.0)
    assert len(exporter.get_finished_spans()) == 2
    assert traffic.totals()[Asked("/v1/x", "GET", "2xx")].answers == 4


@pytest.mark.parametrize(("ratio", "count"), [(0.0, 0), (1.0, 1)])
def test_none_and_all_are_possible(ratio: float, count: int) -> None:
    for drawn in (0.0, 0.999_999):
        traffic, exporter = traced(ratio, drawn)
        traffic.count("/v1/x", "GET", 200, 1.0)
        assert len(exporter.get_finished_spans()) == count


@pytest.mark.parametrize(("status", "name"), [(499, "UNSET"), (500, "ERROR")])
def test_a_fault_of_ours_is_an_error(status: int, name: str) -> None:
    traffic, exporter = traced(1.0, 0.0)
    traffic.count("/v1/x", "GET", status, 2.5)
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code.name == name
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time == 2_500_000


@pytest.mark.parametrize(
    ("endpoint", "ratio", "sentence"),
    [
        ("collector:4318", 0.1, "must be a URL"),
        ("grpc://collector:4317", 0.1, "must be a URL"),
        ("http://collector:4318", 1.1, "from 0 to 1"),
        ("http://collector:4318", -0.1, "from 0 to 1"),
    ],
)
async def test_what_cannot_be_is_a_sentence(endpoint: str, ratio: float, sentence: str) -> None:
    with pytest.raises(StartupError, match=sentence):
        async with open_traffic(endpoint, ratio, node="n", version="1"):
            pass


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(StartupError, match=r"subrosa\[telemetry\]"):
        async with open_traffic("http://collector:4318", 0.1, node="n", version="1"):
            pass


async def test_a_collector_that_is_away_holds_up_no_end() -> None:
    async with asyncio.timeout(15):
        async with open_traffic("http://127.0.0.1:1", 1.0, node="n", version="1") as traffic:
            traffic.count("/v1/x", "GET", 200, 1.0)


async def test_off_it_is_the_plain_counter() -> None:
    async with open_traffic(None, 0.1, node="n", version="1") as traffic:
        assert type(traffic) is Traffic


def test_off_nothing_is_imported() -> None:
    code = "import sys, messaging.relay.app; sys.exit(any(name in sys.modules for name in NAMES))".replace(
        "NAMES", repr(OURS)
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
