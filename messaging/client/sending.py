"""Sending: one content to every device of one recipient, exactly the devices that the relay knows.

If the access to the recipient is known, the ciphertexts are sealed and sent without credentials, so that the relay does not learn
who sends. If the relay refuses that access, the same ciphertexts go the authenticated way.

A send is written to the outbox before anything is encrypted, each ciphertext in the transaction of its ratchet step, and all of
it is removed after the relay's 200. What the outbox holds is repeated as it is: an answer that was lost, or a crash, never
leads to a second encryption of what was already encrypted. One case is left: a sealed ciphertext that waited until its sender
certificate expired, a day, is made anew, since nobody would read it.
"""

import asyncio
import hashlib
import hmac
import json
import math
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Self
from uuid import UUID
from weakref import WeakValueDictionary

from messaging.client import holders
from messaging.client.access import AccessKeys
from messaging.client.bot_accounts import BotAccounts
from messaging.client.certificates import Certificate, Certificates, is_fresh
from messaging.client.errors import (
    ContentTooLarge,
    IdentityChanged,
    RelayRefused,
    RelayUnreachable,
    UnknownRecipient,
)
from messaging.client.holders import Distribution, Holder, Installation
from messaging.client.requests import Requests, read_as
from messaging.client.stores import Store, StoreTransaction
from messaging.wire.accounts import DeviceInfoList
from messaging.wire.content import Content, encode_content
from messaging.wire.envelope import EnvelopeType
from messaging.wire.frames import Response
from messaging.wire.identifiers import PRIMARY_DEVICE, DeviceAddress, ServiceId
from messaging.wire.json import decode_base64, encode_base64
from messaging.wire.keys import PreKeyResponse, PreKeyResponseItem, prekeys_path
from messaging.wire.limits import MAX_CONTENT, MAX_DEVICE_ID
from messaging.wire.messages import (
    ACCESS_KEY_HEADER,
    IDEMPOTENCY_HEADER,
    IncomingMessage,
    IncomingMessageList,
    MismatchedDevices,
    StaleDevices,
)
from signal_protocol.errors import (
    InvalidArgument,
    InvalidMessage,
    NoSession,
    UntrustedIdentity,
    VerificationFailed,
    WorkerError,
)
from signal_protocol.sessions import SessionService
from signal_protocol.types import (
    Address,
    Encrypted,
    MessageKind,
    PrekeyBundle,
    PublicPrekey,
    Sealed,
    SignedPublicPrekey,
    check_registration_id,
)

OUTBOX = "outbox"
MAX_ATTEMPTS = 5  # at the right set of devices, for one send
MAX_WAITING = 1000  # entries of the outbox looked at in one go
ALONE_SECONDS = 600.0  # for which the relay's word is taken that the account has no other device
LINKING_SECONDS = 900.0  # for which a device that is being linked may yet appear
OVERHEAD = 4096  # bytes that encryption adds at most, with room

_ENVELOPES = {MessageKind.WHISPER: EnvelopeType.CIPHERTEXT, MessageKind.PREKEY: EnvelopeType.PREKEY_MESSAGE}


@dataclass(frozen=True, slots=True)
class _Ciphertext:
    """One content, encrypted for one device; if sealed, ``expires`` is when its sender certificate does."""

    type: int
    registration_id: int
    content: str = field(repr=False)  # base64
    expires: int | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One send in the outbox: its plaintext until all is done, and the ciphertexts so far, by device.

    ``distribution`` says which sender key the plaintext distributes, if it does. ``only_to`` is the identity key that the recipient
    has to have, if any will not do: whoever is trusted by the time that it is delivered may be somebody else. What is ``passing`` is
    for devices that are connected now.
    """

    recipient: ServiceId
    timestamp: int
    plaintext: bytes = field(repr=False)
    ciphertexts: dict[int, _Ciphertext] = field(default_factory=dict, repr=False)
    distribution: Distribution | None = None
    only_to: bytes | None = None
    passing: bool = False

    @property
    def sealed(self) -> bool:
        """Whether every ciphertext hides its sender."""
        return all(sent.expires is not None for sent in self.ciphertexts.values())

    def encode(self) -> bytes:
        """For the outbox."""
        key = self.distribution
        members = {
            "recipient": str(self.recipient),
            "timestamp": self.timestamp,
            "plaintext": encode_base64(self.plaintext),
            "ciphertexts": {
                device: [sent.type, sent.registration_id, sent.content, sent.expires]
                for device, sent in self.ciphertexts.items()
            },
            "distribution": None if key is None else [str(key.distribution_id), key.generation],
            "only_to": None if self.only_to is None else encode_base64(self.only_to),
            "passing": self.passing,
        }
        return json.dumps(members).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Undo :meth:`encode`."""
        members = json.loads(data)
        ciphertexts = {int(device): _Ciphertext(*parts) for device, parts in members["ciphertexts"].items()}
        plaintext = decode_base64(members["plaintext"])
        key = members.get("distribution")
        distribution = None if key is None else Distribution(UUID(key[0]), key[1])
        only_to = members.get("only_to")
        return cls(
            ServiceId.parse(members["recipient"]),
            members["timestamp"],
            plaintext,
            ciphertexts,
            distribution,
            None if only_to is None else decode_base64(only_to),
            members.get("passing", False),
        )

    def body(self) -> bytes:
        """The request that sends it."""
        messages = tuple(
            IncomingMessage(
                type=sent.type,
                destination_device_id=device,
                destination_registration_id=sent.registration_id,
                content=decode_base64(sent.content),
            )
            for device, sent in sorted(self.ciphertexts.items())
        )
        return IncomingMessageList(
            messages=messages, timestamp=self.timestamp, online=self.passing, urgent=not self.passing
        ).to_json()


class Sender:
    """Sends for one device; sends to one recipient keep their order, those to several run at once."""

    def __init__(
        self,
        store: Store,
        sessions: SessionService[StoreTransaction],
        requests: Requests,
        own: DeviceAddress,
        *,
        access: AccessKeys,
        bots: BotAccounts,
        certificates: Certificates,
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._bots = bots
        self._sessions = sessions
        self._requests = requests
        self._own = own
        self._access = access
        self._certificates = certificates
        self._now = now
        self._locks: WeakValueDictionary[ServiceId, asyncio.Lock] = WeakValueDictionary()
        self._alone_until = self._expecting_until = -math.inf  # monotonic seconds

    def expect_device(self) -> None:
        """Another own device is being linked: it is looked for again at each send."""
        self._alone_until, self._expecting_until = -math.inf, time.monotonic() + LINKING_SECONDS

    async def send(self, to: ServiceId, content: Content, *, only_to: bytes | None = None) -> None:
        """Deliver ``content`` to every device of ``to``; returns after the relay's 200. See ``Device.send``."""
        await self.take(Outgoing(to, self._now(), plaintext_of(content), only_to=only_to))

    async def send_passing(self, to: ServiceId, content: Content) -> None:
        """Deliver ``content`` to those devices of ``to`` that are connected, if there are sessions; one try. Raises as a send."""
        async with self._lock(to):
            if not await self._usable_devices(to):
                return
            async with self._store.transaction() as transaction:
                number = queue(transaction, Outgoing(to, self._now(), plaintext_of(content), passing=True))
            try:
                await self._deliver(number)
            finally:
                await self._remove(number)

    async def take(self, outgoing: Outgoing) -> None:
        """As :meth:`send`."""
        if outgoing.recipient == self._own.service_id and time.monotonic() < self._alone_until:
            return
        async with self._lock(outgoing.recipient):
            async with self._store.transaction() as transaction:
                number = queue(transaction, outgoing)
            await self._deliver_earlier(outgoing.recipient, number)
            await self._deliver(number)

    async def deliver(self, recipient: ServiceId, number: int, *, promised: bool = False) -> None:
        """Deliver what was queued for ``recipient`` under this number, and before it what has waited. Raises as a send.

        What was ``promised`` to go out later stays in the outbox when it is refused for a reason that passes.
        """
        async with self._lock(recipient):
            await self._deliver_earlier(recipient, number)
            await self._deliver(number, promised=promised)

    async def installations(self, service_id: ServiceId) -> dict[DeviceAddress, Installation]:
        """The devices that a send to an account would go to, as they are known; begins sessions if there are none.

        Raises:
            IdentityChanged, UnknownRecipient, RelayUnreachable, RelayRefused: as for a send.
        """
        async with self._lock(service_id):
            known = await self._registration_ids(service_id)
            if not known:
                await self._start_sessions(service_id, None)
                known = await self._registration_ids(service_id)
            key = await self._sessions.trusted_identity(str(service_id)) or b""
        return {DeviceAddress(service_id, device): Installation(number, key) for device, number in known.items()}

    async def renew(self, service_id: ServiceId, *, gone: Collection[int], renewed: Collection[int]) -> None:
        """After the relay said so: end the sessions with devices that are gone, begin new ones with those that are new.

        Raises:
            IdentityChanged, UnknownRecipient, RelayUnreachable, RelayRefused: as for a send.
        """
        async with self._lock(service_id):
            await self._renew(service_id, gone=gone, renewed=renewed)

    async def resend(self) -> None:
        """Send what the outbox holds from before. What cannot be delivered any more is dropped; what cannot be yet, waits."""
        for recipient in {outgoing.recipient for _, outgoing in await self._waiting()}:
            async with self._lock(recipient):
                with suppress(RelayUnreachable):  # for this one perhaps, and not for the others
                    await self._deliver_earlier(recipient, sys.maxsize)

    async def identity_of(self, service_id: ServiceId) -> bytes:
        """The identity key that a send to ``service_id`` would use, fetching a bundle if there is no session.

        Raises:
            IdentityChanged, UnknownRecipient, RelayUnreachable, RelayRefused: as for a send.
        """
        async with self._lock(service_id):
            if service_id != self._own.service_id and not await self._usable_devices(service_id):
                await self._start_sessions(service_id, None)
        key = await self._sessions.trusted_identity(str(service_id))
        if key is None:
            raise UnknownRecipient
        return key

    async def _deliver_earlier(self, recipient: ServiceId, number: int) -> None:
        """What has waited for this recipient since before ``number``, in order; drops what cannot be delivered.

        Raises:
            RelayUnreachable: something still has to wait, and so what follows it.
        """
        for earlier, outgoing in await self._waiting(recipient):
            if outgoing.passing:
                await self._remove(earlier)  # of a process that ended: its moment is over
            elif outgoing.recipient == recipient and earlier < number:
                with suppress(IdentityChanged, UnknownRecipient, RelayRefused, ContentTooLarge):
                    await self._deliver(earlier, promised=True)

    async def _waiting(self, recipient: ServiceId | None = None) -> list[tuple[int, Outgoing]]:
        family = None if recipient is None else (str(recipient),)
        async with self._store.transaction() as transaction:
            entries = transaction.entries(OUTBOX, limit=MAX_WAITING, family=family)
        return [(number, Outgoing.decode(entry)) for number, entry in entries]

    async def _deliver(self, number: int, *, promised: bool = False) -> None:
        """Encrypt for the devices that are missing, send, correct the devices, until the relay has accepted.

        Whoever sends something new is told why it was refused. Nobody is there to be told of what was ``promised`` before.
        """
        outgoing = await self._entry(number)
        if outgoing is None:
            return  # an earlier attempt went through
        try:
            devices = set(outgoing.ciphertexts) or set(await self._devices(outgoing.recipient))
            outgoing = self._without_expired(outgoing)
            response = Response(0, 500)
            for _ in range(MAX_ATTEMPTS):
                if not devices and outgoing.recipient == self._own.service_id:
                    await self._remove(number)  # there is no other device, or none any more
                    self._note_alone()
                    return
                for device in sorted(devices - set(outgoing.ciphertexts)):
                    outgoing = await self._encrypt(number, outgoing, device)
                response = await self._put(outgoing)
                if response.status == 200:
                    break
                devices = await self._correct(number, outgoing, devices, response)
                outgoing = await self._entry(number) or outgoing
            if response.status != 200:
                raise RelayRefused(response.status)  # noqa: TRY301  # the outbox is cleaned up in one place, below
        except RelayUnreachable:
            raise  # it stays in the outbox
        except UntrustedIdentity as error:
            await self._remove(number)
            raise IdentityChanged(outgoing.recipient, error.identity_key) from None
        except Exception as error:
            if promised and _passes(error):
                raise RelayUnreachable from None
            await self._remove(number)
            raise
        await self._accepted(number, outgoing)

    def _note_alone(self) -> None:
        """Only the first device adds others, so it need not ask before each send."""
        now = time.monotonic()
        if self._own.device_id == PRIMARY_DEVICE and now >= self._expecting_until:
            self._alone_until = now + ALONE_SECONDS

    async def _encrypt(self, number: int, outgoing: Outgoing, device: int) -> Outgoing:
        """One ratchet step; the ciphertext is in the outbox when the step is in the store."""
        changed = outgoing
        certificate = await self._certificate_for(outgoing.recipient)

        async def keep(transaction: StoreTransaction, result: Encrypted | Sealed) -> None:
            nonlocal changed
            if not _is_registration_id(result.remote_registration_id):
                raise NoSession  # the peer has begun this session a moment ago, and lied
            if outgoing.only_to is not None:
                await _check_identity(transaction, outgoing.recipient, outgoing.only_to)
            sent = _sent(result, certificate)
            changed = replace(outgoing, ciphertexts={**outgoing.ciphertexts, device: sent})
            transaction.replace(OUTBOX, number, changed.encode())
            if outgoing.distribution is not None:
                [holder] = await _holders(transaction, outgoing.recipient, {device: sent})
                holders.offer(transaction, outgoing.distribution, holder)

        async def encrypt() -> None:
            remote = Address(str(outgoing.recipient), device)
            if certificate is None:
                await self._sessions.encrypt(remote, outgoing.plaintext, keep)
            else:
                await self._sessions.encrypt_sealed(remote, outgoing.plaintext, certificate.data, keep)

        try:
            await encrypt()
        except NoSession:
            await self._start_sessions(outgoing.recipient, device)
            try:
                await encrypt()
            except NoSession:  # that was the bundle of another device, or the session is gone again
                raise RelayRefused(410) from None
        return changed

    async def _certificate_for(self, recipient: ServiceId) -> Certificate | None:
        """What to seal with; ``None`` if a send to this recipient cannot be sealed."""
        return None if await self._access_to(recipient) is None else await self._certificates.current()

    async def _access_to(self, recipient: ServiceId) -> bytes | None:
        # To one's own account the relay must know who sends: it is the one device that gets nothing.
        return None if recipient == self._own.service_id else await self._access.find(recipient)

    def _without_expired(self, outgoing: Outgoing) -> Outgoing:
        now = self._now()
        kept = {
            device: sent
            for device, sent in outgoing.ciphertexts.items()
            if sent.expires is None or is_fresh(sent.expires, now)
        }
        return replace(outgoing, ciphertexts=kept)

    async def _put(self, outgoing: Outgoing) -> Response:
        """Repeat the very same request until there is an answer: the recipient's ratchet knows what it has seen."""
        path, body = f"/v1/messages/{outgoing.recipient}", outgoing.body()
        access_key = await self._access_to(outgoing.recipient)
        if access_key is not None and outgoing.sealed:
            response = await self._requests.unidentified("PUT", path, body, unidentified_headers(access_key, body))
            if response.status != 401:
                return response
            await self._access.forget(outgoing.recipient, access_key)
        return await self._request("PUT", path, body)

    async def _accepted(self, number: int, outgoing: Outgoing) -> None:
        async with self._store.transaction() as transaction:
            transaction.remove(OUTBOX, number)
            if outgoing.distribution is not None:
                found = await _holders(transaction, outgoing.recipient, outgoing.ciphertexts)
                holders.confirm(transaction, outgoing.distribution, outgoing.recipient, found)

    async def _correct(self, number: int, outgoing: Outgoing, devices: set[int], response: Response) -> set[int]:
        """After 409 or 410: forget ciphertexts for devices that are gone or new; returns the right set of devices."""
        match response.status:
            case 409:
                mismatched = read_as(MismatchedDevices, response)
                gone = devices_of(response, mismatched.extra_devices)
                renewed = devices_of(response, mismatched.missing_devices)
            case 410:
                renewed = devices_of(response, read_as(StaleDevices, response).stale_devices)
                gone = set()
            case 404:
                raise UnknownRecipient
            case 413:
                raise ContentTooLarge
            case status:
                raise RelayRefused(status)
        kept = {device: sent for device, sent in outgoing.ciphertexts.items() if device not in gone | renewed}
        async with self._store.transaction() as transaction:
            transaction.replace(OUTBOX, number, replace(outgoing, ciphertexts=kept).encode())
        await self._renew(outgoing.recipient, gone=gone, renewed=renewed)
        return (devices - gone) | renewed

    async def _renew(self, recipient: ServiceId, *, gone: Collection[int], renewed: Collection[int]) -> None:
        for device in {*gone, *renewed}:
            await self._sessions.archive(Address(str(recipient), device))
        for device in sorted(renewed):
            await self._start_sessions(recipient, device)

    async def _devices(self, recipient: ServiceId) -> list[int]:
        if known := await self._usable_devices(recipient):
            return known
        if recipient == self._own.service_id:
            return await self._other_own_devices()
        return await self._start_sessions(recipient, None)

    async def _other_own_devices(self) -> list[int]:
        """By name only: all bundles of the own account would take prekeys of this very device."""
        response = await self._request("GET", "/v1/devices")
        if response.status != 200:
            raise RelayRefused(response.status)
        devices = devices_of(response, (device.id for device in read_as(DeviceInfoList, response).devices))
        return sorted(devices - {self._own.device_id})

    async def _usable_devices(self, recipient: ServiceId) -> list[int]:
        return list(await self._registration_ids(recipient))

    async def _registration_ids(self, recipient: ServiceId) -> dict[int, int]:
        """Of the devices that there are sessions with to encrypt in. Where a peer has named none that can be, there is none."""
        async with self._store.transaction() as transaction:
            addresses = await transaction.session_devices(str(recipient))
        found: dict[int, int] = {}
        for address in addresses:
            info = await self._sessions.session_info(address)
            number = None if info is None or not info.usable else info.remote_registration_id
            if number is not None and _is_registration_id(number):
                found[address.device_id] = number
        return found

    async def _start_sessions(self, recipient: ServiceId, device: int | None) -> list[int]:
        """Fetch the bundles of one device or of all, and begin sessions; returns the devices."""
        response = await self._request("GET", prekeys_path(recipient, device))
        if response.status == 404:
            raise UnknownRecipient
        if response.status != 200:
            raise RelayRefused(response.status)
        answer = read_as(PreKeyResponse, response)
        if answer.bot:
            await self._bots.note(recipient)
        for item in answer.devices:
            try:
                await self._sessions.start_session(Address(str(recipient), item.device_id), _bundle(answer, item))
            except UntrustedIdentity as error:
                raise IdentityChanged(recipient, error.identity_key) from None
            except (VerificationFailed, InvalidArgument, InvalidMessage):
                raise RelayRefused(
                    response.status
                ) from None  # it is no bundle of this recipient's, and nobody else's fault
        return [item.device_id for item in answer.devices]

    async def _request(self, verb: str, path: str, body: bytes | None = None) -> Response:
        return await self._requests.authenticated(verb, path, body)

    async def _entry(self, number: int) -> Outgoing | None:
        async with self._store.transaction() as transaction:
            found = transaction.entries(OUTBOX, after=number - 1, limit=1)
        return Outgoing.decode(found[0][1]) if found and found[0][0] == number else None

    async def _remove(self, number: int) -> None:
        async with self._store.transaction() as transaction:
            transaction.remove(OUTBOX, number)

    def _lock(self, recipient: ServiceId) -> asyncio.Lock:
        return self._locks.setdefault(recipient, asyncio.Lock())


def plaintext_of(content: Content) -> bytes:
    """What to encrypt.

    Raises:
        ContentTooLarge: it does not fit an envelope.
    """
    plaintext = encode_content(content)
    if len(plaintext) + OVERHEAD > MAX_CONTENT:
        raise ContentTooLarge
    return plaintext


def devices_of(response: Response, devices: Iterable[int]) -> set[int]:
    """The devices that an answer of the relay names.

    Raises:
        RelayRefused: no device has such an id.
    """
    found = set(devices)
    if not all(1 <= device <= MAX_DEVICE_ID for device in found):
        raise RelayRefused(response.status)
    return found


def queue(transaction: StoreTransaction, outgoing: Outgoing) -> int:
    """Write it to the outbox; returns its number there."""
    if outgoing.distribution is not None:
        holders.promise(transaction, outgoing.distribution, outgoing.recipient)
    return transaction.append(OUTBOX, outgoing.encode(), family=(str(outgoing.recipient),))


def unidentified_headers(access_key: bytes, body: bytes) -> dict[str, str]:
    """Of a send without credentials. Nobody but the relay can know the idempotency key: it is made from the ciphertext.

    With it a send that was stored is answered as stored even if access or devices have changed since.
    """
    return {
        ACCESS_KEY_HEADER: encode_base64(access_key),
        IDEMPOTENCY_HEADER: hashlib.sha256(body).hexdigest(),
    }


def _passes(error: Exception) -> bool:
    return isinstance(error, WorkerError) or (isinstance(error, RelayRefused) and error.passes)


def _is_registration_id(number: int) -> bool:
    """Whether a device can have it: in a session libsignal keeps whatever the peer says, and fails where it is used."""
    try:
        check_registration_id(number)
    except InvalidArgument:
        return False
    return True


async def _check_identity(transaction: StoreTransaction, recipient: ServiceId, expected: bytes) -> None:
    """In the transaction of the ratchet step, so that nothing comes between.

    Raises:
        IdentityChanged: another key is trusted by now.
    """
    trusted = await transaction.load_identity(str(recipient)) or b""
    if not hmac.compare_digest(trusted, expected):
        raise IdentityChanged(recipient, trusted)


def _sent(result: Encrypted | Sealed, certificate: Certificate | None) -> _Ciphertext:
    if isinstance(result, Encrypted):
        return _Ciphertext(_ENVELOPES[result.kind], result.remote_registration_id, encode_base64(result.ciphertext))
    expires = 0 if certificate is None else certificate.expires
    kind = EnvelopeType.UNIDENTIFIED_SENDER
    return _Ciphertext(kind, result.remote_registration_id, encode_base64(result.message), expires)


async def _holders(
    transaction: StoreTransaction, recipient: ServiceId, ciphertexts: Mapping[int, _Ciphertext]
) -> list[Holder]:
    """The devices that a distribution message was encrypted for."""
    key = await transaction.load_identity(str(recipient)) or b""
    return [
        Holder(DeviceAddress(recipient, device), Installation(sent.registration_id, key))
        for device, sent in ciphertexts.items()
    ]


def _bundle(answer: PreKeyResponse, item: PreKeyResponseItem) -> PrekeyBundle:
    signed, kyber, one_time = item.signed_pre_key, item.pq_pre_key, item.pre_key
    return PrekeyBundle(
        registration_id=item.registration_id,
        device_id=item.device_id,
        identity_key=answer.identity_key,
        signed_prekey=SignedPublicPrekey(signed.key_id, signed.public_key, signed.signature),
        kyber_prekey=SignedPublicPrekey(kyber.key_id, kyber.public_key, kyber.signature),
        one_time_prekey=None if one_time is None else PublicPrekey(one_time.key_id, one_time.public_key),
    )
