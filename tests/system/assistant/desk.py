"""An enclave whose engine works when a test lets it, and a conversation that goes there."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ai_enclave.engine import Reader
from ai_enclave.engine.interface import Judgement, Vectors
from messaging.client.assistant import Answered
from messaging.wire.identifiers import MessageId
from tests.system.assistant.world import Client, RunningEnclave, World

CHAT = (
    ("Ann", "We meet on Friday at 9:30 at the north station."),
    ("Bob", "I will bring the tents and two lamps."),
    ("Bob", "Ann, can you book the cabin by Wednesday?"),
    ("Cem", "I am allergic to nuts, tell nobody but you two."),
)

_OPEN_SECONDS = 20  # a test that forgets to open it does not hang


class GatedEngine:
    """The real engine behind a gate. ``most_inside`` says how many ever worked with it at once."""

    def __init__(self, engine: Reader) -> None:
        self._engine = engine
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self.inside = 0
        self.most_inside = 0

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def weights_digest(self) -> bytes:
        return self._engine.weights_digest

    def shut(self) -> None:
        """Let nobody through from now on."""
        self._open.clear()

    def open(self) -> None:
        """Let everybody through."""
        self._open.set()

    def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:
        return self._engine.judge(vectors, hints)

    async def entered(self, count: int = 1) -> None:
        """Wait until so many wait at the gate."""
        async with asyncio.timeout(_OPEN_SECONDS):
            while self.inside < count:
                await asyncio.sleep(0.005)

    def encode(self, texts: Sequence[str]) -> Vectors:
        with self._lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        try:
            self._open.wait(_OPEN_SECONDS)
            return self._engine.encode(texts)
        finally:
            with self._lock:
                self.inside -= 1


async def talk(world: World, enclave: RunningEnclave) -> tuple[MessageId, ...]:
    """Ann and Bob opt in, Cem does not, and each says something; the enclave has what it may have."""
    await world.opt_in(world["Ann"].phone, world["Bob"].phone)
    written = [await world[name].phone.write(text) for name, text in CHAT]
    await world.nothing_is_lost()
    await enclave.has(world.key, *written[:3])
    await enclave.knows(world["Ann"].phone.conversation, *world["Ann"].clients, *world["Bob"].clients)
    return tuple(written)


@dataclass(frozen=True, slots=True)
class Desk:
    """An enclave behind its gate, and a conversation in which two have opted in; ``asked`` is all that was said there."""

    world: World
    enclave: RunningEnclave
    engine: GatedEngine
    asked: tuple[MessageId, ...]

    def ask(self, client: Client) -> "asyncio.Task[Answered]":
        """Have a client ask about all that was said."""
        return asyncio.create_task(client.chats.summarize(self.world.key, self.asked, self.world.names))


@asynccontextmanager
async def a_desk(world: World) -> AsyncIterator[Desk]:
    """Everybody's conversation with the only enclave of this world; at the end nothing may be lost."""
    [enclave], gated = world.enclaves.values(), world.engine
    assert isinstance(gated, GatedEngine)
    gated.most_inside = 0
    try:
        yield Desk(world, enclave, gated, await talk(world, enclave))
    finally:
        gated.open()
    await world.end()
