"""Several processes behind one port: what they need, and that nobody notices when one of them goes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from messaging.relay.__main__ import check_workers, supervisor_of
from messaging.relay.database import normalise_url, open_database
from messaging.relay.errors import StartupError
from messaging.relay.nodes import State, ask_to_drain, read_nodes
from messaging.relay.settings import Settings
from messaging.relay.workers import (
    END_SECONDS,
    FIRST_PAUSE_SECONDS,
    MAX_WORKERS,
    READY_SECONDS,
    Supervisor,
    Worker,
    listening_socket,
    supervise,
    worker_command,
)
from messaging.wire import frames
from messaging.wire.envelope import decode_envelope
from tests.devices import Device, MakePeer
from tests.processes import RelayProcess, relay_process
from tests.relays import Relays

LIMITS = Path(__file__).parents[3] / "benchmarks" / "limits.toml"
POSTGRES = Settings(database_url="postgresql://nobody@localhost/none", redis_url="redis://localhost")

# In place of a relay: what says that it is ready, and ends when it is told to.
BEGIN = "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); print('{}', flush=True)"
SERVE = "signal.sigwait({signal.SIGTERM})"
A_WORKER = f"{BEGIN}; {SERVE}"
FIRST_PAUSE = "messaging.relay.workers.FIRST_PAUSE_SECONDS"


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


def test_a_supervisor_is_as_patient_as_the_settings_of_its_workers() -> None:
    settings = replace(POSTGRES, database_wait=timedelta(seconds=60), drain_delay=timedelta(seconds=45))
    with listening_socket("127.0.0.1", 0, 1) as listening:
        supervisor = supervisor_of(["relay"], listening, 2, settings)
    assert supervisor.ready_seconds == 60 + READY_SECONDS
    assert supervisor.end_seconds == 45 + END_SECONDS


class WatchedSupervisor(Supervisor):
    """It remembers whom it started, and starts nobody while it is held back."""

    def __init__(self, code: str, count: int = 1, *, ready_seconds: float = 20, end_seconds: float = 20) -> None:
        self.started: list[Worker] = []
        self.starting = asyncio.Event()
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.socket = listening_socket("127.0.0.1", 0, 1)
        command = [sys.executable, "-ISc", code]
        super().__init__(command, self.socket, count, ready_seconds=ready_seconds, end_seconds=end_seconds)

    async def _spawn(self, slot: int) -> Worker:
        self.starting.set()
        await self.may_start.wait()
        worker = await super()._spawn(slot)
        self.started.append(worker)
        return worker

    def hold_back(self) -> None:
        """Let the next worker take until ``may_start`` to start."""
        self.starting.clear()
        self.may_start.clear()

    def running(self) -> list[Worker]:
        return [worker for worker in self.started if not worker.ended.done()]

    async def has_started(self, count: int) -> Worker:
        """Wait until so many were started, and the last of them is ready."""
        async with asyncio.timeout(10):
            while len(self.started) < count:
                await asyncio.sleep(0.01)
            await self.started[-1].ready.wait()
        return self.started[-1]


@asynccontextmanager
async def supervising(supervisor: WatchedSupervisor, *, start: bool = True) -> AsyncIterator[WatchedSupervisor]:
    """Supervise while the block lasts. No worker is left then, whatever became of it."""
    try:
        if start:
            await supervisor.start()
        yield supervisor
        await supervisor.stop()
    finally:
        for worker in supervisor.running():
            await kill(worker)
        supervisor.socket.close()


async def kill(worker: Worker) -> None:
    worker.process.kill()
    await asyncio.wait([worker.ended])


async def test_a_worker_that_dies_is_started_again() -> None:
    async with supervising(WatchedSupervisor(A_WORKER)) as supervisor:
        await kill(supervisor.started[0])
        second = await supervisor.has_started(2)
        assert supervisor.running() == [second]
    assert [worker.process.returncode for worker in supervisor.started] == [-signal.SIGKILL, 0]


async def test_a_worker_that_has_drained_is_started_again_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FIRST_PAUSE, 600)
    async with supervising(WatchedSupervisor(A_WORKER)) as supervisor:
        for count in (2, 3):
            supervisor.started[-1].process.send_signal(signal.SIGTERM)
            await supervisor.has_started(count)
        assert supervisor.running() == [supervisor.started[-1]]


async def test_a_worker_that_ends_in_order_before_it_serves_has_its_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FIRST_PAUSE, 600)
    async with supervising(WatchedSupervisor("pass"), start=False) as supervisor:
        worker = await supervisor._spawn(0)
        supervisor._workers = [worker]
        keeping = asyncio.create_task(supervisor._keep(0))
        await worker.ended
        await asyncio.wait([keeping], timeout=0.2)
        assert supervisor.started == [worker]
        worker.dismissed.set()
        keeping.cancel()


async def test_each_worker_knows_its_number() -> None:
    code = "import os, sys; sys.exit(10 + int(os.environ['SUBROSA_WORKER']))"
    async with supervising(WatchedSupervisor(code), start=False) as supervisor:
        for slot in (0, 1):
            worker = await supervisor._spawn(slot)
            await worker.ended
            assert worker.process.returncode == 11 + slot


async def test_who_is_renewed_in_the_crash_pause_keeps_the_place_after_it() -> None:
    async with supervising(WatchedSupervisor(A_WORKER)) as supervisor:
        await kill(supervisor.started[0])
        await supervisor.renew()
        await asyncio.sleep(FIRST_PAUSE_SECONDS + 0.2)
        assert supervisor.started[1:] == supervisor.running() == supervisor._workers
    assert supervisor.running() == []


async def test_a_crash_pause_that_ends_during_a_renewal_starts_no_second_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FIRST_PAUSE, 0)
    async with supervising(WatchedSupervisor(A_WORKER)) as supervisor:
        supervisor.hold_back()
        renewal = asyncio.create_task(supervisor.renew())
        await supervisor.starting.wait()
        await kill(supervisor.started[0])
        await asyncio.sleep(0.1)  # the pause is over, the new worker not yet there
        supervisor.may_start.set()
        await renewal
        await asyncio.sleep(0.1)
        assert supervisor.started[1:] == supervisor.running() == supervisor._workers
        assert len(supervisor.started) == 2


async def test_a_renewal_ends_the_crash_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FIRST_PAUSE, 600)
    async with supervising(WatchedSupervisor(A_WORKER)) as supervisor:
        await kill(supervisor.started[0])
        await asyncio.sleep(0.05)
        await supervisor.renew()
        monkeypatch.setattr(FIRST_PAUSE, 0)
        await kill(supervisor.started[1])
        third = await supervisor.has_started(3)
        assert supervisor.running() == [third]


async def test_a_crashed_worker_is_renewed_before_those_that_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FIRST_PAUSE, 600)
    async with supervising(WatchedSupervisor(A_WORKER, 2)) as supervisor:
        await kill(supervisor.started[1])
        await supervisor.renew()
        third, fourth = supervisor.started[2:]
        assert supervisor._workers == [fourth, third]


async def test_a_new_worker_is_watched_while_the_old_one_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FIRST_PAUSE, 0)
    async with supervising(WatchedSupervisor(f"{A_WORKER}; time.sleep(600)")) as supervisor:
        renewal = asyncio.create_task(supervisor.renew())
        await kill(await supervisor.has_started(2))
        third = await supervisor.has_started(3)
        assert supervisor.running() == [supervisor.started[0], third]
        monkeypatch.setattr(FIRST_PAUSE, 600)
        for worker in supervisor.running():
            await kill(worker)
        await renewal


async def test_who_is_started_again_after_the_end_has_begun_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FIRST_PAUSE, 0)
    async with supervising(WatchedSupervisor(A_WORKER)) as supervisor:
        supervisor.hold_back()
        await kill(supervisor.started[0])
        await supervisor.starting.wait()
        stopping = asyncio.create_task(supervisor.stop())
        await asyncio.sleep(0)
        supervisor.may_start.set()
        await stopping
        assert len(supervisor.started) == 2
        assert supervisor.running() == []


@pytest.mark.parametrize(
    ("start", "work", "started"),
    [(True, WatchedSupervisor.renew, 3), (False, WatchedSupervisor.start, 1)],
    ids=["renewed", "started"],
)
async def test_who_comes_after_the_end_has_begun_is_stopped(
    start: bool, work: Callable[[Supervisor], Coroutine[Any, Any, None]], started: int
) -> None:
    async with supervising(WatchedSupervisor(A_WORKER, 2), start=start) as supervisor:
        supervisor.hold_back()
        working = asyncio.create_task(work(supervisor))
        await supervisor.starting.wait()
        await supervisor.stop()
        supervisor.may_start.set()
        await working
        assert len(supervisor.started) == started
        assert supervisor.running() == []


@pytest.mark.parametrize(
    ("drains", "end_seconds", "status"), [(0.3, 20, 0), (600, 0.3, -signal.SIGKILL)], ids=["in time", "too long"]
)
async def test_a_worker_is_killed_only_after_its_time_to_drain(drains: float, end_seconds: float, status: int) -> None:
    code = f"{A_WORKER}; time.sleep({drains})"
    async with supervising(WatchedSupervisor(code, end_seconds=end_seconds)) as supervisor:
        pass
    assert [worker.process.returncode for worker in supervisor.started] == [status]


async def test_a_worker_that_is_not_ready_in_time_does_not_start() -> None:
    supervisor = WatchedSupervisor("import time; time.sleep(600)", ready_seconds=0.1)
    with pytest.raises(StartupError, match="did not start"):
        async with supervising(supervisor):
            pass
    assert [worker.process.returncode for worker in supervisor.started] == [-signal.SIGTERM]


async def test_who_is_told_to_stop_while_workers_start_does_not_wait_for_them() -> None:
    supervisor, stop = WatchedSupervisor("import time; time.sleep(600)", ready_seconds=600), asyncio.Event()
    supervising_it = asyncio.create_task(supervise(supervisor, lambda: None, stop))
    await supervisor.starting.wait()
    stop.set()
    async with asyncio.timeout(10):
        await supervising_it
    assert supervisor.running() == []
    supervisor.socket.close()


async def test_what_a_worker_prints_is_shown_however_much_it_is(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = [f"code {number} {'-' * 90}" for number in range(5000)]
    code = f"{BEGIN}; [print('code', number, '-' * 90) for number in range(5000)]; print('last', flush=True); {SERVE}"
    async with supervising(WatchedSupervisor(code, end_seconds=5)) as supervisor:
        pass
    assert [worker.process.returncode for worker in supervisor.started] == [0]
    assert capsysbinary.readouterr().out.decode().splitlines() == [*lines, "last"]


async def test_a_worker_with_a_line_without_end_goes_on(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    code = f"{BEGIN}; print('-' * 1_000_000); print('last', flush=True); {SERVE}"
    async with supervising(WatchedSupervisor(code, end_seconds=5)) as supervisor:
        pass
    assert [worker.process.returncode for worker in supervisor.started] == [0]
    assert capsysbinary.readouterr().out.splitlines()[-1] == b"last"


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


@pytest.mark.long
async def test_workers_that_are_asked_drain_one_after_the_other_and_nobody_notices(
    relays: Relays, peer_of: MakePeer
) -> None:
    settings = await relays.settings("postgresql")
    database = open_database(normalise_url(settings.database_url))
    async with relay_process(settings, "--workers", "2", "--limits", str(LIMITS), "--node-name", "n") as relay:
        peer = peer_of(relay.started)
        alice, bob = await peer.register(), await peer.register()

        async def serving() -> dict[str, UUID]:
            async with database.read() as db:
                return {node.name: node.id for node in await read_nodes(db) if node.state is State.READY}

        async with asyncio.timeout(60), talking(alice, bob) as traffic:
            while (first := await serving()).keys() != {"n-1", "n-2"}:
                await asyncio.sleep(0.1)
            async with database.begin() as db:
                await ask_to_drain(db, list(first.values()), alone=False)
            while (now := await serving()).keys() != {"n-1", "n-2"} or set(now.values()) & set(first.values()):
                assert now  # there is always one
                await asyncio.sleep(0.1)
        assert traffic.errors == []
        assert traffic.received == sorted(traffic.received, key=int)
    await database.close()


async def test_workers_that_cannot_start_end_the_supervisor_with_a_sentence(relays: Relays) -> None:
    settings = await relays.settings("postgresql", verification="pigeon")
    with pytest.raises(ValueError, match="Expecting value"):  # no word that it is ready
        async with relay_process(settings, "--workers", "2") as relay:
            assert relay.process.returncode is None
