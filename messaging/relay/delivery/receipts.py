"""Delivery receipts of the server: the sender of an unsealed envelope learns that a device has it.

A receipt is an envelope without content, stored in the transaction that forgets the one it is for: so there is one for each
device that acknowledged, neither none nor two. A sealed sender is not known, and gets none. Source: Signal-Server,
``ReceiptSender``.
"""

from dataclasses import dataclass
from uuid import UUID, uuid4

from messaging.relay.http import Caller
from messaging.relay.messages.tables import NewEnvelope
from messaging.wire.envelope import Envelope, EnvelopeType, Summary, encode_envelope
from messaging.wire.identifiers import ServiceId


@dataclass(frozen=True, slots=True)
class ReceiptDue:
    """Whose envelope was delivered, and the timestamp by which its sender knows it."""

    sender: UUID
    client_timestamp: int


def receipt_due(envelope: Summary, receiver: Caller) -> ReceiptDue | None:
    """The receipt that an envelope asks for when it is acknowledged; ``None`` if none."""
    if envelope.source is None or envelope.type == EnvelopeType.SERVER_DELIVERY_RECEIPT:
        return None
    sender = envelope.source.uuid
    return None if sender == receiver.aci else ReceiptDue(sender, envelope.client_timestamp)


def receipt(due: ReceiptDue, receiver: Caller, now: int) -> NewEnvelope:
    """What a sender's device gets: ``receiver`` has the envelope."""
    return NewEnvelope(
        encode_envelope(
            Envelope(
                type=EnvelopeType.SERVER_DELIVERY_RECEIPT,
                destination=ServiceId(due.sender),
                guid=uuid4(),
                client_timestamp=due.client_timestamp,
                server_timestamp=now,
                content=b"",
                source=receiver.address,
                urgent=False,
            )
        )
    )
