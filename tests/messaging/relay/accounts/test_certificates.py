"""Sender certificates: the root stays, the server certificate is changed by its number."""

import base64
import time
from dataclasses import replace

import pytest

from messaging.relay.__main__ import certificate_key_id
from messaging.relay.errors import StartupError
from signal_protocol.public.certificates import verify_sender_certificate
from tests.devices import Device, MakePeer, Peer
from tests.relays import Relays


async def certificate(device: Device) -> bytes:
    reply = await device.call("GET", "/v1/certificate/delivery")
    return base64.b64decode(reply.json()["certificate"])


async def test_a_new_number_is_a_new_key_under_the_same_root(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("sqlite")
    first = await relays.serve(settings)
    alice = await peer_of(first).register()
    before = await certificate(alice)
    await relays.stop()
    second = await relays.serve(replace(settings, certificate_key_id=2))
    after = await certificate(Device(Peer(second, alice.peer.http), alice.known, alice.aci, alice.pni))
    assert first.running.trust_root == second.running.trust_root
    assert before[-300:-100] != after[-300:-100]
    for found in (before, after):
        seen = verify_sender_certificate(found, trust_roots=[first.running.trust_root], now=int(time.time() * 1000))
        assert (seen.sender, seen.identity_key) == (alice.aci.uuid, alice.known.identity.public)


@pytest.mark.parametrize("number", [0, -1, 2**31, 0xDEADC357])
def test_a_number_that_cannot_be_is_refused(number: int) -> None:
    with pytest.raises(StartupError, match="certificate-key-id"):
        certificate_key_id(number)


def test_other_numbers_are_taken() -> None:
    assert [certificate_key_id(number) for number in (1, 2**31 - 1)] == [1, 2**31 - 1]
