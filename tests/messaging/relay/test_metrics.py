"""Figures: they only add, what is read of them can be written down and read again, and those of several processes are summed."""

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, lists

from messaging.relay.metrics import (
    COMMIT_BOUNDS,
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    Answered,
    Asked,
    Figures,
    Histogram,
    Snapshot,
    Spread,
    together,
)
from messaging.relay.traffic import Traffic

SENT = Asked("/v1/messages/{service_id}", "PUT", "2xx")


def figures(*, stored: int = 0, commits: tuple[float, ...] = ()) -> Snapshot:
    made = Figures(envelopes_stored=stored)
    for seconds in commits:
        made.commit_seconds.add(seconds)
    return made.snapshot({"sockets": stored}, {SENT: Answered(stored, 2.5)})


def test_each_figure_says_what_it_is() -> None:
    assert {each.name for each in fields(Figures)} == COUNTERS.keys() | HISTOGRAMS.keys()


def test_a_value_counts_at_the_first_bound_that_it_does_not_exceed() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.1):
        histogram.add(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == pytest.approx(7.1)


@given(lists(floats(0, 100), max_size=20))
def test_no_value_is_lost(values: list[float]) -> None:
    histogram = Histogram(COMMIT_BOUNDS)
    for value in values:
        histogram.add(value)
    assert sum(histogram.counts) == len(values)


def test_a_snapshot_stands_still() -> None:
    made = Figures()
    before = made.snapshot()
    made.envelopes_stored += 1
    made.commit_seconds.add(0.1)
    assert before.counters["envelopes_stored"] == 0
    assert sum(before.histograms["commit_seconds"].counts) == 0


@given(integers(0, 2**60), lists(floats(0, 10), max_size=5))
def test_a_document_says_all_of_a_snapshot(stored: int, commits: list[float]) -> None:
    snapshot = figures(stored=stored, commits=tuple(commits))
    assert Snapshot.from_document(json.loads(json.dumps(snapshot.as_document()))) == snapshot


def test_what_only_a_newer_version_counts_is_left_out() -> None:
    document = figures(stored=1).as_document()
    document["counters"]["dreams"] = 5
    document["gauges"]["dreaming"] = 1
    document["histograms"]["dream_seconds"] = {"bounds": [1.0], "counts": [0, 1], "total": 2.0}
    assert Snapshot.from_document(document) == figures(stored=1)


@pytest.mark.parametrize(
    "broken", [{}, {"counters": 5}, {"histograms": {"commit_seconds": {"bounds": [1.0]}}}], ids=str
)
def test_what_are_no_figures_is_refused(broken: dict[str, object]) -> None:
    document = broken and {**figures().as_document(), **broken}
    with pytest.raises(ValueError, match="not the figures"):
        Snapshot.from_document(document)


def test_a_histogram_has_a_place_for_each_bound_and_one_more() -> None:
    document = figures().as_document()
    document["histograms"]["commit_seconds"]["counts"].append(0)
    with pytest.raises(ValueError, match="not the figures"):
        Snapshot.from_document(document)


def test_figures_of_several_processes_are_summed() -> None:
    both = together([figures(stored=1, commits=(0.1,)), figures(stored=2, commits=(0.1, 9))])
    assert both.counters["envelopes_stored"] == 3
    assert both.gauges == {"sockets": 3}
    assert both.requests == {SENT: Answered(3, 5.0)}
    assert sum(both.histograms["commit_seconds"].counts) == 3
    assert both.histograms["commit_seconds"].total == pytest.approx(9.2)


def test_histograms_of_two_versions_are_not_mixed() -> None:
    old = Snapshot(histograms={"commit_seconds": Spread((1.0,), (1, 0), 0.5)})
    new = Snapshot(histograms={"commit_seconds": Spread((2.0,), (1, 0), 0.5)})
    assert together([old, new]).histograms == old.histograms


def test_of_nobody_there_is_nothing() -> None:
    assert together([]) == Snapshot()


def test_requests_are_counted_since_the_beginning_whatever_was_reported() -> None:
    traffic = Traffic()
    traffic.count(SENT.route, "PUT", 200, 2.0)
    traffic.report()
    traffic.count(SENT.route, "PUT", 204, 3.0)
    traffic.count(SENT.route, "PUT", 429, 1.0)
    assert (
        traffic.totals() == traffic.totals() == {SENT: Answered(2, 5.0), SENT._replace(status="4xx"): Answered(1, 1.0)}
    )


def test_a_verb_that_somebody_made_up_is_in_no_figure() -> None:
    traffic = Traffic()
    traffic.count("unknown", "CANARY", 404, 1.0)
    assert list(traffic.totals()) == [Asked("unknown", "any", "4xx")]


def test_no_gauge_is_a_counter() -> None:
    assert not GAUGES.keys() & (COUNTERS.keys() | HISTOGRAMS.keys())
