"""How the load harness speaks to the relay: Signal's wire, through ``messaging.wire`` alone.

The harness loads this file by its path, with its own folder as the present one.
"""

import base64
from collections.abc import Sequence

from benchmarks._accounts import REGISTRATION_ID, access_key_of, aci_of, password_of, receiver_of
from messaging.wire import frames
from messaging.wire.envelope import EnvelopeType
from messaging.wire.protobuf import envelope_pb2

_OK = 200


class Sealed:
    """Sealed sends: what clients that have exchanged profile keys use. Devices log in; senders show an access key."""

    binary_ack = True
    kind = EnvelopeType.UNIDENTIFIED_SENDER

    def __init__(self, port: int) -> None:
        self.port = port

    async def prepare(self, users: Sequence[str]) -> None:
        """All accounts are in the database already."""

    def headers(self, _sender: str, to: str) -> list[tuple[str, str]]:
        """Who may send."""
        return [("Unidentified-Access-Key", base64.b64encode(access_key_of(to)).decode())]

    def put(self, sender: str, to: str, payload: bytes) -> bytes:
        """The request that sends ``payload``."""
        body = b'{"messages":[{"type":%d,"destinationDeviceId":1,"destinationRegistrationId":%d,"content":"%b"}]}' % (
            self.kind,
            REGISTRATION_ID,
            base64.b64encode(payload),
        )
        lines = [
            f"PUT /v1/messages/{aci_of(to)} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in self.headers(sender, to)),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body

    def accepted(self, status: int, _body: bytes) -> bool:
        """Whether the relay has the message."""
        return status == _OK

    def socket(self, user: str, index: int) -> tuple[str, list[tuple[str, str]]]:
        """Path and headers of a device's socket."""
        return "/v1/websocket/", [("Authorization", basic(receiver_of(user, index)))]

    def parse(self, frame: bytes) -> tuple[bytes, bytes] | None:
        """The acknowledgement of an envelope's frame, and its content; ``None`` for another frame."""
        request = frames.decode_frame(frame)
        if not isinstance(request, frames.Request) or request.path != "/api/v1/message" or request.body is None:
            return None
        return frames.encode_frame(frames.Response(request.id, _OK, "OK")), envelope_content(request.body)

    def ack(self, acknowledgement: bytes) -> bytes:
        """The frame that acknowledges."""
        return acknowledgement


class Identified(Sealed):
    """Sends with the sender's login: checked at each, and each is answered with a delivery receipt."""

    kind = EnvelopeType.CIPHERTEXT

    def headers(self, sender: str, _to: str) -> list[tuple[str, str]]:
        """Who sends."""
        return [("Authorization", basic(sender))]


def basic(name: str, device: int = 1) -> str:
    """The login of an account's device."""
    return "Basic " + base64.b64encode(f"{aci_of(name)}.{device}:{password_of(name)}".encode()).decode()


def envelope_content(data: bytes) -> bytes:
    """The content of an envelope, without its checks: the load generator's own cost is to stay small."""
    content: bytes = envelope_pb2.Envelope.FromString(data).content
    return content


class Fan(Sealed):
    """Sends to all devices of one account with several; ``index`` is the device."""

    def __init__(self, port: int, devices: int) -> None:
        super().__init__(port)
        self.devices = devices

    def put(self, sender: str, _to: str, payload: bytes) -> bytes:
        """One ciphertext for each device."""
        one = super().put(sender, f"fan{self.devices}", payload)
        message = one[one.index(b'[{"type"') + 1 : one.rindex(b"]}")]
        messages = [
            message.replace(b'"destinationDeviceId":1', b'"destinationDeviceId":%d' % device)
            for device in range(1, self.devices + 1)
        ]
        body = b'{"messages":[' + b",".join(messages) + b"]}"
        head = one[: one.index(b"\r\n\r\n")].split(b"\r\n")
        head = [b"Content-Length: %d" % len(body) if line.startswith(b"Content-Length") else line for line in head]
        return b"\r\n".join(head) + b"\r\n\r\n" + body

    def socket(self, _user: str, index: int) -> tuple[str, list[tuple[str, str]]]:
        """The socket of one of the devices."""
        return "/v1/websocket/", [("Authorization", basic(f"fan{self.devices}", index))]
