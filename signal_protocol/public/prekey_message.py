"""What stands openly in the first message of a session: which prekeys it was made for.

A receiver has to load those prekeys before it can decrypt. The outer fields are not authenticated (only the inner message
is), so they may select records and nothing else.
"""

from dataclasses import dataclass, field
from typing import Final

from signal_protocol.public.errors import InvalidKey, MalformedMessage
from signal_protocol.public.fields import FieldReader, required
from signal_protocol.public.keys import check_ec_public_key

MESSAGE_VERSION: Final = 4  # PQXDH; libsignal refuses older versions as legacy


@dataclass(frozen=True, slots=True)
class PrekeyMessage:
    """The outer fields of a first message. Keys are 33 bytes; ``message`` is the inner, encrypted message."""

    registration_id: int
    one_time_prekey_id: int | None
    signed_prekey_id: int
    kyber_prekey_id: int
    kyber_ciphertext: bytes = field(repr=False)
    base_key: bytes
    identity_key: bytes
    message: bytes = field(repr=False)


def parse_prekey_message(ciphertext: bytes) -> PrekeyMessage:
    """Read the outer fields of a serialized ``PreKeySignalMessage``.

    Raises:
        MalformedMessage: another version, a missing or malformed field, or a field that stands twice.

    Source: libsignal, ``PreKeySignalMessage`` in ``wire.proto`` and ``protocol.rs``; PQXDH, section 3.3.
    """
    if not ciphertext or ciphertext[0] >> 4 != MESSAGE_VERSION:
        raise MalformedMessage("a first message has version 4")
    fields = FieldReader(ciphertext[1:])
    message = PrekeyMessage(
        registration_id=fields.uint32(5) or 0,
        one_time_prekey_id=fields.uint32(1),
        signed_prekey_id=required(fields.uint32(6)),
        kyber_prekey_id=required(fields.uint32(7)),
        kyber_ciphertext=required(fields.octets(8)),
        base_key=required(fields.octets(2)),
        identity_key=required(fields.octets(3)),
        message=required(fields.octets(4)),
    )
    try:
        check_ec_public_key(message.base_key)
        check_ec_public_key(message.identity_key)
    except InvalidKey:
        raise MalformedMessage("the keys of a first message are Curve25519 public keys") from None
    return message
