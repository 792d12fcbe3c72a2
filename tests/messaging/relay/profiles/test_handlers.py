"""Profiles: set by version, fetched by who may, with avatars; and checks of identity keys."""

import hmac
import secrets
from hashlib import sha256
from typing import Any
from uuid import uuid4

from messaging.relay.app import now_milliseconds
from messaging.relay.database import normalise_url, open_database
from messaging.relay.delivery.sweep import Sweep
from messaging.relay.limits import Bucket, Limit
from messaging.wire.json import encode_base64
from messaging.wire.limits import MAX_IDENTITY_CHECKS, MAX_PROFILE_VERSIONS
from tests.bots import register_bot
from tests.devices import Device, MakePeer, NewDevice, Peer, Reply
from tests.relays import UNLIMITED, Relays, StartedRelay

BATCH = "/v1/profile/identity_check/batch"


def a_version() -> str:
    return secrets.token_hex(32)


def profile(version: str, **more: Any) -> dict[str, Any]:
    sizes = {"commitment": 97, "name": 81, "about": 156, "aboutEmoji": 60, "phoneNumberSharing": 29}
    return {"version": version, **{name: encode_base64(b"c" * size) for name, size in sizes.items()}, **more}


def access(device: Device) -> dict[str, str]:
    return {"Unidentified-Access-Key": encode_base64(device.known.access_key)}


async def test_a_version_is_set_and_fetched_by_who_may(alice: Device, bob: Device) -> None:
    version = a_version()
    assert (await alice.call("PUT", "/v1/profile", profile(version))).body == b""
    path = f"/v1/profile/{alice.aci}/{version}"
    found = (await bob.call("GET", path)).json()
    checksum = hmac.digest(alice.known.access_key, bytes(32), sha256)
    assert found == {
        "identityKey": encode_base64(alice.known.identity.public),
        "unidentifiedAccess": encode_base64(checksum),
        "unrestrictedUnidentifiedAccess": False,
        "capabilities": {"spqr": False},
        "badges": [],
        "uuid": str(alice.aci),
        "name": encode_base64(b"c" * 81),
        "about": encode_base64(b"c" * 156),
        "aboutEmoji": encode_base64(b"c" * 60),
        "phoneNumberSharing": encode_base64(b"c" * 29),
    }
    assert (await bob.peer.call("GET", path, headers=access(alice))).json() == found
    assert (await bob.peer.call("GET", path, headers=access(bob))).status == 401
    assert (await bob.peer.call("GET", path.replace(str(alice.aci), str(uuid4())), headers=access(bob))).status == 401
    assert (await bob.call("GET", f"/v1/profile/{uuid4()}")).status == 404
    assert "name" not in (await bob.call("GET", f"/v1/profile/{alice.aci}/{a_version()}")).json()
    for odd in ("%00", "%F0%28", version + "0", "x"):
        assert "name" not in (await bob.call("GET", f"/v1/profile/{alice.aci}/{odd}")).json()
    by_number = (await bob.call("GET", f"/v1/profile/{alice.pni}")).json()
    assert by_number["identityKey"] == encode_base64(alice.known.pni_identity.public)
    assert "unidentifiedAccess" not in by_number


async def upload(device: Device, form: dict[str, Any], content: bytes) -> Reply:
    more = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(content)),
        "Content-Type": "application/offset+octet-stream",
    }
    return await device.peer.call("POST", "/upload/attachments", content, {**form["headers"], **more})


async def shown(device: Device, version: str) -> str | None:
    avatar: str | None = (await device.call("GET", f"/v1/profile/{device.aci}/{version}")).json().get("avatar")
    return avatar


async def test_an_avatar_is_kept_changed_and_removed(relay: StartedRelay, alice: Device) -> None:
    version = a_version()

    async def put(**more: Any) -> Reply:
        return await alice.call("PUT", "/v1/profile", profile(version, **more))

    first = (await put(avatar=True)).json()
    assert (await upload(alice, first, b"face")).status == 201
    assert await shown(alice, version) == first["key"]
    assert (await alice.peer.call("GET", f"/attachments/{first['key']}")).body == b"face"
    assert (await put(avatar=True, sameAvatar=True)).body == b""
    assert await shown(alice, version) == first["key"]
    second = (await put(avatar=True)).json()
    assert await shown(alice, version) == second["key"]
    database = open_database(normalise_url(relay.settings.database_url))
    await Sweep(database, now_milliseconds).sweep()
    await database.close()
    assert (await alice.peer.call("GET", f"/attachments/{first['key']}")).status == 404  # nobody shows it
    assert (await put(avatar=False)).body == b""
    assert await shown(alice, version) is None


async def test_only_so_many_versions_are_kept(relays: Relays, peer_of: MakePeer) -> None:
    alice = await peer_of(await relays.start("sqlite")).register()
    versions = [a_version() for _ in range(MAX_PROFILE_VERSIONS + 1)]
    for version in versions:
        assert await alice.set("PUT", "/v1/profile", profile(version)) == 200
    found = ["name" in (await alice.call("GET", f"/v1/profile/{alice.aci}/{version}")).json() for version in versions]
    assert found == [False] + [True] * MAX_PROFILE_VERSIONS


async def test_a_new_registration_has_no_profile(alice: Device, bob: Device) -> None:
    version = a_version()
    await alice.set("PUT", "/v1/profile", profile(version))
    await alice.peer.register(NewDevice(number=alice.known.number))
    assert "name" not in (await bob.call("GET", f"/v1/profile/{alice.aci}/{version}")).json()


async def test_shapes_are_checked(alice: Device) -> None:
    for bad in (
        {"version": "ab"},
        {"version": "g" * 64},
        {"name": encode_base64(bytes(80))},
        {"about": encode_base64(bytes(155))},
        {"commitment": encode_base64(bytes(96))},
        {"commitment": None},
    ):
        assert await alice.set("PUT", "/v1/profile", {**profile(a_version()), **bad}) == 422
    assert await alice.set("GET", f"/v1/profile/{alice.aci}/{a_version()}/00?credentialType=expiringProfileKey") == 404


async def test_changed_identity_keys_are_told_and_nothing_of_strangers(alice: Device, bob: Device) -> None:
    def check(uuid: object, key: bytes) -> dict[str, str]:
        return {"uuid": str(uuid), "fingerprint": encode_base64(sha256(key).digest()[:4])}

    elements = [
        check(alice.aci, alice.known.identity.public),
        check(alice.pni, b"another"),
        check(bob.aci, b"another"),
        check(uuid4(), b"another"),
        check("nonsense", b"another"),
    ]
    reply = await alice.peer.call("POST", BATCH, {"elements": elements})
    assert {each["uuid"]: each["identityKey"] for each in reply.json()["elements"]} == {
        str(alice.pni): encode_base64(alice.known.pni_identity.public),
        str(bob.aci): encode_base64(bob.known.identity.public),
    }
    most = [check(uuid4(), b"") for _ in range(MAX_IDENTITY_CHECKS)]
    assert (await alice.peer.call("POST", BATCH, {"elements": most})).status == 200
    assert (await alice.peer.call("POST", BATCH, {"elements": [*most, elements[0]]})).status == 422


async def test_fetches_are_limited(relays: Relays, peer_of: MakePeer) -> None:
    limits = {**UNLIMITED, Limit.PROFILE: Bucket(2, 60)}
    alice = await peer_of(await relays.start("sqlite", limits=limits)).register()
    assert [await alice.set("GET", f"/v1/profile/{alice.aci}") for _ in range(3)] == [200, 200, 429]


async def test_whoever_may_fetch_a_profile_sees_who_is_a_bot(peer: Peer, alice: Device, bob: Device) -> None:
    bot, version = await register_bot(peer), a_version()
    for device in (bot, alice):
        assert await device.set("PUT", "/v1/profile", profile(version)) == 200
    for device, mark in ((bot, True), (alice, "not said")):
        for path in (f"/v1/profile/{device.aci}", f"/v1/profile/{device.aci}/{version}"):
            for headers in (access(device), bob.authorization):
                found = (await peer.call("GET", path, headers=headers)).json()
                assert found.get("bot", "not said") == mark
                assert ("name" in found) == path.endswith(version)
        assert (await bob.call("GET", f"/v1/profile/{device.pni}")).json().get("bot", "not said") == mark
