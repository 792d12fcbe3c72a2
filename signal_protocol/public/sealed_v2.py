"""Splitting of a sealed message to many (sealed sender v2) into what each recipient account receives.

The upload holds, for each recipient, its devices and 48 bytes of key material, and then bytes that are the same for all. A relay
splits it without any key. Devices are not checked here: that is for who knows the accounts.
"""

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from signal_protocol.public.errors import MalformedMessage
from signal_protocol.public.fields import read_varint

MAX_RECIPIENTS: Final = 6000
MAX_DEVICE_ID: Final = 127

_UUIDS: Final = 0x22  # recipients are 16 bytes each: accounts only
_SERVICE_IDS: Final = 0x23  # recipients are 17 bytes each: a byte for the kind, and a UUID
_RECEIVED: Final = b"\x22"  # the version of what a recipient receives
_KINDS: Final = {0: "", 1: "PNI:"}
_KEY_MATERIAL: Final = 48  # a message key of 32 bytes and a tag of 16
_PUBLIC_KEY: Final = 32  # shared bytes are at least the sender's ephemeral key
_HAS_MORE: Final = 0x8000
_REGISTRATION_ID: Final = 0x3FFF


@dataclass(frozen=True, slots=True)
class Recipient:
    """One account in an upload. ``devices`` are pairs of device id and registration id; none means: it is left out on purpose.

    ``prefix`` and then what is shared by all is what its devices receive; empty if it has none.
    """

    service_id: str
    devices: tuple[tuple[int, int], ...]
    prefix: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedUpload:
    """An upload: who receives it, in the order in which they first appear, and the bytes that all of them receive."""

    recipients: tuple[Recipient, ...]
    shared: bytes = field(repr=False)


def split_sealed_v2(upload: bytes) -> SealedUpload:
    """Split an upload into what each recipient receives.

    Raises:
        MalformedMessage: another version, cut short, too many recipients, or one that is named with and without devices.

    Source: libsignal, ``SealedSenderV2SentMessage::parse`` in ``sealed_sender.rs``.
    """
    if not upload or upload[0] not in (_UUIDS, _SERVICE_IDS):
        raise MalformedMessage("an upload has version 0x22 or 0x23")
    count, offset = read_varint(upload, 1)
    if count > MAX_RECIPIENTS:
        raise MalformedMessage(f"an upload has at most {MAX_RECIPIENTS} recipients")
    devices: dict[str, list[tuple[int, int]]] = {}
    keys: dict[str, bytes] = {}
    for _ in range(count):
        service_id, offset = _service_id(upload, offset)
        found, offset = _devices(upload, offset)
        if service_id in devices and not (found and devices[service_id]):
            raise MalformedMessage("a recipient without devices stands alone")
        material, offset = _take(upload, offset, _KEY_MATERIAL if found else 0)
        devices.setdefault(service_id, []).extend(found)
        keys.setdefault(service_id, material)
    shared = upload[offset:]
    if len(shared) < _PUBLIC_KEY:
        raise MalformedMessage("an upload ends with what is shared by all")
    recipients = (
        Recipient(service_id, tuple(found), _RECEIVED + keys[service_id] if found else b"")
        for service_id, found in devices.items()
    )
    return SealedUpload(tuple(recipients), shared)


def _service_id(upload: bytes, offset: int) -> tuple[str, int]:
    kind = 0
    if upload[0] == _SERVICE_IDS:
        [kind], offset = _take(upload, offset, 1)
    raw, offset = _take(upload, offset, 16)
    if kind not in _KINDS:
        raise MalformedMessage("a recipient is an ACI or a PNI")
    return f"{_KINDS[kind]}{UUID(bytes=raw)}", offset


def _devices(upload: bytes, offset: int) -> tuple[list[tuple[int, int]], int]:
    devices: list[tuple[int, int]] = []
    more = True
    while more:
        [device], offset = _take(upload, offset, 1)
        if device == 0 and not devices:
            return [], offset
        if not 1 <= device <= MAX_DEVICE_ID:
            raise MalformedMessage("a device id is from 1 to 127")
        raw, offset = _take(upload, offset, 2)
        number = int.from_bytes(raw, "big")
        devices.append((device, number & _REGISTRATION_ID))
        more = bool(number & _HAS_MORE)
    return devices, offset


def _take(upload: bytes, offset: int, size: int) -> tuple[bytes, int]:
    if len(upload) - offset < size:
        raise MalformedMessage("an upload is complete")
    return upload[offset : offset + size], offset + size
