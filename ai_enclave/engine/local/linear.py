"""A matrix with its bias: as it came, in the order that a CPU likes, or in 8 bits.

Letters in shapes: T tokens; K numbers in; N numbers out.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812  # as everybody names it
from torch import Tensor

_LEVELS = 127  # on each side of zero
_PACKED_FOR = 32  # tokens of a usual step; others are as right and almost as fast


class Linear(Protocol):
    """Something that multiplies."""

    def __call__(self, x: Tensor) -> Tensor:
        """(T, K) to (T, N)."""


@dataclass(frozen=True, slots=True)
class Dense:
    """As it came."""

    weight: Tensor  # (N, K)
    bias: Tensor | None = None  # (N,)

    def __call__(self, x: Tensor) -> Tensor:
        """(T, K) to (T, N)."""
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Ordered:
    """As it came, but reordered once for the CPU at hand by oneDNN. In float32 this is up to twice as fast as ``Dense``.

    The operator is the one that ``torch.compile`` puts in for a linear layer; torch has no public name for it. It keeps some MB of code
    and room for each number of tokens that it meets, which is why ``packing.filled`` allows only a few.
    """

    weight: Tensor  # (N, K), opaque
    bias: Tensor | None = None  # (N,)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> "Ordered | Dense":
        """Reordered, where this is possible."""
        if weight.device.type != "cpu" or not torch._C._has_mkldnn:
            return Dense(weight, bias)
        return cls(torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_FOR), bias)

    def __call__(self, x: Tensor) -> Tensor:
        """(T, K) to (T, N)."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y


@dataclass(frozen=True, slots=True)
class Int8:
    """Whole numbers from -127 to 127, with one scale for each number that comes out. What goes in stays as it is."""

    weight: Tensor  # (N, K), int8
    scale: Tensor  # (N,)
    bias: Tensor | None = None  # (N,)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> "Int8":
        """The nearest whole numbers."""
        scale = weight.float().abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / _LEVELS
        whole = (weight.float() / scale[:, None]).round().to(torch.int8)
        return cls(whole, scale.to(weight.dtype), bias)

    def __call__(self, x: Tensor) -> Tensor:
        """(T, K) to (T, N)."""
        y = F.linear(x, self.weight.to(x.dtype)) * self.scale
        return y if self.bias is None else y + self.bias
