"""What a relay process has done since it began, in numbers: counted in place where it happens, read every few seconds.

Counting costs an addition: no name is looked up and no label made for a message. What is read is a ``Snapshot``: it goes into the
row of this process (``relay.nodes``), to the operator's console, and to Prometheus (``relay.metrics_server``). A snapshot holds counts,
routes by their template and nothing that names anybody.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

COMMIT_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)  # seconds
DELIVERY_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)  # seconds

# Whatever a snapshot may hold, and what each of it is. What is not named here is in no figure, no metric and no page.
COUNTERS: Final[Mapping[str, str]] = {
    "envelopes_stored": "Envelopes that were committed",
    "envelopes_delivered": "Envelopes that were written to a socket, repetitions included",
    "envelopes_acknowledged": "Envelopes that were forgotten because their device has them",
    "envelopes_parked": "Envelopes that failed too often and stop nobody any more",
    "commit_failures": "Batches of sends that were not committed, or perhaps not",
    "acknowledgement_failures": "Batches of acknowledgements that were not committed, or perhaps not",
    "delivery_failures": "Sockets that were closed by a fault of the relay",
    "redis_failures": "Notices, subscriptions and levels that Redis did not take or give",
    "pool_waits": "Times that somebody had to wait for a connection to the database",
    "sweeps": "Sweeps of what has expired",
    "sweep_failures": "Sweeps that failed",
    "swept_rows": "Rows that sweeps have forgotten",
    "background_failures": "Parts of the process that have ended by a fault",
}
GAUGES: Final[Mapping[str, str]] = {
    "ready": "Whether the process should be sent requests",
    "sockets": "Chat sockets that are open",
    "sends_waiting": "Sends that wait for a commit",
    "redis_away": "Whether Redis is configured and cannot be reached",
}
HISTOGRAMS: Final[Mapping[str, str]] = {
    "commit_seconds": "How long a batch of sends took to commit",
    "delivery_seconds": "From when a relay took an envelope until it wrote it to a socket that waits for nothing else",
}


class Histogram:
    """How often a value was at most each of ``bounds``, which ascend, or greater than all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Figures:
    """The counters of one process. Whoever has something to count adds to them; see ``COUNTERS`` for what each means."""

    envelopes_stored: int = 0
    envelopes_delivered: int = 0
    envelopes_acknowledged: int = 0
    envelopes_parked: int = 0
    commit_failures: int = 0
    acknowledgement_failures: int = 0
    delivery_failures: int = 0
    redis_failures: int = 0
    pool_waits: int = 0
    sweeps: int = 0
    sweep_failures: int = 0
    swept_rows: int = 0
    background_failures: int = 0
    commit_seconds: Histogram = field(default_factory=lambda: Histogram(COMMIT_BOUNDS))
    delivery_seconds: Histogram = field(default_factory=lambda: Histogram(DELIVERY_BOUNDS))

    def snapshot(
        self, gauges: Mapping[str, int] | None = None, requests: Mapping["Asked", "Answered"] | None = None
    ) -> "Snapshot":
        """What stands now, with what others measure and what ``relay.traffic`` has counted."""
        return Snapshot(
            {name: getattr(self, name) for name in COUNTERS},
            dict(gauges or {}),
            {name: Spread.of(getattr(self, name)) for name in HISTOGRAMS},
            dict(requests or {}),
        )


class Asked(NamedTuple):
    """A kind of request: the template of its route, its verb, and the class of the answer's status: ``2xx``."""

    route: str
    verb: str
    status: str


class Answered(NamedTuple):
    """How many there were, and how many milliseconds they took together."""

    answers: int
    milliseconds: float


class Spread(NamedTuple):
    """A histogram as it was: ``counts`` has one more than ``bounds``; ``total`` is the sum of all values."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @classmethod
    def of(cls, histogram: Histogram) -> "Spread":
        """What stands now."""
        return cls(histogram.bounds, tuple(histogram.counts), round(histogram.total, 6))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The figures of one process, or of several together, at one time. All of it only grows, except ``gauges``."""

    counters: Mapping[str, int] = field(default_factory=dict)
    gauges: Mapping[str, int] = field(default_factory=dict)
    histograms: Mapping[str, Spread] = field(default_factory=dict)
    requests: Mapping[Asked, Answered] = field(default_factory=dict)

    def as_document(self) -> dict[str, Any]:
        """The same as JSON: ``counters``, ``gauges``, ``histograms`` with ``bounds``, ``counts`` and ``total``, and ``requests``.

        The latter are a list of rows: route, verb, class of status, how many, milliseconds.
        """
        return {
            "counters": dict(self.counters),
            "gauges": dict(self.gauges),
            "histograms": {
                name: {"bounds": list(each.bounds), "counts": list(each.counts), "total": each.total}
                for name, each in self.histograms.items()
            },
            "requests": [[*asked, *answered] for asked, answered in self.requests.items()],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Snapshot":
        """Undo :meth:`as_document`; what another version says and this one does not know is left out.

        Raises:
            ValueError: not such a document.
        """
        try:
            return cls(
                {name: int(value) for name, value in document["counters"].items() if name in COUNTERS},
                {name: int(value) for name, value in document["gauges"].items() if name in GAUGES},
                {name: _spread(each) for name, each in document["histograms"].items() if name in HISTOGRAMS},
                {
                    Asked(str(route), str(verb), str(status)): Answered(int(count), float(milliseconds))
                    for route, verb, status, count, milliseconds in document["requests"]
                },
            )
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ValueError("not the figures of a relay") from None


def _spread(document: Mapping[str, Any]) -> Spread:
    bounds, counts = tuple(map(float, document["bounds"])), tuple(map(int, document["counts"]))
    if len(counts) != len(bounds) + 1:
        raise ValueError
    return Spread(bounds, counts, float(document["total"]))


def together(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum of several processes' figures. Histograms whose bounds differ, as those of two versions may, are not added."""
    counters: dict[str, int] = {}
    gauges: dict[str, int] = {}
    histograms: dict[str, Spread] = {}
    requests: dict[Asked, Answered] = {}
    for each in snapshots:
        for sums, values in ((counters, each.counters), (gauges, each.gauges)):
            for name, value in values.items():
                sums[name] = sums.get(name, 0) + value
        for name, spread in each.histograms.items():
            histograms[name] = _added(histograms[name], spread) if name in histograms else spread
        for asked, answered in each.requests.items():
            before = requests.get(asked, Answered(0, 0.0))
            requests[asked] = Answered(before.answers + answered.answers, before.milliseconds + answered.milliseconds)
    return Snapshot(counters, gauges, histograms, requests)


def _added(one: Spread, other: Spread) -> Spread:
    if one.bounds != other.bounds:
        return one
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return Spread(one.bounds, counts, one.total + other.total)


def status_class(status: int) -> str:
    """``2xx`` for 204."""
    return f"{status // 100}xx"
