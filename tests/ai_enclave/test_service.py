"""The enclave's device on a real relay: whom answers go to, whatever the relay shows meanwhile, and what else keeps it serving."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from ai_enclave.assistant import Assistant
from ai_enclave.door import Door
from ai_enclave.engine.interface import Judgement, Vectors
from ai_enclave.limits import (
    CALLS_BURST,
    CALLS_OF_SENDER,
    MAX_CONCURRENT,
    MAX_CONCURRENT_OF_SENDER,
    MAX_PENDING,
    MAX_QUEUED_PER_USER,
    REQUESTS_BURST,
)
from ai_enclave.service import InOneThread, _look_after, _receive, _start_over
from messaging.client import Device, Store
from messaging.client.consent import make_consent
from messaging.wire.answers import FrameReader
from messaging.wire.assistant import (
    AssistantRequest,
    Cancel,
    Forget,
    Forgotten,
    Refusal,
    RefusalCode,
    RequestKind,
    Result,
    ResultKind,
    StatusRequest,
)
from messaging.wire.consent import member_tag
from messaging.wire.content import AnswerFrame, AssistantCall, ConsentUpdate, DataMessage, Deletion, Edit, Roster
from messaging.wire.frames import Response
from messaging.wire.limits import REQUEST_ID
from signal_protocol.operations import SignalCrypto
from tests.ai_enclave.asking import KEY
from tests.ai_enclave.asking import Enclave as Simulated
from tests.ai_enclave.reachable import reachable
from tests.messaging.client.watched import Ask, Sent, WatchedRelay
from tests.messaging.client.world import World, a_relay, milliseconds, soon, until
from tests.relays import TlsFiles
from tests.servers import Postgres


@pytest.fixture(scope="module")
async def world(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, postgres: Postgres, tls_files: TlsFiles
) -> AsyncIterator[World]:
    """A relay for all tests here; what reaches it without credentials is watched."""
    async with AsyncExitStack() as stack:
        relay = a_relay(tmp_path_factory.mktemp("relay"), sqlite_template, postgres, tls_files)
        started = await stack.enter_async_context(relay)
        crypto = await stack.enter_async_context(SignalCrypto.start())
        made = World(started, await stack.enter_async_context(WatchedRelay(started.url)), crypto)
        stack.push_async_callback(made.close)
        yield made


@dataclass
class Served:
    """An assistant behind its device; it takes nothing before it is told to."""

    device: Device
    assistant: Assistant
    answers: set[asyncio.Task[None]] = field(default_factory=set)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def begin(self, door: Door | None = None) -> None:
        """Take what arrives."""
        receiving = _receive(self.device, self.assistant, self.answers, door)
        self.tasks += [asyncio.create_task(each) for each in (receiving, _look_after(self.device, self.assistant))]

    async def end(self) -> None:
        """Take nothing more."""
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def inbox(self) -> int:
        """How much has come that is not done with."""
        async with self.device._store.transaction() as transaction:
            return len(transaction.entries("inbox"))

    async def has(self, waiting: int) -> bool:
        """Whether so much has come."""
        return await self.inbox() == waiting

    async def trusts(self, device: Device) -> bool:
        """Whether it has taken in this device's keys."""
        return await self.device.trusted_identity(device.service_id) == device.identity_key


@pytest.fixture
async def served(world: World) -> AsyncIterator[Served]:
    """One enclave, by the real clock."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.open(":memory:", secrets.token_bytes(32)))
        device = await Device.register_assistant(
            store, world.relay, world.crypto, name="assistant-1", token=world.started.assistant_token, deadline=5
        )
        await stack.enter_async_context(device)
        await device.ready()
        simulated = Simulated()
        simulated.now = milliseconds()
        made = Served(device, simulated.assistant)
        stack.push_async_callback(made.end)
        yield made


@pytest.fixture(autouse=True)
def _no_fault(world: World) -> None:
    assert isinstance(world.relay, WatchedRelay)
    world.relay.fault = None


async def ask(device: Device, served: Served, kind: RequestKind = StatusRequest()) -> bytes:  # noqa: B008  # frozen
    """Ask, by default for the status; returns the request's id."""
    request_id = secrets.token_bytes(REQUEST_ID)
    await device.send(served.device.service_id, AssistantCall(AssistantRequest(request_id, kind).encode()))
    return request_id


async def next_answer(device: Device, seconds: float = 10) -> bytes:
    """The request that the first frame to arrive answers."""
    async with asyncio.timeout(seconds):
        async for received in device.received():
            await device.done(received)
            if isinstance(received.content, AnswerFrame):
                return received.content.request_id
    raise AssertionError("a device receives for ever")


async def next_result(device: Device, seconds: float = 10) -> ResultKind:
    """What the next answer says."""
    reader = FrameReader()
    async with asyncio.timeout(seconds):
        async for received in device.received():
            await device.done(received)
            parts = reader.read(received.content) if isinstance(received.content, AnswerFrame) else []
            for part in parts:
                if part.result is not None:
                    return Result.parse(part.result).kind
    raise AssertionError("a device receives for ever")


async def again(world: World, device: Device) -> Device:
    """The same account under another identity key: as somebody who lost all has it, or whom the relay shows instead."""
    other = await world._register(device._account.number or "")
    assert other.service_id == device.service_id
    assert other.identity_key != device.identity_key
    return other


# --- whom an answer goes to ---


async def test_who_takes_the_account_while_an_answer_is_on_its_way_does_not_get_it(
    world: World, served: Served
) -> None:
    bob = await world.device()
    taken: list[Device] = []
    await served.device.learn_profile_key(bob.service_id, bob.profile_key)

    async def hold(sent: Sent, go_on: Ask) -> Response:
        """The relay keeps one send back until the enclave has come to trust another key of the account."""
        if sent.path == f"/v1/messages/{bob.service_id}" and not taken:
            world.relay.fault = None  # type: ignore[attr-defined]
            taken.append(await again(world, bob))
            await taken[0].send(served.device.service_id, DataMessage("hello", 1))
            await until(lambda: served.trusts(taken[0]))
        return await go_on()

    world.relay.fault = hold  # type: ignore[attr-defined]
    served.begin()
    await ask(bob, served)
    await soon(lambda: taken)
    await until(lambda: served.trusts(taken[0]))
    await soon(lambda: not served.answers)
    own = await ask(taken[0], served)
    assert await next_answer(taken[0]) == own


async def test_what_came_under_a_key_that_is_trusted_no_more_is_neither_answered_to_the_new_one_nor_noted(
    world: World, served: Served
) -> None:
    bob = await world.device()
    await bob.send(served.device.service_id, _consent(bob))
    await bob.send(served.device.service_id, DataMessage("of the one before", milliseconds(), KEY))
    await ask(bob, served)
    await until(lambda: served.has(3))
    other = await again(world, bob)
    await _start_over(served.device, served.assistant, bob.service_id, other.identity_key)
    served.begin()
    await until(lambda: served.has(0))
    assert served.assistant.memory.messages_held == 0
    own = await ask(other, served)
    assert await next_answer(other) == own


async def test_a_key_that_was_taken_in_already_is_no_reason_to_forget(world: World, served: Served) -> None:
    bob = await world.device()
    served.begin()
    await bob.send(served.device.service_id, _consent(bob))
    await bob.send(served.device.service_id, DataMessage("stays", milliseconds(), KEY))
    await soon(lambda: served.assistant.memory.messages_held)
    await _start_over(served.device, served.assistant, bob.service_id, bob.identity_key)
    assert served.assistant.memory.messages_held == 1
    await _start_over(served.device, served.assistant, bob.service_id, (await again(world, bob)).identity_key)
    assert served.assistant.memory.messages_held == 0


async def test_who_takes_an_account_over_is_no_member_to_those_who_know_its_old_key(
    world: World, served: Served
) -> None:
    """Somebody who was removed still has the conversation's key; the relay gives them the account of who was not."""
    alice, bob = await world.device(), await world.device()
    served.begin()
    roster = Roster(KEY, 1, frozenset(member_tag(KEY, each.service_id, each.identity_key) for each in (alice, bob)))
    for person in (alice, bob):
        await person.send(served.device.service_id, _consent(person))
        await person.send(served.device.service_id, roster)
    await alice.send(served.device.service_id, DataMessage("for Bob", milliseconds(), KEY, roster.digest()))
    await soon(lambda: served.assistant.memory.messages_held)
    taken = await again(world, bob)
    await taken.send(served.device.service_id, _consent(taken))
    await taken.send(served.device.service_id, roster)
    await until(lambda: served.trusts(taken))
    await ask(taken, served, Forget(KEY, whole=True))
    assert await next_result(taken) == Refusal(RefusalCode.NOT_A_MEMBER)
    assert served.assistant.memory.messages_held == 1


async def test_an_author_edits_and_deletes_what_the_enclave_holds_and_nobody_else_does(
    world: World, served: Served
) -> None:
    alice, bob = await world.device(), await world.device()
    served.begin()
    at = milliseconds()
    told = [DataMessage("first", at, KEY), DataMessage("second", at + 1, KEY)]
    for person in (alice, bob):
        await person.send(served.device.service_id, _consent(person))
        for message in told:
            await person.send(served.device.service_id, message)
    await soon(lambda: served.assistant.memory.messages_held == 4)
    await alice.send(served.device.service_id, Edit(at, DataMessage("edited", at + 2, KEY)))
    await alice.send(served.device.service_id, Deletion(at + 1, at + 3, KEY))
    await alice.send(served.device.service_id, told[1])  # shared again
    await soon(lambda: "edited" in reachable(served.assistant.memory))
    await ask(alice, served, Forget(KEY))
    assert await next_result(alice) == Forgotten(1)
    await ask(bob, served, Forget(KEY))
    assert await next_result(bob) == Forgotten(2)


# --- who is let in, and what waits for nobody ---


async def test_who_asks_too_often_gets_silence_and_is_still_heard_while_others_are_answered(
    world: World, served: Served
) -> None:
    ann, bob = await world.device(), await world.device()
    door = Door(now=lambda: 0.0)
    for _ in range(CALLS_BURST):
        assert door.admit(bob.service_id)
        door.leave(bob.service_id)
    served.begin(door)
    await ask(bob, served)
    await bob.send(served.device.service_id, _consent(bob))
    await bob.send(served.device.service_id, DataMessage("heard", milliseconds(), KEY))
    await soon(lambda: served.assistant.memory.messages_held)
    assert not served.answers
    own = await ask(ann, served)
    assert await next_answer(ann) == own
    await until(lambda: served.has(0))


async def test_notes_and_taking_back_wait_for_no_slot(world: World, served: Served) -> None:
    bob = await world.device()
    served.begin(Door(slots=0))
    await ask(bob, served)
    await bob.send(served.device.service_id, _consent(bob))
    await bob.send(served.device.service_id, DataMessage("heard", milliseconds(), KEY))
    await ask(bob, served, Cancel(secrets.token_bytes(REQUEST_ID)))
    await until(lambda: served.has(1))  # the one that waits
    assert served.assistant.memory.messages_held == 1
    assert len(served.answers) == 1


def test_slots_are_more_than_what_can_be_held_for_long() -> None:
    assert MAX_CONCURRENT > 2 * (MAX_PENDING + 1)
    assert MAX_CONCURRENT_OF_SENDER > 2 * (MAX_QUEUED_PER_USER + 1)
    assert CALLS_OF_SENDER > REQUESTS_BURST  # so that who asks as often as they may, at once, is told of the quota


async def test_an_account_whose_keys_cannot_be_taken_keeps_no_other_from_being_known(
    world: World, served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await world.device(), await world.device()
    for person in (ann, bob):
        await person.send(served.device.service_id, DataMessage("hello", 1))
    await until(lambda: served.has(2))
    others = [await again(world, person) for person in (ann, bob)]

    async def fails_once(*_: object) -> None:
        monkeypatch.undo()
        raise ValueError("no")

    monkeypatch.setattr(served.device, "trust", fails_once)
    for other in others:
        await other.send(served.device.service_id, DataMessage("hello again", 2))
    await soon(lambda: len(served.device._problems) == 2)
    served.begin()
    await until(lambda: served.trusts(others[1]))
    assert "an account's new keys were not taken (ValueError" in capsys.readouterr().err


def _consent(device: Device) -> ConsentUpdate:
    signed = make_consent(
        device.sign, conversation=KEY, author=device.service_id, timestamp=milliseconds() - 1000, opted_in=True
    )
    return ConsentUpdate(KEY, signed)


async def test_the_engine_is_always_called_in_the_same_thread() -> None:
    class Speaker:
        name, weights_digest = "speaker", bytes(32)

        def encode(self, texts: Sequence[str]) -> Vectors:
            return np.array([[threading.get_ident()] for _ in texts], dtype=np.float64)

        def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:
            return Judgement(self.encode(["x"]), vectors, hints)

    engine = InOneThread(Speaker())
    spoken = await asyncio.gather(*(asyncio.to_thread(engine.encode, [str(number)]) for number in range(20)))
    assert len({float(each[0, 0]) for each in spoken}) == 1
    assert float(spoken[0][0, 0]) != threading.get_ident()
    judged = await asyncio.to_thread(engine.judge, spoken[0], spoken[0])
    assert judged.salience[0, 0] == spoken[0][0, 0]
