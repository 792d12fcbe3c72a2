"""HTTP at the edge: what is no request of ours gets an answer, and nothing is repeated."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest

from messaging.relay.errors import StartupError
from messaging.relay.http import Answer
from messaging.relay.server import head_of, tls_context
from messaging.wire.limits import MAX_BODY
from tests.devices import Device, Peer
from tests.relays import Relays, StartedRelay


async def test_an_unknown_path_and_a_wrong_verb_are_told_apart(peer: Peer) -> None:
    unknown = await peer.call("GET", "/CANARY/%2e%2e?CANARY")
    assert (unknown.status, unknown.json()) == (404, {"code": "no_such_path"})
    wrong = await peer.call("POST", "/v2/keys")
    assert (wrong.status, wrong.json(), wrong.headers["allow"]) == (405, {"code": "method_not_allowed"}, "GET, PUT")
    assert (await peer.call("GET", "/v1/websocket/")).status == 404


async def test_a_body_that_is_too_large_is_refused(alice: Device) -> None:
    refused = await alice.call("PUT", "/v2/keys", b"x" * (MAX_BODY + 1))
    assert (refused.status, refused.json()) == (413, {"code": "too_large"})


async def test_a_body_that_claims_to_be_compressed_is_not_unpacked(alice: Device) -> None:
    refused = await alice.call("PUT", "/v2/keys", b"\x1f\x8b\x08", **{"Content-Encoding": "gzip"})
    assert refused.status == 400


async def test_each_answer_carries_the_time(peer: Peer) -> None:
    assert int((await peer.call("GET", "/v1/keepalive")).headers["x-signal-timestamp"]) > 1_700_000_000_000


@pytest.mark.parametrize("sent", [b"CANARY\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nCANARY\r\n\r\n"])
async def test_what_is_not_http_is_refused_without_an_echo(relays: Relays, sent: bytes) -> None:
    relay = await relays.start("sqlite")
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.0 400")
    assert answer.endswith(b'{"code":"malformed"}')
    assert b"CANARY" not in answer
    assert b"aiohttp" not in answer


async def test_the_relay_speaks_tls(relays: Relays) -> None:
    relay: StartedRelay = await relays.start("sqlite", tls=True)
    assert relay.tls is not None
    trusting = ssl.create_default_context(cafile=str(relay.tls.certificate))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as http:
        peer = Peer(relay, http)
        bob, alice = await peer.register(), await peer.register()
        async with bob.socket() as socket:
            await socket.queue_empty()
            await alice.send(bob, b"over TLS")
            assert await socket.receive(1) == [b"over TLS"]
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await Peer(relay, http).call("GET", "/v1/keepalive")


async def test_the_relay_refuses_tls_1_2(relays: Relays) -> None:
    relay: StartedRelay = await relays.start("sqlite", tls=True)
    assert relay.tls is not None
    old = ssl.create_default_context(cafile=str(relay.tls.certificate))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", relay.port, ssl=old)


def test_a_certificate_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for path in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        with pytest.raises(StartupError, match="certificate"):
            tls_context(path, path)


def test_an_answer_is_one_piece_and_has_no_length_where_it_has_no_body() -> None:
    head = head_of(Answer(200, b"{}", {"A": "b"}), keep_alive=True).decode()
    assert head.startswith("HTTP/1.1 200 OK\r\nServer: subrosa\r\nDate: ")
    assert head.endswith(" GMT\r\nA: b\r\nContent-Length: 2\r\n\r\n")
    assert "Content-Length" not in head_of(Answer(204), keep_alive=True).decode()
    assert "\r\nConnection: close\r\n" in head_of(Answer(500), keep_alive=False).decode()
    assert "Connection" not in head_of(Answer(200), keep_alive=False, old=True).decode()
    assert "\r\nConnection: keep-alive\r\n" in head_of(Answer(200), keep_alive=True, old=True).decode()
    assert head_of(Answer(440), keep_alive=True).startswith(b"HTTP/1.1 440 \r\n")


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\r\nX: b"])
def test_a_header_of_more_than_one_line_is_never_sent(value: str) -> None:
    with pytest.raises(ValueError, match="more than one line"):
        head_of(Answer(200, b"", {"A": value}), keep_alive=True)


async def test_a_request_for_the_head_alone_gets_no_body_and_its_connection_goes_on(relay: StartedRelay) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    for _ in range(2):
        writer.write(b"HEAD /v1/keepalive HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 405 ")
    writer.close()
