"""How bytes, names and faults travel in JSON."""

import base64

import pytest
from hypothesis import given
from hypothesis.strategies import binary, text

from messaging.wire.json import (
    Base64,
    EcPublicKey,
    Entity,
    InvalidEntity,
    KyberPublicKey,
    MalformedJson,
    decode_base64,
    encode_base64,
)


class Sample(Entity):
    some_bytes: Base64
    a_number: int = 0
    maybe: int | None = None


class Keys(Entity):
    ec: EcPublicKey | None = None
    kyber: KyberPublicKey | None = None


@given(data=binary(max_size=100))
def test_bytes_come_back_with_and_without_padding(data: bytes) -> None:
    padded = encode_base64(data)
    assert padded == base64.b64encode(data).decode()
    assert decode_base64(padded) == decode_base64(padded.rstrip("=")) == data


@given(data=binary(max_size=40))
def test_an_entity_comes_back(data: bytes) -> None:
    sample = Sample(some_bytes=data, a_number=7)
    assert Sample.from_json(sample.to_json()) == sample


def test_members_are_camel_case_and_absent_ones_left_out() -> None:
    assert Sample(some_bytes=b"a").to_json() == b'{"someBytes":"YQ==","aNumber":0}'


def test_an_array_of_numbers_is_read_as_bytes_because_libsignal_sends_one() -> None:
    assert Sample.from_json(b'{"someBytes": [0, 255]}').some_bytes == b"\x00\xff"


def test_unknown_members_are_ignored() -> None:
    assert Sample.from_json(b'{"someBytes": "", "fromTheFuture": {}}').some_bytes == b""


@pytest.mark.parametrize(
    "body",
    ["[]", "{}", '{"someBytes": 1}', '{"someBytes": "%"}', '{"someBytes": [256]}', '{"someBytes": "", "aNumber": "1"}'],
)
def test_another_shape_is_invalid(body: str) -> None:
    with pytest.raises(InvalidEntity):
        Sample.from_json(body.encode())


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"someBytes": "" '])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        Sample.from_json(body)


@given(value=text(min_size=8, alphabet="CANARY"))
def test_a_fault_names_the_member_and_not_its_value(value: str) -> None:
    with pytest.raises(InvalidEntity) as caught:
        Sample.from_json(b'{"someBytes": "", "aNumber": "%s", "%s": 1}' % (value.encode(), value.encode()))
    assert caught.value.fields == ("aNumber",)
    assert value not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


@pytest.mark.parametrize(
    "member",
    [{"ec": bytes(33)}, {"ec": b"\x05" * 32}, {"kyber": bytes(1569)}, {"kyber": b"\x08" * 1568}],
    ids=["ec type", "ec size", "kyber type", "kyber size"],
)
def test_a_public_key_has_its_size_and_type_byte(member: dict[str, bytes]) -> None:
    body = {name: encode_base64(key) for name, key in member.items()}
    with pytest.raises(InvalidEntity):
        Keys.from_json(str(body).replace("'", '"').encode())
