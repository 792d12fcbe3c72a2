"""A value that exists is valid, and none shows secrets."""

from uuid import uuid4

import pytest

from signal_protocol.errors import InvalidArgument
from signal_protocol.types import (
    Address,
    Decrypted,
    Identity,
    LocalDevice,
    OneTimePrekey,
    PrekeyBundle,
    PublicPrekey,
    SignedPublicPrekey,
    service_id_bytes,
)

ACI = "9d0652a3-dcc3-4d11-975f-74d61598733f"
KEY = SignedPublicPrekey(1, b"", b"")


@pytest.mark.parametrize("service_id", [ACI, f"PNI:{ACI}"])
@pytest.mark.parametrize("device_id", [1, 127])
def test_an_address_is_a_service_id_and_a_device_id(service_id: str, device_id: int) -> None:
    assert str(Address(service_id, device_id)) == f"{service_id}.{device_id}"


@pytest.mark.parametrize(
    "service_id", ["", "+14155550101", "alice", ACI.upper(), ACI.replace("-", ""), f"{{{ACI}}}", f"ACI:{ACI}", "PNI:"]
)
def test_other_names_are_refused_because_libsignal_would_not_authenticate_them(service_id: str) -> None:
    with pytest.raises(InvalidArgument):
        Address(service_id, 1)


@pytest.mark.parametrize("device_id", [-1, 0, 128, 2**32 + 1])
def test_a_device_id_is_from_1_to_127(device_id: int) -> None:
    with pytest.raises(InvalidArgument):
        Address(ACI, device_id)


@pytest.mark.parametrize("registration_id", [-1, 0, 16381])
def test_a_registration_id_is_from_1_to_16380(registration_id: int) -> None:
    with pytest.raises(InvalidArgument):
        LocalDevice(Address(ACI, 1), Identity(b"", b""), registration_id)
    with pytest.raises(InvalidArgument):
        PrekeyBundle(registration_id, 1, b"", KEY, KEY)


def test_a_bundle_has_a_valid_device_id() -> None:
    with pytest.raises(InvalidArgument):
        PrekeyBundle(1, 128, b"", KEY, KEY)


def test_a_service_id_as_bytes_says_its_kind() -> None:
    assert len(service_id_bytes(str(uuid4()))) == 16
    assert service_id_bytes(f"PNI:{ACI}") == b"\x01" + service_id_bytes(ACI)


def test_secrets_have_no_repr() -> None:
    values = [
        Identity(b"public", b"secret"),
        OneTimePrekey(PublicPrekey(1, b"public"), b"secret"),
        Decrypted(b"secret", b"secret", b"public"),
    ]
    assert "secret" not in repr(values)
