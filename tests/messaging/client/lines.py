"""A TCP line between a client and its relay, which a test cuts, or leaves silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_AT_ONCE = 16 * 1024


@dataclass
class Line:
    """Passes bytes on to the relay at ``port`` and back.

    ``cuts`` are how many more bytes pass, in both directions together, until all connections break; the next one counts from
    there. Behind ``silent_at`` bytes nothing passes any more, and nothing breaks.
    """

    port: int
    cuts: list[int] = field(default_factory=list)
    silent_at: int | None = None
    dead: bool = False  # breaks whatever is connected
    up: int = 0  # bytes that have passed to the relay
    down: int = 0
    breaks: int = 0
    url: str = ""
    silent: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def heal(self) -> None:
        """Everything passes from now on."""
        self.cuts, self.silent_at, self.dead = [], None, False

    def break_all(self) -> None:
        """All connections break."""
        self.breaks += 1
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        there, away = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers |= {writer, away}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass(reader, away, up=True))
                tasks.create_task(self._pass(there, writer, up=False))
        finally:
            self._writers -= {writer, away}
            for each in (writer, away):
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        with suppress(ConnectionError):
            while some := await reader.read(_AT_ONCE):
                if self.silent_at is not None and self.up + self.down >= self.silent_at:
                    self.silent.set()
                    await asyncio.Event().wait()
                if self.dead or not self._may_pass(len(some)):
                    self.break_all()
                    return
                writer.write(some)
                await writer.drain()
                if up:
                    self.up += len(some)
                else:
                    self.down += len(some)
            writer.close()

    def _may_pass(self, count: int) -> bool:
        if not self.cuts:
            return True
        self.cuts[0] -= count
        if self.cuts[0] > 0:
            return True
        self.cuts.pop(0)
        return False


@asynccontextmanager
async def a_line(port: int) -> AsyncIterator[Line]:
    """A line to this port while the block lasts."""
    line = Line(port)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.append(task := asyncio.create_task(line.serve(reader, writer)))
        await asyncio.wait([task])

    running: list[asyncio.Task[None]] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield line
    server.close()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
