"""All kinds of matrices multiply alike."""

import pytest
import torch

from ai_enclave.engine.local.linear import Dense, Int8, Ordered

torch.manual_seed(5)
WEIGHT, BIAS, X = torch.randn(48, 32), torch.randn(48), torch.randn(9, 32)


@pytest.mark.parametrize("bias", [BIAS, None])
def test_reordered_weights_give_the_same(bias: torch.Tensor | None) -> None:
    assert torch.allclose(Ordered.of(WEIGHT, bias)(X), Dense(WEIGHT, bias)(X), atol=1e-4)


@pytest.mark.parametrize("bias", [BIAS, None])
def test_eight_bits_are_off_by_half_a_level_at_most(bias: torch.Tensor | None) -> None:
    error = (Int8.of(WEIGHT, bias)(X) - Dense(WEIGHT, bias)(X)).abs()
    level = WEIGHT.abs().amax(dim=1) / 127
    assert (error <= X.abs().sum(dim=1, keepdim=True) * level / 2 + 1e-4).all()
    assert Int8.of(WEIGHT).weight.dtype == torch.int8


def test_a_row_of_zeros_stays_zero() -> None:
    weight = torch.cat([WEIGHT, torch.zeros(1, 32)])
    y = Int8.of(weight)(X)
    assert torch.isfinite(y).all()
    assert not y[:, -1].any()
