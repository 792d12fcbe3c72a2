"""Which devices a send must name."""

import pytest
from hypothesis import given
from hypothesis.strategies import dictionaries, integers

from messaging.relay.errors import DevicesMismatched, DevicesStale
from messaging.relay.messages.matching import check_devices

devices = dictionaries(integers(1, 5), integers(1, 3))


def test_exactly_the_registered_devices_match() -> None:
    check_devices({1: 10, 2: 20}, {1: 10, 2: 20})


def test_to_oneself_the_sending_device_is_left_out() -> None:
    check_devices({2: 20}, {1: 10, 2: 20}, without=1)


def test_stale_devices_are_reported_first() -> None:
    with pytest.raises(DevicesStale) as caught:
        check_devices({1: 11, 3: 30}, {1: 10, 2: 20})
    assert caught.value.stale == (1,)


def test_missing_and_extra_devices_are_reported_together() -> None:
    with pytest.raises(DevicesMismatched) as caught:
        check_devices({1: 10, 3: 30}, {1: 10, 2: 20})
    assert (caught.value.missing, caught.value.extra) == ((2,), (3,))


@given(named=devices, registered=devices)
def test_what_passes_is_equal(named: dict[int, int], registered: dict[int, int]) -> None:
    try:
        check_devices(named, registered)
    except (DevicesStale, DevicesMismatched):
        assert named != registered
    else:
        assert named == registered
