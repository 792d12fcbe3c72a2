"""What passes between an existing device and a new one: the link that is shown, the sealed message, a device's name.

Only values, no input or output. The two ciphers are Signal's and stand on ``cryptography``; a message is authenticated before it
is decrypted. Who holds the link decides who gets the account's keys: that the link came straight from the new device's screen
is for people to see.

Sources: Signal-Android, ``PrimaryProvisioningCipher``, ``SecondaryProvisioningCipher`` and ``DeviceNameCipher``; Signal-iOS,
``OWSProvisioningCipher``.
"""

import os
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hmac, padding
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from google.protobuf.message import DecodeError

from messaging.client.account import PhoneNumberIdentity
from messaging.client.errors import InvalidDeviceName, MalformedLink, MalformedProvisioning
from messaging.wire.accounts import is_e164
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.json import decode_base64, encode_base64
from messaging.wire.limits import MAX_DEVICE_NAME, PROFILE_KEY
from messaging.wire.protobuf import provisioning_pb2 as pb
from signal_protocol.public import InvalidKey, public_key_of
from signal_protocol.types import Identity

MAX_LINK: Final = 1024  # characters
MAX_CODE: Final = 512  # characters of a provisioning code, as the relay takes it
MAX_NAME: Final = MAX_DEVICE_NAME - 56  # bytes of a device's name in UTF-8; encryption adds the rest

_KEY_TYPE: Final = b"\x05"
_INFO: Final = b"TextSecure Provisioning Message"
_VERSION: Final = b"\x01"  # of the cipher
_PROVISIONING_VERSION: Final = 1  # of the message: the primary device and its tablets
_KEY, _IV, _MAC = 32, 16, 32
_SYNTHETIC_IV: Final = 16


@dataclass(frozen=True, slots=True)
class Link:
    """What a new device shows: where it waits, and the key (33 bytes) that only it can decrypt for."""

    address: str
    public_key: bytes

    @property
    def url(self) -> str:
        """For a QR code."""
        members = {"uuid": self.address, "pub_key": encode_base64(self.public_key)}
        return f"sgnl://linkdevice?{urlencode(members, quote_via=quote, safe='')}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Undo :attr:`url`; what else the link says is for other clients.

        Raises:
            MalformedLink: not such a link.
        """
        try:
            parts = urlsplit(url if len(url) <= MAX_LINK else "")
            members = parse_qs(parts.query, strict_parsing=True)
            [address], [key] = members["uuid"], members["pub_key"]
            _point(public_key := decode_base64(key))
        except (ValueError, KeyError):
            raise MalformedLink from None
        if (parts.scheme, parts.netloc) != ("sgnl", "linkdevice"):
            raise MalformedLink
        return cls(address, public_key)


@dataclass(frozen=True, slots=True)
class ProvisionMessage:
    """What makes a new device one of the account. ``provisioning_code`` is the relay's token for one device."""

    aci: ServiceId
    identity: Identity
    provisioning_code: str = field(repr=False)
    profile_key: bytes = field(repr=False)
    pni: PhoneNumberIdentity | None = None
    number: str | None = field(default=None, repr=False)

    def encode(self) -> bytes:
        """As protobuf."""
        message = pb.ProvisionMessage(
            aci_identity_key_public=self.identity.public_key,
            aci_identity_key_private=self.identity.private_key,
            aci=str(self.aci),
            aci_binary=self.aci.uuid.bytes,
            provisioning_code=self.provisioning_code,
            provisioning_version=_PROVISIONING_VERSION,
            number=self.number,
            profile_key=self.profile_key,
        )
        if self.pni is not None:
            message.pni_identity_key_public = self.pni.identity.public_key
            message.pni_identity_key_private = self.pni.identity.private_key
            message.pni = str(self.pni.service_id.uuid)
            message.pni_binary = self.pni.service_id.uuid.bytes
        return message.SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Undo :meth:`encode`.

        Raises:
            MalformedProvisioning: not such a message, or a public key that is not its private key's.
        """
        try:
            message = pb.ProvisionMessage.FromString(data)
            aci = _uuid(message.aci_binary, message.aci)
            pni = None
            if message.HasField("pni_identity_key_private"):
                pni = PhoneNumberIdentity(
                    ServiceId(_uuid(message.pni_binary, message.pni.removeprefix("PNI:")), IdentityKind.PNI),
                    _identity(message.pni_identity_key_public, message.pni_identity_key_private),
                )
            identity = _identity(message.aci_identity_key_public, message.aci_identity_key_private)
        except (DecodeError, MalformedField, InvalidKey, ValueError):
            raise MalformedProvisioning from None
        number = message.number or None
        if (
            not 1 <= len(message.provisioning_code) <= MAX_CODE
            or (number is not None and not is_e164(number))
            or len(message.profile_key) != PROFILE_KEY
        ):
            raise MalformedProvisioning
        return cls(ServiceId(aci), identity, message.provisioning_code, message.profile_key, pni, number)


def _uuid(binary: bytes, text: str) -> UUID:
    return UUID(bytes=binary) if binary else UUID(text)


def _identity(public_key: bytes, private_key: bytes) -> Identity:
    if public_key_of(private_key) != public_key:
        raise MalformedField("identity key")
    return Identity(public_key, private_key)


# --- the envelope ---


def encrypt_provision(message: ProvisionMessage, public_key: bytes) -> bytes:
    """The envelope for the new device that shows ``public_key``, under a key made for this one envelope.

    Raises:
        MalformedLink: a public key that keeps nothing secret.
    """
    ephemeral = X25519PrivateKey.generate()
    try:
        body = encrypt_body(message.encode(), ephemeral, public_key, os.urandom(_IV))
    except ValueError:
        raise MalformedLink from None
    return pb.ProvisionEnvelope(public_key=public_bytes(ephemeral), body=body).SerializeToString()


def decrypt_provision(envelope: bytes, private: X25519PrivateKey) -> ProvisionMessage:
    """Read the envelope that was left for this new device.

    Raises:
        MalformedProvisioning: it is for another key, altered, or not what an existing device sends.
    """
    try:
        read = pb.ProvisionEnvelope.FromString(envelope)
    except DecodeError:
        raise MalformedProvisioning from None
    return ProvisionMessage.decode(decrypt_body(read.body, private, read.public_key))


def encrypt_body(plaintext: bytes, private: X25519PrivateKey, public_key: bytes, iv: bytes) -> bytes:
    """Version, ``iv``, AES-256-CBC ciphertext, and HMAC-SHA-256 over all of it."""
    key, mac = _keys(private, public_key)
    padder, encryptor = padding.PKCS7(8 * _IV).padder(), Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    authenticated = _VERSION + iv + encryptor.update(padded) + encryptor.finalize()
    mac.update(authenticated)
    return authenticated + mac.finalize()


def decrypt_body(body: bytes, private: X25519PrivateKey, public_key: bytes) -> bytes:
    """Undo :func:`encrypt_body`, from the other side.

    Raises:
        MalformedProvisioning: another version, a wrong key, or altered.
    """
    authenticated, tag = body[:-_MAC], body[-_MAC:]
    try:
        key, mac = _keys(private, public_key)
        mac.update(authenticated)
        mac.verify(tag)  # before anything is decrypted, in constant time
        if authenticated[:1] != _VERSION:
            raise MalformedProvisioning
        iv, ciphertext = authenticated[1 : 1 + _IV], authenticated[1 + _IV :]
        decryptor, unpadder = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor(), padding.PKCS7(8 * _IV).unpadder()
        return unpadder.update(decryptor.update(ciphertext) + decryptor.finalize()) + unpadder.finalize()
    except (InvalidSignature, ValueError):
        raise MalformedProvisioning from None


def _keys(private: X25519PrivateKey, public_key: bytes) -> tuple[bytes, hmac.HMAC]:
    derived = HKDF(hashes.SHA256(), 2 * _KEY, salt=None, info=_INFO).derive(_agree(private, public_key))
    return derived[:_KEY], hmac.HMAC(derived[_KEY:], hashes.SHA256())


def public_bytes(private: X25519PrivateKey) -> bytes:
    """The public key that belongs to ``private``, as libsignal writes it: 33 bytes."""
    return _KEY_TYPE + private.public_key().public_bytes_raw()


def _agree(private: X25519PrivateKey, public_key: bytes) -> bytes:
    """The secret that both sides share (RFC 7748, section 6.1).

    Raises:
        ValueError: not a public key, or one that gives everybody the same secret.
    """
    return private.exchange(_point(public_key))


def _point(public_key: bytes) -> X25519PublicKey:
    """As libsignal and RFC 7748 read it: the top bit does not count."""
    if public_key[:1] != _KEY_TYPE:
        raise ValueError("a Curve25519 public key begins with 0x05")
    return X25519PublicKey.from_public_bytes(public_key[1:])


# --- the name of a device ---


def check_name(name: str) -> bytes:
    """The bytes of a device's name.

    Raises:
        InvalidDeviceName: empty, or more than ``MAX_NAME`` bytes.
    """
    plaintext = name.encode(errors="replace")
    if not 1 <= len(plaintext) <= MAX_NAME:
        raise InvalidDeviceName
    return plaintext


def encrypt_name(name: str, identity_key: bytes) -> bytes:
    """A device's name, for the account's own devices.

    Raises:
        InvalidDeviceName: as :func:`check_name`.
    """
    plaintext = check_name(name)
    ephemeral = X25519PrivateKey.generate()
    secret = _agree(ephemeral, identity_key)
    synthetic_iv = _mac(_mac(secret, b"auth"), plaintext)[:_SYNTHETIC_IV]
    ciphertext = _name_stream(secret, synthetic_iv, plaintext)
    message = pb.DeviceName(ephemeral_public=public_bytes(ephemeral), synthetic_iv=synthetic_iv, ciphertext=ciphertext)
    return message.SerializeToString()


def decrypt_name(data: bytes, identity: Identity) -> str:
    """Undo :func:`encrypt_name`.

    Raises:
        MalformedProvisioning: not such a name, or not this account's.
    """
    try:
        message = pb.DeviceName.FromString(data)
        secret = _agree(X25519PrivateKey.from_private_bytes(identity.private_key), message.ephemeral_public)
        plaintext = _name_stream(secret, message.synthetic_iv, message.ciphertext)
        if not bytes_eq(_mac(_mac(secret, b"auth"), plaintext)[:_SYNTHETIC_IV], message.synthetic_iv):
            raise MalformedProvisioning
        return plaintext.decode()
    except (DecodeError, ValueError):
        raise MalformedProvisioning from None


def _name_stream(secret: bytes, synthetic_iv: bytes, data: bytes) -> bytes:
    """AES-256-CTR under a key that the synthetic IV makes different for each name, so that the counter starts at zero."""
    stream = Cipher(algorithms.AES(_mac(_mac(secret, b"cipher"), synthetic_iv)), modes.CTR(bytes(16))).encryptor()
    return stream.update(data) + stream.finalize()


def _mac(key: bytes, data: bytes) -> bytes:
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(data)
    return mac.finalize()
