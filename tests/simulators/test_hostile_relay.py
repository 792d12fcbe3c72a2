"""The hostile relay is transparent without rules, does what each rule says, and sees what a relay sees."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from messaging.client import Device, Displaced, Relay, RelayUnreachable, Store
from messaging.client.problems import Problem, Undecryptable
from messaging.wire.content import DataMessage
from messaging.wire.envelope import EnvelopeType
from messaging.wire.identifiers import ServiceId
from signal_protocol.operations import SignalCrypto
from tests.relays import Relays, StartedRelay
from tests.simulators.hostile_relay import (
    DELIVERY,
    Channel,
    Copy,
    Direction,
    Drop,
    Duplicate,
    Hold,
    HostileRelay,
    Redirect,
    Reorder,
    SwapKeys,
    acknowledgements,
    claim,
    deliveries,
    hide,
    list_stranger,
    requests,
    sends,
)

ANN, BOB, EVE = "+4915550000301", "+4915550000302", "+4915550000303"
Register = Callable[..., Awaitable[Device]]


@pytest.fixture(scope="module")
async def crypto() -> AsyncIterator[SignalCrypto]:
    async with SignalCrypto.start() as started:
        yield started


@pytest.fixture
async def real(relays: Relays) -> StartedRelay:
    return await relays.start("sqlite")


@pytest.fixture
async def hostile(real: StartedRelay) -> AsyncIterator[HostileRelay]:
    async with HostileRelay(real.url) as started:
        yield started


@pytest.fixture
async def client(hostile: HostileRelay) -> AsyncIterator[Relay]:
    async with Relay(hostile.url) as relay:
        yield relay


@pytest.fixture
async def register(real: StartedRelay, client: Relay, crypto: SignalCrypto, tmp_path: Path) -> AsyncIterator[Register]:
    """Registers a number through the hostile relay, and connects."""
    async with AsyncExitStack() as stack:

        async def registered(number: str, *, deadline: float = 10) -> Device:
            async def code() -> str:
                return real.last_code(number)

            store = await stack.enter_async_context(Store.open(tmp_path / f"{number}.db", b"\x11" * 32))
            device = await Device.register(store, client, crypto, number=number, code=code, deadline=deadline)
            await stack.enter_async_context(device)
            await device.ready()
            return device

        yield registered


async def say(who: Device, to: Device | ServiceId, *bodies: str) -> None:
    account = to if isinstance(to, ServiceId) else to.service_id
    for timestamp, body in enumerate(bodies, start=1):
        await who.send(account, DataMessage(body, timestamp))


async def hear(device: Device, count: int) -> list[str]:
    """The bodies of the next messages, each marked as done."""
    bodies: list[str] = []
    async with asyncio.timeout(10):
        async for received in device.received():
            assert isinstance(received.content, DataMessage)
            bodies.append(received.content.body)
            await device.done(received)
            if len(bodies) == count:
                break
    return bodies


async def hears_nothing(device: Device, seconds: float = 0.2) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await anext(aiter(device.received()))
    except TimeoutError:
        return True
    return False


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def acknowledged_by(device: Device, hostile: HostileRelay) -> int:
    """How many envelopes the device has said that it took in."""
    return sum(
        (seen.account, seen.direction, seen.path, seen.status) == (device.service_id, Direction.TO_RELAY, DELIVERY, 200)
        for seen in hostile.seen
    )


async def problem_of(device: Device) -> Problem:
    """The first problem that the device tells of."""
    async with asyncio.timeout(10):
        while not (problems := device.problems()):
            await asyncio.sleep(0.01)
    return problems[0]


async def test_without_rules_messages_arrive_in_order_and_are_acknowledged(
    register: Register, hostile: HostileRelay
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await say(ann, bob, "one", "two", "three")
    assert await hear(bob, 3) == ["one", "two", "three"]
    assert sum(seen.is_delivery and seen.account == bob.service_id for seen in hostile.seen) == 3
    await say(bob, ann, "back")
    assert await hear(ann, 1) == ["back"]
    hostile.cut(bob.service_id)
    await say(ann, bob, "four")
    assert await hear(bob, 1) == ["four"]
    assert ann.problems() == bob.problems() == []


async def test_without_rules_a_device_hears_why_the_relay_closes(
    register: Register, client: Relay, crypto: SignalCrypto
) -> None:
    ann = await register(ANN)
    async with Device(ann._store, client, crypto, ann._account) as second:
        await second.ready()
        with pytest.raises(Displaced):
            await anext(aiter(ann.received()))


async def test_it_sees_who_writes_to_whom_when_and_how_much_and_no_word_of_it(
    register: Register, hostile: HostileRelay
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    await say(ann, bob, "canary")
    await hear(bob, 1)
    [sent] = [seen for seen in hostile.seen if seen.is_send]
    [delivered] = [seen for seen in hostile.seen if seen.is_delivery and seen.account == bob.service_id]
    assert (sent.account, sent.other, sent.channel) == (ann.service_id, bob.service_id, Channel.SOCKET)
    assert delivered.other == ann.service_id
    assert sent.types == delivered.types == (EnvelopeType.PREKEY_MESSAGE,)
    assert sent.contents == delivered.contents
    assert delivered.size > delivered.contents[0] > len("canary")
    assert 0 < sent.at < delivered.at
    registrations = [seen for seen in hostile.seen if seen.path == "/v1/registration"]
    assert [(seen.channel, seen.direction, seen.status, seen.account) for seen in registrations[:2]] == [
        (Channel.HTTP, Direction.TO_RELAY, None, None),
        (Channel.HTTP, Direction.TO_CLIENT, 200, None),
    ]
    assert not [seen for seen in hostile.seen if b"canary" in seen.body]
    assert "canary" not in repr(hostile.seen)


async def test_it_knows_whose_sockets_are_open(register: Register, hostile: HostileRelay) -> None:
    ann = await register(ANN)
    assert hostile.connected(ann.service_id)
    hostile.cut(ann.service_id)
    assert not hostile.connected(ann.service_id)
    await until(lambda: hostile.connected(ann.service_id))


async def test_what_is_dropped_does_not_arrive(register: Register, hostile: HostileRelay) -> None:
    ann, bob = await register(ANN), await register(BOB)
    hostile.rules.append(Drop(deliveries(to=bob.service_id)))
    await say(ann, bob, "lost")
    assert await hears_nothing(bob)
    hostile.rules.clear()
    hostile.cut(bob.service_id)  # the real relay still has it
    assert await hear(bob, 1) == ["lost"]


async def test_a_dropped_send_is_not_confirmed_and_goes_out_again(register: Register, hostile: HostileRelay) -> None:
    ann, bob = await register(ANN, deadline=1), await register(BOB)
    hostile.rules.append(Drop(sends(by=ann.service_id, to=bob.service_id)))
    with pytest.raises(RelayUnreachable):
        await say(ann, bob, "late")
    hostile.rules.clear()
    await say(ann, bob, "next")
    assert await hear(bob, 2) == ["late", "next"]


async def test_over_http_too_what_is_dropped_has_no_answer(hostile: HostileRelay, client: Relay) -> None:
    hostile.rules.append(Drop(requests("GET", "/v1/server-info")))
    with pytest.raises(RelayUnreachable):
        await client.server_info()
    assert await client.assistants() == ()


async def test_what_is_doubled_is_delivered_twice_and_shown_once(register: Register, hostile: HostileRelay) -> None:
    ann, bob = await register(ANN), await register(BOB)
    hostile.rules.append(Duplicate(deliveries(to=bob.service_id)))
    await say(ann, bob, "once", "after")
    assert await hear(bob, 2) == ["once", "after"]
    await until(lambda: acknowledged_by(bob, hostile) == 4)
    assert await hears_nothing(bob)
    assert bob.problems() == []


async def test_what_is_not_acknowledged_is_delivered_again_and_shown_once(
    register: Register, hostile: HostileRelay
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    hostile.rules.append(Drop(acknowledgements(by=bob.service_id)))
    await say(ann, bob, "once")
    assert await hear(bob, 1) == ["once"]
    await until(lambda: acknowledged_by(bob, hostile) == 1)
    hostile.rules.clear()
    hostile.cut(bob.service_id)
    await until(lambda: acknowledged_by(bob, hostile) == 2)
    assert await hears_nothing(bob)


async def test_what_is_held_arrives_when_it_is_released(register: Register, hostile: HostileRelay) -> None:
    ann, bob = await register(ANN), await register(BOB)
    hostile.rules.append(hold := Hold(deliveries(to=bob.service_id)))
    await say(ann, bob, "old")
    await until(lambda: hold.held)
    assert await hears_nothing(bob, 0.1)
    await hostile.send(*hold.release())
    assert await hear(bob, 1) == ["old"]


async def test_over_http_what_is_held_is_answered_when_it_is_released(hostile: HostileRelay, client: Relay) -> None:
    hostile.rules.append(hold := Hold(requests("GET", "/v1/assistants")))
    asked = asyncio.create_task(client.assistants())
    await until(lambda: hold.held)
    assert not asked.done()
    await hostile.send(*hold.release())
    assert await asked == ()


async def test_what_was_copied_can_be_replayed_later_and_into_another_connection(
    register: Register, hostile: HostileRelay
) -> None:
    ann, bob = await register(ANN), await register(BOB)
    hostile.rules.append(copy := Copy(deliveries(to=bob.service_id)))
    await say(ann, bob, "once")
    assert await hear(bob, 1) == ["once"]
    hostile.cut(bob.service_id)
    await until(lambda: hostile.connected(bob.service_id))
    before = len(hostile.seen)
    await hostile.send(*copy.copies)
    await until(lambda: any(acknowledged.status == 200 for acknowledged in hostile.seen[before:]))
    assert await hears_nothing(bob, 0.1)
    await say(ann, bob, "again")
    assert await hear(bob, 1) == ["again"]


async def test_what_is_reordered_comes_last_first(register: Register, hostile: HostileRelay) -> None:
    ann, bob = await register(ANN), await register(BOB)
    hostile.rules.append(Reorder(deliveries(to=bob.service_id), count=3))
    await say(ann, bob, "one", "two", "three")
    assert await hear(bob, 3) == ["three", "two", "one"]


async def test_what_is_redirected_comes_to_another_who_cannot_read_it(
    register: Register, hostile: HostileRelay
) -> None:
    ann, bob, eve = await register(ANN), await register(BOB), await register(EVE)
    hostile.rules.append(hold := Hold(deliveries(to=bob.service_id)))
    await say(ann, bob, "for bob")
    await until(lambda: hold.held)
    [redirected] = Redirect(bob.service_id, eve.service_id)(hold.release()[0])
    await hostile.send(redirected)
    assert isinstance(await problem_of(eve), Undecryptable)
    assert await hears_nothing(eve, 0.1)
    assert await hears_nothing(bob, 0.1)


async def test_with_anothers_keys_a_client_encrypts_to_the_other(register: Register, hostile: HostileRelay) -> None:
    ann, bob, eve = await register(ANN), await register(BOB), await register(EVE)
    hostile.rules += [SwapKeys(bob.service_id, eve.service_id), Redirect(bob.service_id, eve.service_id)]
    assert await ann.fetch_identity(bob.service_id) == eve.identity_key
    await say(ann, bob, "for bob, it says")
    # It was for Eve's keys. Eve's libsignal refuses it, for it says that it is for Bob; an Eve with another one would not.
    problem = await problem_of(eve)
    assert problem == Undecryptable(ann.address, "InvalidMessage")
    assert await hears_nothing(bob, 0.1)


async def test_the_directory_says_what_the_relay_likes(
    real: StartedRelay, hostile: HostileRelay, client: Relay, crypto: SignalCrypto, tmp_path: Path
) -> None:
    async def told() -> list[tuple[str, str, bool, bool]]:
        found = await client.assistants()
        in_info = (await client.server_info()).assistants
        assert [(each.name, each.service_id) for each in found] == [(each.name, each.service_id) for each in in_info]
        return [(each.name, each.service_id, each.online, each.accepting) for each in found]

    async with Store.open(tmp_path / "scribe.db", b"\x11" * 32) as store:
        token = real.assistant_token
        scribe = await Device.register_assistant(store, client, crypto, name="scribe", token=token)
    stranger = ServiceId.parse("00000000-0000-4000-8000-000000000001")
    truth = ("scribe", str(scribe.service_id), False, True)
    for rule, expected in (
        (claim("scribe", online=True, accepting=False), [("scribe", str(scribe.service_id), True, False)]),
        (hide("scribe"), []),
        (list_stranger("scribe", stranger), [("scribe", str(stranger), True, True)]),
        (list_stranger("other", stranger), [truth, ("other", str(stranger), True, True)]),
    ):
        hostile.rules[:] = [rule]
        assert await told() == expected
    hostile.rules.clear()
    assert await told() == [truth]
