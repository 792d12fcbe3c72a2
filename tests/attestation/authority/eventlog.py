"""Event logs of a TDX machine, with the registers that they replay to.

The firmware's and boot loader's log is binary (``EventLog``: RTMR0 to RTMR2, from the ACPI table CCEL); the log of what
dstack measures afterwards is JSON (``runtime_log``: RTMR3). Put the registers into a quote, or do not, and a verifier must
see the difference. Nothing here is signed: a log is worth what the quote's registers make it worth.

Sources: TCG PC Client Platform Firmware Profile, section 10 (entries and event types); UEFI 2.10, chapter 38 (the register
index: 1 to 4 are RTMR0 to RTMR3); dstack's ``cc-eventlog`` (runtime events, both versions of their digest).
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EV_NO_ACTION = 0x3  # says something, and extends nothing
EV_SEPARATOR = 0x4
EV_PLATFORM_CONFIG_FLAGS = 0xA
EV_IPL = 0xD
EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
EV_EFI_VARIABLE_BOOT = 0x80000002
EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
EV_EFI_ACTION = 0x80000007
EV_EFI_HANDOFF_TABLES2 = 0x8000000B
DSTACK_RUNTIME_EVENT = 0x08000001

_SHA384 = 0x000C
_EFI_GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")


@dataclass(frozen=True, slots=True)
class Event:
    """One measurement: ``register`` counts from 1 (RTMR0); ``measured`` is what was hashed, unless it was ``data`` itself."""

    register: int
    type: int
    data: bytes
    measured: bytes | None = None

    @property
    def digest(self) -> bytes:
        """SHA-384, 48 bytes. Of a type 3 event it is never extended, and firmware writes zeros."""
        if self.type == EV_NO_ACTION:
            return bytes(48)
        return hashlib.sha384(self.data if self.measured is None else self.measured).digest()


@dataclass(frozen=True, slots=True)
class EventLog:
    """Firmware's log as bytes, and RTMR0 to RTMR3 after it (RTMR3 is zero unless an event names register 4)."""

    data: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]


def variable(name: str, value: bytes) -> bytes:
    """UEFI_VARIABLE_DATA, as logged for an EFI variable of the global namespace."""
    sizes = len(name).to_bytes(8, "little") + len(value).to_bytes(8, "little")
    return _EFI_GLOBAL_VARIABLE + sizes + name.encode("utf-16-le") + value


def _ipl(kind: bytes, line: bytes) -> Event:
    return Event(3, EV_IPL, kind + b": " + line + b"\0", measured=line)


BOOT: Sequence[Event] = (
    Event(
        1,
        EV_EFI_HANDOFF_TABLES2,
        b"\tTdxTable\0" + (1).to_bytes(8, "little") + bytes(24),
        measured=b"the TD's HOB list",
    ),
    Event(1, EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\x01")),
    Event(1, EV_SEPARATOR, bytes(4)),
    Event(1, EV_NO_ACTION, b"StartupLocality\0\0"),
    Event(1, EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA", measured=b"the ACPI tables"),
    Event(1, EV_EFI_VARIABLE_BOOT, variable("BootOrder", bytes(2)), measured=bytes(2)),
    Event(2, EV_EFI_ACTION, b"Calling EFI Application from Boot Option"),
    Event(2, EV_SEPARATOR, bytes(4)),
    Event(2, EV_EFI_BOOT_SERVICES_APPLICATION, bytes(32), measured=b"the kernel's Authenticode hash input"),
    _ipl(b"grub_cmd", b"linux /vmlinuz root=/dev/mapper/root"),
    _ipl(b"kernel_cmdline", b"/vmlinuz root=/dev/mapper/root"),
    Event(2, EV_EFI_ACTION, b"Exit Boot Services Invocation"),
    Event(2, EV_EFI_ACTION, b"Exit Boot Services Returned with Success"),
)
"""A short boot in the order of a real one: RTMR0 firmware and its configuration, RTMR1 what was started, RTMR2 by whom."""


def event_log(events: Iterable[Event] = BOOT, *, area: int = 0x4000) -> EventLog:
    """Write the log into an area of that many bytes, filled with 0xff behind the last event, and replay it.

    Raises:
        ValueError: the events need more than ``area`` bytes.
    """
    algorithms = (1).to_bytes(4, "little") + _SHA384.to_bytes(2, "little") + (48).to_bytes(2, "little")
    spec_id = b"Spec ID Event03\0" + bytes(4) + bytes([0, 2, 0, 2]) + algorithms + b"\0"
    # The header alone has the old form: one 20-byte digest, all zeros.
    written = [_words(1, EV_NO_ACTION) + bytes(20) + _counted(spec_id)]
    rtmrs = [bytes(48)] * 4
    for event in events:
        digest = _SHA384.to_bytes(2, "little") + event.digest
        written.append(_words(event.register, event.type, 1) + digest + _counted(event.data))
        if event.type != EV_NO_ACTION:
            rtmrs[event.register - 1] = extend(rtmrs[event.register - 1], event.digest)
    data = b"".join(written)
    if len(data) > area:
        raise ValueError("the events need a larger area")
    return EventLog(data.ljust(area, b"\xff"), (rtmrs[0], rtmrs[1], rtmrs[2], rtmrs[3]))


def extend(register: bytes, digest: bytes) -> bytes:
    """The register's next value: SHA-384 of its value and the digest."""
    return hashlib.sha384(register + digest).digest()


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def _counted(data: bytes) -> bytes:
    return _words(len(data)) + data


# --- dstack's log of RTMR3 ------------------------------------------------------------------------------------------------

APP: Sequence[tuple[str, bytes]] = (
    ("system-preparing", b""),
    ("app-id", hashlib.sha256(b"compose").digest()[:20]),
    ("compose-hash", hashlib.sha256(b"compose").digest()),
    ("instance-id", hashlib.sha256(b"instance").digest()[:20]),
    ("boot-mr-done", b""),
    ("os-image-hash", hashlib.sha256(b"image").digest()),
    ("key-provider", b'{"name":"kms","id":"3059"}'),
    ("storage-fs", b"zfs"),
    ("system-ready", b""),
)
"""The names and payloads of an application's start under dstack with a key management service, in order."""


@dataclass(frozen=True, slots=True)
class RuntimeLog:
    """dstack's events as its JSON, and the RTMR3 that they replay to."""

    text: str
    rtmr3: bytes


def runtime_preimage(name: str, payload: bytes, version: int = 1) -> bytes:
    """What is hashed for a runtime event: in version 2 canonical JSON (RFC 8785), before it type, name and payload."""
    if version == 1:
        return b":".join([_words(DSTACK_RUNTIME_EVENT), name.encode(), payload])
    members = {"name": name, "payload": payload.hex(), "type": DSTACK_RUNTIME_EVENT}
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()


def runtime_log(
    events: Iterable[tuple[str, bytes]] = APP, *, boot: Iterable[Event] = (), version: int = 1, stripped: bool = False
) -> RuntimeLog:
    """The log that dstack hands out beside a quote.

    Args:
        events: name and payload, in order.
        boot: firmware's events, which stand before them, without names and with registers counted from 0.
        version: of the digest; 2 adds members ``version`` and ``preimage`` to each entry.
        stripped: leave the digests empty, as newer guest agents do: a verifier must compute them from the payloads.
    """
    entries = [_entry(event.register - 1, event.type, event.digest, "", event.data) for event in boot]
    rtmr3 = bytes(48)
    for name, payload in events:
        preimage = runtime_preimage(name, payload, version)
        digest = hashlib.sha384(preimage).digest()
        rtmr3 = extend(rtmr3, digest)
        entry = _entry(3, DSTACK_RUNTIME_EVENT, b"" if stripped else digest, name, payload)
        entries.append(entry | ({"version": version, "preimage": preimage.hex()} if version > 1 else {}))
    return RuntimeLog(json.dumps(entries), rtmr3)


def _entry(imr: int, event_type: int, digest: bytes, name: str, payload: bytes) -> dict[str, object]:
    return {
        "imr": imr,
        "event_type": event_type,
        "digest": digest.hex(),
        "event": name,
        "event_payload": payload.hex(),
    }
