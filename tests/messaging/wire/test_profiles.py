"""The JSON of profiles."""

import json

import pytest

from messaging.wire.json import encode_base64
from messaging.wire.profiles import Profile

UNVERSIONED = {
    "identityKey": encode_base64(b"\x05" + bytes(32)),
    "unrestrictedUnidentifiedAccess": False,
    "capabilities": {},
    "badges": [],
    "uuid": "8b2b9c5e-9f6f-4e52-9b0a-111111111111",
}


@pytest.mark.parametrize(("said", "read"), [({}, None), ({"bot": True}, True), ({"bot": False}, False)])
def test_a_bot_is_marked_and_others_have_no_such_member(said: dict[str, bool], read: bool | None) -> None:
    found = Profile.from_json(json.dumps({**UNVERSIONED, **said}).encode())
    assert found.bot is read
    assert json.loads(found.to_json()) == {**UNVERSIONED, **said}
