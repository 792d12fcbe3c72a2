"""What devices have acknowledged is forgotten, for all sockets of this process together.

It is the second group commit of a relay process, and a relaxed one: an acknowledgement that a crash undoes costs a delivery that
the device recognises. Receipts for senders are stored in the same transaction, so there is one for each envelope that
was forgotten, neither none nor two. Such a transaction is not relaxed: it gives numbers in mailboxes, and a number that a crash
took back would be given again, to an envelope that the device believes to have.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.tables import mailboxes_of
from messaging.relay.batching import Bounds, GroupCommit
from messaging.relay.database import Database
from messaging.relay.delivery.receipts import ReceiptDue, receipt
from messaging.relay.delivery.wakeups import MailArrived, Wakeups
from messaging.relay.errors import RelayError
from messaging.relay.http import Caller
from messaging.relay.lanes import Lane
from messaging.relay.messages.append import Append, Place, append
from messaging.relay.messages.tables import forget_envelopes, lock_mailboxes, take_envelopes
from messaging.relay.metrics import Figures
from messaging.serving.logs import get_logger

BOUNDS = Bounds(batch_items=2000, batch_bytes=0, waiting_items=200_000, waiting_bytes=1, delay_seconds=0.01)
ATTEMPTS = 3
RETRY_SECONDS = 1
SETTLE_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An envelope that its device has; ``due`` is the receipt that its sender is owed."""

    receiver: Caller
    sequence: int
    due: ReceiptDue | None
    failures: int = 0


class Acknowledgements:
    """Forgets envelopes. ``run`` does the work; ``now`` gives milliseconds since 1970."""

    def __init__(
        self,
        database: Database,
        wakeups: Wakeups,
        now: Callable[[], int],
        receipt_lifetime: timedelta,
        figures: Figures | None = None,
    ) -> None:
        self._figures = figures or Figures()
        self._relaxed = Lane(database, relaxed=True)
        self._durable = Lane(database, relaxed=False)
        self._wakeups = wakeups
        self._now = now
        self._receipt_lifetime = receipt_lifetime // timedelta(milliseconds=1)
        self._commits: GroupCommit[Acknowledged, None] = GroupCommit(self._write, BOUNDS)
        self._retries: set[asyncio.Task[None]] = set()

    def acknowledge(self, receiver: Caller, sequence: int, due: ReceiptDue | None) -> None:
        """Forget an envelope soon. One that cannot be forgotten is delivered once more, no worse."""
        self._submit(Acknowledged(receiver, sequence, due))

    async def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait a moment until all is forgotten that is acknowledged: who comes back at once need not get again what it has."""
        try:
            async with asyncio.timeout(seconds):
                await self._commits.settle()
        except TimeoutError:
            get_logger().warning("acknowledgements_late")

    async def run(self) -> None:
        """Forget until cancelled."""
        try:
            await self._commits.run()
        finally:
            await self._relaxed.close()
            await self._durable.close()

    def lane_for(self, batch: Sequence[Acknowledged]) -> Lane:
        """Whether a crash may undo the batch."""
        return self._durable if any(each.due for each in batch) else self._relaxed

    def _submit(self, item: Acknowledged) -> None:
        try:
            self._commits.post(item)
        except RelayError:
            get_logger().warning("acknowledgements_dropped")

    async def _write(self, batch: Sequence[Acknowledged]) -> Sequence[None]:
        try:
            async with self.lane_for(batch).batch() as db:
                queued = await self._forget(db, batch)
        except Exception as error:  # noqa: BLE001 - tried again in a moment, and then left
            self._figures.acknowledgement_failures += 1
            get_logger().warning("delete_failed", count=len(batch), error=type(error).__name__)
            self._try_again(batch)
        else:
            self._figures.envelopes_acknowledged += len(batch)
            for mailbox_id, sequence in queued:
                self._wakeups.announce(mailbox_id, MailArrived(sequence))
        return [None] * len(batch)

    async def _forget(self, db: AsyncConnection, batch: Sequence[Acknowledged]) -> list[tuple[int, int]]:
        places = [(each.receiver.mailbox_id, each.sequence) for each in batch]
        if not any(each.due for each in batch):
            await forget_envelopes(db, places)
            return []
        if db.dialect.name != "postgresql":
            return await self._forget_with_receipts(db, batch, places)
        await db.execute(text("BEGIN"))  # the lane commits each statement by itself
        queued = await self._forget_with_receipts(db, batch, places)
        await db.execute(text("COMMIT"))
        return queued

    async def _forget_with_receipts(
        self, db: AsyncConnection, batch: Sequence[Acknowledged], places: Sequence[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        # A device that connects locks its mailbox and then its envelopes: in another order we would wait for each other.
        mailboxes = await mailboxes_of(db, {each.due.sender for each in batch if each.due})
        boxes = {box for box, _ in places}.union(*mailboxes.values())
        if db.dialect.name == "postgresql":
            await lock_mailboxes(db, sorted(boxes))
        gone = await take_envelopes(db, places)
        owed = [
            (each.due, each.receiver)
            for each, place in zip(batch, places, strict=True)
            if each.due is not None and place in gone
        ]
        if not owed:
            return []
        now = self._now()
        sends = [
            Append([(Place(mailbox_id, None), receipt(due, receiver, now))], now + self._receipt_lifetime)
            for due, receiver in owed
            for mailbox_id in mailboxes.get(due.sender, ())
        ]
        if not sends:
            return []
        return [place for given in await append(db, sends) if given for place in given.items()]

    def _try_again(self, batch: Sequence[Acknowledged]) -> None:
        again = [
            Acknowledged(each.receiver, each.sequence, each.due, each.failures + 1)
            for each in batch
            if each.failures + 1 < ATTEMPTS
        ]

        async def later() -> None:
            await asyncio.sleep(RETRY_SECONDS)
            for each in again:
                self._submit(each)

        if again:
            task = asyncio.create_task(later())
            self._retries.add(task)
            task.add_done_callback(self._retries.discard)
