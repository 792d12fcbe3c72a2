"""Coverage-guided fuzzing: ``python -m tests.attestation.fuzz TARGET [TARGET ...] [--seconds N | --runs N] [--seed N]``.

``all`` stands for every target. Each runs under atheris (libFuzzer) in a process of its own with a corpus that is thrown
away, until its time or its number of runs is over, or an input fails: that one is then shown in hexadecimal, so that it
can go into ``regressions.py``. A failure is an exception that the target does not document, more memory than
``MAX_MEMORY``, or more time than ``MAX_SECONDS`` for one input. The exit status is the number of targets that failed.
"""

import argparse
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["attestation", "signxml", "tomllib"]):
    from tests.attestation.fuzz.mutations import mutated
    from tests.attestation.fuzz.targets import TARGETS, Target

MAX_MEMORY = 2048  # MiB of the whole process
MAX_SECONDS = 10  # for one input
MAX_GROWTH = 256  # bytes, by one change
MAX_WORDS = 400  # of the dictionary
MAX_LOG = 4000  # bytes that are shown of a failure
_WORD = re.compile(rb"[A-Za-z0-9_.:/#-]{2,64}")
_DONE = re.compile(rb"#(\d+)\s+DONE\s+cov: (\d+)")


def main() -> int:
    """Fuzz the targets that the command line names, one after the other."""
    options = _options()
    names = list(TARGETS) if options.targets == ["all"] else options.targets
    warnings.simplefilter("ignore")  # of odd names in certificates
    failed = [name for name in names if not fuzz(name, options)]
    return len(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.attestation.fuzz")
    parser.add_argument("targets", nargs="+", choices=[*TARGETS, "all"], metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=0, help="how long for each target (60 unless --runs is given)")
    parser.add_argument("--runs", type=int, default=0, help="how many inputs for each target")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers")
    options = parser.parse_args()
    if not options.seconds and not options.runs:
        options.seconds = 60
    return options


def fuzz(name: str, options: argparse.Namespace) -> bool:
    """Fuzz one target in a new process; tells how it went, and returns whether no input failed."""
    target = TARGETS[name]()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        folder = Path(temporary)
        child = os.fork()
        if not child:
            try:
                _run(target, folder, options)
            finally:
                os._exit(1)  # libFuzzer ends the process itself; the folder is the parent's to remove
        _, status = os.waitpid(child, 0)
        log = (folder / "log").read_bytes()
        done = _DONE.search(log)
        if status == 0 and done is not None:
            _tell(f"{name}: passed, {int(done[1])} inputs, {int(done[2])} edges, {time.monotonic() - started:.1f} s")
            return True
        _tell(f"{name}: FAILED\n{log[-MAX_LOG:].decode('utf-8', 'replace')}")
        for path in sorted(folder.glob("failed-*")):
            _tell(f"{path.name}: {path.read_bytes().hex()}")
        return False


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _run(target: Target, folder: Path, options: argparse.Namespace) -> None:
    """In the new process, which libFuzzer ends."""

    def attempt(data: bytes) -> None:
        try:
            target(data)
        except BaseException:  # noqa: BLE001 -- a panic of a library in Rust is no ``Exception``
            traceback.print_exc()
            (folder / "failed-input").write_bytes(data)
            os._exit(1)

    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    (folder / "words").write_text(dictionary(target.seeds))
    arguments = {
        "artifact_prefix": f"{folder}/failed-",
        "dict": folder / "words",
        "max_len": target.limit,
        "max_total_time": options.seconds,
        "rss_limit_mb": MAX_MEMORY,
        "runs": options.runs or -1,
        "seed": options.seed,
        "timeout": MAX_SECONDS,
    }
    command = [sys.argv[0], *(f"-{name}={value}" for name, value in arguments.items()), str(corpus)]
    atheris.Setup(command, attempt, custom_mutator=mutate)
    atheris.Fuzz()


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Changes of libFuzzer's making, to the whole or to one part of its form."""
    random = Random(seed)  # noqa: S311 -- no secret
    return mutated(data, random, lambda part: bytes(atheris.Mutate(part, len(part) + MAX_GROWTH)))[:max_size]


def dictionary(seeds: Iterable[bytes]) -> str:
    """The words of the seeds in libFuzzer's form, so that names are put in as a whole."""
    words = dict.fromkeys(word for seed in seeds for word in _WORD.findall(seed))
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in list(words)[:MAX_WORDS])


if __name__ == "__main__":
    sys.exit(main())
