"""The likeliest token that may come, and none where there is none."""

import numpy as np
import torch

from ai_enclave.engine.local.sampler import NO_TOKEN, choose


def test_the_likeliest_that_may_come_is_chosen() -> None:
    logits = torch.tensor([[1.0, 9.0, 3.0, 9.0], [1.0, 9.0, 3.0, 4.0], [1.0, 9.0, 3.0, 4.0]])
    masks = torch.tensor([[0b0101], [0b0000]], dtype=torch.int32)
    assert choose(logits).tolist() == [1, 1, 1]
    assert choose(logits, torch.tensor([1, 2]), masks).tolist() == [1, 2, NO_TOKEN]


def test_masks_reach_over_words() -> None:
    logits = torch.arange(80.0).unsqueeze(0)
    bits = np.zeros(96, np.bool_)
    bits[[3, 31, 63, 64]] = True
    mask = np.packbits(bits, bitorder="little").view("<i4").astype(np.int32)
    for expected in (64, 63, 31, 3):
        chosen = choose(logits.clone(), torch.tensor([0]), torch.from_numpy(mask).unsqueeze(0))
        assert chosen.tolist() == [expected]
        bits[expected] = False
        mask = np.packbits(bits, bitorder="little").view("<i4").astype(np.int32)


def test_no_number_is_no_token() -> None:
    assert choose(torch.tensor([[1.0, torch.nan], [torch.inf, 0.0]])).tolist() == [NO_TOKEN, NO_TOKEN]
