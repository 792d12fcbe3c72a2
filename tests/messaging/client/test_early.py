"""What came too early waits, each sender in little room."""

from uuid import uuid4

import pytest

from messaging.client import Received
from messaging.client.early import MAX_EARLY, MAX_EARLY_OF_SENDER, Early
from messaging.wire.content import DataMessage
from messaging.wire.identifiers import DeviceAddress, ServiceId

ANN = ServiceId(uuid4())


def received(number: int, sender: ServiceId = ANN, device: int = 1) -> Received:
    return Received(number, DeviceAddress(sender, device), DataMessage("early", number, bytes(32)), 1, True)


def test_it_waits_in_order_and_each_once() -> None:
    early = Early()
    for number in (1, 2, 1, 3):
        assert early.keep(received(number)) is None
    assert [each.id for each in early] == [1, 2, 3]
    early.forget(received(2))
    early.forget(received(2))
    assert [each.id for each in early] == [1, 3]


@pytest.mark.parametrize("device", [1, 2])
def test_a_sender_has_little_room(device: int) -> None:
    early = Early()
    for number in range(MAX_EARLY_OF_SENDER):
        assert early.keep(received(number)) is None
    assert early.keep(received(1000, ServiceId(uuid4()))) is None
    assert early.keep(received(1001, device=device)) == received(0)
    assert len(early) == MAX_EARLY_OF_SENDER + 1


def test_all_together_have_more() -> None:
    early = Early()
    for number in range(MAX_EARLY):
        assert early.keep(received(number, ServiceId(uuid4()))) is None
    pushed_out = early.keep(received(MAX_EARLY, ServiceId(uuid4())))
    assert pushed_out is not None
    assert (pushed_out.id, len(early)) == (0, MAX_EARLY)
