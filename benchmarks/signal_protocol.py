"""What the bridge to Node costs: the same operations through it, and in Node alone, in the same run.

``python -m benchmarks.signal_protocol [--seconds 0.5] [--repeats 3] [--json]``. Each figure is the median of the repeats,
which alternate between Node alone and the bridge, so that a busy machine slows both. The target is a ratio to Node alone
that is at most 1.3 times worse than the one measured on the prototype, on an otherwise idle machine.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from signal_protocol import operations
from signal_protocol.memory_store import MemoryStore, MemoryTransaction
from signal_protocol.operations import SignalCrypto
from signal_protocol.sessions import SessionService
from signal_protocol.types import Address, LocalDevice
from signal_protocol.worker_process import Worker, WorkerConfig, start_worker

IN_FLIGHT: Final = (1, 8, 64)
ALLOWED: Final = 1.3
ROUNDS: Final = 40  # of ping-pong, until a session record has its usual size of about 5 KB

# Bridge to Node alone in calls a second, with 1, 8 and 64 calls in flight: two virtual cores, Node 20, the prototype.
PROTOTYPE: Final = {
    "encrypt 100 B": (0.49, 0.65, 0.85),
    "encrypt 4 KB": (0.54, 0.72, 0.90),
    "decrypt 100 B": (0.75, 1.09, 1.01),
    "process bundle": (0.84, 0.93, 0.99),
    "empty call": (None, None, None),
}

Call = Callable[[], Awaitable[object]]
Service = SessionService[MemoryTransaction]


@dataclass(frozen=True, slots=True)
class Case:
    """One operation: through the bridge, and as the worker gets it."""

    name: str
    call: Call
    operation: str
    arguments: list[object]


@dataclass(frozen=True, slots=True)
class Figure:
    """Calls a second, and latencies in microseconds."""

    rate: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``within`` tells for each ratio whether it meets the target."""

    name: str
    alone: Figure
    bridge: list[Figure]
    ratios: list[float]
    prototype: list[float | None]
    within: list[bool]


async def main() -> None:
    """Measure and print."""
    options = parse_options()
    entry = Path(__file__).resolve().with_name("signal_protocol_alone.mjs")
    async with SignalCrypto.start() as crypto, start_worker(WorkerConfig(entry=entry)) as alone:
        cases = await prepare(crypto)
        with awake_cores():
            rows = [await compare(case, alone, options.seconds, options.repeats) for case in cases]
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(table(rows))


@contextmanager
def awake_cores() -> Iterator[None]:
    """Keep each core busy with a loop that gives way to everything else."""
    program = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    loops = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="What the bridge to Node costs.")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement (default 0.5)")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement (default 3)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


# --- what is measured ---


async def prepare(crypto: SignalCrypto) -> list[Case]:
    """Two people in the middle of a conversation, and the calls of one of them."""
    alice, bob = await a_person(crypto), await a_person(crypto)
    await alice.start_session(bob.local.address, await bob.make_bundle(key_id=1))
    for _ in range(ROUNDS):
        await talk(alice, bob)
        await talk(bob, alice)
    await talk(alice, bob)
    message = await bob.encrypt(alice.local.address, bytes(100))  # the first of a chain: a Diffie-Hellman step
    session, now = await record_of(alice, bob), time.time_ns() // 1_000_000
    bundle = await bob.make_bundle(key_id=2)
    local, remote, known = alice.local, bob.local.address, bob.local.identity.public_key
    sides = [operations._local(local), operations._remote(remote)]
    small, large = bytes(100), bytes(4096)

    def encrypt(plaintext: bytes) -> Call:
        return lambda: crypto.encrypt(
            local=local, remote=remote, session=session, known=known, plaintext=plaintext, now=now
        )

    def decrypt() -> Awaitable[object]:
        return crypto.decrypt(
            local=local, remote=remote, session=session, known=known, kind=message.kind, ciphertext=message.ciphertext
        )

    def process_bundle() -> Awaitable[object]:
        return crypto.process_bundle(local=local, remote=remote, session=None, known=known, bundle=bundle, now=now)

    reading = [*sides, session, known, True]
    return [
        Case("encrypt 100 B", encrypt(small), "encrypt", [*reading, small, now]),
        Case("encrypt 4 KB", encrypt(large), "encrypt", [*reading, large, now]),
        Case("decrypt 100 B", decrypt, "decrypt", [*reading, int(message.kind), message.ciphertext, None, None, None]),
        Case(
            "process bundle",
            process_bundle,
            "process_bundle",
            [*sides, None, known, True, operations._bundle(bundle), now],
        ),
        Case("empty call", lambda: crypto.ping(small), "ping", [small]),
    ]


async def a_person(crypto: SignalCrypto) -> Service:
    """A device with an empty store."""
    local = LocalDevice(Address(str(uuid4()), 1), await crypto.generate_identity(), registration_id=1)
    return SessionService(crypto, MemoryStore(), local)


async def talk(sender: Service, recipient: Service) -> None:
    """One message."""
    message = await sender.encrypt(recipient.local.address, b"hello")
    await recipient.decrypt(sender.local.address, message.kind, message.ciphertext)


async def record_of(owner: Service, remote: Service) -> bytes:
    """The session record."""
    async with owner._store.transaction() as transaction:
        stored = await transaction.load_session(remote.local.address)
    assert stored is not None
    return stored.record


# --- measuring ---


async def compare(case: Case, alone: Worker, seconds: float, repeats: int) -> Row:
    """Alternate between Node alone and the bridge."""
    in_node: list[Figure] = []
    in_bridge: list[list[Figure]] = [[] for _ in IN_FLIGHT]
    for _ in range(repeats):
        in_node.append(await measure_alone(alone, case, seconds))
        for figures, in_flight in zip(in_bridge, IN_FLIGHT, strict=True):
            figures.append(await measure_bridge(case.call, in_flight, seconds))
    node, bridge = median(in_node), [median(figures) for figures in in_bridge]
    ratios = [round(figure.rate / node.rate, 3) for figure in bridge]
    prototype = list(PROTOTYPE[case.name])
    within = [target is None or ratio * ALLOWED >= target for ratio, target in zip(ratios, prototype, strict=True)]
    return Row(case.name, node, bridge, ratios, prototype, within)


async def measure_alone(alone: Worker, case: Case, seconds: float) -> Figure:
    """Run an operation inside Node."""
    rate, p50, p99 = await alone.call("measure", case.operation, case.arguments, round(seconds * 1000))
    return Figure(float(str(rate)), float(str(p50)), float(str(p99)))


async def measure_bridge(call: Call, in_flight: int, seconds: float) -> Figure:
    """Keep ``in_flight`` calls running."""
    latencies: list[float] = []
    start = time.perf_counter()
    end = start + seconds

    async def caller() -> None:
        while (before := time.perf_counter()) < end:
            await call()
            latencies.append((time.perf_counter() - before) * 1e6)

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    rate = len(latencies) / (time.perf_counter() - start)
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [latencies[0]] * 99
    return Figure(round(rate), round(cuts[49]), round(cuts[98]))


def median(figures: list[Figure]) -> Figure:
    """The median of each number."""
    return Figure(
        statistics.median(figure.rate for figure in figures),
        statistics.median(figure.p50 for figure in figures),
        statistics.median(figure.p99 for figure in figures),
    )


def table(rows: list[Row]) -> str:
    """Lay out the rows for a terminal."""
    heads = ["calls a second", "Node alone", *(f"bridge, {number}" for number in IN_FLIGHT), "ratios", "prototype", ""]
    lines = [
        [
            row.name,
            f"{row.alone.rate:,.0f}",
            *(f"{figure.rate:,.0f}" for figure in row.bridge),
            " ".join(f"{ratio:.2f}" for ratio in row.ratios),
            " ".join("-" if ratio is None else f"{ratio:.2f}" for ratio in row.prototype),
            "ok" if all(row.within) else f"more than {ALLOWED} times worse",
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [heads, *lines]) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [heads, *lines]
    )


if __name__ == "__main__":
    asyncio.run(main())
