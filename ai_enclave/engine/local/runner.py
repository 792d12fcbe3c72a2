"""One step on the device: up goes a row of numbers, down come the tokens that follow."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ai_enclave.engine.local.blocks import BlockPool
from ai_enclave.engine.local.ledger import PADDING_BLOCK
from ai_enclave.engine.local.model import Model
from ai_enclave.engine.local.packing import Piece, pack
from ai_enclave.engine.local.sampler import NO_TOKEN, choose
from ai_enclave.engine.local.transfers import Transfers
from ai_enclave.engine.weights import EngineError

# A second core must be woken for each operation, which costs some 50 microseconds: that pays from so many products of a layer on.
_WORTH_WAKING = 150_000_000
_LEAST_TOKENS = 40  # for fewer, a step takes as long, as all weights are read from memory


class Runner:
    """A model with its cache. For one thread."""

    def __init__(self, model: Model, pool: BlockPool, transfers: Transfers, threads: int) -> None:
        """``threads`` are the cores that torch may use."""
        self.model = model
        self.pool = pool
        self.transfers = transfers
        self._threads = threads

    @torch.inference_mode()
    def step(self, pieces: Sequence[Piece]) -> list[tuple[int, int]]:
        """Compute these tokens.

        Returns:
            For each piece that samples, its place in ``pieces`` and the token that follows, or ``NO_TOKEN`` if there is none.
        """
        packed = pack(pieces, self.pool.size)
        with _cores(self.threads_for(packed.tokens)):
            batch = self.model.unpack(packed, self.transfers.up(packed.row), self.pool.size)
            logits = self.model.forward(batch, self.pool)
            if not packed.samples:
                return []
            chosen = choose(logits, batch.constrained, batch.masks) if packed.constrained else choose(logits)
            return list(zip(packed.order, self.transfers.down(chosen), strict=True))

    def threads_for(self, tokens: int) -> int:
        """How many cores make a step with so many tokens fastest: all, or one, if it is small."""
        worth = max(tokens, _LEAST_TOKENS) * self.model.layer_weights >= _WORTH_WAKING
        return self._threads if worth else 1

    def probe(self) -> None:
        """Compute a few tokens in blocks that nobody has yet, so that the first request finds everything ready.

        Raises:
            EngineError: the weights give no numbers.
        """
        block = PADDING_BLOCK + 1
        first = self.step([Piece([0, 0], 0, [block], samples=True)])
        second = self.step([Piece([0], 2, [block], samples=True)])
        self.pool.clear([block])
        if NO_TOKEN in (token for _, token in first + second):
            raise EngineError("the weights give no numbers; they are damaged, or not those of this config")


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """Use so many; others in this process find torch as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
