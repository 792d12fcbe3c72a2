"""Relay processes as a domain of the console: which there are, and having them drain one after the other."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.desk import Action, Desk, Done, Effect, Nothing, Operator, View
from messaging.relay.admin.errors import Conflict, InvalidInput, NothingThere
from messaging.relay.admin.permissions import Permission
from messaging.relay.metrics import Snapshot
from messaging.relay.nodes import (
    Node,
    State,
    ask_to_drain,
    database_time,
    read_figures,
    read_nodes,
    stop_draining,
)
from messaging.wire.json import Entity

GONE: Final = "gone"  # it has fallen silent without having said that it ends


class ShownNode(Entity):
    """A relay process. Times are milliseconds since 1970; ``state`` is ready, draining, broken, ended or gone."""

    id: UUID
    name: str
    state: str
    version: str
    started_at: int
    seen_at: int
    drain_asked_at: int | None = None
    sockets: int | None = None
    failures: int | None = None


class ShownNodes(Entity):
    """All processes of the last hour, those that were seen last first. ``at`` is the time that ``seen_at`` is of."""

    at: int
    nodes: list[ShownNode]


class WhichNodes(Entity):
    """One process, or all of them; one of the two has to be said."""

    node: UUID | None = None
    all: bool = False


class Drain(WhichNodes):
    """``even_if_alone``: also while no other process serves, so that clients find nobody until it is started anew."""

    even_if_alone: bool = False


async def _list(_desk: Desk, db: AsyncConnection, _parameters: Nothing) -> ShownNodes:
    now, figures = await database_time(db), await read_figures(db)
    return ShownNodes(at=now, nodes=[_shown(node, figures.get(node.id), now) for node in await read_nodes(db)])


def _shown(node: Node, figures: Snapshot | None, now: int) -> ShownNode:
    return ShownNode(
        id=node.id,
        name=node.name,
        state=state_of(node, now),
        version=node.version,
        started_at=node.started_at,
        seen_at=node.seen_at,
        drain_asked_at=node.drain_asked_at,
        sockets=None if figures is None else figures.gauges.get("sockets"),
        failures=None if figures is None else failures_of(figures.counters),
    )


def state_of(node: Node, now: int) -> str:
    """What a process does, as far as others can know."""
    return GONE if node.is_gone(now) else node.state.value


def failures_of(counters: Mapping[str, int]) -> int:
    """How often something failed by a fault of a relay or of what it stands on."""
    return sum(value for name, value in counters.items() if name.endswith("_failures"))


async def _drain(_desk: Desk, db: AsyncConnection, wanted: Drain, _operator: Operator) -> Done:
    now, nodes = await database_time(db), await read_nodes(db)
    named = [node for node in _named(wanted, nodes) if node.serves(now) and node.drain_asked_at is None]
    if not named:
        raise Conflict(
            "It is not ready, or was asked already." if wanted.node else "No process is ready and not asked yet."
        )
    if not wanted.even_if_alone and sum(node.serves(now) for node in nodes) == 1:
        raise Conflict("No other process serves: it would drain only when told to do so even if alone.")
    figures = await read_figures(db)
    count = await ask_to_drain(db, [node.id for node in named], alone=wanted.even_if_alone)
    sockets = sum(figures[node.id].gauges.get("sockets", 0) for node in named if node.id in figures)
    effects = (Effect("relay processes", count), Effect("open sockets", sockets))
    return Done(effects, _subject(wanted, named), {"nodes": sorted(node.name for node in named)})


async def _stop(_desk: Desk, db: AsyncConnection, wanted: WhichNodes, _operator: Operator) -> Done:
    named = [node for node in _named(wanted, await read_nodes(db)) if node.drain_asked_at is not None]
    count = await stop_draining(db, [node.id for node in named if node.state is State.READY])
    if not count:
        raise Conflict("None of them waits for its turn: what has begun to drain goes on.")
    return Done((Effect("relay processes", count),), _subject(wanted, named))


def _named(wanted: WhichNodes, nodes: Sequence[Node]) -> list[Node]:
    if (wanted.node is None) is not wanted.all:
        raise InvalidInput(("node", "all"), "Name one process, or say that you mean all of them.")
    named = [node for node in nodes if wanted.all or node.id == wanted.node]
    if not named:
        raise NothingThere
    return named


def _subject(wanted: WhichNodes, named: Sequence[Node]) -> str:
    return "all nodes" if wanted.all else f"node {named[0].name}"


_DRAIN = Permission.NODES_DRAIN
VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View("nodes.list", "Relay processes, and how each is", Permission.HEALTH_SEE, Nothing, ShownNodes, _list),
)
ACTIONS: Final[tuple[Action[Any], ...]] = (
    Action("nodes.drain", "Send clients to other processes, and start anew", _DRAIN, Drain, _drain, dangerous=True),
    Action("nodes.stop_drain", "Take back what waits for its turn to drain", _DRAIN, WhichNodes, _stop),
)
