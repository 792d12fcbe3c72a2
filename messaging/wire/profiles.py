"""JSON of versioned, encrypted profiles and of identity checks (Signal-Server, ``ProfileController`` and its entities)."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from messaging.wire.attachments import UploadForm
from messaging.wire.json import Base64, EcPublicKey, Entity
from messaging.wire.limits import MAX_IDENTITY_CHECKS, PROFILE_COMMITMENT


def _one_of(*sizes: int) -> AfterValidator:
    def check(value: bytes) -> bytes:
        if len(value) not in sizes:
            raise ValueError(f"the size must be one of {sizes}")
        return value

    return AfterValidator(check)


# Ciphertexts have few sizes, so that they do not tell the length of what they hide (Signal-Server).
ProfileName = Annotated[Base64, _one_of(81, 285)]
About = Annotated[Base64, _one_of(0, 156, 282, 540)]
AboutEmoji = Annotated[Base64, _one_of(0, 60)]
PaymentAddress = Annotated[Base64, _one_of(0, 582)]
PhoneNumberSharing = Annotated[Base64, _one_of(0, 29)]
ProfileVersion = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]


class CreateProfileRequest(Entity):
    """``PUT /v1/profile``. ``avatar`` says that there is one, ``same_avatar`` that it is the one before."""

    version: ProfileVersion
    commitment: Annotated[Base64, Field(min_length=PROFILE_COMMITMENT, max_length=PROFILE_COMMITMENT)]
    name: Annotated[ProfileName | None, Field(repr=False)] = None
    about: Annotated[About | None, Field(repr=False)] = None
    about_emoji: Annotated[AboutEmoji | None, Field(repr=False)] = None
    payment_address: Annotated[PaymentAddress | None, Field(repr=False)] = None
    phone_number_sharing: Annotated[PhoneNumberSharing | None, Field(repr=False)] = None
    avatar: bool = False
    same_avatar: bool = False


class AvatarForm(UploadForm):
    """The answer when an avatar is to be uploaded: a form as of an attachment; the key is the profile's ``avatar``."""


class Profile(Entity):
    """``GET /v1/profile/{identifier}/{version}``: what is not of this version, or not known, is absent.

    ``unidentified_access`` is HMAC-SHA-256 under the access key over 32 zero bytes, by which a holder of the profile key
    checks that the relay knows the same access key. ``bot`` is true for a bot and absent for everybody else (ours); it is
    the relay's word, and the same for every version and without one.
    """

    identity_key: EcPublicKey
    unidentified_access: Annotated[Base64 | None, Field(repr=False)] = None
    unrestricted_unidentified_access: bool
    capabilities: dict[str, bool]
    badges: tuple[str, ...] = ()
    uuid: str
    bot: bool | None = None
    name: Annotated[Base64 | None, Field(repr=False)] = None
    about: Annotated[Base64 | None, Field(repr=False)] = None
    about_emoji: Annotated[Base64 | None, Field(repr=False)] = None
    avatar: Annotated[str | None, Field(repr=False)] = None
    payment_address: Annotated[Base64 | None, Field(repr=False)] = None
    phone_number_sharing: Annotated[Base64 | None, Field(repr=False)] = None


class IdentityCheck(Entity):
    """One identity with the first 4 bytes of SHA-256 over the identity key that the client knows."""

    uuid: Annotated[str, Field(max_length=64)]
    fingerprint: Annotated[Base64, Field(min_length=4, max_length=4)]


class BatchIdentityCheckRequest(Entity):
    """``POST /v1/profile/identity_check/batch``."""

    elements: Annotated[tuple[IdentityCheck, ...], Field(max_length=MAX_IDENTITY_CHECKS)]


class ChangedIdentity(Entity):
    """An identity whose key is another one."""

    uuid: str
    identity_key: EcPublicKey


class BatchIdentityCheckResponse(Entity):
    """Those that differ. An identity that does not exist is left out, like one that is the same."""

    elements: tuple[ChangedIdentity, ...]


class RemoteConfig(Entity):
    """``GET /v2/config``."""

    config: dict[str, str]


class Quota(Entity):
    """One bucket that is counted by the caller's account alone: seconds, and tokens rounded down."""

    name: str
    size: int
    refill_seconds: float
    remaining: int
    full_in_seconds: int


class Quotas(Entity):
    """``GET /v1/limits``: what is left to the calling account."""

    limits: tuple[Quota, ...]


class AccountIdentifier(Entity):
    """``GET /v1/accounts/username_hash/{hash}``."""

    uuid: UUID
