"""Which accounts this device treats as assistants: a new identity key of theirs is accepted for as long as a nonce needs.

Only the relay says that an account is an assistant's, and the relay is hostile: it could list a person, exchange the keys of both,
and be trusted for the person. So an account counts if it has proved itself to be an enclave, or if it is a member of no conversation
and nothing was heard of it before it was listed but answers, which no person sends: another device of this account has asked it
first. Who is known as a person stays one.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from messaging.client.stores import Store
from messaging.wire.identifiers import ServiceId

_RECORD = "assistant account"
_ALL = ("all",)
_LISTED, _PROVED = b"listed", b"proved"


class Identities(Protocol):
    """What this module needs of a :class:`messaging.client.Device`."""

    @property
    def service_id(self) -> ServiceId:
        """The own account."""

    async def trusted_identity(self, service_id: ServiceId) -> bytes | None:
        """The identity key that is trusted for ``service_id``, if any was seen."""


class Accounts(Protocol):
    """Says who may be treated as an assistant."""

    async def admit(self, service_id: ServiceId) -> bool:
        """Whether a listed account may be asked for evidence, under whatever key it has."""

    async def note_proved(self, service_id: ServiceId) -> None:
        """Its evidence was accepted."""


class UnsafeAnyAccount:
    """Treats whoever is listed as an assistant: for a device that speaks with nobody else."""

    async def admit(self, _: ServiceId) -> bool:
        """Always."""
        return True

    async def note_proved(self, _: ServiceId) -> None:
        """Nothing to note."""


class AssistantAccounts:
    """The assistants' accounts that one store knows. Make it with :meth:`load`; ``is_member`` says who is in a conversation."""

    def __init__(self, store: Store, device: Identities, is_member: Callable[[ServiceId], bool]) -> None:
        self._store = store
        self._device = device
        self._is_member = is_member
        self._known: dict[ServiceId, bytes] = {}

    @classmethod
    async def load(
        cls, store: Store, device: Identities, is_member: Callable[[ServiceId], bool]
    ) -> "AssistantAccounts":
        """Those that were met before."""
        accounts = cls(store, device, is_member)
        async with store.transaction() as transaction:
            for record in transaction.family(_RECORD, *_ALL):
                how, _, name = record.partition(b" ")
                accounts._known[ServiceId.parse(name.decode())] = how
        return accounts

    def has_proved(self, service_id: ServiceId) -> bool:
        """Whether evidence of this account was ever accepted: it is an enclave, whoever calls it a member."""
        return self._known.get(service_id) == _PROVED

    async def admit(self, service_id: ServiceId) -> bool:
        """Whether a listed account may be asked for evidence, under whatever key it has."""
        if self.has_proved(service_id):
            return True
        if service_id == self._device.service_id or self._is_member(service_id):
            return False
        if service_id not in self._known:
            if await self._device.trusted_identity(service_id) is not None:
                return False
            await self._note(service_id, _LISTED)
        return True

    async def note_answering(self, service_id: ServiceId) -> None:
        """It sent a part of an answer, perhaps to another own device, and before this one has met it."""
        if service_id not in self._known and service_id != self._device.service_id and not self._is_member(service_id):
            await self._note(service_id, _LISTED)

    async def note_proved(self, service_id: ServiceId) -> None:
        """Its evidence was accepted."""
        if not self.has_proved(service_id):
            await self._note(service_id, _PROVED)

    async def note_members(self, members: Iterable[ServiceId]) -> None:
        """These are people, as somebody says who may be wrong: what has proved itself stays an assistant."""
        for member in members:
            if self._known.get(member) == _LISTED:
                await self.note_person(member)

    async def note_person(self, service_id: ServiceId) -> None:
        """Treat it as a person from now on: the user says so."""
        if self._known.pop(service_id, None) is not None:
            async with self._store.transaction() as transaction:
                transaction.delete(_RECORD, str(service_id))

    async def _note(self, service_id: ServiceId, how: bytes) -> None:
        self._known[service_id] = how
        async with self._store.transaction() as transaction:
            record = how + b" " + str(service_id).encode()
            transaction.put(_RECORD, str(service_id), record=record, family=_ALL)
