"""The account of a device: its keys and credentials, and how it is registered."""

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeVar
from uuid import UUID

from aiohttp import encode_basic_auth

from messaging.client.access import access_key_of
from messaging.client.connection import Relay
from messaging.client.errors import InvalidNumber, NotRegistered, RegistrationRefused
from messaging.client.stores import Store, StoreTransaction
from messaging.wire.accounts import (
    AccountAttributes,
    AccountCreationResponse,
    CreateVerificationSession,
    RegistrationRequest,
    RequestVerificationCode,
    SubmitVerificationCode,
    VerificationSession,
    is_e164,
)
from messaging.wire.errors import WireError
from messaging.wire.identifiers import PRIMARY_DEVICE, DeviceAddress, IdentityKind, ServiceId
from messaging.wire.json import Entity, decode_base64, encode_base64
from messaging.wire.keys import KyberPreKey, SignedPreKey
from messaging.wire.limits import PROFILE_KEY
from signal_protocol.operations import SignalCrypto
from signal_protocol.types import (
    MAX_REGISTRATION_ID,
    Address,
    Identity,
    KyberPrekey,
    LocalDevice,
    SignedPrekey,
    SignedPublicPrekey,
)

Answer = TypeVar("Answer", bound=Entity)

FIRST_KEY_ID = 1  # of the signed and the last-resort prekey


@dataclass(frozen=True, slots=True)
class PhoneNumberIdentity:
    """The account's second identity: nothing is sent under it, but a device that is linked signs prekeys with it."""

    service_id: ServiceId
    identity: Identity


@dataclass(frozen=True, slots=True)
class Account:
    """What a device keeps about itself. ``trust_root`` is the relay's, as seen at registration.

    ``number`` and ``pni`` are absent of an assistant, and of what was registered before they were kept.
    """

    service_id: ServiceId
    password: str = field(repr=False)
    identity: Identity
    registration_id: int
    profile_key: bytes = field(repr=False)
    trust_root: bytes
    device_id: int = PRIMARY_DEVICE
    number: str | None = field(default=None, repr=False)
    pni: PhoneNumberIdentity | None = None

    @property
    def local(self) -> LocalDevice:
        """As ``signal_protocol`` names it."""
        return LocalDevice(Address(str(self.service_id), self.device_id), self.identity, self.registration_id)

    @property
    def address(self) -> DeviceAddress:
        """The address of this device."""
        return DeviceAddress(self.service_id, self.device_id)

    @property
    def access_key(self) -> bytes:
        """What others show to send to this account sealed; they derive it from the profile key."""
        return access_key_of(self.profile_key)

    @property
    def authorization(self) -> str:
        """What the relay wants to see."""
        return encode_basic_auth(str(self.address), self.password)

    def save(self, transaction: StoreTransaction) -> None:
        """Write it."""
        members: dict[str, object] = {
            "service_id": str(self.service_id),
            "password": self.password,
            "public_key": encode_base64(self.identity.public_key),
            "private_key": encode_base64(self.identity.private_key),
            "registration_id": self.registration_id,
            "profile_key": encode_base64(self.profile_key),
            "trust_root": encode_base64(self.trust_root),
            "device_id": self.device_id,
            "number": self.number,
        }
        if self.pni is not None:
            members["pni"] = str(self.pni.service_id)
            members["pni_public_key"] = encode_base64(self.pni.identity.public_key)
            members["pni_private_key"] = encode_base64(self.pni.identity.private_key)
        transaction.put("account", record=json.dumps(members).encode())

    @classmethod
    async def load(cls, store: Store) -> Self:
        """Read it.

        Raises:
            NotRegistered: there is none.
        """
        async with store.transaction() as transaction:
            record = transaction.get("account")
        if record is None:
            raise NotRegistered
        members = json.loads(record)
        made_now = encode_base64(secrets.token_bytes(PROFILE_KEY))  # of an account from before there were profile keys
        pni = None
        if "pni" in members:
            pni = PhoneNumberIdentity(ServiceId.parse(members["pni"]), _identity(members, "pni_"))
        account = cls(
            ServiceId.parse(members["service_id"]),
            members["password"],
            _identity(members),
            members["registration_id"],
            decode_base64(members.get("profile_key", made_now)),
            decode_base64(members["trust_root"]),
            members.get("device_id", PRIMARY_DEVICE),
            members.get("number"),
            pni,
        )
        if "profile_key" not in members:
            async with store.transaction() as transaction:
                account.save(transaction)
        return account


def _identity(members: Mapping[str, str], prefix: str = "") -> Identity:
    return Identity(decode_base64(members[f"{prefix}public_key"]), decode_base64(members[f"{prefix}private_key"]))


@dataclass(frozen=True, slots=True)
class NewKeys:
    """A new device's keys under one identity, before the relay has heard of them."""

    identity: Identity
    registration_id: int
    signed: SignedPrekey
    last_resort: KyberPrekey

    @classmethod
    async def make(cls, crypto: SignalCrypto, now: int, identity: Identity | None = None) -> Self:
        """Under a fresh identity, or under the one of the account that the device joins."""
        identity = identity or await crypto.generate_identity()
        signed = await crypto.generate_signed_prekey(key_id=FIRST_KEY_ID, identity=identity, now=now)
        [last_resort] = await crypto.generate_kyber_prekeys(first_id=FIRST_KEY_ID, count=1, identity=identity, now=now)
        return cls(identity, 1 + secrets.randbelow(MAX_REGISTRATION_ID), signed, last_resort)


async def register_with_number(
    store: Store,
    relay: Relay,
    crypto: SignalCrypto,
    *,
    number: str,
    code: Callable[[], Awaitable[str]],
    now: int,
) -> Account:
    """Prove control of ``number`` (E.164) with the code that was sent to it, and register a new device.

    Raises:
        InvalidNumber: not in E.164 form.
        RegistrationRefused: the number, the code or the registration was not accepted.
        AccountSuspended: the number's account is.
        RelayUnreachable: no answer.
    """
    if not is_e164(number):
        raise InvalidNumber
    trust_root = (await relay.server_info()).trust_root
    session = await _call(
        relay, "POST", "/v1/verification/session", CreateVerificationSession(number=number), VerificationSession
    )
    path = f"/v1/verification/session/{session.id}/code"
    await _call(relay, "POST", path, RequestVerificationCode(transport="sms", client="subrosa"), VerificationSession)
    verified = await _call(relay, "PUT", path, SubmitVerificationCode(code=await code()), VerificationSession)
    if not verified.verified:
        raise RegistrationRefused(403)
    aci, pni = await NewKeys.make(crypto, now), await NewKeys.make(crypto, now)
    request = _request(aci, profile_key := secrets.token_bytes(PROFILE_KEY), session_id=session.id, pni=pni)
    password = secrets.token_urlsafe(24)
    answer = await _call(
        relay,
        "POST",
        "/v1/registration",
        request,
        AccountCreationResponse,
        authorization=encode_basic_auth(number, password),
    )
    account = Account(
        ServiceId(answer.uuid),
        password,
        aci.identity,
        aci.registration_id,
        profile_key,
        trust_root,
        number=number,
        pni=phone_number_identity(answer.pni, pni.identity),
    )
    return await keep_account(store, account, aci)


def phone_number_identity(pni: UUID | None, identity: Identity) -> PhoneNumberIdentity | None:
    """What to keep of the PNI that the relay gave the account."""
    return None if pni is None else PhoneNumberIdentity(ServiceId(pni, IdentityKind.PNI), identity)


async def register_as_assistant(
    store: Store, relay: Relay, crypto: SignalCrypto, *, name: str, token: str, now: int
) -> Account:
    """Register the assistant ``name``, or register it anew with new keys; ``token`` is the operator's.

    Raises:
        RegistrationRefused: the token or the registration was not accepted.
        AccountSuspended: the assistant's account is.
        RelayUnreachable: no answer.
    """
    trust_root = (await relay.server_info()).trust_root
    aci = await NewKeys.make(crypto, now)
    request = _request(aci, profile_key := secrets.token_bytes(PROFILE_KEY), unrestricted=True)
    password = secrets.token_urlsafe(24)
    answer = await _call(
        relay,
        "PUT",
        f"/v1/assistants/{name}",
        request,
        AccountCreationResponse,
        authorization=encode_basic_auth(name, password),
        headers={"X-Assistant-Token": token},
    )
    account = Account(ServiceId(answer.uuid), password, aci.identity, aci.registration_id, profile_key, trust_root)
    return await keep_account(store, account, aci)


def _request(
    aci: NewKeys,
    profile_key: bytes,
    *,
    session_id: str | None = None,
    pni: NewKeys | None = None,
    unrestricted: bool = False,
) -> RegistrationRequest:
    attributes = AccountAttributes(
        fetches_messages=True,
        registration_id=aci.registration_id,
        pni_registration_id=None if pni is None else pni.registration_id,
        unidentified_access_key=access_key_of(profile_key),
        unrestricted_unidentified_access=unrestricted,
    )
    return RegistrationRequest(
        session_id=session_id,
        account_attributes=attributes,
        skip_device_transfer=True,
        aci_identity_key=aci.identity.public_key,
        aci_signed_pre_key=signed_json(aci.signed.public),
        aci_pq_last_resort_pre_key=kyber_json(aci.last_resort.public),
        pni_identity_key=None if pni is None else pni.identity.public_key,
        pni_signed_pre_key=None if pni is None else signed_json(pni.signed.public),
        pni_pq_last_resort_pre_key=None if pni is None else kyber_json(pni.last_resort.public),
    )


def signed_json(key: SignedPublicPrekey) -> SignedPreKey:
    """A signed prekey as it is uploaded."""
    return SignedPreKey(key_id=key.key_id, public_key=key.public_key, signature=key.signature)


def kyber_json(key: SignedPublicPrekey) -> KyberPreKey:
    """A Kyber prekey as it is uploaded."""
    return KyberPreKey(key_id=key.key_id, public_key=key.public_key, signature=key.signature)


async def keep_account(store: Store, account: Account, aci: NewKeys) -> Account:
    """Store the account of a device that the relay has just taken, with the private halves of what it uploaded."""
    async with store.transaction() as transaction:
        account.save(transaction)
        await transaction.save_signed_prekey(FIRST_KEY_ID, aci.signed.record)
        await transaction.save_kyber_prekey(FIRST_KEY_ID, aci.last_resort.record, last_resort=True)
    return account


async def _call(
    relay: Relay,
    verb: str,
    path: str,
    body: Entity,
    answer: type[Answer],
    *,
    authorization: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    known = {} if authorization is None else {"Authorization": authorization}
    status, received = await relay.call(verb, path, body.to_json(), headers={**known, **(headers or {})})
    try:
        if status == 200:
            return answer.from_json(received)
    except WireError:
        pass
    raise RegistrationRefused(status)
