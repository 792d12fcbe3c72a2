"""Sender keys that others gave this device: taken over in the order in which they came, whatever crashes.

A distribution message is written down in the transaction that decrypts it, and taken over before anything else is decrypted:
what its sender writes next may need it. Taking one over twice changes nothing, because libsignal keeps a key that it has.

Whoever gives a key chooses its id. So the keys of one account are bounded, and the one that was first given longest ago goes first.
"""

from uuid import UUID

from messaging.client.stores import Store, StoreTransaction
from messaging.wire.identifiers import DeviceAddress, ServiceId
from signal_protocol.errors import ProtocolError
from signal_protocol.sessions import SessionService
from signal_protocol.types import Address

MAX_SENDER_KEYS = 256  # of one account: a key for each of its devices in each group

_WAITING = "distributions"
_TAKEN = "sender keys taken"  # the names of an account's keys, in the order in which they first came


class _Forgotten(Exception):
    """The key is not wanted any more."""


class Distributions:
    """The received sender keys of one device, at most ``most`` of each account."""

    def __init__(
        self, store: Store, sessions: SessionService[StoreTransaction], *, most: int = MAX_SENDER_KEYS
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._most = most
        self._waiting = True  # perhaps: from before the last crash

    def keep(self, transaction: StoreTransaction, sender: DeviceAddress, message: bytes) -> None:
        """Write down what a pairwise message of ``sender`` held."""
        entry = str(sender).encode() + b"\n" + message
        transaction.append(_WAITING, entry, family=(str(sender.service_id),))
        self._waiting = True

    async def take_over(self) -> list[DeviceAddress]:
        """Take over what was written down; returns the senders of messages that are none.

        Raises:
            SignalError: it could not be done now; nothing is lost.
        """
        refused: list[DeviceAddress] = []
        while self._waiting:
            self._waiting = False  # before looking: what is kept meanwhile says so again
            async with self._store.transaction() as transaction:
                entries = transaction.entries(_WAITING)
            try:
                for number, entry in entries:
                    self._waiting = True
                    name, message = entry.split(b"\n", 1)
                    sender = DeviceAddress.parse(name.decode())
                    if not await self._take_one(number, sender, message):
                        refused.append(sender)
            except BaseException:
                self._waiting = True
                raise
        return refused

    async def forget(self, service_id: ServiceId) -> None:
        """Delete all sender keys of an account's devices, those that wait included."""
        family = (str(service_id),)
        async with self._store.transaction() as transaction:
            transaction.delete_sender_keys(str(service_id))
            for queue in (_WAITING, _TAKEN):
                while entries := transaction.entries(queue, family=family):
                    for number, _ in entries:
                        transaction.remove(queue, number)

    async def _take_one(self, number: int, sender: DeviceAddress, message: bytes) -> bool:
        address = Address(str(sender.service_id), sender.device_id)

        async def taken(transaction: StoreTransaction, distribution_id: UUID) -> None:
            if not transaction.remove(_WAITING, number):
                raise _Forgotten
            stored = await transaction.load_sender_key(address, distribution_id)
            if stored is not None and stored.version == 1:  # it was not there before
                self._note(transaction, address, distribution_id)

        try:
            await self._sessions.process_distribution(address, message, taken)
        except _Forgotten:
            return True
        except ProtocolError:
            async with self._store.transaction() as transaction:
                transaction.remove(_WAITING, number)
            return False
        return True

    def _note(self, transaction: StoreTransaction, sender: Address, distribution_id: UUID) -> None:
        """Remember that this key is new; what is too much then goes."""
        family = (sender.service_id,)
        transaction.append(_TAKEN, f"{sender.device_id} {distribution_id}".encode(), family=family)
        entries = transaction.entries(_TAKEN, limit=self._most + 1, family=family)
        for number, entry in entries[: max(0, len(entries) - self._most)]:
            device_id, name = entry.decode().split()
            transaction.delete_sender_key(Address(sender.service_id, int(device_id)), UUID(name))
            transaction.remove(_TAKEN, number)
