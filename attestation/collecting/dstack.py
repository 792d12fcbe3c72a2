"""TDX quotes through dstack's guest agent: JSON over HTTP on a Unix socket.

For containers in a dstack machine, which are given the socket and not the kernel's interface.

Source: Dstack-TEE/dstack, sdk/curl/api.md (GetQuote) and guest-agent/rpc/proto/agent_rpc.proto (GetQuoteResponse).
"""

import json
import socket
import time
from contextlib import closing
from dataclasses import dataclass
from http.client import OK, HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from attestation.collecting.errors import DstackFailed, DstackUnreachable
from attestation.document import CpuEvidence, CpuType
from attestation.limits import MAX_EVENT_LOG, MAX_REPORT

SOCKET = Path("/var/run/dstack.sock")
DEADLINE = 30.0  # seconds for the whole exchange: Linux waits as long for a quote
MAX_ANSWER = 4 * 1024 * 1024  # bytes: JSON and hexadecimal need about twice the room of what is in them
REPORT_DATA = 64  # bytes; dstack would fill up fewer with zeros


@dataclass(frozen=True, slots=True)
class DstackCollector:
    """Collects a TDX quote and dstack's event log (JSON), which explains the registers."""

    socket: Path = SOCKET
    deadline: float = DEADLINE

    def collect(self, report_data: bytes) -> CpuEvidence:
        """A new quote over ``report_data``, 64 bytes.

        Raises:
            DstackUnreachable: nobody listens, or not in time.
            DstackFailed: the answer is an error, broken, too large, or holds no TDX quote.
            ValueError: ``report_data`` is not 64 bytes.
        """
        if len(report_data) != REPORT_DATA:
            raise ValueError("report data is 64 bytes")
        return tdx_evidence(self._ask(report_data), report_data)

    def _ask(self, report_data: bytes) -> bytes:
        question = json.dumps({"report_data": report_data.hex()}).encode()
        try:
            with closing(_UnixConnection(self.socket, self.deadline)) as connection:
                connection.request("POST", "/GetQuote", question, {"Content-Type": "application/json"})
                with connection.getresponse() as response:
                    if response.status != OK:
                        raise DstackFailed(f"dstack answered with status {response.status}")
                    return response.read(MAX_ANSWER + 1)
        except TimeoutError:
            raise DstackUnreachable("dstack did not answer in time") from None
        except HTTPException:
            raise DstackFailed("dstack's answer is not HTTP, or cut off") from None
        except OSError:
            raise DstackUnreachable("dstack's socket cannot be reached") from None


def tdx_evidence(answer: bytes, report_data: bytes) -> CpuEvidence:
    """Evidence from the JSON of a GetQuote answer.

    Raises:
        DstackFailed: it is no such answer, is too large, is for other report data, or has no quote, as on SEV-SNP.
    """
    if len(answer) > MAX_ANSWER:
        raise DstackFailed("dstack's answer is too large")
    try:
        members = json.loads(answer)
        quote, event_log = bytes.fromhex(members["quote"]), members.get("event_log", "").encode()
        answered = bytes.fromhex(members.get("report_data", ""))  # older agents leave it out
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise DstackFailed("dstack's answer is not the JSON of a quote") from None
    if answered and answered != report_data:
        raise DstackFailed("dstack's answer is for other report data")
    if not quote:
        raise DstackFailed("dstack gave no TDX quote")
    if len(quote) > MAX_REPORT or len(event_log) > MAX_EVENT_LOG:
        raise DstackFailed("dstack's quote or event log is too large")
    if event_log and not event_log.startswith(b"["):
        raise DstackFailed("dstack's event log is not a list")
    return CpuEvidence(CpuType.TDX, quote, event_log=event_log)


class _TimedSocket(socket.socket):
    """A stream whose reads all end at one point in time: an answer in drops would begin each timeout anew."""

    ends = 0.0

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)
        return super().recv_into(*arguments, **options)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, deadline: float) -> None:
        super().__init__("dstack")
        self._path = path
        self._deadline = deadline

    def connect(self) -> None:
        timed = _TimedSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock = timed  # before anything fails, so that closing the connection closes it
        timed.ends = time.monotonic() + self._deadline
        timed.settimeout(self._deadline)
        timed.connect(str(self._path))
