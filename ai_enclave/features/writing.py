"""What a writer is told, and what it writes: plain text, piece by piece."""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from ai_enclave.engine import Writer
from ai_enclave.engine.interface import Admitted, Done, Failed, Failure, Request, Token


@dataclass(frozen=True, slots=True)
class Instructions:
    """Constant words of ours, so that their digest in a receipt names them."""

    text: str

    @property
    def digest(self) -> bytes:
        """SHA-256, for receipts."""
        return hashlib.sha256(self.text.encode()).digest()


class NotWritten(Exception):
    """The engine ended without an answer."""

    def __init__(self, why: Failure) -> None:
        super().__init__(f"the engine wrote no answer: {why}")
        self.why = why


async def written(writer: Writer, request: Request) -> AsyncGenerator[str]:
    """The text of the answer. Closing the generator stops the work.

    Raises:
        NotWritten: there is no answer, or it would have been longer than it may be.
    """
    async with aclosing(writer.submit(request)) as events:
        async for event in events:
            match event:
                case Token(text):
                    yield text
                case Failed(why):
                    raise NotWritten(why)
                case Done(cut=True):
                    raise NotWritten(Failure.TOO_LONG)
                case Admitted() | Done():
                    pass
