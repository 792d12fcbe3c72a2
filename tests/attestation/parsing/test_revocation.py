"""Revocation lists and OCSP answers: read as others read them, whole, and never against a critical extension."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal

import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedCollateral
from attestation.limits import MAX_CERTIFICATES, MAX_CRL, MAX_OCSP
from attestation.parsing.revocation import NEVER, OcspAnswer, RevocationList, Statement, Subject
from tests.attestation.authority.nvidia import der, nvidia_authority
from tests.attestation.parsing.handmade import (
    ECDSA_SHA256,
    LATER,
    NAME,
    NOW,
    REVOKED,
    SHA1,
    SHA384,
    UNKNOWN,
    AnswerParts,
    CertificateParts,
    ListParts,
    SingleParts,
    entry,
    extension,
    generalized,
    integer,
    sequence,
    subject,
    utc,
)
from tests.attestation.parsing.samples import revocation_lists

LIST = ListParts()
ANSWER = AnswerParts()
SINGLE = SingleParts()
CRITICAL = extension("1.2.3.4", b"", critical=True)
HARMLESS = extension("1.2.3.4", b"anything")

# --- Revocation lists -----------------------------------------------------------------------------------------------------


def test_every_list_at_hand_is_read_as_cryptography_reads_it() -> None:
    assert len(revocation_lists()) >= 5
    for data in revocation_lists():
        ours, theirs = RevocationList.parse(data), x509.load_der_x509_crl(data)
        assert ours.serials == {each.serial_number for each in theirs}
        assert (ours.since, ours.until) == (theirs.last_update_utc, theirs.next_update_utc or NEVER)
        assert (ours.to_be_signed, ours.signature) == (theirs.tbs_certlist_bytes, theirs.signature)
        assert ours.issuer == theirs.issuer.public_bytes()


@given(sample=st.sampled_from(revocation_lists()), data=st.data())
def test_a_changed_list_is_refused_or_read_as_cryptography_reads_it(sample: bytes, data: st.DataObject) -> None:
    at, byte = data.draw(st.integers(0, len(sample) - 1)), data.draw(st.integers(0, 255))
    changed = sample[:at] + bytes([byte]) + sample[at + 1 :]
    try:
        ours, theirs = RevocationList.parse(changed), x509.load_der_x509_crl(changed)
    except (MalformedCollateral, ValueError):
        return
    assert ours.serials == {each.serial_number for each in theirs}
    assert (ours.since, ours.until) == (theirs.last_update_utc, theirs.next_update_utc or NEVER)
    assert (ours.to_be_signed, ours.signature) == (theirs.tbs_certlist_bytes, theirs.signature)


def test_reads_a_list() -> None:
    parts = replace(LIST, entries=sequence(entry(1), entry(2**160, HARMLESS), entry(1)), extensions=[HARMLESS])
    read = RevocationList.parse(parts.encode())
    assert (read.issuer, read.since, read.until, read.serials) == (NAME, NOW, LATER, frozenset({1, 2**160}))


def test_a_list_may_be_empty_and_without_an_end() -> None:
    for entries in (b"", sequence()):
        read = RevocationList.parse(replace(LIST, next_update=b"", entries=entries, extensions=[]).encode())
        assert (read.serials, read.until) == (frozenset(), NEVER)


def test_reads_the_times_of_a_list_in_both_forms() -> None:
    read = RevocationList.parse(replace(LIST, next_update=generalized("99991231235959Z")).encode())
    assert read.until == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


YEAR_0 = generalized("00000101000000Z")
DISTRIBUTION_POINT = bytes.fromhex("30038101ff")  # only certificates of users
MALFORMED_LISTS: dict[str, ListParts] = {
    "version 1": replace(LIST, version=b""),
    "version 1, spelled out": replace(LIST, version=integer(0)),
    "version 3": replace(LIST, version=integer(2)),
    "another algorithm inside": replace(LIST, algorithm=ECDSA_SHA256),
    "a signature of less than whole bytes": replace(LIST, unused=1),
    "a year that no calendar has": replace(LIST, this_update=YEAR_0),
    "an end that no calendar has": replace(LIST, next_update=YEAR_0),
    "no beginning": replace(LIST, this_update=b"", next_update=b""),
    "entries that are none": replace(LIST, entries=sequence(integer(1))),
    "a critical extension": replace(LIST, extensions=[HARMLESS, CRITICAL]),
    "changes only": replace(LIST, extensions=[extension("2.5.29.27", integer(1), critical=True)]),
    "changes only, not even critical": replace(LIST, extensions=[extension("2.5.29.27", integer(1))]),
    "some certificates only": replace(LIST, extensions=[extension("2.5.29.28", DISTRIBUTION_POINT, critical=True)]),
    "some certificates only, not even critical": replace(LIST, extensions=[extension("2.5.29.28", DISTRIBUTION_POINT)]),
    "another issuer's certificate": replace(
        LIST, entries=sequence(entry(1), entry(2, extension("2.5.29.29", sequence(), critical=True)))
    ),
}


@pytest.mark.parametrize("parts", MALFORMED_LISTS.values(), ids=MALFORMED_LISTS)
def test_refuses_what_is_no_whole_list_of_version_2(parts: ListParts) -> None:
    with pytest.raises(MalformedCollateral):
        RevocationList.parse(parts.encode())


def of_size(size: int, encode: Callable[[int], bytes]) -> bytes:
    """What ``encode`` makes of some number of bytes of filling, so that it has ``size`` bytes itself."""
    guess = size // 2 + size - len(encode(size // 2))
    for filler in (guess, guess - 1, guess + 1):
        for _ in range(64):  # a signature has a byte more or less
            data = encode(filler)
            if len(data) == size:
                return data
    raise AssertionError("nothing of that size")


def test_accepts_a_list_up_to_the_limit_and_none_beyond() -> None:
    def filled(filler: int) -> bytes:
        return replace(LIST, extensions=[extension("1.2.3.4", bytes(filler))]).encode()

    RevocationList.parse(of_size(MAX_CRL, filled))
    with pytest.raises(MalformedCollateral, match="too large"):
        RevocationList.parse(of_size(MAX_CRL + 1, filled))


# --- OCSP answers ---------------------------------------------------------------------------------------------------------

Status = Literal["good", "revoked", "unknown"]
STATUSES: Sequence[Status] = ("good", "revoked", "unknown")


@pytest.mark.parametrize("responder", ["delegated", "issuer"])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("until", [NOW + timedelta(days=1), None])
def test_an_answer_is_read_as_cryptography_reads_it(
    responder: Literal["delegated", "issuer"], status: Status, until: datetime | None
) -> None:
    authority = nvidia_authority()
    certificate, issuer = authority.device().chain[1:3]
    data = authority.ocsp(certificate, issuer, status, next_update=until, responder=responder, nonce=bytes(32))
    ours, theirs = OcspAnswer.parse(data), ocsp.load_der_ocsp_response(data)
    assert ours is not None
    assert (ours.to_be_signed, ours.signature) == (theirs.tbs_response_bytes, theirs.signature)
    assert ours.produced_at == theirs.produced_at_utc
    assert [x509.load_der_x509_certificate(each) for each in ours.certificates] == theirs.certificates
    assert ours.statements == (
        Statement(
            Subject(SHA384, theirs.issuer_name_hash, theirs.issuer_key_hash, theirs.serial_number),
            theirs.certificate_status is ocsp.OCSPCertStatus.GOOD,
            theirs.this_update_utc,
            theirs.next_update_utc or NEVER,
        ),
    )


def certificates_and_issuers() -> list[tuple[bytes, bytes]]:
    return list(pairwise(nvidia_authority().device().chain[1:]))


ANSWERS = [nvidia_authority().ocsp(*pair, status) for pair in certificates_and_issuers() for status in STATUSES]


@given(sample=st.sampled_from(ANSWERS), data=st.data())
def test_a_changed_answer_is_refused_or_read_as_cryptography_reads_it(sample: bytes, data: st.DataObject) -> None:
    at, byte = data.draw(st.integers(0, len(sample) - 1)), data.draw(st.integers(0, 255))
    changed = sample[:at] + bytes([byte]) + sample[at + 1 :]
    try:
        ours, theirs = OcspAnswer.parse(changed), ocsp.load_der_ocsp_response(changed)
    except (MalformedCollateral, ValueError):
        return
    if ours is None:
        assert theirs.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL
        return
    assert [each.subject.serial for each in ours.statements] == [each.serial_number for each in theirs.responses]
    assert (ours.to_be_signed, ours.signature) == (theirs.tbs_response_bytes, theirs.signature)
    assert ours.produced_at == theirs.produced_at_utc


@given(sample=st.sampled_from([*ANSWERS, LIST.encode()]), data=st.binary(max_size=8))
def test_other_bytes_are_refused(sample: bytes, data: bytes) -> None:
    for changed in (data, data + b"\0" + sample, sample + b"\0" + data, sample[: len(sample) - 1 - len(data)]):
        with pytest.raises(MalformedCollateral):
            OcspAnswer.parse(changed)
        with pytest.raises(MalformedCollateral):
            RevocationList.parse(changed)


def test_reads_every_statement_of_an_answer() -> None:
    singles = [
        SINGLE,
        replace(SINGLE, subject=subject(b"n", b"k", 0, SHA1, b""), status=REVOKED, next_update=b""),
        replace(SINGLE, status=UNKNOWN, extensions=[HARMLESS]),
    ]
    read = OcspAnswer.parse(replace(ANSWER, singles=singles, extensions=[HARMLESS]).encode())
    assert read is not None
    assert read.statements == (
        Statement(Subject(SHA384, b"name", b"key", 1), good=True, since=NOW, until=LATER),
        Statement(Subject(SHA1, b"n", b"k", 0), good=False, since=NOW, until=NEVER),
        Statement(Subject(SHA384, b"name", b"key", 1), good=False, since=NOW, until=LATER),
    )


@pytest.mark.parametrize("status", [REVOKED, UNKNOWN, der(0x80, b"\0"), der(0xA0), der(0x83), b"\x05\x00"])
def test_nothing_but_good_is_good(status: bytes) -> None:
    read = OcspAnswer.parse(replace(ANSWER, singles=[replace(SINGLE, status=status)]).encode())
    assert read is not None
    assert [each.good for each in read.statements] == [False]


@pytest.mark.parametrize("status", [1, 2, 3, 5, 6])
def test_a_service_that_refuses_to_answer_gives_no_answer(status: int) -> None:
    data = sequence(bytes([0x0A, 1, status]))
    assert ocsp.load_der_ocsp_response(data).response_status.value == status
    assert OcspAnswer.parse(data) is None


HALF_HOUR_EAST = generalized("20260601000000+0030")
MALFORMED_ANSWERS: dict[str, AnswerParts] = {
    "a refusal with an answer": replace(ANSWER, status=bytes.fromhex("0a0103")),
    "a number that is no status": replace(ANSWER, status=bytes.fromhex("0a0104")),
    "a status of another type": replace(ANSWER, status=integer(0)),
    "another type": replace(ANSWER, type="1.3.6.1.5.5.7.48.1.2"),
    "version 2": replace(ANSWER, version=der(0xA0, integer(1))),
    "the default spelled out": replace(ANSWER, version=der(0xA0, integer(0))),
    "a year that no calendar has": replace(ANSWER, produced_at=YEAR_0),
    "a statement of such a year": replace(ANSWER, singles=[replace(SINGLE, this_update=YEAR_0)]),
    "a statement up to such a year": replace(ANSWER, singles=[replace(SINGLE, next_update=der(0xA0, YEAR_0))]),
    "another form of time": replace(ANSWER, produced_at=utc(NOW)),
    "a time zone": replace(ANSWER, produced_at=HALF_HOUR_EAST),
    "a signature of less than whole bytes": replace(ANSWER, unused=1),
    "a critical extension": replace(ANSWER, extensions=[HARMLESS, CRITICAL]),
    "a critical extension of a statement": replace(ANSWER, singles=[SINGLE, replace(SINGLE, extensions=[CRITICAL])]),
    "parameters of a digest": replace(
        ANSWER, singles=[replace(SINGLE, subject=subject(b"", b"", 1, SHA1, integer(1)))]
    ),
}


@pytest.mark.parametrize("parts", MALFORMED_ANSWERS.values(), ids=MALFORMED_ANSWERS)
def test_refuses_what_is_no_answer_of_version_1(parts: AnswerParts) -> None:
    with pytest.raises(MalformedCollateral):
        OcspAnswer.parse(parts.encode())


@pytest.mark.parametrize("status", [0, 4, 7])
def test_refuses_a_success_or_an_unknown_status_without_an_answer(status: int) -> None:
    with pytest.raises(MalformedCollateral):
        OcspAnswer.parse(sequence(bytes([0x0A, 1, status])))


def test_accepts_an_answer_up_to_the_limits_and_none_beyond() -> None:
    certificate = CertificateParts().encode()
    read = OcspAnswer.parse(replace(ANSWER, certificates=[certificate] * MAX_CERTIFICATES).encode())
    assert read is not None
    assert len(read.certificates) == MAX_CERTIFICATES
    with pytest.raises(MalformedCollateral, match="too many"):
        OcspAnswer.parse(replace(ANSWER, certificates=[certificate] * (MAX_CERTIFICATES + 1)).encode())

    def filled(filler: int) -> bytes:
        return replace(ANSWER, extensions=[extension("1.2.3.4", bytes(filler))]).encode()

    assert OcspAnswer.parse(of_size(MAX_OCSP, filled)) is not None
    with pytest.raises(MalformedCollateral, match="too large"):
        OcspAnswer.parse(of_size(MAX_OCSP + 1, filled))
