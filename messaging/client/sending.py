"""Sending: one content to every device of one recipient, exactly the devices that the relay knows.

A send is written to the outbox before anything is encrypted, each ciphertext in the transaction of its ratchet step, and all of
it is removed after the relay's 200. What the outbox holds is repeated as it is: an answer that was lost, or a crash, never
leads to a second encryption of what was already encrypted.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Self
from weakref import WeakValueDictionary

from messaging.client.connection import ChatConnection, ConnectionLost
from messaging.client.errors import (
    ContentTooLarge,
    IdentityChanged,
    RelayRefused,
    RelayUnreachable,
    UnknownRecipient,
)
from messaging.client.stores import Store, StoreTransaction
from messaging.wire.content import Content, encode_content
from messaging.wire.envelope import EnvelopeType
from messaging.wire.frames import Response
from messaging.wire.identifiers import ServiceId
from messaging.wire.json import decode_base64, encode_base64
from messaging.wire.keys import PreKeyResponse, PreKeyResponseItem, prekeys_path
from messaging.wire.limits import MAX_CONTENT
from messaging.wire.messages import IncomingMessage, IncomingMessageList, MismatchedDevices, StaleDevices
from signal_protocol.errors import NoSession, UntrustedIdentity
from signal_protocol.sessions import SessionService
from signal_protocol.types import Address, Encrypted, MessageKind, PrekeyBundle, PublicPrekey, SignedPublicPrekey

OUTBOX = "outbox"
MAX_ATTEMPTS = 5  # at the right set of devices, for one send
MAX_WAITING = 1000  # entries of the outbox looked at in one go
OVERHEAD = 4096  # bytes that encryption adds at most, with room

_ENVELOPES = {MessageKind.WHISPER: EnvelopeType.CIPHERTEXT, MessageKind.PREKEY: EnvelopeType.PREKEY_MESSAGE}


@dataclass(frozen=True, slots=True)
class _Ciphertext:
    """One content, encrypted for one device."""

    type: int
    registration_id: int
    content: str = field(repr=False)  # base64


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One send in the outbox: its plaintext until all is done, and the ciphertexts so far, by device."""

    recipient: ServiceId
    timestamp: int
    plaintext: bytes = field(repr=False)
    ciphertexts: dict[int, _Ciphertext] = field(default_factory=dict, repr=False)

    def encode(self) -> bytes:
        """For the outbox."""
        members = {
            "recipient": str(self.recipient),
            "timestamp": self.timestamp,
            "plaintext": encode_base64(self.plaintext),
            "ciphertexts": {
                device: [sent.type, sent.registration_id, sent.content] for device, sent in self.ciphertexts.items()
            },
        }
        return json.dumps(members).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Undo :meth:`encode`."""
        members = json.loads(data)
        ciphertexts = {int(device): _Ciphertext(*parts) for device, parts in members["ciphertexts"].items()}
        plaintext = decode_base64(members["plaintext"])
        return cls(ServiceId.parse(members["recipient"]), members["timestamp"], plaintext, ciphertexts)

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
        return IncomingMessageList(messages=messages, timestamp=self.timestamp).to_json()


class Sender:
    """Sends for one device; sends to one recipient keep their order, those to several run at once."""

    def __init__(
        self,
        store: Store,
        sessions: SessionService[StoreTransaction],
        connection: ChatConnection,
        *,
        deadline: float,
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._connection = connection
        self._deadline = deadline
        self._now = now
        self._locks: WeakValueDictionary[ServiceId, asyncio.Lock] = WeakValueDictionary()

    async def send(self, to: ServiceId, content: Content) -> None:
        """Deliver ``content`` to every device of ``to``; returns after the relay's 200. See ``Device.send``."""
        plaintext = encode_content(content)
        if len(plaintext) + OVERHEAD > MAX_CONTENT:
            raise ContentTooLarge
        outgoing = Outgoing(to, self._now(), plaintext)
        async with self._lock(to):
            async with self._store.transaction() as transaction:
                number = transaction.append(OUTBOX, outgoing.encode())
            await self._deliver_earlier(to, number)
            await self._deliver(number)

    async def resend(self) -> None:
        """Send what the outbox holds from before. What cannot be delivered any more is dropped."""
        for recipient in {outgoing.recipient for _, outgoing in await self._waiting()}:
            async with self._lock(recipient):
                await self._deliver_earlier(recipient, sys.maxsize)

    async def identity_of(self, service_id: ServiceId) -> bytes:
        """The identity key that a send to ``service_id`` would use, fetching a bundle if there is no session.

        Raises:
            IdentityChanged, UnknownRecipient, RelayUnreachable, RelayRefused: as for a send.
        """
        async with self._lock(service_id):
            if not await self._usable_devices(service_id):
                await self._start_sessions(service_id, None)
        key = await self._sessions.trusted_identity(str(service_id))
        if key is None:
            raise UnknownRecipient
        return key

    async def _deliver_earlier(self, recipient: ServiceId, number: int) -> None:
        """What has waited for this recipient since before ``number``, in order; drops what cannot be delivered."""
        for earlier, outgoing in await self._waiting():
            if outgoing.recipient == recipient and earlier < number:
                with suppress(IdentityChanged, UnknownRecipient, RelayRefused, ContentTooLarge):
                    await self._deliver(earlier)

    async def _waiting(self) -> list[tuple[int, Outgoing]]:
        async with self._store.transaction() as transaction:
            entries = transaction.entries(OUTBOX, limit=MAX_WAITING)
        return [(number, Outgoing.decode(entry)) for number, entry in entries]

    async def _deliver(self, number: int) -> None:
        """Encrypt for the devices that are missing, send, correct the devices, until the relay has accepted."""
        outgoing = await self._entry(number)
        if outgoing is None:
            return  # an earlier attempt went through
        try:
            devices = set(outgoing.ciphertexts) or set(await self._devices(outgoing.recipient))
            response = Response(0, 500)
            for _ in range(MAX_ATTEMPTS):
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
        except Exception:
            await self._remove(number)
            raise
        await self._remove(number)

    async def _encrypt(self, number: int, outgoing: Outgoing, device: int) -> Outgoing:
        """One ratchet step; the ciphertext is in the outbox when the step is in the store."""
        changed = outgoing

        async def keep(transaction: StoreTransaction, result: Encrypted) -> None:
            nonlocal changed
            sent = _Ciphertext(_ENVELOPES[result.kind], result.remote_registration_id, encode_base64(result.ciphertext))
            changed = replace(outgoing, ciphertexts={**outgoing.ciphertexts, device: sent})
            transaction.replace(OUTBOX, number, changed.encode())

        remote = Address(str(outgoing.recipient), device)
        try:
            await self._sessions.encrypt(remote, outgoing.plaintext, keep)
        except NoSession:
            await self._start_sessions(outgoing.recipient, device)
            await self._sessions.encrypt(remote, outgoing.plaintext, keep)
        return changed

    async def _put(self, outgoing: Outgoing) -> Response:
        """Repeat the very same request until there is an answer: the recipient's ratchet knows what it has seen."""
        return await self._request("PUT", f"/v1/messages/{outgoing.recipient}", outgoing.body())

    async def _correct(self, number: int, outgoing: Outgoing, devices: set[int], response: Response) -> set[int]:
        """After 409 or 410: forget ciphertexts for devices that are gone or new; returns the right set of devices."""
        match response.status:
            case 409:
                mismatched = MismatchedDevices.from_json(response.body or b"")
                gone, renewed = set(mismatched.extra_devices), set(mismatched.missing_devices)
            case 410:
                renewed = set(StaleDevices.from_json(response.body or b"").stale_devices)
                gone = set()
            case 404:
                raise UnknownRecipient
            case 413:
                raise ContentTooLarge
            case status:
                raise RelayRefused(status)
        for device in gone | renewed:
            await self._sessions.archive(Address(str(outgoing.recipient), device))
        kept = {device: sent for device, sent in outgoing.ciphertexts.items() if device not in gone | renewed}
        async with self._store.transaction() as transaction:
            transaction.replace(OUTBOX, number, replace(outgoing, ciphertexts=kept).encode())
        for device in sorted(renewed):
            await self._start_sessions(outgoing.recipient, device)
        return (devices - gone) | renewed

    async def _devices(self, recipient: ServiceId) -> list[int]:
        return await self._usable_devices(recipient) or await self._start_sessions(recipient, None)

    async def _usable_devices(self, recipient: ServiceId) -> list[int]:
        async with self._store.transaction() as transaction:
            addresses = await transaction.session_devices(str(recipient))
        return [address.device_id for address in addresses if await self._sessions.has_session(address)]

    async def _start_sessions(self, recipient: ServiceId, device: int | None) -> list[int]:
        """Fetch the bundles of one device or of all, and begin sessions; returns the devices."""
        response = await self._request("GET", prekeys_path(recipient, device))
        if response.status == 404:
            raise UnknownRecipient
        if response.status != 200:
            raise RelayRefused(response.status)
        answer = PreKeyResponse.from_json(response.body or b"")
        for item in answer.devices:
            await self._sessions.start_session(Address(str(recipient), item.device_id), _bundle(answer, item))
        return [item.device_id for item in answer.devices]

    async def _request(self, verb: str, path: str, body: bytes | None = None) -> Response:
        """Ask, and ask again after a lost connection or when told to wait, until the deadline."""
        ends = time.monotonic() + self._deadline
        while (left := ends - time.monotonic()) > 0:
            try:
                response = await self._connection.request(verb, path, body, deadline=left)
            except ConnectionLost:
                continue
            if response.status != 429:
                return response
            wait = float(response.headers.get("retry-after", "1"))
            if wait >= ends - time.monotonic():
                raise RelayRefused(429)
            await asyncio.sleep(wait)
        raise RelayUnreachable

    async def _entry(self, number: int) -> Outgoing | None:
        async with self._store.transaction() as transaction:
            found = transaction.entries(OUTBOX, after=number - 1, limit=1)
        return Outgoing.decode(found[0][1]) if found and found[0][0] == number else None

    async def _remove(self, number: int) -> None:
        async with self._store.transaction() as transaction:
            transaction.remove(OUTBOX, number)

    def _lock(self, recipient: ServiceId) -> asyncio.Lock:
        return self._locks.setdefault(recipient, asyncio.Lock())


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
