"""How long a summary of 200 messages takes, on one core and on two, and what the number format does to it.

    python3 dev.py bench digest [--json]

The messages are those of the sample chats, repeated with running numbers so that no two are equal; the same for every run.
Medians of interleaved rounds; ratios in one run mean more than the times, which depend on the machine and its neighbours.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ai_enclave.engine.embedded import EmbeddedEngine, owned_cores
from ai_enclave.engine.encoder import Encoder
from ai_enclave.engine.ranker import Ranker
from ai_enclave.engine.weights import verified_weights
from ai_enclave.features import Digester, Message, Suggester, Thread
from messaging.demo import chat_file

MESSAGES = 200
ROUNDS = 7


def a_thread() -> Thread:
    """200 messages of the samples, each with a number of its own."""
    folder = Path(chat_file.__file__).parent / "chats"
    said = [
        (message.author, message.text)
        for name in ("weekend.jsonl", "clinic.txt", "newsroom.txt")
        for message in chat_file.read_chat(folder / name).messages
    ]
    messages = tuple(
        Message(str(number), said[number % len(said)][0], number, f"{said[number % len(said)][1]} ({number})")
        for number in range(MESSAGES)
    )
    return Thread(messages, {author: author for author, _ in said})


def cases(thread: Thread) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    texts = [message.text for message in thread.messages]
    files = verified_weights()
    formats = {"bf16": Encoder.load(files, torch.bfloat16), "fp32": Encoder.load(files, torch.float32)}
    measured: dict[str, Callable[[], object]] = {}
    for name, encoder in formats.items():
        digester = Digester(EmbeddedEngine(encoder, Ranker.load(), name))
        measured[f"encode, {name}"] = partial(encoder.encode, texts)
        measured[f"summary, {name}"] = partial(_summary_of_new, thread, digester)
        measured[f"summary again, {name}"] = partial(digester.digest, thread, viewer=thread.messages[0].author)
    suggester = Suggester(EmbeddedEngine(formats["bf16"], Ranker.load(), "bf16"))
    measured["three replies, bf16"] = lambda: suggester.suggest(thread, viewer=thread.messages[0].author)
    return measured


def _summary_of_new(thread: Thread, digester: Digester) -> object:
    """Of messages whose vectors nobody has kept."""
    new = tuple(replace(message, kept={}) for message in thread.messages)
    return digester.digest(replace(thread, messages=new), viewer=new[0].author)


def measure(measured: dict[str, Callable[[], object]], threads: int) -> dict[str, float]:
    """Median milliseconds of each case."""
    torch.set_num_threads(threads)
    times: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(ROUNDS):
        for name, run in measured.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1000)
    return {name: round(statistics.median(values[1:]), 1) for name, values in times.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="dev.py bench digest", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args()
    measured = cases(a_thread())
    results = {f"{threads} core(s)": measure(measured, threads) for threads in sorted({1, owned_cores()})}
    if arguments.json:
        print(json.dumps({"messages": MESSAGES, "median_ms": results}, indent=2))
        return 0
    print(f"{MESSAGES} messages, median milliseconds of {ROUNDS - 1} rounds after one to warm up")
    for name in measured:
        print(f"  {name:<22}" + "".join(f"{cores}: {times[name]:>8.1f}   " for cores, times in results.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
