"""JSON of accounts: verification of a number, registration, and who the caller is.

Source: Signal-Server, ``VerificationController``, ``RegistrationController``, ``AccountController`` and their entities.
Push tokens and push challenges are ignored: a device of this relay fetches its messages.
"""

import re
import secrets
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, TypeAdapter, field_validator, model_validator

from messaging.wire.json import Base64, EcPublicKey, Entity, validated
from messaging.wire.keys import KyberPreKey, SignedPreKey
from messaging.wire.limits import (
    ACCESS_KEY,
    MAX_CAPABILITIES,
    MAX_CLIENT_NAME,
    MAX_DEVICE_NAME,
    MAX_PROVISIONING_MESSAGE,
    MAX_REGISTRATION_ID,
    MAX_VERIFICATION_CODE,
    RECOVERY_PASSWORD,
    REGISTRATION_LOCK,
)

REFUSED_HEADER, SUSPENDED = "X-Refused", "account_suspended"  # ours: beside the body that says the same

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_NO_COUNTRY = "+999"  # reserved, and given to no country, network or service (ITU-T, list of E.164 country codes)
_NO_COUNTRY_DIGITS = 12  # behind it: 15 in all, the most there can be
_LOCK = re.compile(rf"[0-9a-fA-F]{{{REGISTRATION_LOCK}}}")


def is_e164(number: str) -> bool:
    """Whether ``number`` is a plus sign, a country code and digits: 7 to 15 digits in all (ITU-T E.164)."""
    return _E164.fullmatch(number) is not None


def number_without_telephone() -> str:
    """A fresh number in E.164 form that no telephone has: for an account that nobody calls, such as a bot's."""
    return f"{_NO_COUNTRY}{secrets.randbelow(10**_NO_COUNTRY_DIGITS):0{_NO_COUNTRY_DIGITS}}"


def is_without_telephone(number: str) -> bool:
    """Whether ``number`` is of the range that no telephone has, so that no code can be sent to it."""
    return is_e164(number) and number.startswith(_NO_COUNTRY)


def _e164(number: str) -> str:
    if not is_e164(number):
        raise ValueError("not a number in E.164 form")
    return number


PhoneNumber = Annotated[str, AfterValidator(_e164), Field(repr=False)]
RegistrationId = Annotated[int, Field(ge=1, le=MAX_REGISTRATION_ID)]


class CreateVerificationSession(Entity):
    """``POST /v1/verification/session``."""

    number: PhoneNumber


class UpdateVerificationSession(Entity):
    """``PATCH /v1/verification/session/{id}``: the relay asks for nothing, so there is nothing to update."""

    captcha: Annotated[str | None, Field(repr=False)] = None


class VerificationSession(Entity):
    """The state of a verification session. Times are seconds from now; absent means: not now, and no wait will help."""

    id: str
    next_sms: int | None = None
    next_call: int | None = None
    next_verification_attempt: int | None = None
    allowed_to_request_code: bool
    requested_information: tuple[str, ...] = ()
    verified: bool


class RequestVerificationCode(Entity):
    """``POST /v1/verification/session/{id}/code``: send a code."""

    transport: Literal["sms", "voice"]
    client: Annotated[str, Field(max_length=MAX_CLIENT_NAME, repr=False)]


class SubmitVerificationCode(Entity):
    """``PUT /v1/verification/session/{id}/code``; ``verified`` in the answer says whether it was right."""

    code: Annotated[str, Field(min_length=1, max_length=MAX_VERIFICATION_CODE, repr=False)]


def _lock(value: str) -> str:
    if value and _LOCK.fullmatch(value) is None:
        raise ValueError("a registration lock is 64 hexadecimal digits")
    return value


def _recovery_password(value: bytes) -> bytes:
    if value and len(value) != RECOVERY_PASSWORD:
        raise ValueError("a recovery password is 32 bytes")
    return value


LockToken = Annotated[str, AfterValidator(_lock)]
RecoveryPassword = Annotated[Base64, AfterValidator(_recovery_password)]
Capabilities = Annotated[dict[str, bool], Field(max_length=MAX_CAPABILITIES)]


_CAPABILITIES = TypeAdapter(Capabilities, config={"strict": True, "hide_input_in_errors": True})


def read_capabilities(data: bytes) -> dict[str, bool]:
    """The body of ``PUT /v1/devices/capabilities``: an object of names and truth values.

    Raises:
        MalformedJson, InvalidEntity: something else.
    """
    return validated(_CAPABILITIES.validate_json, data)


class DeviceAttributes(Entity):
    """What a device says of itself."""

    fetches_messages: bool = False
    registration_id: RegistrationId
    pni_registration_id: RegistrationId | None = None
    name: Annotated[Base64 | None, Field(max_length=MAX_DEVICE_NAME, repr=False)] = None
    capabilities: Annotated[Capabilities, Field(default_factory=dict)]


class AccountAttributes(DeviceAttributes):
    """What an account and its primary device say of themselves. An empty lock or password means none."""

    unidentified_access_key: Annotated[Base64 | None, Field(repr=False)] = None
    unrestricted_unidentified_access: bool = False
    discoverable_by_phone_number: bool = True
    registration_lock: Annotated[LockToken | None, Field(repr=False)] = None
    recovery_password: Annotated[RecoveryPassword | None, Field(repr=False)] = None

    @field_validator("unidentified_access_key")
    @classmethod
    def _whole_or_absent(cls, key: bytes | None) -> bytes | None:
        if key and len(key) != ACCESS_KEY:
            raise ValueError("an access key is 16 bytes")
        return key or None

    @model_validator(mode="after")
    def _access_is_decided(self) -> Self:
        if self.unidentified_access_key is None and not self.unrestricted_unidentified_access:
            raise ValueError("an access key, or unrestricted access")
        return self


class RegistrationRequest(Entity):
    """``POST /v1/registration`` with Basic ``number:password``; also the body of ``PUT /v1/assistants/{name}``.

    What belongs to the phone number's identity (PNI) is all there or all absent. An assistant has none of it.
    """

    session_id: Annotated[str | None, Field(repr=False)] = None
    recovery_password: Annotated[RecoveryPassword | None, Field(repr=False)] = None
    account_attributes: AccountAttributes
    skip_device_transfer: bool = False
    aci_identity_key: EcPublicKey
    pni_identity_key: EcPublicKey | None = None
    aci_signed_pre_key: SignedPreKey
    pni_signed_pre_key: SignedPreKey | None = None
    aci_pq_last_resort_pre_key: KyberPreKey
    pni_pq_last_resort_pre_key: KyberPreKey | None = None

    @model_validator(mode="after")
    def _pni_is_whole(self) -> Self:
        parts = (
            self.pni_identity_key,
            self.pni_signed_pre_key,
            self.pni_pq_last_resort_pre_key,
            self.account_attributes.pni_registration_id,
        )
        if len({part is None for part in parts}) != 1:
            raise ValueError("all of the PNI, or nothing of it")
        return self


class RegistrationLock(Entity):
    """``PUT /v1/accounts/registration_lock``."""

    registration_lock: Annotated[LockToken, Field(min_length=REGISTRATION_LOCK, repr=False)]


class RegistrationLockFailure(Entity):
    """423: the account is locked. ``time_remaining`` is in milliseconds; without use of the account it is free then."""

    time_remaining: int


class DeviceName(Entity):
    """``PUT /v1/accounts/name``: a name that the account's devices encrypted."""

    device_name: Annotated[Base64, Field(min_length=1, max_length=MAX_DEVICE_NAME, repr=False)]


class Discoverability(Entity):
    """``PUT /v2/accounts/phone_number_discoverability``."""

    discoverable_by_phone_number: bool


class DeviceInfo(Entity):
    """One device, for the account's own devices. Times are milliseconds since 1970, to the day."""

    id: int
    name: Annotated[Base64 | None, Field(repr=False)] = None
    last_seen: int
    created: int
    registration_id: int


class DeviceInfoList(Entity):
    """``GET /v1/devices``."""

    devices: tuple[DeviceInfo, ...]


class LinkDeviceToken(Entity):
    """``GET /v1/devices/provisioning/code``: the token for the new device, and the name under which to wait for it."""

    verification_code: Annotated[str, Field(repr=False)]
    token_identifier: str


class LinkDeviceRequest(Entity):
    """``PUT /v1/devices/link`` with Basic ``anything:password``; the PNI's keys are needed if the account has a PNI."""

    verification_code: Annotated[str, Field(min_length=1, max_length=512, repr=False)]
    account_attributes: DeviceAttributes
    aci_signed_pre_key: SignedPreKey
    pni_signed_pre_key: SignedPreKey | None = None
    aci_pq_last_resort_pre_key: KyberPreKey
    pni_pq_last_resort_pre_key: KyberPreKey | None = None

    @model_validator(mode="after")
    def _pni_is_whole(self) -> Self:
        parts = (self.pni_signed_pre_key, self.pni_pq_last_resort_pre_key, self.account_attributes.pni_registration_id)
        if len({part is None for part in parts}) != 1:
            raise ValueError("all of the PNI, or nothing of it")
        return self


class LinkDeviceResponse(Entity):
    """The new device's account and id."""

    uuid: UUID
    pni: UUID | None = None
    device_id: int


class ProvisioningMessage(Entity):
    """``PUT /v1/provisioning/{address}``: base64 of a message that the relay cannot read."""

    body: Annotated[str, Field(min_length=1, max_length=MAX_PROVISIONING_MESSAGE, repr=False)]


class ReportedDevice(Entity):
    """What the relay keeps of one device. Days are ISO 8601, UTC."""

    id: int
    registration_id: int
    created: str
    last_seen: str
    encrypted_name: Annotated[Base64 | None, Field(repr=False)] = None
    capabilities: tuple[str, ...]
    envelopes_waiting: int


class ReportedAccount(Entity):
    """What the relay keeps of an account. There is no number: the relay keeps only a keyed hash of it."""

    aci: UUID
    pni: UUID | None = None
    created: str
    role: str | None = None
    phone_number_kept_as_hash: bool
    find_account_by_phone_number: bool
    allow_sealed_sender_from_anyone: bool
    registration_lock: bool
    recovery_password: bool


class ReportedData(Entity):
    """The machine-readable part of a report."""

    account: ReportedAccount
    devices: tuple[ReportedDevice, ...]


class DataReport(Entity):
    """``GET /v2/accounts/data_report``: everything that the relay holds on an account; ``text`` says it in words."""

    report_id: UUID
    report_timestamp: str
    data: ReportedData
    text: str


class AccountIdentityResponse(Entity):
    """``GET /v1/accounts/whoami``. ``number`` and ``pni`` are absent for an account without a number.

    The relay keeps no number, only a keyed hash of it: ``whoami`` cannot repeat the number, registration can.
    ``bot`` is true for a bot and absent for everybody else; others see the same mark (ours).
    """

    uuid: UUID
    number: Annotated[str | None, Field(repr=False)] = None
    pni: UUID | None = None
    storage_capable: bool = False
    bot: bool | None = None


class AccountCreationResponse(AccountIdentityResponse):
    """The answer to a registration; ``reregistration`` says that the account existed before."""

    reregistration: bool = False
