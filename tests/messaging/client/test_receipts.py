"""A receipt file is one file in one spelling; without its content it shows who consented and nothing of what was said."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import encode
from attestation.errors import MalformedReceipt
from attestation.limits import MAX_RECEIPT
from messaging.client.receipts import (
    MAX_RECEIPT_FILE,
    MAX_STATEMENT,
    ReceiptFile,
    ShownConsent,
    looks_like_receipt_file,
)
from messaging.wire.answers import MAX_ANSWER
from messaging.wire.consent import SignedConsent
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import MAX_CONSENTS, MAX_CONTENT
from tests.messaging.client.receipt_files import ALICE, ANSWER, BOB, BUNDLE, REQUEST, accepted_file

VECTORS = Path(__file__).parents[2] / "vectors" / "receipts"
FILE = accepted_file()
DATA = FILE.encode()


def test_is_one_canonical_object_and_one_newline_with_the_bundle_in_it() -> None:
    members = json.loads(DATA)
    assert encode(members) + b"\n" == DATA
    assert sorted(members) == ["answer", "bundle", "consents", "receipt", "request", "signed"]
    assert encode(members["bundle"]) + b"\n" == BUNDLE.encode()
    assert sorted(members["consents"][0]) == ["author", "identity_key", "signature", "statement"]
    assert base64.b64decode(members["request"]) == REQUEST


def test_the_file_of_the_vectors_is_reproduced_byte_by_byte() -> None:
    data = (VECTORS / "receipt-file.json").read_bytes()
    file = ReceiptFile.parse(data)
    vector = json.loads((VECTORS / "receipt.json").read_text())
    assert file.encode() == data
    assert file.signed.hex() == vector["signed"]
    assert file.consent_set_digest().hex() == vector["receipt"]["consents"]


service_ids = st.uuids().map(ServiceId)
shown = st.builds(
    ShownConsent,
    service_ids,
    st.binary(min_size=33, max_size=33),
    st.builds(SignedConsent, st.binary(max_size=80), st.binary(min_size=64, max_size=64)),
)
files = st.builds(
    ReceiptFile,
    bundle=st.just(BUNDLE),
    signed=st.binary(max_size=40),
    consents=st.lists(shown, max_size=4, unique_by=lambda item: item.author).map(tuple),
    request=st.none() | st.binary(max_size=40),
    answer=st.none() | st.binary(max_size=40),
)


@given(files)
def test_reading_undoes_writing(file: ReceiptFile) -> None:
    data = file.encode()
    assert ReceiptFile.parse(data) == file
    assert looks_like_receipt_file(data)


def test_the_order_in_which_consents_are_given_does_not_matter() -> None:
    assert replace(FILE, consents=FILE.consents[::-1]) == FILE


@given(at=st.integers(0, len(DATA) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_makes_another_file(at: int, byte: int) -> None:
    changed = DATA[:at] + bytes([byte]) + DATA[at + 1 :]
    try:
        file = ReceiptFile.parse(changed)
    except MalformedReceipt:
        return
    assert file.encode() == changed
    assert (file == FILE) == (changed == DATA)


@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,receipt1 \n', max_size=60).map(str.encode))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedReceipt):
        ReceiptFile.parse(data)


def with_member(name: str, value: object) -> bytes:
    """The file with another member; ``...`` leaves it out."""
    members = {**json.loads(DATA), name: value}
    return encode({key: member for key, member in members.items() if member is not ...}) + b"\n"


def with_consent(**changes: object) -> bytes:
    """The file with another first consent."""
    first, *rest = json.loads(DATA)["consents"]
    return with_member("consents", [{**first, **changes}, *rest])


CONSENTS = json.loads(DATA)["consents"]


@pytest.mark.parametrize(
    "data",
    [
        *(with_member(name, ...) for name in ("bundle", "consents", "receipt", "signed")),
        *(with_member(name, None) for name in json.loads(DATA)),
        *(with_member(name, 1) for name in json.loads(DATA) if name != "receipt"),
        *(with_member(name, "*") for name in json.loads(DATA)),
        with_member("receipt", 2),
        with_member("receipt", True),
        with_member("more", 1),
        with_member("bundle", {}),
        with_member("bundle", {**json.loads(BUNDLE.encode()), "bundle": 1.0}),
        with_member("bundle", {**json.loads(BUNDLE.encode()), "collateral": {"rims": "*"}}),
        with_member("consents", CONSENTS[::-1]),
        with_member("consents", [*CONSENTS, CONSENTS[1]]),
        with_member("consents", [1]),
        with_member("consents", CONSENTS * MAX_CONSENTS),
        with_consent(author="alice"),
        with_consent(author=str(ALICE.service_id).upper()),
        with_consent(identity_key=base64.b64encode(bytes(32)).decode()),
        with_consent(signature=base64.b64encode(bytes(63)).decode()),
        with_consent(statement=base64.b64encode(bytes(MAX_STATEMENT + 1)).decode()),
        with_consent(statement=None),
        with_consent(more=1),
        with_member("signed", base64.b64encode(bytes(MAX_RECEIPT + 1)).decode()),
        with_member("request", base64.b64encode(bytes(MAX_CONTENT + 1)).decode()),
        with_member("answer", base64.b64encode(bytes(MAX_ANSWER + 1)).decode()),
    ],
)
def test_a_member_that_is_missing_wrong_or_unknown_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedReceipt):
        ReceiptFile.parse(data)


@pytest.mark.parametrize(
    "made",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: b" " + data,
        lambda data: data.replace(b",", b", "),
        lambda data: data.replace(b'"receipt":1,', b'"receipt":1,"receipt":1,'),
        lambda data: data.replace(b"signed", b"\\u0073igned"),
        lambda data: data.replace(b'"collateral":{}', b'"collateral":{"\\ud800":1}'),
        lambda data: data.replace(b'"collateral":{}', b'"collateral":' + b"[" * 900 + b"]" * 900),
        lambda data: BUNDLE.encode(),
        lambda data: b" " * (MAX_RECEIPT_FILE + 1),
    ],
)
def test_no_other_spelling_is_read(made: Callable[[bytes], bytes]) -> None:
    with pytest.raises(MalformedReceipt):
        ReceiptFile.parse(made(DATA))


def test_without_content_everything_is_there_but_what_was_asked_and_answered() -> None:
    shown_to_bob = FILE.without_content()
    data = shown_to_bob.encode()
    assert ReceiptFile.parse(data) == replace(FILE, request=None, answer=None)
    assert looks_like_receipt_file(data)
    for content in (REQUEST, ANSWER):
        assert base64.b64encode(content) in DATA
        assert base64.b64encode(content) not in data


def test_a_bundle_is_no_receipt_file() -> None:
    assert not looks_like_receipt_file(BUNDLE.encode())


def test_says_whose_consent_is_in_it() -> None:
    assert FILE.consents_of(BOB.service_id) == (FILE.consents[1],)
    assert replace(FILE, consents=()).consents_of(BOB.service_id) == ()


def test_what_could_not_be_read_again_is_not_made() -> None:
    alice = ALICE.consent()
    limits = {"signed": MAX_RECEIPT, "request": MAX_CONTENT, "answer": MAX_ANSWER}
    for name, limit in limits.items():
        change: Any = {name: bytes(limit + 1)}
        with pytest.raises(ValueError, match="too large"):
            replace(FILE, **change)
    largest = replace(FILE, signed=bytes(MAX_RECEIPT), request=bytes(MAX_CONTENT), answer=bytes(MAX_ANSWER))
    assert ReceiptFile.parse(largest.encode()) == largest
    for consent in (
        replace(alice, identity_key=bytes(32)),
        replace(alice, signed=SignedConsent(alice.signed.statement, bytes(63))),
        replace(alice, signed=SignedConsent(bytes(MAX_STATEMENT + 1), bytes(64))),
    ):
        with pytest.raises(ValueError, match="wrong length"):
            replace(FILE, consents=(consent,))
    for consents in ((alice, alice), tuple(ALICE.consent() for _ in range(MAX_CONSENTS + 1))):
        with pytest.raises(ValueError, match="once, and"):
            replace(FILE, consents=consents)


def test_the_content_is_not_shown() -> None:
    assert "the bytes of" not in repr(FILE)
