"""What arrived before the conversation, the member or the identity key that it belongs to.

It waits here, unacknowledged: it is shown again after a crash. Each sender has little room, so that nobody pushes others out.
"""

from collections import Counter
from collections.abc import Iterator

from messaging.client.device import Received

MAX_EARLY = 256
MAX_EARLY_OF_SENDER = 64


class Early:
    """What waits, in the order in which it arrived."""

    def __init__(self) -> None:
        self._waiting: dict[int, Received] = {}

    def __iter__(self) -> Iterator[Received]:
        return iter(list(self._waiting.values()))

    def __len__(self) -> int:
        return len(self._waiting)

    def keep(self, received: Received) -> Received | None:
        """Let it wait; returns what has to go for it: the oldest of the same sender, or of the one who has most here."""
        self._waiting[received.id] = received
        of_sender = [each for each in self if each.sender.service_id == received.sender.service_id]
        if len(of_sender) > MAX_EARLY_OF_SENDER:
            return self._waiting.pop(of_sender[0].id)
        if len(self) > MAX_EARLY:
            counts = Counter(each.sender.service_id for each in self)
            greediest = max(counts, key=lambda sender: counts[sender])
            return self._waiting.pop(next(each.id for each in self if each.sender.service_id == greediest))
        return None

    def forget(self, received: Received) -> None:
        """It waits no more."""
        self._waiting.pop(received.id, None)
