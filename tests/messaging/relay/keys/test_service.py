"""A device that was replaced after it authenticated: notices are hints, so the database must refuse it."""

from pathlib import Path

import pytest

from messaging.relay.accounts.tables import find_credentials
from messaging.relay.database import normalise_url, open_database
from messaging.relay.delivery.wakeups import LocalWakeups
from messaging.relay.errors import NotAuthenticated
from messaging.relay.keys.generation import open_generation
from messaging.relay.keys.service import KeyService
from messaging.wire.identifiers import IdentityKind
from messaging.wire.keys import SetKeysRequest
from tests.devices import Device, NewDevice, one_time_prekey
from tests.relays import StartedRelay, unlimited


async def test_a_device_that_was_replaced_cannot_put_its_keys_in_the_place_of_the_new_ones(
    relay: StartedRelay, alice: Device, tmp_path: Path
) -> None:
    database = open_database(normalise_url(relay.settings.database_url))
    keys = SetKeysRequest(pre_keys=(one_time_prekey(9),))
    async with database.read() as db:
        before = await find_credentials(db, alice.aci.uuid, 1)
    assert before is not None
    async with open_generation(database, tmp_path / "generation") as generation:
        service = KeyService(database, unlimited(), LocalWakeups(), generation)
        await service.upload(keys, before.caller, IdentityKind.ACI)
        again = await alice.peer.register(NewDevice(number=alice.known.number))
        with pytest.raises(NotAuthenticated):
            await service.upload(keys, before.caller, IdentityKind.ACI)
    assert (await again.call("GET", "/v2/keys")).json() == {"count": 0, "pqCount": 0}
    await database.close()
