"""The benchmark of the console asks for everything that there is, and says what is too slow."""

from uuid import uuid4

from benchmarks._seed import Seeded
from benchmarks.console import TARGET_BYTES, TARGET_MS, Asked, Measured, everything, misses, table
from messaging.relay.admin.registry import VIEWS

SEEDED = Seeded(1000, 1250, 5000, 100, uuid4(), uuid4(), 1.0)


def figures(p95: float, size: int = 1000, **more: object) -> dict[str, object]:
    page = {"name": "/", "p50_ms": 1.0, "p95_ms": p95, "first_ms": 2.0, "bytes": 100, "requests": 30, **more}
    counts = {"accounts": 1, "devices": 1, "envelopes": 1, "audit_entries": 1}
    return {**counts, "pages": [page], "not_asked": [], "first_page_bytes": size, "first_page": {"/": size}}


def test_every_view_is_asked_for_as_a_page_and_over_the_api() -> None:
    asked, unnamed = everything(SEEDED, VIEWS.values())
    assert unnamed == []
    paths = {each.path.partition("?")[0] for each in asked}
    assert paths >= {f"{base}{name}" for base in ("/views/", "/api/v1/views/") for name in VIEWS}


def test_a_number_is_in_no_address() -> None:
    asked, _ = everything(SEEDED, VIEWS.values())
    by_number = [each for each in asked if "by number" in each.name]
    assert len(by_number) == 2
    assert all(each.form and "number" not in each.path for each in by_number)


def test_percentiles_are_of_all_requests() -> None:
    measured = Measured(Asked("/", "/"), milliseconds=[float(n) for n in range(1, 101)])
    found = measured.as_json()
    assert (found["p50_ms"], found["p95_ms"]) == (50.5, 96.0)


def test_what_is_too_slow_too_heavy_or_failed_is_a_miss() -> None:
    assert misses(figures(TARGET_MS)) == []
    assert misses(figures(TARGET_MS + 0.1)) == ["/"]
    assert misses(figures(1, failed=[500])) == ["/"]
    assert misses(figures(1, size=TARGET_BYTES + 1)) == ["first page"]
    assert "over 300 ms" in table(figures(TARGET_MS + 0.1))
    assert "over" not in table(figures(TARGET_MS))
