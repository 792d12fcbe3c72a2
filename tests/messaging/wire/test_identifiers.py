"""Names of accounts and devices, as text and as bytes."""

import pytest
from hypothesis import given
from hypothesis.strategies import builds, integers, sampled_from, uuids

from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import DeviceAddress, IdentityKind, ServiceId, parse_device_id

service_ids = builds(ServiceId, uuids(), sampled_from(IdentityKind))
UUID_TEXT = "8b2b9c5e-9f6f-4e52-9b0a-111111111111"


@given(service_id=service_ids)
def test_text_and_bytes_come_back(service_id: ServiceId) -> None:
    assert ServiceId.parse(str(service_id)) == ServiceId.from_bytes(service_id.to_bytes()) == service_id


@given(address=builds(DeviceAddress, service_ids, integers(1, 127)))
def test_an_address_comes_back(address: DeviceAddress) -> None:
    assert DeviceAddress.parse(str(address)) == address


def test_without_a_device_the_primary_one_is_meant() -> None:
    assert DeviceAddress.parse(UUID_TEXT).device_id == 1


@pytest.mark.parametrize("text", ["", "x", UUID_TEXT.replace("-", ""), "{" + UUID_TEXT + "}", "pni:" + UUID_TEXT])
def test_another_spelling_is_malformed(text: str) -> None:
    with pytest.raises(MalformedField):
        ServiceId.parse(text)


@pytest.mark.parametrize("data", [b"", bytes(15), b"\x02" + bytes(16), bytes(18)])
def test_other_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedField):
        ServiceId.from_bytes(data)


@pytest.mark.parametrize("text", ["", "0", "128", "-1", "1.0", "٣", "0001"])
def test_other_device_ids_are_malformed(text: str) -> None:
    with pytest.raises(MalformedField):
        parse_device_id(text)
