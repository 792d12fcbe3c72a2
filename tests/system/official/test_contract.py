"""The official client through the rest of the contract, on both databases: typed calls, and its tunnel where it has none."""

from tests.relays import StartedRelay
from tests.system.official.client import run_script


async def test_the_official_client_finds_the_whole_contract(tls_relay: StartedRelay) -> None:
    seen = await run_script("contract.mjs", tls_relay)

    # The account.
    assert seen["whoami"]
    assert (seen["attributes"], seen["lock"], seen["unlock"]) == (204, 204, 204)
    assert seen["report"] == {"devices": 1, "text": True}
    assert seen["exists"] == [True, False]

    # Devices.
    assert (seen["provisioning"], seen["provisioned"]) == (204, "come in")
    assert seen["linked"] == {"status": 200, "device": 2}
    assert seen["waited"] == {"id": 2, "registrationId": 4242}
    assert (seen["name"], seen["devices"], seen["bundles"]) == (204, [1, 2], [1, 2])
    assert seen["sync"] == 1
    assert (seen["removed"], seen["revoked"]) == (204, "ConnectionInvalidated")

    # Usernames.
    assert seen["reserved"]
    assert seen["username"]
    assert seen["noUsername"] is None
    assert seen["link"]
    assert (seen["released"], seen["gone"]) == (204, None)

    # Profiles.
    assert (seen["profile"], seen["profileName"]) == (200, 81)
    assert seen["capabilities"] == {"spqr": True}
    assert seen["batch"] == 1

    # Attachments.
    assert seen["form"] == {"cdn": 3, "hasKey": True}
    assert seen["attachment"] == [201, 204, 206, 0]
    assert seen["tooLarge"] == "UploadTooLarge"

    # Sealed, stories, many.
    assert seen["sealed"] == "sealed"
    assert seen["unrestricted"] == "RequestUnauthorized"
    assert seen["storyAccepted"] == "accepted"
    assert seen["many"] == 0
    assert seen["manyByKey"] == [200, {"uuids404": []}]
    assert seen["manyOpened"] == "to many"
    assert seen["manyRefused"] == 401

    # The rest.
    assert seen["keysCheck"] == 409
    assert seen["config"] == {}
    assert seen["limits"]
    assert seen["spam"] == 202
    assert seen["deleted"] == 204
    assert seen["existsAfter"] is False
