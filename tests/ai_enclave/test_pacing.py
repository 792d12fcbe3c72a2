"""Frames leave on a grid of times; while an engine writes, one leaves at each beat."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_enclave.pacing import MAX_STREAMED, Pace, Stream, beats, wait_for_grid
from messaging.wire.answers import AnswerPart, FrameReader, FrameWriter
from messaging.wire.limits import ANSWER_BUCKETS, MAX_DEADLINE
from tests.ai_enclave.virtual_time import run_in_virtual_time

PACE = Pace()


@given(spent=st.floats(0, 60))
def test_an_answer_leaves_at_the_next_multiple_of_the_grid_after_its_request(spent: float) -> None:
    async def main() -> float:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(7.123)
        arrived = clock()
        await asyncio.sleep(spent)
        await wait_for_grid(arrived, PACE)
        return clock() - arrived

    left = run_in_virtual_time(main)
    assert left / PACE.grid == pytest.approx(round(left / PACE.grid), abs=1e-6)
    assert -1e-6 <= left - spent <= PACE.grid + 1e-6


def streamed(*writes: tuple[float, str], lasts: float, begins: float = 0.0) -> list[tuple[float, str]]:
    """The times at which frames leave and what they show, if so much is written at these times."""

    async def write(stream: Stream) -> None:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(begins)
        stream.begin()
        for at, text in writes:
            await asyncio.sleep(at - clock())
            stream.write(text)
        await asyncio.sleep(lasts - clock())

    async def main() -> list[tuple[float, str]]:
        clock, stream, frames, reader = asyncio.get_running_loop().time, Stream(), FrameWriter(bytes(16)), FrameReader()
        work = asyncio.ensure_future(write(stream))
        seen: list[tuple[float, str]] = []
        async with aclosing(beats(work, stream, frames, PACE)) as leaving:
            async for frame in leaving:
                seen.append((round(clock(), 6), "".join(part.text for part in reader.read(frame))))  # noqa: PERF401
        await work
        assert stream.text == "".join(text for _, text in writes)
        return seen

    return run_in_virtual_time(main)


def test_a_frame_leaves_at_each_beat_whether_there_is_text_or_not() -> None:
    assert streamed((0.1, "a"), (0.2, "b"), (0.8, "c"), lasts=1.1) == [(0.25, "ab"), (0.5, ""), (0.75, ""), (1.0, "c")]


def test_none_leaves_before_the_engine_begins() -> None:
    assert streamed((10.1, "a"), begins=10, lasts=10.3) == [(10.25, "a")]


def test_none_leaves_of_what_ends_before_it_begins_or_within_a_beat() -> None:
    assert streamed((0.1, "a"), lasts=0.2) == []

    async def main() -> int:
        work = asyncio.ensure_future(asyncio.sleep(3))
        return len([frame async for frame in beats(work, Stream(), FrameWriter(bytes(16)), PACE)])

    assert run_in_virtual_time(main) == 0


def test_so_many_are_streamed_and_the_rest_waits_for_the_result() -> None:
    long = MAX_STREAMED * PACE.beat + 5
    assert long < MAX_DEADLINE / 1000
    assert len(streamed((long - 1, "late"), lasts=long)) == MAX_STREAMED < ANSWER_BUCKETS[-1]


def test_a_consumer_that_takes_its_time_does_not_slow_the_beat() -> None:
    async def main() -> list[float]:
        clock, stream = asyncio.get_running_loop().time, Stream()
        stream.begin()
        work = asyncio.ensure_future(asyncio.sleep(1.6))
        seen = []
        async with aclosing(beats(work, stream, FrameWriter(bytes(16)), PACE)) as leaving:
            async for _ in leaving:
                seen.append(round(clock(), 6))
                await asyncio.sleep(0.1 if len(seen) != 3 else 0.4)
        return seen

    assert run_in_virtual_time(main) == [0.25, 0.5, 0.75, 1.15, 1.25, 1.5]


def test_streamed_text_leaves_room_for_the_result() -> None:
    frames = FrameWriter(bytes(16))
    for _ in range(MAX_STREAMED):
        frames.flush()
    frames.write(AnswerPart(result=bytes(400_000)))
    assert len(list(frames.finish())) == ANSWER_BUCKETS[-1] - MAX_STREAMED
