"""How the chat service's JSON bodies are read and written.

Member names are camelCase; unknown members are ignored, as Signal-Server ignores them, so that newer clients may say
more. Bytes travel as standard base64: written with padding, which libsignal wants, and read with or without it, because
Signal-Server writes none. libsignal sends one field (the access key) as an array of numbers; that is read too.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic.alias_generators import to_camel

from messaging.wire.errors import WireError
from messaging.wire.limits import EC_PUBLIC_KEY, KYBER_PUBLIC_KEY, MAX_PREKEY_ID, SIGNATURE

_EC_KEY_TYPE = 0x05
_KYBER_KEY_TYPE = 0x08

T = TypeVar("T")


class MalformedJson(WireError):
    """The body is not JSON at all."""

    def __init__(self) -> None:
        super().__init__("a body that is not JSON")


class InvalidEntity(WireError):
    """The body is JSON, but not what the endpoint takes; ``fields`` names what broke a rule, never its value."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        super().__init__("a body that breaks a rule")
        self.fields = fields


class Entity(BaseModel):
    """One JSON body, or a part of one."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    def to_json(self) -> bytes:
        """The body; a member that is ``None`` is left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Undo :meth:`to_json`.

        Raises:
            MalformedJson: not JSON.
            InvalidEntity: JSON of another shape, or a value that breaks a rule.
        """
        return validated(cls.model_validate_json, data)


def validated(validate: Callable[[bytes], T], data: bytes) -> T:
    """What ``validate``, a function of pydantic, reads from ``data``.

    Raises:
        MalformedJson, InvalidEntity: see :meth:`Entity.from_json`.
    """
    try:
        return validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    if any(entry["type"] == "json_invalid" for entry in found):
        raise MalformedJson
    # Only names of the schema: a key that the sender chose could carry anything.
    raise InvalidEntity(tuple(sorted({_outermost(entry["loc"]) for entry in found})))


def json_array(entities: Iterable[Entity]) -> bytes:
    """Several entities as one JSON array."""
    return b"[" + b",".join(entity.to_json() for entity in entities) + b"]"


def json_body(value: object) -> bytes:
    """``value`` as a compact JSON body."""
    return json.dumps(value, separators=(",", ":")).encode()


def _outermost(location: tuple[int | str, ...]) -> str:
    return str(location[0]) if location else ""


def encode_base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """Standard base64, with or without padding.

    Raises:
        ValueError: not base64.
    """
    if len(text) % 4 == 1:
        raise ValueError("not base64")
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None


def _read_bytes(value: object) -> object:
    if isinstance(value, str):
        return decode_base64(value)
    if isinstance(value, list) and all(type(item) is int and 0 <= item <= 255 for item in value):
        return bytes(value)
    return value


def encode_base64url(data: bytes) -> str:
    """Base64 for addresses, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _read_url_bytes(value: object) -> object:
    return decode_base64(value.replace("-", "+").replace("_", "/")) if isinstance(value, str) else value


def _is_ec_public_key(key: bytes) -> bytes:
    if key[0] != _EC_KEY_TYPE:
        raise ValueError("an EC public key begins with 0x05")
    return key


def _is_kyber_public_key(key: bytes) -> bytes:
    if key[0] != _KYBER_KEY_TYPE:
        raise ValueError("a Kyber-1024 public key begins with 0x08")
    return key


Base64 = Annotated[
    bytes, BeforeValidator(_read_bytes), PlainSerializer(encode_base64, return_type=str, when_used="json")
]
EcPublicKey = Annotated[
    Base64, Field(min_length=EC_PUBLIC_KEY, max_length=EC_PUBLIC_KEY), AfterValidator(_is_ec_public_key)
]
KyberPublicKey = Annotated[
    Base64, Field(min_length=KYBER_PUBLIC_KEY, max_length=KYBER_PUBLIC_KEY), AfterValidator(_is_kyber_public_key)
]
Signature = Annotated[Base64, Field(min_length=SIGNATURE, max_length=SIGNATURE)]
Base64Url = Annotated[
    bytes, BeforeValidator(_read_url_bytes), PlainSerializer(encode_base64url, return_type=str, when_used="json")
]
KeyId = Annotated[int, Field(ge=0, le=MAX_PREKEY_ID)]
