"""Processes of a deployment with bots, each of which can be killed and started again: bot, gateway, webhook target, relay."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.servers import tree_of
from tests.system.faults.harness import Relay
from tests.system.faults.proxy import FaultProxy

READY_SECONDS = 60  # the machine may have much else to do
ORPHAN_SECONDS = 20  # until what a killed process had started has to be gone


class Part(Protocol):
    """What can be killed. ``kills`` says when that was, seconds since 1970."""

    kills: list[float]

    async def start(self) -> None:
        """Start it, and wait until it is there."""
        ...

    async def kill(self) -> None:
        """End it with no warning."""
        ...


@dataclass
class RelayPart:
    """A relay behind its proxy."""

    relay: Relay
    kills: list[float] = field(default_factory=list)

    async def start(self) -> None:
        """Start it."""
        await self.relay.start()

    async def kill(self) -> None:
        """Kill it, with all connections."""
        self.kills.append(time.time())
        await self.relay.kill()
        self.relay.proxy.cut()


@dataclass
class ProcessPart:
    """A Python module as a process; the first line that it prints says that it is there. Its log is in ``log``.

    With a ``proxy``, the line is the port to which that leads.
    """

    module: str
    arguments: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    proxy: FaultProxy | None = None
    kills: list[float] = field(default_factory=list)
    said: str = ""
    _process: asyncio.subprocess.Process | None = None
    _children: set[int] = field(default_factory=set)

    async def start(self) -> None:
        """Start it, and wait for its line."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self.module, *self.arguments),
                env={**os.environ, **self.environment},
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), READY_SECONDS)
        self.said = line.decode().strip()
        assert self.said, f"{self.module} did not start:\n{self.log.read_text()[-2000:]}"
        if self.proxy is not None:
            self.proxy.target = int(self.said)

    async def kill(self) -> None:
        """Kill it alone: what it has started has to notice."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._children |= set(tree_of(process.pid)[1:])
        self.kills.append(time.time())
        process.kill()
        await process.communicate()

    async def left_running(self) -> int:
        """How many processes that it had started outlive it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ORPHAN_SECONDS):
                while any(map(_runs, self._children)):
                    await asyncio.sleep(0.05)
        return sum(map(_runs, self._children))


def _runs(pid: int) -> bool:
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False
