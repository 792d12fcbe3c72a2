"""A step crosses to the device once and back once, however many requests there are and whatever they want."""

import dataclasses

import pytest
import torch

from ai_enclave.engine.interface import Lines
from ai_enclave.engine.local.blocks import BlockPool
from ai_enclave.engine.local.model import Batch
from ai_enclave.engine.local.packing import Piece
from ai_enclave.engine.local.runner import Runner
from ai_enclave.engine.weights import EngineError
from tests.ai_enclave.engine.local.checkpoints import Checkpoint
from tests.ai_enclave.engine.local.driving import Driven, small_limits


def test_two_crossings_a_step(checkpoints: dict[str, Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other way of torch to bring numbers over is closed meanwhile."""
    driven = Driven.load(checkpoints["mistral"], limits=small_limits(budget=64))
    transfers = driven.batcher.runner.transfers
    for place in range(6):
        driven.ask("We meet. " * place, tenant=bytes([place]), form=Lines(("ab",), 2, 30) if place % 2 else None)
    inside = []

    def counted(name: str) -> None:
        original = getattr(torch.Tensor, name)

        def call(tensor: torch.Tensor, *arguments: object, **options: object) -> object:
            inside.append(name)
            return original(tensor, *arguments, **options)

        monkeypatch.setattr(torch.Tensor, name, call)

    for name in ("item", "tolist", "cpu", "cuda", "numpy", "__bool__", "__int__", "__float__", "__index__"):
        counted(name)
    while driven.batcher.busy:
        before = transfers.crossings
        inside.clear()
        driven.step()
        assert transfers.crossings - before <= 2
        assert inside in ([], ["tolist"])
    assert driven.batcher.stats().finished == 6


def test_a_prompts_first_chunks_bring_nothing_back(checkpoints: dict[str, Checkpoint]) -> None:
    driven = Driven.load(checkpoints["mistral"], limits=small_limits())
    driven.ask("We meet at nine. " * 4)
    before = driven.batcher.runner.transfers.crossings
    driven.step()
    assert driven.batcher.runner.transfers.crossings == before + 1


def test_weights_that_give_no_numbers_are_refused(checkpoints: dict[str, Checkpoint]) -> None:
    runner = Driven.load(checkpoints["llama"]).batcher.runner
    runner.model.layers[0] = dataclasses.replace(runner.model.layers[0], norm=torch.full((64,), torch.nan))
    with pytest.raises(EngineError, match="no numbers"):
        runner.probe()


def logits_of(runner: Runner) -> torch.Tensor:
    """After each of a few prompts."""
    seen: list[torch.Tensor] = []
    forward = runner.model.forward

    def noting(batch: Batch, pool: BlockPool) -> torch.Tensor:
        seen.append(forward(batch, pool))
        return seen[-1]

    runner.model.forward = noting  # type: ignore[method-assign]
    for start in range(3, 300, 40):
        runner.step([Piece(list(range(start, start + 12)), 0, [1], samples=True)])
    return torch.cat(seen)


def test_weights_in_eight_bits_say_nearly_the_same(checkpoint: Checkpoint) -> None:
    plain, rounded = (logits_of(Driven.load(checkpoint, int8=each).batcher.runner) for each in (False, True))
    assert torch.nn.functional.cosine_similarity(plain, rounded).min() > 0.99
    assert not torch.equal(plain, rounded)


def test_sixteen_bits_say_nearly_the_same(checkpoint: Checkpoint) -> None:
    plain = logits_of(Driven.load(checkpoint).batcher.runner)
    short = logits_of(Driven.load(checkpoint, number_format="bf16").batcher.runner)
    assert torch.nn.functional.cosine_similarity(plain, short.float()).min() > 0.98


def test_a_second_core_is_woken_for_large_steps_only(checkpoints: dict[str, Checkpoint]) -> None:
    runner = Driven.load(checkpoints["llama"]).batcher.runner
    wide = Runner(runner.model, runner.pool, runner.transfers, threads=8)
    assert (wide.threads_for(1), wide.threads_for(100_000)) == (1, 8)
    wide.model.layer_weights = 15_000_000
    assert wide.threads_for(1) == 8


def test_others_find_torch_with_the_cores_that_it_had(checkpoints: dict[str, Checkpoint]) -> None:
    before = torch.get_num_threads()
    runner = Driven.load(checkpoints["llama"]).batcher.runner
    assert runner.threads_for(1) == 1
    try:
        torch.set_num_threads(before + 1)
        runner.step([Piece([5], 0, [1], samples=True)])
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
