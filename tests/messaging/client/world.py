"""A small world for tests of conversations: people with real devices on a real relay, and enclaves that do as a test says."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeVar

from attestation import Policy
from messaging.client import Device, Relay, Store
from messaging.client.assistants import Assistants
from messaging.client.chats import Chats
from messaging.client.consent import verify_consent
from messaging.client.receipt_checks import NEEDED_SCOPE
from messaging.wire.assistant import (
    AssistantRequest,
    Cancel,
    ConsentReference,
    EvidenceRequest,
    RequestKind,
    request_name,
)
from messaging.wire.consent import read_consent
from messaging.wire.content import AssistantCall, ConsentUpdate, Content, DataMessage, Roster
from messaging.wire.identifiers import MessageId, ServiceId
from signal_protocol.operations import SignalCrypto
from tests.messaging.client.enclaves import UNSAFE, Enclave
from tests.relays import Relays, StartedRelay, TlsFiles
from tests.servers import Postgres

SECONDS = 20  # until a test gives up waiting
_numbers = count(10_000)
T = TypeVar("T")


def milliseconds() -> int:
    """Since 1970, by the real clock."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def a_relay(folder: Path, template: Path, postgres: Postgres, tls: TlsFiles) -> AsyncIterator[StartedRelay]:
    """A relay on SQLite for all tests of a module: people and their keys are new in each."""
    async with AsyncExitStack() as databases, AsyncExitStack() as running:
        relays = Relays(databases, running, folder, template, postgres, "", "", tls)
        yield await relays.start("sqlite")


async def soon(holds: Callable[[], T]) -> T:
    """Wait until something holds."""
    async with asyncio.timeout(SECONDS):
        while not (found := holds()):
            await asyncio.sleep(0.01)
        return found


@dataclass
class Clock:
    """The real clock, and what a test adds to it."""

    ahead: int = 0

    def __call__(self) -> int:
        """Milliseconds since 1970."""
        return milliseconds() + self.ahead


@dataclass
class ScriptedEnclave:
    """An assistant's account: what it gets it writes down, and what it is asked its :class:`Enclave` answers."""

    name: str
    device: Device
    says: Enclave
    got: list[tuple[ServiceId, Content]] = field(default_factory=list)
    silent: bool = False

    @property
    def service_id(self) -> ServiceId:
        """Of its account."""
        return self.device.service_id

    def texts(self) -> list[str]:
        """The messages that it was sent, in order."""
        return [message.body for message in self.messages()]

    def messages(self) -> list[DataMessage]:
        """The same, whole."""
        return [content for _, content in self.got if isinstance(content, DataMessage)]

    def consents(self, of: "Person") -> list[bool]:
        """What somebody told it: yes or no, each time."""
        found = [update for sender, update in self.got if sender == of.service_id and isinstance(update, ConsentUpdate)]
        return [verify_consent(update, of.service_id, of.device.identity_key).opted_in for update in found]

    def rosters(self, of: "Person") -> list[Roster]:
        """Whom somebody counts among the members, each time."""
        return [content for sender, content in self.got if sender == of.service_id and isinstance(content, Roster)]

    def requests(self) -> list[RequestKind]:
        """What it was asked, but for evidence."""
        calls = [AssistantRequest.parse(each.request).kind for _, each in self.got if isinstance(each, AssistantCall)]
        return [kind for kind in calls if not isinstance(kind, EvidenceRequest)]

    def proofs(self) -> int:
        """How often it was asked for evidence."""
        return len(self.says.issued)

    def references(self, kind: RequestKind) -> list[ConsentReference]:
        """The latest statements of all authors who allow this use, as an honest enclave names them."""
        needed, latest = NEEDED_SCOPE.get(request_name(kind)), {}
        for sender, content in self.got:
            if isinstance(content, ConsentUpdate):
                latest[sender] = content.consent
        return [
            ConsentReference(author, signed.digest())
            for author, signed in latest.items()
            if read_consent(signed).opted_in and needed in (None, *read_consent(signed).scopes)
        ]

    def all_references(self, _: RequestKind) -> list[ConsentReference]:
        """The same of all authors, whatever they allow."""
        return [
            ConsentReference(sender, content.consent.digest())
            for sender, content in self.got
            if isinstance(content, ConsentUpdate)
        ]

    async def run(self) -> None:
        """Serve, for ever."""
        async for received in self.device.received():
            sender, content = received.sender.service_id, received.content
            self.got.append((sender, content))
            if isinstance(content, AssistantCall) and not self.silent:
                await self._answer(sender, content.request)
            await self.device.done(received)

    async def _answer(self, sender: ServiceId, call: bytes) -> None:
        request = AssistantRequest.parse(call)
        if not isinstance(request.kind, Cancel):
            for frame in self.says.answer(request, call):
                await self.device.send(sender, frame)


@dataclass
class Person:
    """Somebody with a device, its conversations, and a client that receives."""

    device: Device
    clock: Clock
    world: "World"
    chats: Chats = field(init=False)
    _open: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def service_id(self) -> ServiceId:
        """Of the account."""
        return self.device.service_id

    @property
    def key(self) -> bytes:
        """Of the only conversation."""
        [conversation] = self.chats.conversations
        return conversation.key

    @property
    def assistants(self) -> Assistants:
        """Those that this client knows."""
        assert self.chats.assistants is not None
        return self.chats.assistants

    def texts(self) -> list[str]:
        """What was said in the only conversation."""
        return [message.text for message in self.chats.messages(self.key)]

    def named(self) -> list[MessageId]:
        """The same by name."""
        return [message.id for message in self.chats.messages(self.key)]

    def sees(self) -> set[ServiceId]:
        """Who has opted in, as far as this person knows."""
        return set(self.chats.conversation(self.key).opted_in(self.clock()))

    async def write(self, text: str) -> MessageId:
        """To all, and it reaches them."""
        written = await self.chats.write(self.key, text)
        assert written.failed == {}
        return written.id

    def wake(self) -> None:
        """As if it were time to look what is to be done."""
        self.chats._people.wake()
        self.chats._enclaves.wake()

    async def open(self) -> None:
        """Start the client, with what the store holds."""
        assistants = Assistants(
            self.device, self.world.relay.assistants, self.world.policy, deadline=self.world.deadline
        )
        chats = await Chats.open(self.device, self.device._store, assistants, now=self.clock)
        self.chats = await self._open.enter_async_context(chats)
        receiving = asyncio.create_task(self.chats.receive())
        self._open.push_async_callback(_end, receiving)

    async def close(self) -> None:
        """End the client."""
        await self._open.aclose()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, Exception):
        raise outcome


@dataclass
class World:
    """Makes people and enclaves; ends them all."""

    started: StartedRelay
    relay: Relay
    crypto: SignalCrypto
    policy: Policy = UNSAFE
    deadline: float = 10.0  # seconds that people wait for an answer
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    enclaves: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def person(self, device: Device | None = None) -> Person:
        """Somebody new, or another device of somebody."""
        person = Person(device or await self.device(), Clock(), self)
        await person.open()
        self.stack.push_async_callback(person.close)
        return person

    async def device(self) -> Device:
        """Of somebody new."""
        return await self._register(f"+49155500{next(_numbers):05}")

    async def people(self, count: int) -> list[Person]:
        """Some, all in one conversation that the first one has begun."""
        people = [await self.person() for _ in range(count)]
        await people[0].chats.create("trip", [person.service_id for person in people])
        await self.all_know(people)
        return people

    async def alone(self) -> Person:
        """Somebody in a conversation with nobody else."""
        person = await self.person()
        await person.chats.create("notes", [])
        return person

    async def laptop(self, person: Person) -> Person:
        """Another device of somebody, linked by the first one's client; its own client is started."""
        store = await self.stack.enter_async_context(Store.open(":memory:", secrets.token_bytes(32)))
        adding: list[asyncio.Task[int]] = []

        async def show(url: str) -> None:
            adding.append(asyncio.create_task(person.chats.add_device(url)))

        device = await Device.link(store, self.relay, self.crypto, show=show, name="laptop", deadline=5)
        await self.stack.enter_async_context(device)
        await device.ready()
        assert await adding[0] == device.address.device_id
        return await self.person(device)

    async def registered_again(self, person: Person) -> Person:
        """Somebody who has lost the device and everything on it, and has other keys now."""
        await person.close()
        device = await self._register(person.device._account.number or "")
        assert device.service_id == person.service_id
        return await self.person(device)

    async def _register(self, number: str) -> Device:
        store = await self.stack.enter_async_context(Store.open(":memory:", secrets.token_bytes(32)))

        async def code() -> str:
            return self.started.last_code(number)

        device = await Device.register(store, self.relay, self.crypto, number=number, code=code, deadline=5)
        await self.stack.enter_async_context(device)
        await device.ready()
        return device

    async def all_know(self, people: Sequence[Person]) -> None:
        """Wait until everybody is in a conversation, and knows how to reach the others."""
        for person in people:
            await soon(lambda person=person: person.chats.conversations)  # type: ignore[misc]
            others = [other.service_id for other in people if other.service_id != person.service_id]
            await until(lambda person=person, others=others: knows_all(person, others))  # type: ignore[misc]

    async def enclave(self, name: str = "assistant-1") -> ScriptedEnclave:
        """An enclave under a name; one that has the name is replaced, and has forgotten everything."""
        await self.stop(name)
        stack = self.enclaves[name] = AsyncExitStack()
        store = await stack.enter_async_context(Store.open(":memory:", secrets.token_bytes(32)))
        device = await Device.register_assistant(
            store, self.relay, self.crypto, name=name, token=self.started.assistant_token, deadline=5
        )
        await stack.enter_async_context(device)
        await device.ready()
        enclave = ScriptedEnclave(name, device, Enclave(device.identity_key))
        enclave.says.consents = enclave.references
        serving = asyncio.create_task(enclave.run())
        stack.push_async_callback(_end, serving)
        return enclave

    async def stop(self, name: str) -> None:
        """An enclave dies."""
        if name in self.enclaves:
            await self.enclaves.pop(name).aclose()

    async def close(self) -> None:
        """The end."""
        await self.stack.aclose()
        for name in list(self.enclaves):
            await self.stop(name)


async def knows_all(person: Person, others: Sequence[ServiceId]) -> bool:
    """Whether messages to them can be sealed."""
    return len(await person.device._access.find_all(others)) == len(others)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds that has to be asked for."""
    async with asyncio.timeout(SECONDS):
        while not await holds():
            await asyncio.sleep(0.01)
