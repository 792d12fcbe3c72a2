"""Certificates of the sealed sender: a relay says which account and key a device has, so that a sender need not.

A trust root signs a server certificate, whose key signs sender certificates. The server certificate is always embedded:
libsignal's short form, by number, means Signal's own servers.

Source: libsignal, ``sealed_sender.proto`` and ``sealed_sender.rs``.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from signal_protocol.public.errors import InvalidSignature, MalformedMessage, UntrustedCertificate
from signal_protocol.public.fields import FieldReader, fixed64_field, octets_field, required, uint32_field
from signal_protocol.public.keys import sign, verify_signature

REVOKED_KEY_IDS = frozenset({0xDEADC357})  # libsignal refuses this number


@dataclass(frozen=True, slots=True)
class SenderCertificate:
    """What a verified certificate says of its sender. ``expires`` is milliseconds since 1970."""

    sender: UUID
    sender_e164: str | None
    device_id: int
    identity_key: bytes
    expires: int


def issue_server_certificate(trust_root_private: bytes, *, key_id: int, key: bytes) -> bytes:
    """Certify ``key`` (33 bytes, public) as number ``key_id`` with the trust root.

    Raises:
        InvalidKey: the private key is not 32 bytes.
    """
    return _signed(uint32_field(1, key_id) + octets_field(2, key), trust_root_private)


def issue_sender_certificate(
    server_certificate: bytes,
    server_private: bytes,
    *,
    sender: str,
    device_id: int,
    identity_key: bytes,
    expires: int,
    sender_e164: str | None = None,
) -> bytes:
    """Certify that device ``device_id`` of account ``sender`` (a UUID) has ``identity_key`` until ``expires``.

    ``expires`` is milliseconds since 1970.

    Raises:
        InvalidKey: the private key is not 32 bytes.
        ValueError: ``sender`` is not a UUID.
    """
    number = b"" if sender_e164 is None else octets_field(1, sender_e164.encode())
    return _signed(
        number
        + uint32_field(2, device_id)
        + fixed64_field(3, expires)
        + octets_field(4, identity_key)
        + octets_field(5, server_certificate)
        + octets_field(6, str(UUID(sender)).encode()),
        server_private,
    )


def verify_sender_certificate(certificate: bytes, *, trust_roots: Sequence[bytes], now: int) -> SenderCertificate:
    """Check a sender certificate up to one of ``trust_roots`` (33 bytes each) at the time ``now`` (milliseconds).

    Raises:
        MalformedMessage: not a sender certificate with an embedded server certificate.
        UntrustedCertificate: expired, revoked, or not signed by a trusted root.
    """
    body, signature = _parts(certificate)
    fields = FieldReader(body)
    server_certificate = required(fields.octets(5))
    server_key = _verify_server_certificate(server_certificate, trust_roots)
    _verify(server_key, body, signature)
    found = SenderCertificate(
        sender=_sender(fields),
        sender_e164=fields.text(1),
        device_id=required(fields.uint32(2)),
        identity_key=required(fields.octets(4)),
        expires=required(fields.fixed64(3)),
    )
    if now >= found.expires:
        raise UntrustedCertificate("a sender certificate is used before it expires")
    return found


def _verify_server_certificate(certificate: bytes, trust_roots: Sequence[bytes]) -> bytes:
    body, signature = _parts(certificate)
    fields = FieldReader(body)
    key_id, key = required(fields.uint32(1)), required(fields.octets(2))
    if key_id in REVOKED_KEY_IDS:
        raise UntrustedCertificate("the server certificate is not revoked")
    for root in trust_roots:
        try:
            verify_signature(root, body, signature)
        except InvalidSignature:
            continue
        return key
    raise UntrustedCertificate("a trusted root signed the server certificate")


def _sender(fields: FieldReader) -> UUID:
    text, raw = fields.text(6), fields.octets(7)
    if (text is None) == (raw is None):
        raise MalformedMessage("a sender certificate names its sender once")
    try:
        sender = UUID(bytes=raw) if raw is not None else UUID(text)
    except ValueError:
        raise MalformedMessage("a sender is a UUID") from None
    if text is not None and not hmac.compare_digest(text.encode(), str(sender).encode()):
        raise MalformedMessage("a sender's UUID is in its canonical form")
    return sender


def _verify(key: bytes, body: bytes, signature: bytes) -> None:
    try:
        verify_signature(key, body, signature)
    except InvalidSignature:
        raise UntrustedCertificate("the server's key signed the sender certificate") from None


def _parts(certificate: bytes) -> tuple[bytes, bytes]:
    fields = FieldReader(certificate)
    body, signature = required(fields.octets(1)), required(fields.octets(2))
    fields.refuse_others()
    return body, signature


def _signed(body: bytes, private_key: bytes) -> bytes:
    return octets_field(1, body) + octets_field(2, sign(private_key, body))
