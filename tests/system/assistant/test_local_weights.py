"""An enclave with weights of its operator's: clients accept these weights or none, and what they write is checked."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ai_enclave.engine import EmbeddedEngine
from ai_enclave.engine.local.engine import LocalEngine
from ai_enclave.engine.local.files import Folder
from ai_enclave.features.composing import INSTRUCTIONS
from messaging.client.assistant import Answered, AssistantRefused, EvidenceRefused, NoAssistant
from messaging.wire.assistant import Rewritten, Status, Summary
from signal_protocol.operations import SignalCrypto
from tests.ai_enclave.engine.local.checkpoints import save_checkpoint
from tests.relays import Relays
from tests.system.assistant.desk import talk
from tests.system.assistant.world import ENCLAVES, World, a_world, accepted_release


@pytest.fixture(scope="module")
async def writer(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalEngine]:
    """A tiny model with random weights: what it writes is nonsense, in the right form."""
    folder = tmp_path_factory.mktemp("tiny")
    save_checkpoint(folder, "qwen3", max_position_embeddings=2048)
    started = await asyncio.to_thread(LocalEngine.load, Folder(folder), name="tiny")
    await started.warm()
    yield started
    await started.close()


@pytest.fixture(scope="module")
async def world(
    lasting_relays: Relays, crypto: SignalCrypto, engine: EmbeddedEngine, writer: LocalEngine
) -> AsyncIterator[World]:
    async with a_world(
        await lasting_relays.start("sqlite"), crypto, engine, enclaves=ENCLAVES[:1], writer=writer
    ) as started:
        await started.begin()
        yield started
        await started.end()


def check(answered: Answered, world: World, writer: LocalEngine, engine: EmbeddedEngine) -> None:
    """Whoever spoke: every line is somebody's, and cites what was asked about; and the receipt says who spoke."""
    assert isinstance(answered.result.kind, Summary)
    assert answered.result.kind.lines
    names = tuple(world.names.values())
    assert all(line.text.startswith(names) and line.cites for line in answered.result.kind.lines)
    assert answered.receipt is not None
    wrote = answered.result.engine == writer.name
    assert answered.result.model == (writer if wrote else engine).weights_digest
    assert (answered.receipt.instructions == INSTRUCTIONS.digest) == wrote


async def test_members_are_answered_at_the_same_time_and_each_receipt_says_what_spoke(
    world: World, writer: LocalEngine, engine: EmbeddedEngine
) -> None:
    asked = await talk(world, world.serving())
    ann, bob = world["Ann"].phone, world["Bob"].phone
    answers = await asyncio.gather(
        *(client.chats.summarize(world.key, asked, world.names) for client in (ann, bob, ann, bob))
    )
    for answered in answers:
        check(answered, world, writer, engine)
    assert writer.stats().finished + writer.stats().failed >= 4
    status = await ann.chats.status(world.key)
    assert isinstance(status.result.kind, Status)
    assert status.result.kind.generates


async def test_a_rewritten_draft_comes_from_the_weights_or_is_refused(world: World, writer: LocalEngine) -> None:
    before = writer.stats().finished + writer.stats().failed
    try:
        answered = await world["Ann"].phone.chats.rewrite(world.key, "see you at nine", "formal")
    except AssistantRefused:
        pass
    else:
        assert isinstance(answered.result.kind, Rewritten)
        assert answered.result.engine == writer.name
    assert writer.stats().finished + writer.stats().failed > before


async def test_a_policy_without_these_weights_refuses_the_enclave(world: World, engine: EmbeddedEngine) -> None:
    cem = world["Cem"].phone
    assistants = cem.judge(accepted_release(engine))
    with pytest.raises(NoAssistant) as refused:
        await assistants.choose(cem.conversation.id)
    [refusal] = refused.value.refusals
    assert isinstance(refusal, EvidenceRefused)
    cem.judge()
    assert (await assistants.choose(cem.conversation.id)).claims is not None
