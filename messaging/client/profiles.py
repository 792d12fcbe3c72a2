"""What people want to be called: their own word, told by themselves, end to end. Kept in the store."""

import json
from typing import Self

from messaging.client.stores import Store, StoreTransaction
from messaging.wire.content import ProfileUpdate
from messaging.wire.identifiers import ServiceId

_PROFILE, _ALL = "profile", ("all",)


class Profiles:
    """The profiles that one store knows, the own account's too. Make it with :meth:`load`."""

    def __init__(self, store: Store, me: ServiceId) -> None:
        self._store = store
        self._me = me
        self._known: dict[ServiceId, ProfileUpdate] = {}

    @classmethod
    async def load(cls, store: Store, me: ServiceId) -> Self:
        """Those that were told before."""
        profiles = cls(store, me)
        async with store.transaction() as transaction:
            for record in transaction.family(_PROFILE, *_ALL):
                who, name, about, timestamp = json.loads(record)
                profiles._known[ServiceId.parse(who)] = ProfileUpdate(name, about, timestamp)
        return profiles

    @property
    def own(self) -> ProfileUpdate | None:
        """The own account's; ``None`` if it has never said."""
        return self._known.get(self._me)

    def name_of(self, who: ServiceId) -> str:
        """What somebody calls themselves; empty if they have not said."""
        known = self._known.get(who)
        return "" if known is None else known.name

    async def take(self, who: ServiceId, profile: ProfileUpdate) -> bool:
        """Note what somebody says of themselves; says whether it is news. Of two of the same time one that anybody would choose."""
        known = self._known.get(who)
        if known is not None and _precedence(profile) <= _precedence(known):
            return False
        async with self._store.transaction() as transaction:
            _put(transaction, who, profile)
        self._known[who] = profile  # not before it is written: it would be no news when it is told again
        return True


def _precedence(profile: ProfileUpdate) -> tuple[int, str, str]:
    return profile.timestamp, profile.name, profile.about


def _put(transaction: StoreTransaction, who: ServiceId, profile: ProfileUpdate) -> None:
    record = json.dumps([str(who), profile.name, profile.about, profile.timestamp]).encode()
    transaction.put(_PROFILE, str(who), record=record, family=_ALL)
