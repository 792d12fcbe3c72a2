"""How an assistant becomes an account, and how clients learn of it and of whether it can be asked now."""

import asyncio
import json

from messaging.wire.assistants import AssistantDirectory, AssistantState
from messaging.wire.server_info import ServerInfo
from tests.devices import Device, MakePeer, NewDevice, Peer, basic
from tests.relays import Relays, StartedRelay


async def put(
    peer: Peer, name: str, known: NewDevice, token: str | None, body: bytes | None = None
) -> tuple[int, bytes]:
    headers = {"Authorization": basic(name, known.password)}
    if token is not None:
        headers["X-Assistant-Token"] = token
    request = body or known.assistant_registration().to_json()
    reply = await peer.call("PUT", f"/v1/assistants/{name}", request, headers)
    return reply.status, reply.body


async def test_an_assistant_is_an_account_without_a_number(peer: Peer, alice: Device) -> None:
    assistant = await peer.register_assistant("scribe", NewDevice())
    assert (await assistant.call("GET", "/v1/accounts/whoami")).json() == {
        "uuid": str(assistant.aci),
        "storageCapable": False,
    }
    await alice.send(assistant, b"summarize")
    async with assistant.socket() as socket:
        assert await socket.receive(1) == [b"summarize"]


async def test_registering_again_keeps_its_id_and_closes_the_old_socket(peer: Peer, alice: Device) -> None:
    old = await peer.register_assistant("scribe", NewDevice())
    async with old.socket() as socket:
        await socket.queue_empty()
        new = await peer.register_assistant("scribe", NewDevice())
        assert await socket.close_code() == 4401
    assert new.aci == old.aci
    assert (await old.call("GET", "/v1/accounts/whoami")).status == 401
    assert (await new.call("GET", "/v1/accounts/whoami")).status == 200
    assert (await alice.send(old, b"for the old one")).status == 410


async def test_only_the_holder_of_the_token_may(relay: StartedRelay, peer: Peer) -> None:
    for token in (None, "", "wrong", relay.assistant_token + "x"):
        status, body = await put(peer, "scribe", NewDevice(), token)
        assert (status, json.loads(body)) == (403, {"code": "forbidden"})


async def test_without_a_token_set_nobody_may(relays: Relays, peer_of: MakePeer) -> None:
    peer = peer_of(await relays.start("sqlite", assistant_token_file=None))
    for token in (None, ""):
        assert (await put(peer, "scribe", NewDevice(), token))[0] == 403


async def test_an_assistant_has_a_plain_name_and_nothing_of_a_number(relay: StartedRelay, peer: Peer) -> None:
    known, token = NewDevice(), relay.assistant_token
    for name in ("Helper", "-x", "a" * 64):
        assert (await put(peer, name, known, token))[0] == 422
    with_number = known.registration("session").to_json()
    assert (await put(peer, "scribe", known, token, with_number))[0] == 422
    with_session = known.assistant_registration().model_copy(update={"session_id": "x"}).to_json()
    assert (await put(peer, "scribe", known, token, with_session))[0] == 422
    forged = NewDevice().assistant_registration().aci_signed_pre_key
    unsigned = known.assistant_registration().model_copy(update={"aci_signed_pre_key": forged}).to_json()
    assert (await put(peer, "scribe", known, token, unsigned))[0] == 422
    headers = {"Authorization": basic("other", known.password), "X-Assistant-Token": token}
    body = known.assistant_registration().to_json()
    assert (await peer.call("PUT", "/v1/assistants/scribe", body, headers)).status == 422


async def test_server_info_says_what_a_client_must_know(relays: Relays, backend: str, peer_of: MakePeer) -> None:
    relay = await relays.start(backend, source_url="https://example.org/source")
    peer = peer_of(relay)
    first = await peer.register_assistant("b", NewDevice())
    second = await peer.register_assistant("a", NewDevice())
    reply = await peer.call("GET", "/v1/server-info")
    info = ServerInfo.from_json(reply.body)
    assert info.source == "https://example.org/source"
    assert info.trust_root == relay.running.trust_root
    assert [(found.name, found.service_id) for found in info.assistants] == [
        ("a", str(second.aci)),
        ("b", str(first.aci)),
    ]
    assert info.limits.max_content == 96 * 1024
    assert info.limits.envelope_lifetime_seconds == 30 * 24 * 3600
    assert info.version


async def directory(peer: Peer) -> dict[str, tuple[bool, bool]]:
    """What is said of each assistant: online, accepting."""
    found = AssistantDirectory.from_json((await peer.call("GET", "/v1/assistants")).body)
    return {each.name: (each.online, each.accepting) for each in found.assistants}


async def until_directory_is(peer: Peer, wanted: dict[str, tuple[bool, bool]]) -> None:
    """Ask until it says so: between processes presence takes a moment."""
    async with asyncio.timeout(10):
        while await directory(peer) != wanted:
            await asyncio.sleep(0.02)


async def test_the_directory_lists_every_assistant_by_name(peer: Peer, alice: Device) -> None:
    assert await directory(peer) == {}
    first = await peer.register_assistant("b", NewDevice())
    second = await peer.register_assistant("a", NewDevice())
    reply = await peer.call("GET", "/v1/assistants")
    assert reply.json() == {
        "assistants": [
            {"name": "a", "serviceId": str(second.aci), "online": False, "accepting": True},
            {"name": "b", "serviceId": str(first.aci), "online": False, "accepting": True},
        ]
    }


async def test_an_assistant_is_online_while_any_of_its_devices_has_a_socket(peer: Peer) -> None:
    scribe = await peer.register_assistant("scribe", NewDevice())
    linked = await scribe.link()
    await peer.register_assistant("other", NewDevice())
    async with linked.socket() as socket:
        await socket.queue_empty()
        await until_directory_is(peer, {"scribe": (True, True), "other": (False, True)})
    await until_directory_is(peer, {"scribe": (False, True), "other": (False, True)})


async def test_an_assistant_that_is_connected_to_one_relay_is_online_at_another(
    relays: Relays, peer_of: MakePeer
) -> None:
    settings = await relays.settings("postgresql")
    here, there = peer_of(await relays.serve(settings)), peer_of(await relays.serve(settings))
    scribe = await here.register_assistant("scribe", NewDevice())
    async with Device(there, scribe.known, scribe.aci, None).socket() as socket:
        await socket.queue_empty()
        await until_directory_is(here, {"scribe": (True, True)})
        await until_directory_is(there, {"scribe": (True, True)})
    await until_directory_is(here, {"scribe": (False, True)})


async def test_an_assistant_says_itself_that_it_drains_and_its_successor_does_not(peer: Peer) -> None:
    scribe = await peer.register_assistant("scribe", NewDevice())
    async with scribe.socket() as socket:
        await socket.queue_empty()
        body = AssistantState(accepting=False).to_json()
        assert (await socket.call("PUT", "/v1/assistants/scribe/state", body)).status == 204
        await until_directory_is(peer, {"scribe": (True, False)})
    assert await scribe.set("PUT", "/v1/assistants/scribe/state", {"accepting": True}) == 204
    await until_directory_is(peer, {"scribe": (False, True)})
    assert await scribe.set("PUT", "/v1/assistants/scribe/state", {"accepting": False}) == 204
    await peer.register_assistant("scribe", NewDevice())
    assert await directory(peer) == {"scribe": (False, True)}


async def test_nobody_else_may_say_it(peer: Peer, alice: Device) -> None:
    await peer.register_assistant("scribe", NewDevice())
    other = await peer.register_assistant("other", NewDevice())
    drains = {"accepting": False}
    for caller in (alice, other):
        reply = await caller.call("PUT", "/v1/assistants/scribe/state", drains)
        assert (reply.status, reply.json()) == (403, {"code": "forbidden"})
    assert await other.set("PUT", "/v1/assistants/nobody/state", drains) == 403
    assert (await peer.call("PUT", "/v1/assistants/scribe/state", drains)).status == 401
    assert await other.set("PUT", "/v1/assistants/other/state", {}) == 422
    assert await directory(peer) == {"other": (False, True), "scribe": (False, True)}
