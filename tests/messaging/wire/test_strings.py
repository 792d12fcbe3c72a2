"""Strings that are not UTF-8 are refused wherever they stand, in the error of each reader."""

import pytest

from messaging.wire.answers import AnswerPart, FrameReader
from messaging.wire.assistant import AssistantRequest, Refusal, Result, Rewrite
from messaging.wire.content import AnswerFrame, DataMessage, decode_content, encode_content
from messaging.wire.errors import MalformedContent, MalformedField, MalformedFrame
from messaging.wire.frames import Request, decode_frame, decode_provisioning_address, encode_frame
from messaging.wire.limits import REQUEST_ID, SALT
from messaging.wire.padding import pad, unpad

BROKEN = b"\xff\xfe"


def broken(data: bytes, text: str) -> bytes:
    """``data`` with bytes that are no UTF-8 at the front of ``text``."""
    assert data.count(text.encode()) == 1
    return data.replace(text.encode(), BROKEN + text.encode()[len(BROKEN) :])


@pytest.mark.parametrize("text", ["GE", "/q", "x:"])
def test_in_a_frame(text: str) -> None:
    frame = encode_frame(Request(1, "GET", "/q", {"x": "y"}))
    with pytest.raises(MalformedFrame):
        decode_frame(broken(frame, text))


def test_in_an_address_and_in_content() -> None:
    with pytest.raises(MalformedFrame):
        decode_provisioning_address(b"\x0a\x02" + BROKEN)
    content = unpad(encode_content(DataMessage("no", 1)))
    with pytest.raises(MalformedContent):
        decode_content(pad(broken(content, "no")))


def test_in_a_request_a_result_and_an_answer() -> None:
    request = AssistantRequest(bytes(REQUEST_ID), Rewrite("draft", "tone"))
    result = Result(kind=Refusal("code"), salt=bytes(SALT), engine="engine")
    with pytest.raises(MalformedField, match="malformed request"):
        AssistantRequest.parse(broken(request.encode(), "draft"))
    with pytest.raises(MalformedField, match="malformed result"):
        Result.parse(broken(result.encode(), "code"))
    part = AnswerPart("text", result.encode()).encode()
    with pytest.raises(MalformedField, match="malformed answer"):
        FrameReader().read(AnswerFrame(request.id, 0, True, broken(part, "text")))
