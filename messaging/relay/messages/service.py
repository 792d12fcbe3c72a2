"""Sending to one recipient: plan from memory, then have the writer store one envelope for each device, and only then answer.

Memory may be out of date (``accounts.directory``): what it refuses is planned again from the database, and so is what the
writer finds to rest on something that has changed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from uuid import UUID, uuid4

from messaging.relay.accounts.access import check_access
from messaging.relay.accounts.directory import Directory, Entry
from messaging.relay.accounts.tables import Account
from messaging.relay.database import Database
from messaging.relay.errors import (
    AccountSuspended,
    Forbidden,
    NotAuthenticated,
    RateLimited,
    RelayError,
    TooLarge,
    Unavailable,
)
from messaging.relay.http import Caller
from messaging.relay.limits import Limit, RateLimits
from messaging.relay.messages.append import Append, Place, Remembered
from messaging.relay.messages.idempotency import Once, recall
from messaging.relay.messages.matching import check_devices
from messaging.relay.messages.reports import SpamReports
from messaging.relay.messages.tables import NewEnvelope
from messaging.relay.messages.writer import EnvelopeWriter
from messaging.wire.envelope import Envelope, EnvelopeType, encode_envelope
from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.limits import MAX_CONTENT
from messaging.wire.messages import IncomingMessage, IncomingMessageList, SendMessageResponse

EPHEMERAL_LIFETIME = timedelta(seconds=10)  # of a message for devices that are online (Signal-Server)
_TYPES = {kind.value: kind for kind in EnvelopeType}
_ANSWERS = {needs_sync: SendMessageResponse(needs_sync=needs_sync) for needs_sync in (False, True)}
PLANS = 5  # after so many an account changes faster than it can be sent to


@dataclass(frozen=True, slots=True)
class Sending:
    """How one send was asked for, beside its body. A story needs no access, and an unknown recipient is no error.

    ``remote`` is the caller's network address, for limits only.
    """

    sender: Caller | None
    access_key: bytes | None
    story: bool = False
    once: Once | None = None
    remote: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class MessageService:
    """Queues messages. ``now`` gives milliseconds since 1970, ``new_guid`` the relay's name of an envelope."""

    database: Database
    directory: Directory
    writer: EnvelopeWriter
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
            AccountSuspended: the sender's account was suspended since it authenticated. Of a sealed message nobody knows the sender;
                it ends with the sender's certificate, which is not renewed.
            NotFound, NotAuthenticated: see ``accounts.access``.
            RateLimited: too many messages from this sender to this account, or too many bytes to it
                (to an assistant: from this network address).
            DevicesStale, DevicesMismatched: see ``messages.matching``.
            IdempotencyKeyReused: the key stood for another request.
            Unavailable: the database cannot be reached, or does not keep up.
        """
        for message in messages.messages:
            if len(message.content) > MAX_CONTENT:
                raise TooLarge
        sender = sending.sender
        if sender is not None and sender.is_identified_by(to) and to.kind is IdentityKind.PNI:
            raise Forbidden
        attempt = Attempt(self, messages, to, sending)
        try:
            for number in range(PLANS):
                answer = await attempt.make(fresh=number > 0)
                if answer is not None:
                    return answer
                if sending.once is not None and (before := await self.recalled(sending.once)) is not None:
                    return SendMessageResponse.from_json(before)
        except RelayError:
            # Meanwhile the account may have changed, or a bucket run out: who repeats a send is answered as the first time.
            if sending.once is None or (before := await self.recalled(sending.once)) is None:
                raise
            return SendMessageResponse.from_json(before)
        raise Unavailable

    async def recalled(self, once: Once) -> bytes | None:
        """What was answered the first time; ``None`` if this is the first time.

        Raises:
            IdempotencyKeyReused: the key stood for another request.
        """
        async with self.database.read() as db:
            return await recall(db, once)

    def expires_at(self, now: int, *, online: bool) -> int:
        """Until when an envelope that is stored ``now`` is kept."""
        return now + _milliseconds(EPHEMERAL_LIFETIME if online else self.envelope_lifetime)

    def envelope(
        self,
        message: IncomingMessage,
        messages: IncomingMessageList,
        target: Entry,
        to: ServiceId,
        sending: Sending,
        now: int,
    ) -> NewEnvelope:
        """What is stored for one device."""
        sender, guid, token = sending.sender, self.new_guid(), None
        if sender is not None and sender.account_id != target.account.id:
            token = self.reports.token(sender=sender.aci, guid=guid, receiver=target.account.aci)
        return NewEnvelope(
            encode_envelope(
                Envelope(
                    type=_TYPES[message.type],
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


@dataclass(slots=True)
class Attempt:
    """One send, until it is stored or refused for good."""

    service: MessageService
    messages: IncomingMessageList
    to: ServiceId
    sending: Sending
    counted: bool = field(default=False)  # by the rate limits, which each send meets once

    async def make(self, *, fresh: bool) -> SendMessageResponse | None:
        """Plan and store; ``None`` if what the plan rests on may be out of date.

        Raises:
            RelayError: it is refused.
        """
        sender, directory = self.sending.sender, self.service.directory
        target = (not fresh and directory.known(self.to)) or await directory.read(self.to)
        own = None
        if sender is not None:
            to_own = ServiceId(sender.aci)
            own = (not fresh and directory.known(to_own)) or await directory.read(to_own)
        try:
            if own is not None and own.account.is_suspended:
                raise AccountSuspended  # since it authenticated
            if not self.sending.story:
                account = None if target is None else target.account
                check_access(account, self.to, caller=sender, access_key=self.sending.access_key)
            if target is None:
                return _ANSWERS[False]  # of a story: no oracle for existence
            await self._count(target.account)
            send, answer = self._plan(target, own)
        except RateLimited:
            raise
        except RelayError:
            if fresh:
                raise
            return None
        return answer if await self.service.writer.append(send) is not None else None

    async def _count(self, account: Account) -> None:
        if self.counted:
            return
        sender, limits = self.sending.sender, self.service.limits
        if self.sending.story:
            await limits.take(Limit.STORIES, account.id, account=account.id, bot=account.is_bot)
        elif sender is not None and sender.account_id != account.id:
            by = sender.account_id
            await limits.take(Limit.MESSAGES, by, account.id, account=by, bot=sender.is_bot)
        total = sum([len(message.content) for message in self.messages.messages])
        await count_bytes(limits, account, total, remote=self.sending.remote)
        self.counted = True

    def _plan(self, target: Entry, own: Entry | None) -> tuple[Append, SendMessageResponse]:
        sender, messages, service = self.sending.sender, self.messages, self.service
        # First of all: who is not registered any more is told so, and nothing of the recipient.
        has_other_devices = sender is not None and _has_other_devices(own, sender)
        to_self = sender is not None and sender.account_id == target.account.id
        check_devices(
            {message.destination_device_id: message.destination_registration_id for message in messages.messages},
            target.registered(self.to.kind),
            without=sender.device_id if sender is not None and to_self else None,
        )
        now = service.now()
        envelopes = [
            (
                target.place_of(message.destination_device_id),
                service.envelope(message, messages, target, self.to, self.sending, now),
            )
            for message in messages.messages
        ]
        answer = _ANSWERS[has_other_devices and not to_self]
        remembered = None
        if self.sending.once is not None:
            remembered = Remembered(self.sending.once, answer.to_json(), service.expires_at(now, online=False))
        expires_at = service.expires_at(now, online=messages.online)
        return Append(envelopes, expires_at, _own_place(own, sender), remembered=remembered), answer


async def count_bytes(limits: RateLimits, account: Account, amount: int, *, remote: str) -> None:
    """Count what is sent to an account: by it, or by who sends where anybody may, so that nobody uses up what others need.

    Raises:
        RateLimited: too much.
    """
    if account.is_assistant:
        await limits.take(Limit.ASSISTANT_MESSAGE_BYTES, remote, amount=amount)
    else:
        await limits.take(
            Limit.INBOUND_MESSAGE_BYTES, account.id, amount=amount, account=account.id, bot=account.is_bot
        )


@cache
def _milliseconds(lifetime: timedelta) -> int:
    return lifetime // timedelta(milliseconds=1)


def _has_other_devices(own: Entry | None, sender: Caller) -> bool:
    if own is None or sender.mailbox_id not in own.versions:
        raise NotAuthenticated  # registered anew since it authenticated
    return len(own.devices) > 1


def _own_place(own: Entry | None, sender: Caller | None) -> tuple[Place, ...]:
    if own is None or sender is None:
        return ()
    return (Place(sender.mailbox_id, own.versions.get(sender.mailbox_id)),)
