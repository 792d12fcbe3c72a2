"""What the relay sees of the assistant tells it nothing of what is asked, answered or said: sizes, numbers and times are the same."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest

from ai_enclave.engine import EmbeddedEngine
from ai_enclave.engine.interface import Judgement, Vectors
from ai_enclave.limits import ANSWER_GRID
from ai_enclave.pacing import Pace
from messaging.client.assistant import AssistantRefused
from messaging.wire.assistant import RequestKind, StatusRequest, SuggestReplies, Summarize
from messaging.wire.content import DataMessage
from messaging.wire.envelope import EnvelopeType, decode_envelope
from messaging.wire.identifiers import MessageId
from tests.ai_enclave.asking import Enclave, opted_in, scope_of
from tests.ai_enclave.virtual_time import VirtualLoop, run_in_virtual_time
from tests.simulators.hostile_relay import DELIVERY
from tests.system.assistant.world import Client, RunningEnclave, World

ENVELOPE = 256  # bytes by which ciphertexts of one plaintext's size differ: counters, and the steps of the ratchet

Ask = Callable[[Client, Sequence[MessageId]], Awaitable[object]]

ASKS: dict[str, Ask] = {
    "summary": lambda client, asked: client.chats.summarize(client.world.key, asked, client.world.names),
    "replies": lambda client, asked: client.chats.suggest_replies(client.world.key, asked, client.world.names),
    "questions": lambda client, asked: client.chats.questions_for_me(client.world.key, asked, client.world.names),
    "status": lambda client, _: client.chats.status(client.world.key),
    "refusal": lambda client, _: client.chats.rewrite(client.world.key, "no engine here writes", "formal"),
    "forget": lambda client, _: client.chats.forget(client.world.key),
}


def five_hundred_long_messages(world: World, enclave: RunningEnclave) -> list[MessageId]:
    """What Bob might have written for weeks, as if the enclave had received it."""
    bob, now = world["Bob"], world.clock()
    asked = [MessageId(bob.service_id, now + number) for number in range(500)]
    for number, message in enumerate(asked):
        text = f"Part {number} of the delivery comes on Friday at {number % 12}:15, to gate {number}. " * 6
        enclave.assistant.note(
            bob.service_id, bob.phone.device.identity_key, DataMessage(text, message.timestamp, world.key)
        )
    return asked


async def test_what_is_asked_and_answered_does_not_show_in_sizes_or_numbers(world: World) -> None:
    ann, serving = world["Ann"].phone, world.serving()
    await world.opt_in(ann, world["Bob"].phone)
    await serving.knows(ann.conversation, *world["Ann"].clients, *world["Bob"].clients)
    short = [await ann.write("ok then")]
    await serving.has(world.key, *short)
    await ann.chats.status(world.key)  # the enclave knows by now which devices there are
    shapes: dict[str, tuple[list[int], list[int]]] = {}
    for chat, asked in (("two words", short), ("500 long messages", five_hundred_long_messages(world, serving))):
        for name, ask in ASKS.items():
            before, after = len(world.hostile.seen), len(serving.proxy.seen)
            with suppress(AssistantRefused):
                await ask(ann, asked)
            asked_with = [
                seen for seen in world.hostile.seen[before:] if seen.is_send and seen.other == serving.service_id
            ]
            answered_with = [seen for seen in serving.proxy.seen[after:] if seen.is_send]
            assert {seen.other for seen in answered_with} == {ann.me}
            shapes[f"{name} of {chat}"] = (
                [size for seen in asked_with for size in seen.contents],
                [size for seen in answered_with for size in seen.contents],
            )
    numbers = {(len(requests), len(frames)) for requests, frames in shapes.values()}
    assert numbers == {(1, len(world["Ann"].clients))}  # one request, and one frame to each device
    for sizes in (
        [size for requests, _ in shapes.values() for size in requests],
        [size for _, frames in shapes.values() for size in frames],
    ):
        assert max(sizes) - min(sizes) < ENVELOPE, shapes


async def test_a_message_that_is_shared_looks_to_the_relay_like_one_to_any_other_device(world: World) -> None:
    ann, serving = world["Ann"].phone, world.serving()
    await world.opt_in(ann)
    await serving.knows(ann.conversation, ann)
    await serving.has(world.key, await ann.write("so that keys are distributed"))
    await world.nothing_is_lost()
    seen = len(world.hostile.seen)
    written = await ann.write("Nobody knows who may read this.")
    await serving.has(world.key, written)
    await world.nothing_is_lost()
    everything = world.hostile.seen[seen:]
    uploads = [
        each for each in everything if each.path.startswith("/v1/messages/multi_recipient") and each.status is None
    ]
    assert [(each.account, each.verb) for each in uploads] == [(None, "PUT")]  # one for all, and nobody's
    delivered = {
        (each.account, envelope.type, len(envelope.content), envelope.source)
        for each in everything
        if each.path == DELIVERY and each.is_delivery and each.account != ann.me
        for envelope in [decode_envelope(each.body)]
        if envelope.content
    }
    others = {world["Bob"].service_id, world["Cem"].service_id, serving.service_id}
    assert {account for account, *_ in delivered} == others
    assert len({tuple(shape) for _, *shape in delivered}) == 1
    assert {kind for _, kind, *_ in delivered} == {EnvelopeType.UNIDENTIFIED_SENDER}
    assert not any(each.other == serving.service_id for each in everything)


class SlowEngine:
    """The real engine, which takes so long in virtual time."""

    def __init__(self, engine: EmbeddedEngine, seconds: float) -> None:
        self.name, self.weights_digest = engine.name, engine.weights_digest
        self._engine, self._seconds = engine, seconds

    def encode(self, texts: Sequence[str]) -> Vectors:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop._clock.now += self._seconds
        return self._engine.encode(texts)

    def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:
        return self._engine.judge(vectors, hints)


@pytest.mark.parametrize("seconds", [0.0, 0.013, 0.049, 0.051, 0.2])
def test_an_answer_leaves_the_enclave_on_a_grid_of_times_however_long_it_took(
    engine: EmbeddedEngine, seconds: float
) -> None:
    async def leaves_after(kind: Callable[[list[MessageId]], RequestKind]) -> float:
        ann, bob = await opted_in(Enclave(SlowEngine(engine, seconds), pace=Pace()), 1, 2)
        asked = [bob.write(f"Ann, does {hour}:30 still work for you?", hour) for hour in range(1, 12)]
        arrived = asyncio.get_running_loop().time()
        return (await ann.ask(kind(asked))).times[0] - arrived

    async def all_kinds() -> list[float]:
        return [
            await leaves_after(lambda asked: Summarize(scope_of(asked))),
            await leaves_after(lambda asked: SuggestReplies(scope_of(asked), 3)),
            await leaves_after(lambda _: StatusRequest()),
            await leaves_after(lambda asked: Summarize(scope_of(asked, not_opted_in=3))),
        ]

    for took in run_in_virtual_time(all_kinds):
        assert took / ANSWER_GRID == pytest.approx(round(took / ANSWER_GRID), abs=1e-6)
