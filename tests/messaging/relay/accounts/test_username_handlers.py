"""Usernames as hashes: reserved, confirmed, found, released; and whether an account exists."""

import asyncio
import secrets
from typing import Any
from uuid import uuid4

import pytest

from messaging.relay.accounts.tables import insert_account
from messaging.relay.accounts.usernames import HELD, RESERVED, UsernameService
from messaging.relay.database import Database
from messaging.relay.errors import Conflict
from messaging.relay.http import Caller
from messaging.wire.identifiers import ServiceId
from messaging.wire.json import encode_base64url
from messaging.wire.limits import MAX_ENCRYPTED_USERNAME, MAX_USERNAME_HASHES
from tests.devices import Device, NewDevice, Reply
from tests.relays import unlimited

HASH, LINK = "/v1/accounts/username_hash", "/v1/accounts/username_link"
PROOF = encode_base64url(bytes(128))


def a_hash() -> str:
    return encode_base64url(secrets.token_bytes(32))


async def reserve(device: Device, *hashes: str) -> Reply:
    return await device.call("PUT", f"{HASH}/reserve", {"usernameHashes": list(hashes)})


async def confirm(device: Device, name: str, **more: Any) -> Reply:
    return await device.call("PUT", f"{HASH}/confirm", {"usernameHash": name, "zkProof": PROOF, **more})


async def has(device: Device, name: str, **more: Any) -> dict[str, Any]:
    assert (await reserve(device, name)).status == 200
    confirmed = await confirm(device, name, **more)
    assert confirmed.status == 200
    return confirmed.json()


async def owner(device: Device, name: str) -> str | None:
    reply = await device.peer.call("GET", f"{HASH}/{name}")
    return reply.json()["uuid"] if reply.status == 200 else None


async def test_the_first_free_hash_is_reserved_confirmed_and_found(alice: Device, bob: Device) -> None:
    taken, free = a_hash(), a_hash()
    await has(bob, taken)
    assert (await reserve(alice, taken, free)).json() == {"usernameHash": free}
    assert await owner(alice, free) is None  # reserved is not confirmed
    assert (await confirm(alice, free)).json() == {"usernameHash": free}
    assert await owner(bob, free) == str(alice.aci)
    assert (await reserve(alice, taken)).status == 409
    assert (await confirm(alice, taken)).status == 410
    assert (await confirm(alice, a_hash())).status == 409


async def test_of_many_who_want_one_hash_one_gets_it(alice: Device, bob: Device) -> None:
    for _ in range(5):
        name = a_hash()
        replies = await asyncio.gather(*(reserve(device, name) for device in (alice, bob)))
        assert sorted(reply.status for reply in replies) == [200, 409]


async def test_a_new_username_releases_the_old_one_for_its_owner(alice: Device, bob: Device) -> None:
    first, second = a_hash(), a_hash()
    await has(alice, first)
    await has(alice, second)
    assert (await owner(bob, first), await owner(bob, second)) == (None, str(alice.aci))
    assert (await reserve(bob, first)).status == 409  # held
    assert await alice.set("DELETE", HASH) == 204
    assert await owner(bob, second) is None
    await has(alice, first)
    assert await owner(bob, first) == str(alice.aci)


async def test_a_reservation_lasts_minutes_and_a_release_a_week(database: Database) -> None:
    now = [0]
    service = UsernameService(database, unlimited(), lambda: now[0])
    people = [await account(database) for _ in range(2)]
    name = secrets.token_bytes(32)
    await service.reserve(people[0], [name])
    now[0] = RESERVED - 1
    with pytest.raises(Conflict):
        await service.reserve(people[1], [name])
    now[0] = RESERVED
    with pytest.raises(Conflict):
        await service.confirm(people[0], name, None)
    assert await service.reserve(people[1], [name]) == name
    await service.confirm(people[1], name, None)
    await service.release(people[1])
    now[0] += HELD - 1
    with pytest.raises(Conflict):
        await service.reserve(people[0], [name])
    now[0] += 1
    assert await service.reserve(people[0], [name]) == name


async def account(database: Database) -> Caller:
    aci = uuid4()
    values = {"aci": aci, "aci_identity_key": b"k", "unrestricted_access": False}
    async with database.begin() as db:
        return Caller(await insert_account(db, values), aci, None, 1, 1)


async def test_a_link_gives_the_encrypted_name(alice: Device) -> None:
    secret = encode_base64url(b"s" * MAX_ENCRYPTED_USERNAME)
    assert (await alice.call("PUT", LINK, {"usernameLinkEncryptedValue": secret})).status == 409  # no username
    handle = (await has(alice, a_hash(), encryptedUsername=secret))["usernameLinkHandle"]
    assert (await alice.peer.call("GET", f"{LINK}/{handle}")).json() == {"usernameLinkEncryptedValue": secret}
    other = encode_base64url(b"other")
    kept = await alice.call("PUT", LINK, {"usernameLinkEncryptedValue": other, "keepLinkHandle": True})
    assert kept.json() == {"usernameLinkHandle": handle}
    changed = (await alice.call("PUT", LINK, {"usernameLinkEncryptedValue": other})).json()["usernameLinkHandle"]
    assert changed != handle
    assert (await alice.peer.call("GET", f"{LINK}/{handle}")).status == 404
    assert await alice.set("DELETE", LINK) == 204
    assert (await alice.peer.call("GET", f"{LINK}/{changed}")).status == 404
    too_long = encode_base64url(b"s" * (MAX_ENCRYPTED_USERNAME + 1))
    assert (await alice.call("PUT", LINK, {"usernameLinkEncryptedValue": too_long})).status == 422


async def test_shapes_are_checked(alice: Device) -> None:
    many = [a_hash() for _ in range(MAX_USERNAME_HASHES)]
    assert (await reserve(alice, *many)).status == 200
    assert (await reserve(alice, *many, a_hash())).status == 422
    assert (await reserve(alice)).status == 422
    assert (await reserve(alice, a_hash()[:-2])).status == 422
    for path in (f"{HASH}/short", f"{HASH}/!", f"{LINK}/no-uuid"):
        assert (await alice.peer.call("GET", path)).status == 422
    for path in (f"{HASH}/{a_hash()}", f"{LINK}/{alice.aci}"):
        assert await alice.set("GET", path) == 400  # a look-up must not say who asks


async def test_an_account_exists_for_who_knows_its_id(alice: Device) -> None:
    path = "/v1/accounts/account/"
    known = [str(alice.aci), str(alice.pni)]
    assert [(await alice.peer.call("HEAD", path + each)).status for each in known] == [200, 200]
    stranger = str(ServiceId(alice.aci.uuid).uuid)[:-4] + "0000"
    assert (await alice.peer.call("HEAD", path + stranger)).status == 404
    assert (await alice.peer.call("HEAD", path + "nonsense")).status == 404
    assert await alice.set("HEAD", path + known[0]) == 400


async def test_registering_again_releases_the_username(alice: Device, bob: Device) -> None:
    name = a_hash()
    await has(alice, name)
    again = await alice.peer.register(NewDevice(number=alice.known.number))
    assert await owner(bob, name) is None
    assert (await reserve(bob, name)).status == 409
    await has(again, name)
