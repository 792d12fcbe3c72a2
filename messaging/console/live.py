"""The last hour of the whole server in figures, for charts: what all relay processes say of themselves, read every few seconds.

A process says every few seconds what it has done since it began; what it does in a second is the difference between its last two sayings.
The hour is in memory and begins anew with the console: Prometheus keeps figures for longer (``relay.metrics_server``).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.database import Database
from messaging.relay.metrics import Snapshot, Spread, together
from messaging.relay.node_tables import NodeRow
from messaging.relay.nodes import LATELY_MILLISECONDS, MAX_NODES, State, database_time
from messaging.serving.logs import get_logger

READ_SECONDS: Final = 5
KEPT: Final = 3600 // READ_SECONDS  # points: an hour
_FAILURES: Final = (
    "commit_failures",
    "acknowledgement_failures",
    "delivery_failures",
    "redis_failures",
    "sweep_failures",
    "background_failures",
)


@dataclass(frozen=True, slots=True)
class Point:
    """The server at one time. ``at`` is in milliseconds since 1970; rates are in a second, delays in seconds.

    A value is ``None`` where there is nothing to say: no process, or nothing was delivered.
    """

    at: int
    nodes: int
    stored: float | None = None
    delivered: float | None = None
    acknowledged: float | None = None
    delivery_p50: float | None = None
    delivery_p95: float | None = None
    commit_p95: float | None = None
    errors: float | None = None
    requests: float | None = None
    sockets: int | None = None
    sends_waiting: int | None = None


SERIES: Final = tuple(field.name for field in fields(Point))


@dataclass(frozen=True, slots=True)
class Beat:
    """What a process said of itself at ``at``, milliseconds since 1970."""

    at: int
    said: Snapshot


@dataclass(frozen=True, slots=True)
class Span:
    """What a process did in ``seconds``."""

    seconds: float
    did: Snapshot


def span_between(first: Beat, last: Beat) -> Span:
    """What it did between two sayings; gauges are those of the last one."""
    counters = {name: value - first.said.counters.get(name, 0) for name, value in last.said.counters.items()}
    histograms = {
        name: _since(spread, first.said.histograms.get(name)) for name, spread in last.said.histograms.items()
    }
    requests = {
        asked: type(answered)(
            answered.answers - (first.said.requests[asked].answers if asked in first.said.requests else 0),
            answered.milliseconds - (first.said.requests[asked].milliseconds if asked in first.said.requests else 0.0),
        )
        for asked, answered in last.said.requests.items()
    }
    return Span((last.at - first.at) / 1000, Snapshot(counters, last.said.gauges, histograms, requests))


def point_of(at: int, nodes: int, spans: Iterable[Span]) -> Point:
    """The server from what each of its processes did lately."""
    known = [span for span in spans if span.seconds > 0]
    if not known:
        return Point(at, nodes)
    every = together(span.did for span in known)

    def rate(*names: str) -> float:
        return round(sum(span.did.counters.get(name, 0) / span.seconds for span in known for name in names), 3)

    faults = sum(
        answered.answers / span.seconds
        for span in known
        for asked, answered in span.did.requests.items()
        if asked.status == "5xx"
    )
    asked = sum(answered.answers / span.seconds for span in known for answered in span.did.requests.values())
    delivery, commit = every.histograms.get("delivery_seconds"), every.histograms.get("commit_seconds")
    return Point(
        at,
        nodes,
        stored=rate("envelopes_stored"),
        delivered=rate("envelopes_delivered"),
        acknowledged=rate("envelopes_acknowledged"),
        delivery_p50=quantile(delivery, 0.5),
        delivery_p95=quantile(delivery, 0.95),
        commit_p95=quantile(commit, 0.95),
        errors=round(rate(*_FAILURES) + faults, 3),
        requests=round(asked, 3),
        sockets=every.gauges.get("sockets"),
        sends_waiting=every.gauges.get("sends_waiting"),
    )


def quantile(spread: Spread | None, share: float) -> float | None:
    """The value below which ``share`` of all are, as well as a histogram can tell; ``None`` of none.

    Within a bucket values are taken to lie evenly; what is beyond the last bound counts as that.
    """
    total = 0 if spread is None else sum(spread.counts)
    if spread is None or total <= 0:
        return None
    wanted, before, lower = share * total, 0, 0.0
    for bound, count in zip(spread.bounds, spread.counts, strict=False):
        if count > 0 and before + count >= wanted:
            return round(lower + (bound - lower) * (wanted - before) / count, 6)
        before, lower = before + count, bound
    return spread.bounds[-1]


class Live:
    """The history. ``run`` keeps it up to date."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now
        self._last: dict[UUID, Beat] = {}
        self._spans: dict[UUID, Span] = {}
        self._points: deque[Point] = deque(maxlen=KEPT)

    @property
    def points(self) -> tuple[Point, ...]:
        """The last hour, oldest first."""
        return tuple(self._points)

    async def read(self) -> None:
        """Look at what all processes say, and add a point."""
        async with self._database.read() as db:
            beats = await read_beats(db)
        for node, beat in beats.items():
            before = self._last.get(node)
            if before is not None and beat.at > before.at:
                self._spans[node] = span_between(before, beat)
        self._last = beats
        self._spans = {node: span for node, span in self._spans.items() if node in beats}
        self._points.append(point_of(self._now(), len(beats), self._spans.values()))

    async def run(self) -> None:
        """Look every few seconds until cancelled."""
        while True:
            try:
                await self.read()
            except Exception as error:  # noqa: BLE001 - a gap in a chart; the next look is seconds away
                get_logger().warning("figures_not_read", error=type(error).__name__)
            await asyncio.sleep(READ_SECONDS)

    def series(self, since: int = 0) -> Mapping[str, list[float | int | None]]:
        """The points after ``since``, as one list for each of ``SERIES``."""
        later = [point for point in self._points if point.at > since]
        return {name: [getattr(point, name) for point in later] for name in SERIES}


async def read_beats(db: AsyncConnection) -> dict[UUID, Beat]:
    """What each process that was seen lately has said last. One of another version is understood as far as may be."""
    row, beats = NodeRow, {}
    seen = row.seen_at >= await database_time(db) - LATELY_MILLISECONDS
    query = select(row.id, row.seen_at, row.figures).where(seen, row.state != State.ENDED.value).limit(MAX_NODES)
    for node, at, document in await db.execute(query):
        try:
            beats[node] = Beat(at, Snapshot.from_document(document))
        except ValueError:
            continue
    return beats


def _since(spread: Spread, before: Spread | None) -> Spread:
    if before is None or before.bounds != spread.bounds:
        return spread
    counts = tuple(now - then for now, then in zip(spread.counts, before.counts, strict=True))
    return Spread(spread.bounds, counts, spread.total - before.total)
