"""Envelopes that wait, unanswered, until the new identity key of their sender is trusted.

There are few: a relay sends only so many before one is answered, and a stranger must not use them all up. They belong to one
connection, on which the relay waits for its answers; on the next one it delivers them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from messaging.wire.envelope import Envelope
from messaging.wire.frames import Request
from messaging.wire.identifiers import DeviceAddress, ServiceId

MAX_HELD = 64  # in all: far fewer than a relay sends before it is answered
MAX_HELD_OF_ONE = 16  # of one account


@dataclass(frozen=True, slots=True)
class Held:
    """One of them, and the request to answer once it was taken."""

    request: Request
    envelope: Envelope = field(repr=False)
    sender: DeviceAddress


@dataclass(slots=True)
class HeldBack:
    """Those of one connection. ``refused`` says that there was no room for some, which the relay then keeps."""

    refused: bool = False
    _held: list[Held] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, held: Held) -> bool:
        """Keep it if there is room; says whether there was."""
        if not has_room([each.sender.service_id for each in self._held], held.sender.service_id):
            self.refused = True
            return False
        self._held.append(held)
        return True

    def of(self, account: ServiceId) -> list[Held]:
        """Those of one account, in the order in which they came."""
        return [each for each in self._held if each.sender.service_id == account]

    def release(self, held: Held) -> bool:
        """It was taken; says whether it was still here."""
        if held not in self._held:
            return False
        self._held.remove(held)
        return True


def has_room(held: Sequence[ServiceId], sender: ServiceId) -> bool:
    """Whether one more envelope of ``sender`` may be held back, besides those of the accounts in ``held``."""
    return len(held) < MAX_HELD and held.count(sender) < MAX_HELD_OF_ONE
