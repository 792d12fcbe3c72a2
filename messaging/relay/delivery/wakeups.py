"""How the process that stores an envelope tells the process that holds the device's socket.

A notice is a hint: it may be lost, doubled or late, and nothing depends on it but time. The database is the truth;
``delivery.watch`` looks there every few seconds for what a lost notice would have said.
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class MailArrived:
    """The mailbox has an envelope with this sequence; ``data`` is what its device gets, if it was stored in this process."""

    sequence: int
    data: bytes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class MailboxSeen:
    """The database was asked how far the mailbox is: up to this sequence. Told within the process only."""

    last_sequence: int


@dataclass(frozen=True, slots=True)
class ConnectedElsewhere:
    """The device has opened the connection with this number; those with smaller ones are over."""

    connection: int


@dataclass(frozen=True, slots=True)
class CredentialsReplaced:
    """The device was registered anew; the mailbox is gone."""


@dataclass(frozen=True, slots=True)
class Suspended:
    """An operator has suspended the account: its devices may come back when it is let go on."""


@dataclass(frozen=True, slots=True)
class PrekeysRunLow:
    """The device should upload one-time prekeys."""


Notice = MailArrived | ConnectedElsewhere | CredentialsReplaced | Suspended | PrekeysRunLow
Heard = Notice | MailboxSeen
Listener = Callable[[Heard], None]


class Wakeups(Protocol):
    """Carries notices."""

    def announce(self, mailbox_id: int, notice: Notice) -> None:
        """Tell all listeners of a mailbox. Never waits, never fails."""

    def announce_elsewhere(self, mailbox_id: int, notice: Notice) -> None:
        """Tell the listeners in other processes only."""

    def add(self, mailbox_id: int, listener: Listener) -> None:
        """From now on call ``listener``, which must not wait, with each notice; what others say may take a moment."""

    def remove(self, mailbox_id: int, listener: Listener) -> None:
        """Do not call ``listener`` any more."""

    async def connected(self, mailbox_ids: Collection[int]) -> set[int]:
        """Those of the mailboxes that somebody listens to, in any process: their devices are connected. A hint, as all here."""


@asynccontextmanager
async def listening(wakeups: Wakeups, mailbox_id: int, listener: Listener) -> AsyncIterator[None]:
    """Have ``listener`` called while the block lasts."""
    wakeups.add(mailbox_id, listener)
    try:
        yield
    finally:
        wakeups.remove(mailbox_id, listener)


class LocalWakeups:
    """Notices within one process."""

    def __init__(self) -> None:
        self._listeners: dict[int, list[Listener]] = {}

    def announce(self, mailbox_id: int, notice: Heard) -> None:
        """Call the listeners of this process."""
        for listener in tuple(self._listeners.get(mailbox_id, ())):
            listener(notice)

    def announce_elsewhere(self, mailbox_id: int, notice: Notice) -> None:
        """There is nobody else."""

    def add(self, mailbox_id: int, listener: Listener) -> None:
        """Call ``listener`` from now on."""
        self._listeners.setdefault(mailbox_id, []).append(listener)

    def remove(self, mailbox_id: int, listener: Listener) -> None:
        """Do not call ``listener`` any more."""
        listeners = self._listeners.get(mailbox_id, [])
        listeners.remove(listener)
        if not listeners:
            self._listeners.pop(mailbox_id, None)

    async def connected(self, mailbox_ids: Collection[int]) -> set[int]:
        """Those of the mailboxes that somebody listens to."""
        return {each for each in mailbox_ids if self.count(each)}

    def mailboxes(self) -> list[int]:
        """Mailboxes that somebody listens to."""
        return list(self._listeners)

    def count(self, mailbox_id: int) -> int:
        """How many listen to a mailbox."""
        return len(self._listeners.get(mailbox_id, ()))
