"""Who has our sender key of a group, and what follows from it: the rules that shut out who has left.

A key is good for a message only if everybody who may have it is to read the message. So a device counts as a holder from the
moment a distribution message is on its way to it, and an account from the moment one is queued; only the relay's 200 makes it a
device that needs none. A rotation begins with nobody. Everything is written in the transaction of the step that it is about.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from messaging.client.stores import StoreTransaction
from messaging.wire.identifiers import DeviceAddress, ServiceId
from messaging.wire.json import decode_base64, encode_base64

_HOLDER = "sender key holder"
_PROMISE = "sender key promise"
_GENERATION = "sender key generation"


@dataclass(frozen=True, slots=True)
class Installation:
    """One installation of a device: both change with a new one, under the same address."""

    registration_id: int
    identity_key: bytes


@dataclass(frozen=True, slots=True)
class Holder:
    """A device, as it was installed when a distribution message was encrypted for it."""

    address: DeviceAddress
    installation: Installation


@dataclass(frozen=True, slots=True)
class Holders:
    """All that may have the key: devices, and whether it is in their mailbox for certain; accounts that it is queued for."""

    devices: Mapping[Holder, bool]
    promised: frozenset[ServiceId] = frozenset()


@dataclass(frozen=True, slots=True)
class Distribution:
    """A sender key of ours: of which group, and how often it was rotated before."""

    distribution_id: UUID
    generation: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to happen before a message is encrypted: nothing, if it is empty."""

    rotate: bool = False
    distribute_to: frozenset[ServiceId] = frozenset()


READY = Plan()


def plan(holders: Holders, recipients: Mapping[DeviceAddress, Installation]) -> Plan:
    """What to do so that exactly the devices ``recipients``, as they are installed now, can read the next message."""
    wanted = {Holder(address, installation) for address, installation in recipients.items()}
    accounts = frozenset(address.service_id for address in recipients)
    if not (holders.devices.keys() <= wanted and holders.promised <= accounts):
        return Plan(rotate=True, distribute_to=accounts)
    confirmed = {holder for holder, certain in holders.devices.items() if certain}
    return Plan(distribute_to=frozenset(holder.address.service_id for holder in wanted - confirmed))


def load_holders(transaction: StoreTransaction, distribution_id: UUID) -> Holders:
    """Who may have the present key."""
    group = str(distribution_id)
    promised = (ServiceId.parse(record.decode()) for record in transaction.family(_PROMISE, group))
    return Holders(dict(map(_decode, transaction.family(_HOLDER, group))), frozenset(promised))


def load_distribution(transaction: StoreTransaction, distribution_id: UUID) -> Distribution:
    """The present key."""
    stored = transaction.get(_GENERATION, str(distribution_id))
    return Distribution(distribution_id, 0 if stored is None else int(stored))


def rotate(transaction: StoreTransaction, distribution_id: UUID) -> None:
    """There is a new key, and nobody has it."""
    group, generation = str(distribution_id), load_distribution(transaction, distribution_id).generation
    transaction.delete_family(_HOLDER, group)
    transaction.delete_family(_PROMISE, group)
    transaction.put(_GENERATION, group, record=str(generation + 1).encode())


def promise(transaction: StoreTransaction, key: Distribution, to: ServiceId) -> None:
    """A distribution message to this account is queued."""
    if _is_present(transaction, key):
        group = str(key.distribution_id)
        transaction.put(_PROMISE, group, str(to), record=str(to).encode(), family=(group,))


def offer(transaction: StoreTransaction, key: Distribution, to: Holder) -> None:
    """A distribution message is encrypted for this device, which may get it from now on, whatever we hear of it."""
    if _is_present(transaction, key):
        _put(transaction, key.distribution_id, to, certain=False)


def confirm(transaction: StoreTransaction, key: Distribution, to: ServiceId, holders: Iterable[Holder]) -> None:
    """The relay has a distribution message for these devices, which are all of the account."""
    if _is_present(transaction, key):
        for holder in holders:
            _put(transaction, key.distribution_id, holder, certain=True)
        transaction.delete(_PROMISE, str(key.distribution_id), str(to))


def _is_present(transaction: StoreTransaction, key: Distribution) -> bool:
    return load_distribution(transaction, key.distribution_id) == key


def _put(transaction: StoreTransaction, distribution_id: UUID, holder: Holder, *, certain: bool) -> None:
    group, address, key = str(distribution_id), str(holder.address), encode_base64(holder.installation.identity_key)
    number = holder.installation.registration_id
    record = json.dumps([address, number, key, certain]).encode()
    # Named by its installation too: who reinstalls a device does not make us forget who had the key under its address.
    transaction.put(_HOLDER, group, address, str(number), key, record=record, family=(group,))


def _decode(record: bytes) -> tuple[Holder, bool]:
    address, number, key, certain = json.loads(record)
    return Holder(DeviceAddress.parse(address), Installation(number, decode_base64(key))), certain
