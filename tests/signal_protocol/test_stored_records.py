"""Records that an earlier libsignal wrote are still read: what an upgrade must not break."""

import base64
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from signal_protocol.operations import SignalCrypto
from signal_protocol.types import Address, Identity, LocalDevice, MessageKind, PrekeyRecords

RECORDS = sorted(Path(__file__).parent.glob("records-*.json"))


@pytest.fixture(params=RECORDS, ids=lambda path: path.stem)
def records(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(request.param.read_text())
    return loaded


def a_device(person: dict[str, Any]) -> LocalDevice:
    identity = Identity(base64.b64decode(person["public_key"]), base64.b64decode(person["private_key"]))
    return LocalDevice(Address(person["service_id"], 1), identity, person["registration_id"])


async def test_prekey_records(crypto: SignalCrypto, records: dict[str, Any]) -> None:
    alice, bob, first = a_device(records["alice"]), a_device(records["bob"]), records["first"]
    one_time, signed, kyber = (base64.b64decode(first["keys"][kind]) for kind in ("one_time", "signed", "kyber"))
    result = await crypto.decrypt(
        local=bob,
        remote=alice.address,
        session=None,
        known=None,
        kind=MessageKind(first["kind"]),
        ciphertext=base64.b64decode(first["ciphertext"]),
        keys=PrekeyRecords(one_time, signed, kyber),
    )
    assert result.plaintext.decode() == first["plaintext"]


async def test_session_records(crypto: SignalCrypto, records: dict[str, Any]) -> None:
    alice, bob, later = a_device(records["alice"]), a_device(records["bob"]), records["later"]
    result = await crypto.decrypt(
        local=alice,
        remote=bob.address,
        session=base64.b64decode(later["session_of_alice"]),
        known=bob.identity.public_key,
        kind=MessageKind(later["kind"]),
        ciphertext=base64.b64decode(later["ciphertext"]),
    )
    assert result.plaintext.decode() == later["plaintext"]


async def test_sender_key_records(crypto: SignalCrypto, records: dict[str, Any]) -> None:
    group = records["group"]
    result = await crypto.group_decrypt(
        sender=a_device(records["alice"]).address,
        distribution_id=UUID(group["distribution_id"]),
        sender_key=base64.b64decode(group["sender_key_at_bob"]),
        ciphertext=base64.b64decode(group["ciphertext"]),
    )
    assert result.plaintext.decode() == group["plaintext"]
