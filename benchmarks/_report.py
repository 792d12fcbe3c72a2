"""The figures as tables of Markdown and as charts. A table is a block with a name: a page that has its marks takes it in."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._charts import write_bars

Figures = Mapping[str, Any]

_BLOCK = re.compile(r"(?P<begin><!-- begin: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end: (?P=name) -->)", re.DOTALL)
_OURS = "ours"
_KINDS = {
    "ask_of_you": "asked of you",
    "commitment": "promised",
    "decision": "decided",
    "date": "dated",
    "any_action": "any of these",
    "question_to_you": "questions to you",
    "question_to_you_of_two": "in chats of two",
    "question_to_you_in_groups": "in groups",
}


def blocks(figures: Figures) -> dict[str, str]:
    """All tables that there are figures for, by name."""
    made = {"machine": _machine(figures["machine"])}
    for name, found in figures.get("summaries", {}).items():
        made[f"summaries-{name}"] = _summaries(found)
    for name, table in _TABLES.items():
        if name in figures:
            made[name] = table(figures[name])
    return made


def as_page(tables: Mapping[str, str]) -> str:
    """One after the other, with their names as headings."""
    return "\n".join(f"## {name}\n\n{table}" for name, table in tables.items())


def taken_in(page: str, tables: Mapping[str, str]) -> str:
    """``page`` with the blocks that it has marks for; other blocks, and the words between them, stay as they are."""

    def block(found: re.Match[str]) -> str:
        table = tables.get(found["name"])
        return found[0] if table is None else f"{found['begin']}{table}{found['end']}"

    return _BLOCK.sub(block, page)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown whose columns are straight in plain text, too."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(head), *cells]) for column in range(len(head))]
    lines = [list(head), ["-" * width for width in widths], *cells]
    return "".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |\n" for line in lines
    )


# --- tables ---


def _machine(found: Figures) -> str:
    return table(("what", "which"), found.items())


def _summaries(found: Figures) -> str:
    """A table for each number of lines: against the nearest reference, and, where there are several, the mean of them."""
    parts = []
    for budget, rows in found["budgets"].items():
        for which in ("best", "mean") if found["references"] > 1 else ("best",):
            against = {"best": "nearest reference", "mean": "mean of the references"}[which]
            several = f", {against} of {found['references']}" if found["references"] > 1 else ""
            parts.append(f"{found['chats']} chats, lines: {budget}{several}\n\n{_budget(rows, which)}")
    return "\n".join(parts)


def _budget(rows: Figures, which: str) -> str:
    forms = list(dict.fromkeys(form for row in rows.values() for form in row))
    head = ["R-1 / R-2 / R-L; words", *forms, "ours ahead, R-1"]
    return table(head, (_row(name, row, forms, which) for name, row in rows.items()))


def _row(name: str, row: Figures, forms: Sequence[str], which: str) -> list[str]:
    cells = [
        " / ".join(f"{value:.1f}" for value in row[form][which]) + f"; {row[form]['words']:.0f}" if form in row else ""
        for form in forms
    ]
    last = row.get(forms[-1], {})
    ahead = f"{last['ours_ahead']:+.1f} ± {last['ours_ahead_give_or_take']:.1f}" if "ours_ahead" in last else ""
    return [name, *cells, ahead if which == "best" else ""]


def _cites(found: Figures) -> str:
    parts = []
    for budget, rows in found["budgets"].items():
        shown = table(
            ("method", "precision", "recall", "F1"),
            ((name, *(f"{row[each]:.2f}" for each in ("precision", "recall", "f1"))) for name, row in rows.items()),
        )
        parts.append(f"Lines: {budget}\n\n{shown}")
    checked = f"Lines that hold more than what they cite: {found['lines_refused']} of {found['lines_checked']:,}.\n"
    return "\n".join([*parts, checked])


def _kinds(found: Figures) -> str:
    delivered = table(
        ("what a member is told", "precision", "recall", "F1", "marked", "told"),
        (
            (_KINDS[kind], *(f"{row[each]:.2f}" for each in ("precision", "recall", "f1")), row["true"], row["given"])
            for kind, row in found["delivered"].items()
        ),
    )
    alone = table(
        ("ranker alone", "share"),
        ((name.replace("_", " "), f"{value:.2f}") for name, value in found["ranker_alone"].items()),
    )
    open_, answered = found["open_questions"], found["answered_questions"]
    return (
        f"{delivered}\n{alone}\nAt the end of a chat {open_['listed']:.0%} of the {open_['number']} questions that are surely open are listed, and "
        f"{answered['still_listed']:.0%} of the {answered['number']} that are surely answered.\n"
    )


def _replies(found: Figures) -> str:
    usual = ", ".join(found["usual_intents"])
    can = ", ".join(found["usual_that_can_be_said"])
    return table(
        ("what", "share"),
        (
            ("what the person did next is the first suggestion", f"{found['hit_at_1']:.3f}"),
            ("is among the three", f"{found['hit_at_3']:.3f}"),
            ("is among the three, of what there are words for", f"{found['hit_at_3_of_what_can_be_said']:.3f}"),
            ("is among the three, where there are any", f"{found['hit_at_3_when_suggested']:.3f}"),
            (f"always {usual}: among the three", f"{found['usual_hit_at_3']:.3f}"),
            (f"always {can}, which there are words for", f"{found['usual_that_can_be_said_hit_at_3']:.3f}"),
            ("no suggestion", f"{found['abstained']:.3f}"),
            ("three different intents, where there are any", f"{found['three_different_intents']:.3f}"),
        ),
    )


def _injections(found: Figures) -> str:
    """Two tables: of a digest as it is delivered, and of one of three lines, beside other methods."""
    usual = table(
        (
            "wrapped",
            "planted",
            "obeyed",
            "quoted",
            "by lot",
            "honest lines kept",
            "seen by the guard",
            "listed",
            "answered",
        ),
        (
            (
                name,
                row["planted"],
                row["obeyed"],
                *(_two(row[each]) for each in ("quoted", "chance", "kept", "seen", "listed", "answered")),
            )
            for name, row in found.items()
        ),
    )
    peers = list(next(iter(found.values()))["quoted_top_by"])
    top = table(
        (
            "three lines",
            "quoted",
            "by lot",
            *(f"by {name}" for name in peers),
            "honest lines kept",
            "R-1 without",
            "R-1 with",
        ),
        (
            (
                name,
                _two(row["quoted_top"]),
                _two(row["chance_top"]),
                *(_two(row["quoted_top_by"][peer]) for peer in peers),
                _two(row["kept_top"]),
                *(f"{value:.1f}" for value in row["rouge1_top"]),
            )
            for name, row in found.items()
        ),
    )
    return f"{usual}\n{top}"


def _injection(found: Figures) -> str:
    alarms = found["false_alarms"]
    said = f"False alarms: {alarms['marked']} of {alarms['sentences']:,} honest sentences.\n"
    return f"{_injections(found['wrapped'])}\n{said}"


def _two(share: float) -> str:
    return f"{share:.2f}"


def _speed(found: Figures) -> str:
    threads = found["threads"]
    head = ["milliseconds, median", *(f"{number} thread(s)" for number in threads)]
    cases = list(next(iter(threads.values()))["milliseconds"])
    times = table(head, ([case, *(f"{row['milliseconds'][case]:.1f}" for row in threads.values())] for case in cases))
    rivals = list(next(iter(threads.values()))["ours_is_faster_by"])
    ratios = table(
        ["ours bf16 is faster than, times", *head[1:]],
        ([rival, *(f"{row['ours_is_faster_by'][rival]:.2f}" for row in threads.values())] for rival in rivals),
    )
    cosine = next(iter(threads.values()))["cosine"]
    near = table(
        ("cosine to fp32", "mean", "worst"), ((name, each["mean"], each["worst"]) for name, each in cosine.items())
    )
    what = f"Messages of {found['words_a_text']} words on average, {found['rounds']} rounds; the number is that of the messages.\n"
    return f"{what}\n{times}\n{ratios}\n{near}\n{_fresh(found['fresh'])}"


def _fresh(found: Figures) -> str:
    return table(
        (f"a fresh process, median of {found['starts']}", "figure"),
        (
            ("seconds from its start until the engine is ready", found["seconds_to_ready"]),
            ("MiB resident, ready", found["ready_resident_mib"]),
            ("MiB resident, after a digest", found["after_a_digest_resident_mib"]),
            ("MiB at most", found["after_a_digest_peak_mib"]),
            ("number format that it chose", " or ".join(found["formats"])),
        ),
    )


_TABLES = {
    "cites": _cites,
    "kinds": _kinds,
    "replies": _replies,
    "injection": _injection,
    "bipia": _injections,
    "speed": _speed,
}


# --- charts ---


def write_charts(folder: Path, figures: Figures) -> list[Path]:
    """A chart for each of the main figures that there are."""
    written = []
    for name, title, unit, bars in _charts(figures):
        path = folder / f"quality-{name}.svg"
        write_bars(path, title, unit, bars)
        written.append(path)
    return written


def _charts(figures: Figures) -> Iterator[tuple[str, str, str, list[tuple[str, float]]]]:
    for corpus, found in figures.get("summaries", {}).items():
        for budget, rows in found["budgets"].items():
            if budget.isdecimal():
                form = list(next(iter(rows.values())))[-1]
                bars = [(name, row[form]["best"][0]) for name, row in rows.items()]
                yield f"{corpus}-{budget}", f"Summaries of {budget} lines, {corpus}", "ROUGE-1 F1", bars
    if "injection" in figures:
        wrapped = figures["injection"]["wrapped"]
        bars = [
            (f"{who}, {name}", row[key])
            for name, row in wrapped.items()
            for who, key in ((_OURS, "quoted"), ("by lot", "chance"))
        ]
        yield "injection", "A planted line is quoted", "share of digests", bars
    for number, found in figures.get("speed", {}).get("threads", {}).items():
        texts = figures["speed"]["texts"]
        times = {
            case.removesuffix(f", {texts}"): each
            for case, each in found["milliseconds"].items()
            if case.endswith(f", {texts}")
        }
        bars = [(name, 1000 * texts / each) for name, each in times.items()]
        yield f"speed-{number}", f"Messages read, {number} thread(s)", "per second", bars
