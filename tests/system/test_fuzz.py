"""Whatever bytes arrive, on a socket or as an upload for many: the relay answers or closes, never fails, and goes on.

A minute's worth of examples here; ``dev.py check --long`` runs many more.
"""

import asyncio
import base64
from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messaging.wire import frames
from messaging.wire.envelope import decode_envelope
from messaging.wire.errors import MalformedFrame, WireError
from messaging.wire.identifiers import DeviceAddress, ServiceId
from tests.devices import Device, Peer
from tests.relays import Relays

FIXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
QUICK = settings(max_examples=400, deadline=None, suppress_health_check=FIXED)
LONG = settings(max_examples=10_000, deadline=None, suppress_health_check=FIXED)

# Not only noise: frames that are nearly right reach further.
paths = st.sampled_from(
    [
        "/v1/messages/{}",
        "/v1/messages/multi_recipient?ts=1",
        "/v2/keys",
        "/v2/keys/{}/*",
        "/v1/profile/{}",
        "/v1/messages/marker/x",
        "/v1/accounts/attributes",
        "/v1/devices/link",
        "/",
        "//",
        "/%00",
        "/v1/messages/%F0%28",
        "/v2/keys?identity=\x00",
    ]
)
headers = st.dictionaries(st.text(max_size=10), st.text(max_size=20), max_size=4)
requests = st.builds(
    frames.Request,
    id=st.integers(0, 2**64 - 1),
    verb=st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "X"]),
    path=paths,
    headers=headers,
    body=st.none() | st.binary(max_size=200) | st.just(b"{}") | st.just(b'{"messages":[{}]}'),
)
responses = st.builds(
    frames.Response,
    id=st.integers(0, 2**64 - 1),
    status=st.integers(0, 999),
    headers=headers,
    body=st.none() | st.binary(max_size=50),
)
frame_bytes = st.binary(max_size=300) | (requests | responses).map(frames.encode_frame)
damaged = st.tuples(frame_bytes, st.integers(0, 300), st.binary(max_size=8)).map(
    lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + len(parts[2]) :]
)


@pytest.fixture
async def device(relays: Relays) -> AsyncIterator[Device]:
    """Somebody at a relay."""
    async with aiohttp.ClientSession() as http:
        yield await Peer(await relays.start("sqlite"), http).register()


async def speak(device: Device, some: list[bytes]) -> None:
    """Send frames on one socket until the relay closes it or all are sent; then the relay must still be well."""
    async with device.socket() as socket:
        for data in some:
            if socket.websocket.closed:
                break
            await socket.websocket.send_bytes(data)
            await asyncio.sleep(0)
        await socket.websocket.close()
        assert socket.websocket.close_code in {1000, 1003, 1006, 1007, 1009}, socket.websocket.close_code
    assert await device.set("GET", "/v1/accounts/whoami") == 200


async def upload(device: Device, body: bytes) -> None:
    key = {"Unidentified-Access-Key": base64.b64encode(device.known.access_key).decode()}
    reply = await device.peer.call("PUT", "/v1/messages/multi_recipient?ts=1", body, key)
    assert reply.status in {200, 400, 401, 404, 409, 410, 413}


def an_upload(device: Device) -> bytes:
    registration = device.known.registration_id.to_bytes(2, "big")
    return b"\x22\x01" + device.aci.uuid.bytes + b"\x01" + registration + bytes(48) + b"s" * 40


@QUICK
@given(some=st.lists(frame_bytes | damaged, min_size=1, max_size=8))
async def test_any_frames(device: Device, some: list[bytes]) -> None:
    await speak(device, some)


@QUICK
@given(cut=st.integers(0, 120), noise=st.binary(max_size=60), at=st.integers(0, 120))
async def test_any_upload_for_many(device: Device, cut: int, noise: bytes, at: int) -> None:
    whole = an_upload(device)
    await upload(device, whole[:at] + noise + whole[at + len(noise) : len(whole) - cut % len(whole)])


@pytest.mark.long
@LONG
@given(some=st.lists(frame_bytes | damaged, min_size=1, max_size=8))
async def test_any_frames_at_length(device: Device, some: list[bytes]) -> None:
    await speak(device, some)


@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=400) | damaged)
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    for read in (frames.decode_frame, decode_envelope, ServiceId.from_bytes, frames.decode_provisioning_address):
        try:
            read(data)
        except (MalformedFrame, WireError):
            continue


@settings(max_examples=1000, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_an_address_or_malformed(text: str) -> None:
    for parse in (ServiceId.parse, DeviceAddress.parse):
        try:
            assert str(parse(text)).lower() == text.lower() or "." not in text
        except WireError:
            continue
