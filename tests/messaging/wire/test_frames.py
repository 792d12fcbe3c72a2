"""Frames: what goes in comes out, and nothing that is malformed does."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis.strategies import binary, builds, dictionaries, from_regex, integers, none, sampled_from, text

from messaging.wire.errors import MalformedFrame
from messaging.wire.frames import Frame, Request, Response, decode_frame, encode_frame
from messaging.wire.limits import MAX_HEADER, MAX_HEADERS, MAX_PATH
from messaging.wire.protobuf import websocket_pb2 as pb

ids = integers(0, 2**64 - 1)
headers = dictionaries(from_regex(r"[a-z][a-z-]{0,10}", fullmatch=True), text("abc:/ =", max_size=8).map(str.strip))
bodies = none() | binary(max_size=40)
requests = builds(
    Request, ids, sampled_from(["GET", "PUT"]), text("/ab?=", max_size=9).map("/".__add__), headers, bodies
)
responses = builds(Response, ids, integers(100, 599), text(max_size=9), headers, bodies)


@given(frame=requests | responses)
def test_decode_undoes_encode(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame)) == frame


@given(data=binary(max_size=60))
def test_bytes_are_a_frame_or_malformed(data: bytes) -> None:
    with suppress(MalformedFrame):
        assert isinstance(decode_frame(data), Request | Response)


@pytest.mark.parametrize(
    "frame",
    [
        pb.Frame(),
        pb.Frame(type=pb.Frame.REQUEST),
        pb.Frame(type=pb.Frame.RESPONSE, request=pb.Request(verb="GET", path="/")),
        pb.Frame(type=pb.Frame.REQUEST, request=pb.Request(verb="", path="/")),
        pb.Frame(type=pb.Frame.REQUEST, request=pb.Request(verb="GET", path="no-slash")),
        pb.Frame(type=pb.Frame.REQUEST, request=pb.Request(verb="GET", path="/" * (MAX_PATH + 1))),
        pb.Frame(type=pb.Frame.REQUEST, request=pb.Request(verb="GET", path="/", headers=["no colon"])),
        pb.Frame(type=pb.Frame.REQUEST, request=pb.Request(verb="GET", path="/", headers=["a:" + "b" * MAX_HEADER])),
        pb.Frame(type=pb.Frame.REQUEST, request=pb.Request(verb="GET", path="/", headers=["a:b"] * (MAX_HEADERS + 1))),
        pb.Frame(type=pb.Frame.RESPONSE, response=pb.Response(status=99)),
    ],
)
def test_a_frame_beyond_the_rules_is_malformed(frame: pb.Frame) -> None:
    with pytest.raises(MalformedFrame):
        decode_frame(frame.SerializeToString())


def test_header_names_do_not_depend_on_case_and_the_last_value_stands() -> None:
    request = pb.Request(verb="put", path="/", headers=["Name: one", "NAME:two"])
    frame = decode_frame(pb.Frame(type=pb.Frame.REQUEST, request=request).SerializeToString())
    assert isinstance(frame, Request)
    assert (frame.verb, frame.headers) == ("PUT", {"name": "two"})
