"""Every crossing is counted."""

import numpy as np
import torch

from ai_enclave.engine.local.transfers import Transfers


def test_crossings_are_counted_both_ways() -> None:
    transfers = Transfers(torch.device("cpu"))
    assert transfers.down(transfers.up(np.array([3, 4], np.int32))) == [3, 4]
    assert transfers.crossings == 2
