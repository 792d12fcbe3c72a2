"""The vectors for clients in other languages are what this wire says, and this wire reads them."""

import hashlib
import json
from typing import Any

import pytest

from messaging.client.assistants import rank
from messaging.wire.answers import AnswerPart, FrameReader
from messaging.wire.assistant import AssistantRequest, Result
from messaging.wire.consent import CONSENT_CONTEXT, SignedConsent, read_consent
from messaging.wire.content import AnswerFrame, decode_content
from messaging.wire.identifiers import ServiceId
from messaging.wire.padding import pad
from signal_protocol.public.errors import InvalidSignature
from signal_protocol.public.keys import public_key_of, verify_signature
from tests.messaging.wire import make_vectors as made


def text_of(name: str) -> str:
    return (made.FOLDER / name).read_text(encoding="utf-8")


def load(name: str) -> list[dict[str, Any]]:
    return list(json.loads(text_of(name)))


def bytes_of(vectors: list[dict[str, Any]]) -> dict[str, bytes]:
    return {vector["name"]: bytes.fromhex(vector["protobuf"]) for vector in vectors}


@pytest.mark.parametrize("name", made.FILES)
def test_the_wire_has_not_changed(name: str) -> None:
    assert text_of(name) == made.text_of(name)


def test_every_file_of_vectors_is_held_against_the_wire() -> None:
    assert {path.name for path in made.FOLDER.iterdir()} == {*made.FILES, "README.md"}


def test_content_is_read_back() -> None:
    for name, protobuf in bytes_of(load("content.json")).items():
        assert decode_content(pad(protobuf)) == made.CONTENTS[name]


def test_requests_are_read_back() -> None:
    for name, protobuf in bytes_of(load("requests.json")).items():
        assert AssistantRequest.parse(protobuf) == made.REQUESTS[name]


def test_results_are_read_back() -> None:
    results = made.RESULTS | {"evidence": made.evidence_result()[0]}
    for name, protobuf in bytes_of(load("results.json")).items():
        assert Result.parse(protobuf) == results[name]


def test_the_hash_in_a_receipt_is_that_of_the_bytes_that_travel() -> None:
    for vector in [*load("requests.json"), *load("results.json")]:
        assert hashlib.sha256(bytes.fromhex(vector["protobuf"])).hexdigest() == vector["sha256"]


def test_the_signed_statement_is_the_authors_and_no_byte_of_it_can_change() -> None:
    signed = {name: bytes.fromhex(value) for name, value in json.loads(text_of("consent.json"))["signed"].items()}
    statement, identity_key = signed["statement"], signed["identity_key"]
    assert public_key_of(signed["identity_key_private"]) == identity_key
    assert read_consent(SignedConsent(statement, signed["signature"])) == made.NARROW
    verify_signature(identity_key, CONSENT_CONTEXT + statement, signed["signature"])
    for at in range(len(statement)):
        changed = statement[:at] + bytes([statement[at] ^ 1]) + statement[at + 1 :]
        with pytest.raises(InvalidSignature):
            verify_signature(identity_key, CONSENT_CONTEXT + changed, signed["signature"])


def test_a_client_goes_to_assistants_in_the_order_of_the_vector() -> None:
    listed = [ServiceId.parse(each["assistant"]) for each in json.loads(text_of("consent.json"))["rendezvous"]]
    assert rank(made.CONVERSATION, sorted(listed)) == listed


def test_the_frames_of_an_answer_give_back_what_was_written() -> None:
    short = [
        vector for vector in load("answers.json") if all(isinstance(each["data"], str) for each in vector["frames"])
    ]
    assert len(short) >= 3
    for vector in short:
        assert [part.encode().hex() for part in joined(vector)] == [
            step["bytes"] for step in vector["steps"] if "write" in step
        ]


def joined(answer: dict[str, Any]) -> list[AnswerPart]:
    request_id, reader = bytes.fromhex(answer["request_id"]), FrameReader()
    frames = [
        AnswerFrame(request_id, frame["index"], frame["last"], bytes.fromhex(frame["data"]))
        for frame in answer["frames"]
    ]
    return [part for frame in frames for part in reader.read(frame)]
