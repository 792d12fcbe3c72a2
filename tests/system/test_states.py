"""Any order of registering, linking, sending, acknowledging, disconnecting, removing and restarting keeps four promises.

What was answered with 200 is delivered at least once; in order; to no other device; and no one-time prekey is given twice.
"""

import asyncio
import secrets
import shutil
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from messaging.relay.app import open_relay
from messaging.relay.settings import Settings
from messaging.wire.envelope import EnvelopeType, decode_envelope
from messaging.wire.keys import PreKeyResponse, SetKeysRequest
from tests.devices import Device, NewDevice, Peer, Socket, kyber_prekey, messages_for, one_time_prekey
from tests.relays import UNLIMITED, StartedRelay
from tests.servers import Postgres

T = TypeVar("T")
MAX_ACCOUNTS, MAX_DEVICES = 3, 3
picks = st.integers(0, 10**6)


@dataclass
class Mailbox:
    """What a device should get: contents in order, and how many of them it has acknowledged."""

    device: Device
    sent: list[bytes] = field(default_factory=list)
    acknowledged: int = 0

    def check(self, received: list[bytes]) -> None:
        """All that is not acknowledged has come, in order; before it, perhaps, some of what was acknowledged."""
        due = self.sent[self.acknowledged :]
        assert received[len(received) - len(due) :] == due
        again = received[: len(received) - len(due)]
        assert again == [content for content in self.sent[: self.acknowledged] if content in again]


class Conversations(RuleBasedStateMachine):
    """Devices of a few accounts at one relay, which is restarted now and then."""

    settings_of: Callable[[], Settings]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.relay = AsyncExitStack()
        self.lasting = AsyncExitStack()
        self.accounts: list[list[Mailbox]] = []
        self.given: set[bytes] = set()
        self.count = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def serve(self) -> None:
        running = await self.relay.enter_async_context(open_relay(self.settings))
        codes = Path(self.settings.verification.removeprefix("file:"))
        self.peer = Peer(StartedRelay(running, self.settings, codes, ""), self.http)
        for boxes in self.accounts:
            for box in boxes:
                old = box.device
                box.device = Device(self.peer, old.known, old.aci, old.pni, old.device_id)

    @initialize()
    def start(self) -> None:
        self.settings = type(self).settings_of()

        async def begin() -> None:
            self.http = await self.lasting.enter_async_context(aiohttp.ClientSession())
            await self.serve()
            for _ in range(2):
                self.accounts.append([Mailbox(await self.peer.register())])

        self.run(begin())

    def account(self, pick: int) -> list[Mailbox]:
        return self.accounts[pick % len(self.accounts)]

    def box(self, pick: int) -> Mailbox:
        boxes = self.account(pick)
        return boxes[pick // 7 % len(boxes)]

    @rule()
    def restart(self) -> None:
        async def again() -> None:
            await self.relay.aclose()
            await self.serve()

        self.run(again())

    @precondition(lambda self: 0 < len(self.accounts) < MAX_ACCOUNTS)
    @rule()
    def register(self) -> None:
        self.accounts.append([Mailbox(self.run(self.peer.register()))])

    @rule(pick=picks)
    def register_anew(self, pick: int) -> None:
        boxes = self.account(pick)
        number = boxes[0].device.known.number
        boxes[:] = [Mailbox(self.run(self.peer.register(NewDevice(number=number))))]

    @rule(pick=picks)
    def link(self, pick: int) -> None:
        boxes = self.account(pick)
        if len(boxes) < MAX_DEVICES:
            boxes.append(Mailbox(self.run(boxes[0].device.link())))

    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        boxes = self.account(pick)
        if len(boxes) > 1:
            gone = boxes.pop(1 + pick % (len(boxes) - 1))
            assert self.run(boxes[0].device.set("DELETE", f"/v1/devices/{gone.device.device_id}")) == 204

    @rule(sender=picks, to=picks, forgets=st.booleans())
    def send(self, sender: int, to: int, forgets: bool) -> None:
        by, boxes = self.box(sender).device, self.account(to)
        expected = [box for box in boxes if box.device.address != by.address]
        named = expected[:-1] if forgets and expected else expected
        if not named:
            return
        self.count += 1
        content = b"%d" % self.count
        body = messages_for(*(box.device for box in named), content=content)
        status = self.run(by.set("PUT", f"/v1/messages/{boxes[0].device.aci}", body))
        if len(named) < len(expected):
            assert status == 409
            return
        assert status == 200
        for box in named:
            box.sent.append(content)

    @rule(pick=picks, acknowledge=st.integers(0, 6))
    def receive(self, pick: int, acknowledge: int) -> None:
        box = self.box(pick)

        async def connect() -> list[bytes]:
            async with box.device.socket() as socket:
                received = await until_empty(socket)
                for request, content in received[:acknowledge]:
                    await socket.answer(request)
                    if content in box.sent:
                        box.acknowledged = max(box.acknowledged, box.sent.index(content) + 1)
                await asyncio.sleep(0.02)
            return [content for _, content in received]

        box_before = Mailbox(box.device, list(box.sent), box.acknowledged)
        box_before.check(self.run(connect()))

    @rule(pick=picks)
    def upload(self, pick: int) -> None:
        device = self.box(pick).device
        keys = SetKeysRequest(
            pre_keys=tuple(map(one_time_prekey, range(3))),
            pq_pre_keys=tuple(kyber_prekey(device.known.identity, number) for number in range(2)),
        )
        assert self.run(device.upload(keys)).status == 204

    @rule(reader=picks, of=picks)
    def fetch(self, reader: int, of: int) -> None:
        target = self.account(of)[0].device
        reply = self.run(self.box(reader).device.call("GET", f"/v2/keys/{target.aci}/*"))
        assert reply.status == 200
        for bundle in PreKeyResponse.from_json(reply.body).devices:
            if bundle.pre_key is not None:
                assert bundle.pre_key.public_key not in self.given
                self.given.add(bundle.pre_key.public_key)

    def teardown(self) -> None:
        async def end() -> None:
            await self.relay.aclose()
            await self.lasting.aclose()

        if self.accounts:
            for account in range(len(self.accounts)):
                for number in range(len(self.accounts[account])):
                    self.receive(account + 7 * len(self.accounts) * number, 0)
            self.run(end())
        self.runner.close()


async def until_empty(socket: Socket) -> list[tuple[Any, bytes]]:
    """All envelopes up to the word that the queue is empty; receipts are acknowledged and left out."""
    received: list[tuple[Any, bytes]] = []
    while True:
        request = await socket.request()
        if request.path == "/api/v1/queue/empty":
            return received
        envelope = decode_envelope(request.body or b"")
        if envelope.type is EnvelopeType.SERVER_DELIVERY_RECEIPT:
            await socket.answer(request)
        else:
            received.append((request, envelope.content))


def run_machine(settings_of: Callable[[], Settings], *, examples: int, steps: int) -> None:
    machine = type("Machine", (Conversations,), {"settings_of": staticmethod(settings_of)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def sqlite_settings(tmp_path: Path, sqlite_template: Path) -> Callable[[], Settings]:
    """Settings for a relay on a fresh SQLite file."""

    def make() -> Settings:
        folder = tmp_path / secrets.token_hex(4)
        folder.mkdir()
        shutil.copy(sqlite_template, folder / "relay.db")
        return Settings(
            port=0,
            database_url=f"sqlite:///{folder / 'relay.db'}",
            verification=f"file:{folder / 'codes'}",
            limits=UNLIMITED,
        )

    return make


@pytest.fixture
def postgres_settings(
    tmp_path: Path, postgres: Postgres, postgres_template: str, valkey_url: str
) -> Callable[[], Settings]:
    """Settings for a relay on a fresh PostgreSQL database, with Valkey."""

    def make() -> Settings:
        folder = tmp_path / secrets.token_hex(4)
        folder.mkdir()
        (folder / "secret").write_bytes(secrets.token_bytes(32))
        name = asyncio.run(postgres.create(postgres_template))
        return Settings(
            port=0,
            database_url=postgres.url_of(name),
            redis_url=valkey_url,
            secret_file=folder / "secret",
            attachments_url=(folder / "attachments").as_uri(),
            verification=f"file:{folder / 'codes'}",
            limits=UNLIMITED,
        )

    return make


def test_the_promises_hold_on_sqlite(sqlite_settings: Callable[[], Settings]) -> None:
    run_machine(sqlite_settings, examples=8, steps=25)


def test_the_promises_hold_on_postgresql(postgres_settings: Callable[[], Settings]) -> None:
    run_machine(postgres_settings, examples=4, steps=25)


@pytest.mark.long
def test_the_promises_hold_at_length(sqlite_settings: Callable[[], Settings]) -> None:
    run_machine(sqlite_settings, examples=200, steps=50)
