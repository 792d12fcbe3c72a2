"""Figures for Prometheus, on a port of their own that only this machine reaches unless the operator says otherwise.

What is shown is ``metrics.Figures`` and a few facts of the deployment. Labels are templates of routes, verbs, classes of statuses, states
and the name of this process: nothing in them comes from anybody's request.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from messaging.relay.database import Database
from messaging.relay.errors import StartupError
from messaging.relay.facts import DatabaseFacts, DiskFacts, count_parked, database_facts, disk_facts
from messaging.relay.metrics import COUNTERS, GAUGES, HISTOGRAMS, Snapshot, Spread
from messaging.relay.nodes import State, database_time, read_nodes
from messaging.serving.http import Bounds, HttpServer
from messaging.serving.logs import get_logger

PATH: Final = "/metrics"
FACTS_SECONDS: Final = 15  # for so long what was found in the database stands, however often it is asked for
LOOK_SECONDS: Final = 5
GONE: Final = "gone"
_LARGEST_BODY: Final = 1024

_FACTS: Final[Mapping[str, str]] = {
    "subrosa_facts_known": "Whether what follows could be read from the database",
    "subrosa_parked_envelopes": "Envelopes that failed too often and wait for their device or the operator",
    "subrosa_database_bytes": "Size of the database",
    "subrosa_database_wal_bytes": "All that the write-ahead log has grown by (PostgreSQL), or its size (SQLite)",
    "subrosa_database_connections": "Connections of clients to the database",
    "subrosa_database_max_connections": "Connections that the database takes",
    "subrosa_database_lag_seconds": "How far the slowest replica is behind",
}
_NODES, _FREE, _SIZE = "subrosa_nodes", "subrosa_disk_free_bytes", "subrosa_disk_size_bytes"
_REQUESTS, _REQUEST_SECONDS, _INFO = "subrosa_requests", "subrosa_request_seconds", "subrosa_node_info"


def metric_names() -> frozenset[str]:
    """Every name under which there is something to see: boards and alerts can use no other."""
    counters = [*(f"subrosa_{name}" for name in COUNTERS), _REQUESTS, _REQUEST_SECONDS]
    histograms = [f"subrosa_{name}{part}" for name in HISTOGRAMS for part in ("_bucket", "_sum", "_count")]
    gauges = [*(f"subrosa_{name}" for name in GAUGES), *_FACTS, _NODES, _FREE, _SIZE, _INFO]
    return frozenset([*(f"{name}_total" for name in counters), *histograms, *gauges])


@dataclass(frozen=True, slots=True)
class Deployment:
    """What one process can see of the whole. ``nodes`` counts processes by state, ``disks`` are named by what is kept on them."""

    known: bool
    database: DatabaseFacts | None = None
    parked: int | None = None
    nodes: Mapping[str, int] = field(default_factory=dict)
    disks: Mapping[str, DiskFacts] = field(default_factory=dict)


class Exporter:
    """Puts together what Prometheus is told. ``figures`` gives those of this process; ``folders`` are what is kept on disks."""

    def __init__(
        self,
        database: Database,
        path: Path | None,
        folders: Mapping[str, Path],
        node: str,
        version: str,
        figures: Callable[[], Snapshot],
    ) -> None:
        self._database = database
        self._path = path
        self._folders = folders
        self._info = (node, version)
        self._figures = figures
        self._deployment = Deployment(known=False)
        self._looks_again_at = 0.0

    async def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        if time.monotonic() >= self._looks_again_at:
            self._looks_again_at = time.monotonic() + FACTS_SECONDS
            self._deployment = await self._look()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected([*self._own(self._figures()), *_seen(self._deployment)]))
        return generate_latest(registry)

    async def _look(self) -> Deployment:
        # Beside the loop: a disk of another machine that has gone answers when it likes.
        found = {name: await asyncio.to_thread(disk_facts, folder) for name, folder in self._folders.items()}
        disks = {name: facts for name, facts in found.items() if facts is not None}
        try:
            async with self._database.read(LOOK_SECONDS) as db:
                now, nodes = await database_time(db), await read_nodes(db)
                states = Counter(GONE if node.is_gone(now) else node.state.value for node in nodes)
                facts, parked = await database_facts(db, self._path), await count_parked(db)
        except Exception as error:  # noqa: BLE001 - figures of this process are worth showing without the rest
            get_logger().warning("facts_unknown", error=type(error).__name__)
            return Deployment(known=False, disks=disks)
        shown = {state: states[state] for state in (State.READY, State.DRAINING, State.BROKEN, GONE)}
        return Deployment(True, facts, parked.count, {str(state): count for state, count in shown.items()}, disks)

    def _own(self, snapshot: Snapshot) -> Iterator[Metric]:
        info = GaugeMetricFamily(_INFO, "This process", labels=["node", "version"])
        info.add_metric(self._info, 1)
        yield info
        for name, meaning in COUNTERS.items():
            yield CounterMetricFamily(f"subrosa_{name}", meaning, value=snapshot.counters.get(name, 0))
        for name, meaning in GAUGES.items():
            yield GaugeMetricFamily(f"subrosa_{name}", meaning, value=snapshot.gauges.get(name, 0))
        for name, meaning in HISTOGRAMS.items():
            yield _histogram(f"subrosa_{name}", meaning, snapshot.histograms[name])
        labels = ["route", "verb", "status"]
        counts = CounterMetricFamily(_REQUESTS, "Requests that were answered", labels=labels)
        seconds = CounterMetricFamily(_REQUEST_SECONDS, "How long they took together", labels=labels)
        for asked, answered in snapshot.requests.items():
            counts.add_metric(asked, answered.answers)
            seconds.add_metric(asked, answered.milliseconds / 1000)
        yield from (counts, seconds)


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        """What was collected already."""
        return self._metrics


def _histogram(name: str, meaning: str, spread: Spread) -> Metric:
    buckets, below = [], 0
    for bound, count in zip([*map(str, spread.bounds), "+Inf"], spread.counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    return HistogramMetricFamily(name, meaning, buckets=buckets, sum_value=spread.total)


def _seen(deployment: Deployment) -> Iterator[Metric]:
    facts = deployment.database
    values: dict[str, float | None] = dict.fromkeys(_FACTS) | {
        "subrosa_facts_known": float(deployment.known),
        "subrosa_parked_envelopes": deployment.parked,
    }
    if facts is not None:
        values |= {
            "subrosa_database_bytes": facts.bytes,
            "subrosa_database_wal_bytes": facts.wal_bytes,
            "subrosa_database_connections": facts.connections,
            "subrosa_database_max_connections": facts.max_connections,
            "subrosa_database_lag_seconds": facts.lag_seconds,
        }
    for name, value in values.items():
        if value is not None:
            yield GaugeMetricFamily(name, _FACTS[name], value=value)
    nodes = GaugeMetricFamily(_NODES, "Relay processes of the last hour by their state", labels=["state"])
    for state, count in deployment.nodes.items():
        nodes.add_metric([state], count)
    free = GaugeMetricFamily(_FREE, "Free bytes of a disk", labels=["disk"])
    size = GaugeMetricFamily(_SIZE, "Bytes of a disk", labels=["disk"])
    for name, disk in deployment.disks.items():
        free.add_metric([name], disk.free)
        size.add_metric([name], disk.size)
    yield from (nodes, free, size)


@asynccontextmanager
async def metrics_server(exporter: Exporter, host: str, port: int, *, shared: bool = False) -> AsyncIterator[int]:
    """Answer ``GET /metrics`` while the block lasts; gives the port. ``shared``: the process that this one replaces may have it still.

    Raises:
        StartupError: the address cannot be had.
    """

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD") or request.raw_path.partition("?")[0] != PATH:
            return web.Response(status=404)
        return web.Response(body=await exporter.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    runner = web.ServerRunner(HttpServer(answer, _refused, Bounds(_LARGEST_BODY)), shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, reuse_port=shared or None).start()
        except OSError as error:
            raise StartupError(f"cannot listen on the port of the metrics: {error.strerror}") from None
        yield runner.addresses[0][1]
    finally:
        with suppress(Exception):
            await runner.cleanup()


def _refused(status: HTTPStatus) -> web.Response:
    return web.Response(status=status)
