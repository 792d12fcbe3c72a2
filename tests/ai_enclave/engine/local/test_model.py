"""Token for token what greedy ``generate`` of transformers writes, whatever happens to a request on its way."""

import pytest

from ai_enclave.engine.local.loading import BLOCK_TOKENS
from tests.ai_enclave.engine.local.checkpoints import Checkpoint, save_checkpoint
from tests.ai_enclave.engine.local.driving import Driven, small_limits

TEXTS = [
    "We meet at nine.",
    "ok",
    "Bitte bring das Buch mit, danke! 🙂 " * 3,
    "请在星期五之前告诉我",
    "He said that the north station is closed, and that nobody knows when it opens again. " * 2,
    "",
    "nine nine nine nine nine nine nine nine nine",
    "a",
]


def assert_equal(driven: Driven, checkpoint: Checkpoint, numbers: list[int]) -> None:
    stops = sorted(driven.prompts.stops)
    for number in numbers:
        ask = driven.asked[number]
        expected = checkpoint.generate(ask.prompt.tokens, ask.most, stops)
        assert driven.answer(number) == [token for token in expected if token not in stops]


def test_many_together_with_chunked_prefill_and_a_shared_prefix(checkpoint: Checkpoint) -> None:
    driven = Driven.load(checkpoint, limits=small_limits())
    numbers = [driven.ask(text, tenant=bytes([place % 3])) for place, text in enumerate(TEXTS)]
    for _ in range(9):  # some are writing, some are still read, some wait
        driven.step()
    numbers += [driven.ask(text, tenant=b"late", most=40) for text in TEXTS[:5]]
    driven.run()
    assert driven.batcher.stats().shared_prompt_tokens > 0
    assert_equal(driven, checkpoint, numbers)
    # No model that always says the same: that would prove little.
    assert len({tuple(driven.answer(number)[:8]) for number in numbers}) >= 5


def test_one_alone_in_one_piece(checkpoint: Checkpoint) -> None:
    driven = Driven.load(checkpoint)
    number = driven.ask(TEXTS[4], most=60)
    driven.run()
    assert_equal(driven, checkpoint, [number])


def test_preempted_and_computed_again(checkpoint: Checkpoint) -> None:
    probe = Driven.load(checkpoint)
    block_bytes = probe.batcher.runner.pool.keys[:, 0].nbytes * 2
    driven = Driven.load(checkpoint, cache_bytes=24 * block_bytes, limits=small_limits(budget=64))
    numbers = [driven.ask(text, most=64, instructions="x", tenant=bytes([place])) for place, text in enumerate(TEXTS)]
    driven.run()
    assert driven.batcher.scheduler.preempted > 0
    assert driven.batcher.scheduler.ledger.free == 24
    assert_equal(driven, checkpoint, numbers)


def test_prompts_at_the_borders_of_blocks(checkpoints: dict[str, Checkpoint]) -> None:
    driven = Driven.load(checkpoints["llama"], limits=small_limits(budget=BLOCK_TOKENS))
    numbers = [driven.ask("a" * length, instructions="", most=20) for length in range(2 * BLOCK_TOKENS)]
    driven.run()
    lengths = {len(driven.asked[number].prompt.tokens) % BLOCK_TOKENS for number in numbers}
    assert lengths == set(range(BLOCK_TOKENS))
    assert_equal(driven, checkpoints["llama"], numbers)


def test_ends_with_the_token_that_stops(checkpoints: dict[str, Checkpoint]) -> None:
    """A token that was going to be written is made a stop."""
    checkpoint = checkpoints["qwen2"]
    driven = Driven.load(checkpoint)
    first = driven.ask("We meet", most=12)
    driven.run()
    stop = driven.answer(first)[5]
    driven.batcher._stops = driven.batcher._stops | {stop}
    second = driven.ask("We meet", most=12)
    driven.run()
    assert driven.answer(second) == driven.answer(first)[: driven.answer(first).index(stop)]


@pytest.mark.parametrize(
    "settings",
    [
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1, "tie_word_embeddings": True},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 123.0}, "rms_norm_eps": 0.1},
    ],
)
def test_other_shapes_of_one_architecture(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, object]
) -> None:
    checkpoint = save_checkpoint(tmp_path_factory.mktemp("other"), "llama", **settings)
    driven = Driven.load(checkpoint)
    numbers = [driven.ask(text) for text in TEXTS[:3]]
    driven.run()
    assert_equal(driven, checkpoint, numbers)
