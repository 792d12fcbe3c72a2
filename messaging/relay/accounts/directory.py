"""What a send needs to know of accounts, kept in memory, and never the last word.

An entry may be out of date: another relay may have linked a device a moment ago. So nothing is *refused* for what an entry says
before the database was asked, and nothing is *stored* for what it says unless the versions of the mailboxes are still those of
the entry, which ``messages.append`` compares in the transaction that stores. No notice between relays is needed for this
to hold, and none can be lost.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from messaging.relay.accounts.tables import Account, Device, find_listed
from messaging.relay.database import Database
from messaging.relay.messages.append import Place
from messaging.wire.identifiers import IdentityKind, ServiceId

MAX_ENTRIES = 50_000  # about 1 KiB each
MAX_AGE_SECONDS = 60


@dataclass(frozen=True)
class Entry:
    """An account with its devices; ``versions`` are those of their mailboxes, all read at one moment."""

    account: Account
    devices: tuple[Device, ...]
    versions: Mapping[int, int]
    read_at: float = 0

    def place_of(self, device_id: int) -> Place:
        """The mailbox of a device, as it is known."""
        return self._places[device_id]

    @cached_property
    def _places(self) -> dict[int, Place]:
        return {each.device_id: Place(each.mailbox_id, self.versions[each.mailbox_id]) for each in self.devices}

    def registered(self, kind: IdentityKind) -> Mapping[int, int]:
        """The registration ids under one identity, by device id."""
        return self._registered[kind]

    @cached_property
    def _registered(self) -> dict[IdentityKind, dict[int, int]]:
        return {
            kind: {each.device_id: each.registration_id_for(kind) for each in self.devices} for kind in IdentityKind
        }


class Directory:
    """Entries by the identity that names the account. ``clock`` gives seconds and never goes back."""

    def __init__(
        self, database: Database, clock: Callable[[], float] = time.monotonic, capacity: int = MAX_ENTRIES
    ) -> None:
        self._database = database
        self._clock = clock
        self._capacity = capacity
        self._entries: OrderedDict[ServiceId, Entry] = OrderedDict()

    async def read(self, service_id: ServiceId) -> Entry | None:
        """The account that ``service_id`` names, as it is now in the database."""
        return (await self._read([service_id])).get(service_id)

    async def find_all(self, service_ids: Iterable[ServiceId], *, fresh: bool) -> dict[ServiceId, Entry]:
        """Those of the accounts that exist."""
        wanted = list(service_ids)
        found = {} if fresh else {each: entry for each in wanted if (entry := self.known(each)) is not None}
        missing = [each for each in wanted if each not in found]
        return found | await self._read(missing) if missing else found

    def known(self, service_id: ServiceId) -> Entry | None:
        """The account, if it is in memory."""
        entry = self._entries.get(service_id)
        if entry is None or self._clock() - entry.read_at > MAX_AGE_SECONDS:
            return None
        if len(self._entries) > self._capacity // 2:  # who was asked for lately matters when there is little room
            self._entries.move_to_end(service_id)
        return entry

    def forget(self) -> None:
        """Forget all entries."""
        self._entries.clear()

    async def _read(self, service_ids: list[ServiceId]) -> dict[ServiceId, Entry]:
        now = self._clock()
        async with self._database.read() as db:
            listed = await find_listed(db, service_ids)
        found = {each: Entry(account, devices, versions, now) for each, account, devices, versions in listed}
        for service_id in service_ids:
            if service_id in found:
                self._entries[service_id] = found[service_id]
                self._entries.move_to_end(service_id)
            else:
                self._entries.pop(service_id, None)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return found
