"""An evidence document is one object in one spelling, within its limits; everything else is refused."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.document import (
    IDENTITY_KEY,
    PCR,
    PCRS,
    RECEIPT_KEY,
    CpuEvidence,
    CpuType,
    DeviceEvidence,
    DeviceState,
    DeviceType,
    EvidenceDocument,
    KeySection,
    TpmQuote,
    device_members,
)
from attestation.encoding import encode
from attestation.errors import MalformedEvidence
from attestation.limits import (
    MAX_CERTIFICATE,
    MAX_CERTIFICATES,
    MAX_DEVICES,
    MAX_DOCUMENT,
    MAX_EVENT_LOG,
    MAX_NAME,
    MAX_REPORT,
)

KEYS = KeySection(identity_key=b"\x05" + bytes(32), receipt_key=bytes(range(32)), release="subrosa 0.1.0")
TPM = TpmQuote(message=b"message", signature=b"signature", pcrs=tuple(bytes([index]) * PCR for index in range(PCRS)))
STATE = DeviceState(confidential=True, developer_tools=False, production=True)
GPU = DeviceEvidence(DeviceType.GPU, b"report", (b"leaf", b"root"), STATE)
CPU = CpuEvidence(CpuType.SEV_SNP_AZURE, b"report", (b"leaf", b"root"), b"log", TPM)
DOCUMENT = EvidenceDocument(KEYS, CPU, (GPU, replace(GPU, type=DeviceType.SWITCH)))

small = st.binary(max_size=8)
chains = st.lists(small, max_size=3).map(tuple)
names = st.text(min_size=1, max_size=MAX_NAME).filter(str.isprintable)
keys = st.builds(
    KeySection,
    st.binary(min_size=IDENTITY_KEY, max_size=IDENTITY_KEY),
    st.binary(min_size=RECEIPT_KEY, max_size=RECEIPT_KEY),
    names,
)
quotes = st.builds(
    TpmQuote, small, small, st.lists(st.binary(min_size=PCR, max_size=PCR), min_size=PCRS, max_size=PCRS).map(tuple)
)
cpus = st.builds(CpuEvidence, st.sampled_from(CpuType), small, chains, small, st.none() | quotes)
states = st.builds(DeviceState, confidential=st.booleans(), developer_tools=st.booleans(), production=st.booleans())
devices = st.lists(st.builds(DeviceEvidence, st.sampled_from(DeviceType), small, chains, states), max_size=3).map(tuple)
documents = st.builds(EvidenceDocument, keys, cpus, devices)


def test_a_document_is_one_canonical_object() -> None:
    plain = EvidenceDocument(KEYS, CpuEvidence(CpuType.TDX, b"\0"))
    assert plain.encode() == (
        b'{"cpu":{"report":"AA==","type":"tdx"},"devices":[],'
        b'"keys":{"identity_key":"BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",'
        b'"receipt_key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","release":"subrosa 0.1.0"},"version":2}'
    )


@given(documents)
def test_reading_undoes_writing(document: EvidenceDocument) -> None:
    data = document.encode()
    assert EvidenceDocument.parse(data) == document
    assert EvidenceDocument.parse(data).encode() == data


@given(data=st.data())
def test_a_changed_byte_is_refused_or_makes_another_document(data: st.DataObject) -> None:
    whole = DOCUMENT.encode()
    at, byte = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    changed = whole[:at] + bytes([byte]) + whole[at + 1 :]
    try:
        read = EvidenceDocument.parse(changed)
    except MalformedEvidence:
        return
    assert (read == DOCUMENT) == (changed == whole)
    assert read.encode() == changed


@given(st.binary(max_size=64))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        EvidenceDocument.parse(data)


def members() -> dict[str, Any]:
    read = json.loads(DOCUMENT.encode())
    assert isinstance(read, dict)
    return read


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "white space": lambda data: data.replace(b",", b", ", 1),
    "white space behind": lambda data: data + b"\n",
    "another order": lambda data: json.dumps(dict(reversed(json.loads(data).items())), separators=(",", ":")).encode(),
    "an escape": lambda data: data.replace(b"subrosa", b"\\u0073ubrosa"),
    "another encoding": lambda data: data.decode().encode("utf-16"),
    "a mark of the encoding": lambda data: b"\xef\xbb\xbf" + data,
    "a member twice": lambda data: data.replace(b'"version":2', b'"version":2,"version":2'),
    "a key twice": lambda data: data.replace(b'"release":', b'"release":"other","release":'),
    "version 1": lambda data: data.replace(b'"version":2', b'"version":1'),
    "version 3": lambda data: data.replace(b'"version":2', b'"version":3'),
    "a version of a fraction": lambda data: data.replace(b'"version":2', b'"version":2.0'),
    "no version": lambda data: data.replace(b',"version":2', b""),
    "an unknown member": lambda data: data.replace(b'"version":2', b'"version":2,"z":1'),
    "an unknown member of the processor": lambda data: data.replace(b'"cpu":{', b'"cpu":{"a":1,'),
    "an empty chain": lambda data: encode({**json.loads(data), "cpu": {**json.loads(data)["cpu"], "certificates": []}}),
    "an empty log": lambda data: encode({**json.loads(data), "cpu": {**json.loads(data)["cpu"], "event_log": ""}}),
    "bits behind base64": lambda data: data.replace(b'"bG9n"', b'"bG9="').replace(b'"bGVhZg=="', b'"bGVhZh=="'),
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_refuses_every_other_spelling(spell: Callable[[bytes], bytes]) -> None:
    data = DOCUMENT.encode()
    assert spell(data) != data
    with pytest.raises(MalformedEvidence):
        EvidenceDocument.parse(spell(data))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)
PATHS: list[tuple[str | int, ...]] = [
    ("keys",), ("keys", "identity_key"), ("keys", "receipt_key"), ("keys", "release"),
    ("cpu",), ("cpu", "type"), ("cpu", "report"), ("cpu", "certificates"), ("cpu", "event_log"), ("cpu", "tpm"),
    ("cpu", "tpm", "message"), ("cpu", "tpm", "signature"), ("cpu", "tpm", "pcrs"), ("cpu", "tpm", "pcrs", 0),
    ("devices",), ("devices", 0), ("devices", 0, "type"), ("devices", 0, "report"), ("devices", 0, "certificates"),
    ("devices", 0, "state"), ("devices", 0, "state", "confidential"), ("devices", 0, "state", "developer_tools"),
    ("devices", 0, "state", "production"), ("version",),
]  # fmt: skip


def changed(path: tuple[str | int, ...], value: object) -> bytes:
    whole: Any = members()
    inner = whole
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


@given(path=st.sampled_from(PATHS), value=anything)
def test_any_value_of_a_member_is_refused_or_read(path: tuple[str | int, ...], value: object) -> None:
    data = changed(path, value)
    try:
        assert EvidenceDocument.parse(data).encode() == data
    except MalformedEvidence:
        return


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("value", [None, 1, {}, "\ud800"])
def test_refuses_members_of_another_type(path: tuple[str | int, ...], value: object) -> None:
    with pytest.raises(MalformedEvidence):
        EvidenceDocument.parse(changed(path, value))


OPTIONAL = {("cpu", "certificates"), ("cpu", "event_log"), ("cpu", "tpm")}


@pytest.mark.parametrize("path", [path for path in PATHS if isinstance(path[-1], str)])
def test_members_may_be_missing_only_where_they_may_be_empty(path: tuple[str | int, ...]) -> None:
    whole: Any = members()
    inner = whole
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    if path in OPTIONAL:
        assert EvidenceDocument.parse(encode(whole)).encode() == encode(whole)
    else:
        with pytest.raises(MalformedEvidence):
            EvidenceDocument.parse(encode(whole))


# --- Limits ---------------------------------------------------------------------------------------------------------------

LIMITS: dict[str, Callable[[int], EvidenceDocument]] = {
    "a report": lambda more: replace(DOCUMENT, cpu=replace(CPU, report=bytes(MAX_REPORT + more))),
    "a certificate": lambda more: replace(DOCUMENT, cpu=replace(CPU, certificates=(bytes(MAX_CERTIFICATE + more),))),
    "a chain": lambda more: replace(DOCUMENT, cpu=replace(CPU, certificates=(b"",) * (MAX_CERTIFICATES + more))),
    "an event log": lambda more: replace(DOCUMENT, cpu=replace(CPU, event_log=bytes(MAX_EVENT_LOG + more))),
    "a quote": lambda more: replace(DOCUMENT, cpu=replace(CPU, tpm=replace(TPM, message=bytes(MAX_REPORT + more)))),
    "its signature": lambda more: replace(
        DOCUMENT, cpu=replace(CPU, tpm=replace(TPM, signature=bytes(MAX_REPORT + more)))
    ),
    "a name": lambda more: replace(DOCUMENT, keys=replace(KEYS, release="a" * (MAX_NAME + more))),
    "devices": lambda more: replace(DOCUMENT, devices=(GPU,) * (MAX_DEVICES + more)),
    "a device's report": lambda more: replace(DOCUMENT, devices=(replace(GPU, report=bytes(MAX_REPORT + more)),)),
    "a device's certificate": lambda more: replace(
        DOCUMENT, devices=(replace(GPU, certificates=(bytes(MAX_CERTIFICATE + more),)),)
    ),
    "a device's chain": lambda more: replace(
        DOCUMENT, devices=(replace(GPU, certificates=(b"",) * (MAX_CERTIFICATES + more)),)
    ),
}


@pytest.mark.parametrize("of_size", LIMITS.values(), ids=LIMITS)
def test_reads_each_part_up_to_its_limit_and_no_further(of_size: Callable[[int], EvidenceDocument]) -> None:
    assert EvidenceDocument.parse(of_size(0).encode()) == of_size(0)
    with pytest.raises(MalformedEvidence):
        EvidenceDocument.parse(of_size(1).encode())


def test_reads_a_document_up_to_its_limit_and_no_further() -> None:
    data = DOCUMENT.encode().ljust(MAX_DOCUMENT)
    with pytest.raises(MalformedEvidence, match="canonical"):  # read, and found to end in white space
        EvidenceDocument.parse(data)
    with pytest.raises(MalformedEvidence, match="too large"):
        EvidenceDocument.parse(data + b" ")


def test_a_document_of_sixteen_large_devices_and_a_log_is_within_the_limit() -> None:
    device = replace(GPU, report=bytes(MAX_REPORT), certificates=(bytes(2048),) * 5)
    data = EvidenceDocument(KEYS, replace(CPU, event_log=bytes(MAX_EVENT_LOG)), (device,) * 16).encode()
    assert len(data) <= MAX_DOCUMENT
    assert EvidenceDocument.parse(data).devices == (device,) * 16


@pytest.mark.parametrize("change", [-1, 1])
def test_keys_and_registers_have_one_length(change: int) -> None:
    for broken in (
        replace(DOCUMENT, keys=replace(KEYS, identity_key=bytes(IDENTITY_KEY + change))),
        replace(DOCUMENT, keys=replace(KEYS, receipt_key=bytes(RECEIPT_KEY + change))),
        replace(DOCUMENT, cpu=replace(CPU, tpm=replace(TPM, pcrs=(*TPM.pcrs[1:], bytes(PCR + change))))),
        replace(DOCUMENT, cpu=replace(CPU, tpm=replace(TPM, pcrs=(*TPM.pcrs, TPM.pcrs[0])[: PCRS + change]))),
    ):
        with pytest.raises(MalformedEvidence):
            EvidenceDocument.parse(broken.encode())


@pytest.mark.parametrize(
    ("path", "value"), [(("cpu", "type"), "sgx"), (("devices", 0, "type"), "amd-gpu"), (("cpu", "type"), "TDX")]
)
def test_refuses_types_that_it_does_not_know(path: tuple[str | int, ...], value: str) -> None:
    with pytest.raises(MalformedEvidence, match="unknown to this version"):
        EvidenceDocument.parse(changed(path, value))


@pytest.mark.parametrize("value", [1, 0, "true", None, []])
@pytest.mark.parametrize("name", ["confidential", "developer_tools", "production"])
def test_the_state_of_a_device_is_three_booleans(name: str, value: object) -> None:
    with pytest.raises(MalformedEvidence):
        DeviceState.read({**STATE.members(), name: value})


def test_a_release_may_be_named_in_any_script_but_not_deceive() -> None:
    named = replace(DOCUMENT, keys=replace(KEYS, release="рел 你好"))
    assert EvidenceDocument.parse(named.encode()) == named
    for release in ("", "a\u202eb", "a\n", "\x1b[2J"):
        with pytest.raises(MalformedEvidence):
            EvidenceDocument.parse(replace(DOCUMENT, keys=replace(KEYS, release=release)).encode())


def test_the_digest_of_the_keys_is_that_of_their_canonical_form() -> None:
    section = DOCUMENT.encode().partition(b'"keys":')[2].removesuffix(b',"version":2}')
    assert KEYS.digest() == hashlib.sha256(section).digest()


def test_devices_are_committed_to_in_their_order() -> None:
    assert device_members(DOCUMENT.devices) == [device.members() for device in DOCUMENT.devices]
    assert device_members(DOCUMENT.devices) != device_members(DOCUMENT.devices[::-1])


def test_nothing_secret_or_large_is_shown() -> None:
    assert repr(GPU) == f"DeviceEvidence(type={DeviceType.GPU!r}, state={STATE!r})"
    assert repr(CPU) == f"CpuEvidence(type={CpuType.SEV_SNP_AZURE!r}, tpm=TpmQuote())"
