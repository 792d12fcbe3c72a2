"""The cache of keys and values, in blocks of equally many tokens.

A block belongs to one request and is zeroed when it is given back, before it can be handed out again. Nothing is shared between requests: the
constant start of prompts is kept apart and copied into a request's own blocks, which costs next to nothing, needs no counting of owners,
and works for any number of tokens.

Letters in shapes: N layers; M blocks, padding included; B tokens of a block; G key/value heads; D head size; P tokens of a prefix.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ai_enclave.engine.local.config import Config
from ai_enclave.engine.local.ledger import PADDING_BLOCK


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values of the constant start of prompts."""

    keys: Tensor  # (N, P, G, D)
    values: Tensor  # (N, P, G, D)

    @property
    def tokens(self) -> int:
        """How long it is."""
        return self.keys.shape[1]

    def wipe(self) -> None:
        """Overwrite it with zeros."""
        self.keys.zero_()
        self.values.zero_()


class BlockPool:
    """Keys and values of all layers. Which block is whose is for ``ledger``.

    Blocks are named by plain numbers here and cut out as slices, so that nothing of this crosses to the device.
    """

    def __init__(self, config: Config, count: int, size: int, dtype: torch.dtype, device: torch.device) -> None:
        """``count`` blocks to hand out, each for ``size`` tokens, and the one for padding."""
        self.count = count
        self.size = size
        shape = (config.layers, count + 1, size, config.key_heads, config.head_size)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)  # (N, M, B, G, D)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    def clear(self, blocks: Sequence[int]) -> None:
        """Zero them."""
        for start, end in runs(blocks):
            self.keys[:, start:end].zero_()
            self.values[:, start:end].zero_()

    def wipe(self) -> None:
        """Zero everything."""
        self.keys.zero_()
        self.values.zero_()

    def copy_out(self, blocks: Sequence[int], tokens: int) -> Prefix:
        """The first ``tokens`` of the request that has these blocks."""
        return Prefix(self._joined(self.keys, blocks, tokens), self._joined(self.values, blocks, tokens))

    def copy_in(self, prefix: Prefix, blocks: Sequence[int]) -> None:
        """Begin a request that has these blocks with a prefix."""
        for place, block in enumerate(blocks[: -(-prefix.tokens // self.size)]):
            part = slice(place * self.size, min((place + 1) * self.size, prefix.tokens))
            self.keys[:, block, : part.stop - part.start] = prefix.keys[:, part]
            self.values[:, block, : part.stop - part.start] = prefix.values[:, part]

    def _joined(self, tensor: Tensor, blocks: Sequence[int], tokens: int) -> Tensor:
        needed = blocks[: -(-tokens // self.size)]
        return torch.cat([tensor[:, block] for block in needed], dim=1)[:, :tokens].clone()  # (N, P, G, D)


def runs(blocks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbours joined: first, and the one after the last, of each run."""
    start = end = PADDING_BLOCK
    for block in sorted(blocks):
        if block != end:
            if end > start:
                yield start, end
            start = block
        end = block + 1
    if end > start:
        yield start, end
