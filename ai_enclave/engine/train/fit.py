"""Training of the ranker: plain AdamW over the examples, one chat a step, the same lots every time."""

import math
import random
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812  # as everybody names it
from torch import Tensor

from ai_enclave.engine.interface import KINDS, Vectors
from ai_enclave.engine.ranker import NETWORKS, forward, shapes
from ai_enclave.engine.train.examples import Example

EPOCHS = 14
RATE, DECAY = 1.5e-3, 0.05  # of AdamW (Loshchilov and Hutter 2019)
DROPOUT = 0.25
WARM = 0.05  # the share of all steps in which the rate rises
STEP = 8  # examples of one step
KINDS_COUNT, INTENT_COUNTS = 4.0, 0.3  # how much the other answers count beside salience
SEED = 7


def fit(
    examples: Sequence[Example], vectors: Sequence[Vectors], progress: Callable[[int, int], None] = lambda _, __: None
) -> dict[str, Tensor]:
    """The weights, for examples and the vectors of their texts. The same examples give the same weights, bit for bit."""
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    weights = _beginning(vectors[0].shape[1], examples[0].hints.shape[1])
    decayed = [weight for name, weight in weights.items() if not name.endswith("bias")]
    others = [weight for name, weight in weights.items() if name.endswith("bias")]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}], lr=RATE
    )
    order = list(range(len(examples)))
    lots = random.Random(SEED)  # noqa: S311  # no secret
    steps = EPOCHS * math.ceil(len(order) / STEP)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / steps))
    done = 0
    for _ in range(EPOCHS):
        lots.shuffle(order)
        for start in range(0, len(order), STEP):
            losses = [_loss(weights, examples[each], vectors[each]) for each in order[start : start + STEP]]
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(list(weights.values()), 1.0)
            optimizer.step()
            schedule.step()
            done += 1
            progress(done, steps)
    return {name: weight.detach().contiguous() for name, weight in weights.items()}


def _beginning(vector: int, hints: int) -> dict[str, Tensor]:
    weights = {}
    for name, shape in shapes(vector, hints).items():
        scale = 0.0 if name.endswith("bias") or name in ("out", "down") else 1 / math.sqrt(shape[1])
        weights[name] = (torch.randn(shape) * scale).requires_grad_()
    return weights


def _rate(done: float) -> float:
    return done / WARM if done < WARM else 0.5 * (1 + math.cos(math.pi * (done - WARM) / (1 - WARM)))


def _loss(weights: dict[str, Tensor], example: Example, vectors: Vectors) -> Tensor:
    """Cross entropies, the sum over the networks, which learn apart."""
    logits = forward(weights, torch.from_numpy(vectors), torch.from_numpy(example.hints), DROPOUT)
    loss = torch.zeros(())
    if example.whole:
        salience, kinds = logits[:, :, 0], logits[:, :, 1 : 1 + len(KINDS)]
        target = torch.from_numpy(example.salience).expand(NETWORKS, -1)
        loss = loss + NETWORKS * F.binary_cross_entropy_with_logits(salience, target)
        share = target / target.sum(1, keepdim=True).clamp(min=1e-6)
        loss = loss - 0.3 * (share * F.log_softmax(salience, dim=1)).sum()
        found = _of_messages(kinds, torch.from_numpy(example.message_of), len(example.kinds))
        wanted = torch.from_numpy(example.kinds).expand(NETWORKS, -1, -1)
        loss = loss + KINDS_COUNT * NETWORKS * F.binary_cross_entropy_with_logits(found, wanted)
    if example.intent >= 0:
        intents = logits[:, -1, 1 + len(KINDS) :]
        loss = loss + INTENT_COUNTS * NETWORKS * F.cross_entropy(intents, torch.full((NETWORKS,), example.intent))
    return loss


def _of_messages(kinds: Tensor, message_of: Tensor, messages: int) -> Tensor:
    """For every message the greatest of its units: (M, messages, KINDS)."""
    index = message_of.view(1, -1, 1).expand_as(kinds)
    return torch.full((NETWORKS, messages, len(KINDS)), -torch.inf).scatter_reduce(1, index, kinds, "amax")
