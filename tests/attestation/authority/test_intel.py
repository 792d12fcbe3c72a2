"""The fake Intel's evidence is Intel's in form: an independent verifier accepts it, and refuses each single change."""

import hashlib
import json
import struct
from collections.abc import Mapping
from datetime import timedelta

import dcap_qvl
import pytest

from tests.attestation.authority.eventlog import BOOT, Event, event_log, runtime_log
from tests.attestation.authority.intel import (
    FIELDS,
    NOW,
    P256_ORDER,
    SIGNATURE_FIELDS,
    TD10,
    TD15,
    IntelAuthority,
    Platform,
    Window,
    new_key,
    qe_report,
    quote_body,
    raw_public_key,
    raw_signature,
    tcb_level,
)

AUTHORITY = IntelAuthority()
COLLATERAL = AUTHORITY.collateral()
FORMS = list(FIELDS)
QUOTES = {form: AUTHORITY.quote(*form) for form in FORMS}
SECONDS = int(NOW.timestamp())

# What neither the attestation key nor the PCK key signs, and no hash binds: how long the parts are, and of what type.
UNSIGNED = {
    "signature_data_length",
    "certification_type",
    "certification_length",
    "auth_data_length",
    "chain_type",
    "chain_length",
}
PAST: Window = (NOW - timedelta(days=9), NOW - timedelta(days=1))
FUTURE: Window = (NOW + timedelta(days=1), NOW + timedelta(days=9))


def verify(
    quote: bytes,
    collateral: Mapping[str, str] = COLLATERAL,
    authority: IntelAuthority = AUTHORITY,
    *,
    strict: bool = False,
) -> str:
    """The TCB status that dcap-qvl finds; it raises ``ValueError`` for what it refuses."""
    policy = dcap_qvl.QuotePolicy.strict(SECONDS) if strict else dcap_qvl.QuotePolicy.claims_only(SECONDS)
    parsed = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(collateral))
    claims = dcap_qvl.QuoteVerifier(root_ca_der=authority.root).verify_with_policy(quote, parsed, SECONDS, policy)
    return str(json.loads(claims.to_json())["tcb"]["status"])


def flip(data: bytes, where: slice) -> bytes:
    return data[: where.start] + bytes([data[where.start] ^ 1]) + data[where.start + 1 :]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_quote_is_accepted_and_up_to_date(form: tuple[int, int], *, strict: bool) -> None:
    assert verify(QUOTES[form], strict=strict) == "UpToDate"


def test_the_forms_have_intels_lengths() -> None:
    assert {form: len(quote_body(*form)) for form in FORMS} == {
        (4, TD10): 48 + 584,
        (5, TD10): 48 + 6 + 584,
        (5, TD15): 48 + 6 + 648,
    }
    quote = QUOTES[5, TD15]
    assert quote[FIELDS[5, TD15]["body_type"]] == b"\x03\x00"
    assert quote[FIELDS[5, TD15]["body_size"]] == (648).to_bytes(4, "little")


@pytest.mark.parametrize(("form", "field"), [(form, field) for form in FORMS for field in FIELDS[form]])
def test_a_flipped_bit_in_header_or_body_is_refused(form: tuple[int, int], field: str) -> None:
    with pytest.raises(ValueError, match="Verification failed"):
        verify(flip(QUOTES[form], FIELDS[form][field]))


@pytest.mark.parametrize("field", [name for name in SIGNATURE_FIELDS[4, TD10] if name not in UNSIGNED])
def test_a_flipped_bit_in_the_signature_data_is_refused(field: str) -> None:
    for form in FORMS:
        with pytest.raises(ValueError, match="Verification failed"):
            verify(flip(QUOTES[form], SIGNATURE_FIELDS[form][field]))


@pytest.mark.parametrize(
    "part",
    ["tcb_info", "tcb_info_signature", "qe_identity", "qe_identity_signature", "root_ca_crl", "pck_crl"],
)
def test_a_changed_part_of_the_collateral_is_refused(part: str) -> None:
    whole = COLLATERAL[part]
    changed = whole.replace("2024-03-13", "2024-03-14") if "{" in whole else whole[:-1] + f"{int(whole[-1], 16) ^ 1:x}"
    assert changed != whole
    with pytest.raises(ValueError, match="Verification failed"):
        verify(QUOTES[4, TD10], COLLATERAL | {part: changed})


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_body_signed_anew_is_accepted_again(form: tuple[int, int]) -> None:
    changed = flip(quote_body(*form), FIELDS[form]["report_data"])
    quote = AUTHORITY.quote(*form, signed=changed)
    assert verify(quote) == "UpToDate"
    assert quote[FIELDS[form]["report_data"]] != QUOTES[form][FIELDS[form]["report_data"]]


def test_fields_are_set_by_name_and_have_one_length() -> None:
    debug = AUTHORITY.quote(td_attributes=(1 << 28 | 1).to_bytes(8, "little"))
    with pytest.raises(ValueError, match="Debug mode"):
        verify(debug)
    with pytest.raises(ValueError, match="the wrong length"):
        quote_body(mr_td=bytes(47))
    with pytest.raises(TypeError, match="no such field"):
        quote_body(4, TD10, mr_service_td=bytes(48))


def test_the_hooks_break_one_thing_each() -> None:
    verify(AUTHORITY.quote(trailing=bytes(3000)))
    verify(AUTHORITY.quote(attestation_key=new_key()))
    unbound = qe_report(raw_public_key(new_key()))
    with pytest.raises(ValueError, match="QE report hash mismatch"):
        verify(AUTHORITY.quote(qe_body=unbound))
    with pytest.raises(ValueError, match="ISV enclave report signature"):
        verify(AUTHORITY.quote(public_key=raw_public_key(new_key())))
    for r, s in ((0, 1), (1, 0), (0, 0), (P256_ORDER, 1), (1, P256_ORDER)):
        with pytest.raises(ValueError, match="ISV enclave report signature"):
            verify(AUTHORITY.quote(signature=raw_signature(r, s)))
        with pytest.raises(ValueError, match="Verification failed"):
            verify(AUTHORITY.quote(qe_signature=raw_signature(r, s)))
    with pytest.raises(ValueError, match="certificate chain"):
        verify(AUTHORITY.quote(pck=AUTHORITY.issue_pck(valid=PAST)))
    with pytest.raises(ValueError, match="certificate chain"):
        verify(AUTHORITY.quote(pck=IntelAuthority().pck))


@pytest.mark.parametrize("status", ["UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "OutOfDate"])
def test_the_collateral_states_the_status_of_the_platform(status: str) -> None:
    quote = QUOTES[4, TD10]
    assert verify(quote, AUTHORITY.collateral(status=status, advisories=["INTEL-SA-00001"])) == status
    assert verify(quote, AUTHORITY.collateral(module_status="OutOfDate")) == "OutOfDate"
    assert verify(quote, AUTHORITY.collateral(qe_status="OutOfDate")) == "OutOfDate"


def test_the_collateral_can_refuse_the_platform() -> None:
    quote = QUOTES[4, TD10]
    none_matches = [tcb_level(sgx_svns=[9] * 16), tcb_level(tdx_svns=[9] * 16), tcb_level(pce_svn=12)]
    refusals = {
        "TCB status is invalid": AUTHORITY.collateral(status="Revoked"),
        "No matching TCB level": AUTHORITY.collateral(levels=none_matches),
        "Fmspc mismatch": AUTHORITY.collateral(fmspc=bytes(6)),
        "TCBInfo expired": AUTHORITY.collateral(tcb_info_window=PAST),
        "TCBInfo issue date": AUTHORITY.collateral(tcb_info_window=FUTURE),
        "QE Identity expired": AUTHORITY.collateral(qe_identity_window=PAST),
        "QE Identity issue date": AUTHORITY.collateral(qe_identity_window=FUTURE),
        "CrlExpired": AUTHORITY.collateral(root_crl_window=PAST),
        "non-TDX TCB info": AUTHORITY.collateral(tcb_info={"id": "SGX"}),
        "QE MRSIGNER mismatch": AUTHORITY.collateral(qe_identity={"mrsigner": "00" * 32}),
    }
    for reason, collateral in refusals.items():
        with pytest.raises(ValueError, match=reason):
            verify(quote, collateral)
    for collateral in (
        AUTHORITY.collateral(pck_crl_window=PAST),
        AUTHORITY.collateral(revoked_by_platform_ca=[AUTHORITY.pck.serial]),
        AUTHORITY.collateral(revoked_by_root=[AUTHORITY.platform_ca.serial]),
        AUTHORITY.collateral(revoked_by_root=[AUTHORITY.tcb_signing.serial]),
        AUTHORITY.collateral(tcb_signing=IntelAuthority().tcb_signing),
    ):
        with pytest.raises(ValueError, match="certificate chain"):
            verify(quote, collateral)
    verify(quote, AUTHORITY.collateral(revoked_by_platform_ca=[1], revoked_by_root=[2]))


def test_the_pck_certificate_describes_its_platform() -> None:
    platform = Platform(fmspc=b"fmspc!", pce_svn=0x180, sgx_svns=tuple(range(120, 136)), platform_instance_id=bytes(16))
    authority = IntelAuthority(platform)
    read = dcap_qvl.Quote.parse(authority.quote()).pck_extension()
    assert read is not None
    assert (read.fmspc, read.pce_svn, read.cpu_svn) == (b"fmspc!", 0x180, bytes(range(120, 136)))
    assert (read.ppid, read.pce_id, read.sgx_type) == (platform.ppid, bytes(2), 1)
    assert read.platform_instance_id == bytes(16)
    assert verify(authority.quote(), authority.collateral(), authority) == "UpToDate"


def replay(log: bytes) -> tuple[list[bytes], int]:
    """Read a log without the code that wrote it: RTMR0 to RTMR3, and where the padding begins."""
    header_size = struct.unpack_from("<I", log, 28)[0]
    at, registers = 32 + header_size, [bytes(48)] * 4
    while log[at : at + 4] != b"\xff" * 4:
        register, kind, digests, algorithm, digest, size = struct.unpack_from("<IIIH48sI", log, at)
        assert (digests, algorithm) == (1, 0x0C)
        if kind != 3:
            registers[register - 1] = hashlib.sha384(registers[register - 1] + digest).digest()
        at += 66 + size
    return registers, at


def test_the_boot_log_replays_to_its_registers() -> None:
    log = event_log(area=8192)
    registers, end = replay(log.data)
    assert tuple(registers) == log.rtmrs
    assert len(log.data) == 8192
    assert set(log.data[end:]) == {0xFF}
    assert all(register != bytes(48) for register in registers[:3])
    assert registers[3] == bytes(48)
    assert event_log([*BOOT, Event(3, 0xD, b"one more\0")]).rtmrs[2] != log.rtmrs[2]
    with pytest.raises(ValueError, match="larger area"):
        event_log(area=100)


@pytest.mark.parametrize("stripped", [False, True])
def test_the_runtime_log_replays_to_rtmr3(*, stripped: bool) -> None:
    log, register = runtime_log(boot=BOOT, stripped=stripped), bytes(48)
    entries = json.loads(log.text)
    assert [entry["imr"] for entry in entries[: len(BOOT)]] == [event.register - 1 for event in BOOT]
    for entry in entries[len(BOOT) :]:
        assert (entry["imr"], entry["event_type"]) == (3, 0x08000001)
        preimage = b"\x01\x00\x00\x08:" + entry["event"].encode() + b":" + bytes.fromhex(entry["event_payload"])
        digest = hashlib.sha384(preimage).digest()
        assert entry["digest"] == ("" if stripped else digest.hex())
        register = hashlib.sha384(register + digest).digest()
    assert register == log.rtmr3


def test_the_digests_of_runtime_events_are_those_that_dstack_logs() -> None:
    """Known answers: the first digest of any dstack log, and the canonical JSON that dstack's own tests expect."""
    (first, *_) = json.loads(runtime_log().text)
    assert first["digest"] == (
        "f9974020ef507068183313d0ca808e0d1ca9b2d1ad0c61f5784e7157c362c06536f5ddacdad4451693f48fcc72fff624"
    )
    (second,) = json.loads(runtime_log([("compose-hash", b"\xab\xcd")], version=2).text)
    assert bytes.fromhex(second["preimage"]) == b'{"name":"compose-hash","payload":"abcd","type":134217729}'
    assert (second["version"], second["digest"]) == (2, hashlib.sha384(bytes.fromhex(second["preimage"])).hexdigest())


def test_the_registers_of_the_logs_go_into_a_quote() -> None:
    boot, runtime = event_log(), runtime_log()
    rtmr0, rtmr1, rtmr2, _ = boot.rtmrs
    quote = AUTHORITY.quote(5, TD15, rtmr0=rtmr0, rtmr1=rtmr1, rtmr2=rtmr2, rtmr3=runtime.rtmr3)
    assert verify(quote) == "UpToDate"
    assert quote[FIELDS[5, TD15]["rtmr3"]] == runtime.rtmr3
