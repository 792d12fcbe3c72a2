"""The one writer of a relay process: all sends go through it, and are announced as soon as they are committed.

A send that has an answer is on the disk. Sends that come while a commit is under way share the next one.
"""

from collections.abc import Sequence

from messaging.relay.batching import Bounds, GroupCommit
from messaging.relay.database import Database, Lane
from messaging.relay.delivery.wakeups import LocalWakeups, MailArrived, Wakeups
from messaging.relay.messages.append import Append, Sequences, append
from messaging.relay.messages.tables import NewEnvelope, whole_envelope

BOUNDS = Bounds(batch_items=500, batch_bytes=8 * 2**20, waiting_items=10_000, waiting_bytes=64 * 2**20)


class EnvelopeWriter:
    """Appends sends. ``run`` does the work; ``here`` are the sockets of this process, which get what was just committed."""

    def __init__(self, database: Database, wakeups: Wakeups, here: LocalWakeups, bounds: Bounds = BOUNDS) -> None:
        self._lane = Lane(database, relaxed=False)
        self._wakeups = wakeups
        self._here = here
        self._commits: GroupCommit[Append, Sequences | None] = GroupCommit(self._write, bounds)

    async def append(self, send: Append) -> Sequences | None:
        """Append a send; it is committed when this returns. ``None``: nothing of it was stored (``messages.append``).

        Raises:
            Unavailable: the database cannot be reached or does not keep up; the outcome is unknown.
        """
        return await self._commits.submit(send, send.size)

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            await self._commits.run()
        finally:
            await self._lane.close()

    async def settle(self) -> None:
        """Wait until nothing is left to write."""
        await self._commits.settle()

    async def _write(self, sends: Sequence[Append]) -> Sequence[Sequences | None]:
        async with self._lane.batch() as db:
            results = await append(db, sends)
        # After the commit: a device woken earlier could find its mailbox still empty.
        for send, sequences in zip(sends, results, strict=True):
            if sequences is not None:
                for place, envelope in send.envelopes:
                    self._announce(place.mailbox_id, sequences[place.mailbox_id], envelope, send)
        return results

    def _announce(self, mailbox_id: int, sequence: int, envelope: NewEnvelope, send: Append) -> None:
        listens = self._here.count(mailbox_id) > 0
        data = whole_envelope(envelope, send.payload.data if send.payload else b"") if listens else None
        self._wakeups.announce(mailbox_id, MailArrived(sequence, data))
