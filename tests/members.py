"""People of tests that speak through the SDK: what takes more than one of their devices."""

import asyncio

from messaging.client import Device, Relay, Store
from signal_protocol.operations import SignalCrypto

LINK_SECONDS = 30


async def link_device(
    device: Device, store: Store, relay: Relay, crypto: SignalCrypto, *, name: str = "laptop", deadline: float = 30.0
) -> Device:
    """Another device of the account, not connected yet; ``device`` is the account's first one and reads the link."""
    adding: list[asyncio.Task[int]] = []

    async def show(url: str) -> None:
        adding.append(asyncio.create_task(device.add_device(url)))

    async with asyncio.timeout(LINK_SECONDS):
        linked = await Device.link(store, relay, crypto, show=show, name=name, deadline=deadline)
        assert await adding[0] == linked.address.device_id
    return linked
