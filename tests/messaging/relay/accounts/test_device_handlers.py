"""Linking, listing, naming and removing devices, over HTTP and the provisioning socket."""

import asyncio
import base64

import pytest

from messaging.relay.accounts.linking import TOKEN_LIFETIME, LinkingService, token_identifier
from messaging.relay.errors import Forbidden
from messaging.relay.server_secret import ServerSecret
from messaging.wire import frames
from messaging.wire.limits import MAX_DEVICE_NAME, MAX_DEVICES, MAX_PROVISIONING_MESSAGE
from tests.devices import Device, MakePeer, Peer, Socket, messages_for
from tests.relays import Relays, unlimited

TOKEN = "/v1/devices/provisioning/code"


async def device_ids(device: Device) -> list[int]:
    return [each["id"] for each in (await device.call("GET", "/v1/devices")).json()["devices"]]


async def test_a_linked_device_is_listed_receives_and_sends(alice: Device, bob: Device) -> None:
    laptop = await alice.link()
    assert laptop.device_id == 2
    assert await device_ids(laptop) == [1, 2]
    assert (await bob.call("PUT", f"/v1/messages/{alice.aci}", messages_for(alice, content=b"one"))).json() == {
        "missingDevices": [2],
        "extraDevices": [],
    }
    assert await bob.set("PUT", f"/v1/messages/{alice.aci}", messages_for(alice, laptop, content=b"both")) == 200
    async with laptop.socket() as socket:
        assert await socket.receive(1) == [b"both"]
    sent = await laptop.send(bob, b"from the laptop")
    assert sent.json() == {"needsSync": True}


async def test_a_sync_send_leaves_the_sending_device_out(alice: Device) -> None:
    laptop = await alice.link()
    assert await laptop.set("PUT", f"/v1/messages/{alice.aci}", messages_for(alice)) == 200
    assert await laptop.set("PUT", f"/v1/messages/{alice.aci}", messages_for(alice, laptop)) == 409


async def test_each_device_has_prekeys_of_its_own(alice: Device, bob: Device) -> None:
    laptop = await alice.link()
    bundles = (await bob.call("GET", f"/v2/keys/{alice.aci}/*")).json()["devices"]
    assert {each["deviceId"]: each["registrationId"] for each in bundles} == {
        1: alice.known.registration_id,
        2: laptop.known.registration_id,
    }


async def test_a_token_links_one_device_even_if_two_use_it_at_once(alice: Device) -> None:
    token = (await alice.call("GET", TOKEN)).json()["verificationCode"]
    tried = await asyncio.gather(*(alice.try_link(token) for _ in range(3)))
    assert sorted(reply.status for reply, _ in tried) == [200, 403, 403]
    assert await device_ids(alice) == [1, 2]


@pytest.mark.parametrize("change", [lambda t: t + "x", lambda t: "x" + t, lambda t: "", lambda t: t.replace(":", ";")])
async def test_a_token_that_is_not_ours_is_refused(relays: Relays, peer_of: MakePeer, change: object) -> None:
    assert callable(change)
    alice = await peer_of(await relays.start("sqlite")).register()
    token = (await alice.call("GET", TOKEN)).json()["verificationCode"]
    bad = change(token) or "a"
    assert (await alice.try_link(bad))[0].status == 403


async def test_a_token_is_good_for_ten_minutes(alice: Device) -> None:
    time = [0]
    service = LinkingService(None, ServerSecret.derive(bytes(32)), unlimited(), lambda: time[0], asyncio.Event())  # type: ignore[arg-type]  # no database is reached
    token = f"{alice.aci}.0:" + service._mac(f"{alice.aci}.0")
    for now, good in ((0, True), (TOKEN_LIFETIME - 1, True), (TOKEN_LIFETIME, False), (-1, False)):
        time[0] = now
        if good:
            assert service._check_token(token) == (alice.aci.uuid, 0)
        else:
            with pytest.raises(Forbidden):
                service._check_token(token)


async def test_an_account_has_at_most_six_devices(alice: Device) -> None:
    token = (await alice.call("GET", TOKEN)).json()["verificationCode"]
    linked = [await alice.link() for _ in range(MAX_DEVICES - 1)]
    full = await alice.call("GET", TOKEN)
    assert (full.status, full.json()) == (411, {"code": "too_many_devices", "current": 6, "max": 6})
    assert (await alice.try_link(token))[0].status == 411
    assert await alice.set("DELETE", f"/v1/devices/{linked[1].device_id}") == 204
    assert (await alice.try_link(token))[1].device_id == linked[1].device_id


async def test_a_device_may_not_lack_what_all_others_can(relays: Relays, peer_of: MakePeer) -> None:
    alice = await peer_of(await relays.start("sqlite")).register()
    assert await alice.set("PUT", "/v1/devices/capabilities", {"spqr": True, "storage": True}) == 204
    token = (await alice.call("GET", TOKEN)).json()["verificationCode"]
    refused, _ = await alice.try_link(token, storage=True)
    assert (refused.status, refused.json()) == (409, {"code": "capability_missing"})
    assert (await alice.try_link(token, spqr=True))[0].status == 200
    assert await alice.set("PUT", "/v1/devices/capabilities", {"spqr": "yes"}) == 422
    assert await alice.set("PUT", "/v1/devices/capabilities", b"[") == 400


async def test_keys_of_another_identity_are_not_linked(alice: Device, bob: Device) -> None:
    token = (await alice.call("GET", TOKEN)).json()["verificationCode"]
    body = bob.known.linking(token, {}).to_json()
    refused = await alice.peer.call("PUT", "/v1/devices/link", body, bob.authorization)
    assert (refused.status, refused.json()) == (422, {"code": "invalid_signature"})
    incomplete = alice.known.linking(token, {}, pni=False).to_json()
    assert (await alice.peer.call("PUT", "/v1/devices/link", incomplete, bob.authorization)).status == 422
    assert await device_ids(alice) == [1]


async def test_only_the_primary_device_makes_tokens_and_removes_others(alice: Device) -> None:
    laptop, tablet = await alice.link(), await alice.link()
    assert await laptop.set("GET", TOKEN) == 401
    assert await laptop.set("DELETE", f"/v1/devices/{tablet.device_id}") == 401
    assert await alice.set("DELETE", "/v1/devices/1") == 403
    assert await laptop.set("DELETE", f"/v1/devices/{laptop.device_id}") == 204
    assert await laptop.set("GET", "/v1/devices") == 401
    assert await device_ids(alice) == [1, 3]


async def test_a_removed_device_is_disconnected_and_its_mail_is_gone(alice: Device, bob: Device) -> None:
    laptop = await alice.link()
    async with laptop.socket() as socket:
        await socket.queue_empty()
        assert await alice.set("DELETE", "/v1/devices/2") == 204
        assert await socket.close_code() == 4401
    assert await bob.set("PUT", f"/v1/messages/{alice.aci}", messages_for(alice)) == 200
    assert (await bob.call("GET", f"/v2/keys/{alice.aci}/2")).status == 404


async def test_a_device_removed_on_one_relay_is_disconnected_on_another(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql")
    here, there = peer_of(await relays.serve(settings)), peer_of(await relays.serve(settings))
    alice = await here.register()
    laptop = await alice.link()
    async with Device(there, laptop.known, laptop.aci, laptop.pni, 2).socket() as socket:
        await socket.queue_empty()
        await alice.set("DELETE", "/v1/devices/2")
        assert await socket.close_code() == 4401


async def test_names_are_set_by_the_device_itself_or_the_primary_one(alice: Device) -> None:
    laptop = await alice.link()
    name = base64.b64encode(b"n" * MAX_DEVICE_NAME).decode()
    assert await alice.set("PUT", "/v1/accounts/name?deviceId=2", {"deviceName": name}) == 204
    assert await laptop.set("PUT", "/v1/accounts/name", {"deviceName": "bXk="}) == 204
    listed = (await alice.call("GET", "/v1/devices")).json()["devices"]
    assert [each.get("name") for each in listed] == [None, "bXk="]
    assert await laptop.set("PUT", "/v1/accounts/name?deviceId=1", {"deviceName": "bXk="}) == 403
    assert await alice.set("PUT", "/v1/accounts/name?deviceId=3", {"deviceName": "bXk="}) == 404
    too_long = base64.b64encode(b"n" * (MAX_DEVICE_NAME + 1)).decode()
    assert await alice.set("PUT", "/v1/accounts/name", {"deviceName": too_long}) == 422


async def test_the_primary_device_waits_for_the_device_it_invited(alice: Device, bob: Device) -> None:
    token = (await alice.call("GET", TOKEN)).json()
    identifier = token["tokenIdentifier"]
    assert identifier == token_identifier(token["verificationCode"])
    path = f"/v1/devices/wait_for_linked_device/{identifier}"
    assert await alice.set("GET", f"{path}?timeout=1") == 204
    waiting = asyncio.create_task(alice.call("GET", f"{path}?timeout=20"))
    _, laptop = await alice.try_link(token["verificationCode"])
    found = (await waiting).json()
    assert (found["id"], found["registrationId"]) == (2, laptop.known.registration_id)
    assert await bob.set("GET", f"{path}?timeout=1") == 204  # of another account
    for bad in (f"{path}?timeout=0", f"{path}?timeout=3601", f"{path}?timeout=x", f"{path[:-20]}?timeout=1"):
        assert await alice.set("GET", bad) == 400


async def provisioning_address(socket: Socket) -> str:
    request = await socket.request()
    assert (request.verb, request.path) == ("PUT", "/v1/address")
    await socket.answer(request)
    return frames.decode_provisioning_address(request.body or b"")


async def test_a_new_device_gets_one_message_at_its_address(alice: Device) -> None:
    async with alice.peer.provisioning_socket() as socket:
        path = f"/v1/provisioning/{await provisioning_address(socket)}"
        assert await alice.set("PUT", path, {"body": base64.b64encode(b"secret").decode()}) == 204
        assert await alice.set("PUT", path, {"body": "c2Vjb25k"}) == 404  # one message only
        request = await socket.request()
        assert (request.verb, request.path, request.body) == ("PUT", "/v1/message", b"secret")
        await socket.answer(request)
        assert await socket.close_code() == 1000
    assert await alice.set("PUT", path, {"body": "c2Vjb25k"}) == 404


async def test_a_message_reaches_a_new_device_on_another_relay(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql")
    here, there = peer_of(await relays.serve(settings)), peer_of(await relays.serve(settings))
    alice = await here.register()
    async with there.provisioning_socket() as socket:
        address = await provisioning_address(socket)
        assert await alice.set("PUT", f"/v1/provisioning/{address}", {"body": "c2VjcmV0"}) == 204
        assert (await socket.request()).body == b"secret"


async def test_a_message_for_nobody_or_beyond_the_limit_is_refused(alice: Device) -> None:
    assert await alice.set("PUT", "/v1/provisioning/nobody", {"body": "c2VjcmV0"}) == 404
    async with alice.peer.provisioning_socket() as socket:
        path = f"/v1/provisioning/{await provisioning_address(socket)}"
        assert await alice.set("PUT", path, {"body": "not base64!"}) == 422
        assert await alice.set("PUT", path, {"body": "A" * (MAX_PROVISIONING_MESSAGE + 4)}) == 422
        assert await alice.set("PUT", path, {"body": "A" * MAX_PROVISIONING_MESSAGE}) == 204


async def test_a_provisioning_socket_speaks_frames_only(peer: Peer) -> None:
    async with peer.provisioning_socket() as socket:
        await provisioning_address(socket)
        assert (await socket.call("GET", "/v1/keepalive")).status == 200
        assert (await socket.call("GET", "/v1/config")).status == 404
        await socket.websocket.send_bytes(b"\xff\xff")
        assert await socket.close_code() == 1007
