"""What stands between clients and a relay, and can fail: connections that are cut, or open and dead, or refused."""

import asyncio
from contextlib import suppress

CHUNK = 64 * 1024


class FaultProxy:
    """Forwards TCP to ``target``, a port of the loopback that may change."""

    def __init__(self) -> None:
        self.port = 0
        self.target = 0
        self.dead = False  # bytes are swallowed, in both directions
        self.refusing = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Cut everything and listen no more."""
        self.cut()
        if self._server is not None:
            self._server.close()

    def cut(self) -> None:
        """End all connections at once, with a reset."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, onward_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._forward(reader, onward_writer), self._forward(onward_reader, writer))
        finally:
            self._writers -= both

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                if not self.dead:
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort() if self.dead else writer.close()
