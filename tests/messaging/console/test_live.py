"""The last hour in figures."""

import asyncio

import pytest

from messaging.console.live import Beat, Live, Point, Span, point_of, quantile, read_beats, span_between
from messaging.relay.database import Database
from messaging.relay.metrics import Answered, Asked, Figures, Snapshot, Spread
from messaging.relay.nodes import Heartbeat
from tests.consoles import StartedConsole


def said(stored: int, *delays: float, sockets: int = 0, faults: int = 0) -> Snapshot:
    figures = Figures(envelopes_stored=stored)
    for delay in delays:
        figures.delivery_seconds.add(delay)
    requests = {Asked("/v1/messages", "PUT", "5xx"): Answered(faults, 1.0)} if faults else {}
    return figures.snapshot({"sockets": sockets}, requests)


def test_what_a_process_did_is_the_difference_of_its_last_two_sayings() -> None:
    span = span_between(Beat(10_000, said(100, 0.2)), Beat(15_000, said(150, 0.2, 0.002, sockets=7)))
    assert (span.seconds, span.did.counters["envelopes_stored"], span.did.gauges["sockets"]) == (5.0, 50, 7)
    assert sum(span.did.histograms["delivery_seconds"].counts) == 1


def test_rates_of_processes_add_up_although_they_speak_at_different_times() -> None:
    point = point_of(1, 2, [Span(5.0, said(50, sockets=3)), Span(4.0, said(20, sockets=4, faults=8))])
    assert (point.stored, point.sockets, point.errors, point.requests) == (15.0, 7, 2.0, 2.0)


def test_there_is_nothing_to_say_before_somebody_has_spoken_twice() -> None:
    assert point_of(1, 0, []) == Point(1, 0)
    assert point_of(1, 1, [Span(0.0, said(5))]) == Point(1, 1)


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ((10, 0, 0), 0.5, 0.5),
        ((0, 10, 0), 0.5, 1.5),
        ((5, 5, 0), 0.95, 1.9),
        ((0, 0, 4), 0.5, 2.0),
        ((0, 0, 0), 0.5, None),
    ],
)
def test_a_quantile_lies_within_its_bucket(counts: tuple[int, ...], share: float, value: float | None) -> None:
    assert quantile(Spread((1.0, 2.0), counts, 0.0), share) == value


async def said_at(database: Database) -> list[int]:
    async with database.read() as db:
        return [beat.at for beat in (await read_beats(db)).values()]


async def test_the_history_comes_from_what_processes_write(console: StartedConsole) -> None:
    figures, moment = Figures(), 1_000

    def now() -> int:
        return moment

    database = console.database
    beat = Heartbeat(
        database, "one", "1", lambda: figures.snapshot({"sockets": 3}), asyncio.Event(), asyncio.Event(), lambda: None
    )
    live = Live(database, now)
    await live.read()
    await beat.beat()
    moment = 5_000
    await live.read()
    figures.envelopes_stored += 10
    first = await said_at(database)
    while await said_at(database) == first:  # the clock counts milliseconds, and two sayings at once are no span
        await beat.beat()
    moment = 10_000
    await live.read()
    assert [point.nodes for point in live.points] == [0, 1, 1]
    assert [point.stored for point in live.points][:2] == [None, None]
    assert (live.points[2].stored or 0) > 0
    assert live.series(5_000)["at"] == [10_000]
    assert live.series()["sockets"] == [None, None, 3]
