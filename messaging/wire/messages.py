"""JSON of sending, and of the sealed sender's certificate (Signal-Server, ``MessageController`` and its entities)."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import ConfigDict, Field, PlainSerializer, model_validator

from messaging.wire.json import Base64, Entity, encode_base64
from messaging.wire.keys import PreKeyResponseItem
from messaging.wire.limits import MAX_DEVICE_ID, MAX_REGISTRATION_ID, MAX_TIMESTAMP

ACCESS_KEY_HEADER = "Unidentified-Access-Key"  # base64 of 16 bytes
GROUP_SEND_HEADER = "Group-Send-Token"
IDEMPOTENCY_HEADER = "Idempotency-Key"  # draft-ietf-httpapi-idempotency-key-header-07
MULTI_RECIPIENT_TYPE = "application/vnd.signal-messenger.mrm"
TIMESTAMP_HEADER = "X-Signal-Timestamp"  # milliseconds since 1970, on delivery and on answers

if TYPE_CHECKING:
    Sendable = int
else:
    Sendable = Literal[1, 3, 6, 8]  # the numbers of EnvelopeType, without the server's own delivery receipts

DeviceId = Annotated[int, Field(ge=1, le=MAX_DEVICE_ID)]


class IncomingMessage(Entity):
    """One ciphertext for one device; ``type`` is a number of :class:`EnvelopeType`.

    Each message of each client is read here, so pydantic decodes the base64 itself; it takes the alphabet for addresses too.
    """

    model_config = ConfigDict(val_json_bytes="base64")

    type: Sendable
    destination_device_id: DeviceId
    destination_registration_id: Annotated[int, Field(ge=0, le=MAX_REGISTRATION_ID)]
    content: Annotated[bytes, PlainSerializer(encode_base64, when_used="json"), Field(min_length=1, repr=False)]


class IncomingMessageList(Entity):
    """``PUT /v1/messages/{service_id}``: one ciphertext for each device of the recipient.

    ``online`` asks not to keep it for a device that is away. A timestamp of 0 means the time of arrival.
    """

    messages: Annotated[tuple[IncomingMessage, ...], Field(min_length=1, max_length=MAX_DEVICE_ID, repr=False)]
    online: bool = False
    urgent: bool = True
    timestamp: Annotated[int, Field(ge=0, le=MAX_TIMESTAMP)] = 0

    @model_validator(mode="after")
    def _each_device_once(self) -> Self:
        count = len(self.messages)
        if count > 1 and len({message.destination_device_id for message in self.messages}) != count:
            raise ValueError("a device that is named twice")
        return self


class SendMessageResponse(Entity):
    """200: every envelope is stored. ``needs_sync`` says that the sender has other devices."""

    needs_sync: bool


class MismatchedDevices(Entity):
    """409: nothing was stored, because the devices named are not exactly the devices registered."""

    missing_devices: tuple[int, ...]
    extra_devices: tuple[int, ...]
    bundles: tuple[PreKeyResponseItem, ...] | None = None  # of the missing devices, if the sender asked for them


class StaleDevices(Entity):
    """410: nothing was stored, because these devices were registered anew since the sender last looked."""

    stale_devices: tuple[int, ...]
    bundles: tuple[PreKeyResponseItem, ...] | None = None  # of the stale devices, if the sender asked for them


class AccountMismatchedDevices(Entity):
    """One account in the 409 of a message to many."""

    uuid: str
    devices: MismatchedDevices


class AccountStaleDevices(Entity):
    """One account in the 410 of a message to many."""

    uuid: str
    devices: StaleDevices


class SendMultiRecipientMessageResponse(Entity):
    """200 for a message to many. ``uuids404`` is always empty here: an unknown recipient fails the whole send."""

    uuids404: tuple[str, ...] = ()


class SpamReport(Entity):
    """``POST /v1/messages/report/{source}/{guid}``: ``token`` came with the envelope."""

    token: Annotated[Base64 | None, Field(max_length=64, repr=False)] = None


class ParkedMessage(Entity):
    """An envelope that failed ``deliveries`` times and waits for a decision; ``size`` is bytes."""

    sequence: int
    guid: str
    server_timestamp: int
    size: int
    deliveries: int


class ParkedMessages(Entity):
    """``GET /v1/messages/parked``."""

    messages: tuple[ParkedMessage, ...]


class Gap(Entity):
    """``PUT /api/v1/queue/gap``: the device will not get the envelopes ``first`` to ``last``; ``reason`` says why."""

    first: int
    last: int
    reason: str


class PrekeysLow(Entity):
    """``PUT /api/v1/keys/low``: one-time prekeys that are left under one identity."""

    identity: str
    count: int
    pq_count: int


class DeliveryCertificate(Entity):
    """``GET /v1/certificate/delivery``: a serialized sealed-sender certificate for the calling device."""

    certificate: Base64
