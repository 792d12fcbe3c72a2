"""Whatever is sent to an endpoint, it answers as the API reference says: no fault, no status that is not documented.

The requests are made by schemathesis from the OpenAPI document that the relay serves: valid ones, and ones that break a rule.
"""

from pathlib import Path

import aiohttp
import pytest

from tests.devices import Peer
from tests.relays import Relays
from tests.system.schemas import assert_as_documented

LEFT_OUT = [
    "--exclude-path-regex",
    "wait_for_linked_device",  # waits, as it should
    "--exclude-path",
    "/v1/accounts/me",  # would delete who asks
    "--exclude-path",
    "/v1/messages/multi_recipient",  # takes bytes of its own form: see test_fuzz.py
]


async def check(relays: Relays, backend: str, folder: Path, *, examples: int) -> None:
    async with aiohttp.ClientSession() as http:
        alice = await Peer(await relays.start(backend), http).register()
        document, phases = f"{alice.peer.relay.url}/v1/openapi.json", "examples,coverage,fuzzing"
        authorization = alice.authorization["Authorization"]
        await assert_as_documented(document, authorization, folder, phases=phases, examples=examples, left_out=LEFT_OUT)
        # The relay has survived it, and so has the account.
        assert (await alice.call("GET", "/v1/accounts/whoami")).json()["uuid"] == str(alice.aci)


async def test_every_answer_is_documented(relays: Relays, backend: str, tmp_path: Path) -> None:
    await check(relays, backend, tmp_path, examples=5)


@pytest.mark.long
async def test_every_answer_is_documented_at_length(relays: Relays, backend: str, tmp_path: Path) -> None:
    await check(relays, backend, tmp_path, examples=60)
