"""A full run through the contract, and then a search: nothing that must stay secret is in the log or in an error.

Secret are numbers, passwords, codes, tokens, keys of access, ids of accounts and messages, names, and content.
"""

import asyncio
import base64
import logging
import secrets
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import structlog

from messaging.relay.logs import configure_logs
from messaging.wire.json import encode_base64url
from messaging.wire.limits import MAX_DELIVERIES
from tests.devices import Body, Device, NewDevice, Peer, Reply, basic, message_for, messages_for
from tests.relays import Relays

CONTENT = b"CANARY-CONTENT-7d1f"
NAME = "CANARY-NAME-55c2"


class Log:
    """What a relay wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stream = path.open("w")

    def text(self) -> str:
        self.stream.flush()
        return self.path.read_text()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """The log of all relays of this process."""
    log, handlers = Log(tmp_path / "log"), list(logging.getLogger().handlers)
    configure_logs(log.stream)
    yield log
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers
    log.stream.close()


class Canaries:
    """What is secret, and what was answered with an error."""

    def __init__(self) -> None:
        self.secrets: set[str] = {CONTENT.decode(), NAME}
        self.errors: list[bytes] = []

    def add(self, *found: object) -> None:
        self.secrets |= {str(each) for each in found if each}

    def add_device(self, device: Device) -> None:
        known = device.known
        self.add(known.number, known.password, device.aci, device.pni, device.aci.uuid.hex)
        self.add(device.authorization["Authorization"], base64.b64encode(known.access_key).decode())


async def run_everything(peer: Peer, canaries: Canaries) -> None:
    """Use each part of the contract, rightly and wrongly."""
    alice, bob = await peer.register(), await peer.register()
    laptop = await alice.link()
    for device in (alice, bob, laptop):
        canaries.add_device(device)
    canaries.add(peer.relay.last_code(alice.known.number))

    async def ask(device: Device | None, verb: str, path: str, body: Body = None, **headers: str) -> Reply:
        authorization = device.authorization if device else {}
        reply = await peer.call(verb, path, body, {**authorization, **headers})
        if reply.status >= 400:
            canaries.errors.append(reply.body + str(dict(reply.headers)).encode())
        return reply

    token = (await ask(alice, "GET", "/v1/devices/provisioning/code")).json()
    canaries.add(token["verificationCode"], token["tokenIdentifier"])
    await ask(None, "PUT", "/v1/devices/link", {"verificationCode": token["verificationCode"], "x": NAME})
    await ask(alice, "PUT", "/v1/accounts/name", {"deviceName": base64.b64encode(NAME.encode()).decode()})
    lock = secrets.token_hex(32)
    canaries.add(lock)
    await ask(alice, "PUT", "/v1/accounts/registration_lock", {"registrationLock": lock})
    again = NewDevice(number=alice.known.number)
    session = await peer.verified_session(again.number)
    canaries.add(session)
    registration = again.registration(session).to_json()
    await ask(None, "POST", "/v1/registration", registration, Authorization=basic(again.number, again.password))

    for body in (message_for(bob, CONTENT), messages_for(alice, content=CONTENT), CONTENT, b'{"messages":"' + CONTENT):
        await ask(alice, "PUT", f"/v1/messages/{bob.aci}", body)
    await ask(alice, "PUT", f"/v1/messages/{bob.aci}?story={NAME}", message_for(bob, CONTENT))
    await ask(alice, "GET", f"/v2/keys/{bob.aci}/*")
    await ask(alice, "GET", f"/v2/keys/{bob.aci}/{NAME}")
    await ask(alice, "GET", f"/{NAME}/{alice.aci}")
    for _ in range(MAX_DELIVERIES):
        async with bob.socket() as socket:
            request, envelope = await socket.envelope()
            canaries.add(envelope.guid, envelope.report_token)
            await socket.answer(request, 500)
            await asyncio.sleep(0.1)
        await ask(bob, "POST", f"/v1/messages/report/{alice.aci}/{envelope.guid}", {"token": NAME})
    await ask(bob, "POST", "/v1/messages/parked/1/retry")
    async with bob.socket() as socket:
        await socket.websocket.send_bytes(CONTENT)
        await socket.close_code()

    hashed = encode_base64url(secrets.token_bytes(32))
    canaries.add(hashed)
    await ask(alice, "PUT", "/v1/accounts/username_hash/reserve", {"usernameHashes": [hashed]})
    proof = encode_base64url(bytes(64))
    await ask(alice, "PUT", "/v1/accounts/username_hash/confirm", {"usernameHash": hashed, "zkProof": proof})
    await ask(None, "GET", f"/v1/accounts/username_hash/{hashed}")
    await ask(bob, "PUT", "/v1/profile", {"version": NAME})
    form = (await ask(alice, "GET", "/v4/attachments/form/upload?uploadLength=19")).json()
    canaries.add(form["key"], form["headers"]["Authorization"])
    more = {"Tus-Resumable": "1.0.0", "Upload-Length": "19", "Content-Type": "application/offset+octet-stream"}
    await ask(None, "POST", "/upload/attachments", CONTENT, **form["headers"], **more)
    await ask(
        None, "POST", "/upload/attachments", CONTENT, **{**form["headers"], **more, "Authorization": f"Bearer {NAME}"}
    )
    await ask(None, "GET", f"/attachments/{form['key']}")
    await ask(None, "GET", f"/attachments/{NAME}")
    await ask(None, "GET", "/v1/accounts/whoami", Authorization=basic(f"{alice.aci}.1", NAME))
    await ask(bob, "DELETE", "/v1/accounts/me")


async def test_no_secret_reaches_a_log_or_an_error(relays: Relays, backend: str, log: Log) -> None:
    canaries = Canaries()
    async with aiohttp.ClientSession() as http:
        await run_everything(Peer(await relays.start(backend), http), canaries)
    await relays.stop()
    written = log.text()
    assert '"route"' in written, "the log was not captured"
    assert len(canaries.errors) > 8
    assert len(canaries.secrets) > 25
    for secret in canaries.secrets:
        assert secret not in written
        assert not any(secret.encode() in error for error in canaries.errors)
