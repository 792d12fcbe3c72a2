"""Certificates are read as others read them, and in one encoding only; AMD's number 0 is the one thing that is forgiven."""

import base64
import hashlib
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedCollateral
from attestation.limits import MAX_CERTIFICATE, MAX_CERTIFICATES
from attestation.parsing.certificate import MAX_PEM, Certificate, certificates_from_pem
from tests.attestation.authority.amd import AmdAuthority
from tests.attestation.authority.nvidia import der
from tests.attestation.parsing.handmade import (
    BASIC_CONSTRAINTS,
    CA,
    ECDSA_SHA256,
    KEY_USAGE,
    LATER,
    NOW,
    CertificateParts,
    extension,
    generalized,
    integer,
    sequence,
    spki,
    utc,
)
from tests.attestation.parsing.samples import certificates

# AMD's chip keys have the serial number 0, of which cryptography warns.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")

samples = st.sampled_from(certificates())
PLAIN = CertificateParts()
UNKNOWN = "1.2.3.4"


def rights(certificate: x509.Certificate) -> tuple[bool, int | None]:
    """May it issue, and how deep (RFC 5280, sections 4.2.1.3 and 4.2.1.9), by what cryptography finds in its extensions."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False, None
    try:
        signs = certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        signs = True
    return constraints.ca and signs, constraints.path_length


def test_every_certificate_at_hand_is_read_as_cryptography_reads_it() -> None:
    assert len(certificates()) >= 41
    for data in certificates():
        ours, theirs = Certificate.parse(data), x509.load_der_x509_certificate(data)
        assert ours.der == data
        assert ours.serial == theirs.serial_number
        assert (ours.issuer, ours.subject) == (theirs.issuer.public_bytes(), theirs.subject.public_bytes())
        assert (ours.not_before, ours.not_after) == (theirs.not_valid_before_utc, theirs.not_valid_after_utc)
        assert (ours.to_be_signed, ours.signature) == (theirs.tbs_certificate_bytes, theirs.signature)
        assert asn1.encode_der(theirs.signature_algorithm_oid) in ours.signature_algorithm
        assert ours.public_key == theirs.public_key()
        assert ours.public_key_der.endswith(ours.public_key_bits)
        assert list(ours.extensions) == [each.oid.dotted_string for each in theirs.extensions]
        assert ours.critical == {each.oid.dotted_string for each in theirs.extensions if each.critical}
        assert (ours.may_issue, ours.path_length) == rights(theirs)
        for each in theirs.extensions:
            if isinstance(each.value, x509.UnrecognizedExtension):
                assert ours.extensions[each.oid.dotted_string] == each.value.value


@given(sample=samples, data=st.data())
def test_a_changed_certificate_is_refused_or_read_as_cryptography_reads_it(sample: bytes, data: st.DataObject) -> None:
    at, byte = data.draw(st.integers(0, len(sample) - 1)), data.draw(st.integers(0, 255))
    changed = sample[:at] + bytes([byte]) + sample[at + 1 :]
    try:
        ours, theirs = Certificate.parse(changed), x509.load_der_x509_certificate(changed)
    except (MalformedCollateral, ValueError):  # names are compared here, and not looked into
        return
    assert ours.serial == theirs.serial_number
    assert (ours.not_before, ours.not_after) == (theirs.not_valid_before_utc, theirs.not_valid_after_utc)
    assert (ours.to_be_signed, ours.signature) == (theirs.tbs_certificate_bytes, theirs.signature)


@given(sample=samples, data=st.binary(min_size=1, max_size=64))
def test_other_bytes_before_behind_or_instead_are_refused(sample: bytes, data: bytes) -> None:
    for changed in (data, data + sample, sample + data):
        with pytest.raises(MalformedCollateral):
            Certificate.parse(changed)


@given(sample=samples, data=st.data())
def test_a_part_of_a_certificate_is_refused(sample: bytes, data: st.DataObject) -> None:
    with pytest.raises(MalformedCollateral):
        Certificate.parse(sample[: data.draw(st.integers(0, len(sample) - 1))])


def test_roots_are_pinned_by_the_digest_of_the_whole_certificate() -> None:
    data = PLAIN.encode()
    assert Certificate.parse(data).sha256 == hashlib.sha256(data).digest()


@pytest.mark.parametrize("serial", [0, 1, 2**159 - 1])
def test_accepts_serial_numbers_from_zero_on(serial: int) -> None:
    assert Certificate.parse(replace(PLAIN, serial=integer(serial)).encode()).serial == serial


@pytest.mark.parametrize("serial", [-1, -(2**70)])
def test_refuses_negative_serial_numbers(serial: int) -> None:
    with pytest.raises(MalformedCollateral):
        Certificate.parse(replace(PLAIN, serial=integer(serial)).encode())


EVERY_WAY = (utc(datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)), generalized("99991231235959Z"))


def test_reads_both_forms_of_times_up_to_the_end_of_the_calendar() -> None:
    read = Certificate.parse(replace(PLAIN, validity=sequence(*EVERY_WAY)).encode())
    assert read.not_before == datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert read.not_after == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


TIMES = {
    "a year that no calendar has": generalized("00000101000000Z"),
    "a day that no calendar has": generalized("20260230000000Z"),
    "an hour that no day has": generalized("20260101240000Z"),
    "a time zone": generalized("20260101000000+0100"),
    "no time zone": generalized("20260101000000"),
    "no seconds": der(0x17, b"2601010000Z"),
    "no digits": generalized("2026010100000aZ"),
    "another type": integer(20260101),
}


@pytest.mark.parametrize("moment", TIMES.values(), ids=TIMES)
def test_refuses_times_that_are_none(moment: bytes) -> None:
    for validity in (sequence(moment, utc(LATER)), sequence(utc(NOW), moment)):
        with pytest.raises(MalformedCollateral):
            Certificate.parse(replace(PLAIN, validity=validity).encode())


OFF = sequence(bytes.fromhex("0603551d13"), bytes.fromhex("010100"), der(4, CA))  # critical, spelled out as false
ON = sequence(bytes.fromhex("0603551d13"), bytes.fromhex("010101"), der(4, CA))  # true is ff in DER
ONCE = extension(UNKNOWN, b"")
MALFORMED: dict[str, CertificateParts] = {
    "version 1": replace(PLAIN, version=b""),
    "version 1, spelled out": replace(PLAIN, version=der(0xA0, integer(0))),
    "version 2": replace(PLAIN, version=der(0xA0, integer(1))),
    "version 4": replace(PLAIN, version=der(0xA0, integer(3))),
    "an extension twice": replace(PLAIN, extensions=[ONCE, ONCE]),
    "the default spelled out": replace(PLAIN, extensions=[OFF]),
    "a boolean that is not ff": replace(PLAIN, extensions=[ON]),
    "something behind the extensions": replace(PLAIN, tail=integer(1)),
    "another algorithm inside": replace(PLAIN, algorithm=ECDSA_SHA256),
    "a signature of less than whole bytes": replace(PLAIN, unused=1),
    "a serial number with leading zeros": replace(PLAIN, serial=bytes.fromhex("02020001")),
    "a serial number without bytes": replace(PLAIN, serial=bytes.fromhex("0200")),
    "a key that is no key": replace(PLAIN, public_key=integer(1)),
    "a key with something behind it": replace(PLAIN, public_key=sequence(spki()[2:], b"\x05\x00")),
    "basic constraints that are none": replace(PLAIN, extensions=[extension(BASIC_CONSTRAINTS, b"\x05\x00")]),
    "key usage that is none": replace(PLAIN, extensions=[extension(BASIC_CONSTRAINTS, CA), extension(KEY_USAGE, b"")]),
}


@pytest.mark.parametrize("parts", MALFORMED.values(), ids=MALFORMED)
def test_refuses_what_is_no_certificate_of_version_3_in_der(parts: CertificateParts) -> None:
    with pytest.raises(MalformedCollateral):
        Certificate.parse(parts.encode())


def test_refuses_lengths_in_any_but_the_shortest_form() -> None:
    data = PLAIN.encode()
    assert data[:2] == b"\x30\x82"
    for head in (b"\x30\x83\x00" + data[2:4], b"\x30\x84\x00\x00" + data[2:4], b"\x30\x80"):
        with pytest.raises(MalformedCollateral):
            Certificate.parse(head + data[4:])
    with pytest.raises(MalformedCollateral):
        Certificate.parse(data[:4] + b"\x30\x83\x00" + data[6:])  # of the part that is signed
    with pytest.raises(MalformedCollateral):
        Certificate.parse(b"\x30\x84\xff\xff\xff\xff" + data[4:])  # no memory is set aside for what is only claimed


def of_size(size: int) -> bytes:
    """A certificate of so many bytes."""

    def filled(filler: int) -> bytes:
        return replace(PLAIN, extensions=[extension(UNKNOWN, bytes(filler))]).encode()

    guess = size // 2 + size - len(filled(size // 2))
    for filler in (guess, guess - 1, guess + 1):
        for _ in range(64):  # a signature has a byte more or less
            data = filled(filler)
            if len(data) == size:
                return data
    raise AssertionError("no certificate of that size")


def test_accepts_a_certificate_up_to_the_limit_and_none_beyond() -> None:
    Certificate.parse(of_size(MAX_CERTIFICATE))
    with pytest.raises(MalformedCollateral, match="too large"):
        Certificate.parse(of_size(MAX_CERTIFICATE + 1))


CA_OF_DEPTH_0 = bytes.fromhex("30060101ff020100")
NO_CA = bytes.fromhex("3000")
NO_CA_OF_DEPTH_0 = bytes.fromhex("3003020100")
RIGHTS: dict[str, tuple[Sequence[bytes], bool, int | None]] = {
    "nothing said": ([], False, None),
    "no authority": ([extension(BASIC_CONSTRAINTS, NO_CA)], False, None),
    "no authority, but a depth": ([extension(BASIC_CONSTRAINTS, NO_CA_OF_DEPTH_0)], False, 0),
    "an authority without key usage": ([extension(BASIC_CONSTRAINTS, CA)], True, None),
    "an authority of depth 0": ([extension(BASIC_CONSTRAINTS, CA_OF_DEPTH_0)], True, 0),
    "one that may sign certificates": (
        [extension(KEY_USAGE, bytes.fromhex("03020204")), extension(BASIC_CONSTRAINTS, CA)],
        True,
        None,
    ),
    "one that may sign lists only": (
        [extension(KEY_USAGE, bytes.fromhex("03020102")), extension(BASIC_CONSTRAINTS, CA)],
        False,
        None,
    ),
    "one that may sign nothing": (
        [extension(KEY_USAGE, bytes.fromhex("030100")), extension(BASIC_CONSTRAINTS, CA)],
        False,
        None,
    ),
    "key usage alone": ([extension(KEY_USAGE, bytes.fromhex("03020204"))], False, None),
}


@pytest.mark.parametrize(("extensions", "may_issue", "depth"), RIGHTS.values(), ids=RIGHTS)
def test_issues_only_what_basic_constraints_and_key_usage_agree_on(
    extensions: Sequence[bytes], may_issue: bool, depth: int | None
) -> None:
    read = Certificate.parse(replace(PLAIN, extensions=extensions).encode())
    assert (read.may_issue, read.path_length) == (may_issue, depth)


def test_tells_which_extensions_are_critical() -> None:
    extensions = [extension(UNKNOWN, b"value", critical=True), extension("1.2.3.5", b"")]
    read = Certificate.parse(replace(PLAIN, extensions=extensions).encode())
    assert read.extensions == {UNKNOWN: b"value", "1.2.3.5": b""}
    assert read.critical == {UNKNOWN}


def public_key(certified: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    return Certificate.parse(replace(PLAIN, public_key=certified).encode()).public_key


def in_der(public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey) -> bytes:
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rsa_key(bits: int) -> bytes:
    """A public RSA key of so many bits, whose factors nobody knows."""
    return in_der(rsa.RSAPublicNumbers(65537, (1 << bits - 1) + 1).public_key())


@pytest.mark.parametrize("bits", [2048, 4096])
def test_accepts_rsa_keys_within_the_sizes_of_vendors(bits: int) -> None:
    read = public_key(rsa_key(bits))
    assert isinstance(read, rsa.RSAPublicKey)
    assert read.key_size == bits


POINT = der(3, b"\0\x04" + bytes(96))  # (0, 0) is no point of the curve
INFINITY = der(3, b"\0\0")
P384 = bytes.fromhex("301006072a8648ce3d020106052b81040022")
UNKNOWN_CURVE = bytes.fromhex("301006072a8648ce3d020106052b8104007f")
EXPLICIT_CURVE = sequence(bytes.fromhex("06072a8648ce3d0201"), sequence(integer(1)))
KEYS: dict[str, bytes] = {
    "too short": rsa_key(2047),
    "too long": rsa_key(4097),
    "much too long": rsa_key(16000),
    "too short to sign at all": rsa_key(64),
    "of another kind": in_der(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()),
    "of an unknown kind": sequence(sequence(bytes.fromhex("06032a0304")), der(3, b"\0")),
    "of an unknown curve": sequence(UNKNOWN_CURVE, POINT),
    "of a curve of its own": sequence(EXPLICIT_CURVE, POINT),
    "no point of the curve": sequence(P384, POINT),
    "the point at infinity": sequence(P384, INFINITY),
    "empty": sequence(P384, der(3, b"\0")),
}


@pytest.mark.parametrize("certified", KEYS.values(), ids=KEYS)
def test_refuses_keys_that_no_vendor_has_when_they_are_asked_for(certified: bytes) -> None:
    read = Certificate.parse(replace(PLAIN, public_key=certified).encode())
    with pytest.raises(MalformedCollateral):
        _ = read.public_key


# --- PEM -----------------------------------------------------------------------------------------------------------------

GENOA = AmdAuthority("Genoa")
CHAIN = (GENOA.ask, GENOA.root)


def pem(data: bytes) -> bytes:
    """RFC 7468."""
    lines = "\n".join(textwrap.wrap(base64.b64encode(data).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n".encode()


@given(st.lists(samples, min_size=1, max_size=MAX_CERTIFICATES).map(tuple))
def test_a_chain_comes_out_of_its_pem_in_order(chain: tuple[bytes, ...]) -> None:
    text = b"".join(map(pem, chain))
    for form in (text, text.replace(b"\n", b"\r\n"), b"\n" + text + b"\n \0", text.replace(b"\n", b"")):
        assert certificates_from_pem(form) == chain
    assert [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(text)] == list(chain)


TWO = pem(CHAIN[0]) + pem(CHAIN[1])
TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "zeros only": bytes(8),
    "text in front": b"Subject: CN=SEV-Genoa\n" + TWO,
    "text in between": pem(CHAIN[0]) + b"and\n" + pem(CHAIN[1]),
    "text behind": TWO + b"garbage",
    "a zero byte in between": pem(CHAIN[0]) + b"\0" + pem(CHAIN[1]),
    "a key as well": TWO + b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    "a beginning without an end": TWO + b"-----BEGIN CERTIFICATE-----\nAAAA\n",
    "an end without a beginning": b"-----END CERTIFICATE-----\n" + TWO,
    "a beginning twice": b"-----BEGIN CERTIFICATE-----\n" + TWO,
    "another label": TWO.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
    "headers inside": TWO.replace(b"-----\nMII", b"-----\nProc-Type: 4\n\nMII"),
    "a character that is not of base64": TWO.replace(b"MII", b"MI_", 1),
    "padding inside": TWO.replace(b"MII", b"MI==", 1),
    "missing padding": b"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n",
    "one certificate too many": pem(CHAIN[1]) * (MAX_CERTIFICATES + 1),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_refuses_a_pem_text_that_is_not_a_chain_of_certificates_and_nothing_else(text: bytes) -> None:
    with pytest.raises(MalformedCollateral):
        certificates_from_pem(text)


def test_accepts_a_pem_text_up_to_the_limit_and_none_beyond() -> None:
    text = pem(CHAIN[0]).ljust(MAX_PEM)
    assert certificates_from_pem(text) == CHAIN[:1]
    with pytest.raises(MalformedCollateral, match="too large"):
        certificates_from_pem(text + b" ")


def test_every_chain_within_the_limits_fits_into_the_largest_pem_text() -> None:
    assert len(pem(bytes(MAX_CERTIFICATE)) * MAX_CERTIFICATES) <= MAX_PEM


BEGIN = b"-----BEGIN CERTIFICATE-----"


@pytest.mark.parametrize("filler", [b" ", b"A", b"\n", BEGIN, BEGIN + b" ", BEGIN + b"AAAA"])
def test_a_hostile_text_takes_no_longer_than_its_length_deserves(filler: bytes) -> None:
    text = (BEGIN + filler * MAX_PEM)[:MAX_PEM]
    start = time.process_time()
    with pytest.raises(MalformedCollateral):
        certificates_from_pem(text)
    assert time.process_time() - start < 1
