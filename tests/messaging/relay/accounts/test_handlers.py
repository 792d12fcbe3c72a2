"""Verification, registration and who one is, over HTTP."""

import asyncio

import pytest

from messaging.relay.limits import Bucket, Limit
from messaging.wire.accounts import AccountCreationResponse, RegistrationRequest
from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.json import decode_base64
from messaging.wire.keys import SetKeysRequest, prekeys_path
from messaging.wire.limits import MAX_BODY, MAX_CLIENT_NAME, MAX_VERIFICATION_CODE
from signal_protocol.public.certificates import verify_sender_certificate
from tests.devices import (
    Device,
    MakePeer,
    NewDevice,
    Peer,
    a_number,
    basic,
    one_time_prekey,
    signed_prekey,
)
from tests.relays import UNLIMITED, Relays

SESSIONS = "/v1/verification/session"
NEW_SESSION = {
    "nextSms": 0,
    "nextCall": 0,
    "allowedToRequestCode": True,
    "requestedInformation": [],
    "verified": False,
}
SMS = {"transport": "sms", "client": "test"}


async def test_a_number_is_verified_by_the_code_it_gets(peer: Peer) -> None:
    number = a_number()
    created = (await peer.call("POST", SESSIONS, {"number": number, "pushTokenType": "fcm", "pushToken": "x"})).json()
    path = f"{SESSIONS}/{created.pop('id')}"
    assert created == NEW_SESSION
    assert (await peer.call("PATCH", path, {"captcha": "x"})).json()["allowedToRequestCode"] is True

    requested = (await peer.call("POST", f"{path}/code", SMS)).json()
    assert (requested["nextVerificationAttempt"], requested["nextSms"]) == (0, 60)
    code = peer.relay.last_code(number)
    assert len(code) == 6

    wrong = await peer.call("PUT", f"{path}/code", {"code": f"{(int(code) + 1) % 10**6:06}"})
    assert (wrong.status, wrong.json()["verified"]) == (200, False)
    right = await peer.call("PUT", f"{path}/code", {"code": code})
    assert (right.status, right.json()["verified"]) == (200, True)
    assert (await peer.call("GET", path)).json()["verified"] is True


async def test_a_session_in_another_state_says_which(peer: Peer) -> None:
    created = (await peer.call("POST", SESSIONS, {"number": a_number()})).json()
    path = f"{SESSIONS}/{created['id']}/code"
    too_early = await peer.call("PUT", path, {"code": "123456"})
    assert (too_early.status, too_early.json()["verified"]) == (409, False)
    await peer.call("POST", path, SMS)
    too_soon = await peer.call("POST", path, SMS)
    assert (too_soon.status, too_soon.headers["retry-after"]) == (429, "60")
    assert too_soon.json()["id"] == created["id"]

    verified = await peer.verified_session(a_number())
    for verb, body in (("POST", SMS), ("PUT", {"code": "123456"})):
        refused = await peer.call(verb, f"{SESSIONS}/{verified}/code", body)
        assert (refused.status, refused.json()["verified"]) == (409, True)


async def test_guessing_ends_after_five_attempts(peer: Peer) -> None:
    number = a_number()
    path = f"{SESSIONS}/{(await peer.call('POST', SESSIONS, {'number': number})).json()['id']}/code"
    await peer.call("POST", path, SMS)
    wrong = {"code": f"{(int(peer.relay.last_code(number)) + 1) % 10**6:06}"}
    statuses = [(await peer.call("PUT", path, wrong)).status for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    assert (await peer.call("PUT", path, {"code": peer.relay.last_code(number)})).status == 429


async def test_unknown_sessions_are_not_found_and_malformed_ones_refused(peer: Peer) -> None:
    for verb, path, body in (
        ("GET", f"{SESSIONS}/{'A' * 43}", None),
        ("PATCH", f"{SESSIONS}/{'A' * 43}", {}),
        ("POST", f"{SESSIONS}/{'A' * 43}/code", SMS),
        ("PUT", f"{SESSIONS}/{'A' * 43}/code", {"code": "1"}),
    ):
        assert (await peer.call(verb, path, body)).status == 404
        assert (await peer.call(verb, path.replace("A", "~"), body)).status == 422


async def test_what_is_no_number_is_refused_and_not_repeated(peer: Peer) -> None:
    refused = await peer.call("POST", SESSIONS, {"number": "CANARY"})
    assert (refused.status, refused.json()) == (422, {"code": "invalid", "fields": ["number"]})
    assert (await peer.call("POST", SESSIONS, b"{")).status == 400
    assert (await peer.call("POST", SESSIONS, b"x" * (MAX_BODY + 1))).status == 413


async def test_sessions_are_limited_for_each_number(relays: Relays, backend: str, peer_of: MakePeer) -> None:
    limits = {**UNLIMITED, Limit.VERIFICATION_SESSION: Bucket(1, 100)}
    peer, number = peer_of(await relays.start(backend, limits=limits)), a_number()
    assert (await peer.call("POST", SESSIONS, {"number": number})).status == 200
    limited = await peer.call("POST", SESSIONS, {"number": number})
    assert (limited.status, limited.headers["retry-after"]) == (429, "100")
    assert (await peer.call("POST", SESSIONS, {"number": a_number()})).status == 200


async def test_what_a_client_says_of_itself_is_bounded(peer: Peer) -> None:
    path = f"{SESSIONS}/{(await peer.call('POST', SESSIONS, {'number': a_number()})).json()['id']}/code"
    too_long = await peer.call("POST", path, {**SMS, "client": "x" * (MAX_CLIENT_NAME + 1)})
    assert (too_long.status, too_long.json()["fields"]) == (422, ["client"])
    assert (await peer.call("POST", path, {**SMS, "client": "x" * MAX_CLIENT_NAME})).status == 200
    for size, status in ((0, 422), (1, 200), (MAX_VERIFICATION_CODE, 200), (MAX_VERIFICATION_CODE + 1, 422)):
        assert (await peer.call("PUT", path, {"code": "x" * size})).status == status


async def test_a_code_that_cannot_be_delivered_is_said_to_be(relays: Relays, peer_of: MakePeer) -> None:
    relay = await relays.start("sqlite", verification="file:/nowhere/codes")
    peer = peer_of(relay)
    path = f"{SESSIONS}/{(await peer.call('POST', SESSIONS, {'number': a_number()})).json()['id']}/code"
    for _ in range(2):  # the second need not wait
        failed = await peer.call("POST", path, SMS)
        assert failed.status == 440
        assert failed.json() == {"reason": "providerUnavailable", "permanentFailure": False}


async def test_a_registration_makes_an_account(peer: Peer) -> None:
    known = NewDevice()
    request = known.registration(await peer.verified_session(known.number))
    headers = {"Authorization": basic(known.number, known.password)}
    created = (await peer.call("POST", "/v1/registration", request.to_json(), headers)).json()
    assert (created["number"], created["reregistration"]) == (known.number, False)
    device = {"Authorization": basic(f"{created['uuid']}.1", known.password)}
    whoami = (await peer.call("GET", "/v1/accounts/whoami", headers=device)).json()
    assert whoami == {"uuid": created["uuid"], "pni": created["pni"], "storageCapable": False}
    without_id = {"Authorization": basic(created["uuid"], known.password)}
    assert (await peer.call("GET", "/v1/accounts/whoami", headers=without_id)).status == 200


async def test_wrong_credentials_are_refused(alice: Device) -> None:
    wrong = [
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": basic(str(alice.address), alice.known.password + "x")},
        {"Authorization": basic(f"{alice.aci}.2", alice.known.password)},
        {"Authorization": basic(str(alice.pni), alice.known.password)},
        {"Authorization": basic("nobody", alice.known.password)},
    ]
    for headers in wrong:
        refused = await alice.peer.call("GET", "/v1/accounts/whoami", headers=headers)
        assert (refused.status, refused.body) == (401, b"")
        assert refused.headers["www-authenticate"].startswith("Basic")


async def test_a_registration_needs_a_verified_session_of_its_number(peer: Peer) -> None:
    known = NewDevice()

    async def register(request: RegistrationRequest, username: str = known.number) -> int:
        headers = {"Authorization": basic(username, known.password)}
        return (await peer.call("POST", "/v1/registration", request.to_json(), headers)).status

    unverified = (await peer.call("POST", SESSIONS, {"number": known.number})).json()["id"]
    others = await peer.verified_session(a_number())
    assert await register(known.registration(unverified)) == 401
    assert await register(known.registration("A" * 43)) == 401
    assert await register(known.registration(others)) == 400
    assert await register(known.registration("")) == 422
    verified = known.registration(await peer.verified_session(known.number))
    assert await register(verified, "not a number") == 422
    assert await register(verified.model_copy(update={"recovery_password": b"r" * 32})) == 422  # both proofs at once
    unknown = known.registration("").model_copy(update={"session_id": None, "recovery_password": b"r" * 32})
    assert await register(unknown) == 403
    assert (await peer.call("POST", "/v1/registration", verified.to_json())).status == 401
    assert await register(verified) == 200


@pytest.mark.parametrize(
    "member", ["aci_signed_pre_key", "pni_signed_pre_key", "aci_pq_last_resort_pre_key", "pni_pq_last_resort_pre_key"]
)
async def test_each_prekey_must_be_signed_by_its_identity(relays: Relays, peer_of: MakePeer, member: str) -> None:
    peer, known, forger = peer_of(await relays.start("sqlite")), NewDevice(), NewDevice()
    request = known.registration(await peer.verified_session(known.number))
    forged = request.model_copy(update={member: getattr(forger.registration(""), member)})
    headers = {"Authorization": basic(known.number, known.password)}
    refused = await peer.call("POST", "/v1/registration", forged.to_json(), headers)
    assert (refused.status, refused.json()) == (422, {"code": "invalid_signature"})
    assert (await peer.call("POST", "/v1/registration", request.to_json(), headers)).json()["reregistration"] is False


async def test_registering_again_keeps_the_account_and_replaces_all_else(alice: Device, bob: Device) -> None:
    await alice.upload(SetKeysRequest(pre_keys=(one_time_prekey(1),)))
    await bob.send(alice, b"for the old device")
    async with alice.socket() as old:
        await old.envelope()
        again = await alice.peer.register(NewDevice(number=alice.known.number))
        async with asyncio.timeout(3):  # well before the watch would see it
            assert await old.close_code() == 4401
    assert (again.aci, again.pni) == (alice.aci, alice.pni)
    assert (await alice.call("GET", "/v1/accounts/whoami")).status == 401
    assert (await bob.send(alice, b"to the old registration")).status == 410
    bundle = (await bob.call("GET", prekeys_path(again.aci))).json()
    assert decode_base64(bundle["identityKey"]) == again.known.identity.public
    assert "preKey" not in bundle["devices"][0]
    async with again.socket() as new:
        await new.queue_empty()


async def test_of_registrations_at_once_one_stands_and_all_are_of_one_account(peer: Peer) -> None:
    number = a_number()
    session = await peer.verified_session(number)
    devices = [NewDevice(number=number) for _ in range(5)]

    async def register(known: NewDevice) -> AccountCreationResponse:
        headers = {"Authorization": basic(number, known.password)}
        reply = await peer.call("POST", "/v1/registration", known.registration(session).to_json(), headers)
        return AccountCreationResponse.from_json(reply.body)

    created = await asyncio.gather(*map(register, devices))
    [aci] = {found.uuid for found in created}
    assert sorted(found.reregistration for found in created) == [False, True, True, True, True]
    statuses = [
        (
            await peer.call("GET", "/v1/accounts/whoami", headers={"Authorization": basic(str(aci), each.password)})
        ).status
        for each in devices
    ]
    assert sorted(statuses) == [200, 401, 401, 401, 401]


async def test_a_delivery_certificate_leads_to_the_root_in_server_info(alice: Device) -> None:
    info = (await alice.peer.call("GET", "/v1/server-info")).json()
    answer = (await alice.call("GET", "/v1/certificate/delivery?includeE164=false")).json()
    root = decode_base64(info["trustRoot"])
    certificate = decode_base64(answer["certificate"])
    now = int((await alice.call("GET", "/v1/keepalive")).headers["x-signal-timestamp"])
    found = verify_sender_certificate(certificate, trust_roots=[root], now=now)
    assert (str(found.sender), found.device_id) == (str(alice.aci), 1)
    assert found.identity_key == alice.known.identity.public


async def test_the_pni_has_an_identity_of_its_own(alice: Device, bob: Device) -> None:
    assert isinstance(alice.pni, ServiceId)
    assert alice.pni.kind is IdentityKind.PNI
    bundle = (await bob.call("GET", prekeys_path(alice.pni, 1))).json()
    assert decode_base64(bundle["identityKey"]) == alice.known.pni_identity.public


async def test_a_signed_prekey_can_be_replaced_alone(alice: Device, bob: Device) -> None:
    fresh = signed_prekey(alice.known.identity, 77)
    assert (await alice.call("PUT", "/v2/keys/signed", fresh.to_json())).status == 204
    bundle = (await bob.call("GET", prekeys_path(alice.aci))).json()
    assert bundle["devices"][0]["signedPreKey"]["keyId"] == 77
