"""The client SDK: a device that registers, sends and receives end-to-end encrypted, over libsignal.

``Store`` keeps its records, ``Relay`` says where the server is, ``Device`` does the rest; ``client.conversation`` and
``client.assistant`` stand on top of it.
"""

from messaging.client.connection import Relay
from messaging.client.device import Device, Received
from messaging.client.errors import (
    AccountSuspended,
    ClientError,
    ContentTooLarge,
    CorruptStore,
    CredentialsRevoked,
    Displaced,
    IdentityChanged,
    InvalidDeviceName,
    InvalidNumber,
    LinkExpired,
    MalformedLink,
    MalformedProvisioning,
    NotLinked,
    NotPrimary,
    NotRegistered,
    RegistrationRefused,
    RelayRefused,
    RelayUnreachable,
    StoreFailed,
    StoreInUse,
    TooManyDevices,
    TrustRootChanged,
    UnknownRecipient,
    WrongKey,
)
from messaging.client.linking import LinkedDevice
from messaging.client.problems import Failed, Problem, Undecryptable
from messaging.client.stores import Store, derive_key

__all__ = [
    "AccountSuspended",
    "ClientError",
    "ContentTooLarge",
    "CorruptStore",
    "CredentialsRevoked",
    "Device",
    "Displaced",
    "Failed",
    "IdentityChanged",
    "InvalidDeviceName",
    "InvalidNumber",
    "LinkExpired",
    "LinkedDevice",
    "MalformedLink",
    "MalformedProvisioning",
    "NotLinked",
    "NotPrimary",
    "NotRegistered",
    "Problem",
    "Received",
    "RegistrationRefused",
    "Relay",
    "RelayRefused",
    "RelayUnreachable",
    "Store",
    "StoreFailed",
    "StoreInUse",
    "TooManyDevices",
    "TrustRootChanged",
    "Undecryptable",
    "UnknownRecipient",
    "WrongKey",
    "derive_key",
]
