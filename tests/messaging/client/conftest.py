"""Devices of the SDK against a real relay with real libsignal."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from messaging.client import Device, Relay, Store
from signal_protocol.operations import SignalCrypto
from tests.members import link_device
from tests.relays import Relays, StartedRelay

KEY = b"\x11" * 32
Register = Callable[[str], Awaitable[Device]]
Link = Callable[[Device], Awaitable[Device]]


@pytest.fixture(scope="session")
async def crypto() -> AsyncIterator[SignalCrypto]:
    """One worker for all devices."""
    async with SignalCrypto.start() as started:
        yield started


@pytest.fixture
async def sqlite_relay(relays: Relays) -> StartedRelay:
    """One relay on SQLite: what a device does is the same on both databases."""
    return await relays.start("sqlite")


@pytest.fixture
async def client_relay(sqlite_relay: StartedRelay) -> AsyncIterator[Relay]:
    """The relay as a client sees it."""
    async with Relay(sqlite_relay.url) as relay:
        yield relay


@pytest.fixture
async def register(
    sqlite_relay: StartedRelay, client_relay: Relay, crypto: SignalCrypto, tmp_path: Path
) -> AsyncIterator[Register]:
    """Registers a number in a store named after it, and connects."""
    async with AsyncExitStack() as stack:

        async def registered(number: str) -> Device:
            async def code() -> str:
                return sqlite_relay.last_code(number)

            store = await stack.enter_async_context(Store.open(tmp_path / f"{number}.db", KEY))
            device = await Device.register(store, client_relay, crypto, number=number, code=code, deadline=5)
            await stack.enter_async_context(device)
            await device.ready()
            return device

        yield registered


@pytest.fixture
async def link(client_relay: Relay, crypto: SignalCrypto, tmp_path: Path) -> AsyncIterator[Link]:
    """Links another device to the account of this one, in a store of its own, and connects it."""
    numbers = itertools.count(2)
    async with AsyncExitStack() as stack:

        async def linked(device: Device) -> Device:
            store = await stack.enter_async_context(Store.open(tmp_path / f"linked {next(numbers)}.db", KEY))
            other = await link_device(device, store, client_relay, crypto, deadline=5)
            await stack.enter_async_context(other)
            await other.ready()
            return other

        yield linked
