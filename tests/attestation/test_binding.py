"""One nonce binds processor, devices and keys: whatever changes, the processor has to sign again."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.binding import NONCE, device_nonce, report_data, tpm_nonce, verify_binding
from attestation.document import DeviceEvidence, KeySection
from attestation.errors import BindingMismatch
from tests.attestation.test_document import GPU, KEYS, devices, keys

OURS = bytes(range(32))
nonces = st.binary(min_size=NONCE, max_size=NONCE)
Devices = tuple[DeviceEvidence, ...]


def test_the_report_commits_to_what_the_specification_says() -> None:
    """As written at the head of the module, with other tools."""
    key_section = (
        b'{"identity_key":"BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",'
        b'"receipt_key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","release":"subrosa 0.1.0"}'
    )
    k = hashlib.sha256(key_section).digest()
    d = hashlib.sha256(b'{"devices":[]}').digest()
    assert report_data(OURS, KEYS) == hashlib.sha512(b"subrosa evidence v2\0" + OURS + k + d).digest()
    told = (
        b'{"devices":[{"certificates":["bGVhZg==","cm9vdA=="],"report":"cmVwb3J0",'
        b'"state":{"confidential":true,"developer_tools":false,"production":true},"type":"nvidia-gpu"}]}'
    )
    d = hashlib.sha256(told).digest()
    assert report_data(OURS, KEYS, (GPU,)) == hashlib.sha512(b"subrosa evidence v2\0" + OURS + k + d).digest()
    device = b"subrosa device nonce v1\0" + OURS + k + b"\0\0\1\2"
    assert device_nonce(OURS, KEYS, 0x102) == hashlib.sha256(device).digest()
    assert tpm_nonce(bytes(64)) == hashlib.sha256(b"subrosa tpm nonce v1\0" + bytes(64)).digest()


@given(nonce=nonces, section=keys, evidence=devices)
def test_a_report_speaks_for_what_it_was_made_for(nonce: bytes, section: KeySection, evidence: Devices) -> None:
    reported = report_data(nonce, section, evidence)
    assert len(reported) == 64
    verify_binding(reported, nonce=nonce, keys=section, devices=evidence)


bindings = st.tuples(nonces, keys, devices)


@given(one=bindings, other=bindings)
def test_and_for_nothing_else(one: tuple[bytes, KeySection, Devices], other: tuple[bytes, KeySection, Devices]) -> None:
    mixed = {
        (nonce, section, evidence)
        for nonce in {one[0], other[0]}
        for section in {one[1], other[1]}
        for evidence in {one[2], other[2]}
    }
    for nonce, section, evidence in mixed - {one}:
        with pytest.raises(BindingMismatch):
            verify_binding(report_data(*one), nonce=nonce, keys=section, devices=evidence)


def test_devices_in_another_order_or_number_are_other_devices() -> None:
    other = replace(GPU, report=b"other")
    reported = report_data(OURS, KEYS, (GPU, other))
    for evidence in ((other, GPU), (GPU,), (GPU, other, other), ()):
        with pytest.raises(BindingMismatch):
            verify_binding(reported, nonce=OURS, keys=KEYS, devices=evidence)


def test_a_report_of_another_length_speaks_for_nothing() -> None:
    for reported in (b"", report_data(OURS, KEYS)[:32], report_data(OURS, KEYS) + b"\0", bytes(64)):
        with pytest.raises(BindingMismatch):
            verify_binding(reported, nonce=OURS, keys=KEYS)


@given(nonce=nonces, section=keys, indices=st.sets(st.integers(0, 2**32 - 1), min_size=2, max_size=4))
def test_every_device_has_a_nonce_of_its_own(nonce: bytes, section: KeySection, indices: set[int]) -> None:
    section = replace(section, identity_key=b"\x05" + bytes(32))
    derived = {device_nonce(nonce, section, index) for index in indices}
    assert len(derived) == len(indices)
    assert {len(each) for each in derived} == {32}
    others = {device_nonce(nonce, replace(section, identity_key=bytes(33)), index) for index in indices}
    assert not derived & others


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_nonce_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        report_data(bytes(length), KEYS)
    with pytest.raises(ValueError, match="32 bytes"):
        device_nonce(bytes(length), KEYS, 0)
    with pytest.raises(ValueError, match="32 bytes"):
        verify_binding(bytes(64), nonce=bytes(length), keys=KEYS)


@given(one=st.binary(min_size=64, max_size=64), other=st.binary(min_size=64, max_size=64))
def test_the_tpm_is_asked_for_this_report(one: bytes, other: bytes) -> None:
    assert (tpm_nonce(one) == tpm_nonce(other)) == (one == other)
    assert len(tpm_nonce(one)) == 32
