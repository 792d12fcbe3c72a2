"""The devices of one account: each gets what is sent to it, they tell each other what they do, and nobody else can."""

import asyncio
import json
import math
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from messaging.client import Device, IdentityChanged, Received, Relay, Undecryptable
from messaging.client.account import Account
from messaging.client.prekeys import BATCH
from messaging.client.sending import OUTBOX
from messaging.wire.content import ConversationUpdate, DataMessage, ProfileKeyUpdate, SentTranscript, Told
from messaging.wire.frames import Response
from messaging.wire.identifiers import DeviceAddress, ServiceId
from messaging.wire.keys import PreKeyCount
from signal_protocol.operations import SignalCrypto
from signal_protocol.public import generate_key_pair
from signal_protocol.types import Identity
from tests.messaging.client.conftest import Link, Register

ANN, BOB = "+4915550000221", "+4915550000222"
HELLO = DataMessage("hello", 1)
CONVERSATION = ConversationUpdate(b"\x01" * 32, "title", (ServiceId(UUID(int=1)),))


async def received_by(device: Device) -> Received:
    """The next content that arrives, marked as done."""
    async with asyncio.timeout(20):
        received = await anext(aiter(device.received()))
    await device.done(received)
    return received


async def first_problem(device: Device) -> object:
    """The first problem that the device tells of."""
    async with asyncio.timeout(20):
        while not (problems := device.problems()):
            await asyncio.sleep(0.02)
    return problems[0]


async def account_of(device: Device) -> Account:
    return await Account.load(device._store)


async def prekeys_at(relay: Relay, device: Device) -> int:
    """The one-time prekeys that the relay has of a device, once it has uploaded any."""
    headers = {"Authorization": (await account_of(device)).authorization}
    async with asyncio.timeout(20):
        while True:
            _, body = await relay.call("GET", "/v2/keys?identity=aci", headers=headers)
            if count := PreKeyCount.from_json(body).count:
                return count
            await asyncio.sleep(0.05)


async def test_a_message_reaches_every_device_of_its_recipient(register: Register, link: Link) -> None:
    ann, phone = await register(ANN), await register(BOB)
    laptop = await link(phone)
    await ann.send(phone.service_id, HELLO)
    for device in (phone, laptop):
        received = await received_by(device)
        assert (received.sender, received.content) == (ann.address, HELLO)


async def test_what_one_device_wrote_is_told_to_the_others(register: Register, link: Link) -> None:
    phone = await register(ANN)
    laptop, tablet = await link(phone), await link(phone)
    await laptop.send_to_own_devices(SentTranscript(HELLO))
    for device in (phone, tablet):
        received = await received_by(device)
        assert received.sender == laptop.address == DeviceAddress(phone.service_id, 2)
        assert received.content == SentTranscript(HELLO)
    told = Told(phone.service_id, CONVERSATION)
    await phone.send_to_own_devices(told)
    for device in (laptop, tablet):
        assert (await received_by(device)).content == told
    assert phone.problems() == laptop.problems() == tablet.problems() == []


async def test_a_linked_device_writes_under_the_identity_of_its_account(register: Register, link: Link) -> None:
    phone, bob = await register(ANN), await register(BOB)
    laptop = await link(phone)
    await phone.send(bob.service_id, HELLO)
    await received_by(bob)
    await laptop.send(bob.service_id, HELLO)
    received = await received_by(bob)
    assert received.sender == DeviceAddress(phone.service_id, 2)
    assert await bob.trusted_identity(received.sender.service_id) == phone.identity_key
    await bob.send(phone.service_id, DataMessage("back", 2))
    for device in (phone, laptop):
        assert (await received_by(device)).content == DataMessage("back", 2)
    assert bob.problems() == []


async def test_an_account_with_one_device_tells_nobody_and_uses_none_of_its_prekeys(
    register: Register, client_relay: Relay
) -> None:
    phone = await register(ANN)
    assert await prekeys_at(client_relay, phone) == BATCH
    await phone.send_to_own_devices(SentTranscript(HELLO))
    assert await prekeys_at(client_relay, phone) == BATCH
    async with phone._store.transaction() as transaction:
        assert transaction.entries(OUTBOX) == []


async def test_the_only_device_asks_once_whether_there_are_others(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone, asked = await register(ANN), list[str]()
    request = phone._connection.request

    async def watched(verb: str, path: str, *more: Any, **options: Any) -> Response:
        asked.append(path)
        return await request(verb, path, *more, **options)

    monkeypatch.setattr(phone._connection, "request", watched)
    for _ in range(3):
        await phone.send_to_own_devices(SentTranscript(HELLO))
    assert asked.count("/v1/devices") == 1
    phone._sender._alone_until = -math.inf  # as it is ten minutes later
    await phone.send_to_own_devices(SentTranscript(HELLO))
    assert asked.count("/v1/devices") == 2


async def test_a_linked_device_has_prekeys_of_its_own(register: Register, link: Link, client_relay: Relay) -> None:
    laptop = await link(await register(ANN))
    assert await prekeys_at(client_relay, laptop) == BATCH


async def test_a_device_that_is_linked_later_is_found_on_the_next_send(register: Register, link: Link) -> None:
    phone, bob = await register(ANN), await register(BOB)
    for number in range(1, 3):
        message = DataMessage("hello", number)
        await bob.send(phone.service_id, message)
        await phone.send_to_own_devices(SentTranscript(message))
        laptop = await link(phone)
        message = DataMessage("hello again", number)
        await bob.send(phone.service_id, message)
        assert (await received_by(laptop)).content == message
        await phone.send_to_own_devices(SentTranscript(message))
        assert (await received_by(laptop)).content == SentTranscript(message)


async def test_nothing_is_sent_to_a_device_that_was_removed(register: Register, link: Link) -> None:
    phone, bob = await register(ANN), await register(BOB)
    laptop = await link(phone)
    await bob.send(phone.service_id, HELLO)
    await phone.send_to_own_devices(SentTranscript(HELLO))
    assert [(await received_by(laptop)).content for _ in range(2)] == [HELLO, SentTranscript(HELLO)]
    await phone.remove_device(laptop.address.device_id)
    await bob.send(phone.service_id, HELLO)
    await phone.send_to_own_devices(SentTranscript(HELLO))  # there is no other device any more
    assert [(await received_by(phone)).content for _ in range(2)] == [HELLO, HELLO]
    another = await link(phone)  # it gets the same id, and is not mistaken for the one before
    assert another.address == laptop.address
    await bob.send(phone.service_id, HELLO)
    await phone.send_to_own_devices(SentTranscript(HELLO))
    assert [(await received_by(another)).content for _ in range(2)] == [HELLO, SentTranscript(HELLO)]


@pytest.mark.parametrize("content", [SentTranscript(HELLO), Told(ServiceId(UUID(int=1)), CONVERSATION)])
async def test_what_another_account_says_in_the_name_of_this_one_is_not_shown(
    content: SentTranscript | Told, register: Register
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await ann.send(bob.service_id, content)
    await ann.send(bob.service_id, HELLO)
    assert (await received_by(bob)).content == HELLO
    assert bob.problems() == [Undecryptable(ann.address, "NotFromOwnAccount")]
    async with bob._store.transaction() as transaction:
        assert transaction.entries("inbox") == []


@pytest.mark.parametrize("content", [SentTranscript(HELLO), HELLO, ProfileKeyUpdate(bytes(32))])
async def test_a_removed_device_does_not_speak_for_its_account_by_the_certificate_that_it_still_has(
    content: SentTranscript | DataMessage | ProfileKeyUpdate, register: Register, link: Link
) -> None:
    phone = await register(ANN)
    laptop = await link(phone)
    await laptop.send_to_own_devices(SentTranscript(HELLO))
    await received_by(phone)
    await laptop._sender._certificates.current()
    await phone.remove_device(laptop.address.device_id)

    async def access(_recipient: ServiceId) -> bytes:  # it seals, which no device does to its own account
        return laptop._account.access_key

    laptop._sender._access_to = access  # type: ignore[method-assign,assignment]
    await laptop._sender.send(phone.service_id, content)
    assert await first_problem(phone) == Undecryptable(laptop.address, "NotFromOwnAccount")
    async with phone._store.transaction() as transaction:
        assert transaction.entries("inbox") == []
    assert await phone._access.find(phone.service_id) is None


async def test_no_device_with_another_key_is_taken_for_one_of_the_account(
    register: Register, link: Link, client_relay: Relay, crypto: SignalCrypto
) -> None:
    phone = await register(ANN)
    laptop = await link(phone)
    pair = generate_key_pair()
    forged = replace(await account_of(laptop), identity=Identity(pair.public, pair.private))
    async with Device(laptop._store, client_relay, crypto, forged) as intruder:
        with pytest.raises(IdentityChanged):
            await intruder.send_to_own_devices(SentTranscript(HELLO))  # to it, the phone is the stranger
        await intruder._sessions.trust_identity(str(phone.service_id), phone.identity_key)
        await intruder.send_to_own_devices(SentTranscript(HELLO))
    assert await first_problem(phone) == Undecryptable(laptop.address, "UntrustedIdentity")
    assert await phone.trusted_identity(phone.service_id) == phone.identity_key


async def test_of_its_own_account_a_device_trusts_one_key_from_the_start(register: Register) -> None:
    phone = await register(ANN)
    assert await phone.trusted_identity(phone.service_id) == phone.identity_key
    assert await phone.fetch_identity(phone.service_id) == phone.identity_key
    await phone.trust(phone.service_id, phone.identity_key)
    with pytest.raises(ValueError, match="own account"):
        await phone.trust(phone.service_id, generate_key_pair().public)


async def test_a_store_from_before_there_were_linked_devices_is_of_the_first_one(register: Register) -> None:
    phone = await register(ANN)
    async with phone._store.transaction() as transaction:
        members = json.loads(transaction.get("account") or b"")
        for name in ("device_id", "number", "pni", "pni_public_key", "pni_private_key"):
            del members[name]
        transaction.put("account", record=json.dumps(members).encode())
    account = await account_of(phone)
    assert (account.address, account.number, account.pni) == (phone.address, None, None)
    assert account.address.device_id == 1
