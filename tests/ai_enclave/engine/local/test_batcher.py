"""What is kept of prompts is their constant start and nothing else, so that nobody can find out what another one sent."""

from tests.ai_enclave.engine.local.checkpoints import Checkpoint
from tests.ai_enclave.engine.local.driving import Driven, small_limits

SECRET = "The meeting is at nine at the north station, bring the book."


def shared_by(driven: Driven, text: str, tenant: bytes, instructions: str = "Be short.") -> tuple[int, list[int]]:
    """Ask alone; how much was not computed again, and the sizes of the steps' inputs."""
    before, sizes = driven.batcher.stats().shared_prompt_tokens, []
    number = driven.ask(text, tenant=tenant, instructions=instructions, most=4)
    while driven.batcher.busy:
        sizes.append(sum(job.left for job in driven.batcher.scheduler.jobs()))
        driven.step()
    assert driven.tokens[number]
    return driven.batcher.stats().shared_prompt_tokens - before, sizes


def test_the_same_text_is_computed_again_for_everybody(checkpoints: dict[str, Checkpoint]) -> None:
    driven = Driven.load(checkpoints["llama"], limits=small_limits(budget=512))
    prefix = driven.prompts.build("Be short.", SECRET).prefix
    assert shared_by(driven, SECRET, b"a")[0] == 0
    same_tenant, same_tenant_steps = shared_by(driven, SECRET, b"a")
    other_tenant, other_tenant_steps = shared_by(driven, SECRET, b"b")
    other_text, _ = shared_by(driven, "Something else.", b"b")
    assert same_tenant == other_tenant == other_text == prefix
    assert same_tenant_steps == other_tenant_steps


def test_data_that_begins_like_the_instructions_shares_nothing_of_itself(checkpoints: dict[str, Checkpoint]) -> None:
    driven = Driven.load(checkpoints["llama"])
    shared_by(driven, SECRET, b"a", instructions="Be")
    assert shared_by(driven, SECRET, b"b", instructions="Be short.")[0] == 0


def test_an_answer_is_the_same_with_a_kept_prefix_and_without(checkpoint: Checkpoint) -> None:
    driven = Driven.load(checkpoint)
    first = driven.ask(SECRET)
    driven.run()
    second = driven.ask(SECRET, tenant=b"b")
    driven.run()
    assert driven.batcher.stats().shared_prompt_tokens > 0
    assert driven.answer(first) == driven.answer(second)


def test_no_more_is_kept_than_allowed_and_what_goes_is_overwritten(checkpoints: dict[str, Checkpoint]) -> None:
    driven = Driven.load(checkpoints["llama"])
    kept = []
    for number in range(60):
        shared_by(driven, "x", b"a", instructions="w" * 150 + str(number))
        kept.append(list(driven.batcher._prefixes.values())[-1])
    assert 0 < sum(prefix.tokens for prefix in driven.batcher._prefixes.values()) <= 4096
    assert len(driven.batcher._prefixes) < 60
    assert not kept[0].keys.any()
    assert kept[-1].keys.any()
    assert shared_by(driven, "x", b"a", instructions="w" * 150 + "0")[0] == 0
