"""A device's report is the device's own: its key signed it, for the firmware that the key was certified with, on our nonce."""

from dataclasses import replace
from typing import get_args

import pytest
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import (
    BrokenChain,
    DeviceIdentityMismatch,
    DeviceNonceMismatch,
    InvalidReportSignature,
    MalformedCollateral,
    MalformedEvidence,
)
from attestation.parsing.certificate import Certificate, certificates_from_pem
from attestation.parsing.nvidia import DeviceReport
from attestation.verification.nvidia import (
    certified_fwid,
    device_id,
    is_switch,
    parse_chain,
    product,
    verify_firmware_identity,
    verify_nonce,
    verify_report,
)
from tests.attestation.authority.nvidia import (
    FAMILIES,
    FWID,
    PDI,
    Arch,
    Device,
    der,
    dice_device_id,
    dice_tcb_info,
    new_key,
    nvidia_authority,
    raw_signature,
)
from tests.attestation.parsing.handmade import CertificateParts, extension, integer
from tests.attestation.vectors import entries

AUTHORITY = nvidia_authority()
ARCHES: tuple[Arch, ...] = get_args(Arch)
NONCE = bytes(range(32))
GPU, SWITCH = AUTHORITY.device("hopper"), AUTHORITY.device("ls10")
HOPPER_DICE, BLACKWELL_DICE, ALTERNATIVE_NAME = "2.23.133.5.4.1", "2.23.133.5.4.1.1", "2.5.29.17"
GPU_NAME = b"NVIDIA:GH100:48B02D0011223344"
SWITCH_NAME = b"NVIDIA:LS_10:48B02D0011223344"
SHA384_HEAD = bytes.fromhex("06096086480165030402020430")


def verify_identity(device: Device, report: bytes, chain: tuple[Certificate, ...] | None = None) -> None:
    verify_firmware_identity(DeviceReport.parse(report), chain or parse_chain(device.chain))


def leaf(*extensions: bytes) -> Certificate:
    return Certificate.parse(CertificateParts(extensions=extensions).encode())


# --- Chain and identity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ARCHES)
def test_a_device_has_five_certificates(arch: Arch) -> None:
    chain = AUTHORITY.device(arch).chain
    assert tuple(certificate.der for certificate in parse_chain(chain)) == chain
    for other in (chain[:-1], (*chain, chain[-1]), (), chain[:1] * 4):
        with pytest.raises(BrokenChain):
            parse_chain(other)
    with pytest.raises(MalformedCollateral):
        parse_chain((*chain[:-1], b""))


def test_a_device_is_told_by_the_key_that_was_certified_when_it_was_made() -> None:
    chain = parse_chain(GPU.chain)
    digest = Hash(SHA256())
    digest.update(chain[1].public_key_der)
    assert device_id(chain) == digest.finalize()
    newer_firmware = (leaf(), *chain[1:])
    assert device_id(newer_firmware) == device_id(chain) != device_id(parse_chain(SWITCH.chain))


@pytest.mark.parametrize("arch", ARCHES)
def test_names_the_product(arch: Arch) -> None:
    certificate = parse_chain(AUTHORITY.device(arch).chain)[0]
    assert product(certificate) == FAMILIES[arch].chip
    assert is_switch(certificate) == (arch == "ls10")


NAMES = [
    b"",
    b"NVIDIA",
    b"NVIDIA:GH100",
    b"NVIDIA:GH100:",
    b"AMD:GH100:00",
    b"NVIDIA:gh100:00",
    b"NVIDIA:GH 100:00",
    b"NVIDIA::00",
]
NAMES += [b"NVIDIA:" + b"G" * 17 + b":00", b"NVIDIA:GH100:xyz"]


@pytest.mark.parametrize("name", NAMES)
def test_refuses_a_certificate_that_names_no_product(name: bytes) -> None:
    for certificate in (leaf(extension(ALTERNATIVE_NAME, name)), leaf(extension("1.2.3", GPU_NAME)), leaf()):
        with pytest.raises(DeviceIdentityMismatch):
            product(certificate)
        with pytest.raises(DeviceIdentityMismatch):
            is_switch(certificate)


# --- The signature --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ARCHES)
def test_the_leafs_key_signed_the_report(arch: Arch) -> None:
    device = AUTHORITY.device(arch)
    verify_report(DeviceReport.parse(device.report(NONCE)), parse_chain(device.chain)[0])


REPORT = GPU.report(NONCE)


@given(at=st.integers(0, len(REPORT) - 1), byte=st.integers(0, 255))
def test_a_changed_report_is_refused(at: int, byte: int) -> None:
    changed = REPORT[:at] + bytes([byte]) + REPORT[at + 1 :]
    if changed != REPORT:
        with pytest.raises((InvalidReportSignature, MalformedEvidence)):
            verify_report(DeviceReport.parse(changed), parse_chain(GPU.chain)[0])


def test_refuses_other_keys_and_numbers_that_are_no_signature() -> None:
    own = parse_chain(GPU.chain)[0]
    for report in (
        GPU.report(NONCE, key=new_key()),
        SWITCH.report(NONCE),
        GPU.report(NONCE, signature=raw_signature(0, 0)),
        GPU.report(NONCE, signature=raw_signature(2**384 - 1, 1)),
    ):
        with pytest.raises(InvalidReportSignature):
            verify_report(DeviceReport.parse(report), own)


def test_a_nonce_is_answered_and_no_other() -> None:
    verify_nonce(DeviceReport.parse(REPORT), NONCE)
    for other in (bytes(32), NONCE[:-1], NONCE + b"\0", b""):
        with pytest.raises(DeviceNonceMismatch):
            verify_nonce(DeviceReport.parse(REPORT), other)


# --- Early firmware, and what a switch says instead -----------------------------------------------------------------------


@pytest.mark.parametrize("arch", ARCHES)
def test_the_certificate_was_issued_for_the_reported_firmware_or_switch(arch: Arch) -> None:
    device = AUTHORITY.device(arch)
    verify_identity(device, device.report(NONCE))
    assert certified_fwid(parse_chain(device.chain)[0]) == device.fwid


@pytest.mark.parametrize("arch", ["hopper", "blackwell"])
def test_refuses_a_gpu_that_reports_other_firmware_or_none(arch: Arch) -> None:
    device = AUTHORITY.device(arch)
    for report in (
        device.report(NONCE, changed={FWID: b"\1" * 48}),
        device.report(NONCE, changed={FWID: b""}),
        device.report(NONCE, changed={FWID: device.fwid + b"\0"}),
        device.report(NONCE, without=[FWID]),
    ):
        with pytest.raises(DeviceIdentityMismatch):
            verify_identity(device, report)


def test_refuses_a_gpu_whose_certificate_is_for_other_firmware() -> None:
    device = AUTHORITY.device(certified_fwid=b"\1" * 48)
    with pytest.raises(DeviceIdentityMismatch):
        verify_identity(device, device.report(NONCE))


def test_a_gpu_is_not_let_through_by_what_switches_say() -> None:
    device = AUTHORITY.device("hopper")
    with pytest.raises(DeviceIdentityMismatch):
        verify_identity(device, device.report(NONCE, changed={PDI: device.pdi}, without=[FWID]))


def test_refuses_a_switch_that_reports_another_identifier_or_none() -> None:
    for report in (
        SWITCH.report(NONCE, changed={PDI: bytes(8)}),
        SWITCH.report(NONCE, changed={PDI: SWITCH.pdi + b"\0"}),
        SWITCH.report(NONCE, without=[PDI]),
    ):
        with pytest.raises(DeviceIdentityMismatch):
            verify_identity(SWITCH, report)


def switch_chain(serial: int) -> tuple[Certificate, ...]:
    others = parse_chain(SWITCH.chain)[2:]
    name = extension(ALTERNATIVE_NAME, SWITCH_NAME)
    certificate = leaf(name, extension(HOPPER_DICE, dice_device_id(new_key(), bytes(48))))
    return certificate, Certificate.parse(CertificateParts(serial=integer(serial)).encode()), *others


@pytest.mark.parametrize("serial", [0, 0x50, 0x5000000000, 2**159 - 1])
def test_a_switch_is_held_to_the_serial_number_whatever_its_length(serial: int) -> None:
    identifier = serial.to_bytes((serial.bit_length() + 7) // 8, "big")[1:]
    verify_identity(SWITCH, SWITCH.report(NONCE, changed={PDI: identifier}), switch_chain(serial))
    with pytest.raises(DeviceIdentityMismatch):
        verify_identity(SWITCH, SWITCH.report(NONCE, changed={PDI: identifier + b"\0"}), switch_chain(serial))


FIRST, SECOND = b"\1" * 48, b"\2" * 48


def test_of_several_digests_the_first_counts() -> None:
    assert certified_fwid(leaf(extension(BLACKWELL_DICE, dice_tcb_info("GB100", FIRST, SECOND)))) == FIRST
    both = (
        extension(HOPPER_DICE, dice_device_id(new_key(), FIRST)),
        extension(BLACKWELL_DICE, dice_tcb_info("GB100", SECOND)),
    )
    assert certified_fwid(leaf(*both)) == FIRST


DICE = {
    "none": None,
    "an empty one": b"",
    "no sequence": SHA384_HEAD + FIRST,
    "no digest": der(0x30, b"\x02\x01\x01"),
    "a digest that ends too early": der(0x30, SHA384_HEAD + FIRST[:-1]),
    "a digest of another kind": dice_device_id(new_key(), FIRST).replace(SHA384_HEAD[:-2], SHA384_HEAD[:-3] + b"\x01"),
    "a digest of another length": der(0x30, SHA384_HEAD[:-1] + b"\x20" + FIRST[:32]),
}


@pytest.mark.parametrize("value", DICE.values(), ids=DICE)
@pytest.mark.parametrize("oid", [HOPPER_DICE, BLACKWELL_DICE])
def test_refuses_a_certificate_that_names_no_firmware(value: bytes | None, oid: str) -> None:
    extensions = [] if value is None else [extension(oid, value)]
    with pytest.raises(DeviceIdentityMismatch):
        certified_fwid(leaf(*extensions, extension(ALTERNATIVE_NAME, GPU_NAME)))


RECORDED = {
    "nvidia-h100-590.12": "GH100",
    "nvidia-gb100-575.32": "GB100",
    "nvidia-ls10-same-switch-four-times": "LS_10",
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_devices_are_what_they_say(name: str) -> None:
    entry = entries()[name]
    chain, report = (
        parse_chain(certificates_from_pem(entry.read_all("chain")[0])),
        DeviceReport.parse(entry.read_all("report")[0]),
    )
    verify_report(report, chain[0])
    verify_firmware_identity(report, chain)
    assert product(chain[0]) == RECORDED[name]
    assert is_switch(chain[0]) == ("ls10" in name)
    with pytest.raises(DeviceIdentityMismatch):
        verify_firmware_identity(replace(report, opaque={}), chain)


def test_four_recorded_devices_are_four() -> None:
    chains = [
        parse_chain(certificates_from_pem(pem)) for pem in entries()["nvidia-h100-four-devices"].read_all("chain")
    ]
    assert len({device_id(chain) for chain in chains}) == 4
