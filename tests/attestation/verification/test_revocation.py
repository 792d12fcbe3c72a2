"""Withdrawn keys are refused on the right issuer's word, and nobody else's; the newest word counts, in its own time."""

import contextlib
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512, HashAlgorithm
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import InvalidCollateral, MalformedCollateral, Revoked
from attestation.limits import MAX_OCSP, MAX_OCSPS
from attestation.parsing.certificate import Certificate
from attestation.parsing.revocation import NEVER
from attestation.verification.revocation import OcspAnswers, Window, verify_not_listed
from tests.attestation.authority.amd import PRODUCTS, AmdAuthority
from tests.attestation.authority.nvidia import NOW, der, nvidia_authority
from tests.attestation.parsing.handmade import (
    BASIC_CONSTRAINTS,
    CA,
    ECDSA_SHA256,
    ECDSA_SHA384,
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    LATER,
    NAME,
    OCSP_SIGNING,
    OTHER_NAME,
    REVOKED,
    UNKNOWN,
    AnswerParts,
    CertificateParts,
    ListParts,
    SingleParts,
    entry,
    extension,
    generalized,
    integer,
    key,
    sequence,
    spki,
    subject,
    utc,
)
from tests.attestation.parsing.handmade import NOW as SINCE

DAY, HOUR = timedelta(days=1), timedelta(hours=1)

# --- Revocation lists -----------------------------------------------------------------------------------------------------

GENOA, STRANGER = AmdAuthority("Genoa"), AmdAuthority("Genoa", owner="stranger")
ARK, ASK, ASVK, VCEK = (Certificate.parse(each) for each in (GENOA.root, GENOA.ask, GENOA.asvk, GENOA.vcek()[0]))
CHAIN = (VCEK, ASK, ARK)


def test_gives_the_window_of_a_list_that_names_none_of_them() -> None:
    listed = GENOA.crl([1, 2, 3], NOW - DAY, NOW + DAY)
    assert verify_not_listed(listed, issuer=ARK, certificates=CHAIN) == Window(NOW - DAY, NOW + DAY)
    assert verify_not_listed(GENOA.crl(next_update=None), issuer=ARK, certificates=CHAIN).until == NEVER


@pytest.mark.parametrize("withdrawn", [ASK, ARK])
def test_refuses_a_certificate_that_is_listed(withdrawn: Certificate) -> None:
    with pytest.raises(Revoked):
        verify_not_listed(GENOA.crl([7, withdrawn.serial]), issuer=ARK, certificates=CHAIN)


def test_a_number_counts_only_among_the_certificates_of_its_issuer() -> None:
    assert VCEK.serial == 0
    verify_not_listed(GENOA.crl([0, ASVK.serial]), issuer=ARK, certificates=CHAIN)


def test_the_newest_list_does_not_take_back_an_older_one() -> None:
    """Each list is asked by itself: who has several has to ask each."""
    with pytest.raises(Revoked):
        verify_not_listed(GENOA.crl([ASK.serial], NOW - 9 * DAY, NOW - DAY), issuer=ARK, certificates=CHAIN)
    verify_not_listed(GENOA.crl([], NOW - DAY, NOW + DAY), issuer=ARK, certificates=CHAIN)


@pytest.mark.parametrize("product", PRODUCTS)
def test_each_product_has_a_list_of_its_own(product: str) -> None:
    authority = AmdAuthority(product)
    verify_not_listed(authority.crl(), issuer=Certificate.parse(authority.root), certificates=())
    if product != "Genoa":
        with pytest.raises(InvalidCollateral):
            verify_not_listed(authority.crl(), issuer=ARK, certificates=())


OTHERS = {
    "a stranger's": STRANGER.crl(),
    "of the right name, signed by a stranger": GENOA.crl(
        issuer=replace(GENOA.issuer("ARK"), key=STRANGER.issuer("ARK").key)
    ),
    "of another name, signed by the issuer": GENOA.crl(issuer=replace(GENOA.issuer("ARK"), common_name="ARK-Turin")),
    "an intermediate's": GENOA.crl(issuer=GENOA.issuer("ASK")),
    "of another key and algorithm": ListParts(issuer=ARK.subject).encode(),
}


@pytest.mark.parametrize("listed", OTHERS.values(), ids=OTHERS)
def test_refuses_a_list_that_is_not_the_issuers(listed: bytes) -> None:
    with pytest.raises(InvalidCollateral):
        verify_not_listed(listed, issuer=ARK, certificates=CHAIN)


PARTIAL = {"crl_number": b"\x02\x01\x01", "2.5.29.27": b"\x02\x01\x00"}


def test_refuses_a_list_of_changes_although_the_issuer_signed_it() -> None:
    with pytest.raises(MalformedCollateral):
        verify_not_listed(GENOA.crl(extensions=PARTIAL), issuer=ARK, certificates=CHAIN)


LISTED = GENOA.crl([1, 2, 3])


@given(at=st.integers(0, len(LISTED) - 1), byte=st.integers(0, 255))
def test_a_changed_list_is_refused(at: int, byte: int) -> None:
    changed = LISTED[:at] + bytes([byte]) + LISTED[at + 1 :]
    if changed != LISTED:
        with pytest.raises((InvalidCollateral, MalformedCollateral)):
            verify_not_listed(changed, issuer=ARK, certificates=CHAIN)


# --- OCSP answers of the vendor -------------------------------------------------------------------------------------------

NVIDIA = nvidia_authority()
DEVICE = NVIDIA.device()
CERTIFICATE, ISSUER = (Certificate.parse(each) for each in DEVICE.chain[1:3])
Status = Literal["good", "revoked", "unknown"]
Responder = Literal["delegated", "issuer", "stranger", "no_ocsp_signing"]


def answer(status: Status = "good", *, since: datetime = NOW - HOUR, responder: Responder = "delegated") -> bytes:
    return NVIDIA.ocsp(CERTIFICATE.der, ISSUER.der, status, this_update=since, responder=responder)


def answer_by(hashed: HashAlgorithm, status: Status = "good", *, since: datetime = NOW - HOUR) -> bytes:
    """An answer that names its certificate by digests of this kind."""
    return NVIDIA.ocsp(CERTIFICATE.der, ISSUER.der, status, this_update=since, certificate_id_hash=hashed)


def ask(*answers: bytes) -> Window | None:
    return OcspAnswers.parse(answers).verify_good(CERTIFICATE, ISSUER)


@pytest.mark.parametrize("responder", ["delegated", "issuer"])
def test_good_is_good_from_the_issuer_and_from_its_responder(responder: Responder) -> None:
    assert ask(answer(responder=responder)) == Window(NOW - HOUR, NOW + 23 * HOUR)


USUAL = [SHA1(), SHA256(), SHA384()]  # noqa: S303 -- the digest names a certificate, and proves nothing


@pytest.mark.parametrize("hashed", USUAL, ids=lambda hashed: hashed.name)
def test_a_certificate_may_be_named_by_digests_of_any_usual_kind(hashed: HashAlgorithm) -> None:
    assert ask(answer_by(hashed)) == Window(NOW - HOUR, NOW + 23 * HOUR)
    with pytest.raises(Revoked):
        ask(answer_by(hashed, "revoked"))


@pytest.mark.parametrize("responder", ["stranger", "no_ocsp_signing"])
@pytest.mark.parametrize("status", ["good", "revoked", "unknown"])
def test_refuses_the_word_of_anybody_else(responder: Responder, status: Status) -> None:
    with pytest.raises(InvalidCollateral):
        ask(answer(status, responder=responder))


@pytest.mark.parametrize("status", ["revoked", "unknown"])
def test_refuses_what_is_not_called_good(status: Status) -> None:
    with pytest.raises(Revoked):
        ask(answer(status))


def test_says_nothing_without_an_answer_about_this_certificate() -> None:
    assert ask() is None
    assert ask(NVIDIA.ocsp(ISSUER.der, DEVICE.chain[3])) is None
    assert ask(answer_by(SHA512())) is None  # a digest that is not known here
    assert ask(sequence(bytes.fromhex("0a0103"))) is None  # "try later"


def test_an_answer_about_another_issuers_certificate_of_that_number_says_nothing() -> None:
    assert OcspAnswers.parse([answer("revoked")]).verify_good(CERTIFICATE, Certificate.parse(DEVICE.chain[3])) is None


@given(st.permutations([("good", 3), ("revoked", 2), ("good", 1)]))
def test_a_newer_good_counts_more_than_an_older_revoked_in_any_order(told: list[tuple[Status, int]]) -> None:
    assert ask(*(ANSWERS[each] for each in told)) == Window(NOW - HOUR, NOW + 23 * HOUR)


@given(st.permutations([("good", 3), ("revoked", 1), ("good", 2), ("unknown", 2)]))
def test_an_older_good_cannot_hide_a_newer_revoked_in_any_order(told: list[tuple[Status, int]]) -> None:
    with pytest.raises(Revoked):
        ask(*(ANSWERS[each] for each in told))


@given(st.permutations([("good", 1), ("revoked", 1)]))
def test_of_two_answers_of_the_same_time_the_worse_counts(told: list[tuple[Status, int]]) -> None:
    with pytest.raises(Revoked):
        ask(*(ANSWERS[each] for each in told))


STATUSES: Sequence[Status] = ("good", "revoked", "unknown")
ANSWERS = {(status, age): answer(status, since=NOW - age * HOUR) for status in STATUSES for age in (1, 2, 3)}


def test_answers_that_name_the_certificate_by_different_digests_are_compared() -> None:
    older = answer_by(SHA256(), since=NOW - 2 * HOUR)
    with pytest.raises(Revoked):
        ask(older, answer("revoked"))


def test_a_newer_answer_that_nobody_signed_is_refused_and_an_older_one_is_not_needed() -> None:
    forged = answer(since=NOW - HOUR, responder="stranger")
    with pytest.raises(InvalidCollateral):
        ask(answer(since=NOW - 2 * HOUR), forged)
    assert ask(answer(since=NOW), forged) is not None


DELEGATED = answer()


@given(at=st.integers(0, len(DELEGATED) - 1), byte=st.integers(0, 255))
def test_a_changed_answer_is_refused_or_is_about_something_else(at: int, byte: int) -> None:
    changed = DELEGATED[:at] + bytes([byte]) + DELEGATED[at + 1 :]
    if changed == DELEGATED:
        return
    with contextlib.suppress(InvalidCollateral, MalformedCollateral, Revoked):
        assert ask(changed) is None


# --- Hostile responders, by hand ------------------------------------------------------------------------------------------

AUTHORITY = Certificate.parse(
    CertificateParts(serial=integer(7), extensions=[extension(BASIC_CONSTRAINTS, CA)]).encode()
)
RESPONDER_KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
RESPONDER = CertificateParts(
    serial=integer(8),
    public_key=spki(RESPONDER_KEY.public_key()),
    subject=OTHER_NAME,
    validity=sequence(utc(SINCE - DAY), utc(SINCE + DAY)),
    extensions=[extension(EXTENDED_KEY_USAGE, OCSP_SIGNING)],
)


def digest(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


ABOUT = SingleParts(subject=subject(digest(NAME), digest(AUTHORITY.public_key_bits), 7))
TOLD = AnswerParts(singles=[ABOUT], certificates=[RESPONDER.encode()])


def ask_about(*answers: bytes) -> Window | None:
    """Of the hand-made authority's own certificate, which has the number 7."""
    return OcspAnswers.parse(answers).verify_good(AUTHORITY, AUTHORITY)


def test_a_responder_answers_in_its_own_time_and_no_longer() -> None:
    assert ask_about(TOLD.encode(RESPONDER_KEY)) == Window(SINCE, SINCE + DAY)
    short = replace(TOLD, singles=[replace(ABOUT, next_update=der(0xA0, generalized(SINCE + HOUR)))])
    assert ask_about(short.encode(RESPONDER_KEY)) == Window(SINCE, SINCE + HOUR)
    endless = replace(TOLD, singles=[replace(ABOUT, next_update=b"")])
    assert ask_about(endless.encode(RESPONDER_KEY)) == Window(SINCE, SINCE + DAY)
    assert ask_about(endless.encode()) == Window(SINCE, LATER)  # the authority itself, up to its own end


@pytest.mark.parametrize("produced_at", [SINCE - DAY, SINCE, SINCE + DAY])
def test_an_answer_may_be_made_from_the_first_to_the_last_second_of_the_responder(produced_at: datetime) -> None:
    assert ask_about(replace(TOLD, produced_at=generalized(produced_at)).encode(RESPONDER_KEY)) is not None


@pytest.mark.parametrize("produced_at", [SINCE - DAY - timedelta(seconds=1), SINCE + DAY + timedelta(seconds=1)])
def test_an_answer_made_out_of_the_responders_time_is_refused(produced_at: datetime) -> None:
    with pytest.raises(InvalidCollateral):
        ask_about(replace(TOLD, produced_at=generalized(produced_at)).encode(RESPONDER_KEY))


ANY_PURPOSE = bytes.fromhex("30060604551d2500")
TWO_PURPOSES = sequence(OCSP_SIGNING[2:], bytes.fromhex("06082b06010505070301"))
CRITICAL = extension("1.2.3", b"", critical=True)
APPOINTED = RESPONDER.extensions[0]
RESPONDERS: dict[str, bytes] = {
    "nobody": b"",
    "one without a purpose": replace(RESPONDER, extensions=[]).encode(),
    "one for any purpose": replace(RESPONDER, extensions=[extension(EXTENDED_KEY_USAGE, ANY_PURPOSE)]).encode(),
    "one for another purpose too": replace(
        RESPONDER, extensions=[extension(EXTENDED_KEY_USAGE, TWO_PURPOSES)]
    ).encode(),
    "one of another issuer's name": replace(RESPONDER, issuer=OTHER_NAME).encode(),
    "one of another issuer's key": RESPONDER.encode(OTHER_KEY),
    "one that signed itself": RESPONDER.encode(RESPONDER_KEY),
    "one with an unknown critical extension": replace(RESPONDER, extensions=[APPOINTED, CRITICAL]).encode(),
    "one of another key": replace(RESPONDER, public_key=spki(OTHER_KEY.public_key())).encode(),
}


@pytest.mark.parametrize("responder", RESPONDERS.values(), ids=RESPONDERS)
def test_refuses_a_responder_that_the_issuer_did_not_appoint_for_this_alone(responder: bytes) -> None:
    with pytest.raises(InvalidCollateral):
        ask_about(replace(TOLD, certificates=[responder] if responder else []).encode(RESPONDER_KEY))


def test_accepts_the_extensions_that_a_responder_may_have() -> None:
    extensions = [
        extension(EXTENDED_KEY_USAGE, OCSP_SIGNING, critical=True),
        extension(KEY_USAGE, bytes.fromhex("03020780"), critical=True),
        extension(BASIC_CONSTRAINTS, sequence(), critical=True),
        extension("1.3.6.1.5.5.7.48.1.5", b"\x05\x00", critical=True),
    ]
    responder = replace(RESPONDER, extensions=extensions).encode()
    assert ask_about(replace(TOLD, certificates=[responder]).encode(RESPONDER_KEY)) is not None


def test_finds_the_responder_among_others() -> None:
    strangers = [RESPONDERS["one of another issuer's key"], RESPONDERS["one of another key"], AUTHORITY.der]
    assert ask_about(replace(TOLD, certificates=[*strangers, RESPONDER.encode()]).encode(RESPONDER_KEY)) is not None


@pytest.mark.parametrize("certificate", [integer(1), replace(RESPONDER, version=b"").encode(), sequence()])
def test_refuses_a_responder_that_cannot_be_read(certificate: bytes) -> None:
    with pytest.raises(MalformedCollateral):
        ask_about(replace(TOLD, certificates=[certificate]).encode(RESPONDER_KEY))


def test_refuses_another_algorithm_than_the_one_that_was_used() -> None:
    assert ask_about(replace(TOLD, algorithm=ECDSA_SHA256).encode(RESPONDER_KEY)) is not None
    mixed = TOLD.encode(RESPONDER_KEY)
    assert mixed.count(ECDSA_SHA384) == 3  # the answer's, and the responder's twice
    with pytest.raises(InvalidCollateral):
        ask_about(mixed.replace(ECDSA_SHA384, ECDSA_SHA256, 1))


def test_one_answer_may_speak_of_many_certificates_and_twice_of_one() -> None:
    other = replace(ABOUT, subject=subject(digest(NAME), digest(AUTHORITY.public_key_bits), 9), status=REVOKED)
    assert ask_about(replace(TOLD, singles=[other, ABOUT, other]).encode()) is not None
    for status in (REVOKED, UNKNOWN):
        for singles in ([ABOUT, replace(ABOUT, status=status)], [replace(ABOUT, status=status), ABOUT]):
            with pytest.raises(Revoked):
                ask_about(replace(TOLD, singles=singles).encode())


@pytest.mark.parametrize(
    ("name", "public_key", "serial"), [(b"", None, 7), (None, b"", 7), (None, None, 8), (None, None, -7)]
)
def test_an_answer_that_names_another_certificate_says_nothing(
    name: bytes | None, public_key: bytes | None, serial: int
) -> None:
    issuer = digest(NAME) if name is None else name
    bits = digest(AUTHORITY.public_key_bits) if public_key is None else public_key
    other = replace(ABOUT, subject=subject(issuer, bits, serial), status=REVOKED)
    assert ask_about(replace(TOLD, singles=[other]).encode()) is None


def test_as_many_answers_as_the_limits_allow_are_judged_in_one_look() -> None:
    single = len(ABOUT.encode())
    crowded = replace(
        TOLD, certificates=[], singles=[replace(ABOUT, extensions=[])] * ((MAX_OCSP - 400) // (single + 4))
    )
    data = crowded.encode(OTHER_KEY)
    assert MAX_OCSP - 1024 < len(data) <= MAX_OCSP
    start = time.process_time()
    answers = OcspAnswers.parse([data] * MAX_OCSPS)
    for _ in range(100):
        with pytest.raises(InvalidCollateral):
            answers.verify_good(AUTHORITY, AUTHORITY)
    assert time.process_time() - start < 2


def test_hand_made_lists_and_answers_are_signed_by_one_key() -> None:
    assert AUTHORITY.public_key == key().public_key()
    verify_not_listed(ListParts(entries=sequence(entry(8))).encode(), issuer=AUTHORITY, certificates=[AUTHORITY])
    with pytest.raises(Revoked):
        verify_not_listed(ListParts(entries=sequence(entry(7))).encode(), issuer=AUTHORITY, certificates=[AUTHORITY])
