"""A device as the relay sees one: keys, a password, HTTP and a socket. No libsignal: Kyber keys are random bytes.

It speaks the wire with ``messaging.wire`` alone, and so says nothing about the client SDK.
"""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import aiohttp

from messaging.wire import frames
from messaging.wire.accounts import (
    AccountAttributes,
    AccountCreationResponse,
    DeviceAttributes,
    LinkDeviceRequest,
    RegistrationRequest,
)
from messaging.wire.envelope import Envelope, EnvelopeType, decode_envelope
from messaging.wire.identifiers import DeviceAddress, IdentityKind, ServiceId
from messaging.wire.keys import KyberPreKey, PreKey, SetKeysRequest, SignedPreKey
from messaging.wire.messages import IncomingMessage, IncomingMessageList
from signal_protocol.public.keys import KeyPair, generate_key_pair, sign
from tests.relays import StartedRelay

WAIT_SECONDS = 10
Body = bytes | dict[str, Any] | list[Any] | None


@dataclass(frozen=True)
class Reply:
    """What came back over HTTP or through a socket."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/json"
        found: dict[str, Any] = json.loads(self.body)
        return found


def signed_prekey(identity: KeyPair, key_id: int = 1) -> SignedPreKey:
    public = generate_key_pair().public
    return SignedPreKey(key_id=key_id, public_key=public, signature=sign(identity.private, public))


def kyber_prekey(identity: KeyPair, key_id: int = 1) -> KyberPreKey:
    public = b"\x08" + secrets.token_bytes(1568)
    return KyberPreKey(key_id=key_id, public_key=public, signature=sign(identity.private, public))


def one_time_prekey(key_id: int) -> PreKey:
    return PreKey(key_id=key_id, public_key=generate_key_pair().public)


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def a_number() -> str:
    return f"+4915{secrets.randbelow(10**9):09}"


@dataclass(frozen=True)
class NewDevice:
    """What a device knows before it registers."""

    number: str = field(default_factory=a_number)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    identity: KeyPair = field(default_factory=generate_key_pair)
    pni_identity: KeyPair = field(default_factory=generate_key_pair)
    access_key: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    registration_id: int = field(default_factory=lambda: secrets.randbelow(16380) + 1)
    unrestricted: bool = False

    def registration(self, session_id: str) -> RegistrationRequest:
        return RegistrationRequest(
            session_id=session_id,
            account_attributes=AccountAttributes(
                fetches_messages=True,
                registration_id=self.registration_id,
                pni_registration_id=self.registration_id,
                unidentified_access_key=self.access_key,
                unrestricted_unidentified_access=self.unrestricted,
            ),
            skip_device_transfer=True,
            aci_identity_key=self.identity.public,
            pni_identity_key=self.pni_identity.public,
            aci_signed_pre_key=signed_prekey(self.identity),
            pni_signed_pre_key=signed_prekey(self.pni_identity),
            aci_pq_last_resort_pre_key=kyber_prekey(self.identity),
            pni_pq_last_resort_pre_key=kyber_prekey(self.pni_identity),
        )

    def linking(self, token: str, capabilities: dict[str, bool], *, pni: bool = True) -> LinkDeviceRequest:
        return LinkDeviceRequest(
            verification_code=token,
            account_attributes=DeviceAttributes(
                fetches_messages=True,
                registration_id=self.registration_id,
                pni_registration_id=self.registration_id if pni else None,
                capabilities=capabilities,
            ),
            aci_signed_pre_key=signed_prekey(self.identity),
            pni_signed_pre_key=signed_prekey(self.pni_identity) if pni else None,
            aci_pq_last_resort_pre_key=kyber_prekey(self.identity),
            pni_pq_last_resort_pre_key=kyber_prekey(self.pni_identity) if pni else None,
        )

    def assistant_registration(self) -> RegistrationRequest:
        return RegistrationRequest(
            account_attributes=AccountAttributes(
                fetches_messages=True,
                registration_id=self.registration_id,
                unidentified_access_key=self.access_key,
            ),
            aci_identity_key=self.identity.public,
            aci_signed_pre_key=signed_prekey(self.identity),
            aci_pq_last_resort_pre_key=kyber_prekey(self.identity),
        )


@dataclass(frozen=True)
class Device:
    """A registered device."""

    peer: "Peer"
    known: NewDevice
    aci: ServiceId
    pni: ServiceId | None
    device_id: int = 1

    @property
    def address(self) -> DeviceAddress:
        return DeviceAddress(self.aci, self.device_id)

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": basic(f"{self.aci}.{self.device_id}", self.known.password)}

    async def call(self, verb: str, path: str, body: Body = None, **headers: str) -> Reply:
        return await self.peer.call(verb, path, body, {**self.authorization, **headers})

    async def send(self, to: "Device", content: bytes, **more: Any) -> Reply:
        return await self.call("PUT", f"/v1/messages/{to.aci}", message_for(to, content, **more))

    async def upload(self, keys: SetKeysRequest, identity: IdentityKind = IdentityKind.ACI) -> Reply:
        return await self.call("PUT", f"/v2/keys?identity={identity}", keys.to_json())

    async def set(self, verb: str, path: str, body: Body = None) -> int:
        """Call, and give only the status."""
        return (await self.call(verb, path, body)).status

    async def link(self, **capabilities: bool) -> "Device":
        """Another device of the same account, linked with a token."""
        token = (await self.call("GET", "/v1/devices/provisioning/code")).json()["verificationCode"]
        reply, device = await self.try_link(token, **capabilities)
        assert reply.status == 200, reply
        return device

    async def try_link(self, token: str, **capabilities: bool) -> "tuple[Reply, Device]":
        """Link with this token, and whatever came of it."""
        known = replace(self.known, password=secrets.token_urlsafe(18), registration_id=secrets.randbelow(16380) + 1)
        body = known.linking(token, capabilities, pni=self.pni is not None).to_json()
        authorization = {"Authorization": basic("new", known.password)}
        reply = await self.peer.call("PUT", "/v1/devices/link", body, authorization)
        device_id = reply.json()["deviceId"] if reply.status == 200 else 0
        return reply, Device(self.peer, known, self.aci, self.pni, device_id)

    @asynccontextmanager
    async def socket(self, **headers: str) -> "AsyncIterator[Socket]":
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.peer.socket({**self.authorization, **named}) as socket:
            yield socket


def messages_for(*devices: Device, content: bytes = b"x", **more: Any) -> bytes:
    """The body of a send to these devices of one account."""
    messages = tuple(
        IncomingMessage(
            type=EnvelopeType.CIPHERTEXT,
            destination_device_id=device.device_id,
            destination_registration_id=device.known.registration_id,
            content=content,
        )
        for device in devices
    )
    return IncomingMessageList(messages=messages, timestamp=1, **more).to_json()


def message_for(to: Device, content: bytes, **more: Any) -> bytes:
    """The body of a send to the only device of ``to``."""
    message = IncomingMessage(
        type=more.pop("type", EnvelopeType.CIPHERTEXT),
        destination_device_id=to.device_id,
        destination_registration_id=to.known.registration_id,
        content=content,
    )
    return IncomingMessageList(messages=(message,), timestamp=more.pop("timestamp", 1), **more).to_json()


@dataclass
class Socket:
    """The client's end of a chat socket. Envelopes are not acknowledged unless a test does."""

    websocket: aiohttp.ClientWebSocketResponse
    last_id: int = 0

    async def frame(self) -> frames.Frame:
        """The next frame."""
        message = await self.websocket.receive(timeout=WAIT_SECONDS)
        assert message.type is aiohttp.WSMsgType.BINARY, message
        return frames.decode_frame(message.data)

    async def request(self) -> frames.Request:
        frame = await self.frame()
        assert isinstance(frame, frames.Request)
        return frame

    async def envelope(self) -> tuple[frames.Request, Envelope]:
        """The next frame, which must be an envelope."""
        request = await self.request()
        assert (request.verb, request.path) == ("PUT", "/api/v1/message")
        assert int(request.headers["x-signal-timestamp"]) > 0
        return request, decode_envelope(request.body or b"")

    async def queue_empty(self) -> None:
        """The next frame, which must say that the queue is empty."""
        request = await self.request()
        assert (request.verb, request.path) == ("PUT", "/api/v1/queue/empty")
        await self.answer(request)

    async def caught_up(self) -> list[bytes]:
        """Acknowledge what is there until the queue is empty; its contents."""
        contents = []
        while (request := await self.request()).path == "/api/v1/message":
            await self.answer(request)
            contents.append(decode_envelope(request.body or b"").content)
        assert request.path == "/api/v1/queue/empty"
        await self.answer(request)
        return contents

    async def answer(self, request: frames.Request, status: int = 200) -> None:
        await self.websocket.send_bytes(frames.encode_frame(frames.Response(request.id, status, "OK")))

    async def receive(self, count: int) -> list[bytes]:
        """The contents of the next ``count`` envelopes, acknowledged."""
        contents = []
        for _ in range(count):
            request, envelope = await self.envelope()
            await self.answer(request)
            contents.append(envelope.content)
        return contents

    async def ask(self, verb: str, path: str, body: bytes | None = None, **headers: str) -> int:
        """Send a request; returns its id."""
        self.last_id += 1
        request = frames.Request(self.last_id, verb, path, headers, body)
        await self.websocket.send_bytes(frames.encode_frame(request))
        return self.last_id

    async def call(self, verb: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Send a request and return the next frame, which must be its answer."""
        request_id = await self.ask(verb, path, body, **headers)
        response = await self.frame()
        assert isinstance(response, frames.Response)
        assert response.id == request_id
        return Reply(response.status, response.headers, response.body or b"")

    async def close_code(self) -> int | None:
        """Wait until the relay closes, ignoring what it still sends."""
        async with asyncio.timeout(WAIT_SECONDS):
            async for _ in self.websocket:
                pass
        return self.websocket.close_code

    async def silent(self, seconds: float = 0.2) -> bool:
        """Whether nothing comes for so long."""
        try:
            await self.websocket.receive(timeout=seconds)
        except TimeoutError:
            return True
        return False


@dataclass(frozen=True)
class Peer:
    """Somebody who speaks to one relay."""

    relay: StartedRelay
    http: aiohttp.ClientSession

    async def call(self, verb: str, path: str, body: Body = None, headers: Mapping[str, str] | None = None) -> Reply:
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        async with self.http.request(verb, self.relay.url + path, data=data, headers=headers) as response:
            lower = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, lower, await response.read())

    @asynccontextmanager
    async def socket(self, headers: Mapping[str, str] | None = None) -> AsyncIterator[Socket]:
        async with self.http.ws_connect(f"{self.relay.url}/v1/websocket/", headers=headers, autoping=True) as websocket:
            yield Socket(websocket)

    @asynccontextmanager
    async def provisioning_socket(self) -> AsyncIterator[Socket]:
        async with self.http.ws_connect(f"{self.relay.url}/v1/websocket/provisioning/") as websocket:
            yield Socket(websocket)

    async def verified_session(self, number: str) -> str:
        """A verification session in which the right code was submitted."""
        created = (await self.call("POST", "/v1/verification/session", {"number": number})).json()
        session = f"/v1/verification/session/{created['id']}"
        await self.call("POST", f"{session}/code", {"transport": "sms", "client": "test"})
        code = self.relay.last_code(number)
        assert (await self.call("PUT", f"{session}/code", {"code": code})).json()["verified"] is True
        return str(created["id"])

    async def register(self, known: NewDevice | None = None, **changes: Any) -> Device:
        """Register a device, with all that belongs to it."""
        known = replace(known or NewDevice(), **changes)
        request = known.registration(await self.verified_session(known.number))
        authorization = {"Authorization": basic(known.number, known.password)}
        reply = await self.call("POST", "/v1/registration", request.to_json(), authorization)
        assert reply.status == 200, reply
        created = AccountCreationResponse.from_json(reply.body)
        return Device(self, known, ServiceId(created.uuid), _pni(created.pni))

    async def register_assistant(self, name: str, known: NewDevice) -> Device:
        reply = await self.call(
            "PUT",
            f"/v1/assistants/{name}",
            known.assistant_registration().to_json(),
            {"Authorization": basic(name, known.password), "X-Assistant-Token": self.relay.assistant_token},
        )
        assert reply.status == 200, reply
        created = AccountCreationResponse.from_json(reply.body)
        return Device(self, known, ServiceId(created.uuid), None)


def _pni(pni: UUID | None) -> ServiceId | None:
    return None if pni is None else ServiceId(pni, IdentityKind.PNI)


MakePeer = Callable[[StartedRelay], Peer]
