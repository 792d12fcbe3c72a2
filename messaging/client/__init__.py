"""The client SDK: a device that registers, sends and receives end-to-end encrypted, over libsignal.

``Store`` keeps its records, ``Relay`` says where the server is, ``Device`` does the rest; ``client.conversation`` and
``client.assistant`` stand on top of it.
"""

from messaging.client.connection import Relay
from messaging.client.device import Device, Problem, Received, Undecryptable
from messaging.client.errors import (
    ClientError,
    ContentTooLarge,
    CorruptStore,
    CredentialsRevoked,
    Displaced,
    IdentityChanged,
    InvalidNumber,
    NotRegistered,
    RegistrationRefused,
    RelayRefused,
    RelayUnreachable,
    StoreInUse,
    TrustRootChanged,
    UnknownRecipient,
    WrongKey,
)
from messaging.client.stores import Store, derive_key

__all__ = [
    "ClientError",
    "ContentTooLarge",
    "CorruptStore",
    "CredentialsRevoked",
    "Device",
    "Displaced",
    "IdentityChanged",
    "InvalidNumber",
    "NotRegistered",
    "Problem",
    "Received",
    "RegistrationRefused",
    "Relay",
    "RelayRefused",
    "RelayUnreachable",
    "Store",
    "StoreInUse",
    "TrustRootChanged",
    "Undecryptable",
    "UnknownRecipient",
    "WrongKey",
    "derive_key",
]
