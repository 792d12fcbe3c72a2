"""Several relay processes on one host behind one socket: ``subrosa relay --workers N``.

The supervisor opens the socket, so that no connection is refused while a worker stops or starts, and does nothing else that a
client could notice. A worker that dies is started again. SIGHUP starts each anew, one after the other: the new one is ready
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
from messaging.relay.logs import get_logger

MAX_WORKERS = 32  # while they are renewed there is one more, and each has a generation file of at most 64
READY_SECONDS = 90
END_SECONDS = 45
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
    """One relay process. ``ready`` is set when it serves; ``ended`` is done when it has ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.ready = asyncio.Event()
        self.process = process
        self.ended = asyncio.create_task(self._watch())

    async def is_ready(self) -> bool:
        """Whether it gets ready in time, and does not end before."""
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait([ready, self.ended], timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return self.ready.is_set() and not self.ended.done()

    async def stop(self) -> None:
        """Have it drain; end it if it does not in time."""
        self._send(signal.SIGTERM)
        await asyncio.wait([self.ended], timeout=END_SECONDS)
        if not self.ended.done():
            self._send(signal.SIGKILL)
            await self.ended

    async def _watch(self) -> None:
        if self.process.stdout is not None and await self.process.stdout.readline():
            self.ready.set()
        await self.process.wait()

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


class Supervisor:
    """Keeps ``count`` workers running, each started with ``command``."""

    def __init__(self, command: Sequence[str], listening: socket.socket, count: int) -> None:
        self._command = [*command, "--listen-fd", str(listening.fileno()), "--json-ready", "--stop-at-end-of-input"]
        self._listening = listening
        self._count = count
        self._stopping = asyncio.Event()
        self._renewal = asyncio.Lock()
        self._workers: list[Worker] = []
        self._renewed: Worker | None = None  # one that is to take another one's place
        self._keeping: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all workers.

        Raises:
            StartupError: one of them cannot start; then all are stopped. It has said why.
        """
        for slot in range(self._count):
            self._workers.append(await self._spawn())
            if not await self._workers[slot].is_ready():
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
            for slot in range(self._count):
                if self._stopping.is_set():
                    return
                self._renewed = worker = await self._spawn()
                if not await worker.is_ready():
                    await worker.stop()
                    get_logger().error("worker_not_renewed")
                    return
                old, self._workers[slot], self._renewed = self._workers[slot], worker, None
                await old.stop()
            get_logger().info("workers_renewed", count=self._count)

    async def _keep(self, slot: int) -> None:
        """Start the slot's worker again whenever it ends by itself."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            worker = self._workers[slot]
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait([worker.ended, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if self._stopping.is_set() or self._workers[slot] is not worker:
                continue
            get_logger().error("worker_ended", status=worker.process.returncode)
            pause = FIRST_PAUSE_SECONDS if worker.ready.is_set() else min(2 * pause, LONGEST_PAUSE_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            if not self._stopping.is_set():
                self._workers[slot] = await self._spawn()

    async def _spawn(self) -> Worker:
        return Worker(
            await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,  # its end is ours: a worker does not outlive its supervisor
                stdout=asyncio.subprocess.PIPE,
                pass_fds=[self._listening.fileno()],
            )
        )


async def supervise(supervisor: Supervisor, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Run until ``stop`` is set; SIGHUP renews the workers. ``ready`` is called once, when all workers serve.

    Raises:
        StartupError: a worker cannot start.
    """
    renewals: set[asyncio.Task[None]] = set()

    def renew() -> None:
        task = asyncio.create_task(supervisor.renew())
        renewals.add(task)
        task.add_done_callback(renewals.discard)

    await supervisor.start()
    ready()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, renew)
    await stop.wait()
    await supervisor.stop()
    await asyncio.gather(*renewals, return_exceptions=True)


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
