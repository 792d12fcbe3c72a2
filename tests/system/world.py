"""A whole system of real processes: a relay, enclaves that can be killed and started anew, and members who use the SDK.

It stands on what the demo starts, with a simulated TEE. What happens in it, and what has to come of it, is for the tests.
"""

import json
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ai_enclave.engine.weights import weights_digest
from ai_enclave.release import measure_release, release_name
from attestation import CpuType, Policy, Release, UnsafeAcceptSimulated
from messaging.client import Relay
from messaging.demo.cast import Member, a_member
from messaging.demo.services import Folders, Service, _enclave, running_relay
from messaging.wire.identifiers import ServiceId
from signal_protocol.operations import SignalCrypto


@dataclass
class World:
    """What runs. ``enclaves`` are by the names of their assistants."""

    folders: Folders
    url: str
    relay: Service
    client: Relay
    crypto: SignalCrypto
    policy: Policy
    stack: AsyncExitStack
    enclaves: dict[str, Service] = field(default_factory=dict)

    def enclave(self, name: str) -> Service:
        """One that may run, or may not."""
        if name not in self.enclaves:
            self.enclaves[name] = _enclave(self.folders, self.url, name)
            self.stack.push_async_callback(self.enclaves[name].stop)
        return self.enclaves[name]

    async def start_enclave(self, name: str) -> ServiceId:
        """Start an enclave, or start it again; returns the account of its assistant once it can be asked."""
        ready = await self.enclave(name).start()
        return ServiceId.parse(str(ready["service_id"]))

    async def kill_enclave(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """End it with no warning; returns what it ended with."""
        enclave = self.enclaves[name]
        with suppress(ProcessLookupError):
            os.kill(enclave.pid, number)
        return await enclave.ended()

    async def join(self, name: str, *, deadline: float = 20.0) -> Member:
        """Register somebody with a number that nobody else has, and be online until the end."""
        number = f"+4915{secrets.randbelow(10**9):09}"
        member = await self.stack.enter_async_context(
            a_member(
                name,
                number=number,
                code=lambda: self.code_for(number),
                folder=self.folders.clients,
                relay=self.client,
                crypto=self.crypto,
                policy=self.policy,
            )
        )
        member.assistants.deadline = deadline
        return member

    def code_for(self, number: str) -> str:
        """What was sent to a number last."""
        sent = [json.loads(line) for line in self.folders.codes.read_text().splitlines()]
        return next(str(entry["code"]) for entry in reversed(sent) if entry["number"] == number)


@asynccontextmanager
async def a_world(folder: Path) -> AsyncIterator[World]:
    """A relay, and nobody yet. Files are below ``folder``, which must not exist."""
    folders = Folders(folder)
    folders.create()
    release = Release(name=release_name(), type=CpuType.SIMULATED, measurement=measure_release(weights_digest()))
    policy = Policy(name="this test's", releases=(release,)).weakened_by(UnsafeAcceptSimulated)
    async with AsyncExitStack() as stack:
        relay, url = await stack.enter_async_context(running_relay(folders, 0))
        client = await stack.enter_async_context(Relay(url, ca_file=folders.ca))
        crypto = await stack.enter_async_context(SignalCrypto.start())
        yield World(folders, url, relay, client, crypto, policy, stack)
