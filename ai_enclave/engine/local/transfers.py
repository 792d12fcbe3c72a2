"""The only way between the host and the device while tokens are written, so that it can be counted.

Under confidential computing each crossing is encrypted and copied through a bounce buffer, whatever its size: what costs is how
often, not how much. A step has one crossing each way.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Transfers:
    """To and from one device, counted."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.crossings = 0

    def up(self, row: NDArray[np.int32]) -> Tensor:
        """To the device. The caller does not change ``row`` afterwards."""
        self.crossings += 1
        host = torch.from_numpy(row)
        if self.device.type == "cpu":
            return host
        return host.pin_memory().to(self.device, non_blocking=True)

    def down(self, numbers: Tensor) -> list[int]:
        """From the device; waits until they are computed."""
        self.crossings += 1
        return [int(number) for number in numbers.tolist()]
