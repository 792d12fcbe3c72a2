"""The enclave's life: make keys, load the engine, register, receive, answer; and forget everything at the end.

Keys and state exist in this process's memory only: the client store is an in-memory database under a random key. An enclave that is
told to stop drains first: it takes no new work, says so to the relay's directory and to whoever asks, and finishes what it accepted.
"""

import asyncio
import secrets
import sys
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ai_enclave.assistant import Assistant
from ai_enclave.clock import EnclaveClock
from ai_enclave.collateral import StapledCollateral
from ai_enclave.desk import Counter, Desk
from ai_enclave.door import Door
from ai_enclave.engine import EmbeddedEngine, Reader, Writer
from ai_enclave.engine.interface import Judgement, Vectors
from ai_enclave.hardening import describe, harden, quiet_crashes
from ai_enclave.limits import DRAIN_SECONDS, FORGET_SECONDS, MAX_WRITING
from ai_enclave.proving import Prover
from ai_enclave.receipts import ReceiptIssuer
from ai_enclave.release import measure_release, release_name
from ai_enclave.reporting import Reporter, load_of
from ai_enclave.tee import TeeKind, TeeSettings
from ai_enclave.writers import Measured, WriterSettings, all_weights, open_writer
from attestation import Collateral, KeySection
from attestation.binding import NONCE
from attestation.collecting import Attester
from attestation.encoding import encode
from messaging.client import (
    ClientError,
    CredentialsRevoked,
    Device,
    Displaced,
    IdentityChanged,
    Received,
    Relay,
    Store,
)
from messaging.wire.answers import frames_for
from messaging.wire.assistant import Evidence, Result
from messaging.wire.content import AssistantCall, ProfileKeyUpdate
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import SALT
from signal_protocol.operations import SignalCrypto


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveSettings:
    """What an enclave is told at start; nothing in it is about a user. ``collateral`` is a folder for vendors' documents."""

    relay_url: str
    name: str
    token: str = field(repr=False)
    ca_file: Path | None = None
    tee: TeeSettings
    collateral: Path | None = None
    writer: WriterSettings | None = None


@dataclass(slots=True)
class Stopping:
    """How an enclave is told to end: ``drain`` finishes what was accepted, ``now`` does not."""

    drain: asyncio.Event = field(default_factory=asyncio.Event)
    now: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """Drain; told a second time, end at once."""
        (self.now if self.drain.is_set() else self.drain).set()


class InOneThread:
    """An engine that is always called in the same thread.

    Each thread that calls torch gets helpers and a heap of its own: those of several compete for the cores, and keep memory.
    """

    def __init__(self, engine: Reader) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, "engine")

    @property
    def name(self) -> str:
        """What spoke."""
        return self._engine.name

    @property
    def weights_digest(self) -> bytes:
        """Of its weights."""
        return self._engine.weights_digest

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One vector for each text."""
        return self._thread.submit(self._engine.encode, texts).result()

    def judge(self, vectors: Vectors, hints: Vectors) -> Judgement:
        """What the texts of these vectors are."""
        return self._thread.submit(self._engine.judge, vectors, hints).result()


async def run_enclave(settings: EnclaveSettings, ready: Callable[[str], None], stopping: Stopping) -> None:
    """Serve until told to stop; ``ready`` gets the assistant's service id once it can be asked.

    Raises:
        ClientError: the relay cannot be reached, or refuses the assistant.
        EngineError: weights are missing, are not the right ones, or are locked; or a model server cannot be used.
        CollectionError: the hardware does not vouch for this enclave.
        NotHardened: on this machine memory could reach a disk.
    """
    quiet_crashes(asyncio.get_running_loop())
    for fault in harden(strict=settings.tee.kind is not TeeKind.SIMULATED):
        print(f"subrosa enclave: {fault}", file=sys.stderr)  # noqa: T201
    engine = InOneThread(await asyncio.to_thread(EmbeddedEngine.load))
    async with AsyncExitStack() as stack:
        writer: Writer | None = None
        if settings.writer is not None:
            attester = partial(_attester, settings.tee, engine.weights_digest)
            writer = await open_writer(settings.writer, attester)
            stack.push_async_callback(writer.close)
        store = await stack.enter_async_context(Store.open(":memory:", secrets.token_bytes(32)))
        await serve_enclave(settings, engine, store, ready, stopping, writer=writer)


def _attester(tee: TeeSettings, reader: bytes, writer: Measured | None) -> Attester:
    """The attester of an enclave that speaks with these weights."""
    return tee.attester(measure_release(all_weights(reader, writer)))


async def serve_enclave(
    settings: EnclaveSettings,
    engine: Reader,
    store: Store,
    ready: Callable[[str], None],
    stopping: Stopping,
    *,
    writer: Writer | None = None,
) -> None:
    """The same on a machine that is hardened, with engines that are loaded and a store that is empty.

    Raises:
        As :func:`run_enclave`.
    """
    attester = _attester(settings.tee, engine.weights_digest, Measured.of(writer))
    collateral = StapledCollateral(settings.collateral, partial(datetime.now, UTC))
    trial = await asyncio.to_thread(_prove_once, attester)
    await collateral.refresh(trial)
    check_size(trial, _encoded(collateral.current))
    receipt_key = Ed25519PrivateKey.generate()  # attested beside the identity key; both end with this process
    async with AsyncExitStack() as stack:
        crypto = await stack.enter_async_context(SignalCrypto.start())
        relay = await stack.enter_async_context(Relay(settings.relay_url, ca_file=settings.ca_file))
        device = await Device.register_assistant(store, relay, crypto, name=settings.name, token=settings.token)
        keys = KeySection(device.identity_key, receipt_key.public_key().public_bytes_raw(), release_name())
        prover = Prover(partial(attester.attest, keys=keys), lambda: _encoded(collateral.current))
        issuer = ReceiptIssuer(receipt_key, release_name(), EnclaveClock())
        counter = Counter(Desk(places=1 if writer is None else MAX_WRITING))
        assistant = Assistant(engine, prover, issuer, counter, writer=writer)
        load = partial(load_of, counter, assistant.memory)
        reporter = Reporter(settings.name, release_name(), device, prover, load, lambda: collateral.current)
        await stack.enter_async_context(device)
        await device.ready()
        ready(str(device.service_id))
        await _serve(settings.name, device, assistant, reporter, collateral, trial, stopping)


async def _serve(
    name: str,
    device: Device,
    assistant: Assistant,
    reporter: Reporter,
    collateral: StapledCollateral,
    trial: bytes,
    stopping: Stopping,
) -> None:
    """Answer until told to stop; messages of one sender are taken in the order in which they arrived."""
    answers: set[asyncio.Task[None]] = set()  # that are not sent yet
    async with asyncio.TaskGroup() as tasks:
        background = [
            tasks.create_task(_receive(device, assistant, answers)),
            tasks.create_task(_look_after(device, assistant)),
            tasks.create_task(collateral.keep_fresh(trial)),
            tasks.create_task(reporter.run()),
        ]
        await _told_to_stop(name, device, assistant, reporter, answers, stopping)
        for task in background:
            task.cancel()


async def _told_to_stop(
    name: str,
    device: Device,
    assistant: Assistant,
    reporter: Reporter,
    answers: Collection[asyncio.Task[None]],
    stopping: Stopping,
) -> None:
    await _first(stopping.drain.wait(), stopping.now.wait())
    if stopping.now.is_set():
        return
    assistant.drain()
    await _first(_drain(name, device, assistant, reporter, answers), stopping.now.wait())


async def _drain(
    name: str, device: Device, assistant: Assistant, reporter: Reporter, answers: Collection[asyncio.Task[None]]
) -> None:
    """Tell the directory, so that clients move before they ask; then finish. Nothing of it may keep the end from coming."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await device.set_accepting(name, accepting=False)
            await asyncio.gather(assistant.drained(), reporter.report(evidence=False))
            await asyncio.gather(*answers, return_exceptions=True)  # what the engine has finished still has to be sent
    except (ClientError, TimeoutError) as error:
        _say("draining was cut short", error)


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _receive(
    device: Device, assistant: Assistant, answers: set[asyncio.Task[None]], door: Door | None = None
) -> None:
    """Take what arrives, in order; only answers take longer than that.

    Nothing that anybody sends may end the service, whatever it does to our code.
    """
    door = Door() if door is None else door
    async with asyncio.TaskGroup() as group:
        async for received in device.received():
            sender, content = received.sender.service_id, received.content
            if isinstance(content, AssistantCall) and _is_let_in(door, assistant, sender, content.request):
                task = group.create_task(_answer(device, assistant, received, content.request, door))
                answers.add(task)
                task.add_done_callback(answers.discard)
                task.add_done_callback(partial(_leave, door, sender))
                continue
            with _surviving("a message was not taken"):
                await _take(device, assistant, received)
            await device.done(received)


def _is_let_in(door: Door, assistant: Assistant, sender: ServiceId, request: bytes) -> bool:
    let_in = False
    with _surviving("a request was not taken"):
        let_in = not assistant.take_back(sender, request) and door.admit(sender)
    return let_in  # noqa: RET504  # the block may end early, and then nobody is let in


def _leave(door: Door, sender: ServiceId, _: asyncio.Task[None]) -> None:
    door.leave(sender)


async def _take(device: Device, assistant: Assistant, received: Received) -> None:
    sender = received.sender.service_id
    if isinstance(received.content, ProfileKeyUpdate):
        await device.learn_profile_key(sender, received.content.profile_key)
    if await device.trusted_identity(sender) == received.identity_key:  # else it is of whoever had the account before
        assistant.note(sender, received.identity_key, received.content)


async def _answer(device: Device, assistant: Assistant, received: Received, request: bytes, door: Door) -> None:
    """Answer whoever asked: the identity key under which the request came, and no other, whatever is trusted by now."""
    requester, identity_key = received.sender.service_id, received.identity_key
    async with door.slot(requester):
        with _surviving("an answer was not delivered"):  # the requester asks again
            try:
                async with aclosing(assistant.answer(requester, request, identity_key)) as frames:
                    async for frame in frames:
                        await device.send(requester, frame, only_to=identity_key)
            except IdentityChanged as changed:
                await _start_over(device, assistant, requester, changed.identity_key)
    await device.done(received)


async def _look_after(device: Device, assistant: Assistant) -> None:
    """Take in who has new keys, as somebody whom we do not know; drop what is too old."""
    for second in count(1):
        await asyncio.sleep(1)
        for problem in device.problems():
            if isinstance(problem, IdentityChanged):
                with _surviving("an account's new keys were not taken"):
                    await _start_over(device, assistant, problem.service_id, problem.identity_key)
        if second % FORGET_SECONDS == 0:
            assistant.forget_old()


async def _start_over(device: Device, assistant: Assistant, account: ServiceId, identity_key: bytes) -> None:
    """An account with a new identity key may be somebody else: nothing from before is theirs."""
    if await device.trusted_identity(account) != identity_key:
        assistant.forget_account(account)
        await device.forget_sender_keys(account)
    await device.trust(account, identity_key)  # also if it is trusted already: what was held back is taken in


class EvidenceTooLarge(ClientError):
    """What this machine's hardware says does not fit into one answer: no client could ever verify it."""

    def __init__(self) -> None:
        super().__init__("the evidence of this machine is too large for one answer: it has too many devices")


def _prove_once(attester: Attester) -> bytes:
    """An enclave that cannot prove where it runs does not start: nobody hears of it. The keys here are nobody's."""
    return attester.attest(secrets.token_bytes(NONCE), KeySection(b"\x05" + bytes(32), bytes(32), "trial at the start"))


def check_size(document: bytes, collateral: bytes) -> None:
    """Check that evidence fits into one answer.

    Raises:
        EvidenceTooLarge: it does not.
    """
    result = Result(kind=Evidence(document, collateral), salt=bytes(SALT))
    try:
        frames_for(0, len(result.encode()))
    except ValueError:
        raise EvidenceTooLarge from None


def _encoded(collateral: Collateral) -> bytes:
    return encode(collateral.members())


@contextmanager
def _surviving(what: str) -> Iterator[None]:
    """Whatever goes wrong in the block is said and let be, but for what ends the connection for good."""
    try:
        yield
    except (CredentialsRevoked, Displaced):
        raise
    except Exception as error:  # noqa: BLE001  # what strangers send is worked on in there
        _say(what, error)


def _say(what: str, error: Exception) -> None:
    """Only the type of an error and its place in our code: its words may hold more."""
    print(f"subrosa enclave: {what} ({describe(error)})", file=sys.stderr)  # noqa: T201
