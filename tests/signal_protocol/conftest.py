"""One real worker for all tests, and people who have something to say to each other."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from signal_protocol.memory_store import MemoryStore, MemoryTransaction
from signal_protocol.operations import SignalCrypto
from signal_protocol.sessions import SessionService
from signal_protocol.types import Address, Identity, LocalDevice, PrekeyBundle, SignedPublicPrekey
from signal_protocol.worker_process import Worker, WorkerConfig, start_worker

SIGNED_PREKEY_ID = 7
LAST_RESORT_ID = 9
FAULTY_WORKER = Path(__file__).resolve().parent / "worker_with_faults.mjs"


@dataclass
class Person:
    """A device with a store, its prekeys stored, and bundles to give away."""

    crypto: SignalCrypto
    store: MemoryStore
    local: LocalDevice
    signed: SignedPublicPrekey
    last_resort: SignedPublicPrekey
    service: SessionService[MemoryTransaction]
    key_ids: "count[int]" = field(default_factory=lambda: count(100))

    @property
    def address(self) -> Address:
        return self.local.address

    async def last_resort_bundle(self) -> PrekeyBundle:
        """What a relay gives out when all one-time prekeys are gone."""
        local = self.local
        return PrekeyBundle(
            local.registration_id,
            local.address.device_id,
            local.identity.public_key,
            self.signed,
            self.last_resort,
        )

    async def bundle(self) -> PrekeyBundle:
        """What a relay gives out once: with a one-time prekey of each kind."""
        key_id = next(self.key_ids)
        [one_time] = await self.crypto.generate_one_time_prekeys(first_id=key_id, count=1)
        [kyber] = await self.crypto.generate_kyber_prekeys(
            first_id=key_id, count=1, identity=self.local.identity, now=1
        )
        async with self.store.transaction() as transaction:
            await transaction.save_one_time_prekey(key_id, one_time.record)
            await transaction.save_kyber_prekey(key_id, kyber.record, last_resort=False)
        bundle = await self.last_resort_bundle()
        return replace(bundle, kyber_prekey=kyber.public, one_time_prekey=one_time.public)


MakePerson = Callable[..., Awaitable[Person]]
MakeTwo = Callable[[], Awaitable[tuple[Person, Person]]]


async def make_person_with(crypto: SignalCrypto, address: Address | None = None, **options: object) -> Person:
    """Options go to the session service."""
    identity = await crypto.generate_identity()
    local = LocalDevice(address or Address(str(uuid4()), 1), identity, registration_id=1234)
    signed = await crypto.generate_signed_prekey(key_id=SIGNED_PREKEY_ID, identity=identity, now=1)
    [kyber] = await crypto.generate_kyber_prekeys(first_id=LAST_RESORT_ID, count=1, identity=identity, now=1)
    store = MemoryStore()
    async with store.transaction() as transaction:
        await transaction.save_signed_prekey(SIGNED_PREKEY_ID, signed.record)
        await transaction.save_kyber_prekey(LAST_RESORT_ID, kyber.record, last_resort=True)
    service = SessionService(crypto, store, local, **options)  # type: ignore[arg-type]  # options of many types
    return Person(crypto, store, local, signed.public, kyber.public, service)


@pytest.fixture(scope="session")
async def crypto() -> AsyncIterator[SignalCrypto]:
    async with SignalCrypto.start() as running:
        yield running


@pytest.fixture(scope="session")
async def faulty() -> AsyncIterator[Worker]:
    """A worker that can fail on demand; for faults that leave it in good health."""
    async with start_worker(WorkerConfig(entry=FAULTY_WORKER)) as worker:
        yield worker


@dataclass(frozen=True)
class Server:
    """What a relay does with certificates; libsignal itself makes them here."""

    worker: Worker
    root: Identity

    async def certificate(self, device: LocalDevice, *, expires: int, identity_key: bytes = b"") -> bytes:
        """A sender certificate for ``device``, for its own key unless another is given."""
        key = identity_key or device.identity.public_key
        address = device.address
        [made] = await self.worker.call(
            "issue_certificate", self.root.private_key, address.service_id, address.device_id, key, expires
        )
        assert isinstance(made, bytes)
        return made

    async def split(self, upload: bytes) -> dict[str, bytes]:
        """The message for each account in a sealed group message."""
        parts: dict[str, bytes] = {}
        for part in await self.worker.call("split", upload):
            match part:
                case [str(service_id), bytes(message)]:
                    parts[service_id] = message
        return parts


@pytest.fixture(scope="session")
async def server(crypto: SignalCrypto, faulty: Worker) -> Server:
    return Server(faulty, await crypto.generate_identity())


@pytest.fixture
def make_person(crypto: SignalCrypto) -> MakePerson:
    async def make(**options: object) -> Person:
        return await make_person_with(crypto, **options)  # type: ignore[arg-type]  # options of many types

    return make


@pytest.fixture(scope="session")
def make_two(crypto: SignalCrypto) -> MakeTwo:
    """Two people who have begun a session each, and have not had a message yet; new ones at each call."""

    async def make() -> tuple[Person, Person]:
        first, second = await make_person_with(crypto), await make_person_with(crypto)
        await first.service.start_session(second.address, await second.bundle())
        await second.service.start_session(first.address, await first.bundle())
        return first, second

    return make


@pytest.fixture
async def alice(make_person: MakePerson) -> Person:
    return await make_person()


@pytest.fixture
async def bob(make_person: MakePerson) -> Person:
    return await make_person()


@pytest.fixture
def now() -> int:
    return time.time_ns() // 1_000_000
