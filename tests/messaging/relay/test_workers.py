"""Several processes behind one port: what they need, and that nobody notices when one of them goes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest

from messaging.relay.__main__ import check_workers
from messaging.relay.errors import StartupError
from messaging.relay.settings import Settings
from messaging.relay.workers import MAX_WORKERS, worker_command
from messaging.wire import frames
from messaging.wire.envelope import decode_envelope
from tests.devices import Device, MakePeer
from tests.processes import RelayProcess, relay_process
from tests.relays import Relays

LIMITS = Path(__file__).parents[3] / "benchmarks" / "limits.toml"
POSTGRES = Settings(database_url="postgresql://nobody@localhost/none", redis_url="redis://localhost")


def test_a_worker_gets_our_options_without_those_of_the_supervisor() -> None:
    argv = ["--workers", "3", "--port", "0", "--json-ready", "--redis-url", "redis://x"]
    assert worker_command(argv)[2:] == ["messaging.relay", "--port", "0", "--redis-url", "redis://x"]
    assert worker_command(["--workers=3", "--port=0"])[2:] == ["messaging.relay", "--port=0"]


@pytest.mark.parametrize(
    ("count", "settings", "sentence"),
    [
        (MAX_WORKERS + 1, POSTGRES, "at most"),
        (2, replace(POSTGRES, database_url="sqlite:///relay.db"), "need PostgreSQL"),
        (2, replace(POSTGRES, redis_url=None), "need --redis-url"),
    ],
)
def test_what_workers_need_is_a_sentence(count: int, settings: Settings, sentence: str) -> None:
    with pytest.raises(StartupError, match=sentence):
        check_workers(count, settings)
    check_workers(MAX_WORKERS, POSTGRES)


@dataclass
class Traffic:
    """One sends numbers, another receives them, for as long as the block lasts."""

    sent: int = 0
    received: list[bytes] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def send(self, alice: Device, bob: Device) -> None:
        while True:
            try:
                reply = await alice.send(bob, b"%d" % self.sent)
            except aiohttp.ClientError as error:
                self.errors.append(type(error).__name__)
            else:
                if reply.status == 200:
                    self.sent += 1
                else:
                    self.errors.append(str(reply.status))
            await asyncio.sleep(0.01)

    async def receive(self, bob: Device) -> None:
        while True:
            try:
                async with bob.socket() as socket:
                    while (message := await socket.websocket.receive()).type is aiohttp.WSMsgType.BINARY:
                        frame = frames.decode_frame(message.data)
                        if isinstance(frame, frames.Request):
                            await socket.answer(frame)
                            if frame.path == "/api/v1/message":
                                self.received.append(decode_envelope(frame.body or b"").content)
            except (aiohttp.ClientError, ConnectionError) as error:
                self.errors.append(f"socket {type(error).__name__}")

    async def all_received(self) -> None:
        async with asyncio.timeout(20):
            while len(set(self.received)) < self.sent:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def talking(alice: Device, bob: Device) -> AsyncIterator[Traffic]:
    traffic = Traffic()
    tasks = [asyncio.create_task(traffic.send(alice, bob)), asyncio.create_task(traffic.receive(bob))]
    try:
        yield traffic
        tasks[0].cancel()
        await traffic.all_received()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def children_of(relay: RelayProcess) -> list[int]:
    tasks = Path(f"/proc/{relay.process.pid}/task")
    return [int(word) for task in tasks.iterdir() for word in (task / "children").read_text().split()]


async def test_workers_are_renewed_and_replaced_and_nobody_notices(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql")
    async with relay_process(settings, "--workers", "2", "--limits", str(LIMITS)) as relay:
        peer = peer_of(relay.started)
        alice, bob = await peer.register(), await peer.register()
        first = set(children_of(relay))
        assert len(first) == 2
        async with talking(alice, bob) as traffic:
            relay.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(60):
                while first & set(children_of(relay)) or len(children_of(relay)) != 2:
                    await asyncio.sleep(0.1)
            assert traffic.errors == []
            os.kill(children_of(relay)[0], signal.SIGKILL)
            async with asyncio.timeout(30):
                while len(children_of(relay)) != 2:
                    await asyncio.sleep(0.1)
        assert traffic.received == sorted(traffic.received, key=int)
        relay.process.terminate()
        assert await asyncio.wait_for(relay.process.wait(), 30) == 0


async def test_workers_that_cannot_start_end_the_supervisor_with_a_sentence(relays: Relays) -> None:
    settings = await relays.settings("postgresql", verification="pigeon")
    with pytest.raises(ValueError, match="Expecting value"):  # no word that it is ready
        async with relay_process(settings, "--workers", "2") as relay:
            assert relay.process.returncode is None
