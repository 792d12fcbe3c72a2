"""The official, unmodified libsignal client uses the relay over TLS, on both databases: nobody here wrote its half."""

from typing import Any

import pytest

from tests.relays import StartedRelay
from tests.system.official.client import run_script


@pytest.fixture
async def seen(tls_relay: StartedRelay) -> dict[str, Any]:
    """What the official client saw."""
    return await run_script("conversation.mjs", tls_relay)


async def test_the_official_client_registers_talks_and_acknowledges(seen: dict[str, Any]) -> None:
    registration = seen["registration"]
    assert registration == {
        "wrongCode": False,
        "verified": True,
        "number": "+4915550000101",
        "reregistration": False,
        "pni": True,
        "differentAccounts": True,
    }

    # Keys: ten of each kind, the oldest handed out first and once, only with the access key.
    assert seen["upload"] == {"status": 204, "counts": {"count": 10, "pqCount": 10}}
    assert seen["bundles"] == [{"device": 1, "oneTime": 100, "kyber": 100, "signed": 2}]
    assert seen["identityMatches"]
    assert seen["countsAfterFetch"] == {"count": 9, "pqCount": 9}
    assert seen["wrongAccessKey"] == seen["unknownAccount"] == "RequestUnauthorized"

    # Messages, with and without the sender on the envelope.
    assert seen["queueEmpty"]
    assert (seen["first"]["text"], seen["first"]["fromAlice"], seen["first"]["type"]) == ("hello bob", True, 3)
    assert (seen["reply"]["text"], seen["reply"]["fromBob"]) == ("hello alice", True)
    assert seen["certificateValid"]
    assert seen["sealedWrongKey"] == "RequestUnauthorized"
    sealed = seen["sealed"]
    assert (sealed["text"], sealed["fromAlice"], sealed["type"]) == ("hello under the rose", True, 6)
    assert not sealed["hasSource"]

    # Device matching, as the client's typed errors report it.
    assert seen["stale"] == [{"missing": [], "extra": [], "stale": [1]}]
    assert seen["mismatched"] == [{"missing": [1], "extra": [2], "stale": []}]

    # Delivery: at least once, in order, until acknowledged.
    assert seen["unacknowledged"] == 3
    assert seen["redelivered"] == ["one", "two", "three"]
    assert seen["afterAcknowledgement"] == 0

    assert set(seen["receipts"]) == {1}  # of the unsealed messages that Bob acknowledged
    assert len(seen["receipts"]) >= 4

    assert seen["wrongPassword"] == "IoError"
    assert seen["unknownPath"] == 404
    assert seen["displaced"] == "ConnectedElsewhere"
