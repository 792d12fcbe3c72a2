"""Relay processes as operators see them: each says every few seconds that it is there, and drains when it is asked to and may.

A process that drains ends, and whoever keeps it running starts it anew. Of several that are asked, one goes at a time, in the order
of asking, and only while another one serves. Times of all processes are the database's, so that their clocks need not agree.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, cast, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.database import Database
from messaging.relay.metrics import Snapshot
from messaging.relay.node_tables import NodeRow
from messaging.serving.logs import get_logger

BEAT_SECONDS: Final = 5
JITTER_SECONDS: Final = 1  # processes that were started together need not write together
LATELY_MILLISECONDS: Final = 20_000  # who has not been seen for so long does not count as serving
RETURN_MILLISECONDS: Final = 60_000  # for so long the next one waits for the return of the one that drained before
KEPT_MILLISECONDS: Final = 60 * 60 * 1000
_TURN_LOCK: Final = 0x5375_6252_6F73_6E64  # of PostgreSQL: who decides whether it drains
CLEAN_SECONDS: Final = 60 * 60
LEAVE_SECONDS: Final = 3
MAX_NODES: Final = 1000  # that are looked at
MAX_FIGURES: Final = 200  # processes whose figures are summed
MAX_NODE_NAME: Final = 64  # characters


class State(StrEnum):
    """What a process does."""

    READY = "ready"
    DRAINING = "draining"  # it goes on with what was begun, and takes no more
    BROKEN = "broken"  # a part of it has failed; it is to be started anew
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Node:
    """A process as it last described itself. Times are milliseconds since 1970.

    ``drain_alone``: it was asked to drain even while no other one serves.
    """

    id: UUID
    name: str
    version: str
    started_at: int
    seen_at: int
    state: State
    drain_asked_at: int | None = None
    drain_alone: bool = False

    def serves(self, now: int) -> bool:
        """Whether it is ready, and was seen lately."""
        return self.state is State.READY and self.seen_lately(now)

    def seen_lately(self, now: int) -> bool:
        """Whether it has said something lately."""
        return now - self.seen_at <= LATELY_MILLISECONDS

    def is_gone(self, now: int) -> bool:
        """Whether it has fallen silent without having said that it ends."""
        return self.state is not State.ENDED and not self.seen_lately(now)


def may_drain(me: UUID, nodes: Sequence[Node], now: int) -> bool:
    """Whether it is the turn of ``me`` to drain. All processes decide by this, from the same rows, and at most one is told yes.

    It was asked to; of those that serve and were asked nobody comes before it; nobody else drains; the one that drained before is back, or
    has stayed away for a minute; and another one serves, unless it was asked to drain in any case.
    """
    own = next((node for node in nodes if node.id == me), None)
    if own is None or own.drain_asked_at is None or own.state is not State.READY:
        return False
    others = [node for node in nodes if node.id != me]
    if any(node.state is State.DRAINING and node.seen_lately(now) for node in others):
        return False
    if any(_comes_before(node, own) for node in others if node.serves(now)):
        return False
    if any(_is_awaited(node, others, now) for node in others):
        return False
    return own.drain_alone or any(node.serves(now) for node in others)


def _comes_before(node: Node, own: Node) -> bool:
    if node.drain_asked_at is None or own.drain_asked_at is None:
        return False
    return (node.drain_asked_at, node.id.bytes) < (own.drain_asked_at, own.id.bytes)


def _is_awaited(node: Node, nodes: Sequence[Node], now: int) -> bool:
    """Whether ``node`` has drained a moment ago, and nobody of its name serves since."""
    if node.state is not State.ENDED or node.drain_asked_at is None or now - node.seen_at > RETURN_MILLISECONDS:
        return False
    return not any(each.name == node.name and each.started_at >= node.started_at and each.serves(now) for each in nodes)


def node_name(given: str | None, host: str, worker: int | None) -> str:
    """What a process is called: as the operator says or like its machine, with its number where there are several workers."""
    number = "" if worker is None else f"-{worker}"
    return (given or host.partition(".")[0] or "relay")[: MAX_NODE_NAME - len(number)] + number


class Heartbeat:
    """The row of this process. ``run`` keeps it up to date from :meth:`begin` to :meth:`leave`.

    ``drain`` is called, once, when this process is to drain.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        version: str,
        figures: Callable[[], Snapshot],
        stopping: asyncio.Event,
        broken: asyncio.Event,
        drain: Callable[[], None],
    ) -> None:
        self.id = uuid4()
        self._database = database
        self._name = name
        self._version = version
        self._figures = figures
        self._stopping = stopping
        self._broken = broken
        self._drain = drain
        self._begun = asyncio.Event()
        self._turn = asyncio.Lock()
        self._left = False
        self._asked = False  # to drain, and it does
        self._told_to_stop = False
        self._cleans_at = 0.0

    @property
    def state(self) -> State:
        """What this process does."""
        if self._stopping.is_set() or self._asked:
            return State.DRAINING
        return State.BROKEN if self._broken.is_set() else State.READY

    def begin(self) -> None:
        """The process serves from now on."""
        self._begun.set()

    async def run(self) -> None:
        """Say every few seconds that this process is there, until cancelled."""
        await self._begun.wait()
        while True:
            try:
                await self.beat()
            except Exception as error:  # noqa: BLE001 - the next beat is seconds away, and nothing is served worse meanwhile
                get_logger().warning("heartbeat_failed", error=type(error).__name__)
            await self._pause()

    async def beat(self) -> None:
        """Write the row, and read in it whether to drain. Who decides to says so in the same transaction: no two do."""
        async with self._turn:
            if self._left:
                return
            async with self._database.begin() as db:
                now, asked = await self._write(db, self.state)
                if time.monotonic() >= self._cleans_at:
                    self._cleans_at = time.monotonic() + CLEAN_SECONDS
                    await delete_nodes(db, before=now - KEPT_MILLISECONDS)
                drains = asked and not self._asked and await self._takes_its_turn(db)
            self._asked |= drains
        if drains:
            get_logger().info("drain_begins")
            self._drain()

    async def leave(self) -> None:
        """Say that this process ends; if that cannot be said soon, it is not."""
        with suppress(Exception):  # then it has fallen silent, and is forgotten later
            async with asyncio.timeout(LEAVE_SECONDS), self._turn:
                self._left = True
                if self._begun.is_set():
                    async with self._database.begin(LEAVE_SECONDS) as db:
                        await self._write(db, State.ENDED)

    async def _write(self, db: AsyncConnection, state: State) -> tuple[int, bool]:
        """The database's time, and whether this process is asked to drain."""
        row, now = NodeRow, _now(db)
        values = {"seen_at": now, "state": state.value, "figures": self._figures().as_document()}
        seen = update(row).where(row.id == self.id).values(values).returning(row.seen_at, row.drain_asked_at)
        found = (await db.execute(seen)).one_or_none()
        if found is None:  # at the start; or it was forgotten meanwhile, or the database restored
            more = {"id": self.id, "name": self._name, "version": self._version, "started_at": now}
            found = (
                await db.execute(insert(row).values(values | more).returning(row.seen_at, row.drain_asked_at))
            ).one()
        return found[0], found[1] is not None

    async def _takes_its_turn(self, db: AsyncConnection) -> bool:
        """Whether this process drains from now on; if so, its row says it."""
        if db.dialect.name == "postgresql":  # who decides at the same time waits, and then reads what came of this
            await db.execute(select(func.pg_advisory_xact_lock(literal(_TURN_LOCK, BigInteger))))
        if not may_drain(self.id, await read_nodes(db), await database_time(db)):
            return False
        await db.execute(update(NodeRow).where(NodeRow.id == self.id).values(state=State.DRAINING.value))
        return True

    async def _pause(self) -> None:
        seconds = BEAT_SECONDS + random.uniform(-JITTER_SECONDS, JITTER_SECONDS)  # noqa: S311 - no secret
        if self._told_to_stop:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()  # that it drains is said at once: the others wait for it
                self._told_to_stop = True


def _now(db: AsyncConnection) -> Any:  # noqa: ANN401 - an expression of SQL
    """The time as the database has it, in milliseconds since 1970. An SQLite file is this machine's."""
    if db.dialect.name == "postgresql":
        return cast(func.extract("epoch", func.clock_timestamp()) * 1000, BigInteger)
    return literal(time.time_ns() // 1_000_000, BigInteger)


async def database_time(db: AsyncConnection) -> int:
    """The time that nodes are seen at, in milliseconds since 1970."""
    now: int = (await db.execute(select(_now(db)))).scalar_one()
    return now


async def read_nodes(db: AsyncConnection) -> list[Node]:
    """All processes of the last hour, those that were seen last first."""
    row = NodeRow
    when = (row.started_at, row.seen_at, row.state, row.drain_asked_at, row.drain_alone)
    found = await db.execute(select(row.id, row.name, row.version, *when).order_by(row.seen_at.desc()).limit(MAX_NODES))
    return [
        Node(node, name, version, started_at, seen_at, State(state), asked_at, alone)
        for node, name, version, started_at, seen_at, state, asked_at, alone in found
    ]


async def read_figures(db: AsyncConnection) -> dict[UUID, Snapshot]:
    """The figures of processes of the last hour, those that have ended included: so sums do not fall when one is started anew.

    Of one of another version it is what this version understands.
    """
    row, figures = NodeRow, {}
    query = select(row.id, row.figures).order_by(row.seen_at.desc()).limit(MAX_FIGURES)
    for node, document in await db.execute(query):
        with suppress(ValueError):
            figures[node] = Snapshot.from_document(document)
    return figures


async def ask_to_drain(db: AsyncConnection, nodes: Sequence[UUID], *, alone: bool) -> int:
    """Ask these to drain, each when its turn comes; returns how many were not asked before."""
    row = NodeRow
    asked = update(row).where(row.id.in_(nodes), row.drain_asked_at.is_(None))
    return (await db.execute(asked.values(drain_asked_at=_now(db), drain_alone=alone))).rowcount


async def stop_draining(db: AsyncConnection, nodes: Sequence[UUID]) -> int:
    """Take back what these were asked; returns how many had been. One that has begun to drain goes on."""
    row = NodeRow
    waiting = update(row).where(row.id.in_(nodes), row.drain_asked_at.is_not(None), row.state == State.READY.value)
    return (await db.execute(waiting.values(drain_asked_at=None, drain_alone=False))).rowcount


async def delete_nodes(db: AsyncConnection, *, before: int) -> None:
    """Forget those that were last seen before this time."""
    await db.execute(delete(NodeRow).where(NodeRow.seen_at < before))
