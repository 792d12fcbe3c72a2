"""Several relay processes on one host behind one socket: ``subrosa relay --workers N``.

The supervisor opens the socket, so that no connection is refused while a worker stops or starts, and does nothing else that a
client could notice. A worker that dies is started again, one that has drained at once. SIGHUP starts each anew, one after the other: the new one is ready
before the old one drains. SIGTERM and SIGINT drain all of them.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from messaging.relay.errors import StartupError
from messaging.serving.logs import get_logger

MAX_WORKERS = 32  # while they are renewed there is one more, and each has a generation file of at most 64
WORKER_VARIABLE = "SUBROSA_WORKER"  # the number of a worker, from 1, in its environment
READY_SECONDS = 90  # beyond what a worker may wait for the database
END_SECONDS = 45  # beyond the delay before it drains
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30


def listening_socket(host: str, port: int, backlog: int) -> socket.socket:
    """A socket for all workers.

    Raises:
        StartupError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(backlog)
    except OSError as error:
        raise StartupError(f"cannot listen on this host and port: {error.strerror}") from None
    listening.set_inheritable(True)
    return listening


class Worker:
    """One relay process. ``ready`` is set when it serves, ``dismissed`` when it is to end; ``ended`` is done when it has."""

    def __init__(self, process: asyncio.subprocess.Process, *, ready_seconds: float, end_seconds: float) -> None:
        self.ready = asyncio.Event()
        self.dismissed = asyncio.Event()
        self.process = process
        self._ready_seconds = ready_seconds
        self._end_seconds = end_seconds
        self.ended = asyncio.create_task(self._watch())

    async def is_ready(self) -> bool:
        """Whether it gets ready in time, and does not end before."""
        await self._ended_or(self.ready, self._ready_seconds)
        return self.ready.is_set() and not self.ended.done()

    async def ends_by_itself(self) -> bool:
        """Wait for its end; false, and at once, if it is dismissed."""
        await self._ended_or(self.dismissed)
        return not self.dismissed.is_set()

    @property
    def has_drained(self) -> bool:
        """Whether it has served and then ended in order, as when an operator asks for it: it may be started again at once."""
        return self.ready.is_set() and self.process.returncode == 0

    async def stop(self) -> None:
        """Have it drain; end it if it does not in time."""
        self.dismissed.set()
        self._send(signal.SIGTERM)
        await asyncio.wait([self.ended], timeout=self._end_seconds)
        if not self.ended.done():
            self._send(signal.SIGKILL)
            await self.ended

    async def _ended_or(self, event: asyncio.Event, seconds: float | None = None) -> None:
        happened = asyncio.create_task(event.wait())
        await asyncio.wait([happened, self.ended], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        happened.cancel()

    async def _watch(self) -> None:
        if self.process.stdout is not None:
            if await self.process.stdout.readline():
                self.ready.set()
            await _show(self.process.stdout)
        await self.process.wait()

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


async def _show(lines: asyncio.StreamReader) -> None:
    """Copy what a worker says to our own standard output, until it ends: verification codes, for one.

    A worker whose pipe is full would stand still: we read on, whatever becomes of a line.
    """
    while not lines.at_eof():
        with suppress(ValueError):  # longer than the reader takes, and dropped
            _print(await lines.readline())


def _print(line: bytes) -> None:
    with suppress(OSError):  # nobody reads it
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


class Supervisor:
    """Keeps ``count`` workers running, each started with ``command``.

    A new one has ``ready_seconds`` until it serves, one that is to end ``end_seconds`` until it is killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        listening: socket.socket,
        count: int,
        *,
        ready_seconds: float,
        end_seconds: float,
    ) -> None:
        self.ready_seconds = ready_seconds
        self.end_seconds = end_seconds
        self._command = [*command, "--listen-fd", str(listening.fileno()), "--json-ready", "--stop-at-end-of-input"]
        self._listening = listening
        self._count = count
        self._stopping = asyncio.Event()
        self._renewal = asyncio.Lock()
        self._changing = [asyncio.Lock() for _ in range(count)]  # whoever starts a worker for a slot does so alone
        self._workers: list[Worker] = []
        self._renewed: Worker | None = None  # one that is to take another one's place
        self._keeping: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all workers, unless we are stopped meanwhile.

        Raises:
            StartupError: one of them cannot start; then all are stopped. It has said why.
        """
        for slot in range(self._count):
            self._workers.append(await self._spawn(slot))
            ready = await self._workers[slot].is_ready()
            if self._stopping.is_set():
                return
            if not ready:
                await self.stop()
                raise StartupError("a worker did not start: see above")
            self._keeping.append(asyncio.create_task(self._keep(slot)))

    async def stop(self) -> None:
        """Drain all workers, and end those that do not."""
        self._stopping.set()
        await asyncio.gather(*self._keeping, *(each.stop() for each in [*self._workers, self._renewed] if each))

    async def renew(self) -> None:
        """Replace each worker by a new one that is ready, one after the other."""
        async with self._renewal:
            # A slot whose worker has crashed comes first: it serves nobody, and others may take long to drain.
            for slot in sorted(range(self._count), key=lambda slot: not self._workers[slot].ended.done()):
                renewed = await self._renew(slot)
                if self._stopping.is_set():
                    return
                if not renewed:
                    get_logger().error("worker_not_renewed")
                    return
            get_logger().info("workers_renewed", count=self._count)

    async def _renew(self, slot: int) -> bool:
        """Stop the slot's worker once a new one is ready; stop the new one if it does not get ready."""
        async with self._changing[slot]:
            if self._stopping.is_set():
                return False
            self._renewed = leaving = new = await self._spawn(slot)
            ready = await new.is_ready()
            if ready:
                leaving, self._workers[slot], self._renewed = self._workers[slot], new, None
        await leaving.stop()
        return ready

    async def _keep(self, slot: int) -> None:
        """Start the slot's worker again whenever it ends by itself."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            worker = self._workers[slot]
            if not await worker.ends_by_itself():
                continue
            if worker.has_drained:
                get_logger().info("worker_drained")
                await self._restart(slot, worker)
                continue
            get_logger().error("worker_ended", status=worker.process.returncode)
            pause = FIRST_PAUSE_SECONDS if worker.ready.is_set() else min(2 * pause, LONGEST_PAUSE_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(worker.dismissed.wait(), pause)
            await self._restart(slot, worker)

    async def _restart(self, slot: int, ended: Worker) -> None:
        """Start a worker in the place of one that has ended, if that is still its place."""
        async with self._changing[slot]:
            if self._workers[slot] is ended and not self._stopping.is_set():
                self._workers[slot] = await self._spawn(slot)

    async def _spawn(self, slot: int) -> Worker:
        """Start a worker. One that comes when we are stopping is stopped here: ``stop`` did not know it."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,  # its end is ours: a worker does not outlive its supervisor
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[self._listening.fileno()],
            env={**os.environ, WORKER_VARIABLE: str(slot + 1)},
        )
        worker = Worker(process, ready_seconds=self.ready_seconds, end_seconds=self.end_seconds)
        if self._stopping.is_set():
            await worker.stop()
        return worker


async def supervise(supervisor: Supervisor, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Run until ``stop`` is set; SIGHUP renews the workers. ``ready`` is called once, when all workers serve.

    Raises:
        StartupError: a worker cannot start.
    """
    renewals: set[asyncio.Task[None]] = set()
    starting, stopping = asyncio.create_task(supervisor.start()), asyncio.create_task(stop.wait())

    async def renew_when_started() -> None:
        await asyncio.wait([starting])
        await supervisor.renew()

    def renew() -> None:
        task = asyncio.create_task(renew_when_started())
        renewals.add(task)
        task.add_done_callback(renewals.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, renew)
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not stop.is_set():
        stopping.cancel()
        await starting
        ready()
        await stop.wait()
    await supervisor.stop()
    await asyncio.gather(starting, *renewals, return_exceptions=True)


def worker_command(argv: Sequence[str]) -> list[str]:
    """The command of a worker: our own, without what is for the supervisor."""
    rest, skip = [], False
    for word in argv:
        if skip or word.startswith("--workers="):
            skip = False
        elif word == "--workers":
            skip = True
        elif word != "--json-ready":
            rest.append(word)
    return [sys.executable, "-m", "messaging.relay", *rest]


def worker_environment() -> None:
    """A worker reads our environment: what is for the supervisor alone must not be in it."""
    for name in ("SUBROSA_WORKERS", "SUBROSA_JSON_READY", "SUBROSA_LISTEN_FD"):
        os.environ.pop(name, None)
