"""A world of tests: a real relay behind a hostile one, enclaves, and people with two devices each in one conversation.

All of it runs in this process, and nothing is replaced but the clock. What an enclave does passes through a proxy of its own before
it comes to the hostile relay, so that it is known which enclave did it. What a person writes is noted: at the end each message has
to be on every device of every member, whatever happened to the assistants.
"""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from ai_enclave.assistant import Assistant as EnclaveAssistant
from ai_enclave.desk import Desk
from ai_enclave.engine import Reader, Writer
from ai_enclave.release import measure_release, release_name
from ai_enclave.service import EnclaveSettings, Stopping, serve_enclave
from ai_enclave.tee import TeeKind, TeeSettings
from ai_enclave.writers import Measured, all_weights
from attestation import CpuType, Policy, Release, UnsafeAcceptSimulated
from messaging.client import CredentialsRevoked, Device, Relay, Store
from messaging.client.assistants import Assistants, rank
from messaging.client.chats import Chats
from messaging.client.conversation import Conversation
from messaging.client.device import milliseconds_now
from messaging.wire.assistants import ListedAssistant
from messaging.wire.consent import ALL_SCOPES, ConsentScope
from messaging.wire.content import Content, DataMessage, Roster
from messaging.wire.identifiers import DeviceAddress, MessageId, ServiceId
from signal_protocol.operations import SignalCrypto
from tests.relays import StartedRelay
from tests.simulators.hostile_relay import HostileRelay
from tests.system.assistant.impostor import Document, Impostor
from tests.system.assistant.watched_store import WatchedStore

NAMES = ("Ann", "Bob", "Cem")
ENCLAVES = ("assistant-1", "assistant-2")
PATIENCE = 20.0  # seconds for anything that has to come about
ANSWER_SECONDS = 10.0  # for which clients wait for an assistant, unless a test says otherwise

T = TypeVar("T")


@dataclass(slots=True)
class Clock:
    """Milliseconds since 1970, as everybody here reads them; a test may let time pass."""

    passed: int = 0

    def __call__(self) -> int:
        return milliseconds_now() + self.passed

    def time(self) -> datetime:
        """The same."""
        return datetime.fromtimestamp(self() / 1000, UTC)


@dataclass(slots=True, eq=False)
class Client:
    """One device of a person, with what its application has."""

    store: Store
    device: Device
    chats: Chats
    world: "World"
    judges_otherwise: bool = False  # than at its start

    @property
    def me(self) -> ServiceId:
        return self.device.service_id

    @property
    def name(self) -> str:
        return str(self.device.address)

    @property
    def conversation(self) -> Conversation:
        return self.chats.conversation(self.world.key)

    @property
    def assistants(self) -> Assistants:
        assert self.chats.assistants is not None
        return self.chats.assistants

    @property
    def texts(self) -> dict[MessageId, str]:
        return {message.id: message.text for message in self.chats.messages(self.world.key)}

    @property
    def message_ids(self) -> tuple[MessageId, ...]:
        """Of all that this device shows."""
        return tuple(self.texts)

    def opted_in(self) -> frozenset[ServiceId]:
        """Who lets the assistant read along, as this device shows it."""
        return self.conversation.opted_in(self.world.clock())

    async def write(self, text: str) -> MessageId:
        """Write to the conversation; the world sees to it that every member of now gets it."""
        readers = [client for client in self.world.clients if client.me in self.conversation.members]
        written = await self.chats.write(self.world.key, text)
        assert written.failed == {}
        self.world.written[written.id] = (text, readers)
        return written.id

    async def until(self, holds: Callable[[], T]) -> T:
        """Wait until something that is taken in makes it so."""
        async with asyncio.timeout(PATIENCE):
            return await self.chats.wait_until(holds)

    async def has(self, *messages: MessageId) -> None:
        """Wait until these messages are shown here."""
        await self.until(lambda: set(messages) <= self.texts.keys())

    def judge(
        self, policy: Policy | None = None, *, only: Collection[str] = (), deadline: float = ANSWER_SECONDS
    ) -> Assistants:
        """Begin anew with the assistants: nothing is proved, and nobody is left alone. ``only`` these are known, by name."""
        found = self.assistants
        self.judges_otherwise = True
        found.directory = self._directory(frozenset(only))
        found.set_policy(policy or self.world.policy)
        found._listed = frozenset()
        found.look_again()
        for known in found._known.values():
            known.failures = 0
        self.wait_at_most(deadline)
        return found

    def wait_at_most(self, seconds: float, enclave: "RunningEnclave | None" = None) -> None:
        """How long to wait for an answer from now on: of this enclave, or of any."""
        self.judges_otherwise = True
        if enclave is not None:
            self.assistants.get(enclave.service_id)._deadline = seconds
            return
        self.assistants.deadline = seconds
        for known in self.assistants._known.values():
            known.assistant._deadline = seconds

    def _directory(self, only: frozenset[str]) -> Callable[[], Awaitable[tuple[ListedAssistant, ...]]]:
        async def listed() -> tuple[ListedAssistant, ...]:
            return tuple(each for each in await self.world.client_relay.assistants() if not only or each.name in only)

        return listed


@dataclass(slots=True, eq=False)
class Person:
    """An account with two devices."""

    name: str
    phone: Client
    laptop: Client

    @property
    def service_id(self) -> ServiceId:
        return self.phone.me

    @property
    def clients(self) -> tuple[Client, Client]:
        return self.phone, self.laptop


@dataclass(slots=True, eq=False)
class RunningEnclave:
    """An enclave that serves, and all that can be known of it from outside and from inside."""

    name: str
    proxy: HostileRelay
    store: WatchedStore
    serving: Coroutine[Any, Any, None]
    task: asyncio.Task[None]
    stopping: Stopping
    service_id: ServiceId
    identity_key: bytes = b""

    @property
    def assistant(self) -> EnclaveAssistant:
        """What runs in there: found in the enclave's memory, as whoever breaks in would."""
        found = self.memory("assistant")
        assert isinstance(found, EnclaveAssistant)
        return found

    @property
    def device(self) -> Device:
        found = self.memory("device")
        assert isinstance(found, Device)
        return found

    @property
    def contents(self) -> list[tuple[DeviceAddress, Content]]:
        """Everything that it has decrypted since its start, in order."""
        return self.store.contents

    def messages(self, key: bytes) -> dict[MessageId, str]:
        """All messages of a conversation that it has decrypted since its start, whether it kept them or not."""
        return {
            MessageId(sender.service_id, content.timestamp): content.body
            for sender, content in self.contents
            if isinstance(content, DataMessage) and content.conversation == key
        }

    async def has(self, key: bytes, *messages: MessageId) -> None:
        """Wait until it has decrypted these."""
        await self.heard(lambda: self.messages(key).keys() >= set(messages))

    async def knows(self, conversation: Conversation, *clients: Client) -> None:
        """Wait until each of these devices has told it whom it counts among the members of this conversation, as it is now."""
        wanted = {(client.device.address, conversation.key, conversation.revision) for client in clients}
        await self.heard(
            lambda: (
                wanted
                <= {(who, told.conversation, told.revision) for who, told in self.contents if isinstance(told, Roster)}
            )
        )

    def memory(self, name: str) -> Any:  # noqa: ANN401  # whatever it is
        """What the enclave's main function calls so."""
        return self.serving.cr_frame.f_locals[name]  # type: ignore[attr-defined]

    def rest(self) -> None:
        """As after a long pause: nobody has asked too often, and nobody knows how long the engine takes."""
        for counter in (self.assistant._counter, self.assistant._prover._counter):
            desk, rested = counter._desk, Desk()
            desk._allowances, desk._service_seconds = rested._allowances, rested._service_seconds

    async def heard(self, holds: Callable[[], T]) -> T:
        """Wait until something that it decrypts makes it so."""
        async with asyncio.timeout(PATIENCE):
            return await self.store.wait_until(holds)

    async def drain(self) -> None:
        """Have it finish what it accepted, and end."""
        self.stopping.drain.set()
        await self.ended()

    async def stop(self) -> None:
        """Have it end at once, without a word to anybody."""
        self.stopping.now.set()
        await self.ended()

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([self.task])


@dataclass(slots=True)
class World:
    """Who and what there is; see the module."""

    relay: StartedRelay
    hostile: HostileRelay
    client_relay: Relay
    crypto: SignalCrypto
    engine: Reader
    policy: Policy
    stack: AsyncExitStack
    writer: Writer | None = None
    clock: Clock = field(default_factory=Clock)
    people: dict[str, Person] = field(default_factory=dict)
    enclaves: dict[str, RunningEnclave] = field(default_factory=dict)
    written: dict[MessageId, tuple[str, list[Client]]] = field(default_factory=dict)
    key: bytes = b""
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(4_915_550_000_400))

    # --- people ---

    def __getitem__(self, name: str) -> Person:
        return self.people[name]

    @property
    def clients(self) -> list[Client]:
        return [client for person in self.people.values() for client in person.clients]

    @property
    def everybody(self) -> tuple[Person, Person, Person]:
        ann, bob, cem = self.people.values()
        return ann, bob, cem

    @property
    def names(self) -> dict[ServiceId, str]:
        return {person.service_id: person.name for person in self.people.values()}

    async def register(self) -> Client:
        """The first device of a new account."""
        store = await self._store()
        return await self._open(store, await self._register(store))

    async def _register(self, store: Store) -> Device:
        number = f"+{next(self._numbers)}"

        async def code() -> str:
            return self.relay.last_code(number)

        return await Device.register(store, self.client_relay, self.crypto, number=number, code=code)

    async def link(self, first: Client) -> Client:
        """Another device of the account, told by the first one what that knows."""
        adding: list[asyncio.Task[int]] = []

        async def show(url: str) -> None:
            adding.append(asyncio.create_task(first.chats.add_device(url)))

        store = await self._store()
        async with asyncio.timeout(PATIENCE):
            device = await Device.link(store, self.client_relay, self.crypto, show=show, name="laptop")
            client = await self._open(store, device)
            assert await adding[0] == device.address.device_id
        return client

    async def impostor(self, document: Document, name: str | None = None) -> Impostor:
        """Somebody who shows others ``document`` as evidence; with ``name`` the relay's operator makes them that assistant."""
        store = await self._store()
        if name is None:
            device = await self._register(store)
        else:
            token = self.relay.assistant_token
            device = await Device.register_assistant(store, self.client_relay, self.crypto, name=name, token=token)
        await self.stack.enter_async_context(device)
        await device.ready()
        impostor = Impostor(device, document)
        self.stack.push_async_callback(_cancel, asyncio.create_task(impostor.run()))
        return impostor

    async def _store(self) -> Store:
        return await self.stack.enter_async_context(Store.open(":memory:", secrets.token_bytes(32)))

    async def _open(self, store: Store, device: Device) -> Client:
        await self.stack.enter_async_context(device)
        await device.ready()
        assistants = Assistants(
            device, self.client_relay.assistants, self.policy, now=self.clock.time, deadline=ANSWER_SECONDS
        )
        chats = await self.stack.enter_async_context(await Chats.open(device, store, assistants, now=self.clock))
        client = Client(store, device, chats, self)
        receiving = asyncio.create_task(chats.receive())
        self.stack.push_async_callback(_cancel, receiving)
        return client

    async def _people(self) -> None:
        """Everybody registers, links a second device, and meets in one conversation."""
        phones = await asyncio.gather(*(self.register() for _ in NAMES))
        laptops = await asyncio.gather(*(self.link(phone) for phone in phones))
        for name, phone, laptop in zip(NAMES, phones, laptops, strict=True):
            self.people[name] = Person(name, phone, laptop)
        await self.meet()
        for client in self.clients:
            await until(lambda client=client: self._knows_all(client))  # type: ignore[misc]

    async def meet(self) -> None:
        """A new conversation of all people, about which nobody has decided anything; it is the one that tests are about."""
        phones = [person.phone for person in self.people.values()]
        self.key = (await phones[0].chats.create("the trip", [phone.me for phone in phones])).key
        self.written.clear()
        for client in self.clients:
            await client.until(lambda client=client: self.key in {each.key for each in client.chats.conversations})  # type: ignore[misc]

    async def opt_in(
        self, *clients: Client, scopes: Collection[ConsentScope] = ALL_SCOPES, expires_at: int | None = None
    ) -> None:
        """These let the assistant have what they write; everybody sees it."""
        for client in clients:
            await client.chats.opt_in(self.key, scopes, expires_at=expires_at)
        for seen_by in self.clients:
            await seen_by.until(lambda seen_by=seen_by: {client.me for client in clients} <= seen_by.opted_in())  # type: ignore[misc]

    async def opt_out(self, client: Client) -> None:
        """Take it back; everybody sees it."""
        await client.chats.opt_out(self.key)
        for seen_by in self.clients:
            await seen_by.until(lambda seen_by=seen_by: client.me not in seen_by.opted_in())  # type: ignore[misc]

    async def _knows_all(self, client: Client) -> bool:
        """Whether it can write to everybody so that the relay does not learn who writes."""
        others = [person.service_id for person in self.people.values() if person.service_id != client.me]
        return len(await client.device._access.find_all(others)) == len(others)

    # --- enclaves ---

    async def start_enclave(self, name: str, engine: Reader | None = None) -> RunningEnclave:
        """An enclave of this name, with new keys; an earlier one of the name has to be over."""
        proxy = await self.stack.enter_async_context(HostileRelay(self.hostile.url))
        store = await self.stack.enter_async_context(WatchedStore.open(":memory:", secrets.token_bytes(32)))
        settings = EnclaveSettings(
            relay_url=proxy.url, name=name, token=self.relay.assistant_token, tee=TeeSettings(TeeKind.SIMULATED)
        )
        stopping, ready = Stopping(), asyncio.get_running_loop().create_future()
        serving = serve_enclave(settings, engine or self.engine, store, ready.set_result, stopping, writer=self.writer)
        task = asyncio.create_task(serving)
        self.stack.push_async_callback(_stop, stopping, task)
        await asyncio.wait([ready, task], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        if task.done():
            task.result()
        started = RunningEnclave(name, proxy, store, serving, task, stopping, ServiceId.parse(ready.result()))
        started.assistant._now = self.clock
        started.identity_key = started.device.identity_key
        self.enclaves[name] = started
        return started

    def serving(self) -> RunningEnclave:
        """The enclave that the conversation goes to, if all can be used."""
        running = {each.service_id: each for each in self.enclaves.values() if not each.task.done()}
        return running[rank(self.people["Ann"].phone.conversation.id, running)[0]]

    def other(self) -> RunningEnclave:
        """The other one."""
        [found] = [each for each in self.enclaves.values() if each is not self.serving() and not each.task.done()]
        return found

    # --- one test ---

    async def begin(self) -> None:
        """A new conversation, clients that judge as ever, and enclaves that nobody has tired."""
        for client in self.clients:
            if client.judges_otherwise:
                client.judge()
                client.judges_otherwise = False
        await self.meet()
        for enclave in self.enclaves.values():
            if not enclave.task.done():
                enclave.rest()

    async def end(self) -> None:
        """The relay is honest again; then nothing may be lost."""
        self.hostile.rules.clear()
        await self.nothing_is_lost()

    async def nothing_is_lost(self) -> None:
        """Wait until every message that was written is on every device of every member of its time."""
        for named, (text, readers) in self.written.items():
            for reader in readers:
                await reader.has(named)
                assert reader.texts[named] == text


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while not await holds():
            await asyncio.sleep(0.01)


def accepted_release(engine: Reader, writer: Writer | None = None) -> Policy:
    """The release that lies here, with these weights, in a simulation."""
    weights = all_weights(engine.weights_digest, Measured.of(writer))
    release = Release(name=release_name(), type=CpuType.SIMULATED, measurement=measure_release(weights))
    return Policy(name="the test's", releases=(release,)).weakened_by(UnsafeAcceptSimulated)


def policy_text(policy: Policy) -> str:
    """The same as a policy file says it."""
    dated = "" if policy.valid_from is None else f"valid_from = {policy.valid_from.isoformat()}"
    releases = [
        f'[[releases]]\nname = "{release.name}"\ntype = "{release.type}"\nmeasurement = "{release.measurement.hex()}"'
        for release in policy.releases
    ]
    unsafe = ", ".join(f'"{name}"' for name in sorted(policy.unsafe))
    return "\n".join(["policy = 1", f'name = "{policy.name}"', dated, f"unsafe = [{unsafe}]", *releases, ""])


@asynccontextmanager
async def a_world(
    relay: StartedRelay,
    crypto: SignalCrypto,
    engine: Reader,
    *,
    enclaves: Iterable[str] = ENCLAVES,
    writer: Writer | None = None,
) -> AsyncIterator[World]:
    """People and enclaves at this relay, until the end of the block. What has to hold then says :meth:`World.end`."""
    async with AsyncExitStack() as stack:
        hostile = await stack.enter_async_context(HostileRelay(relay.url))
        client_relay = await stack.enter_async_context(Relay(hostile.url))
        policy = accepted_release(engine, writer)
        world = World(relay, hostile, client_relay, crypto, engine, policy, stack, writer)
        await asyncio.gather(world._people(), *(world.start_enclave(name) for name in enclaves))
        yield world


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, CredentialsRevoked):  # a test may have removed the device
        await task


async def _stop(stopping: Stopping, task: asyncio.Task[None]) -> None:
    stopping.now.set()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
