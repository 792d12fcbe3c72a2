"""Who is meant: accounts, their two identities, their devices, and the messages that they write.

A service id is an account seen through one identity: its ACI (the account) or its PNI (its phone number).
As text an ACI is a UUID and a PNI is ``PNI:`` and a UUID; as bytes an ACI is 16 bytes and a PNI is 0x01 and
16 bytes (libsignal, ``ServiceId``).
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

from messaging.wire.errors import MalformedField
from messaging.wire.limits import MAX_DEVICE_ID

_PNI_PREFIX = "PNI:"
_PNI_BYTE = b"\x01"

PRIMARY_DEVICE = 1


class IdentityKind(StrEnum):
    """Which of an account's two identities; the values are the ``identity`` query parameter's."""

    ACI = "aci"
    PNI = "pni"


@dataclass(frozen=True, slots=True, order=True)
class ServiceId:
    """One identity of one account."""

    uuid: UUID
    kind: IdentityKind = IdentityKind.ACI

    def __hash__(self) -> int:
        return hash(self.uuid.int)  # of the two identities of one number there is one, nearly always

    def __str__(self) -> str:
        return str(self.uuid) if self.kind is IdentityKind.ACI else f"{_PNI_PREFIX}{self.uuid}"

    def to_bytes(self) -> bytes:
        """16 bytes for an ACI, 17 for a PNI."""
        return self.uuid.bytes if self.kind is IdentityKind.ACI else _PNI_BYTE + self.uuid.bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> "ServiceId":
        """Undo :meth:`to_bytes`.

        Raises:
            MalformedField: neither 16 bytes nor 0x01 and 16 bytes.
        """
        if len(data) == 16:
            return cls(UUID(bytes=data))
        if len(data) == 17 and data[:1] == _PNI_BYTE:
            return cls(UUID(bytes=data[1:]), IdentityKind.PNI)
        raise MalformedField("service id")

    @classmethod
    def parse(cls, text: str) -> "ServiceId":
        """Read the text form; only the canonical spelling of the UUID is accepted, in either case.

        Raises:
            MalformedField: not a service id.
        """
        return _parse_service_id(text)


@lru_cache(maxsize=16_384)
def _parse_service_id(text: str) -> ServiceId:
    kind = IdentityKind.PNI if text.startswith(_PNI_PREFIX) else IdentityKind.ACI
    digits = text.removeprefix(_PNI_PREFIX)
    try:
        uuid = UUID(digits)
    except ValueError:
        raise MalformedField("service id") from None
    if str(uuid) != digits.lower():
        raise MalformedField("service id")
    return ServiceId(uuid, kind)


@dataclass(frozen=True, slots=True, order=True)
class DeviceAddress:
    """One device of one account, seen through one identity."""

    service_id: ServiceId
    device_id: int

    def __str__(self) -> str:
        return f"{self.service_id}.{self.device_id}"

    @classmethod
    def parse(cls, text: str) -> "DeviceAddress":
        """Read ``SERVICE_ID.DEVICE``; without ``.DEVICE`` the primary device is meant, as in Signal's Basic credentials.

        Raises:
            MalformedField: not an address.
        """
        service_id, dot, device = text.partition(".")
        return cls(ServiceId.parse(service_id), parse_device_id(device) if dot else PRIMARY_DEVICE)


@dataclass(frozen=True, slots=True, order=True)
class MessageId:
    """Names one message: who wrote it and the timestamp its author gave it, in milliseconds since 1970."""

    author: ServiceId
    timestamp: int


def parse_device_id(text: str) -> int:
    """Read a device id, 1 to 127.

    Raises:
        MalformedField: not such a number.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_DEVICE_ID):
        raise MalformedField("device id")
    return int(text)
