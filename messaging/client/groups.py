"""Sending to a group: one ciphertext under our sender key, sealed for every device of every member, in one request.

A send is written to an outbox first. Then, until the relay has taken it: sessions with all devices, a plan (``client.holders``),
a rotation if somebody may have the key who is not to read this, distribution of the key to those who lack it, and one ciphertext,
which is stored in the transaction of its ratchet step only if by then there is nothing left to plan. Members whose access key is
not known get the content pairwise. What stops a single member is told and stops nobody else.
"""

import asyncio
import hmac
import json
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self
from uuid import UUID
from weakref import WeakValueDictionary

from pydantic import TypeAdapter

from messaging.client import holders
from messaging.client.access import ANY_KEY, AccessKeys, combined
from messaging.client.certificates import Certificate, Certificates, is_fresh
from messaging.client.errors import (
    ClientError,
    ContentTooLarge,
    IdentityChanged,
    RelayRefused,
    RelayUnreachable,
    UnknownRecipient,
)
from messaging.client.holders import READY, Installation, plan
from messaging.client.requests import Requests
from messaging.client.sending import (
    MAX_ATTEMPTS,
    MAX_WAITING,
    Outgoing,
    Sender,
    devices_of,
    plaintext_of,
    queue,
    unidentified_headers,
)
from messaging.client.stores import Store, StoreTransaction
from messaging.wire.content import Content, SenderKeyDistribution
from messaging.wire.errors import WireError
from messaging.wire.frames import Response
from messaging.wire.identifiers import DeviceAddress, ServiceId
from messaging.wire.json import decode_base64, encode_base64, validated
from messaging.wire.messages import MULTI_RECIPIENT_TYPE, AccountMismatchedDevices, AccountStaleDevices
from signal_protocol.errors import NoSession, WorkerError
from signal_protocol.public.sealed_v2 import split_sealed_v2
from signal_protocol.sessions import SessionService
from signal_protocol.types import Address

OUTBOX = "group outbox"
AT_ONCE = 8  # members that are asked about, or sent to pairwise, at the same time

_PATH = "/v1/messages/multi_recipient"
_MISMATCHED = TypeAdapter(list[AccountMismatchedDevices], config={"strict": True, "hide_input_in_errors": True})
_STALE = TypeAdapter(list[AccountStaleDevices], config={"strict": True, "hide_input_in_errors": True})

Failures = dict[ServiceId, ClientError]
Recipients = Mapping[DeviceAddress, Installation]


@dataclass(frozen=True, slots=True)
class GroupOutgoing:
    """One send in the outbox, for the members that have not got it another way; ``upload`` is for all of them.

    ``only_to`` names the identity keys that some of them have to have, as ``Outgoing.only_to`` does.
    """

    distribution_id: UUID
    timestamp: int
    members: frozenset[ServiceId]
    plaintext: bytes = field(repr=False)
    upload: bytes | None = field(default=None, repr=False)
    expires: int = 0  # of the certificate in ``upload``
    only_to: Mapping[ServiceId, bytes] = field(default_factory=dict)

    def encode(self) -> bytes:
        """For the outbox."""
        members = {
            "distribution_id": str(self.distribution_id),
            "timestamp": self.timestamp,
            "members": sorted(map(str, self.members)),
            "plaintext": encode_base64(self.plaintext),
            "upload": None if self.upload is None else encode_base64(self.upload),
            "expires": self.expires,
            "only_to": {str(member): encode_base64(key) for member, key in self.only_to.items()},
        }
        return json.dumps(members).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Undo :meth:`encode`."""
        members = json.loads(data)
        return cls(
            UUID(members["distribution_id"]),
            members["timestamp"],
            frozenset(map(ServiceId.parse, members["members"])),
            decode_base64(members["plaintext"]),
            None if members["upload"] is None else decode_base64(members["upload"]),
            members["expires"],
            {ServiceId.parse(member): decode_base64(key) for member, key in members.get("only_to", {}).items()},
        )

    def check_identity(self, member: ServiceId, identity_key: bytes) -> None:
        """Check that a member has the key that it has to have, if there is one.

        Raises:
            IdentityChanged: it has another.
        """
        if not hmac.compare_digest(self.only_to.get(member, identity_key), identity_key):
            raise IdentityChanged(member, identity_key)

    def alone(self, member: ServiceId) -> Outgoing:
        """The same for one member, pairwise."""
        return Outgoing(member, self.timestamp, self.plaintext, only_to=self.only_to.get(member))

    def without(self, members: Collection[ServiceId]) -> Self:
        """The same for fewer members, not yet encrypted."""
        return replace(self, members=self.members.difference(members), upload=None)


@dataclass(frozen=True, slots=True)
class _Delivery:
    """One try at an entry of the outbox: whom it does not reach, and whether it was ``promised`` to go out later.

    Whoever sends something new is told why somebody does not get it. Nobody is there to be told of what was promised before, so
    it waits on where the reason passes.
    """

    number: int
    promised: bool = False
    failed: Failures = field(default_factory=dict)

    def wait_for(self, failed: Failures) -> list[ServiceId]:
        """Of these, the members that get it later."""
        return [member for member, error in failed.items() if self.promised and _passes(error)]


class _Outdated(Exception):
    """Who has the key, or what is to be reached, changed while the message was encrypted: plan again."""


class GroupSender:
    """Sends to groups for one device; sends to one group keep their order, those to several run at once."""

    def __init__(
        self,
        store: Store,
        sessions: SessionService[StoreTransaction],
        requests: Requests,
        sender: Sender,
        own: ServiceId,
        *,
        access: AccessKeys,
        certificates: Certificates,
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._requests = requests
        self._sender = sender
        self._own = own
        self._access = access
        self._certificates = certificates
        self._now = now
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def send(
        self,
        distribution_id: UUID,
        to: Collection[ServiceId],
        content: Content,
        *,
        only_to: Mapping[ServiceId, bytes] = MappingProxyType({}),
    ) -> Failures:
        """See ``Device.send_to_group``."""
        plaintext = plaintext_of(content)
        members = frozenset(to) - {self._own}
        if not members:
            return {}
        outgoing = GroupOutgoing(distribution_id, self._now(), members, plaintext, only_to=dict(only_to))
        async with self._lock(distribution_id):
            async with self._store.transaction() as transaction:
                number = transaction.append(OUTBOX, outgoing.encode(), family=(str(distribution_id),))
            await self._deliver_earlier(distribution_id, number)
            return await self._deliver(_Delivery(number))

    async def resend(self) -> None:
        """Send what the outbox holds from before. What cannot be sent yet, waits."""
        async with self._store.transaction() as transaction:
            waiting = [GroupOutgoing.decode(entry) for _, entry in transaction.entries(OUTBOX, limit=MAX_WAITING)]
        for distribution_id in {outgoing.distribution_id for outgoing in waiting}:
            async with self._lock(distribution_id):
                with suppress(RelayUnreachable):  # for this group perhaps, and not for the others
                    await self._deliver_earlier(distribution_id, sys.maxsize)

    async def _deliver_earlier(self, distribution_id: UUID, number: int) -> None:
        """What has waited for this group since before ``number``, in order.

        Raises:
            RelayUnreachable: something still has to wait, and so what follows it.
        """
        async with self._store.transaction() as transaction:
            waiting = transaction.entries(OUTBOX, limit=MAX_WAITING, family=(str(distribution_id),))
        for earlier, _ in waiting:
            if earlier < number:
                with suppress(RelayRefused, ContentTooLarge, IdentityChanged, UnknownRecipient):
                    await self._deliver(_Delivery(earlier, promised=True))

    # --- one send ---

    async def _deliver(self, delivery: _Delivery) -> Failures:
        """Bring it to everybody; returns whom it does not reach.

        Raises:
            RelayUnreachable, RelayRefused, ContentTooLarge: that is so of all of them.
        """
        outgoing = await self._entry(delivery.number)
        if outgoing is None:
            return {}
        try:
            await self._send_at_once(delivery)
        except RelayUnreachable as away:
            await self._blame(delivery, away)
        except (RelayRefused, ContentTooLarge) as refused:
            if delivery.promised and _passes(refused):
                raise RelayUnreachable from None
            await self._blame(delivery, refused)
            await self._remove(delivery.number)
        except Exception as error:
            if delivery.promised and isinstance(error, WorkerError):
                raise RelayUnreachable from None
            await self._remove(delivery.number)  # or it would stop all that follows
            raise
        if delivery.failed.keys() == outgoing.members:
            _raise_what_stopped_all(delivery.failed.values())
        return delivery.failed

    async def _send_at_once(self, delivery: _Delivery) -> None:
        """One ciphertext for all that are left, corrected until the relay has taken it."""
        number, status = delivery.number, 500
        for _ in range(MAX_ATTEMPTS):
            outgoing = await self._entry(number)
            if outgoing is None:
                return
            if outgoing.upload is None or not is_fresh(outgoing.expires, self._now()):
                outgoing = await self._prepare(delivery)
            if outgoing is None:
                await self._remove(number)
                return
            response = await self._put(outgoing)
            match status := response.status:
                case 200:
                    await self._remove(number)
                    return
                case 401 | 404:  # because of one of them, and who that is shows when each is sent to alone
                    await self._send_pairwise(delivery, outgoing.members)
                    return
                case 409 | 410:
                    await self._correct(delivery, outgoing, response)
                case 413:
                    raise ContentTooLarge
                case _:
                    raise RelayRefused(status)
        raise RelayRefused(status)

    async def _put(self, outgoing: GroupOutgoing) -> Response:
        """Repeat the very same request until there is an answer: what was stored is not stored again."""
        upload = outgoing.upload or b""
        known = await self._access.find_all(outgoing.members)
        shown = combined(known.get(member, ANY_KEY) for member in outgoing.members)
        headers = {**unidentified_headers(shown, upload), "Content-Type": MULTI_RECIPIENT_TYPE}
        return await self._requests.unidentified("PUT", f"{_PATH}?ts={outgoing.timestamp}", upload, headers)

    async def _send_pairwise(self, delivery: _Delivery, members: Collection[ServiceId]) -> None:
        """Hand these members over to the pairwise outbox, and deliver it."""
        numbers = await self._hand_over(delivery.number, members)

        async def deliver(member: ServiceId) -> None:
            await self._sender.deliver(member, numbers[member], promised=delivery.promised)

        delivery.failed.update(await _for_each(members, deliver))

    async def _hand_over(self, number: int, members: Collection[ServiceId]) -> dict[ServiceId, int]:
        """Move these members to the pairwise outbox, in one transaction; returns their numbers there."""
        async with self._store.transaction() as transaction:
            [(_, entry)] = transaction.entries(OUTBOX, after=number - 1, limit=1)
            outgoing = GroupOutgoing.decode(entry)
            numbers = {member: queue(transaction, outgoing.alone(member)) for member in members}
            left = outgoing.without(members)
            if left.members:
                transaction.replace(OUTBOX, number, left.encode())
            else:
                transaction.remove(OUTBOX, number)
        return numbers

    async def _leave_out(self, delivery: _Delivery, failed: Failures) -> None:
        """Who fails for a reason of their own is left out; without a relay nothing is decided, and all of it waits."""
        for error in failed.values():
            if isinstance(error, RelayUnreachable):
                raise error
        if later := delivery.wait_for(failed):
            await self._hand_over(delivery.number, later)
        delivery.failed.update(failed)

    # --- the sender key ---

    async def _prepare(self, delivery: _Delivery) -> GroupOutgoing | None:
        """Encrypt for all that can be reached, once exactly they have the key; ``None`` if nobody is left."""
        number = delivery.number
        for _ in range(MAX_ATTEMPTS):
            outgoing = await self._entry(number)
            if outgoing is None:
                return None
            if unsealed := outgoing.members - (await self._access.find_all(outgoing.members)).keys():
                await self._send_pairwise(delivery, unsealed)
                continue
            certificate = await self._certificates.current()
            recipients = await self._reach(delivery, outgoing)
            if not recipients:
                return None
            async with self._store.transaction() as transaction:
                wanted = plan(holders.load_holders(transaction, outgoing.distribution_id), recipients)
            if wanted != READY:
                await self._distribute(delivery, outgoing, wanted)
                continue
            with suppress(_Outdated, NoSession):
                return await self._encrypt(number, outgoing, recipients, certificate)
        raise RelayRefused(409)  # devices changed faster than they could be followed

    async def _reach(self, delivery: _Delivery, outgoing: GroupOutgoing) -> Recipients:
        """The devices of these members, with sessions; who cannot be reached is left out."""
        found: dict[DeviceAddress, Installation] = {}

        async def look(member: ServiceId) -> None:
            installations = await self._sender.installations(member)
            for installation in installations.values():
                outgoing.check_identity(member, installation.identity_key)
            found.update(installations)

        await self._leave_out(delivery, await _for_each(outgoing.members - delivery.failed.keys(), look))
        return found

    async def _distribute(self, delivery: _Delivery, outgoing: GroupOutgoing, wanted: holders.Plan) -> None:
        """Give our key to those who lack it, a new one if somebody has it who should not."""
        distribution_id = outgoing.distribution_id

        async def note(transaction: StoreTransaction, _: bytes) -> None:
            if wanted.rotate:
                holders.rotate(transaction, distribution_id)

        message = await self._sessions.distribute_sender_key(distribution_id, note, rotate=wanted.rotate)
        async with self._store.transaction() as transaction:
            key = holders.load_distribution(transaction, distribution_id)
        plaintext = plaintext_of(SenderKeyDistribution(message))

        async def give(member: ServiceId) -> None:
            only_to = outgoing.only_to.get(member)
            await self._sender.take(Outgoing(member, self._now(), plaintext, distribution=key, only_to=only_to))

        await self._leave_out(delivery, await _for_each(wanted.distribute_to, give))

    async def _encrypt(
        self, number: int, outgoing: GroupOutgoing, recipients: Recipients, certificate: Certificate
    ) -> GroupOutgoing:
        """One ratchet step of the sender key; it is taken only if what was planned is still so in its transaction."""
        changed = outgoing

        async def keep(transaction: StoreTransaction, upload: bytes) -> None:
            nonlocal changed
            if plan(holders.load_holders(transaction, outgoing.distribution_id), recipients) != READY:
                raise _Outdated
            if await _named_in(transaction, upload) != recipients:  # their identity keys too
                raise _Outdated
            members = frozenset(address.service_id for address in recipients)
            changed = replace(outgoing, members=members, upload=upload, expires=certificate.expires)
            transaction.replace(OUTBOX, number, changed.encode())

        addresses = [Address(str(address.service_id), address.device_id) for address in sorted(recipients)]
        await self._sessions.group_encrypt_sealed(
            outgoing.distribution_id, addresses, outgoing.plaintext, certificate.data, keep
        )
        return changed

    async def _correct(self, delivery: _Delivery, outgoing: GroupOutgoing, response: Response) -> None:
        """After 409 or 410: nothing was stored, so the ciphertext is dropped; devices as the relay says they are."""
        try:
            changes = _changes(response)
        except WireError:
            raise RelayRefused(response.status) from None

        async def renew(member: ServiceId) -> None:
            gone, renewed = changes[member]
            await self._sender.renew(member, gone=gone, renewed=renewed)

        failed = await _for_each(changes.keys() & outgoing.members, renew)
        async with self._store.transaction() as transaction:
            transaction.replace(OUTBOX, delivery.number, outgoing.without(()).encode())
        await self._leave_out(delivery, failed)

    # --- the outbox ---

    async def _blame(self, delivery: _Delivery, error: ClientError) -> None:
        outgoing = await self._entry(delivery.number)
        for member in outgoing.members if outgoing is not None else ():
            delivery.failed.setdefault(member, error)

    async def _entry(self, number: int) -> GroupOutgoing | None:
        async with self._store.transaction() as transaction:
            found = transaction.entries(OUTBOX, after=number - 1, limit=1)
        return GroupOutgoing.decode(found[0][1]) if found and found[0][0] == number else None

    async def _remove(self, number: int) -> None:
        async with self._store.transaction() as transaction:
            transaction.remove(OUTBOX, number)

    def _lock(self, distribution_id: UUID) -> asyncio.Lock:
        return self._locks.setdefault(distribution_id, asyncio.Lock())


async def _for_each(members: Iterable[ServiceId], do: Callable[[ServiceId], Awaitable[None]]) -> Failures:
    """Do it for each, a few at a time; returns who failed. Once the relay cannot be reached the rest is not tried."""
    failed: Failures = {}
    waiting, away = iter(sorted(members)), False

    async def work() -> None:
        nonlocal away
        for member in waiting:
            try:
                if away:
                    raise RelayUnreachable  # noqa: TRY301  # told like the others
                await do(member)
            except (IdentityChanged, UnknownRecipient, RelayRefused, ContentTooLarge) as error:
                failed[member] = error
            except RelayUnreachable as error:
                failed[member], away = error, True

    for result in await asyncio.gather(*(work() for _ in range(AT_ONCE)), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
    return failed


def _passes(error: ClientError) -> bool:
    return isinstance(error, RelayRefused) and error.passes


def _raise_what_stopped_all(errors: Iterable[ClientError]) -> None:
    """If it is nothing that the members have to do with, it is the send that failed."""
    known = list(errors)
    if known and not any(isinstance(error, IdentityChanged | UnknownRecipient) for error in known):
        raise known[0]


async def _named_in(transaction: StoreTransaction, upload: bytes) -> Recipients:
    """The devices that a relay will deliver ``upload`` to, with the identity keys that are trusted now."""
    named: dict[DeviceAddress, Installation] = {}
    for recipient in split_sealed_v2(upload).recipients:
        key = await transaction.load_identity(recipient.service_id) or b""
        for device, registration_id in recipient.devices:
            address = DeviceAddress(ServiceId.parse(recipient.service_id), device)
            named[address] = Installation(registration_id, key)
    return named


def _changes(response: Response) -> dict[ServiceId, tuple[set[int], set[int]]]:
    """The devices that are gone, and those that are new, of each account that the answer names.

    Raises:
        WireError, RelayRefused: the answer is not one of a relay.
    """
    body = response.body or b""
    if response.status == 409:
        mismatched = validated(_MISMATCHED.validate_json, body)
        return {
            ServiceId.parse(each.uuid): (
                devices_of(response, each.devices.extra_devices),
                devices_of(response, each.devices.missing_devices),
            )
            for each in mismatched
        }
    stale = validated(_STALE.validate_json, body)
    return {ServiceId.parse(each.uuid): (set(), devices_of(response, each.devices.stale_devices)) for each in stale}
