"""How fast the encoder and a digest are, beside onnxruntime with the same weights; and what a fresh process takes.

Everything is measured in processes of its own, started with so many threads, which wait asleep. The processes take turns within a
round, in an order by lot, so that a busy neighbour hits all of them; ratios are taken within a round, and medians of rounds are given.
"""

import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._progress import followed

TEXTS, QUICK_TEXTS = 200, 24
FEW = 8
ROUNDS, QUICK_ROUNDS = 15, 1
STARTS, QUICK_STARTS = 5, 1
OURS_BF16, OURS_FP32 = "ours bf16", "ours fp32"
ONNX_FP32, ONNX_INT8 = "onnxruntime fp32", "onnxruntime int8"
COLD, KEPT = "digest, bf16, cold", "digest, bf16, kept vectors"
_MIB = 1024  # kilobytes, in which Linux counts

Figures = dict[str, Any]


# --- processes that are measured ---


def serve(kind: str, threads: int) -> int:
    """Read texts, a line of JSON; then answer each line: ``run CASE`` with milliseconds, ``save CASE FILE`` with a file of vectors."""
    cases = {"ours": _ours, "onnx": _onnx}[kind](threads, json.loads(sys.stdin.readline()))
    print(json.dumps(sorted(cases)), flush=True)
    for line in sys.stdin:
        verb, name, *rest = line.rstrip("\n").split("\t")
        began = time.perf_counter()
        result = cases[name]()
        took = (time.perf_counter() - began) * 1000
        if verb == "save":
            np.save(rest[0], np.asarray(result))
        print(took, flush=True)
    return 0


def _ours(threads: int, texts: Sequence[str]) -> dict[str, Callable[[], object]]:
    import torch

    from ai_enclave.engine.embedded import EmbeddedEngine
    from ai_enclave.engine.encoder import Encoder
    from ai_enclave.engine.ranker import Ranker
    from ai_enclave.engine.weights import verified_weights
    from ai_enclave.features import Digester
    from benchmarks.digest import a_thread

    torch.set_num_threads(threads)
    files = verified_weights()
    cases: dict[str, Callable[[], object]] = {}
    encoders = {OURS_BF16: Encoder.load(files, torch.bfloat16), OURS_FP32: Encoder.load(files, torch.float32)}
    for name, encoder in encoders.items():
        cases |= _encoding(name, encoder.encode, texts)
    digester, known = Digester(EmbeddedEngine(encoders[OURS_BF16], Ranker.load(), "bf16")), a_thread()
    cases[COLD] = lambda: digester.digest(a_thread(), known.messages[0].author)
    cases[KEPT] = partial(digester.digest, known, known.messages[0].author)
    return cases


def _onnx(threads: int, texts: Sequence[str]) -> dict[str, Callable[[], object]]:
    from ai_enclave.engine.weights import verified_weights
    from benchmarks._onnx import load_encoders

    logging.disable(logging.WARNING)  # "consider pre-processing", of a graph that needs none
    cases: dict[str, Callable[[], object]] = {}
    for name, encoder in load_encoders(verified_weights(), threads).items():
        cases |= _encoding(name, encoder.encode, texts)
    return cases


def _encoding(
    name: str, encode: Callable[[Sequence[str]], object], texts: Sequence[str]
) -> dict[str, Callable[[], object]]:
    return {f"{name}, {count}": partial(encode, texts[:count]) for count in (1, FEW, len(texts))}


def be_fresh() -> int:
    """Load the engine, say so, make one digest of 200 messages, and say what memory both took."""
    from ai_enclave.engine import EmbeddedEngine

    engine = EmbeddedEngine.load()
    print("ready", flush=True)
    ready = _memory()
    from ai_enclave.features import Digester
    from benchmarks.digest import a_thread

    thread = a_thread()
    Digester(engine).digest(thread, thread.messages[0].author)
    print(
        json.dumps({"format": engine.name.rpartition("/")[2], "ready": ready, "after_a_digest": _memory()}), flush=True
    )
    return 0


def _memory() -> dict[str, int]:
    """MiB that are resident now, and that were at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: round(int(status[key].split()[0]) / _MIB) for name, key in (("resident", "VmRSS"), ("peak", "VmHWM"))}


# --- measuring them ---


class Worker:
    """One process that is measured."""

    def __init__(self, process: "subprocess.Popen[str]", texts: Sequence[str]) -> None:
        self._process = process
        self._say(json.dumps(list(texts)))

    def cases(self) -> list[str]:
        """What it can run; asked once, it waits until the process is ready."""
        found: list[str] = json.loads(self._line())
        return found

    def milliseconds(self, case: str) -> float:
        """Of one run."""
        return self._ask(f"run\t{case}")

    def vectors(self, case: str) -> NDArray[np.float32]:
        """What one run gives."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "vectors.npy"
            self._ask(f"save\t{case}\t{path}")
            found: NDArray[np.float32] = np.load(path)
            return found

    def _ask(self, said: str) -> float:
        self._say(said)
        return float(self._line())

    def _say(self, said: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(said + "\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process that was measured ended: its error is above")
        return line


@contextmanager
def worker(kind: str, threads: int, texts: Sequence[str]) -> Iterator[Worker]:
    """A process until the end of the block."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "benchmarks._speed", kind, str(threads)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment(threads)) as process:
        try:
            yield Worker(process, texts)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def environment(threads: int) -> dict[str, str]:
    """That of this process, with so many threads for everything, which do not spin."""
    bound = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return {**os.environ, **bound, "OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": str(threads > 1).lower()}


def speed(texts: Sequence[str], *, quick: bool = False) -> Figures:
    """Of the encoder and a digest, on one thread and on two; and of a fresh process.

    ``texts``: messages, from which ``TEXTS`` are taken, from all of them alike.
    """
    rounds, count = (QUICK_ROUNDS, QUICK_TEXTS) if quick else (ROUNDS, TEXTS)
    texts = texts[:: max(1, len(texts) // count)][:count]
    threads = (1,) if quick or len(os.sched_getaffinity(0)) == 1 else (1, 2)
    return {
        "texts": len(texts),
        "words_a_text": round(statistics.fmean(len(text.split()) for text in texts), 1),
        "rounds": rounds,
        "threads": {str(number): _on(number, texts, rounds) for number in threads},
        "fresh": fresh(QUICK_STARTS if quick else STARTS),
    }


def _on(threads: int, texts: Sequence[str], rounds: int) -> Figures:
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(kind, threads, texts)) for kind in ("ours", "onnx")]
        of_case = {case: each for each in workers for case in each.cases()}
        names = (OURS_FP32, OURS_BF16, ONNX_FP32, ONNX_INT8)
        vectors = {name: of_case[f"{name}, {len(texts)}"].vectors(f"{name}, {len(texts)}") for name in names}
        cases = {case: partial(of_case[case].milliseconds, case) for case in sorted(of_case, key=_by_name_and_number)}
        times = in_turns(cases, rounds, threads)
    return {
        "milliseconds": {case: round(statistics.median(each), 2) for case, each in times.items()},
        "ours_is_faster_by": {
            f"{name}, {count}": ratio(times[f"{name}, {count}"], times[f"{OURS_BF16}, {count}"])
            for name in (ONNX_FP32, ONNX_INT8, OURS_FP32)
            for count in (1, FEW, len(texts))
        },
        "cosine": {name: cosines(found, vectors[OURS_FP32]) for name, found in vectors.items()},
    }


def _by_name_and_number(case: str) -> tuple[str, int]:
    name, _, count = case.rpartition(", ")
    return (name, int(count)) if count.isdecimal() else (case, 0)


def cosines(found: NDArray[np.float32], exact: NDArray[np.float32]) -> Figures:
    """How near vectors of length 1 are to the exact ones: in the mean, and at worst."""
    each = (found * exact).sum(axis=1)
    return {"mean": round(float(each.mean()), 4), "worst": round(float(each.min()), 4)}


def in_turns(cases: Mapping[str, Callable[[], float]], rounds: int, threads: int) -> dict[str, list[float]]:
    """What each case gives in each round, after one to warm up; each round has its own order."""
    lots = random.Random(threads)  # noqa: S311  # no secret
    times: dict[str, list[float]] = {case: [] for case in cases}
    for number in followed(range(-1, rounds), f"speed, {threads} thread(s)"):
        for case in lots.sample(sorted(cases), len(cases)):
            took = cases[case]()
            if number >= 0:
                times[case].append(took)
    return times


def ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """The median of the ratios within rounds."""
    return round(statistics.median(one / other for one, other in zip(slower, faster, strict=True)), 2)


def fresh(starts: int) -> Figures:
    """Seconds until a fresh process has the engine ready, and its memory; with all cores that it may use."""
    rows = []
    for _ in followed(range(starts), "fresh processes"):
        began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks._speed", "fresh"]
        env = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
            assert process.stdout is not None
            process.stdout.readline()
            took = time.perf_counter() - began
            rows.append({"seconds": took, **json.loads(process.stdout.readline())})
    return {
        "starts": starts,
        "seconds_to_ready": round(statistics.median(row["seconds"] for row in rows), 2),
        "formats": sorted({row["format"] for row in rows}),
        **{
            f"{when}_{what}_mib": round(statistics.median(row[when][what] for row in rows))
            for when in ("ready", "after_a_digest")
            for what in ("resident", "peak")
        },
    }


if __name__ == "__main__":
    sys.exit(be_fresh() if sys.argv[1] == "fresh" else serve(sys.argv[1], int(sys.argv[2])))
