"""Make the ranker's weights anew: ``python -m ai_enclave.engine.train``.

Reads the chats in ``ai_enclave/engine/data`` and writes ``ranker.safetensors`` and ``ranker.json`` (what it was made from, and how good
it is on the chats that are held out). The same chats, code and torch give the same bytes on the same kind of processor.
"""

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from ai_enclave.engine.encoder import Encoder
from ai_enclave.engine.interface import Vectors
from ai_enclave.engine.ranker import Ranker
from ai_enclave.engine.train.corpus import DATA, AnnotatedChat, BadChat, read_corpus
from ai_enclave.engine.train.examples import Example, examples_of
from ai_enclave.engine.train.fit import SEED, fit
from ai_enclave.engine.train.measure import measure
from ai_enclave.engine.weights import RANKER, EngineError, verified_weights


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure, write. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ai_enclave.engine.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=DATA, help="a folder of chats (default: the project's own)")
    parser.add_argument("--out", type=Path, default=RANKER, help="where the weights go; the metrics go beside them")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    options = parser.parse_args(arguments)
    try:
        chats = read_corpus(options.data)
        weights, facts = train(chats, progress=not options.quiet)
    except (BadChat, EngineError) as error:
        print(f"training is not possible: {error}", file=sys.stderr)  # noqa: T201
        return 1
    options.out.write_bytes(weights)
    options.out.with_suffix(".json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
    print(json.dumps(facts["held_out"], indent=2))  # noqa: T201
    return 0


def train(chats: Sequence[AnnotatedChat], *, progress: bool = False) -> tuple[bytes, dict[str, object]]:
    """The weights as a safetensors file, and what there is to say of them.

    Raises:
        EngineError: the encoder's weights are missing.
    """
    torch.set_num_threads(1)  # sums in one order
    encoder = Encoder.load(verified_weights(), torch.float32)
    lots = random.Random(SEED)  # noqa: S311  # no secret
    learned = [example for chat in chats if not chat.held_out for example in examples_of(chat, lots)]
    kept = [example for chat in chats if chat.held_out for example in examples_of(chat)]
    vectors = _vectors(encoder, [*learned, *kept])
    started = time.monotonic()

    def show(done: int, steps: int) -> None:
        if progress and (done % 50 == 0 or done == steps):
            print(f"\rstep {done} of {steps}, {time.monotonic() - started:.0f} s", end="", file=sys.stderr)  # noqa: T201

    weights = save(fit(learned, vectors[: len(learned)], show))
    if progress:
        print(file=sys.stderr)  # noqa: T201
    ranker = Ranker(weights)
    said = [ranker.judge(rows, example.hints) for example, rows in zip(kept, vectors[len(learned) :], strict=True)]
    return weights, {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "torch": torch.__version__,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "chats": len(chats),
        "chats_held_out": sum(chat.held_out for chat in chats),
        "examples": len(learned),
        "parameters": sum(tensor.numel() for tensor in ranker.weights.values()),
        "held_out": measure(kept, said),
    }


def _vectors(encoder: Encoder, examples: Sequence[Example]) -> list[Vectors]:
    """Of the texts of each; each text is read once."""
    texts = sorted({text for example in examples for text in example.texts})
    found = dict(zip(texts, encoder.encode(texts).numpy(), strict=True))
    return [torch.stack([torch.from_numpy(found[text]) for text in example.texts]).numpy() for example in examples]


if __name__ == "__main__":
    sys.exit(main())
