"""What needs no secret of a user: signatures, certificates, and reading what stands openly in messages.

In this process, synchronous, without Node. It is the one part of ``signal_protocol`` that a relay may import, and it
imports nothing of the rest.
"""

from signal_protocol.public.certificates import (
    SenderCertificate,
    issue_sender_certificate,
    issue_server_certificate,
    verify_sender_certificate,
)
from signal_protocol.public.errors import (
    InvalidKey,
    InvalidSignature,
    MalformedMessage,
    PublicError,
    UntrustedCertificate,
)
from signal_protocol.public.keys import (
    KeyPair,
    check_ec_public_key,
    check_kyber_public_key,
    generate_key_pair,
    public_key_of,
    sign,
    verify_signature,
)
from signal_protocol.public.prekey_message import PrekeyMessage, parse_prekey_message
from signal_protocol.public.sealed_v2 import Recipient, SealedUpload, split_sealed_v2

__all__ = [
    "InvalidKey",
    "InvalidSignature",
    "KeyPair",
    "MalformedMessage",
    "PrekeyMessage",
    "PublicError",
    "Recipient",
    "SealedUpload",
    "SenderCertificate",
    "UntrustedCertificate",
    "check_ec_public_key",
    "check_kyber_public_key",
    "generate_key_pair",
    "issue_sender_certificate",
    "issue_server_certificate",
    "parse_prekey_message",
    "public_key_of",
    "sign",
    "split_sealed_v2",
    "verify_sender_certificate",
    "verify_signature",
]
