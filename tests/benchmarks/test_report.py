"""Tables are straight, a page takes in its blocks and keeps its words, and charts show what is in the figures."""

from pathlib import Path

from ai_enclave.engine.train.corpus import read_chat
from benchmarks._injection import OWN_LINES, false_alarms, injections
from benchmarks._quality import OWN_BUDGET, cites, kinds, replies, summaries
from benchmarks._report import as_page, blocks, table, taken_in, write_charts
from tests.ai_enclave.features.threads import NoEngine
from tests.benchmarks.samples import CHAT, a_sample

PAGE = "Words.\n<!-- begin: replies -->\nold\n<!-- end: replies -->\nMore.\n<!-- begin: speed -->\nkept\n<!-- end: speed -->\n"


def figures() -> dict[str, object]:
    samples = [a_sample(), a_sample(id="family-010")]
    row = {
        "milliseconds": {"ours bf16, 200": 200.0, "ours bf16, 1": 3.0},
        "ours_is_faster_by": {"onnxruntime fp32, 200": 1.9},
    }
    return {
        "machine": {"engine": "none"},
        "summaries": {"held-out": summaries(NoEngine(), samples, (3, OWN_BUDGET), "test")},
        "cites": cites(NoEngine(), samples),
        "kinds": kinds(NoEngine(), samples),
        "replies": replies(NoEngine(), samples, [read_chat(CHAT)]),
        "injection": {
            "wrapped": injections(NoEngine(), samples, OWN_LINES, "test"),
            "false_alarms": false_alarms(samples),
        },
        "speed": {
            "texts": 200,
            "words_a_text": 9.5,
            "rounds": 15,
            "threads": {"1": {**row, "cosine": {"ours bf16": {"mean": 0.9999, "worst": 0.9998}}}},
            "fresh": {
                "starts": 1, "seconds_to_ready": 2.5, "ready_resident_mib": 300, "after_a_digest_resident_mib": 310,
                "after_a_digest_peak_mib": 400, "formats": ["bf16"],
            },
        },
    }  # fmt: skip


def test_a_table_is_straight() -> None:
    assert table(("a", "long"), [("x", 1), ("yyy", "z")]) == (
        "| a   | long |\n| --- | ---- |\n| x   | 1    |\n| yyy | z    |\n"
    )


def test_a_page_takes_in_the_blocks_that_there_are_and_keeps_the_rest() -> None:
    taken = taken_in(PAGE, {"replies": "new\n", "cites": "not asked for\n"})
    assert taken == PAGE.replace("old", "new")
    assert taken_in(taken, {"replies": "old\n"}) == PAGE


def test_all_figures_have_a_table_and_the_main_ones_a_chart(tmp_path: Path) -> None:
    found = figures()
    tables = blocks(found)
    assert set(tables) == {"machine", "summaries-held-out", "cites", "kinds", "replies", "injection", "speed"}
    page = as_page(tables)
    assert all(f"## {name}\n" in page for name in tables)
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in lines)
    names = {path.name for path in write_charts(tmp_path, found)}
    assert names == {"quality-held-out-3.svg", "quality-injection.svg", "quality-speed-1.svg"}
    assert (
        "1,000" in (tmp_path / "quality-speed-1.svg").read_text()
        or "1e+03" in (tmp_path / "quality-speed-1.svg").read_text()
    )


def test_the_page_of_this_version_has_marks_for_every_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "quality.md").read_text(encoding="utf-8")
    missing = [name for name in blocks(figures()) if f"<!-- begin: {name} -->" not in page]
    assert missing == []
