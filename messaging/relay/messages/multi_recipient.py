"""Sending one sealed message to many: the payload is stored once, and each device gets its view of it.

The upload is split without any key (``signal_protocol.public``). Whoever sends shows the access keys of all recipients,
combined by exclusive or; a story needs none. Group send endorsements need Signal's zero-knowledge group secrets, which this
relay does not have: a send that carries one is refused like a wrong key.
Source: Signal-Server, ``MessageController`` and ``UnidentifiedAccessUtil``.
"""

import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from messaging.relay.accounts.directory import Entry
from messaging.relay.accounts.tables import Account
from messaging.relay.errors import (
    DevicesMismatched,
    DevicesStale,
    MalformedRequest,
    ManyMismatched,
    ManyStale,
    NotAuthenticated,
    NotFound,
    RelayError,
    TooLarge,
    Unavailable,
)
from messaging.relay.limits import Limit
from messaging.relay.messages.append import Append, Payload, Remembered
from messaging.relay.messages.idempotency import Once
from messaging.relay.messages.matching import check_devices
from messaging.relay.messages.service import PLANS, MessageService, count_bytes
from messaging.relay.messages.tables import NewEnvelope
from messaging.wire.envelope import Envelope, EnvelopeType, encode_envelope
from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.limits import ACCESS_KEY, MAX_CONTENT, MAX_TIMESTAMP
from messaging.wire.messages import SendMultiRecipientMessageResponse
from signal_protocol.public.errors import MalformedMessage
from signal_protocol.public.sealed_v2 import Recipient, SealedUpload, split_sealed_v2

PAYLOAD_ID_BITS = 62  # random: the relay need not ask the database for a number first


@dataclass(frozen=True, slots=True)
class ManySending:
    """How one send to many was asked for, beside its body. A timestamp of 0 means the time of arrival.

    ``remote`` is the caller's network address, for limits only.
    """

    access_keys: bytes | None
    timestamp: int = 0
    online: bool = False
    urgent: bool = True
    story: bool = False
    once: Once | None = None
    remote: str = field(default="", repr=False)


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
        answer, counted = SendMultiRecipientMessageResponse(), False
        try:
            for number in range(PLANS):
                counted, stored = await self._send(upload, sending, answer, fresh=number > 0, counted=counted)
                if stored or (sending.once is not None and await self.messages.recalled(sending.once) is not None):
                    return answer
        except RelayError:
            if sending.once is None or await self.messages.recalled(sending.once) is None:
                raise
            return answer
        raise Unavailable

    async def _send(
        self,
        upload: SealedUpload,
        sending: ManySending,
        answer: SendMultiRecipientMessageResponse,
        *,
        fresh: bool,
        counted: bool,
    ) -> tuple[bool, bool]:
        """Whether the limits have been met, and whether all is stored; if not, the plan may have been out of date."""
        wanted = {ServiceId.parse(recipient.service_id): recipient for recipient in upload.recipients}
        entries = await self.messages.directory.find_all(wanted, fresh=fresh)
        targets = [Target(each, entries[each], wanted[each]) for each in wanted if each in entries]
        if len({target.account.id for target in targets}) < len(targets):
            raise MalformedRequest  # an account by both of its identities: a device would be named twice
        try:
            if not sending.story:
                if len(targets) < len(wanted):
                    raise NotFound
                check_combined_access((target.account for target in targets), sending.access_keys)
            check_all_devices(targets)
        except RelayError:
            if fresh:
                raise
            return counted, False
        if not counted:
            await self._take_limits(targets, upload, sending)
        if not any(target.recipient.devices for target in targets):
            return True, True
        return True, await self.messages.writer.append(self._plan(targets, upload, sending, answer)) is not None

    async def _take_limits(self, targets: Iterable["Target"], upload: SealedUpload, sending: ManySending) -> None:
        limits = self.messages.limits
        for target in targets:
            if sending.story:
                account = target.account
                await limits.take(Limit.STORIES, account.id, account=account.id, bot=account.is_bot)
            size = len(target.recipient.devices) * (len(target.recipient.prefix) + len(upload.shared))
            await count_bytes(limits, target.account, size, remote=sending.remote)

    def _plan(
        self,
        targets: list["Target"],
        upload: SealedUpload,
        sending: ManySending,
        answer: SendMultiRecipientMessageResponse,
    ) -> Append:
        now = self.messages.now()
        expires_at = self.messages.expires_at(now, online=sending.online)
        payload = Payload(secrets.randbits(PAYLOAD_ID_BITS), upload.shared)
        remembered = None
        if sending.once is not None:
            remembered = Remembered(sending.once, answer.to_json(), self.messages.expires_at(now, online=False))
        envelopes = [
            (target.entry.place_of(device_id), self._envelope(target, payload.id, sending))
            for target in targets
            for device_id, _ in target.recipient.devices
        ]
        return Append(envelopes, expires_at, payload=payload, remembered=remembered)

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
    """One recipient that exists, with the devices that it has as far as is known."""

    service_id: ServiceId
    entry: Entry
    recipient: Recipient

    @property
    def account(self) -> Account:
        """Whose it is."""
        return self.entry.account


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
        registered = target.entry.registered(target.service_id.kind)
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
