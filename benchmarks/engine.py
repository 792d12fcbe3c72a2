"""How good and how fast the assistant's engine is, beside other ways to do the same.

    python3 dev.py bench engine                              on the project's own chats that are held out; a few minutes
    python3 dev.py bench engine --quick                      a smoke test: a few chats, figures that mean nothing
    python3 dev.py bench engine --only replies speed         some parts
    python3 dev.py bench engine --only public --dialogsum ~/dialogsum.test.jsonl
    python3 dev.py bench engine --out var/bench --json var/bench/engine.json

It measures: summaries (ROUGE, beside LEAD, LONGEST, LSA and LexRank, each put into words in the same ways), cites (whether lines rest on
the messages that matter, and say no more than these), kinds (asks, questions, promises, dates, decisions), replies (whether what a
person did next was suggested), injection (what planted lines do) and speed (beside onnxruntime with the same weights; memory; start).

Public corpora are read from where you keep them; none is shipped, and nothing is trained on one. Ratios and differences of one run mean
more than figures of two. docs/quality.md says what each figure means, and has those of this version.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_enclave.engine import EmbeddedEngine
    from benchmarks._corpora import Sample

PARTS = ("summaries", "cites", "kinds", "replies", "injection", "speed", "public")
CORPORA = ("samsum", "dialogsum", "qmsum")
DOCS = Path(__file__).parents[1] / "docs"
QUICK_CHATS = 1  # of each language and corpus
_LIBRARIES = ("torch", "onnxruntime", "sumy", "rouge-score")


class CannotWrite(Exception):
    """A file or folder cannot be written; one sentence says which, and why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write and print; 2 if something that was asked for is not there."""
    options = _parser().parse_args(argv)
    from ai_enclave.engine import EngineError
    from ai_enclave.engine.train.corpus import BadChat
    from benchmarks._corpora import BadCorpus

    try:
        _check_targets(options)
        figures = measure(options)
    except (BadCorpus, BadChat, CannotWrite, EngineError) as error:
        print(f"bench engine: {error}", file=sys.stderr)
        return 2
    _write(options, figures)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev.py bench engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--samsum", type=Path, metavar="PATH", help="SAMSum's test set: JSON, JSONL or CSV, or its folder"
    )
    parser.add_argument("--dialogsum", type=Path, metavar="PATH", help="DialogSum: dialogsum.test.jsonl, or its folder")
    parser.add_argument("--qmsum", type=Path, metavar="PATH", help="QMSum: a folder of JSON files, or one file")
    parser.add_argument("--bipia", type=Path, metavar="PATH", help="BIPIA: text_attack_test.json, or a folder with it")
    parser.add_argument("--limit", type=_positive, metavar="N", help="at most N chats of each corpus")
    parser.add_argument("--quick", action="store_true", help="a smoke test of all parts, under 20 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, for machines")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="tables (engine.md) and charts (SVG)")
    parser.add_argument(
        "--docs", action="store_true", help="put tables and charts into docs/, for those who publish a version"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("it has to be a number from 1 on")
    return int(text)


def _check_targets(options: argparse.Namespace) -> None:
    """Now, and not after minutes of measuring.

    Raises:
        CannotWrite: there is no writing where something should go.
    """
    try:
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.open("a").close()
    except OSError as error:
        raise CannotWrite(f"{error.filename} cannot be written: {error.strerror}") from None


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures that are asked for.

    Raises:
        BadCorpus: a public corpus is not there, or not what it should be.
        EngineError: the engine's weights are missing.
    """
    from ai_enclave.engine import EmbeddedEngine
    from benchmarks import _corpora as corpora

    limit = QUICK_CHATS if options.quick else options.limit
    own = corpora.held_out()
    public: dict[str, tuple[Sample, ...]] = {}
    attacks: tuple[str, ...] = ()
    if "public" in options.only:
        readers = {"samsum": corpora.read_samsum, "dialogsum": corpora.read_dialogsum, "qmsum": corpora.read_qmsum}
        given = {name: getattr(options, name) for name in CORPORA if getattr(options, name) is not None}
        public = {name: corpora.some(readers[name](path), limit) for name, path in given.items()}
        attacks = corpora.read_bipia(options.bipia) if options.bipia else ()
    english = corpora.some([sample for sample in own if sample.lang == "en"], limit)
    others = corpora.some([sample for sample in own if sample.lang != "en"], limit)
    reader = EmbeddedEngine.load()
    figures: dict[str, Any] = {"machine": _machine(reader, english, others)}
    if own_part := [part for part in options.only if part not in ("speed", "public")]:
        figures |= _own(reader, english, others, own_part)
    for name, samples in public.items():
        figures.setdefault("summaries", {})[name] = _public(reader, name, samples)
    if attacks:
        from benchmarks._injection import injections

        figures["bipia"] = injections(reader, english, attacks, "BIPIA")
    if "speed" in options.only:
        from benchmarks._speed import speed

        texts = [message.text for sample in own if sample.lang == "en" for message in sample.thread.messages]
        figures["speed"] = speed(texts, quick=options.quick)
    return figures


def _own(
    reader: "EmbeddedEngine", english: Sequence["Sample"], others: Sequence["Sample"], parts: Sequence[str]
) -> dict[str, Any]:
    """The project's own chats. Words are compared in English, and apart from it; marks in all languages together."""
    from benchmarks import _injection, _quality
    from benchmarks._corpora import trained_on

    everything = [*english, *others]
    figures: dict[str, Any] = {}
    if "summaries" in parts:
        budgets = (3, _quality.OWN_BUDGET)
        figures["summaries"] = {
            "held-out": _quality.summaries(reader, english, budgets, "held-out chats"),
            "other-languages": _quality.summaries(reader, others, (3,), "held-out chats in other languages"),
        }
    if "cites" in parts:
        figures["cites"] = _quality.cites(reader, everything)
    if "kinds" in parts:
        figures["kinds"] = _quality.kinds(reader, everything)
    if "replies" in parts:
        figures["replies"] = _quality.replies(reader, everything, trained_on())
    if "injection" in parts:
        figures["injection"] = {
            "wrapped": _injection.injections(reader, english, _injection.OWN_LINES, "our own"),
            "false_alarms": _injection.false_alarms(everything),
        }
    return figures


def _public(reader: "EmbeddedEngine", name: str, samples: Sequence["Sample"]) -> dict[str, Any]:
    """As many lines as people's summaries of that corpus have sentences, or more; and as many as ours."""
    from benchmarks._quality import OWN_BUDGET, summaries

    budgets: dict[str, tuple[int | str, ...]] = {
        "samsum": (2, 3, OWN_BUDGET),
        "dialogsum": (2, OWN_BUDGET),
        "qmsum": (2, 5),
    }
    return summaries(reader, samples, budgets[name], name)


def _machine(reader: "EmbeddedEngine", english: Sequence["Sample"], others: Sequence["Sample"]) -> dict[str, str]:
    """What was measured, and on what."""
    import torch

    return {
        "engine": reader.name,
        "digest of all weights": reader.weights_digest.hex()[:16],
        "held-out chats": f"{len(english)} English, {len(others)} in other languages",
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {len(os.sched_getaffinity(0))} core(s)",
        "Python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def _write(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    from benchmarks._report import as_page, blocks, taken_in, write_charts

    tables = blocks(figures)
    print(as_page(tables), end="")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.out:
        (options.out / "engine.md").write_text(as_page(tables), encoding="utf-8")
        write_charts(options.out, figures)
    if options.docs:
        page = DOCS / "quality.md"
        page.write_text(taken_in(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
        write_charts(DOCS / "charts", figures)


if __name__ == "__main__":
    sys.exit(main())
