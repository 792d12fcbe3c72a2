"""Intel's chain of signatures down to the quote, the event log, and what Intel's collateral says of the firmware."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from attestation.collateral import IntelCollateral
from attestation.errors import (
    AttestationError,
    EventLogMismatch,
    InvalidCollateral,
    InvalidQuotingEnclave,
    InvalidReportSignature,
    MalformedCollateral,
    Revoked,
    UnacceptedTcb,
)
from attestation.parsing.certificate import Certificate, certificates_from_pem
from attestation.parsing.event_log import Event, parse_event_log
from attestation.parsing.tdx import Quote, TdReport
from attestation.verification.tdx import (
    TcbVerdict,
    assess_tcb,
    verify_event_log,
    verify_quote,
    verify_quoting_enclave,
)
from tests.attestation.authority.eventlog import event_log, runtime_log
from tests.attestation.authority.intel import (
    AUTH_DATA,
    FIELDS,
    NOW,
    P256_ORDER,
    PLATFORM,
    SIGNATURE_FIELDS,
    TD10,
    IntelAuthority,
    Issued,
    crl,
    issue,
    new_key,
    pem_chain,
    qe_report,
    quote_body,
    raw_public_key,
    raw_signature,
    tcb_level,
)
from tests.attestation.authority.nvidia import rsa_key
from tests.attestation.parsing.handmade import CertificateParts, spki
from tests.attestation.parsing.samples import intel_authority
from tests.attestation.test_vectors import read_collateral
from tests.attestation.vectors import entries

AUTHORITY = intel_authority()
FORMS = list(FIELDS)
QUOTES = {form: AUTHORITY.quote(*form) for form in FORMS}
DATA = QUOTES[4, TD10]
QUOTE = Quote.parse(DATA)
PCK, ROOT = Certificate.parse(AUTHORITY.pck.der), Certificate.parse(AUTHORITY.root)
DAY = timedelta(days=1)
forms = st.sampled_from(FORMS)


def patched(data: bytes, where: slice, value: bytes) -> bytes:
    return data[: where.start] + value + data[where.stop :]


# --- The attestation key, and who vouches for it --------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_the_key_in_the_quote_signed_it_and_the_quoting_enclave_vouches_for_that_key(form: tuple[int, int]) -> None:
    quote = Quote.parse(QUOTES[form])
    verify_quote(quote)
    verify_quoting_enclave(quote, PCK)


@given(form=forms, data=st.data())
def test_a_change_in_any_signed_field_breaks_the_signature(form: tuple[int, int], data: st.DataObject) -> None:
    fixed = ("version", "attestation_key_type", "tee_type", "body_type", "body_size")
    where = data.draw(st.sampled_from([where for name, where in FIELDS[form].items() if name not in fixed]))
    size = where.stop - where.start
    changed = patched(QUOTES[form], where, data.draw(st.binary(min_size=size, max_size=size)))
    if changed != QUOTES[form]:
        with pytest.raises(InvalidReportSignature):
            verify_quote(Quote.parse(changed))
        signed = changed[: SIGNATURE_FIELDS[form]["signature_data_length"].start]
        verify_quote(Quote.parse(AUTHORITY.quote(signed=signed)))


SCALARS = [(0, 0), (0, 1), (1, 0), (P256_ORDER, 1), (1, P256_ORDER), (2**256 - 1, 2**256 - 1)]


@pytest.mark.parametrize(("r", "s"), SCALARS)
def test_refuses_numbers_that_are_no_signature(r: int, s: int) -> None:
    with pytest.raises(InvalidReportSignature):
        verify_quote(Quote.parse(AUTHORITY.quote(signature=raw_signature(r, s))))
    with pytest.raises(InvalidQuotingEnclave):
        verify_quoting_enclave(Quote.parse(AUTHORITY.quote(qe_signature=raw_signature(r, s))), PCK)


@pytest.mark.parametrize("point", [bytes(64), b"\xff" * 64, bytes(63) + b"\1"])
def test_refuses_a_key_that_is_no_point_of_the_curve(point: bytes) -> None:
    quote = Quote.parse(AUTHORITY.quote(public_key=point))
    with pytest.raises(InvalidReportSignature):
        verify_quote(quote)
    verify_quoting_enclave(quote, PCK)  # what is vouched for is asked there, and not whether it is of any use


def test_refuses_another_key_than_the_one_that_signed() -> None:
    with pytest.raises(InvalidReportSignature):
        verify_quote(Quote.parse(AUTHORITY.quote(public_key=raw_public_key(new_key()))))


OWN = raw_public_key(AUTHORITY.attestation_key)
ENCLAVES: dict[str, bytes] = {
    "another key": AUTHORITY.quote(qe_body=qe_report(raw_public_key(new_key()))),
    "other authentication data": AUTHORITY.quote(qe_body=qe_report(OWN, AUTH_DATA[::-1])),
    "no authentication data": AUTHORITY.quote(qe_body=qe_report(OWN, b"")),
    "more than a digest": AUTHORITY.quote(qe_body=qe_report(OWN)[:-1] + b"\1"),
    "nothing": AUTHORITY.quote(qe_body=qe_report(OWN, report_data=bytes(64))),
}


@pytest.mark.parametrize("data", ENCLAVES.values(), ids=ENCLAVES)
def test_refuses_a_quoting_enclave_that_commits_to_something_else(data: bytes) -> None:
    with pytest.raises(InvalidQuotingEnclave):
        verify_quoting_enclave(Quote.parse(data), PCK)


def test_refuses_a_quoting_enclave_that_the_platform_does_not_vouch_for() -> None:
    stranger = issue("Intel SGX PCK Certificate", AUTHORITY.platform_ca)
    edited = patched(DATA, SIGNATURE_FIELDS[4, TD10]["qe_isv_svn"], b"\xff\xff")
    for data, pck in ((DATA, stranger), (AUTHORITY.quote(pck=stranger), AUTHORITY.pck), (edited, AUTHORITY.pck)):
        with pytest.raises(InvalidQuotingEnclave):
            verify_quoting_enclave(Quote.parse(data), Certificate.parse(pck.der))


def test_refuses_a_platform_whose_key_is_of_another_kind() -> None:
    rsa = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for public_key in (spki(), rsa):  # the first is of P-384
        pck = Certificate.parse(CertificateParts(public_key=public_key).encode())
        with pytest.raises(InvalidQuotingEnclave):
            verify_quoting_enclave(QUOTE, pck)


# --- The event log --------------------------------------------------------------------------------------------------------

LOG, APP = event_log(), runtime_log()


def report(*rtmrs: bytes) -> TdReport:
    told = dict(zip(("rtmr0", "rtmr1", "rtmr2", "rtmr3"), rtmrs, strict=True))
    version, body_type = 4, TD10
    return TdReport.parse(Quote.parse(AUTHORITY.quote(signed=quote_body(version, body_type, **told))).body)


BOOTED = report(*LOG.rtmrs[:3], APP.rtmr3)


def test_the_log_leads_to_the_registers_that_it_speaks_of() -> None:
    verify_event_log(BOOTED, parse_event_log(LOG.data))
    verify_event_log(BOOTED, parse_event_log(APP.text.encode()))
    verify_event_log(BOOTED, (*parse_event_log(LOG.data), *parse_event_log(APP.text.encode())))
    verify_event_log(BOOTED, ())


@given(data=st.data())
def test_an_event_that_is_changed_left_out_or_added_is_found(data: st.DataObject) -> None:
    events = list(parse_event_log(LOG.data))
    index = data.draw(st.integers(0, len(events) - 1))
    other = Event(data.draw(st.integers(0, 3)), data.draw(st.binary(min_size=48, max_size=48)))
    # A register of which the log says nothing at all is not explained by it, and not refuted.
    alone = sum(event.register == events[index].register for event in events) == 1
    changes: list[Sequence[Event]] = [
        [*events[:index], replace(events[index], digest=other.digest), *events[index + 1 :]],
        [*events[:index], other, *events[index:]],
        *([] if alone else [[*events[:index], *events[index + 1 :]]]),
    ]
    for changed in changes:
        with pytest.raises(EventLogMismatch):
            verify_event_log(BOOTED, changed)


def test_the_recorded_log_of_google_cloud_is_that_of_its_quote() -> None:
    entry = entries()["tdx-v4-gcp-event-log"]
    recorded, events = TdReport.parse(Quote.parse(entry.read("quote")).body), parse_event_log(entry.read("event_log"))
    verify_event_log(recorded, events)
    with pytest.raises(EventLogMismatch):
        verify_event_log(recorded, events[1:])


# --- What Intel says of the firmware --------------------------------------------------------------------------------------


def collateral(**changes: object) -> IntelCollateral:
    return read_collateral(AUTHORITY.collateral(**changes))  # type: ignore[arg-type]


COLLATERAL = collateral()


def assess(
    told: IntelCollateral = COLLATERAL, data: bytes = DATA, root: Certificate = ROOT, now: datetime = NOW
) -> TcbVerdict:
    return assess_tcb(Quote.parse(data), told, root, now=now)


@pytest.mark.parametrize("form", FORMS)
def test_tells_what_intel_says_of_the_platform(form: tuple[int, int]) -> None:
    expected = TcbVerdict(
        statuses=("UpToDate",) * 3, advisories=(), platform=PLATFORM.platform_instance_id, fmspc=PLATFORM.fmspc.hex()
    )
    assert assess(data=QUOTES[form]) == expected


@pytest.mark.parametrize(
    "status",
    [
        "OutOfDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDateConfigurationNeeded",
    ],
)
def test_tells_the_status_of_the_platform_and_its_advisories(status: str) -> None:
    verdict = assess(collateral(status=status, advisories=("INTEL-SA-00837", "INTEL-SA-01045")))
    assert verdict.statuses == (status, status, "UpToDate")
    assert verdict.advisories == ("INTEL-SA-00837", "INTEL-SA-01045")


def test_tells_the_status_of_the_module_and_of_the_quoting_enclave_as_well() -> None:
    assert assess(collateral(module_status="OutOfDate")).statuses[0] == "OutOfDate"
    assert assess(collateral(qe_status="OutOfDate")).statuses == ("OutOfDate", "UpToDate", "OutOfDate")


def test_tells_what_is_out_of_date_in_a_platform_that_lags_behind() -> None:
    old = IntelAuthority(replace(PLATFORM, pce_svn=5))
    verdict = assess_tcb(
        Quote.parse(old.quote()), read_collateral(old.collateral()), Certificate.parse(old.root), now=NOW
    )
    assert verdict.statuses[:2] == ("OutOfDate", "OutOfDate")
    assert verdict.advisories == ("INTEL-SA-00837",)


BELOW: dict[str, Mapping[str, object]] = {
    "no level": {"levels": []},
    "a level of the platform above it": {"levels": [tcb_level(pce_svn=12)]},
    "a level of the module above it": {"levels": [tcb_level(tdx_svns=[9] * 16)]},
    "no module of its version": {"tcb_info": {"tdxModuleIdentities": []}},
    "a level of the quoting enclave above it": {
        "qe_identity": {
            "tcbLevels": [{"tcb": {"isvsvn": 9}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate"}]
        }
    },
}


@pytest.mark.parametrize("changes", BELOW.values(), ids=BELOW)
def test_refuses_a_platform_that_is_below_every_level(changes: Mapping[str, object]) -> None:
    with pytest.raises(UnacceptedTcb):
        assess(collateral(**changes))


WITHDRAWN: dict[str, Mapping[str, object]] = {
    "the platform": {"revoked_by_platform_ca": [AUTHORITY.pck.serial]},
    "the issuer of platforms": {"revoked_by_root": [AUTHORITY.platform_ca.serial]},
    "the signer of the collateral": {"revoked_by_root": [AUTHORITY.tcb_signing.serial]},
    "the platform's level": {"status": "Revoked"},
    "the module's level": {"module_status": "Revoked"},
    "the quoting enclave's level": {"qe_status": "Revoked"},
}


@pytest.mark.parametrize("changes", WITHDRAWN.values(), ids=WITHDRAWN)
def test_refuses_what_intel_has_withdrawn_and_says_so(changes: Mapping[str, object]) -> None:
    with pytest.raises(Revoked):
        assess(collateral(**changes))


def test_a_number_counts_only_on_the_list_of_its_issuer() -> None:
    assess(collateral(revoked_by_root=[AUTHORITY.pck.serial], revoked_by_platform_ca=[AUTHORITY.platform_ca.serial]))


STRANGER = IntelAuthority()
PAST, FUTURE = (NOW - 9 * DAY, NOW - DAY), (NOW + DAY, NOW + 9 * DAY)
STRANGERS_CA = issue("Intel SGX PCK Platform CA", STRANGER.root_ca, path_length=0)
MADE_UP_CA = issue("A root of somebody", path_length=1)
MADE_UP = issue("Intel SGX TCB Signing", MADE_UP_CA)
OTHERS: dict[str, IntelCollateral] = {
    "of a made-up authority that withdraws its own signer": replace(
        collateral(tcb_signing=MADE_UP),
        tcb_info_issuer_chain=pem_chain(MADE_UP, MADE_UP_CA),
        root_ca_crl=crl(MADE_UP_CA, valid=(NOW - DAY, NOW + DAY), revoked=[MADE_UP.serial]),
    ),
    "of another authority": read_collateral(STRANGER.collateral()),
    "signed by another signer": collateral(tcb_signing=issue("Intel SGX TCB Signing", STRANGER.root_ca)),
    "signed by a platform": collateral(tcb_signing=AUTHORITY.pck),
    "of another family of platforms": collateral(fmspc=bytes(6)),
    "with a part edited": replace(COLLATERAL, tcb_info=COLLATERAL.tcb_info.replace("UpToDate", "OutOfDate")),
    "with a part reformatted": replace(COLLATERAL, qe_identity=COLLATERAL.qe_identity + " "),
    "with another signature": replace(COLLATERAL, tcb_info_signature=COLLATERAL.qe_identity_signature),
    "without a signature": replace(COLLATERAL, qe_identity_signature=b""),
    "with a list that a stranger signed": replace(
        COLLATERAL, root_ca_crl=crl(STRANGER.root_ca, valid=(NOW - DAY, NOW + DAY))
    ),
    "with a platform list that a stranger signed": replace(
        COLLATERAL, pck_crl=crl(STRANGERS_CA, valid=(NOW - DAY, NOW + DAY), revoked=[AUTHORITY.pck.serial])
    ),
    "with lists exchanged": replace(COLLATERAL, root_ca_crl=COLLATERAL.pck_crl, pck_crl=COLLATERAL.root_ca_crl),
    "of yesterday": collateral(tcb_info_window=PAST),
    "of tomorrow": collateral(qe_identity_window=FUTURE),
    "with a list of yesterday": collateral(pck_crl_window=PAST),
    "of SGX": collateral(tcb_info={"id": "SGX"}),
    "that calls itself a refusal": collateral(qe_identity={"id": "Revoked: No matching TCB level found"}),
    "without a level of the quoting enclave": collateral(qe_identity={"tcbLevels": []}),
    "that is no text": replace(COLLATERAL, tcb_info="\ud800"),
    "that is no JSON": replace(COLLATERAL, tcb_info="{"),
}


@pytest.mark.parametrize("told", OTHERS.values(), ids=OTHERS)
def test_refuses_collateral_that_is_not_intels_for_this_platform_and_time(told: IntelCollateral) -> None:
    with pytest.raises(InvalidCollateral):
        assess(told)


def said_by(*signers: Issued) -> IntelCollateral:
    """Collateral that the first of them signed, with the chain up from it."""
    chain = pem_chain(*signers, AUTHORITY.root_ca)
    return replace(collateral(tcb_signing=signers[0]), tcb_info_issuer_chain=chain, qe_identity_issuer_chain=chain)


ROOT_CA, NAME = AUTHORITY.root_ca, "Intel SGX TCB Signing"
SIGNERS: dict[str, Sequence[Issued]] = {
    "a platform": [AUTHORITY.pck, AUTHORITY.platform_ca],
    "one of that name, whom the issuer of platforms certified": [
        issue(NAME, AUTHORITY.platform_ca),
        AUTHORITY.platform_ca,
    ],
    "an authority of that name": [issue(NAME, ROOT_CA, path_length=0)],
    "one of another name": [issue("Intel SGX PCK Certificate", ROOT_CA)],
    "one of that name with the marks of a platform": [issue(NAME, ROOT_CA, sgx_extension=PLATFORM.sgx_extension())],
    "the root itself": [],
}


@pytest.mark.parametrize("signers", SIGNERS.values(), ids=SIGNERS)
def test_refuses_the_word_of_a_key_that_intel_did_not_appoint_for_it(signers: Sequence[Issued]) -> None:
    told = said_by(*signers) if signers else replace(COLLATERAL, tcb_info_issuer_chain=pem_chain(ROOT_CA))
    with pytest.raises(InvalidCollateral, match="did not appoint"):
        assess(told)
    assert assess(said_by(issue(NAME, ROOT_CA))) == assess()


def test_refuses_collateral_of_another_provisioning_enclave() -> None:
    with pytest.raises(InvalidCollateral, match="provisioning enclave"):
        assess(collateral(tcb_info={"pceId": "0001"}))
    other = IntelAuthority(replace(PLATFORM, pce_id=b"\xab\xcd"))
    for name in ("ABCD", "abcd"):
        told = read_collateral(other.collateral(tcb_info={"pceId": name}))
        assert (
            assess_tcb(Quote.parse(other.quote()), told, Certificate.parse(other.root), now=NOW).fmspc
            == PLATFORM.fmspc.hex()
        )


@pytest.mark.parametrize("name", ["tcb_info_issuer_chain", "qe_identity_issuer_chain", "root_ca_crl", "pck_crl"])
def test_refuses_collateral_that_cannot_be_read(name: str) -> None:
    broken: dict[str, object] = {name: b"\x30\x00" if name.endswith("crl") else "\ud800"}
    with pytest.raises(MalformedCollateral):
        assess(replace(COLLATERAL, **broken))  # type: ignore[arg-type]


def test_refuses_a_quote_under_another_root() -> None:
    with pytest.raises(InvalidCollateral):
        assess(root=Certificate.parse(STRANGER.root))


def test_a_chain_may_come_without_its_root_and_in_any_order() -> None:
    short = replace(COLLATERAL, tcb_info_issuer_chain=pem_chain(AUTHORITY.tcb_signing, AUTHORITY.root_ca))
    assert assess(short) == assess()
    with pytest.raises(Revoked):
        assess(
            replace(
                collateral(revoked_by_root=[AUTHORITY.tcb_signing.serial]),
                tcb_info_issuer_chain=pem_chain(AUTHORITY.tcb_signing),
            )
        )


def test_a_quote_that_was_edited_has_no_verdict() -> None:
    edited = patched(DATA, FIELDS[4, TD10]["report_data"], bytes(64))
    with pytest.raises(InvalidCollateral):
        assess(data=edited)


def test_every_time_has_a_verdict_or_a_refusal() -> None:
    for now in (datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)):
        with pytest.raises(InvalidCollateral):
            assess(now=now)


TEXTS = ["pck_crl_issuer_chain", "tcb_info_issuer_chain", "tcb_info", "qe_identity_issuer_chain", "qe_identity"]
PARTS = ["root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"]


@given(data=st.data())
def test_a_changed_byte_of_the_collateral_is_refused_or_changes_nothing(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(TEXTS + PARTS))
    value = getattr(COLLATERAL, name)
    octets = value.encode() if isinstance(value, str) else value
    at, byte = data.draw(st.integers(0, len(octets) - 1)), data.draw(st.integers(0, 127))
    changed = octets[:at] + bytes([byte]) + octets[at + 1 :]
    told: dict[str, object] = {name: changed.decode() if isinstance(value, str) else changed}
    try:
        verdict = assess(replace(COLLATERAL, **told))  # type: ignore[arg-type]
    except AttestationError:
        return
    assert verdict == assess()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)
MEMBERS = {"tcb_info": list(json.loads(COLLATERAL.tcb_info)), "qe_identity": list(json.loads(COLLATERAL.qe_identity))}


@given(part=st.sampled_from(list(MEMBERS)), data=st.data())
def test_any_value_of_a_signed_member_is_refused_or_judged(part: str, data: st.DataObject) -> None:
    member = data.draw(st.sampled_from(MEMBERS[part]))
    try:
        verdict = assess(collateral(**{part: {member: data.draw(json_values)}}))
    except AttestationError:
        return
    assert verdict.fmspc == PLATFORM.fmspc.hex()


@pytest.mark.parametrize(
    ("name", "statuses", "advisories"),
    [
        ("tdx-v4-up-to-date", {"UpToDate"}, ()),
        (
            "sgx-v3-hardening-needed",
            {"ConfigurationAndSWHardeningNeeded", "UpToDate"},
            ("INTEL-SA-00289", "INTEL-SA-00615"),
        ),
    ],
)
def test_recorded_platforms_get_intels_verdict(name: str, statuses: set[str], advisories: tuple[str, ...]) -> None:
    entry = entries()[name]
    quote, told = Quote.parse(entry.read("quote")), read_collateral(json.loads(entry.read("collateral")))
    chain = [Certificate.parse(der) for der in certificates_from_pem(quote.chain_pem)]
    verify_quoting_enclave(quote, chain[0])
    verify_quote(quote)
    verdict = assess_tcb(quote, told, chain[-1], now=entry.time)
    assert (set(verdict.statuses), verdict.advisories) == (statuses, advisories)


def test_the_recorded_platform_below_every_level_is_refused_as_such() -> None:
    entry = entries()["tdx-v4-spr-no-tcb-level"]
    quote = Quote.parse(entry.read("quote"))
    root = Certificate.parse(certificates_from_pem(quote.chain_pem)[-1])
    with pytest.raises(UnacceptedTcb):
        assess_tcb(quote, read_collateral(json.loads(entry.read("collateral_joined"))), root, now=entry.time)
