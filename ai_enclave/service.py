"""The enclave's life: make keys, load the engine, register, receive, answer; and forget everything at the end.

Keys and state exist in this process's memory only: the client store is an in-memory database under a random key.
"""

import asyncio
import resource
import secrets
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ai_enclave.assistant import Assistant
from ai_enclave.engine import EmbeddedEngine
from ai_enclave.release import measure_release, release_name
from ai_enclave.tee import TeeSettings
from attestation import KeySection
from attestation.binding import NONCE
from attestation.collecting import Attester
from messaging.client import ClientError, Device, IdentityChanged, Received, Relay, Store
from messaging.client.sending import OVERHEAD
from messaging.wire.content import AssistantAnswer, Evidence, encode_content
from messaging.wire.limits import MAX_CONTENT, REQUEST_ID
from signal_protocol.operations import SignalCrypto

MAX_CONCURRENT = 64  # messages being worked on; the next ones wait in the device's inbox


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveSettings:
    """What an enclave is told at start; nothing in it is about a user."""

    relay_url: str
    name: str
    token: str = field(repr=False)
    ca_file: Path | None = None
    tee: TeeSettings


async def run_enclave(settings: EnclaveSettings, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set; ``ready`` gets the assistant's service id once it can be asked.

    Raises:
        ClientError: the relay cannot be reached, or refuses the assistant.
        EngineError: the weights are missing or are not the pinned ones.
        CollectionError: the hardware does not vouch for this enclave.
    """
    _no_core_dumps()
    engine = await asyncio.to_thread(EmbeddedEngine.load)
    attester = settings.tee.attester(measure_release(engine.weights_digest))
    await asyncio.to_thread(_prove_once, attester)
    receipt_key = Ed25519PrivateKey.generate()  # attested beside the identity key; both end with this process
    async with AsyncExitStack() as stack:
        crypto = await stack.enter_async_context(SignalCrypto.start())
        store = await stack.enter_async_context(Store.open(":memory:", secrets.token_bytes(32)))
        relay = await stack.enter_async_context(Relay(settings.relay_url, ca_file=settings.ca_file))
        device = await Device.register_assistant(store, relay, crypto, name=settings.name, token=settings.token)
        keys = KeySection(device.identity_key, receipt_key.public_key().public_bytes_raw(), release_name())
        attest = partial(attester.attest, keys=keys)
        assistant = Assistant(engine, attest, partial(datetime.now, UTC))
        await stack.enter_async_context(device)
        await device.ready()
        ready(str(device.service_id))
        await _serve(device, assistant, stop)


async def _serve(device: Device, assistant: Assistant, stop: asyncio.Event) -> None:
    """Answer until told to stop; messages of one sender are taken in the order in which they arrived."""
    async with asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(_receive(device, assistant))
        await stop.wait()
        receiving.cancel()


async def _receive(device: Device, assistant: Assistant) -> None:
    free = asyncio.Semaphore(MAX_CONCURRENT)
    async with asyncio.TaskGroup() as answers:
        async for received in device.received():
            await free.acquire()
            # Started in order, and what changes the memory does so before its first await: order is kept.
            task = answers.create_task(_answer(device, assistant, received))
            task.add_done_callback(lambda _: free.release())


async def _answer(device: Device, assistant: Assistant, received: Received) -> None:
    requester = received.sender.service_id
    answer = await assistant.receive(requester, received.content)
    try:
        if answer is not None:
            await device.send(requester, answer)
    except IdentityChanged as changed:
        # Who asked is gone; the next request under the new key gets its own answer.
        await device.trust(requester, changed.identity_key)
    except ClientError as error:
        # Only its type: the requester asks again, the service goes on.
        print(f"subrosa enclave: an answer was not delivered ({type(error).__name__})", file=sys.stderr)  # noqa: T201
    await device.done(received)


class EvidenceTooLarge(ClientError):
    """What this machine's hardware says does not fit into one message: no client could ever verify it."""

    def __init__(self) -> None:
        super().__init__("the evidence of this machine is too large for one message: it has too many devices")


def _prove_once(attester: Attester) -> None:
    """An enclave that cannot prove where it runs does not start: nobody hears of it. The keys here are nobody's."""
    keys = KeySection(b"\x05" + bytes(32), bytes(32), "trial at the start")
    document = attester.attest(secrets.token_bytes(NONCE), keys)
    if len(encode_content(AssistantAnswer(bytes(REQUEST_ID), Evidence(document)))) + OVERHEAD > MAX_CONTENT:
        raise EvidenceTooLarge


def _no_core_dumps() -> None:
    """A core file would hold keys and messages."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
