"""A SEV-SNP report has one length, one layout, and zeros where nothing is said."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedEvidence, UnsupportedEvidence
from attestation.parsing.snp import REPORT, TCB_PARTS, GuestPolicy, Product, SnpReport, Tcb
from tests.attestation.authority import amd
from tests.attestation.authority.amd import (
    FIELDS,
    SIGNATURE_FIELDS,
    SIGNED_SIZE,
    VLEK_SIGNED,
    patched,
    signature,
)
from tests.attestation.vectors import entries

LEVELS = amd.Tcb(bootloader=1, tee=2, snp=3, microcode=4)
REPORT_OF_GENOA = amd.Report(
    guest_svn=7,
    policy=0xB0000,
    vmpl=2,
    platform_info=0xFF25,
    report_data=bytes(range(64)),
    measurement=bytes(range(48)),
    host_data=bytes(range(32)),
    reported_tcb=LEVELS,
    current_tcb=replace(LEVELS, snp=5),
    committed_tcb=replace(LEVELS, snp=6),
    launch_tcb=replace(LEVELS, snp=7),
    chip_id=bytes(range(64)),
)
WHOLE = REPORT_OF_GENOA.body() + signature(2**575 + 3, 5)


def test_reads_every_field_that_is_judged() -> None:
    read = SnpReport.parse(WHOLE)
    assert (read.version, read.guest_svn, read.vmpl, read.signature_algorithm) == (5, 7, 2, 1)
    assert read.policy.bits == 0xB0000
    assert (read.platform_info, read.aliases_checked, read.key_info) == (0xFF25, True, 0)
    assert (read.report_data, read.measurement, read.host_data) == (
        bytes(range(64)),
        bytes(range(48)),
        bytes(range(32)),
    )
    levels = [read.reported_tcb, read.current_tcb, read.committed_tcb, read.launch_tcb]
    assert [Tcb.read(level, Product.GENOA).snp for level in levels] == [3, 5, 6, 7]
    assert (read.product, read.chip_id) == (Product.GENOA, bytes(range(64)))
    assert read.signed == WHOLE[:SIGNED_SIZE]
    assert (read.r, read.s) == (2**575 + 3, 5)


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_reads_versions_2_to_5_and_the_product_from_version_3_on(version: int) -> None:
    for product in Product:
        report = SnpReport.parse(amd.Report(product=product, version=version).body() + signature(1, 1))
        assert report.version == version
        assert report.product == (product if version >= 3 else None)


@pytest.mark.parametrize("version", [0, 1, 6, 2**32 - 1])
def test_refuses_versions_that_it_does_not_know(version: int) -> None:
    with pytest.raises(UnsupportedEvidence):
        SnpReport.parse(patched(WHOLE, FIELDS["version"], version.to_bytes(4, "little")))


@pytest.mark.parametrize("algorithm", [0, 2, 2**32 - 1])
def test_refuses_signature_algorithms_that_it_does_not_know(algorithm: int) -> None:
    with pytest.raises(UnsupportedEvidence):
        SnpReport.parse(patched(WHOLE, FIELDS["signature_algo"], algorithm.to_bytes(4, "little")))


MODELS = {  # family and model: the first and the last of each range, and their neighbours
    (0x19, 0x00): Product.MILAN,
    (0x19, 0x0F): Product.MILAN,
    (0x19, 0x10): Product.GENOA,
    (0x19, 0x1F): Product.GENOA,
    (0x19, 0x20): None,
    (0x19, 0x9F): None,
    (0x19, 0xA0): Product.GENOA,
    (0x19, 0xAF): Product.GENOA,
    (0x19, 0xB0): None,
    (0x1A, 0x00): Product.TURIN,
    (0x1A, 0x11): Product.TURIN,
    (0x1A, 0x12): None,
    (0x18, 0x01): None,
    (0x00, 0x00): None,
}


@pytest.mark.parametrize("cpuid", MODELS)
def test_knows_the_product_by_family_and_model(cpuid: tuple[int, int]) -> None:
    report = replace(REPORT_OF_GENOA, cpuid_family=cpuid[0], cpuid_model=cpuid[1]).body() + signature(1, 1)
    if MODELS[cpuid] is None:
        with pytest.raises(UnsupportedEvidence):
            SnpReport.parse(report)
    else:
        assert SnpReport.parse(report).product is MODELS[cpuid]


@given(st.binary(max_size=2 * REPORT).filter(lambda data: len(data) != REPORT))
def test_refuses_every_other_length(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        SnpReport.parse(data)


@pytest.mark.parametrize("change", [-1, 1])
def test_refuses_a_report_that_is_a_byte_too_short_or_too_long(change: int) -> None:
    with pytest.raises(MalformedEvidence):
        SnpReport.parse(WHOLE[:change] if change < 0 else WHOLE + bytes(change))


RESERVED = [where for name, where in FIELDS.items() if name in {"reserved_04c", "reserved_18b", "reserved_208"}]


@given(where=st.sampled_from([*RESERVED, SIGNATURE_FIELDS["padding"]]), data=st.data())
def test_refuses_anything_but_zeros_where_nothing_is_said(where: slice, data: st.DataObject) -> None:
    at, byte = data.draw(st.integers(where.start, where.stop - 1)), data.draw(st.integers(1, 255))
    with pytest.raises(MalformedEvidence):
        SnpReport.parse(patched(WHOLE, slice(at, at + 1), bytes([byte])))


@given(data=st.data())
def test_a_changed_byte_is_refused_or_makes_another_report(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, REPORT - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != WHOLE[at]))
    with contextlib.suppress(MalformedEvidence, UnsupportedEvidence):
        assert SnpReport.parse(patched(WHOLE, slice(at, at + 1), bytes([byte]))) != SnpReport.parse(WHOLE)


@given(st.binary(min_size=8, max_size=8))
def test_firmware_levels_are_read_in_the_order_of_the_product(level: bytes) -> None:
    old = Tcb(bootloader=level[0], tee=level[1], snp=level[6], microcode=level[7])
    assert Tcb.read(level, Product.MILAN) == Tcb.read(level, Product.GENOA) == old
    turin = Tcb(fmc=level[0], bootloader=level[1], tee=level[2], snp=level[3], microcode=level[7])
    assert Tcb.read(level, Product.TURIN) == turin


@pytest.mark.parametrize("product", Product)
def test_firmware_levels_are_those_that_were_written(product: Product) -> None:
    told = amd.PRODUCTS[product].tcb
    read = Tcb.read(told.encode(product), product)
    assert {part: getattr(read, part) for part in TCB_PARTS} == {part: getattr(told, part) for part in TCB_PARTS}


levels = st.builds(Tcb, **{part: st.integers(0, 255) for part in TCB_PARTS})


@given(level=levels, floor=levels)
def test_a_level_reaches_a_floor_if_each_of_its_parts_does(level: Tcb, floor: Tcb) -> None:
    assert level.reaches(floor) == all(getattr(level, part) >= getattr(floor, part) for part in TCB_PARTS)
    assert level.reaches(level)


def test_levels_are_shown_in_words() -> None:
    assert str(Tcb(bootloader=10, snp=23, microcode=84)) == "bootloader 10, tee 0, snp 23, microcode 84"
    assert str(Tcb(fmc=1)) == "bootloader 0, tee 0, snp 0, microcode 0, fmc 1"


@pytest.mark.parametrize("bit", range(64))
def test_each_bit_of_the_guest_policy_means_what_the_specification_says(bit: int) -> None:
    policy = GuestPolicy(1 << 17 | 1 << bit)
    assert (policy.migration_agent, policy.debug, policy.cxl) == (bit == 18, bit == 19, bit == 21)
    assert policy.well_formed == (bit <= 25)


def test_a_guest_policy_without_bit_17_is_not_well_formed() -> None:
    assert not GuestPolicy(1 << 16).well_formed


@pytest.mark.parametrize(
    ("key_info", "masked", "signing"),
    [(0, False, 0), (1, False, 0), (2, True, 0), (VLEK_SIGNED, False, 1), (0x1E, True, 7)],
)
def test_the_key_information_says_which_key_signed_and_whether_the_chip_hides(
    key_info: int, masked: bool, signing: int
) -> None:
    read = SnpReport.parse(replace(REPORT_OF_GENOA, key_info=key_info).body() + signature(1, 1))
    assert (read.masked_chip, read.signing_key) == (masked, signing)
    assert read.provider_key == (signing == 1)


@pytest.mark.parametrize("bit", range(64))
def test_bit_5_of_the_platform_information_says_that_no_memory_module_lies(bit: int) -> None:
    read = SnpReport.parse(replace(REPORT_OF_GENOA, platform_info=1 << bit).body() + signature(1, 1))
    assert read.aliases_checked == (bit == 5)


def test_recorded_reports_are_of_the_product_that_the_manifest_names() -> None:
    reports = {name: entry for name, entry in entries().items() if entry.kind == "snp_report"}
    assert len(reports) == 11
    for name, entry in reports.items():
        read = SnpReport.parse(entry.read("report"))
        assert read.product is None or read.product.lower() in name
        assert (read.product is None) == (read.version == 2)
        assert f"-v{read.version}-" in f"{name}-" or "made-up" in name
        assert (read.masked_chip, read.signing_key) == (False, 0)
