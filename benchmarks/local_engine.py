"""The engine for local weights against continuous batching of transformers: the same tiny checkpoint, prompts and tokens.

    python3 dev.py bench local_engine [--rounds 3] [--json]

32 requests of 48 tokens each, greedy, in float32. Rounds are interleaved, so that a neighbour on the cores slows both; the ratio says
more than the rates. Each number of threads has a process of its own, because OpenMP does not forget how many it began with.
"""

import argparse
import asyncio
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # both sides; read when torch is loaded

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ai_enclave.engine.interface import Done, Event, Request
from ai_enclave.engine.local.batcher import Answer, Events
from ai_enclave.engine.local.engine import LocalEngine
from ai_enclave.engine.local.files import Folder

Model: TypeAlias = Any  # of transformers, whose types are not looked at

REQUESTS = 32
TOKENS = 48
THREADS = (1, 2)
VOCABULARY = 2048
SETTINGS = {  # 3.5 million weights in the shape of Qwen3
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "initializer_range": 0.05,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
# The fastest of those tried here; blocks are not shared between requests, as ours are not.
THEIRS = {"page_size": 64, "num_blocks": 256, "max_batch_tokens": 512, "allow_block_sharing": False}
_TEXT = "we meet at nine near the north station and bring all those old books with some fresh bread danke"


def figures(rounds: int = 3, threads: Sequence[int] = THREADS) -> dict[str, dict[str, float]]:
    """Tokens a second of both, their ratio, and how many answers are equal, for each number of threads."""
    return {f"{count} threads": _in_a_process(count, rounds) for count in threads}


def measure(threads: int, rounds: int) -> dict[str, float]:
    """In this process: medians of interleaved rounds, after one to warm up."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        reference = make_checkpoint(Path(folder))
        engine = LocalEngine.load(Folder(Path(folder)), threads=threads, name="tiny")
    texts = some_texts()
    prompts = [list(engine._prompts.build("", text).tokens) for text in texts]
    return asyncio.run(_rounds(engine, reference, texts, prompts, rounds))


async def _rounds(
    engine: LocalEngine, reference: Model, texts: Sequence[str], prompts: Sequence[list[int]], rounds: int
) -> dict[str, float]:
    ours, theirs, equal = [], [], 0
    for number in range(rounds + 1):
        written, our_rate = await _ours(engine, texts, prefix=f"{number}")
        answers, their_rate = await asyncio.to_thread(_theirs, reference, prompts)
        if number:
            ours.append(our_rate)
            theirs.append(their_rate)
        equal = sum(mine == other for mine, other in zip(written, answers, strict=True))
    await engine.close()
    rates = statistics.median(ours), statistics.median(theirs)
    return {
        "ours": round(rates[0]),
        "transformers": round(rates[1]),
        "ratio": round(statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True)), 2),
        "equal": equal,
    }


async def _ours(engine: LocalEngine, texts: Sequence[str], prefix: str) -> tuple[list[list[int]], float]:
    """What it wrote, and tokens a second; instructions are empty, so that nothing is taken from what was kept."""
    seen: dict[int, list[int]] = {}
    take = engine._batcher._take

    def noting(answer: Answer, token: int) -> Events:
        seen.setdefault(answer.job.number, []).append(token)
        return take(answer, token)

    engine._batcher._take = noting  # type: ignore[method-assign]
    start = time.perf_counter()
    ends = await asyncio.gather(*(_ask(engine, text, f"{prefix}/{place}") for place, text in enumerate(texts)))
    seconds = time.perf_counter() - start
    engine._batcher._take = take  # type: ignore[method-assign]
    assert all(isinstance(end, Done) for end in ends)
    return [seen[number] for number in sorted(seen)], sum(map(len, seen.values())) / seconds


async def _ask(engine: LocalEngine, text: str, name: str) -> Event | None:
    request = Request(
        id=name.encode(),
        instructions="",
        text=text,
        tenant=name.encode(),
        deadline=time.monotonic() + 600,
        most_tokens=TOKENS,
    )
    end: Event | None = None
    async for event in engine.submit(request):
        end = event
    return end


def _theirs(reference: Model, prompts: Sequence[list[int]]) -> tuple[list[list[int]], float]:
    transformers: Any = importlib.import_module("transformers")
    wanted = transformers.GenerationConfig(max_new_tokens=TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=0)
    batching = transformers.ContinuousBatchingConfig(use_cuda_graph=False, use_async_batching=False, **THEIRS)
    start = time.perf_counter()
    found = reference.generate_batch(
        prompts, generation_config=wanted, continuous_batching_config=batching, progress_bar=False
    )
    seconds = time.perf_counter() - start
    answers = sorted(found.values(), key=lambda answer: int(answer.request_id.rsplit("_", 1)[-1]))
    tokens = [[int(token) for token in answer.generated_tokens] for answer in answers]
    return tokens, sum(map(len, tokens)) / seconds


def some_texts() -> list[str]:
    """32 texts of unequal lengths, the same for every run."""
    choice = random.Random(7)  # noqa: S311  # no secret
    return [
        " ".join(choice.choices(_TEXT.split(), k=choice.randint(4, 30))) + str(number) for number in range(REQUESTS)
    ]


def make_checkpoint(folder: Path) -> Model:
    """A random model with a byte-level tokenizer, saved as transformers saves it; the model."""
    transformers: Any = importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SETTINGS)).eval()
        model.save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([_TEXT] * 3, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def _in_a_process(threads: int, rounds: int) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.local_engine",
        "--threads",
        str(threads),
        "--rounds",
        str(rounds),
        "--json",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="dev.py bench local_engine", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="in this process, with so many; otherwise one process for each")
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args()
    if arguments.threads:
        print(json.dumps(measure(arguments.threads, arguments.rounds)))
        return 0
    results = figures(arguments.rounds)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return 0
    print(f"{REQUESTS} requests of {TOKENS} tokens, tokens a second, medians of {arguments.rounds} interleaved rounds")
    for name, result in results.items():
        rates = f"ours {result['ours']:>6}   transformers {result['transformers']:>6}   ratio {result['ratio']:.2f}"
        print(f"  {name}:  {rates}   equal {result['equal']} of {REQUESTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
