"""When the frames of an answer leave: on a grid of times, and at each beat while an engine writes.

So what a relay sees of the time behind an answer is rounded, and of a text nothing but for how long it was written.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from ai_enclave.limits import ANSWER_GRID, STREAM_PACE
from messaging.wire.answers import AnswerPart, FrameWriter
from messaging.wire.content import AnswerFrame
from messaging.wire.limits import ANSWER_BUCKETS

MAX_STREAMED = ANSWER_BUCKETS[-2]  # frames of a stream; the rest is room for its result


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: an answer leaves at a multiple of ``grid`` after its request came; a stream has a frame at each ``beat``."""

    grid: float = ANSWER_GRID
    beat: float = STREAM_PACE


class Stream:
    """The text of an answer while an engine writes it."""

    def __init__(self) -> None:
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._text = ""
        self._taken = 0

    @property
    def text(self) -> str:
        """All that was written."""
        return self._text

    def begin(self) -> None:
        """The engine is this answer's now."""
        self.begun.set_result(None)

    def write(self, text: str) -> None:
        """Add what the engine wrote."""
        self._text += text

    def take(self) -> str:
        """What was written since this was asked last."""
        new, self._taken = self._text[self._taken :], len(self._text)
        return new


async def beats(
    work: "asyncio.Future[Any]", stream: Stream, frames: FrameWriter, pace: Pace
) -> AsyncGenerator[AnswerFrame]:
    """A frame at each beat, from when the engine begins to write until ``work`` ends, whether there is new text or not."""
    await asyncio.wait({work, stream.begun}, return_when=asyncio.FIRST_COMPLETED)
    clock = asyncio.get_running_loop().time
    beat = clock()
    while frames.frames < MAX_STREAMED:
        beat += pace.beat  # from the first one on: a consumer that takes its time does not slow the beat
        await asyncio.wait({work}, timeout=max(0.0, beat - clock()))
        if work.done():
            return
        if text := stream.take():
            frames.write(AnswerPart(text=text))
        yield frames.flush()


async def wait_for_grid(arrived: float, pace: Pace) -> None:
    """Wait until a multiple of the grid after ``arrived``, on the clock of the loop."""
    spent = asyncio.get_running_loop().time() - arrived
    await asyncio.sleep(-spent % pace.grid)
