"""Writers that write what a test says."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ai_enclave.engine.interface import Admitted, Done, Event, Request, Stats, Token, WriterKind


class ScriptedWriter:
    """A writer by its method ``write`` alone; who is done with it closes its generator."""

    name = "scripted"
    kind = WriterKind.LOCAL
    weights_digest = bytes(32)

    def write(self, request: Request) -> AsyncGenerator[str]:
        raise AssertionError("each test says what is written")

    async def submit(self, request: Request) -> AsyncGenerator[Event]:
        yield Admitted()
        count = 0
        async with aclosing(self.write(request)) as pieces:
            async for piece in pieces:
                count += 1
                yield Token(piece)
        yield Done(prompt_tokens=1, tokens=count)

    async def warm(self) -> None:
        pass

    def cancel(self, request_id: bytes) -> None:
        raise AssertionError("nobody cancels by an id here")

    async def drain(self) -> None:
        pass

    def stats(self) -> Stats:
        return Stats()

    async def close(self) -> None:
        pass
