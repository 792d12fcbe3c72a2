"""The one writer of a relay process: all sends go through it, and are announced as soon as they are committed.

A send that has an answer is on the disk. Sends that come while a commit is under way share the next one. A mailbox that somebody
else keeps locked (a relay whose machine is gone, in the middle of a transaction) holds up the sends to it, and no others.
"""

import time
from collections.abc import Callable, Sequence

from messaging.relay.batching import Bounds, GroupCommit
from messaging.relay.database import Database
from messaging.relay.delivery.wakeups import LocalWakeups, MailArrived, Wakeups
from messaging.relay.errors import Unavailable
from messaging.relay.lanes import Lane
from messaging.relay.messages.append import Append, Sequences, append
from messaging.relay.messages.held import Held
from messaging.relay.messages.tables import NewEnvelope, whole_envelope
from messaging.relay.metrics import Figures

BOUNDS = Bounds(batch_items=500, batch_bytes=8 * 2**20, waiting_items=10_000, waiting_bytes=64 * 2**20)


class EnvelopeWriter:
    """Appends sends. ``run`` does the work; ``here`` are the sockets of this process, which get what was just committed.

    ``figures`` are told how many envelopes are stored, and how long a commit takes.
    """

    def __init__(
        self,
        database: Database,
        wakeups: Wakeups,
        here: LocalWakeups,
        bounds: Bounds = BOUNDS,
        clock: Callable[[], float] = time.monotonic,
        figures: Figures | None = None,
    ) -> None:
        self._figures = figures or Figures()
        self._lane = Lane(database, relaxed=False)
        self._wakeups = wakeups
        self._here = here
        self._held = Held(self._lane, clock)
        self._commits: GroupCommit[Append, Sequences | None] = GroupCommit(self._write, bounds)

    async def append(self, send: Append) -> Sequences | None:
        """Append a send; it is committed when this returns. ``None``: nothing of it was stored (``messages.append``).

        Raises:
            Unavailable: the database cannot be reached or does not keep up; the outcome is unknown.
        """
        if self._held and self._held.any_of(_boxes(send)):
            raise Unavailable
        return await self._commits.submit(send, send.size)

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            await self._commits.run()
        finally:
            await self._lane.close()

    @property
    def waiting(self) -> int:
        """How many sends wait for a commit."""
        return self._commits.waiting

    async def settle(self) -> None:
        """Wait until nothing is left to write."""
        await self._commits.settle()

    async def _write(self, sends: Sequence[Append]) -> Sequence[Sequences | Unavailable | None]:
        boxes = (box for send in sends for box in _boxes(send))
        return await self._held.beside(boxes, lambda: self._append_free(sends))

    async def _append_free(self, sends: Sequence[Append]) -> Sequence[Sequences | Unavailable | None]:
        if not self._held:
            return await self._append(sends)
        held = [self._held.any_of(_boxes(send)) for send in sends]
        written = iter(await self._append([send for send, is_held in zip(sends, held, strict=True) if not is_held]))
        return [Unavailable() if is_held else next(written) for is_held in held]

    async def _append(self, sends: Sequence[Append]) -> Sequence[Sequences | None]:
        figures, started = self._figures, time.perf_counter()
        try:
            async with self._lane.batch() as db:
                results = await append(db, sends)
        except Exception:
            figures.commit_failures += 1
            raise
        figures.commit_seconds.add(time.perf_counter() - started)
        # After the commit: a device woken earlier could find its mailbox still empty.
        for send, sequences in zip(sends, results, strict=True):
            if sequences is not None:
                figures.envelopes_stored += len(sequences)
                for place, envelope in send.envelopes:
                    self._announce(place.mailbox_id, sequences[place.mailbox_id], envelope, send)
        return results

    def _announce(self, mailbox_id: int, sequence: int, envelope: NewEnvelope, send: Append) -> None:
        listens = self._here.count(mailbox_id) > 0
        data = whole_envelope(envelope, send.payload.data if send.payload else b"") if listens else None
        self._wakeups.announce(mailbox_id, MailArrived(sequence, data))


def _boxes(send: Append) -> list[int]:
    return [place.mailbox_id for place, _ in send.envelopes]
