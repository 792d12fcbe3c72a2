"""Devices that connect: all mailboxes that are opened at a time are opened together, as after a relay has been replaced.

It is a relaxed commit. A crash of the database may take back the number of a connection, which is then given again: at the worst
a device has two sockets until the old one is found dead. What a device says it has may be delivered to it once more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from messaging.relay.batching import Bounds, GroupCommit, Refused
from messaging.relay.database import Database
from messaging.relay.errors import RelayError, Unavailable
from messaging.relay.lanes import Held, Lane
from messaging.relay.messages.tables import (
    Connected,
    Connecting,
    StoredGap,
    connect_mailboxes,
    delete_expired,
    read_gaps,
)

BOUNDS = Bounds(batch_items=200, batch_bytes=1, waiting_items=50_000, waiting_bytes=1)
GAPS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Opened:
    """A mailbox as it is when its device connects. Nothing waits up to ``empty_up_to``."""

    connection: int  # its number: of two connections the later one has the greater
    last_sequence: int
    empty_up_to: int
    gaps: list[StoredGap]


class Openings:
    """Opens mailboxes. ``run`` does the work; ``now`` gives milliseconds since 1970."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now
        self._lane = Lane(database, relaxed=True)
        self._commits: GroupCommit[Connecting, Connected | None] = GroupCommit(self._connect, BOUNDS)

    async def open(self, mailbox_id: int, *, resume_after: int | None, wants_gaps: bool) -> Opened | None:
        """Begin to deliver; ``None`` if the mailbox is gone.

        ``resume_after`` is the sequence up to which the device has everything: that is forgotten. For a device that wants to hear
        of gaps, what has expired is forgotten too, and told.

        Raises:
            Unavailable: the database cannot be reached.
        """
        connected = await self._commits.submit(Connecting(mailbox_id, resume_after, wants_gaps))
        if connected is None:
            return None
        gaps = await self._gaps(mailbox_id) if wants_gaps else []
        return Opened(connected.connection, connected.last_sequence, connected.empty_up_to, gaps)

    async def run(self) -> None:
        """Open until cancelled."""
        try:
            await self._commits.run()
        finally:
            await self._lane.close()

    async def _connect(self, connecting: Sequence[Connecting]) -> Sequence[Connected | RelayError | None]:
        once: dict[int, Connecting] = {}
        # A device that connects twice at a time: each connection has its own number.
        again = [each for each in connecting if once.setdefault(each.mailbox_id, each) is not each]
        try:
            found = await self._lane.twice(lambda db: connect_mailboxes(db, list(once.values())))
        except Held as error:
            if len(connecting) > 1:
                raise Refused from error
            return [Unavailable()]
        later = iter(await self._connect(again) if again else [])
        return [found.get(each.mailbox_id) if once[each.mailbox_id] is each else next(later) for each in connecting]

    async def _gaps(self, mailbox_id: int) -> list[StoredGap]:
        async with self._database.begin() as db:
            await delete_expired(db, first=mailbox_id, last=mailbox_id, now=self._now())
            return await read_gaps(db, mailbox_id, limit=GAPS_AT_ONCE)
