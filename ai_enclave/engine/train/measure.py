"""How good the ranker's answers are on chats that it was not trained on; what whole digests are worth is for ``benchmarks.engine``."""

from collections.abc import Sequence

import numpy as np

from ai_enclave.engine.interface import KIND_CHANCES, KINDS, Judgement, Vectors
from ai_enclave.engine.train.examples import Example

SHOWN = 3  # suggestions


def measure(examples: Sequence[Example], judgements: Sequence[Judgement]) -> dict[str, float]:
    """Shares between 0 and 1, by name. F1 is of messages, at ``KIND_CHANCES``."""
    whole = [(example, said) for example, said in zip(examples, judgements, strict=True) if example.whole]
    replies = [(example, said) for example, said in zip(examples, judgements, strict=True) if example.intent >= 0]
    found = {
        "salience_average_precision": float(
            np.mean([average_precision(example.salience >= 0.5, said.salience) for example, said in whole])
        )
    }
    true = np.concatenate([example.kinds > 0 for example, _ in whole])
    given = np.concatenate([kinds_of_messages(example, said) > KIND_CHANCES for example, said in whole])
    for place, kind in enumerate(KINDS):
        found[f"{kind}_f1"] = f1(true[:, place], given[:, place])
    ranks = [int((said.intents[-1] > said.intents[-1, example.intent]).sum()) for example, said in replies]
    found["intent_hit_at_1"] = float(np.mean([rank < 1 for rank in ranks]))
    found["intent_hit_at_3"] = float(np.mean([rank < SHOWN for rank in ranks]))
    return {name: round(value, 4) for name, value in found.items()}


def kinds_of_messages(example: Example, said: Judgement) -> Vectors:
    """The chances of the kinds of every message: the greatest of its units'."""
    found = np.zeros_like(example.kinds)
    np.maximum.at(found, example.message_of, said.kinds)
    return found


def f1(
    true: "np.ndarray[tuple[int], np.dtype[np.bool_]]", given: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
) -> float:
    """The harmonic mean of precision and recall; 0 if nothing was found."""
    both = int((true & given).sum())
    return 2 * both / max(int(true.sum()) + int(given.sum()), 1)


def average_precision(
    true: "np.ndarray[tuple[int], np.dtype[np.bool_]]", scores: "np.ndarray[tuple[int], np.dtype[np.float32]]"
) -> float:
    """The mean of the precision at each place where a true one is found; 1 if there is none."""
    order = np.argsort(-scores, kind="stable")
    hits = np.flatnonzero(true[order])
    return float(np.mean((np.arange(len(hits)) + 1) / (hits + 1))) if len(hits) else 1.0
