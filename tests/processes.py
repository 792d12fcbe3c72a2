"""Relays in processes of their own: what can be killed, frozen, and cut short of disk."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from messaging.relay.app import RunningRelay
from messaging.relay.settings import Settings
from tests.relays import StartedRelay

READY_SECONDS = 30


@dataclass(frozen=True)
class RelayProcess:
    """A relay in a process of its own, and as what the other tests know a relay."""

    process: asyncio.subprocess.Process
    started: StartedRelay


def arguments_of(settings: Settings) -> list[str]:
    given = {
        "--port": settings.port,
        "--database-url": settings.database_url,
        "--redis-url": settings.redis_url,
        "--verification": settings.verification,
        "--secret-file": settings.secret_file,
        "--attachments-url": settings.attachments_url,
        "--assistant-token-file": settings.assistant_token_file,
        "--webhook-secret-file": settings.webhook_secret_file,
    }
    return [str(word) for name, value in given.items() if value is not None for word in (name, value)]


async def start_relay(
    settings: Settings,
    *more: str,
    begin: Callable[[], None] | None = None,
    quiet: bool = False,
    program: Sequence[str] = ("-m", "messaging.relay"),
) -> RelayProcess:
    """Start ``python -m messaging.relay`` and wait until it is ready. A ``quiet`` one has nowhere to write its log.

    ``begin`` runs in the new process before anything else; another ``program`` changes something in it first.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        *arguments_of(settings),
        "--json-ready",
        *more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL if quiet else asyncio.subprocess.PIPE,
        preexec_fn=begin,
    )
    assert process.stdout is not None
    try:
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), READY_SECONDS))
    except BaseException:
        await _end(process)
        raise
    running = RunningRelay(ready["url"], ready["port"], b"")
    return RelayProcess(process, StartedRelay(running, settings, Path(settings.verification[5:]), ""))


@asynccontextmanager
async def relay_process(
    settings: Settings, *more: str, begin: Callable[[], None] | None = None
) -> AsyncIterator[RelayProcess]:
    """The same while the block lasts; it is killed at the end if it still runs."""
    relay = await start_relay(settings, *more, begin=begin)
    try:
        yield relay
    finally:
        await _end(relay.process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()
