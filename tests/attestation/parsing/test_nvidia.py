"""Reports of GPUs and switches: every byte has one meaning, and names of manifests come out as NVIDIA publishes them."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedEvidence
from attestation.parsing.nvidia import DeviceReport, Opaque
from tests.attestation.authority.nvidia import (
    DRIVER,
    DRIVER_VERSION,
    FAMILIES,
    FWID,
    NVDEC0,
    PDI,
    SIGNATURE_BYTES,
    VBIOS,
    Arch,
    fields,
    nvidia_authority,
    raw_signature,
    report_body,
)
from tests.attestation.vectors import entries

ARCHES: tuple[Arch, ...] = ("hopper", "blackwell", "ls10")
NONCE = bytes(range(32))
GPU, SWITCH = nvidia_authority().device("hopper"), nvidia_authority().device("ls10")
REPORT = GPU.report(NONCE, signature=raw_signature(3, 5))
DIGEST = b"\x11" * 48


def made(
    blocks: list[tuple[int, bytes]] | None = None, opaque: list[tuple[int, bytes]] | None = None, trailing: bytes = b""
) -> bytes:
    """A report of these measurements (by SPDM's count) and fields, whose signature nobody made."""
    return report_body(NONCE, bytes(32), blocks or [], opaque or []) + bytes(SIGNATURE_BYTES) + trailing


@pytest.mark.parametrize("arch", ARCHES)
def test_reads_nonce_measurements_fields_and_signature(arch: Arch) -> None:
    device = nvidia_authority().device(arch)
    data = device.report(NONCE, signature=raw_signature(2**383 + 3, 5))
    read = DeviceReport.parse(data)
    assert read.nonce == NONCE
    assert read.measurements == device.measurements()
    assert read.opaque == dict(device.opaque())
    assert read.signed == data[:-SIGNATURE_BYTES]
    assert (read.r, read.s) == (2**383 + 3, 5)
    assert read.fwid == (None if arch == "ls10" else device.fwid)


def test_a_report_may_measure_nothing_and_say_nothing() -> None:
    read = DeviceReport.parse(made())
    assert (read.measurements, read.opaque, read.fwid) == ({}, {}, None)
    assert (read.driver_version, read.vbios_version, read.driver_rim) == ("", "", "")


@given(blocks=st.dictionaries(st.integers(1, 255), st.binary(min_size=48, max_size=48), max_size=9))
def test_measurements_are_counted_from_zero_as_manifests_do(blocks: dict[int, bytes]) -> None:
    read = DeviceReport.parse(made(list(blocks.items())))
    assert read.measurements == {index - 1: digest for index, digest in blocks.items()}


def block(index: int, specification: int = 1, kind: int = 1, digest: bytes = DIGEST, size: int | None = None) -> bytes:
    value = bytes([kind]) + len(digest).to_bytes(2, "little") + digest
    size = len(value) if size is None else size
    return bytes([index, specification]) + size.to_bytes(2, "little") + value


def with_record(record: bytes, count: int = 1, size: int | None = None) -> bytes:
    head = bytes([count]) + (len(record) if size is None else size).to_bytes(3, "little") + record
    return (
        bytes.fromhex("11e001ff") + NONCE + b"\0" + bytes.fromhex("11600000") + head + bytes(32 + 2 + SIGNATURE_BYTES)
    )


@pytest.mark.parametrize("kind", range(5))
def test_a_digest_may_be_of_any_kind_of_the_standard(kind: int) -> None:
    assert DeviceReport.parse(with_record(block(7, kind=kind))).measurements == {6: DIGEST}


RECORDS: dict[str, bytes] = {
    "a measurement twice": with_record(block(7) + block(7), 2),
    "a measurement twice with other digests": with_record(block(7) + block(7, digest=bytes(48)), 2),
    "a measurement 0": with_record(block(0)),
    "another specification": with_record(block(7, specification=0)),
    "raw bytes": with_record(block(7, kind=0x81)),
    "an unknown kind": with_record(block(7, kind=5)),
    "a digest of SHA-256": with_record(block(7, digest=bytes(32))),
    "a digest of SHA-512": with_record(block(7, digest=bytes(64))),
    "no digest": with_record(block(7, digest=b"")),
    "a size that is too small": with_record(block(7, size=50)),
    "a size that is too large": with_record(block(7, size=52)),
    "a size with a byte behind the digest": with_record(block(7, size=52) + b"\0"),
    "fewer than counted": with_record(block(7), 2),
    "more than counted": with_record(block(7) + block(8), 1),
    "a byte behind the last": with_record(block(7) + b"\0", 1),
    "a length without end": with_record(block(7), size=2**24 - 1),
    "a length that is too small": with_record(block(7), size=len(block(7)) - 1),
}


@pytest.mark.parametrize("data", RECORDS.values(), ids=RECORDS)
def test_refuses_measurements_that_are_not_each_one_sha384_digest(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        DeviceReport.parse(data)


FRAMES: dict[str, bytes] = {
    "nothing": b"",
    "another request": b"\x12" + REPORT[1:],
    "a request without a signature": REPORT[:2] + b"\0" + REPORT[3:],
    "a request for one measurement": REPORT[:3] + b"\1" + REPORT[4:],
    "another response": REPORT[:38] + b"\x7f" + REPORT[39:],
    "a byte behind the signature": REPORT + b"\0",
    "half a signature": REPORT[:-48],
    "a field twice": made(opaque=[(3, b""), (3, b"")]),
    "a field that ends too early": made(opaque=[(3, b"abc")]).replace(b"\x03\0\x03\0abc", b"\x03\0\x04\0abc"),
    "a field without a length": report_body(NONCE, bytes(32), [], [])[:-2] + b"\1\0\3" + bytes(SIGNATURE_BYTES),
    "fields without end": report_body(NONCE, bytes(32), [], [])[:-2] + b"\xff\xff" + bytes(SIGNATURE_BYTES),
}


@pytest.mark.parametrize("data", FRAMES.values(), ids=FRAMES)
def test_refuses_what_is_no_request_and_its_response(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        DeviceReport.parse(data)


@given(st.data())
def test_refuses_parts_and_other_bytes(data: st.DataObject) -> None:
    part = REPORT[: data.draw(st.integers(0, len(REPORT) - 1))]
    for other in (part, data.draw(st.binary(max_size=64))):
        with pytest.raises(MalformedEvidence):
            DeviceReport.parse(other)


@given(data=st.data())
def test_a_changed_byte_is_refused_or_makes_another_report(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(REPORT) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != REPORT[at]))
    with contextlib.suppress(MalformedEvidence):
        assert DeviceReport.parse(REPORT[:at] + bytes([byte]) + REPORT[at + 1 :]) != DeviceReport.parse(REPORT)


LENGTHS = [
    where
    for name, where in fields(REPORT).items()
    if name.startswith(("response", "measurement")) and name.endswith(("length", "size", "block_count"))
]


@given(where=st.sampled_from(LENGTHS), data=st.data())
def test_a_length_that_is_changed_is_refused(where: slice, data: st.DataObject) -> None:
    size = where.stop - where.start
    told = data.draw(st.integers(0, 256**size - 1)).to_bytes(size, "little")
    if told != REPORT[where]:
        with pytest.raises(MalformedEvidence):
            DeviceReport.parse(REPORT[: where.start] + told + REPORT[where.stop :])


# --- What the fields mean -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ARCHES)
def test_tells_the_versions_of_driver_and_vbios(arch: Arch) -> None:
    read = DeviceReport.parse(nvidia_authority().device(arch).report(NONCE))
    assert read.driver_version == ("" if arch == "ls10" else DRIVER_VERSION)
    assert read.vbios_version == FAMILIES[arch].vbios


RIMS = {  # as published for such devices
    "hopper": ("NV_GPU_DRIVER_GH100_590.12", "NV_GPU_VBIOS_G520_0200_885_9600A50001"),
    "blackwell": ("NV_GPU_CC_DRIVER_GB100_590.12", "NV_GPU_VBIOS_G520_0200_885_970088000F"),
    "ls10": ("", "NV_SWITCH_BIOS_5612_0002_890_9610550001"),
}


@pytest.mark.parametrize("arch", ARCHES)
def test_names_the_manifests_as_they_are_published(arch: Arch) -> None:
    read = DeviceReport.parse(nvidia_authority().device(arch).report(NONCE))
    assert (read.driver_rim, read.vbios_rim) == RIMS[arch]


def test_the_video_decoder_may_be_off_and_then_measures_nothing() -> None:
    def unmeasured(opaque: list[tuple[int, bytes]]) -> frozenset[int]:
        return DeviceReport.parse(made(opaque=opaque)).unmeasured

    assert unmeasured([(NVDEC0, b"\x55")]) == {35}
    assert unmeasured([(NVDEC0, b"\xaa")]) == unmeasured([]) == frozenset()


TEXTS = [Opaque.DRIVER_VERSION, Opaque.CHIP_SKU, Opaque.PROJECT, Opaque.PROJECT_SKU, Opaque.CHIP, Opaque.VBIOS_VERSION]
BAD_TEXTS = [b"\x80", b"5\n9", b"\x1b[2J", b"a\0b", "é".encode(), b"\xff\xfe"]


@pytest.mark.parametrize("number", TEXTS)
@pytest.mark.parametrize("text", BAD_TEXTS)
def test_refuses_versions_that_are_no_printable_text(number: Opaque, text: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        DeviceReport.parse(GPU.report(NONCE, changed={number: text}))


@pytest.mark.parametrize("status", [b"", b"\0", b"\x55\x55", b"\xff"])
def test_refuses_a_state_of_the_video_decoder_without_a_meaning(status: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        DeviceReport.parse(GPU.report(NONCE, changed={NVDEC0: status}))


PROPERTIES: list[Callable[[DeviceReport], object]] = [
    lambda read: read.fwid,
    lambda read: read.unmeasured,
    lambda read: read.driver_rim,
    lambda read: read.vbios_rim,
    lambda read: read.driver_version,
    lambda read: read.vbios_version,
]
numbers = st.sampled_from([*TEXTS, NVDEC0, FWID, PDI]) | st.integers(0, 0xFFFF)


@given(st.dictionaries(numbers, st.binary(max_size=9) | st.text("0123456789.", max_size=9).map(str.encode), max_size=5))
def test_whatever_was_read_can_be_asked_about(opaque: dict[int, bytes]) -> None:
    try:
        read = DeviceReport.parse(made(opaque=list(opaque.items())))
    except MalformedEvidence:
        return
    for ask in PROPERTIES:
        ask(read)


def test_a_version_of_eight_bytes_is_a_gpus_and_any_other_length_is_text() -> None:
    def version(value: bytes) -> str:
        return DeviceReport.parse(made(opaque=[(VBIOS, value)])).vbios_version

    assert version(bytes([0, 0xA5, 0, 0x96, 1, 9, 9, 9])) == "96.00.A5.00.01"
    assert (version(b"96.10.55.00.01\0"), version(b"")) == ("96.10.55.00.01", "")
    assert DeviceReport.parse(made(opaque=[(DRIVER, b"590.12\0\0")])).driver_version == "590.12"


def test_recorded_reports_name_the_versions_that_the_manifest_names() -> None:
    recorded = entries()
    gpu = DeviceReport.parse(recorded["nvidia-h100-590.12"].read("report"))
    blackwell = DeviceReport.parse(recorded["nvidia-gb100-575.32"].read("report"))
    switch = DeviceReport.parse(recorded["nvidia-ls10-same-switch-four-times"].read("report"))
    assert (gpu.driver_version, gpu.vbios_version, gpu.driver_rim) == (
        "590.12",
        "96.00.A5.00.01",
        "NV_GPU_DRIVER_GH100_590.12",
    )
    assert (blackwell.driver_version, len(blackwell.measurements)) == ("575.32", 64)
    assert (switch.driver_version, switch.fwid, len(switch.measurements)) == ("", None, 31)
    assert (len(gpu.measurements), len(gpu.fwid or b"")) == (64, 48)
