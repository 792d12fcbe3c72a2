"""Runs a script with the official client against a relay, and gives back what it saw."""

import asyncio
import json
from pathlib import Path
from typing import Any

from signal_protocol.node import WORKER_FOLDER, find_node
from tests.relays import StartedRelay

LIBSIGNAL = WORKER_FOLDER / "node_modules" / "@signalapp" / "libsignal-client"


async def run_script(name: str, relay: StartedRelay) -> dict[str, Any]:
    """The JSON object that the script printed."""
    assert relay.tls is not None
    root = relay.codes.with_name("root.der")
    root.write_bytes(relay.tls.root_der)
    process = await asyncio.create_subprocess_exec(
        find_node(),
        Path(__file__).with_name(name),
        LIBSIGNAL,
        str(relay.port),
        root,
        relay.codes,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    return dict(json.loads(output))
