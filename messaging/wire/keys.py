"""JSON of prekeys: upload, count and bundles (Signal-Server, ``KeysController`` and its entities).

Shapes, sizes and type bytes are checked here; signatures and points on the curve by the relay.
"""

from hashlib import sha256
from typing import Annotated, Literal

from pydantic import Field

from messaging.wire.identifiers import ServiceId
from messaging.wire.json import Base64, EcPublicKey, Entity, KeyId, KyberPublicKey, Signature
from messaging.wire.limits import MAX_DEVICE_ID, MAX_PREKEYS

ALL_DEVICES = "*"


class PreKey(Entity):
    """A one-time EC prekey: handed out once, not signed."""

    key_id: KeyId
    public_key: EcPublicKey


class SignedPreKey(Entity):
    """A signed EC prekey; ``signature`` is by the identity key over the serialized public key."""

    key_id: KeyId
    public_key: EcPublicKey
    signature: Signature


class KyberPreKey(Entity):
    """A signed Kyber-1024 prekey, one-time or last-resort."""

    key_id: KeyId
    public_key: KyberPublicKey
    signature: Signature


class SetKeysRequest(Entity):
    """``PUT /v2/keys?identity=aci|pni``, answered with 204: what is present replaces what was stored.

    An absent or empty list leaves the stored one-time prekeys of its kind as they are.
    """

    pre_keys: Annotated[tuple[PreKey, ...], Field(max_length=MAX_PREKEYS)] = ()
    signed_pre_key: SignedPreKey | None = None
    pq_pre_keys: Annotated[tuple[KyberPreKey, ...], Field(max_length=MAX_PREKEYS)] = ()
    pq_last_resort_pre_key: KyberPreKey | None = None


class CheckKeysRequest(Entity):
    """``POST /v2/keys/check``: do both sides have the same repeated-use keys? 200 or 409.

    ``digest`` is :func:`repeated_use_digest` of what the device has.
    """

    identity_type: Literal["aci", "pni", "ACI", "PNI"]
    digest: Annotated[Base64, Field(min_length=32, max_length=32)]


def repeated_use_digest(identity_key: bytes, signed: SignedPreKey, last_resort: KyberPreKey) -> bytes:
    """SHA-256 over the identity key and, of each key, its id as 8 bytes and its serialized form (Signal-Server)."""
    digest = sha256(identity_key)
    for key in (signed, last_resort):
        digest.update(key.key_id.to_bytes(8, "big") + key.public_key)
    return digest.digest()


class PreKeyCount(Entity):
    """``GET /v2/keys?identity=aci|pni``: one-time prekeys left, EC and Kyber."""

    count: int
    pq_count: int


class PreKeyResponseItem(Entity):
    """What is needed to begin a session with one device. ``pre_key`` is absent when none is left.

    ``pq_pre_key`` is a one-time prekey while there are any, and then the last-resort prekey.
    """

    device_id: Annotated[int, Field(ge=1, le=MAX_DEVICE_ID)]
    registration_id: int
    signed_pre_key: SignedPreKey
    pre_key: PreKey | None = None
    pq_pre_key: KyberPreKey


class PreKeyResponse(Entity):
    """``GET /v2/keys/{service_id}/{device_id or *}``: the bundles of one device, or of all.

    ``bot`` is true for a bot and absent for everybody else (ours). It is the relay's word.
    """

    identity_key: EcPublicKey
    devices: tuple[PreKeyResponseItem, ...]
    bot: bool | None = None


def prekeys_path(service_id: ServiceId, device_id: int | None = None) -> str:
    """Where the bundle of one device is; ``None`` means those of all devices."""
    return f"/v2/keys/{service_id}/{ALL_DEVICES if device_id is None else device_id}"
