"""Event logs: replaying gives the registers that the hardware has, and a log can be read in one way only."""

import hashlib
import json
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedEvidence
from attestation.limits import MAX_EVENT_LOG, MAX_EVENTS
from attestation.parsing.event_log import SHA384, Event, parse_event_log, replay
from attestation.parsing.tdx import Quote, TdReport
from tests.attestation.authority import eventlog
from tests.attestation.authority.eventlog import (
    APP,
    BOOT,
    DSTACK_RUNTIME_EVENT,
    EV_NO_ACTION,
    EV_SEPARATOR,
    event_log,
    extend,
    runtime_log,
    runtime_preimage,
)
from tests.attestation.vectors import entries

LOG = event_log()

# --- The firmware's log ---------------------------------------------------------------------------------------------------


def test_replaying_a_boot_gives_its_registers() -> None:
    events = parse_event_log(LOG.data)
    assert tuple(replay(events, register) for register in range(4)) == LOG.rtmrs
    told = [(event.register - 1, event.digest) for event in BOOT if event.type != EV_NO_ACTION]
    assert [(event.register, event.digest) for event in events] == told
    assert {(event.name, event.payload) for event in events} == {("", b"")}


firmware_events = st.builds(
    eventlog.Event, st.integers(1, 4), st.sampled_from([EV_NO_ACTION, EV_SEPARATOR, 0x80000001]), st.binary(max_size=9)
)


@given(st.lists(firmware_events, max_size=12))
def test_replaying_any_events_gives_the_registers_that_they_were_extended_into(told: list[eventlog.Event]) -> None:
    log = event_log(told, area=0x800)
    events = parse_event_log(log.data)
    assert tuple(replay(events, register) for register in range(4)) == log.rtmrs


def test_a_register_without_events_is_zero() -> None:
    assert replay((), 3) == bytes(SHA384)


def test_order_counts() -> None:
    one, other = Event(0, b"\1" * 48), Event(0, b"\2" * 48)
    assert replay([one, other], 0) == extend(extend(bytes(48), one.digest), other.digest) != replay([other, one], 0)


def test_the_recorded_log_of_google_cloud_leads_to_the_registers_of_its_quote() -> None:
    recorded = entries()["tdx-v4-gcp-event-log"]
    events = parse_event_log(recorded.read("event_log"))
    report = TdReport.parse(Quote.parse(recorded.read("quote")).body)
    assert tuple(replay(events, register) for register in range(3)) == report.rtmrs[:3]
    assert {event.register for event in events} == {0, 1, 2}


def u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


SIZES = {0x0004: 20, 0x000B: 32, 0x000C: 48, 0x000D: 64}


def header(algorithms: Iterable[tuple[int, int]] = ((0x000C, 48),), count: int | None = None) -> bytes:
    listed = list(algorithms)
    number = u32(len(listed) if count is None else count)
    body = b"Spec ID Event03\0" + bytes(4) + bytes([0, 2, 0, 2]) + number
    body += b"".join(u16(algorithm) + u16(size) for algorithm, size in listed) + b"\0"
    return u32(1) + u32(3) + bytes(20) + u32(len(body)) + body


def event(register: int, kind: int = 1, digests: Mapping[int, bytes] | None = None, data: bytes = b"") -> bytes:
    listed = {0x000C: bytes(48)} if digests is None else digests
    told = b"".join(u16(algorithm) + digest for algorithm, digest in listed.items())
    return u32(register) + u32(kind) + u32(len(listed)) + told + u32(len(data)) + data


def test_an_event_may_have_digests_of_all_algorithms_that_were_announced() -> None:
    digests = {algorithm: bytes([algorithm]) * size for algorithm, size in SIZES.items()}
    (read,) = parse_event_log(header(SIZES.items()) + event(2, digests=digests))
    assert read == Event(1, b"\x0c" * 48)


def test_a_log_may_end_with_or_without_an_unwritten_rest() -> None:
    log = header() + event(1)
    for rest in (b"", b"\xff", b"\xff" * 3, b"\xff" * 4, b"\xff" * 5000):
        assert parse_event_log(log + rest) == (Event(0, bytes(48)),)


def test_an_event_that_is_not_measured_may_be_for_any_register() -> None:
    assert parse_event_log(header() + event(0, EV_NO_ACTION) + event(77, EV_NO_ACTION)) == ()


FIRMWARE: dict[str, bytes] = {
    "nothing": b"",
    "no header": event(1),
    "another header": header().replace(b"Event03", b"Event00"),
    "no SHA-384": header([(0x000B, 32)]) + event(1, digests={0x000B: bytes(32)}),
    "no SHA-384, and no event": header([(0x000B, 32)]),
    "no algorithm, and no event": header([]),
    "no algorithm": header([]) + event(1, digests={}),
    "SHA-384 of another size": header([(0x000C, 32)]) + event(1, digests={0x000C: bytes(32)}),
    "an unknown algorithm": header([(0x000C, 48), (0x0012, 32)]),
    "an algorithm too many": header([(0x000C, 48)] * 5) + event(1),
    "algorithms without end": header(count=2**32 - 1),
    "a header that is too short": header()[:40],
    "an event without SHA-384": header(SIZES.items()) + event(1, digests={0x000B: bytes(32)}),
    "an event without digests": header() + event(1, digests={}),
    "a digest that was not announced": header() + event(1, digests={0x000C: bytes(48), 0x000B: bytes(32)}),
    "a digest twice": header() + u32(1) + u32(1) + u32(2) + (u16(0x000C) + bytes(48)) * 2 + u32(0),
    "digests without end": header() + u32(1) + u32(1) + u32(2**32 - 1) + (u16(0x000C) + bytes(48)) * 9,
    "a register 0": header() + event(0),
    "a register 5": header() + event(5),
    "data that end too early": header() + event(1)[:-4] + u32(1),
    "data without end": header() + event(1)[:-4] + u32(2**32 - 1),
    "half an event": header() + event(1)[:20],
    "something behind the end": header() + event(1) + b"\xff" * 8 + event(2),
    "zeros behind the end": header() + event(1) + bytes(64),
}


@pytest.mark.parametrize("data", FIRMWARE.values(), ids=FIRMWARE)
def test_refuses_what_is_no_log_of_the_firmware(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        parse_event_log(data)


def test_accepts_as_many_events_of_the_firmware_as_the_limit_says_and_no_more() -> None:
    log = header() + event(1) * MAX_EVENTS
    for end in (b"", b"\xff" * 64):
        assert len(parse_event_log(log + end)) == MAX_EVENTS
    with pytest.raises(MalformedEvidence, match="too many"):
        parse_event_log(log + event(1))
    with pytest.raises(MalformedEvidence, match="too many"):  # those that are not measured count as well
        parse_event_log(header() + event(1, EV_NO_ACTION) * (MAX_EVENTS + 1))


def test_accepts_a_log_up_to_the_limit_and_none_beyond() -> None:
    for log in (header() + event(1), b"[]"):
        filler = b"\xff" if log.startswith(u32(1)) else b" "
        parse_event_log(log.ljust(MAX_EVENT_LOG, filler))
        with pytest.raises(MalformedEvidence, match="too large"):
            parse_event_log(log.ljust(MAX_EVENT_LOG + 1, filler))


@given(at=st.integers(0, len(LOG.data.rstrip(b"\xff")) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_was_not_measured_or_changes_the_events(at: int, byte: int) -> None:
    changed = LOG.data[:at] + bytes([byte]) + LOG.data[at + 1 :]
    try:
        events = parse_event_log(changed)
    except MalformedEvidence:
        return
    if tuple(replay(events, register) for register in range(4)) == LOG.rtmrs:
        assert events == parse_event_log(LOG.data)


# --- dstack's log ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("stripped", [False, True])
def test_replaying_an_application_gives_its_register(version: int, stripped: bool) -> None:
    log = runtime_log(boot=BOOT, version=version, stripped=stripped)
    events = parse_event_log(log.text.encode())
    assert replay(events, 3) == log.rtmr3
    assert [(event.name, event.payload) for event in events if event.register == 3] == list(APP)
    assert all(not event.name for event in events if event.register != 3)


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=":"), min_size=1, max_size=8)


@given(events=st.lists(st.tuples(names, st.binary(max_size=8)), max_size=4), version=st.sampled_from([1, 2]))
def test_any_names_and_payloads_are_read_as_they_were_measured(events: list[tuple[str, bytes]], version: int) -> None:
    log = runtime_log(events, version=version)
    read = parse_event_log(log.text.encode())
    assert [(event.name, event.payload) for event in read] == events
    assert replay(read, 3) == log.rtmr3


def entry(**members: object) -> dict[str, object]:
    whole = {"imr": 3, "event_type": DSTACK_RUNTIME_EVENT, "digest": "", "event": "app-id", "event_payload": "00"}
    return {**whole, **members}


def parse(*entries: object) -> tuple[Event, ...]:
    return parse_event_log(json.dumps(entries).encode())


def test_computes_a_digest_that_was_left_out_and_compares_one_that_was_not() -> None:
    digest = hashlib.sha384(runtime_preimage("app-id", b"\0")).digest()
    assert parse(entry()) == parse(entry(digest=digest.hex())) == (Event(3, digest, "app-id", b"\0"),)
    canonical = hashlib.sha384(runtime_preimage("app-id", b"\0", 2)).digest()
    assert parse(entry(version=2)) == (Event(3, canonical, "app-id", b"\0"),)


def test_believes_no_name_or_payload_of_the_firmware() -> None:
    assert parse(entry(imr=0, event_type=1, digest="11" * 48)) == (Event(0, b"\x11" * 48),)


DSTACK: dict[str, object] = {
    "a number": 1,
    "a text": "imr",
    "a list": [3],
    "nothing": None,
    "no register": {name: value for name, value in entry().items() if name != "imr"},
    "no digest": {name: value for name, value in entry().items() if name != "digest"},
    "a register that there is not": entry(imr=4),
    "a negative register": entry(imr=-1),
    "a register of a text": entry(imr="3"),
    "a register of a truth value": entry(imr=True),
    "a register of a fraction": entry(imr=3.0),
    "a name of a number": entry(event=1),
    "an event of the firmware with such a name": entry(imr=0, event_type=1, digest="00" * 48, event=1),
    "an event of the firmware for a register that there is not": entry(imr=4, event_type=1, digest="00" * 48),
    "one for a negative register": entry(imr=-1, event_type=1, digest="00" * 48),
    "a name of half a surrogate": entry(event="\ud800"),
    "such a name in version 2": entry(event="\ud800", version=2),
    "a payload of a number": entry(event_payload=10),
    "a payload that is not hex": entry(event_payload="0"),
    "a digest of a number": entry(digest=10),
    "a digest of nothing": entry(digest=None),
    "a digest that is not hex": entry(digest="x"),
    "another digest": entry(digest="00" * 48),
    "the digest of the other version": entry(digest=hashlib.sha384(runtime_preimage("app-id", b"\0", 2)).hexdigest()),
    "a part of the digest": entry(digest=hashlib.sha384(runtime_preimage("app-id", b"\0")).hexdigest()[:-2]),
    "version 3": entry(version=3),
    "version 0": entry(version=0),
    "a version of a text": entry(version="1"),
    "a version of a list": entry(version=[1]),
    "no digest of the firmware": entry(event_type=1),
    "a short digest of the firmware": entry(event_type=1, digest="00" * 32),
}


@pytest.mark.parametrize("other", DSTACK.values(), ids=DSTACK)
def test_refuses_what_is_no_event_of_dstack(other: object) -> None:
    with pytest.raises(MalformedEvidence):
        parse(entry(), other)


@pytest.mark.parametrize("text", ["[", "[1,", "[]]", "[" * 100_000, "[" + "9" * 5000 + "]", "[\x00]", "[\udcff]"])
def test_refuses_what_is_no_json(text: str) -> None:
    with pytest.raises(MalformedEvidence):
        parse_event_log(text.encode("utf-8", "surrogateescape"))


def test_accepts_as_many_events_of_dstack_as_the_limit_says_and_no_more() -> None:
    assert len(parse(*[entry()] * MAX_EVENTS)) == MAX_EVENTS
    with pytest.raises(MalformedEvidence, match="too many"):
        parse(*[entry()] * (MAX_EVENTS + 1))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(name=st.sampled_from([*entry(), "version"]), value=json_values)
def test_any_value_of_a_member_is_refused_or_read(name: str, value: object) -> None:
    try:
        (read,) = parse(entry(**{name: value}))
    except MalformedEvidence:
        return
    assert len(read.digest) == SHA384
    assert read.register in range(4)


def test_each_label_belongs_to_its_own_register() -> None:
    """A digest without an explanation in register 3, or an explained one elsewhere, could hide what was measured."""
    firmware = entry(imr=0, event_type=1, digest="11" * 48, event="", event_payload="")
    assert parse(firmware) == (Event(0, b"\x11" * 48),)
    for wrong in (
        {**firmware, "imr": 3},
        {**firmware, "digest": "11"},
        entry(imr=2),
        entry(event="a:b"),
        entry(event=""),
    ):
        with pytest.raises(MalformedEvidence):
            parse(wrong)


def test_what_the_firmware_tells_and_does_not_measure_is_in_no_register() -> None:
    told = entry(imr=0, event_type=3, digest="11" * 48, event="", event_payload="")
    assert parse(told, {**told, "event_type": 1}) == (Event(0, b"\x11" * 48),)
