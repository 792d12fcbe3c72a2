"""What an account sees and changes of itself: attributes, locks, its report, its end."""

import base64
import json
from typing import Any

import pytest

from messaging.relay.accounts.authentication import DAY, day_of
from messaging.relay.accounts.locks import LOCK_LIFETIME, check_lock, lock_columns
from messaging.relay.accounts.passwords import PasswordHash
from messaging.relay.accounts.tables import AccountDetails
from messaging.relay.errors import RegistrationLocked
from tests.bots import register_bot
from tests.devices import Device, MakePeer, NewDevice, Peer, basic, message_for
from tests.relays import Relays

LOCK = "0123456789abcdef" * 4


def attributes(device: Device, **more: Any) -> dict[str, Any]:
    return {
        "fetchesMessages": True,
        "registrationId": device.known.registration_id,
        "pniRegistrationId": device.known.registration_id,
        "unidentifiedAccessKey": base64.b64encode(device.known.access_key).decode(),
        "capabilities": {},
        **more,
    }


async def register(peer: Peer, known: NewDevice, *, session: str | None = None, **more: Any) -> tuple[int, Any]:
    """Try to register; ``more`` are members of the account's attributes, ``recovery`` is the recovery password."""
    recovery = more.pop("recovery", None)
    body = json.loads(known.registration(session or "").to_json())
    if session is None:
        del body["sessionId"]
    if recovery is not None:
        body["recoveryPassword"] = base64.b64encode(recovery).decode()
    body["accountAttributes"] |= more
    authorization = {"Authorization": basic(known.number, known.password)}
    reply = await peer.call("POST", "/v1/registration", body, authorization)
    return reply.status, reply.json() if reply.body else None


async def test_attributes_are_replaced(alice: Device, bob: Device) -> None:
    new_key = b"another key 16 b"
    changed = attributes(alice, unidentifiedAccessKey=base64.b64encode(new_key).decode(), registrationId=77)
    assert await alice.set("PUT", "/v1/accounts/attributes/", changed) == 204
    body = message_for(alice, b"sealed").replace(str(alice.known.registration_id).encode(), b"77")

    def sealed(key: bytes) -> dict[str, str]:
        return {"Unidentified-Access-Key": base64.b64encode(key).decode()}

    path = f"/v1/messages/{alice.aci}"
    assert (await bob.peer.call("PUT", path, body, sealed(alice.known.access_key))).status == 401
    assert (await bob.peer.call("PUT", path, body, sealed(new_key))).status == 200
    assert await alice.set("PUT", "/v1/accounts/attributes", attributes(alice, registrationId=0)) == 422


async def test_a_lock_keeps_a_verified_number_from_being_registered(alice: Device) -> None:
    assert await alice.set("PUT", "/v1/accounts/registration_lock", {"registrationLock": LOCK}) == 204
    again = NewDevice(number=alice.known.number)
    session = await alice.peer.verified_session(again.number)
    status, body = await register(alice.peer, again, session=session)
    assert status == 423
    assert LOCK_LIFETIME - DAY <= body["timeRemaining"] <= LOCK_LIFETIME
    assert (await register(alice.peer, again, session=session, registrationLock=LOCK[:-1] + "0"))[0] == 423
    assert await alice.set("GET", "/v1/accounts/whoami") == 200  # nothing has changed
    assert (await register(alice.peer, again, session=session, registrationLock=LOCK.upper()))[0] == 200


async def test_a_lock_is_removed_and_belongs_to_the_primary_device(alice: Device) -> None:
    laptop = await alice.link()
    assert await laptop.set("PUT", "/v1/accounts/registration_lock", {"registrationLock": LOCK}) == 401
    assert await alice.set("PUT", "/v1/accounts/registration_lock", {"registrationLock": LOCK}) == 204
    for bad in (LOCK[1:], LOCK + "0", LOCK[1:] + "g", ""):
        assert await alice.set("PUT", "/v1/accounts/registration_lock", {"registrationLock": bad}) == 422
    assert await alice.set("DELETE", "/v1/accounts/registration_lock") == 204
    again = NewDevice(number=alice.known.number)
    assert (await register(alice.peer, again, session=await alice.peer.verified_session(again.number)))[0] == 200


def test_a_lock_opens_a_week_after_the_account_was_last_seen() -> None:
    columns = lock_columns(LOCK)
    locked = PasswordHash(columns["lock_salt"], columns["lock_hash"])
    details = AccountDetails(0, "member", True, False, locked, None, seen_on=1000)
    check_lock(details, LOCK, now=1000)
    for given in (None, "", "f" * 64):
        with pytest.raises(RegistrationLocked) as caught:
            check_lock(details, given, now=1000 + LOCK_LIFETIME - 1)
        assert caught.value.time_remaining == 1
        check_lock(details, given, now=1000 + LOCK_LIFETIME)


async def test_a_recovery_password_registers_without_a_code(alice: Device) -> None:
    recovery = base64.b64encode(b"r" * 32).decode()
    assert await alice.set("PUT", "/v1/accounts/attributes", attributes(alice, recoveryPassword=recovery)) == 204
    again = NewDevice(number=alice.known.number)
    assert (await register(alice.peer, again, recovery=b"s" * 32))[0] == 403
    assert (await register(alice.peer, NewDevice(), recovery=b"r" * 32))[0] == 403  # a number without an account
    status, body = await register(alice.peer, again, recovery=b"r" * 32)
    assert (status, body["uuid"], body["reregistration"]) == (200, str(alice.aci), True)
    assert (await register(alice.peer, again, recovery=b"r" * 32))[0] == 403  # this registration set none


async def test_a_deleted_account_is_gone_and_its_number_keeps_its_ids(alice: Device, bob: Device) -> None:
    laptop = await alice.link()
    assert await laptop.set("DELETE", "/v1/accounts/me") == 401
    async with laptop.socket() as socket:
        await socket.queue_empty()
        assert await alice.set("DELETE", "/v1/accounts/me") == 204
        assert await socket.close_code() == 4401
    assert (await bob.send(alice, b"hello?")).status == 404
    assert await alice.set("GET", "/v1/accounts/whoami") == 401
    again = await alice.peer.register(NewDevice(number=alice.known.number))
    assert (again.aci, again.pni) == (alice.aci, alice.pni)


async def test_the_report_says_everything_and_no_number(alice: Device, bob: Device) -> None:
    await alice.link()
    await alice.set("PUT", "/v1/accounts/registration_lock", {"registrationLock": LOCK})
    await alice.set("PUT", "/v2/accounts/phone_number_discoverability", {"discoverableByPhoneNumber": False})
    await bob.send(alice, b"refused: the laptop is missing")
    reply = await alice.call("GET", "/v2/accounts/data_report")
    report = reply.json()
    assert report["data"]["account"] == {
        "aci": str(alice.aci),
        "pni": str(alice.pni).removeprefix("PNI:"),
        "created": report["reportTimestamp"][:10],
        "role": "member",
        "phoneNumberKeptAsHash": True,
        "findAccountByPhoneNumber": False,
        "allowSealedSenderFromAnyone": False,
        "registrationLock": True,
        "recoveryPassword": False,
    }
    assert [device["id"] for device in report["data"]["devices"]] == [1, 2]
    assert [device["envelopesWaiting"] for device in report["data"]["devices"]] == [0, 0]
    assert "Registration lock: yes" in report["text"]
    assert alice.known.number.encode() not in reply.body


async def test_the_report_of_a_bot_says_that_it_is_one(peer: Peer) -> None:
    report = (await (await register_bot(peer)).call("GET", "/v2/accounts/data_report")).json()
    assert report["data"]["account"]["role"] == "bot"
    assert "\nRole: bot\n" in report["text"]


async def test_a_device_is_seen_on_a_day_not_at_a_time(relays: Relays, peer_of: MakePeer) -> None:
    alice = await peer_of(await relays.start("sqlite")).register()
    [device] = (await alice.call("GET", "/v1/devices")).json()["devices"]
    assert device["lastSeen"] % DAY == device["created"] % DAY == 0
    assert day_of(DAY - 1) == 0
    assert day_of(DAY) == DAY
