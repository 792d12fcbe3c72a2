"""Which accounts are bots, by the relay's word: it says so wherever it hands out an account's prekeys.

A relay that lies can hide a bot, as a person can run a program. What the mark is for is honest relays: nobody in a
conversation is a program without the others being shown that. Once seen it is kept, so that a relay cannot take it back.
"""

from collections.abc import Iterable

from messaging.client.stores import Store
from messaging.wire.identifiers import ServiceId

_BOT = "bot account"


class BotAccounts:
    """The bots that one store has heard of."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[ServiceId, bool] = {}

    async def note(self, service_id: ServiceId) -> None:
        """The relay marks this account as a bot."""
        if not self._known.get(service_id, False):
            self._known[service_id] = True
            async with self._store.transaction() as transaction:
                transaction.put(_BOT, str(service_id), record=b"")

    async def among(self, service_ids: Iterable[ServiceId]) -> frozenset[ServiceId]:
        """Those of these accounts that are marked."""
        wanted = frozenset(service_ids)
        if new := wanted - self._known.keys():
            async with self._store.transaction() as transaction:
                found = {each: transaction.get(_BOT, str(each)) is not None for each in new}
            self._known = {**found, **self._known}
        return frozenset(each for each in wanted if self._known[each])
