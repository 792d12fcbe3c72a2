"""Sending to one recipient: check, then store one envelope for each device in one transaction, then wake."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.access import check_access
from messaging.relay.accounts.tables import Account, Device, devices_of, find_account
from messaging.relay.database import Database
from messaging.relay.delivery.wakeups import MailArrived, Wakeups
from messaging.relay.errors import DevicesStale, Forbidden, NotAuthenticated, TooLarge
from messaging.relay.http import Caller
from messaging.relay.limits import Limit, RateLimits
from messaging.relay.messages.idempotency import Once, recall, remember
from messaging.relay.messages.matching import check_devices
from messaging.relay.messages.reports import SpamReports
from messaging.relay.messages.tables import NewEnvelope, append_envelopes
from messaging.wire.envelope import Envelope, EnvelopeType, encode_envelope
from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.limits import MAX_CONTENT
from messaging.wire.messages import IncomingMessage, IncomingMessageList, SendMessageResponse

EPHEMERAL_LIFETIME = timedelta(seconds=10)  # of a message for devices that are online (Signal-Server)


@dataclass(frozen=True, slots=True)
class Sending:
    """How one send was asked for, beside its body. A story needs no access, and an unknown recipient is no error."""

    sender: Caller | None
    access_key: bytes | None
    story: bool = False
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class MessageService:
    """Queues messages. ``now`` gives milliseconds since 1970, ``new_guid`` the relay's name of an envelope."""

    database: Database
    wakeups: Wakeups
    limits: RateLimits
    reports: SpamReports
    now: Callable[[], int]
    envelope_lifetime: timedelta
    new_guid: Callable[[], UUID] = uuid4

    async def send(self, messages: IncomingMessageList, to: ServiceId, sending: Sending) -> SendMessageResponse:
        """Queue one envelope for each device of ``to``: all of them, or none. They are committed when this returns.

        Raises:
            TooLarge: the content for one device is beyond ``MAX_CONTENT``.
            Forbidden: to the sender's own phone number identity.
            NotFound, NotAuthenticated: see ``accounts.access``.
            RateLimited: too many messages from this sender to this account, or too many bytes to it.
            DevicesStale, DevicesMismatched: see ``messages.matching``.
            IdempotencyKeyReused: the key stood for another request.
        """
        if any(len(message.content) > MAX_CONTENT for message in messages.messages):
            raise TooLarge
        sender = sending.sender
        if sender is not None and sender.is_identified_by(to) and to.kind is IdentityKind.PNI:
            raise Forbidden
        try:
            return await self._send(messages, to, sending)
        except IntegrityError:
            if sending.once is None:
                raise
            return await self._send(messages, to, sending)  # the same send came twice at once: this one is second

    async def _send(self, messages: IncomingMessageList, to: ServiceId, sending: Sending) -> SendMessageResponse:
        now, sender = self.now(), sending.sender
        async with self.database.begin() as db:
            account = await find_account(db, to)
            if not sending.story:
                check_access(account, to, caller=sender, access_key=sending.access_key)
            if (before := await recall(db, sending.once)) is not None:
                return SendMessageResponse.from_json(before)
            if account is None:
                return SendMessageResponse(needs_sync=False)  # of a story: no oracle for existence
            await self._take_limits(messages, account, sending)
            to_self = sender is not None and sender.account_id == account.id
            devices = {device.device_id: device for device in await devices_of(db, account.id)}
            check_devices(
                {message.destination_device_id: message.destination_registration_id for message in messages.messages},
                {device_id: device.registration_id_for(to.kind) for device_id, device in devices.items()},
                without=sender.device_id if sender is not None and to_self else None,
            )
            needs_sync = sender is not None and await _has_other_devices(db, sender) and not to_self
            envelopes = {
                devices[message.destination_device_id].mailbox_id: self._envelope(
                    message, messages, account, to, sending, now
                )
                for message in messages.messages
            }
            sequences = await append_envelopes(db, envelopes, expires_at=self.expires_at(online=messages.online))
            _check_all_there(devices.values(), envelopes.keys() - sequences.keys())
            answer = SendMessageResponse(needs_sync=needs_sync)
            await remember(db, sending.once, answer.to_json(), expires_at=self.expires_at(online=False))
        # After the commit: a device woken earlier could find its mailbox still empty.
        for mailbox_id, sequence in sequences.items():
            self.wakeups.announce(mailbox_id, MailArrived(sequence))
        return answer

    def expires_at(self, *, online: bool) -> int:
        """Until when an envelope that is stored now is kept."""
        lifetime = EPHEMERAL_LIFETIME if online else self.envelope_lifetime
        return self.now() + lifetime // timedelta(milliseconds=1)

    async def _take_limits(self, messages: IncomingMessageList, account: Account, sending: Sending) -> None:
        sender = sending.sender
        if sending.story:
            await self.limits.take(Limit.STORIES, account.id, account=account.id)
        elif sender is not None and sender.account_id != account.id:
            await self.limits.take(Limit.MESSAGES, sender.account_id, account.id, account=sender.account_id)
        total = sum(len(message.content) for message in messages.messages)
        await self.limits.take(Limit.INBOUND_MESSAGE_BYTES, account.id, amount=total, account=account.id)

    def _envelope(
        self,
        message: IncomingMessage,
        messages: IncomingMessageList,
        account: Account,
        to: ServiceId,
        sending: Sending,
        now: int,
    ) -> NewEnvelope:
        sender, guid, token = sending.sender, self.new_guid(), None
        if sender is not None and sender.account_id != account.id:
            token = self.reports.token(sender=sender.aci, guid=guid, receiver=account.aci)
        return NewEnvelope(
            encode_envelope(
                Envelope(
                    type=EnvelopeType(message.type),
                    destination=to,
                    guid=guid,
                    client_timestamp=messages.timestamp or now,
                    server_timestamp=now,
                    content=message.content,
                    source=None if sender is None else sender.address,
                    urgent=messages.urgent,
                    story=sending.story,
                    ephemeral=messages.online,
                    report_token=token,
                )
            )
        )


async def _has_other_devices(db: AsyncConnection, sender: Caller) -> bool:
    devices = await devices_of(db, sender.account_id)
    if sender.mailbox_id not in {device.mailbox_id for device in devices}:
        raise NotAuthenticated  # registered anew since it authenticated
    return len(devices) > 1


def _check_all_there(devices: Iterable[Device], gone: Collection[int]) -> None:
    if gone:
        raise DevicesStale(device.device_id for device in devices if device.mailbox_id in gone)
