"""The values that go in and out of the binding: addresses, keys, prekeys, bundles, messages, results.

All are frozen. Those with a rule check it when they are made, so that a value that exists is valid. Fields with content,
private keys or records have no repr. Public keys are 33 bytes (Curve25519, type byte 0x05) or 1,569 bytes (Kyber-1024,
type byte 0x08); times are milliseconds since 1970; a record is libsignal's serialization and otherwise opaque.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final
from uuid import UUID

from signal_protocol.errors import InvalidArgument

MAX_DEVICE_ID: Final = 127
MAX_REGISTRATION_ID: Final = 16380
MAX_KEY_ID: Final = 2**24 - 2

_PNI_PREFIX: Final = "PNI:"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """One device of one account.

    Attributes:
        service_id: a UUID in lower case (an ACI), or ``PNI:`` and such a UUID. libsignal binds both addresses of a first
            message into its authentication only if they are service ids, so nothing else is accepted.
        device_id: 1 to 127.

    Raises:
        InvalidArgument: either breaks its rule.
    """

    service_id: str
    device_id: int

    def __post_init__(self) -> None:
        check_service_id(self.service_id)
        if not 1 <= self.device_id <= MAX_DEVICE_ID:
            raise InvalidArgument("a device id is from 1 to 127")

    def __str__(self) -> str:
        return f"{self.service_id}.{self.device_id}"


@dataclass(frozen=True, slots=True)
class Identity:
    """An account's long-term key pair.

    Attributes:
        public_key: 33 bytes; what peers compare and trust.
        private_key: 32 bytes.
    """

    public_key: bytes
    private_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LocalDevice:
    """The device that a call speaks for.

    Attributes:
        registration_id: 1 to 16380, drawn anew at each installation.

    Raises:
        InvalidArgument: the registration id breaks its rule.
    """

    address: Address
    identity: Identity
    registration_id: int

    def __post_init__(self) -> None:
        check_registration_id(self.registration_id)


@dataclass(frozen=True, slots=True)
class PublicPrekey:
    """The public half of a one-time prekey, as it travels in a bundle."""

    key_id: int
    public_key: bytes


@dataclass(frozen=True, slots=True)
class SignedPublicPrekey:
    """The public half of a signed or Kyber prekey: ``signature`` is the identity key's over ``public_key``, 64 bytes."""

    key_id: int
    public_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class OneTimePrekey:
    """A Curve25519 key for one first message (PQXDH, section 3.2). ``record`` holds the private half."""

    public: PublicPrekey
    record: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedPrekey:
    """A Curve25519 key that is replaced every few days; ``created_at`` in milliseconds since 1970."""

    public: SignedPublicPrekey
    created_at: int
    record: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KyberPrekey:
    """A Kyber-1024 key, for one first message or, as the last resort, for many."""

    public: SignedPublicPrekey
    created_at: int
    record: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PrekeyBundle:
    """What one device publishes so that others can write to it first.

    Raises:
        InvalidArgument: the registration id or the device id breaks its rule.

    Source: PQXDH, section 3.2; libsignal, ``PreKeyBundle``.
    """

    registration_id: int
    device_id: int
    identity_key: bytes
    signed_prekey: SignedPublicPrekey
    kyber_prekey: SignedPublicPrekey
    one_time_prekey: PublicPrekey | None = None

    def __post_init__(self) -> None:
        check_registration_id(self.registration_id)
        if not 1 <= self.device_id <= MAX_DEVICE_ID:
            raise InvalidArgument("a device id is from 1 to 127")


class MessageKind(IntEnum):
    """What a ciphertext is; the values are libsignal's ``CiphertextMessageType``, not the envelope types of a relay."""

    WHISPER = 2
    PREKEY = 3
    SENDER_KEY = 7
    PLAINTEXT = 8


class ContentHint(IntEnum):
    """What the recipient should do if it cannot decrypt a sealed message."""

    DEFAULT = 0
    RESENDABLE = 1
    IMPLICIT = 2


@dataclass(frozen=True, slots=True)
class Encrypted:
    """One encrypted message and the session record after it.

    Attributes:
        remote_registration_id: of the device that the session belongs to; a relay compares it on delivery.
    """

    kind: MessageKind
    ciphertext: bytes = field(repr=False)
    remote_registration_id: int
    session: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sealed:
    """One message sealed for one device (sealed sender), and the session record after it."""

    message: bytes = field(repr=False)
    remote_registration_id: int
    session: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PrekeyRecords:
    """The records of our own prekeys that a first message names; ``None`` for those that are not stored.

    Attributes:
        kyber_last_resort: whether the Kyber prekey is used for many first messages. Not needed to decrypt; the session
            service keeps it here.
    """

    one_time: bytes | None = field(default=None, repr=False)
    signed: bytes | None = field(default=None, repr=False)
    kyber: bytes | None = field(default=None, repr=False)
    kyber_last_resort: bool = False


@dataclass(frozen=True, slots=True)
class KyberUse:
    """That a first message used a Kyber prekey. For a last-resort key the triple must be stored and be unique."""

    kyber_prekey_id: int
    signed_prekey_id: int
    base_key: bytes


@dataclass(frozen=True, slots=True)
class Decrypted:
    """One decrypted message and what its transaction has to write.

    Attributes:
        identity_key: the sender's.
        used_one_time_prekey: the id to delete.
        used_kyber_prekey: to delete, or for a last-resort key to insert under a unique constraint.
    """

    plaintext: bytes = field(repr=False)
    session: bytes = field(repr=False)
    identity_key: bytes
    used_one_time_prekey: int | None = None
    used_kyber_prekey: KyberUse | None = None


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A sealed message, opened: who sent it, vouched for by a valid certificate, and the message inside, still encrypted.

    Attributes:
        identity_key: the key in the certificate; compare it with the one that ``decrypt`` returns.
    """

    sender: Address
    identity_key: bytes
    kind: MessageKind
    content_hint: ContentHint
    group_id: bytes | None = field(repr=False)
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Received:
    """The outcome of a sealed message: who sent it and what it says."""

    sender: Address
    kind: MessageKind
    content_hint: ContentHint
    group_id: bytes | None = field(repr=False)
    plaintext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class GroupEncrypted:
    """A message encrypted once for a whole group, and our sender key record after it."""

    ciphertext: bytes = field(repr=False)
    sender_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class GroupDecrypted:
    """A decrypted group message, and the sender's sender key record after it."""

    plaintext: bytes = field(repr=False)
    sender_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Our sender key for a group: the message that gives it to one member, inside a session, and our record."""

    message: bytes = field(repr=False)
    sender_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Destination:
    """One recipient device of a sealed group message, with the session that its registration id comes from."""

    address: Address
    identity_key: bytes
    session: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SafetyNumber:
    """What two people compare to know that nobody sits between them.

    Attributes:
        digits: 60 decimal digits, the same on both sides.
        scannable: what a QR code holds; compare with ``compare_safety_numbers``.
    """

    digits: str
    scannable: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a session record says about itself.

    Attributes:
        usable: it can encrypt now: not archived, and not unanswered for 30 days.
        remote_registration_id: ``None`` if it is archived.
    """

    usable: bool
    remote_registration_id: int | None


@dataclass(frozen=True, slots=True)
class DecryptionError:
    """That a message of ours could not be decrypted, as its recipient says it.

    Attributes:
        sent_at: the time of the failed message, milliseconds since 1970.
        device_id: the device that sent it, ours.
        ratchet_key: of the failed message, if it was a pairwise one.
    """

    sent_at: int
    device_id: int
    ratchet_key: bytes | None


def check_service_id(service_id: str) -> None:
    """Check that ``service_id`` is a UUID in lower case, or ``PNI:`` and one.

    Raises:
        InvalidArgument: it is not.
    """
    digits = service_id.removeprefix(_PNI_PREFIX)
    try:
        canonical = str(UUID(digits)) == digits
    except ValueError:
        canonical = False
    if not canonical:
        raise InvalidArgument("an address is a service id: a UUID in lower case")


def service_id_bytes(service_id: str) -> bytes:
    """Return the binary form: 16 bytes for an ACI; 0x01 and 16 bytes for a PNI (libsignal, ``ServiceId``)."""
    uuid = UUID(service_id.removeprefix(_PNI_PREFIX)).bytes
    return b"\x01" + uuid if service_id.startswith(_PNI_PREFIX) else uuid


def check_registration_id(registration_id: int) -> None:
    """Check that ``registration_id`` is from 1 to 16380. Larger ones work in sessions and fail in sealed sender.

    Raises:
        InvalidArgument: it is not.
    """
    if not 1 <= registration_id <= MAX_REGISTRATION_ID:
        raise InvalidArgument("a registration id is from 1 to 16380")
