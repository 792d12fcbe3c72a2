"""The JSON of prekeys."""

import json
from uuid import UUID

import pytest

from messaging.wire.identifiers import IdentityKind, ServiceId
from messaging.wire.json import InvalidEntity, encode_base64
from messaging.wire.keys import PreKey, PreKeyResponse, SetKeysRequest, prekeys_path

UUID_TEXT = "8b2b9c5e-9f6f-4e52-9b0a-111111111111"
KEY = {"keyId": 1, "publicKey": encode_base64(b"\x05" + bytes(32))}


def test_an_upload_may_hold_any_part() -> None:
    assert SetKeysRequest.from_json(b"{}") == SetKeysRequest()
    assert SetKeysRequest.from_json(json.dumps({"preKeys": [KEY]}).encode()).pre_keys == (
        PreKey(key_id=1, public_key=b"\x05" + bytes(32)),
    )


@pytest.mark.parametrize("key_id", [-1, 2**31])
def test_key_ids_are_31_bits(key_id: int) -> None:
    with pytest.raises(InvalidEntity):
        SetKeysRequest.from_json(json.dumps({"preKeys": [{**KEY, "keyId": key_id}]}).encode())


def test_an_upload_holds_at_most_a_hundred_of_a_kind() -> None:
    with pytest.raises(InvalidEntity):
        SetKeysRequest.from_json(json.dumps({"preKeys": [KEY] * 101}).encode())


def test_the_path_of_bundles() -> None:
    service_id = ServiceId(UUID(UUID_TEXT), IdentityKind.PNI)
    assert prekeys_path(service_id) == f"/v2/keys/PNI:{UUID_TEXT}/*"
    assert prekeys_path(ServiceId(UUID(UUID_TEXT)), 3) == f"/v2/keys/{UUID_TEXT}/3"


@pytest.mark.parametrize(("said", "read"), [({}, None), ({"bot": True}, True), ({"bot": False}, False)])
def test_a_bot_is_marked_beside_its_bundles_and_others_have_no_such_member(
    said: dict[str, bool], read: bool | None
) -> None:
    body = {"identityKey": KEY["publicKey"], "devices": [], **said}
    found = PreKeyResponse.from_json(json.dumps(body).encode())
    assert found.bot is read
    assert json.loads(found.to_json()) == body


@pytest.mark.parametrize("said", [1, "true", {}])
def test_the_mark_is_a_truth_value(said: object) -> None:
    with pytest.raises(InvalidEntity):
        PreKeyResponse.from_json(json.dumps({"identityKey": KEY["publicKey"], "devices": [], "bot": said}).encode())
