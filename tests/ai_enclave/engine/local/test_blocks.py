"""What is given back is zero, whatever was in it and however a request ended."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ai_enclave.engine.interface import Done, Failed, Failure
from ai_enclave.engine.local.blocks import BlockPool, runs
from ai_enclave.engine.local.ledger import PADDING_BLOCK
from tests.ai_enclave.engine.local.checkpoints import Checkpoint
from tests.ai_enclave.engine.local.driving import FAR, Driven, small_limits


def nonzero(pool: BlockPool) -> set[int]:
    """The blocks that hold anything."""
    used = (pool.keys.abs() + pool.values.abs()).amax(dim=(0, 2, 3, 4))
    return {int(block) for block in used.nonzero().flatten()}


@pytest.fixture
def driven(checkpoints: dict[str, Checkpoint]) -> Driven:
    return Driven.load(checkpoints["qwen3"], limits=small_limits())


def test_blocks_are_used_by_who_has_them_and_zero_when_they_are_done(driven: Driven) -> None:
    numbers = [driven.ask("We meet at nine. " * 4, tenant=bytes([place])) for place in range(3)]
    while driven.batcher.busy:
        driven.step()
        owned = {block for job in driven.batcher.scheduler.jobs() for block in job.blocks}
        assert nonzero(driven.batcher.runner.pool) <= owned
        if driven.batcher.stats().tokens == 5:
            assert nonzero(driven.batcher.runner.pool)
    assert all(isinstance(driven.end(number), Done) for number in numbers)
    assert nonzero(driven.batcher.runner.pool) == set()


def test_a_cancelled_request_leaves_nothing_and_the_others_go_on(driven: Driven) -> None:
    first, second = driven.ask("We meet at nine. " * 4), driven.ask("ok", tenant=b"b", most=40)
    for _ in range(8):
        driven.step()
    [blocks] = [job.blocks for job in driven.batcher.scheduler.jobs() if job.number == first]
    assert set(blocks) <= nonzero(driven.batcher.runner.pool)
    driven.cancel(first)
    assert driven.end(first) == Failed(Failure.CANCELLED)
    assert not set(blocks) & nonzero(driven.batcher.runner.pool)
    driven.run()
    assert isinstance(driven.end(second), Done)


def test_who_is_late_leaves_nothing(driven: Driven) -> None:
    now = 0.0
    driven.batcher._clock = lambda: now
    number = driven.ask("We meet at nine. " * 4, deadline=5)
    driven.step()
    assert nonzero(driven.batcher.runner.pool)
    now = 6.0
    driven.step()
    assert driven.end(number) == Failed(Failure.LATE)
    assert nonzero(driven.batcher.runner.pool) == set()


def test_a_step_that_fails_leaves_nothing_and_the_next_request_is_answered(driven: Driven) -> None:
    for place in range(12):
        driven.ask("We meet. " * 4, tenant=bytes([place]))
    for _ in range(12):
        driven.step()
    running = [job.number for job in driven.batcher.scheduler.jobs() if job.blocks]
    waiting = [job.number for job in driven.batcher.scheduler.jobs() if not job.blocks]
    assert running
    assert waiting
    model, driven.batcher.runner.model = driven.batcher.runner.model, None  # type: ignore[assignment]
    driven.step()
    assert all(driven.end(number) == Failed(Failure.BROKEN) for number in running)
    assert nonzero(driven.batcher.runner.pool) == set()
    driven.batcher.runner.model = model
    driven.run()
    assert isinstance(driven.end(waiting[-1]), Done)  # the next ones were admitted by the step that failed


def test_ending_overwrites_what_was_kept_for_others(driven: Driven) -> None:
    driven.ask("We meet at nine.", deadline=FAR)
    driven.run()
    [prefix] = driven.batcher._prefixes.values()
    assert prefix.keys.abs().sum() > 0
    assert prefix.values.abs().sum() > 0
    driven.batcher.end(Failure.CANCELLED)
    assert prefix.keys.abs().sum() == prefix.values.abs().sum() == 0
    assert not driven.batcher._prefixes


def test_padding_stays_zero(driven: Driven) -> None:
    for length in (1, 30, 200):
        driven.ask("x" * length, tenant=bytes([length]))
    while driven.batcher.busy:
        driven.step()
        assert PADDING_BLOCK not in nonzero(driven.batcher.runner.pool)


def test_a_prefix_is_copied_and_not_lent(driven: Driven) -> None:
    pool = driven.batcher.runner.pool
    with torch.inference_mode():
        pool.keys[:, 2:4] = torch.randn(pool.keys[:, 2:4].shape)
        prefix = pool.copy_out([2, 3], 20)
        pool.copy_in(prefix, [7, 5, 6])
    assert torch.equal(pool.keys[:, 7], pool.keys[:, 2])
    assert torch.equal(pool.keys[:, 5, :4], pool.keys[:, 3, :4])
    assert not pool.keys[:, 5, 4:].any()
    pool.clear([2, 3])
    assert prefix.keys.any()
    assert pool.keys[:, 7].any()


@given(st.sets(st.integers(1, 30)))
def test_runs_cover_each_block_once(blocks: set[int]) -> None:
    found = list(runs(list(blocks)))
    assert sorted(block for start, end in found for block in range(start, end)) == sorted(blocks)
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(found))
