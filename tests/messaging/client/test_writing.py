"""An own message that was written down is handed over, whatever crashes and whatever the relay says for now."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from messaging.wire.content import DataMessage
from messaging.wire.frames import Response
from signal_protocol.operations import SignalCrypto
from tests.messaging.client.watched import Ask, Sent, WatchedRelay
from tests.messaging.client.world import World, a_relay, milliseconds, soon
from tests.relays import TlsFiles
from tests.servers import Postgres


@pytest.fixture
async def world(
    tmp_path: Path, sqlite_template: Path, postgres: Postgres, tls_files: TlsFiles, crypto: SignalCrypto
) -> AsyncIterator[World]:
    async with (
        a_relay(tmp_path, sqlite_template, postgres, tls_files) as started,
        WatchedRelay(started.url) as watched,
    ):
        made = World(started, watched, crypto)
        yield made
        await made.close()


@pytest.mark.parametrize("status", [429, 500])
async def test_what_was_only_written_down_before_a_crash_waits_until_the_relay_takes_it(
    world: World, status: int
) -> None:
    ann, bob, _ = await world.people(3)
    relay, records, writing = world.relay, ann.chats._records, ann.chats._writing
    assert isinstance(relay, WatchedRelay)
    refused = 0

    async def busy(sent: Sent, ask: Ask) -> Response:
        nonlocal refused
        if not sent.path.startswith("/v1/messages/"):
            return await ask()
        refused += 1
        return Response(0, status, headers={"retry-after": "60"})

    relay.fault = busy
    unsent = await writing.note(records.chats[ann.key], DataMessage("precious", milliseconds(), ann.key))
    records.unsent.append(unsent)  # as they are read after a crash
    await writing.send_unsent()
    assert refused > 0
    assert records.unsent == [unsent]
    relay.fault = None
    await writing.send_unsent()
    assert records.unsent == []
    await soon(lambda: "precious" in bob.texts())
