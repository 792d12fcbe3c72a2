"""Sending one sealed message to many: the payload is stored once, and each device gets its view of it.

The upload is split without any key (``signal_protocol.public``). Whoever sends shows the access keys of all recipients,
combined by exclusive or; a story needs none. Group send endorsements need Signal's zero-knowledge group secrets, which this
relay does not have: a send that carries one is refused like a wrong key.
Source: Signal-Server, ``MessageController`` and ``UnidentifiedAccessUtil``.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.tables import Account, Device, devices_by_account, find_accounts
from messaging.relay.delivery.wakeups import MailArrived
from messaging.relay.errors import (
    DevicesMismatched,
    DevicesStale,
    MalformedRequest,
    ManyMismatched,
    ManyStale,
    NotAuthenticated,
    NotFound,
    TooLarge,
)
from messaging.relay.limits import Limit
from messaging.relay.messages.idempotency import Once, recall, remember
from messaging.relay.messages.matching import check_devices
from messaging.relay.messages.service import MessageService
from messaging.relay.messages.tables import NewEnvelope, append_envelopes, insert_payload
from messaging.wire.envelope import Envelope, EnvelopeType, encode_envelope
from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.limits import ACCESS_KEY, MAX_CONTENT, MAX_TIMESTAMP
from messaging.wire.messages import SendMultiRecipientMessageResponse
from signal_protocol.public.errors import MalformedMessage
from signal_protocol.public.sealed_v2 import Recipient, SealedUpload, split_sealed_v2


@dataclass(frozen=True, slots=True)
class ManySending:
    """How one send to many was asked for, beside its body. A timestamp of 0 means the time of arrival."""

    access_keys: bytes | None
    timestamp: int = 0
    online: bool = False
    urgent: bool = True
    story: bool = False
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class MultiRecipientService:
    """Queues one message for many accounts, through ``messages``."""

    messages: MessageService
    new_guid: Callable[[], UUID] = uuid4

    async def send(self, body: bytes, sending: ManySending) -> SendMultiRecipientMessageResponse:
        """Queue one envelope for each device that the upload names: all of them, or none.

        Raises:
            MalformedRequest: not an upload, nobody in it, a device twice, or a time that cannot be.
            TooLarge: what one device would get is beyond ``MAX_CONTENT``.
            NotAuthenticated: not the combined access keys of all recipients, or one of them is a PNI.
            NotFound: one of them is no account.
            ManyMismatched: devices of some accounts are missing, or named without existing.
            ManyStale: devices of some accounts were registered anew.
            RateLimited: too many bytes, or stories, to one of them.
            IdempotencyKeyReused: the key stood for another request.
        """
        upload = read_upload(body)
        if not 0 <= sending.timestamp <= MAX_TIMESTAMP:
            raise MalformedRequest
        if not sending.story and (sending.access_keys is None or any_pni(upload)):
            raise NotAuthenticated
        try:
            return await self._send(upload, sending)
        except IntegrityError:
            if sending.once is None:
                raise
            return await self._send(upload, sending)  # the same send came twice at once: this one is second

    async def _send(self, upload: SealedUpload, sending: ManySending) -> SendMultiRecipientMessageResponse:
        answer = SendMultiRecipientMessageResponse()
        async with self.messages.database.begin() as db:
            wanted = {ServiceId.parse(recipient.service_id): recipient for recipient in upload.recipients}
            accounts = await find_accounts(db, wanted)
            if not sending.story:
                if len(accounts) < len(wanted):
                    raise NotFound
                check_combined_access(accounts.values(), sending.access_keys)
            if await recall(db, sending.once) is not None:
                return answer
            devices = await devices_by_account(db, [account.id for account in accounts.values()])
            targets = [Target(each, accounts[each], wanted[each], devices[accounts[each].id]) for each in accounts]
            check_all_devices(targets)
            await self._take_limits(targets, upload, sending)
            sequences = await self._store(db, targets, upload, sending)
            kept = self.messages.expires_at(online=False)
            await remember(db, sending.once, answer.to_json(), expires_at=kept)
        for mailbox_id, sequence in sequences.items():
            self.messages.wakeups.announce(mailbox_id, MailArrived(sequence))
        return answer

    async def _take_limits(self, targets: Iterable["Target"], upload: SealedUpload, sending: ManySending) -> None:
        limits = self.messages.limits
        for target in targets:
            if sending.story:
                await limits.take(Limit.STORIES, target.account.id, account=target.account.id)
            size = len(target.recipient.devices) * (len(target.recipient.prefix) + len(upload.shared))
            await limits.take(Limit.INBOUND_MESSAGE_BYTES, target.account.id, amount=size, account=target.account.id)

    async def _store(
        self, db: AsyncConnection, targets: list["Target"], upload: SealedUpload, sending: ManySending
    ) -> Mapping[int, int]:
        if not any(target.recipient.devices for target in targets):
            return {}
        expires_at = self.messages.expires_at(online=sending.online)
        payload_id = await insert_payload(db, upload.shared, expires_at=expires_at)
        envelopes = {
            target.mailbox(device_id): self._envelope(target, payload_id, sending)
            for target in targets
            for device_id, _ in target.recipient.devices
        }
        sequences = await append_envelopes(db, envelopes, expires_at=expires_at)
        gone = envelopes.keys() - sequences.keys()
        stale = {
            str(target.service_id): DevicesStale(found)
            for target in targets
            if (found := {each.device_id for each in target.devices if each.mailbox_id in gone})
        }
        if stale:
            raise ManyStale(stale)
        return sequences

    def _envelope(self, target: "Target", payload_id: int, sending: ManySending) -> NewEnvelope:
        now = self.messages.now()
        envelope = Envelope(
            type=EnvelopeType.UNIDENTIFIED_SENDER,
            destination=target.service_id,
            guid=self.new_guid(),
            client_timestamp=sending.timestamp or now,
            server_timestamp=now,
            content=b"",
            urgent=sending.urgent,
            story=sending.story,
            ephemeral=sending.online,
        )
        return NewEnvelope(encode_envelope(envelope), target.recipient.prefix, payload_id)


@dataclass(frozen=True, slots=True)
class Target:
    """One recipient that exists, with the devices that it has now."""

    service_id: ServiceId
    account: Account
    recipient: Recipient
    devices: list[Device]

    def mailbox(self, device_id: int) -> int:
        """The mailbox of one of its devices."""
        return next(device.mailbox_id for device in self.devices if device.device_id == device_id)


def read_upload(body: bytes) -> SealedUpload:
    """Split a body.

    Raises:
        MalformedRequest: not an upload, nobody in it, or a device twice.
        TooLarge: what one device would get is beyond ``MAX_CONTENT``.
    """
    try:
        upload = split_sealed_v2(body)
    except MalformedMessage:
        raise MalformedRequest from None
    if not upload.recipients:
        raise MalformedRequest
    for recipient in upload.recipients:
        if len({device for device, _ in recipient.devices}) < len(recipient.devices):
            raise MalformedRequest
        if len(recipient.prefix) + len(upload.shared) > MAX_CONTENT:
            raise TooLarge
    return upload


def any_pni(upload: SealedUpload) -> bool:
    """Whether a recipient is a phone number identity, which has no access key."""
    return any(ServiceId.parse(recipient.service_id).kind is IdentityKind.PNI for recipient in upload.recipients)


def check_combined_access(accounts: Iterable[Account], given: bytes | None) -> None:
    """Whether ``given`` is the exclusive or of all access keys; accounts that anybody may send to do not count.

    Raises:
        NotAuthenticated: it is not, or an account has no key.
    """
    combined = bytes(ACCESS_KEY)
    for account in accounts:
        if not account.unrestricted_access:
            if not account.access_key:
                raise NotAuthenticated
            combined = bytes(a ^ b for a, b in zip(combined, account.access_key, strict=True))
    if not hmac.compare_digest(given or b"", combined):
        raise NotAuthenticated


def check_all_devices(targets: Iterable[Target]) -> None:
    """Compare the devices named with those registered, for each account that is not left out on purpose.

    Raises:
        ManyMismatched: of some accounts devices are missing, or named without existing; told before stale ones.
        ManyStale: of some accounts devices were registered anew.
    """
    mismatched: dict[str, DevicesMismatched] = {}
    stale: dict[str, DevicesStale] = {}
    for target in targets:
        if not target.recipient.devices:
            continue
        named = dict(target.recipient.devices)
        registered = {each.device_id: each.registration_id_for(target.service_id.kind) for each in target.devices}
        missing, extra = registered.keys() - named.keys(), named.keys() - registered.keys()
        if missing or extra:
            mismatched[str(target.service_id)] = DevicesMismatched(missing=missing, extra=extra)
        else:
            try:
                check_devices(named, registered)
            except DevicesStale as found:
                stale[str(target.service_id)] = found
    if mismatched:
        raise ManyMismatched(mismatched)
    if stale:
        raise ManyStale(stale)
