"""The next tokens, chosen on the device: the likeliest, of those that may come.

Letters in shapes: R samples; V tokens of the vocabulary; K constrained samples; W words of a mask.
"""

import torch
from torch import Tensor

from ai_enclave.engine.local.packing import BITS

NO_TOKEN = -1  # the model gave no numbers, or nothing may come


def choose(logits: Tensor, constrained: Tensor | None = None, masks: Tensor | None = None) -> Tensor:
    """The likeliest token of each row, or ``NO_TOKEN``: (R,). Of equally likely ones the first.

    Args:
        logits: (R, V); may be changed.
        constrained: (K,) rows that have a mask.
        masks: (K, W) int32, a bit for each token that may come, least first.
    """
    if constrained is not None and masks is not None:
        allowed = _unpacked(masks)[:, : logits.shape[1]]  # (K, V)
        rows = logits.index_select(0, constrained).masked_fill(~allowed, -torch.inf)
        logits = logits.index_copy(0, constrained, rows)
    best, tokens = logits.max(dim=1)
    return torch.where(torch.isfinite(best), tokens, NO_TOKEN)


def _unpacked(masks: Tensor) -> Tensor:
    """(K, W) to (K, W*32), bool."""
    bits = torch.arange(BITS, dtype=torch.int32, device=masks.device)
    return ((masks.unsqueeze(2) >> bits) & 1).flatten(1).bool()
