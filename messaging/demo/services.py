"""The demo's relay and enclave: real services, each a process of its own, watched.

What dies is started again: a relay on its port and its database, where all that it accepted still is; an enclave with new keys and
nothing that it remembered, by design.
"""

import asyncio
import json
import secrets
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation import Claims, CpuType, Release
from attestation.appraisal.policy_file import PolicyKey, PolicySigner
from messaging.demo.certificates import write_certificates

READY_DEADLINE = 60.0  # seconds from start to the line that says ready
STOP_DEADLINE = 10.0  # seconds from SIGTERM to SIGKILL
MAX_RESTARTS = 5  # of one service in one story
ASSISTANTS = ("assistant-1", "assistant-2")  # two enclaves, so that one can be upgraded while the other answers

# The cast talks much faster than people do.
_LIMITS = """\
[messages]
size = 100000
refill = 0.01

[verificationSessionPerAddress]
size = 1000
refill = 1

[prekeys]
size = 1000
refill = 1
"""


class ServiceFailed(Exception):
    """A service could not start, or stopped when it was needed; says which, and where its log is."""


@dataclass(frozen=True, slots=True)
class Folders:
    """Where one run keeps its files. ``server`` is all that the relay has; ``clients`` belongs to the devices."""

    root: Path

    @property
    def server(self) -> Path:
        """Database, logs and secrets of the relay, and the log of the enclave."""
        return self.root / "server"

    @property
    def clients(self) -> Path:
        """The devices' stores."""
        return self.root / "clients"

    @property
    def codes(self) -> Path:
        """Verification codes, in place of text messages to telephones."""
        return self.root / "codes.jsonl"

    @property
    def ca(self) -> Path:
        """The root certificate of the relay, PEM; DER beside it."""
        return self.root / "tls" / "ca.pem"

    def create(self) -> None:
        """Make the folders and what the services need in them; other users of the machine cannot look inside."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.server, self.clients, self.ca.parent):
            folder.mkdir(mode=0o700)
        write_certificates(self.ca.parent)
        token = self.server / "assistant.token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_urlsafe(32))
        (self.server / "limits.toml").write_text(_LIMITS)


class Service:
    """One process of ours that prints one JSON line when it is ready; everything else goes to its log file."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = [sys.executable, *command]
        self._process: Process | None = None
        self._ready = asyncio.Event()

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise ServiceFailed(f"the {self.name} is not running")
        return self._process.pid

    async def start(self, *more: str) -> dict[str, object]:
        """Start it with ``more`` arguments and wait until it is ready; returns what it said.

        Raises:
            ServiceFailed: it ended or took too long.
        """
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, *more, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None  # noqa: S101  # a pipe was asked for
        with suppress(TimeoutError, ValueError):
            async with asyncio.timeout(READY_DEADLINE):
                said = json.loads(await self._process.stdout.readline())
                if isinstance(said, dict):
                    self._ready.set()
                    return said
        await self.stop()
        raise ServiceFailed(f"the {self.name} did not start; the end of its log:\n{self._last_words()}")

    async def ended(self) -> int:
        """Wait for the process to end by itself; its exit code (negative: a signal)."""
        code = 0 if self._process is None else await self._process.wait()
        self._ready.clear()
        return code

    async def ready(self) -> None:
        """Wait until it is ready, if it has died and is being started again."""
        await self._ready.wait()

    async def stop(self) -> None:
        """End it, kindly first."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
            try:
                async with asyncio.timeout(STOP_DEADLINE):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-5:]
        return "\n".join(lines) or "(empty)"


@asynccontextmanager
async def running_relay(folders: Folders, port: int) -> AsyncIterator[tuple[Service, str]]:
    """A relay that is started again when it dies; yields it and its URL."""
    server = folders.server
    relay = Service(
        "relay",
        [
            "-m",
            "messaging.relay",
            *("--json-ready", "--host", "127.0.0.1"),
            *("--tls-cert", str(folders.ca.parent / "relay.pem"), "--tls-key", str(folders.ca.parent / "relay.key")),
            *("--database-url", f"sqlite:///{server / 'relay.db'}"),  # its secret file is made beside it
            *("--verification", f"file:{folders.codes}", "--limits", str(server / "limits.toml")),
            *("--assistant-token-file", str(server / "assistant.token")),
        ],
        server / "relay.log",
    )
    ready = await relay.start("--port", str(port))
    watch = asyncio.create_task(_restart(relay, "--port", str(ready["port"])))
    try:
        yield relay, f"https://localhost:{ready['port']}"
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError, ServiceFailed):
            await watch
        await relay.stop()


@asynccontextmanager
async def running_console(folders: Folders, policy: Path, key: PolicyKey) -> AsyncIterator[dict[str, str]]:
    """The operators' console of the story's relay; yields its ``url``, and the ``firstLink`` with which the first operator enrols."""
    server = folders.server
    console = Service(
        "console",
        [
            *("-m", "messaging.console", "serve", "--json-ready", "--port", "0"),
            *("--database-url", f"sqlite:///{server / 'relay.db'}"),
            *("--policy", str(policy), "--policy-key", str(key)),
        ],
        server / "console.log",
    )
    said = await console.start()
    try:
        yield {name: str(said[name]) for name in ("url", "firstLink")}
    finally:
        await console.stop()


def write_policy(folders: Folders, claims: Claims) -> tuple[Path, PolicyKey]:
    """A policy that accepts the story's enclaves and no others, signed by a key that is not kept; returns where it is, and the key."""
    text = (
        f'policy = 1\nname = "the story\'s"\nunsafe = ["UnsafeAcceptSimulated"]\n\n[[releases]]\nname = "{claims.release}"\n'
        f'type = "simulated"\nmeasurement = "{claims.measurement.hex()}"\n'
    )
    signer = PolicySigner("story", Ed25519PrivateKey.generate())
    path = folders.root / "policy.txt"
    path.write_text(signer.sign(text))
    return path, signer.key


async def bot_invite(folders: Folders, uses: int) -> str:
    """A code with which so many bots can register at the story's relay.

    Raises:
        ServiceFailed: it could not be made.
    """
    database = f"sqlite:///{folders.server / 'relay.db'}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "messaging.relay.invite", "create", "--role", "bot", "--uses", str(uses), "--json"),
        *("--database-url", database),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise ServiceFailed("no invite for bots could be made")
    code: str = json.loads(output)["code"]
    return code


async def _restart(service: Service, *more: str) -> None:
    for _ in range(MAX_RESTARTS):
        await service.ended()
        await service.start(*more)


@dataclass(slots=True)
class Enclaves:
    """The running enclaves, by the service id of their assistants, and who starts them again."""

    services: dict[str, Service]
    watches: dict[str, asyncio.Task[None]]

    async def drain(self, service_id: str) -> str:
        """Have one finish what it accepted, and end for good, as for an upgrade; returns its name. The others are there before."""
        await asyncio.gather(*(service.ready() for service in self.services.values()))
        self.watches[service_id].cancel()
        service = self.services[service_id]
        await service.stop()
        return service.name


@asynccontextmanager
async def running_enclaves(folders: Folders, url: str) -> AsyncIterator[Enclaves]:
    """Enclaves with a simulated TEE, registered at the relay; they load at the same time, and are started again when they die."""
    starting = [_enclave(folders, url, name) for name in ASSISTANTS]
    watches: dict[str, asyncio.Task[None]] = {}
    try:
        said = await asyncio.gather(*(enclave.start() for enclave in starting))
        services = {str(ready["service_id"]): enclave for ready, enclave in zip(said, starting, strict=True)}
        watches = {service_id: asyncio.create_task(_restart(enclave)) for service_id, enclave in services.items()}
        yield Enclaves(services, watches)
    finally:
        for watch in watches.values():
            watch.cancel()
        await asyncio.gather(*watches.values(), return_exceptions=True)
        await asyncio.gather(*(enclave.stop() for enclave in starting))


def _enclave(folders: Folders, url: str, name: str) -> Service:
    return Service(
        name,
        [
            *("-m", "ai_enclave", "--json-ready", "--unsafe-simulated-tee", "--name", name),
            *("--relay", url, "--ca-file", str(folders.ca)),
            *("--assistant-token-file", str(folders.server / "assistant.token")),
        ],
        folders.server / f"{name}.log",
    )


async def reference_release() -> Release:
    """The release that lies here, measured from its files in a process of its own, as a simulated TEE would run it.

    Raises:
        ServiceFailed: it cannot be measured.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ai_enclave", "--measure", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise ServiceFailed("the release here cannot be measured")
    measured = json.loads(output)
    return Release(name=measured["release"], type=CpuType.SIMULATED, measurement=bytes.fromhex(measured["measurement"]))
