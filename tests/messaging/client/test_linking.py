"""A new device joins an account by its link alone, and the account knows and removes its devices."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from messaging.client import (
    CredentialsRevoked,
    Device,
    InvalidDeviceName,
    LinkedDevice,
    LinkExpired,
    MalformedLink,
    MalformedProvisioning,
    NotLinked,
    NotPrimary,
    RegistrationRefused,
    Relay,
    RelayRefused,
    RelayUnreachable,
    Store,
    TooManyDevices,
)
from messaging.client.account import Account
from messaging.client.linking import add_device, list_devices
from messaging.client.provisioning import Link as DeviceLink
from messaging.client.provisioning import ProvisionMessage, encrypt_provision
from messaging.wire.frames import Request, Response, encode_frame, encode_provisioning_address
from messaging.wire.json import encode_base64
from messaging.wire.limits import MAX_DEVICES
from messaging.wire.server_info import ServerInfo, ServerLimits
from signal_protocol.operations import SignalCrypto
from signal_protocol.public import generate_key_pair
from signal_protocol.types import Identity
from tests.messaging.client.conftest import KEY, Link, Register
from tests.relays import Relays, StartedRelay

ANN, BOB = "+4915550000211", "+4915550000212"
INFO = ServerInfo(
    version="1",
    source="",
    trust_root=generate_key_pair().public,
    limits=ServerLimits(**dict.fromkeys(ServerLimits.model_fields, 1)),
)
NEW = DeviceLink("nobody waits here", generate_key_pair().public)
ADDRESS = encode_frame(Request(1, "PUT", "/v1/address", {}, encode_provisioning_address("here")))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Of the new device."""
    async with Store.open(tmp_path / "new.db", KEY) as opened:
        yield opened


async def account_of(device: Device) -> Account:
    """What a device keeps about itself."""
    return await Account.load(device._store)


async def leave(relay: Relay, account: Account, link: DeviceLink, envelope: bytes) -> None:
    """Leave an envelope for a new device, whatever it holds."""
    body = f'{{"body":"{encode_base64(envelope)}"}}'.encode()
    path = f"/v1/provisioning/{link.address}"
    status, _ = await relay.call("PUT", path, body, headers={"Authorization": account.authorization})
    assert status == 204


def sending(relay: Relay, account: Account, message: ProvisionMessage) -> Callable[[str], Awaitable[None]]:
    """What shows a link to somebody who sends this message there."""

    async def show(url: str) -> None:
        link = DeviceLink.parse(url)
        await leave(relay, account, link, encrypt_provision(message, link.public_key))

    return show


@asynccontextmanager
async def a_relay_that_says(said: list[bytes | str], close_code: int | None) -> AsyncIterator[Relay]:
    """On its provisioning socket; without a close code it does not open one."""

    async def info(_request: web.Request) -> web.Response:
        return web.Response(body=INFO.to_json())

    async def provision(request: web.Request) -> web.StreamResponse:
        if close_code is None:
            return web.Response(status=429)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for message in said:
            await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
        await socket.close(code=close_code)
        return socket

    app = web.Application()
    app.add_routes([web.get("/v1/server-info", info), web.get("/v1/websocket/provisioning/", provision)])
    async with TestServer(app) as server, Relay(str(server.make_url("/"))) as relay:
        yield relay


async def message_of(relay: Relay, account: Account) -> ProvisionMessage:
    """What the account's first device sends a new one."""
    _, body = await relay.call("GET", "/v1/devices/provisioning/code", headers={"Authorization": account.authorization})
    code = body.decode().split('"verificationCode":"')[1].split('"')[0]
    return ProvisionMessage(
        account.service_id, account.identity, code, account.profile_key, account.pni, account.number
    )


async def test_a_linked_device_is_one_of_the_account(register: Register, link: Link) -> None:
    phone = await register(ANN)
    laptop = await link(phone)
    assert laptop.service_id == phone.service_id
    assert laptop.identity_key == phone.identity_key
    assert laptop.address.device_id == 2
    first, second = await account_of(phone), await account_of(laptop)
    assert (second.pni, second.number, second.profile_key) == (first.pni, ANN, first.profile_key)
    assert second.password != first.password
    assert second.trust_root == first.trust_root


async def test_a_linked_device_is_the_same_after_it_was_opened_again(
    register: Register, link: Link, client_relay: Relay, crypto: SignalCrypto
) -> None:
    laptop = await link(await register(ANN))
    again = await Device.open(laptop._store, client_relay, crypto)
    assert again.address == laptop.address
    assert again.identity_key == laptop.identity_key


async def test_an_account_lists_its_devices_with_their_names(register: Register, link: Link) -> None:
    phone = await register(ANN)
    laptop = await link(phone)
    devices = await phone.devices()
    assert devices == await laptop.devices()
    assert [(device.id, device.name) for device in devices] == [(1, None), (2, "laptop")]
    assert all(device.created > 0 and device.last_seen >= device.created for device in devices)
    assert "laptop" not in repr(devices)


async def test_an_account_has_at_most_so_many_devices(
    register: Register, link: Link, client_relay: Relay, crypto: SignalCrypto, store: Store
) -> None:
    phone = await register(ANN)
    account = await account_of(phone)
    before = await message_of(client_relay, account)
    assert [(await link(phone)).address.device_id for _ in range(MAX_DEVICES - 1)] == [2, 3, 4, 5, 6]
    with pytest.raises(TooManyDevices):
        await phone.add_device(NEW.url)
    with pytest.raises(TooManyDevices):
        await Device.link(store, client_relay, crypto, show=sending(client_relay, account, before), name="one too many")
    await phone.remove_device(4)
    assert (await link(phone)).address.device_id == 4


@pytest.mark.parametrize("url", ["", "https://example.org", "sgnl://linkdevice?uuid=x"])
async def test_what_is_not_the_link_of_a_device_is_refused(url: str, register: Register) -> None:
    with pytest.raises(MalformedLink):
        await (await register(ANN)).add_device(url)


async def test_a_link_at_which_nobody_waits_has_expired(register: Register) -> None:
    with pytest.raises(LinkExpired):
        await (await register(ANN)).add_device(NEW.url)


async def test_a_link_is_good_for_one_message(
    register: Register, client_relay: Relay, crypto: SignalCrypto, store: Store
) -> None:
    phone, urls = await register(ANN), []

    async def show(url: str) -> None:
        urls.append(url)
        await leave(client_relay, await account_of(phone), DeviceLink.parse(url), b"x")

    with pytest.raises(MalformedProvisioning):
        await Device.link(store, client_relay, crypto, show=show, name="laptop")
    with pytest.raises(LinkExpired):
        await phone.add_device(urls[0])


async def test_only_the_first_device_adds_and_removes_others(register: Register, link: Link) -> None:
    phone = await register(ANN)
    laptop, tablet = await link(phone), await link(phone)
    with pytest.raises(NotPrimary):
        await laptop.add_device(NEW.url)
    with pytest.raises(NotPrimary):
        await laptop.remove_device(tablet.address.device_id)
    with pytest.raises(RelayRefused):
        await phone.remove_device(1)
    assert len(await phone.devices()) == 3


async def test_a_removed_device_is_told_so(register: Register, link: Link) -> None:
    phone = await register(ANN)
    laptop, tablet = await link(phone), await link(phone)
    await phone.remove_device(laptop.address.device_id)
    await tablet.remove_device(tablet.address.device_id)
    for removed in (laptop, tablet):
        with pytest.raises(CredentialsRevoked):
            async with asyncio.timeout(10):
                await anext(aiter(removed.received()))
        with pytest.raises(CredentialsRevoked):
            await removed.devices()
    assert [device.id for device in await phone.devices()] == [1]


async def test_a_device_that_takes_the_keys_and_does_not_register_is_not_linked(
    register: Register, client_relay: Relay
) -> None:
    account = await account_of(await register(ANN))
    requests = client_relay.provisioning_requests()
    address = (await anext(requests)).body or b""
    link = DeviceLink(address[2:].decode(), NEW.public_key)
    with pytest.raises(NotLinked):
        await add_device(client_relay, account, link.url, seconds=1)
    await requests.aclose()


@pytest.mark.parametrize(
    ("said", "close_code", "expected"),
    [
        ([ADDRESS], 1000, LinkExpired),  # after 90 seconds
        ([ADDRESS], 1011, RelayUnreachable),
        ([ADDRESS, "text"], 1000, RelayUnreachable),
        ([b"\xff"], 1000, RelayUnreachable),
        ([encode_frame(Request(1, "PUT", "/v1/address", {}, b"\xff"))], 1000, MalformedProvisioning),
        ([encode_frame(Request(1, "PUT", "/v1/message", {}, b"\xff"))], 1000, MalformedProvisioning),
        ([encode_frame(Response(1, 200)), encode_frame(Request(1, "GET", "/v1/new"))], 1000, LinkExpired),
        ([], None, RelayRefused),
    ],
)
async def test_a_relay_that_brings_no_message_links_nothing(
    said: list[bytes | str], close_code: int | None, expected: type[Exception], crypto: SignalCrypto, store: Store
) -> None:
    shown: list[str] = []

    async def show(url: str) -> None:
        shown.append(url)

    async with a_relay_that_says(said, close_code) as relay:
        with pytest.raises(expected):
            await Device.link(store, relay, crypto, show=show, name="laptop")
    assert len(shown) == (ADDRESS in said)
    assert not await has_account(store)


async def test_without_a_relay_no_device_is_linked(relays: Relays, client_relay: Relay) -> None:
    await relays.stop()
    with pytest.raises(RelayUnreachable):
        await anext(client_relay.provisioning_requests())


@pytest.mark.parametrize("name", ["", "x" * 170])
async def test_a_name_that_is_none_is_refused_before_anything_is_shown(
    name: str, client_relay: Relay, crypto: SignalCrypto, store: Store
) -> None:
    async def show(_url: str) -> None:
        pytest.fail("shown")

    with pytest.raises(InvalidDeviceName):
        await Device.link(store, client_relay, crypto, show=show, name=name)


async def test_nothing_is_kept_of_an_account_that_the_relay_did_not_give(
    register: Register, client_relay: Relay, crypto: SignalCrypto, store: Store
) -> None:
    account = await account_of(await register(ANN))
    message = await message_of(client_relay, account)
    pair = generate_key_pair()
    other_key = replace(message, identity=Identity(pair.public, pair.private))
    for wrong, expected in (
        (replace(message, provisioning_code="x"), LinkExpired),
        (replace(message, pni=None), RegistrationRefused),
        (other_key, RegistrationRefused),
    ):
        with pytest.raises(expected):
            await Device.link(store, client_relay, crypto, show=sending(client_relay, account, wrong), name="laptop")
        assert not await has_account(store)


async def test_a_code_for_another_account_links_no_device_to_it(
    register: Register, client_relay: Relay, crypto: SignalCrypto, store: Store
) -> None:
    ann, bob = await account_of(await register(ANN)), await account_of(await register(BOB))
    mixed = replace(await message_of(client_relay, ann), aci=bob.service_id)
    with pytest.raises(MalformedProvisioning):
        await Device.link(store, client_relay, crypto, show=sending(client_relay, ann, mixed), name="laptop")
    assert not await has_account(store)


async def test_a_name_that_the_account_cannot_read_is_left_out(
    register: Register, link: Link, client_relay: Relay
) -> None:
    account = await account_of(await link(await register(ANN)))
    pair = generate_key_pair()
    stranger = replace(account, identity=Identity(pair.public, pair.private))
    [_, laptop] = await list_devices(client_relay, stranger)
    assert laptop == LinkedDevice(2, None, laptop.created, laptop.last_seen)


async def test_an_assistant_has_other_devices_too(
    sqlite_relay: StartedRelay, client_relay: Relay, crypto: SignalCrypto, link: Link, store: Store
) -> None:
    token = sqlite_relay.assistant_token
    scribe = await Device.register_assistant(store, client_relay, crypto, name="assistant", token=token)
    assert (await link(scribe)).address.device_id == 2  # it has neither number nor PNI


async def has_account(store: Store) -> bool:
    """Whether the store holds an account."""
    async with store.transaction() as transaction:
        return transaction.get("account") is not None
