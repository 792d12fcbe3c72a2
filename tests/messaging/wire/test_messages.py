"""The JSON of sending."""

import json
from typing import Any

import pytest

from messaging.wire.json import InvalidEntity
from messaging.wire.messages import IncomingMessage, IncomingMessageList

MESSAGE = {"type": 1, "destinationDeviceId": 1, "destinationRegistrationId": 2, "content": "Q0FOQVJZ"}


def test_absent_flags_have_signals_defaults() -> None:
    read = IncomingMessageList.from_json(json.dumps({"messages": [MESSAGE], "timestamp": 5}).encode())
    assert (read.online, read.urgent, read.timestamp) == (False, True, 5)
    assert read.messages[0].content == b"CANARY"


def test_content_has_no_repr() -> None:
    message = IncomingMessage(type=1, destination_device_id=1, destination_registration_id=2, content=b"CANARY")
    assert "CANARY" not in repr(message) + repr(IncomingMessageList(messages=(message,)))


@pytest.mark.parametrize("changes", [{"type": 5}, {"type": 2}, {"destinationDeviceId": 128}, {"content": ""}], ids=str)
def test_a_message_that_breaks_a_rule_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidEntity):
        IncomingMessageList.from_json(json.dumps({"messages": [{**MESSAGE, **changes}]}).encode())


def test_a_device_is_named_once() -> None:
    with pytest.raises(InvalidEntity):
        IncomingMessageList.from_json(json.dumps({"messages": [MESSAGE, MESSAGE]}).encode())
