"""WebSocket frames: requests and responses, in both directions, numbered by the side that asks.

Source of the format: Signal-Server, ``WebSocketProtocol.proto``; the same bytes as the official client's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from messaging.wire.errors import MalformedField, MalformedFrame
from messaging.wire.limits import MAX_HEADER, MAX_HEADERS, MAX_PATH
from messaging.wire.protobuf import websocket_pb2 as pb

NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Request:
    """One side asks; ``id`` names the answer. Header names are lower case."""

    id: int
    verb: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """The other side answers the request ``id``."""

    id: int
    status: int
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


Frame = Request | Response


def encode_frame(frame: Frame) -> bytes:
    """The bytes of one binary WebSocket message."""
    if isinstance(frame, Request):
        return encode_request(frame.id, frame.verb, frame.path, _lines(frame.headers), frame.body)
    message = pb.Frame()
    message.type = pb.Frame.RESPONSE
    response = message.response
    response.id = frame.id
    response.status = frame.status
    response.message = frame.message
    response.headers.extend(_lines(frame.headers))
    if frame.body is not None:
        response.body = frame.body
    return message.SerializeToString()


def encode_request(number: int, verb: str, path: str, lines: Iterable[str], body: bytes | None) -> bytes:
    """The same for a request in parts, its headers as lines ``name:value``: for the one that carries each envelope."""
    message = pb.Frame()
    message.type = pb.Frame.REQUEST
    request = message.request
    request.id = number
    request.verb = verb
    request.path = path
    request.headers.extend(lines)
    if body is not None:
        request.body = body
    return message.SerializeToString()


def decode_frame(data: bytes) -> Frame:
    """Read one binary WebSocket message.

    Raises:
        MalformedFrame: not protobuf, neither request nor response, or beyond a limit of ``wire.limits``.
    """
    try:
        frame = pb.Frame.FromString(data)
        if frame.type == pb.Frame.RESPONSE and frame.HasField("response"):
            return _response(frame.response)
    except (DecodeError, MalformedField):
        raise MalformedFrame("a frame that is not protobuf") from None
    if frame.type == pb.Frame.REQUEST and frame.HasField("request"):
        return _request(frame.request)
    raise MalformedFrame("a frame that is neither request nor response")


def _request(request: pb.Request) -> Request:
    if not request.verb.isalpha() or not request.path.startswith("/") or len(request.path) > MAX_PATH:
        raise MalformedFrame("a request without verb or path")
    body = request.body if request.HasField("body") else None
    return Request(request.id, request.verb.upper(), request.path, _headers(request.headers), body)


def _response(response: pb.Response) -> Response:
    message, headers, status = response.message, response.headers, response.status
    if not 100 <= status <= 599:
        raise MalformedFrame("a response without status")
    body = response.body if response.HasField("body") else None
    return Response(response.id, status, message, _headers(headers) if headers else NO_HEADERS, body)


def _lines(headers: Mapping[str, str]) -> list[str]:
    return [f"{name}:{value}" for name, value in headers.items()]


def _headers(lines: Iterable[str]) -> dict[str, str]:
    """``name:value`` lines as a mapping; of a repeated name the last value stands."""
    headers: dict[str, str] = {}
    for count, line in enumerate(lines, start=1):
        name, colon, value = line.partition(":")
        if not colon or len(line) > MAX_HEADER or count > MAX_HEADERS:
            raise MalformedFrame("headers beyond the limits")
        headers[name.strip().lower()] = value.strip()
    return headers


def encode_provisioning_address(address: str) -> bytes:
    """The body of ``PUT /v1/address`` on a provisioning socket."""
    return pb.ProvisioningAddress(address=address).SerializeToString()


def decode_provisioning_address(data: bytes) -> str:
    """Undo :func:`encode_provisioning_address`.

    Raises:
        MalformedFrame: not a provisioning address.
    """
    try:
        address = pb.ProvisioningAddress.FromString(data)
    except (DecodeError, MalformedField):
        raise MalformedFrame("a provisioning address that is not protobuf") from None
    return address.address
