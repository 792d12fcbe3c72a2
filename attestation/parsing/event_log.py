"""Event logs: what was started, in order, so that the run-time registers of a TDX machine can be computed again.

Two kinds: the firmware's log in TCG format (registers 0 to 2; TCG PC Client Platform Firmware Profile, section 10; register numbers
by the UEFI Confidential Computing event log, CCEL), and dstack's JSON (register 3; Dstack-TEE/dstack, cc-eventlog).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from attestation.errors import MalformedEvidence
from attestation.limits import MAX_EVENT_LOG, MAX_EVENTS
from attestation.parsing.reader import Reader

SHA384 = 48  # bytes
_NO_ACTION = 3  # EV_NO_ACTION: told, not measured
_SHA384_ID = 0x000C  # TPM_ALG_SHA384
_DIGESTS: Final = {0x0004: 20, 0x000B: 32, _SHA384_ID: SHA384, 0x000D: 64}  # TPM_ALG_…: size
_DSTACK_EVENT = 0x08000001
_RUNTIME_REGISTER = 3
_CANONICAL = 2  # version of dstack's events
_UNWRITTEN: Final = b"\xff"  # fills the rest of the firmware's memory area


@dataclass(frozen=True, slots=True)
class Event:
    """One measurement: the register (0 to 3) that ``digest`` (SHA-384) was extended into.

    ``name`` and ``payload`` are empty for the firmware's events: nothing of theirs is interpreted here.
    """

    register: int
    digest: bytes
    name: str = ""
    payload: bytes = field(default=b"", repr=False)


def parse_event_log(data: bytes) -> tuple[Event, ...]:
    """Read either kind: dstack's begins with ``[``.

    Raises:
        MalformedEvidence: it is neither, or too large.
    """
    if len(data) > MAX_EVENT_LOG:
        raise MalformedEvidence("the event log is too large")
    return _dstack_events(data) if data.startswith(b"[") else tuple(_firmware_events(data))


def replay(events: Sequence[Event], register: int) -> bytes:
    """The value of ``register`` after these events, 48 bytes: each digest is hashed onto what was there before."""
    value = bytes(SHA384)
    for event in events:
        if event.register == register:
            value = hashlib.sha384(value + event.digest).digest()
    return value


def _firmware_events(data: bytes) -> Iterator[Event]:
    read = Reader(data, "event log")
    read.take(4 + 4 + 20)  # the first event has the older form; it names the algorithms (section 10.4.5.1)
    sizes = _announced_digests(read.take(read.little(4)))
    number = 0
    while data[read.position : read.position + 4].strip(_UNWRITTEN):
        if number == MAX_EVENTS:
            raise MalformedEvidence("the event log has too many events")
        number += 1
        register, kind = read.little(4), read.little(4)
        digest = _sha384_digest(read, sizes)
        read.take(read.little(4))
        if kind != _NO_ACTION:
            if not 1 <= register <= 4:
                raise MalformedEvidence("an event is for a register that there is not")
            yield Event(register - 1, digest)
    if data[read.position :].strip(_UNWRITTEN):
        raise MalformedEvidence("there is something behind the end of the event log")


def _announced_digests(specification: bytes) -> dict[int, int]:
    read = Reader(specification, "event log's header")
    read.expect(b"Spec ID Event03\0", "signature")
    read.take(4 + 4)  # platform class, version, size of a UINTN
    number = read.little(4)
    if number > len(_DIGESTS):
        raise MalformedEvidence("the event log uses unknown digests")
    sizes = {read.little(2): read.little(2) for _ in range(number)}
    if any(_DIGESTS.get(algorithm) != size for algorithm, size in sizes.items()) or _SHA384_ID not in sizes:
        raise MalformedEvidence("the event log uses unknown digests, or no SHA-384")
    return sizes


def _sha384_digest(read: Reader, sizes: dict[int, int]) -> bytes:
    digests: dict[int, bytes] = {}
    for _ in range(read.little(4)):
        algorithm = read.little(2)
        if algorithm in digests or algorithm not in sizes:
            raise MalformedEvidence("an event has a digest twice, or of an algorithm that was not announced")
        digests[algorithm] = read.take(sizes[algorithm])
    if _SHA384_ID not in digests:
        raise MalformedEvidence("an event has no SHA-384 digest")
    return digests[_SHA384_ID]


def _dstack_events(data: bytes) -> tuple[Event, ...]:
    try:
        entries = json.loads(data)
        # As in the firmware's own log, what is told and not measured is in no register.
        events = tuple(_dstack_event(entry) for entry in entries if entry["event_type"] != _NO_ACTION)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise MalformedEvidence("the event log is no list of dstack's events") from None
    if len(events) > MAX_EVENTS:
        raise MalformedEvidence("the event log has too many events")
    return events


def _dstack_event(entry: dict[str, Any]) -> Event:
    register, kind, name = entry["imr"], entry["event_type"], entry["event"]
    told, payload = bytes.fromhex(entry["digest"]), bytes.fromhex(entry["event_payload"])
    if type(register) is not int or not isinstance(name, str) or register not in range(4):
        raise MalformedEvidence("a dstack event has members of the wrong form")
    if (kind == _DSTACK_EVENT) != (register == _RUNTIME_REGISTER):
        # Its digest would be unexplained: a measured event could be hidden by another label.
        raise MalformedEvidence("register 3 holds dstack's events, all of them and nothing else")
    if kind != _DSTACK_EVENT:
        if len(told) != SHA384:
            raise MalformedEvidence("an event of the firmware has no SHA-384 digest")
        return Event(register, told)  # nothing more of it is interpreted
    digest = hashlib.sha384(_marked(name, payload, entry.get("version", 1))).digest()
    if told not in (digest, b""):  # newer agents leave out what can be computed
        raise MalformedEvidence("a dstack event is not what its digest says")
    return Event(register, digest, name, payload)


def _marked(name: str, payload: bytes, version: object) -> bytes:
    """What dstack hashes for a runtime event: version 2 is canonical JSON (RFC 8785)."""
    if version == 1:
        if not name or ":" in name:  # the name's end could be moved into the payload
            raise MalformedEvidence("a dstack event has a name that could be read in two ways")
        return _DSTACK_EVENT.to_bytes(4, "little") + b":" + name.encode() + b":" + payload
    if version == _CANONICAL:
        members = {"name": name, "payload": payload.hex(), "type": _DSTACK_EVENT}
        return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()
    raise MalformedEvidence("a dstack event is of an unknown version")
