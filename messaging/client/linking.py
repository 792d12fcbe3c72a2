"""Linking: a new device gets the account from an existing one, through a relay that cannot read it. And the account's devices.

Three acts: the new device shows a link, the first device sends it the account's keys and a token, the new device registers with
the token. A new device keeps nothing until the relay has taken it. The ciphers are ``client.provisioning``'s.
"""

import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote

from aiohttp import encode_basic_auth
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from messaging.client.account import Account, NewKeys, keep_account, kyber_json, signed_json
from messaging.client.connection import Relay
from messaging.client.errors import (
    CredentialsRevoked,
    LinkExpired,
    MalformedProvisioning,
    NotLinked,
    NotPrimary,
    RegistrationRefused,
    RelayRefused,
    TooManyDevices,
)
from messaging.client.provisioning import (
    Link,
    ProvisionMessage,
    check_name,
    decrypt_name,
    decrypt_provision,
    encrypt_name,
    encrypt_provision,
    public_bytes,
)
from messaging.client.stores import Store
from messaging.wire.accounts import (
    DeviceAttributes,
    DeviceInfo,
    DeviceInfoList,
    LinkDeviceRequest,
    LinkDeviceResponse,
    LinkDeviceToken,
    ProvisioningMessage,
)
from messaging.wire.errors import MalformedFrame, WireError
from messaging.wire.frames import decode_provisioning_address
from messaging.wire.identifiers import PRIMARY_DEVICE
from messaging.wire.json import Entity, encode_base64
from signal_protocol.operations import SignalCrypto

LINK_SECONDS = 60.0  # until the first device gives up waiting for the new one
ASK_SECONDS = 10  # for which one request waits; the relay answers then at the latest

Answer = TypeVar("Answer", bound=Entity)


@dataclass(frozen=True, slots=True)
class LinkedDevice:
    """One device of the account; times are milliseconds since 1970, to the day. A name that cannot be read is ``None``."""

    id: int
    name: str | None = field(repr=False)
    created: int
    last_seen: int


# --- the new device ---


async def link_device(
    store: Store, relay: Relay, crypto: SignalCrypto, *, show: Callable[[str], Awaitable[None]], name: str, now: int
) -> Account:
    """Wait at a link for the account's keys, and become one of its devices. See ``Device.link``."""
    check_name(name)
    trust_root = (await relay.server_info()).trust_root
    message = await _wait_for_message(relay, show)
    aci = await NewKeys.make(crypto, now, message.identity)
    pni = None if message.pni is None else await NewKeys.make(crypto, now, message.pni.identity)
    password = secrets.token_urlsafe(24)
    request = _request(message, aci, pni, encrypt_name(name, message.identity.public_key))
    account = Account(
        message.aci,
        password,
        message.identity,
        aci.registration_id,
        message.profile_key,
        trust_root,
        await _register(relay, message, request, password),
        message.number,
        message.pni,
    )
    return await keep_account(store, account, aci)


async def _wait_for_message(relay: Relay, show: Callable[[str], Awaitable[None]]) -> ProvisionMessage:
    private = X25519PrivateKey.generate()
    async with aclosing(relay.provisioning_requests()) as requests:
        async for request in requests:
            if request.path == "/v1/address":
                try:
                    address = decode_provisioning_address(request.body or b"")
                except MalformedFrame:
                    raise MalformedProvisioning from None
                await show(Link(address, public_bytes(private)).url)
            elif request.path == "/v1/message":
                return decrypt_provision(request.body or b"", private)
    raise LinkExpired


def _request(message: ProvisionMessage, aci: NewKeys, pni: NewKeys | None, name: bytes) -> LinkDeviceRequest:
    return LinkDeviceRequest(
        verification_code=message.provisioning_code,
        account_attributes=DeviceAttributes(
            fetches_messages=True,
            registration_id=aci.registration_id,
            pni_registration_id=None if pni is None else pni.registration_id,
            name=name,
            capabilities={},
        ),
        aci_signed_pre_key=signed_json(aci.signed.public),
        pni_signed_pre_key=None if pni is None else signed_json(pni.signed.public),
        aci_pq_last_resort_pre_key=kyber_json(aci.last_resort.public),
        pni_pq_last_resort_pre_key=None if pni is None else kyber_json(pni.last_resort.public),
    )


async def _register(relay: Relay, message: ProvisionMessage, request: LinkDeviceRequest, password: str) -> int:
    """The id that the relay gives the new device."""
    authorization = encode_basic_auth(str(message.aci), password)
    status, body = await relay.call(
        "PUT", "/v1/devices/link", request.to_json(), headers={"Authorization": authorization}
    )
    match status:
        case 200:
            answer = _read(LinkDeviceResponse, status, body)
        case 403:
            raise LinkExpired
        case 411:
            raise TooManyDevices
        case _:
            raise RegistrationRefused(status)
    if (answer.uuid, answer.pni) != (message.aci.uuid, None if message.pni is None else message.pni.service_id.uuid):
        raise MalformedProvisioning  # the relay and the first device disagree about whose device this is
    return answer.device_id


# --- the existing device ---


async def add_device(relay: Relay, account: Account, url: str, *, seconds: float = LINK_SECONDS) -> int:
    """Give the account to the device that shows ``url``, and wait for it. See ``Device.add_device``."""
    link = Link.parse(url)
    if account.device_id != PRIMARY_DEVICE:
        raise NotPrimary
    status, body = await _call(relay, account, "GET", "/v1/devices/provisioning/code")
    if status == 411:
        raise TooManyDevices
    token = _read(LinkDeviceToken, status, body)
    message = ProvisionMessage(
        account.service_id,
        account.identity,
        token.verification_code,
        account.profile_key,
        account.pni,
        account.number,
    )
    envelope = ProvisioningMessage(body=encode_base64(encrypt_provision(message, link.public_key)))
    path = f"/v1/provisioning/{quote(link.address, safe='')}"
    status, _ = await _call(relay, account, "PUT", path, envelope)
    if status == 404:
        raise LinkExpired
    if status != 204:
        raise RelayRefused(status)
    return await _wait_for_device(relay, account, token.token_identifier, seconds)


async def _wait_for_device(relay: Relay, account: Account, identifier: str, seconds: float) -> int:
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        timeout = max(1, min(int(left), ASK_SECONDS))
        path = f"/v1/devices/wait_for_linked_device/{quote(identifier, safe='')}?timeout={timeout}"
        status, body = await _call(relay, account, "GET", path)
        if status != 204:
            return _read(DeviceInfo, status, body).id
    raise NotLinked


async def list_devices(relay: Relay, account: Account) -> tuple[LinkedDevice, ...]:
    """The account's devices, this one included."""
    status, body = await _call(relay, account, "GET", "/v1/devices")
    found = _read(DeviceInfoList, status, body).devices
    return tuple(
        LinkedDevice(device.id, _name(device.name, account), device.created, device.last_seen) for device in found
    )


def _name(encrypted: bytes | None, account: Account) -> str | None:
    try:
        return None if encrypted is None else decrypt_name(encrypted, account.identity)
    except MalformedProvisioning:
        return None


async def remove_device(relay: Relay, account: Account, device_id: int) -> None:
    """Take a device off the account. See ``Device.remove_device``."""
    if account.device_id not in (PRIMARY_DEVICE, device_id):
        raise NotPrimary
    status, _ = await _call(relay, account, "DELETE", f"/v1/devices/{device_id}")
    if status != 204:
        raise RelayRefused(status)


async def _call(relay: Relay, account: Account, verb: str, path: str, body: Entity | None = None) -> tuple[int, bytes]:
    sent = None if body is None else body.to_json()
    status, answer = await relay.call(verb, path, sent, headers={"Authorization": account.authorization})
    if status == 401:
        raise CredentialsRevoked
    return status, answer


def _read(entity: type[Answer], status: int, body: bytes) -> Answer:
    try:
        if status == 200:
            return entity.from_json(body)
    except WireError:
        pass
    raise RelayRefused(status)
