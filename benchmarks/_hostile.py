"""Clients that mean ill, against a relay on a port of this machine: ``python -m benchmarks._hostile PORT``, until it is ended.

Sockets that never finish their request, frames beyond all limits, sockets whose owner does not read, and a flood of requests
that make no sense; all at rates that one person's machine could keep up for ever.
"""

import asyncio
import sys
from contextlib import suppress

from benchmarks._accounts import REGISTRATION_ID, access_key_of, aci_of
from benchmarks._profile import Sealed, basic
from messaging.wire.limits import MAX_FRAME

HALF_OPEN = 1000
SLOW_READERS = 20
BAD_REQUESTS_PER_SECOND = 200
GIANT_FRAMES_PER_SECOND = 5


async def half_open(port: int) -> None:
    """Begin a request and never end it."""
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PUT /v1/messages/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        while True:
            await asyncio.sleep(60)


async def socket_of(port: int, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A chat socket of an account."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    lines = [
        "GET /v1/websocket/ HTTP/1.1",
        "Host: x",
        f"Authorization: {basic(name)}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def slow_reader(port: int, number: int) -> None:
    """Have a full mailbox, open a socket, and do not read it."""
    name, profile = f"r{150 + number}", Sealed(port)
    with suppress(OSError, asyncio.IncompleteReadError):
        sender_reader, sender = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(50):
            sender.write(profile.put("s0", name, bytes(60_000)))
            await sender_reader.readuntil(b"\r\n\r\n")
            await sender_reader.readexactly(len(b'{"needsSync":false}'))
        _, writer = await socket_of(port, name)
        while True:
            await asyncio.sleep(60)
            writer.write(b"")


async def giant_frames(port: int) -> None:
    """Send frames larger than any may be."""
    head = b"\x82\xff" + (MAX_FRAME * 4).to_bytes(8, "big") + bytes(4)
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            _, writer = await socket_of(port, "r199")
            writer.write(head + bytes(MAX_FRAME * 2))
            await writer.drain()
            writer.close()
        await asyncio.sleep(1 / GIANT_FRAMES_PER_SECOND)


async def bad_requests(port: int) -> None:
    """Send what makes no sense, on connections that stay open."""
    bodies = [b"{", b"[]" * 1000, b'{"messages": ' + b"[" * 5000, b"\xff" * 50_000, b'{"messages":[{"type":1}]}']
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            drain = asyncio.create_task(reader.read(-1))
            for number in range(1000):
                body = bodies[number % len(bodies)]
                path = f"/v1/messages/{aci_of('r0')}" if number % 2 else f"/v1/{'x' * (number % 500)}?{REGISTRATION_ID}"
                key = access_key_of("nobody").hex()
                writer.write(
                    f"PUT {path} HTTP/1.1\r\nHost: x\r\nUnidentified-Access-Key: {key}\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
                await asyncio.sleep(1 / BAD_REQUESTS_PER_SECOND)
            drain.cancel()
            writer.close()


async def main(port: int) -> None:
    """All of it at once."""
    everything = [half_open(port) for _ in range(HALF_OPEN)]
    everything += [slow_reader(port, number) for number in range(SLOW_READERS)]
    await asyncio.gather(*everything, giant_frames(port), bad_requests(port))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
