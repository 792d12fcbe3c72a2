"""Delivery receipts of the server: the sender of an unsealed envelope learns that a device has it.

A receipt is an envelope without content, stored in the transaction that forgets the one it is for: so there is one for each
device that acknowledged, neither none nor two. A sealed sender is not known, and gets none. Source: Signal-Server,
``ReceiptSender``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.tables import devices_of, find_account
from messaging.relay.http import Caller
from messaging.relay.messages.tables import NewEnvelope, append_envelopes, lock_mailboxes
from messaging.wire.envelope import Envelope, EnvelopeType, encode_envelope
from messaging.wire.identifiers import ServiceId


@dataclass(frozen=True, slots=True)
class ReceiptDue:
    """Whose envelope was delivered, and the timestamp by which its sender knows it."""

    sender: UUID
    client_timestamp: int


def receipt_due(envelope: Envelope, receiver: Caller) -> ReceiptDue | None:
    """The receipt that an envelope asks for when it is acknowledged; ``None`` if none."""
    if envelope.source is None or envelope.type is EnvelopeType.SERVER_DELIVERY_RECEIPT:
        return None
    sender = envelope.source.service_id.uuid
    return None if sender == receiver.aci else ReceiptDue(sender, envelope.client_timestamp)


async def store_receipts(
    db: AsyncConnection, due: Sequence[ReceiptDue], receiver: Caller, *, now: int, expires_at: int
) -> dict[int, int]:
    """Queue receipts for all devices of the senders; returns the last sequence of each mailbox."""
    mailboxes = {sender: await _mailboxes(db, sender) for sender in {each.sender for each in due}}
    await lock_mailboxes(db, sorted({box for boxes in mailboxes.values() for box in boxes}))
    sequences: dict[int, int] = {}
    for receipt in due:
        envelopes = {box: _receipt(receipt, receiver, now) for box in mailboxes[receipt.sender]}
        if envelopes:
            sequences |= await append_envelopes(db, envelopes, expires_at=expires_at)
    return sequences


async def _mailboxes(db: AsyncConnection, sender: UUID) -> Iterable[int]:
    account = await find_account(db, ServiceId(sender))
    return [] if account is None else [device.mailbox_id for device in await devices_of(db, account.id)]


def _receipt(receipt: ReceiptDue, receiver: Caller, now: int) -> NewEnvelope:
    return NewEnvelope(
        encode_envelope(
            Envelope(
                type=EnvelopeType.SERVER_DELIVERY_RECEIPT,
                destination=ServiceId(receipt.sender),
                guid=uuid4(),
                client_timestamp=receipt.client_timestamp,
                server_timestamp=now,
                content=b"",
                source=receiver.address,
                urgent=False,
            )
        )
    )
