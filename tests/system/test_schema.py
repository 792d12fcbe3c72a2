"""Whatever is sent to an endpoint, it answers as the API reference says: no fault, no status that is not documented.

The requests are made by schemathesis from the OpenAPI document that the relay serves: valid ones, and ones that break a rule.
"""

import asyncio
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.devices import Peer
from tests.relays import Relays


def run_schemathesis(url: str, authorization: str, folder: Path, *, examples: int) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{url}/v1/openapi.json",
        "--header",
        f"Authorization: {authorization}",
        "--phases",
        "examples,coverage,fuzzing",
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        "--max-examples",
        str(examples),
        "--exclude-path-regex",
        "wait_for_linked_device",  # waits, as it should
        "--exclude-path",
        "/v1/accounts/me",  # would delete who asks
        "--exclude-path",
        "/v1/messages/multi_recipient",  # takes bytes of its own form: see test_fuzz.py
        "--seed",
        "1",
        "--workers",
        "2",
        "--generation-database",
        "none",
        "--no-color",
    ]
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=580
    )


# Of ast.parse near the limit of recursion, which the tool then takes for an error of its own (python/cpython#106905).
INTERPRETERS_FAULT = "AST constructor recursion depth mismatch"


async def check(relays: Relays, backend: str, folder: Path, *, examples: int) -> None:
    async with aiohttp.ClientSession() as http:
        alice = await Peer(await relays.start(backend), http).register()
        run = partial(run_schemathesis, alice.peer.relay.url, alice.authorization["Authorization"], folder)
        result = await asyncio.to_thread(run, examples=examples)
        if INTERPRETERS_FAULT in result.stdout:
            result = await asyncio.to_thread(run, examples=examples)
        assert result.returncode == 0, result.stdout[-60000:] + result.stderr[-2000:]
        # The relay has survived it, and so has the account.
        assert (await alice.call("GET", "/v1/accounts/whoami")).json()["uuid"] == str(alice.aci)


async def test_every_answer_is_documented(relays: Relays, backend: str, tmp_path: Path) -> None:
    await check(relays, backend, tmp_path, examples=5)


@pytest.mark.long
async def test_every_answer_is_documented_at_length(relays: Relays, backend: str, tmp_path: Path) -> None:
    await check(relays, backend, tmp_path, examples=60)
