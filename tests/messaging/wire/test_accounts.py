"""The JSON of accounts, against what libsignal sends."""

import json
import re
from typing import Any

import pytest

from messaging.wire.accounts import (
    AccountAttributes,
    AccountCreationResponse,
    CreateVerificationSession,
    RegistrationRequest,
    is_e164,
    is_without_telephone,
    number_without_telephone,
)
from messaging.wire.json import InvalidEntity, encode_base64

EC = encode_base64(b"\x05" + bytes(32))
SIGNED = {"keyId": 1, "publicKey": EC, "signature": encode_base64(bytes(64))}
KYBER = {**SIGNED, "publicKey": encode_base64(b"\x08" + bytes(1568))}


def as_libsignal_sends() -> dict[str, Any]:
    """Members and forms as in libsignal's ``RegisterAccount`` (rust/net/chat/src/ws/registration/request.rs)."""
    return {
        "sessionId": "abc",
        "accountAttributes": {
            "fetchesMessages": True,
            "recoveryPassword": encode_base64(b"r" * 32),
            "registrationId": 123,
            "pniRegistrationId": 456,
            "unidentifiedAccessKey": list(b"unidentified key"),
            "unrestrictedUnidentifiedAccess": False,
            "capabilities": {"attachmentBackfill": True},
            "discoverableByPhoneNumber": True,
        },
        "skipDeviceTransfer": True,
        "aciIdentityKey": EC,
        "pniIdentityKey": EC,
        "aciSignedPreKey": SIGNED,
        "pniSignedPreKey": SIGNED,
        "aciPqLastResortPreKey": KYBER,
        "pniPqLastResortPreKey": KYBER,
    }


def test_a_registration_as_libsignal_sends_it_is_read() -> None:
    request = RegistrationRequest.from_json(json.dumps(as_libsignal_sends()).encode())
    assert request.account_attributes.unidentified_access_key == b"unidentified key"
    assert request.account_attributes.capabilities == {"attachmentBackfill": True}
    assert request.pni_pq_last_resort_pre_key is not None


@pytest.mark.parametrize(
    "left_out", ["pniIdentityKey", "pniSignedPreKey", "pniPqLastResortPreKey", "aciSignedPreKey", "accountAttributes"]
)
def test_the_pni_is_whole_and_the_rest_is_there(left_out: str) -> None:
    body = as_libsignal_sends()
    del body[left_out]
    with pytest.raises(InvalidEntity):
        RegistrationRequest.from_json(json.dumps(body).encode())


@pytest.mark.parametrize(
    "attributes",
    [
        {"registrationId": 0},
        {"registrationId": 16384},
        {"registrationId": 1},
        {"registrationId": 1, "unidentifiedAccessKey": "c2hvcnQ="},
    ],
    ids=["too small", "too large", "no access", "short key"],
)
def test_attributes_keep_their_bounds(attributes: dict[str, Any]) -> None:
    with pytest.raises(InvalidEntity):
        AccountAttributes.from_json(json.dumps(attributes).encode())


@pytest.mark.parametrize("number", ["+4915112345678", "+12025550123", "+2901129"])
def test_numbers_in_e164_are_taken(number: str) -> None:
    assert is_e164(number)


@pytest.mark.parametrize("number", ["", "4915112345678", "+0151", "+49 151 1", "+491511234567890123", "+49١٢٣٤٥٦٧"])
def test_other_numbers_are_refused_and_not_repeated(number: str) -> None:
    with pytest.raises(InvalidEntity) as caught:
        CreateVerificationSession.from_json(json.dumps({"number": number}).encode())
    assert caught.value.fields == ("number",)


def test_an_account_without_a_number_has_no_such_member() -> None:
    uuid = "8b2b9c5e-9f6f-4e52-9b0a-111111111111"
    created = AccountCreationResponse.from_json(json.dumps({"uuid": uuid, "reregistration": True}).encode())
    assert json.loads(created.to_json()) == {"uuid": uuid, "storageCapable": False, "reregistration": True}
    assert "number" not in repr(AccountCreationResponse(uuid=created.uuid, number="+4915112345678"))


def test_a_number_without_telephone_is_in_e164_and_of_a_country_code_that_nobody_has() -> None:
    numbers = {number_without_telephone() for _ in range(1000)}
    assert len(numbers) == 1000
    for number in numbers:
        assert re.fullmatch(r"\+999[0-9]{12}", number)
        assert is_e164(number)
        assert is_without_telephone(number)


@pytest.mark.parametrize(
    "number", ["+4915112345678", "+998712345678", "+99", "999000000000000", "+9991234567890123", ""]
)
def test_other_numbers_may_be_somebodys_or_are_none(number: str) -> None:
    assert not is_without_telephone(number)


def test_only_a_bot_is_marked() -> None:
    uuid = "8b2b9c5e-9f6f-4e52-9b0a-111111111111"
    marked = AccountCreationResponse.from_json(json.dumps({"uuid": uuid, "bot": True}).encode())
    assert json.loads(marked.to_json())["bot"] is True
    assert "bot" not in json.loads(AccountCreationResponse(uuid=marked.uuid).to_json())
