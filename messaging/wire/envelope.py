"""An envelope: one ciphertext for one device, with what the relay knows about it."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import cast
from uuid import UUID

from google.protobuf.message import DecodeError

from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import DeviceAddress, ServiceId
from messaging.wire.protobuf import envelope_pb2 as pb

_CONTENT_TAG = 8 << 3 | 2  # field 8, of known length


class EnvelopeType(IntEnum):
    """What the content is (Signal-Server, ``TextSecure.proto``)."""

    CIPHERTEXT = 1
    PREKEY_MESSAGE = 3
    SERVER_DELIVERY_RECEIPT = 5
    UNIDENTIFIED_SENDER = 6
    PLAINTEXT_CONTENT = 8


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a device receives. Times are milliseconds since 1970.

    ``source`` is ``None`` when the sender is sealed. ``guid`` is the relay's name for this envelope.
    """

    type: EnvelopeType
    destination: ServiceId
    guid: UUID
    client_timestamp: int
    server_timestamp: int
    content: bytes = field(repr=False)
    source: DeviceAddress | None = None
    urgent: bool = True
    story: bool = False
    ephemeral: bool = False
    report_token: bytes | None = field(default=None, repr=False)


def encode_envelope(envelope: Envelope) -> bytes:
    """The protobuf that goes into the body of ``PUT /api/v1/message``."""
    message = pb.Envelope()
    message.type = cast("pb.Envelope.Type.ValueType", envelope.type)
    message.client_timestamp = envelope.client_timestamp
    message.server_timestamp = envelope.server_timestamp
    message.urgent = envelope.urgent
    message.destination_service_id = envelope.destination.to_bytes()
    message.server_guid = envelope.guid.bytes
    if envelope.content:
        message.content = envelope.content
    if envelope.story:
        message.story = True
    if envelope.ephemeral:
        message.ephemeral = True
    if envelope.source is not None:
        message.source_service_id = envelope.source.service_id.to_bytes()
        message.source_device = envelope.source.device_id
    if envelope.report_token is not None:
        message.report_spam_token = envelope.report_token
    return message.SerializeToString()


def content_field(size: int) -> bytes:
    """What stands before a content of ``size`` bytes that is appended to an envelope without one.

    Fields of a protobuf may come in any order, so an envelope and its content can be kept apart and put together by
    appending (Protocol Buffers, "Encoding").
    """
    length = bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([_CONTENT_TAG, *length, size])


def decode_envelope(data: bytes) -> Envelope:
    """Undo :func:`encode_envelope`.

    Raises:
        MalformedField: not an envelope that this version understands.
    """
    try:
        message = pb.Envelope.FromString(data)
        kind = EnvelopeType(message.type)
        guid = UUID(bytes=message.server_guid)
    except (DecodeError, ValueError):
        raise MalformedField("envelope") from None
    source = None
    if message.HasField("source_service_id"):
        source = DeviceAddress(ServiceId.from_bytes(message.source_service_id), message.source_device)
    return Envelope(
        type=kind,
        destination=ServiceId.from_bytes(message.destination_service_id),
        guid=guid,
        client_timestamp=message.client_timestamp,
        server_timestamp=message.server_timestamp,
        content=message.content,
        source=source,
        urgent=message.urgent,
        story=message.story,
        ephemeral=message.ephemeral,
        report_token=message.report_spam_token or None,
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """What delivery needs to know of an envelope; ``source`` is ``None`` when the sender is sealed."""

    type: int
    story: bool
    client_timestamp: int
    server_timestamp: int
    source: ServiceId | None


def summarise_envelope(data: bytes) -> Summary:
    """Read what delivery needs, and no more: it does so for each envelope that it sends.

    Raises:
        MalformedField: not an envelope.
    """
    try:
        message = pb.Envelope.FromString(data)
    except DecodeError:
        raise MalformedField("envelope") from None
    source = ServiceId.from_bytes(message.source_service_id) if message.source_service_id else None
    return Summary(message.type, message.story, message.client_timestamp, message.server_timestamp, source)
