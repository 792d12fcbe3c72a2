import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest
from hypothesis import given
from hypothesis.strategies import binary, dictionaries, none, sampled_from, text

from attestation.collecting.dstack import MAX_ANSWER, DstackCollector, tdx_evidence
from attestation.collecting.errors import DstackFailed, DstackUnreachable
from attestation.document import CpuEvidence, CpuType
from attestation.limits import MAX_EVENT_LOG, MAX_REPORT
from tests.attestation.vectors import read as vector

REPORT_DATA = bytes(range(64))
EVENT_LOG = '[{"imr":3,"event_type":134217729,"digest":"00","event":"app-id","event_payload":"00"}]'
SHORT = 0.3  # seconds

Respond = Callable[[BufferedIOBase], object]


def answer(**members: object) -> bytes:
    """What the guest agent answers; members can be put in place of others."""
    usual = {
        "quote": b"a quote".hex(),
        "event_log": EVENT_LOG,
        "report_data": REPORT_DATA.hex(),
        "vm_config": "{}",
    }
    return json.dumps({**usual, **members}).encode()


def http(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


class Agent(ThreadingMixIn, UnixStreamServer):
    """An HTTP server on a Unix socket, which reads requests properly and answers as it is told."""

    daemon_threads = True
    respond: Respond
    questions: list[tuple[str, str | None, bytes]]

    def handle_error(self, request: object, client_address: object) -> None:
        """Collectors hang up on bad answers."""


class Handler(BaseHTTPRequestHandler):
    server: Agent

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.questions.append((self.path, self.headers["Content-Type"], body))
        self.server.respond(self.wfile)
        self.close_connection = True


@contextmanager
def agent(folder: Path, respond: Respond) -> Iterator[Agent]:
    with Agent(str(folder / "dstack.sock"), Handler) as server:
        server.respond = respond
        server.questions = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def collect(folder: Path, respond: Respond, deadline: float = 10.0) -> CpuEvidence:
    with agent(folder, respond):
        return DstackCollector(folder / "dstack.sock", deadline).collect(REPORT_DATA)


# --- the exchange ----------------------------------------------------------------------------------------------------


def test_a_quote_comes_with_the_event_log(tmp_path: Path) -> None:
    evidence = collect(tmp_path, lambda wire: wire.write(http(answer())))
    assert evidence == CpuEvidence(CpuType.TDX, b"a quote", event_log=EVENT_LOG.encode())


def test_the_question_is_the_report_data_in_hexadecimal(tmp_path: Path) -> None:
    with agent(tmp_path, lambda wire: wire.write(http(answer()))) as server:
        DstackCollector(tmp_path / "dstack.sock").collect(REPORT_DATA)
    (question,) = server.questions
    assert question[:2] == ("/GetQuote", "application/json")
    assert json.loads(question[2]) == {"report_data": REPORT_DATA.hex()}


def test_a_recorded_quote_is_passed_on_as_it_is(tmp_path: Path) -> None:
    quote = vector("intel_tdx/dcap_qvl_hex/quote-from-tappd.bin")
    recorded = answer(quote=quote.hex())
    assert collect(tmp_path, lambda wire: wire.write(http(recorded))).report == quote


def test_an_answer_in_pieces_is_read_whole(tmp_path: Path) -> None:
    def respond(wire: BufferedIOBase) -> None:
        body = answer()
        wire.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 50):
            piece = body[start : start + 50]
            wire.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            wire.flush()
        wire.write(b"0\r\n\r\n")

    assert collect(tmp_path, respond).report == b"a quote"


@pytest.mark.parametrize("size", [0, 32, 65])
def test_report_data_of_another_size_is_a_mistake_of_the_caller(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match="64"):
        DstackCollector(tmp_path / "dstack.sock").collect(bytes(size))


# --- nobody, or too late ---------------------------------------------------------------------------------------------


def test_without_a_socket_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(DstackUnreachable, match=r"dstack\.sock"):
        DstackCollector(tmp_path / "dstack.sock").collect(REPORT_DATA)


def test_a_socket_on_which_nobody_listens_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unused:
        unused.bind(str(tmp_path / "dstack.sock"))
    with pytest.raises(DstackUnreachable):
        DstackCollector(tmp_path / "dstack.sock").collect(REPORT_DATA)


def test_a_path_that_is_no_socket_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dstack.sock").touch()
    with pytest.raises(DstackUnreachable):
        DstackCollector(tmp_path / "dstack.sock").collect(REPORT_DATA)
    with pytest.raises(DstackUnreachable):
        DstackCollector(tmp_path / ("x" * 200)).collect(REPORT_DATA)


def silence(wire: BufferedIOBase, stop: threading.Event) -> None:
    stop.wait(10)


def drops_of_body(wire: BufferedIOBase, stop: threading.Event) -> None:
    wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    drip(wire, b" ", stop)


def drops_of_head(wire: BufferedIOBase, stop: threading.Event) -> None:
    wire.write(b"HTTP/1.1 200 OK\r\nX: ")
    drip(wire, b"x", stop)


def endless_interim_answers(wire: BufferedIOBase, stop: threading.Event) -> None:
    while not stop.is_set():
        wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def drip(wire: BufferedIOBase, drop: bytes, stop: threading.Event) -> None:
    while not stop.wait(SHORT / 20):
        wire.write(drop)
        wire.flush()


@pytest.mark.parametrize("slowly", [silence, drops_of_body, drops_of_head, endless_interim_answers])
def test_an_answer_that_takes_too_long_is_given_up(
    tmp_path: Path, slowly: Callable[[BufferedIOBase, threading.Event], None]
) -> None:
    stop = threading.Event()

    def respond(wire: BufferedIOBase) -> None:
        with suppress(OSError):
            slowly(wire, stop)

    with agent(tmp_path, respond):
        begin = time.monotonic()
        with pytest.raises(DstackUnreachable, match="in time"):
            DstackCollector(tmp_path / "dstack.sock", SHORT).collect(REPORT_DATA)
        assert time.monotonic() - begin < 10 * SHORT
        stop.set()


# --- answers that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bytes_on_the_wire",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="cut off in the head"),
        pytest.param(http(answer()[:-20], length=len(answer())), id="cut off in the body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{", id="cut off in a chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"x" * 100_000, id="a line without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", id="too many lines in the head"),
        pytest.param(http(b"<html>"), id="no JSON"),
        pytest.param(http(b"[" * 100_000), id="JSON without end"),
        pytest.param(http(b'{"error": "no TDX"}', "400 Bad Request"), id="an error"),
        pytest.param(http(answer(), "302 Found"), id="a quote with another status"),
    ],
)
def test_a_broken_answer_is_refused(tmp_path: Path, bytes_on_the_wire: bytes) -> None:
    with pytest.raises(DstackFailed) as refused:
        collect(tmp_path, lambda wire: wire.write(bytes_on_the_wire))
    assert "no TDX" not in str(refused.value)
    assert "html" not in str(refused.value)


@pytest.mark.parametrize("announced", ["Content-Length: 100000000000", "Connection: close"])
def test_an_answer_without_end_is_not_read_to_its_end(tmp_path: Path, announced: str) -> None:
    sent = []

    def respond(wire: BufferedIOBase) -> None:
        with suppress(OSError):
            wire.write(f"HTTP/1.1 200 OK\r\n{announced}\r\n\r\n".encode())
            for _ in range(1000):
                wire.write(bytes(64 * 1024))
                sent.append(64 * 1024)

    with pytest.raises(DstackFailed, match="too large"):
        collect(tmp_path, respond)
    assert sum(sent) < 2 * MAX_ANSWER


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"quote": ""}, id="no TDX machine"),
        pytest.param({"quote": "zz"}, id="no hexadecimal"),
        pytest.param({"quote": None}, id="no text"),
        pytest.param({"quote": "00" * (MAX_REPORT + 1)}, id="a quote that is too large"),
        pytest.param({"event_log": 1}, id="an event log that is no text"),
        pytest.param({"event_log": "{}"}, id="an event log that is no list"),
        pytest.param({"event_log": "\ud800"}, id="an event log that is no Unicode"),
        pytest.param({"event_log": "[" + " " * MAX_EVENT_LOG}, id="an event log that is too large"),
        pytest.param({"report_data": bytes(64).hex()}, id="other report data"),
        pytest.param({"report_data": REPORT_DATA[:-1].hex()}, id="less report data"),
        pytest.param({"report_data": []}, id="report data that is no text"),
    ],
)
def test_an_answer_without_a_usable_quote_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(DstackFailed):
        tdx_evidence(answer(**members), REPORT_DATA)


def test_an_older_agent_does_not_repeat_the_report_data() -> None:
    old = json.dumps({"quote": "00", "event_log": "[]"}).encode()
    assert tdx_evidence(old, REPORT_DATA) == CpuEvidence(CpuType.TDX, b"\x00", event_log=b"[]")


@given(
    binary(max_size=100)
    | dictionaries(sampled_from(["quote", "event_log", "report_data"]), text(max_size=10) | none()).map(
        lambda members: json.dumps(members).encode()
    )
)
def test_any_answer_is_a_quote_or_the_one_error(data: bytes) -> None:
    try:
        evidence = tdx_evidence(data, REPORT_DATA)
    except DstackFailed:
        return
    assert evidence.report
