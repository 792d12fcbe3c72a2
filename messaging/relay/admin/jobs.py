"""What a relay does in the background, as a domain of the console: how much waits to be forgotten, and whether it is."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.linking_tables import ProvisioningRow, UsedLinkTokenRow
from messaging.relay.accounts.tables import DeletedAccountRow, VerificationSessionRow
from messaging.relay.accounts.usernames import UsernameRow
from messaging.relay.admin.desk import Action, Desk, Nothing, View
from messaging.relay.admin.limits import MAX_COUNTED
from messaging.relay.admin.permissions import Permission
from messaging.relay.attachments.tables import AttachmentRow
from messaging.relay.delivery.sweep import SWEEP_SECONDS
from messaging.relay.messages.idempotency import RememberedSendRow
from messaging.relay.messages.reports import SpamReportRow
from messaging.relay.messages.tables import PayloadRow
from messaging.relay.nodes import read_figures, read_nodes
from messaging.wire.json import Entity

_LATE = 2 * SWEEP_SECONDS * 1000  # milliseconds: then a sweep has been left out

# Each has an index of its expiry. Envelopes have none, and are swept by mailbox: how many wait cannot be told cheaply.
SWEPT: Final[Mapping[str, Any]] = {
    "attachments": AttachmentRow,
    "deletedAccounts": DeletedAccountRow,
    "linkTokens": UsedLinkTokenRow,
    "payloads": PayloadRow,
    "provisioning": ProvisioningRow,
    "rememberedSends": RememberedSendRow,
    "spamReports": SpamReportRow,
    "usernames": UsernameRow,
    "verifications": VerificationSessionRow,
}


class Waiting(Entity):
    """Expired rows that no sweep has taken yet, counted up to ``MAX_COUNTED``. ``state`` is ``ok``, or ``late`` after two hours."""

    what: str
    state: str
    expired: int
    oldest_expired_at: int | None


class NodeSweeps(Entity):
    """What one relay has swept since it began."""

    node: str
    sweeps: int
    failures: int
    rows: int
    seen_at: int


class Jobs(Entity):
    """The sweeps: what waits for them, and who does them. Relays sweep every ``every_seconds``."""

    every_seconds: int
    waiting: tuple[Waiting, ...]
    nodes: tuple[NodeSweeps, ...]


async def _list(desk: Desk, db: AsyncConnection, _parameters: Nothing) -> Jobs:
    now = desk.now()
    return Jobs(
        every_seconds=SWEEP_SECONDS,
        waiting=tuple([await _waiting(db, what, row, now) for what, row in SWEPT.items()]),
        nodes=tuple(await _nodes(db)),
    )


async def _waiting(db: AsyncConnection, what: str, row: Any, now: int) -> Waiting:  # noqa: ANN401 - a table's class
    some = select(row.expires_at).where(row.expires_at <= now).order_by(row.expires_at).limit(MAX_COUNTED).subquery()
    count, oldest = (await db.execute(select(func.count(), func.min(some.c.expires_at)).select_from(some))).one()
    state = "ok" if oldest is None or now - oldest < _LATE else "late"
    return Waiting(what=what, state=state, expired=count, oldest_expired_at=oldest)


async def _nodes(db: AsyncConnection) -> list[NodeSweeps]:
    figures = await read_figures(db)
    nodes = [(node, figures[node.id].counters) for node in await read_nodes(db) if node.id in figures]
    return [
        NodeSweeps(
            node=node.name,
            sweeps=counters.get("sweeps", 0),
            failures=counters.get("sweep_failures", 0),
            rows=counters.get("swept_rows", 0),
            seen_at=node.seen_at,
        )
        for node, counters in nodes
    ]


VIEWS: Final[tuple[View[Any, Any], ...]] = (
    View("jobs.list", "Sweeps: what waits for them, and what they did", Permission.HEALTH_SEE, Nothing, Jobs, _list),
)
ACTIONS: Final[tuple[Action[Any], ...]] = ()
