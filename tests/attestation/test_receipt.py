"""A receipt is one spelling under one signature: of this enclave, over this answer, beside this evidence."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from attestation import (
    AttestationError,
    Claims,
    Policy,
    Receipt,
    Release,
    SimulatedTee,
    UnsafeAcceptSimulated,
    appraise,
    consent_set_digest,
    measurement_of,
    parse_receipt,
    sign_receipt,
    verify_receipt,
)
from attestation.appraisal.trail import Trail
from attestation.document import CpuType, KeySection
from attestation.errors import (
    InvalidReceiptSignature,
    MalformedEvidence,
    MalformedReceipt,
    ReceiptCodeMismatch,
    ReceiptEvidenceMismatch,
)
from attestation.limits import MAX_NAME, MAX_RECEIPT
from attestation.receipt import (
    CONTENT_TYPE,
    EXTERNAL_AAD,
    SignedReceipt,
    Signer,
    check_receipt,
    receipt_key_id,
    sig_structure,
)
from tests.attestation import machines

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "receipts" / "receipt.json").read_text())
KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTOR["private_key"]))
PUBLIC = KEY.public_key().public_bytes_raw()


def read_fields(members: dict[str, Any]) -> Receipt:
    """The receipt of the vector: digests in hexadecimal, time in RFC 3339."""
    texts = {"kind", "engine", "release"}
    values: dict[str, Any] = {"time": datetime.fromisoformat(members["time"])}
    for name, value in members.items():
        if name != "time":
            values[name] = bytes.fromhex(value) if isinstance(value, str) and name not in texts else value
    return Receipt(**values)


RECEIPT = read_fields(VECTOR["receipt"])
SIGNED = sign_receipt(RECEIPT, KEY)


# --- the form ---------------------------------------------------------------------------------------------------------


def test_the_vector_is_reproduced_byte_by_byte() -> None:
    signed = parse_receipt(bytes.fromhex(VECTOR["signed"]))
    assert bytes.fromhex(VECTOR["public_key"]) == PUBLIC
    assert RECEIPT.encode().hex() == VECTOR["payload"]
    assert signed.to_be_signed.hex() == VECTOR["to_be_signed"]
    assert SIGNED.hex() == VECTOR["signed"]
    assert (signed.unverified, signed.encode()) == (RECEIPT, SIGNED)


def test_the_consent_set_of_the_vector_is_reproduced() -> None:
    entries = [(bytes.fromhex(item["author"]), bytes.fromhex(item["digest"])) for item in VECTOR["consent_set"]]
    assert consent_set_digest(entries).hex() == VECTOR["receipt"]["consents"]


def test_is_a_tagged_cose_sign1_that_any_cose_library_reads() -> None:
    message = cbor2.loads(SIGNED)
    protected, unprotected, payload, signature = message.value
    assert (message.tag, unprotected) == (18, {})
    assert cbor2.loads(protected) == {1: -19, 3: CONTENT_TYPE, 4: hashlib.sha256(PUBLIC).digest()[:8]}
    members = cbor2.loads(payload)
    assert (members["version"], members["kind"], members["time"]) == (1, "summarize", 1780272000)
    assert list(members) == sorted(members, key=cbor2.dumps)  # RFC 8949, section 4.2.1
    structure = ["Signature1", protected, b"subrosa receipt v1", payload]
    KEY.public_key().verify(signature, cbor2.dumps(structure))


def test_what_is_signed_is_the_structure_of_the_working_groups_example() -> None:
    """sign1-tests/sign-pass-02.json ("External") of github.com/cose-wg/Examples."""
    message = bytes.fromhex(
        "D28443A10126A10442313154546869732069732074686520636F6E74656E742E5840EAE868ECC176883766C5DC5BA5B8DCA25DAB3C2E56A5"
        "51CE5705B793914348E155388B10C4F1B59A6733EAB416870A945111A4B2FBDBEF33A77234B1DEFF2F9B"
    )
    protected, _, payload, signature = cbor2.loads(message).value
    signed = sig_structure(protected, bytes.fromhex("11aa22bb33cc44dd55006699"), payload)
    assert signed.hex().upper() == (
        "846A5369676E61747572653143A101264C11AA22BB33CC44DD5500669954546869732069732074686520636F6E74656E742E"
    )
    x = 0xBAC5B11CAD8F99F9C72B05CF4B9E26D244DC189F745228255A219A86D6A09EFF
    y = 0x20138BF82DC1B6D562BE0FA54AB7804A3A64B6D72CCFED6B6FB6ED28BBFC117E
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    scalars = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    key.verify(encode_dss_signature(*scalars), signed, ec.ECDSA(SHA256()))
    with pytest.raises(MalformedReceipt):
        parse_receipt(message)


digests = st.binary(min_size=32, max_size=32)
names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
times = st.integers(0, 253_402_300_799).map(
    lambda seconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
buckets = st.integers(1, 2**32 - 1)
receipts = st.builds(
    Receipt,
    kind=names,
    request=digests,
    answer=digests,
    conversation=st.none() | digests,
    consents=digests,
    engine=names,
    model=digests,
    instructions=digests,
    release=names,
    measurement=st.binary(min_size=48, max_size=48),
    evidence=digests,
    time=times,
    request_bucket=buckets,
    answer_bucket=buckets,
)


@given(receipts)
def test_reading_undoes_writing_and_there_is_one_spelling(receipt: Receipt) -> None:
    data = sign_receipt(receipt, KEY)
    signed = parse_receipt(data)
    assert (signed.unverified, signed.encode()) == (receipt, data)
    assert sign_receipt(signed.unverified, KEY) == data


@given(receipt=receipts, minutes=st.integers(-23 * 60, 23 * 60))
def test_a_moment_is_written_in_one_way_whatever_the_time_zone(receipt: Receipt, minutes: int) -> None:
    inner = replace(receipt, time=RECEIPT.time)
    elsewhere = inner.time.astimezone(timezone(timedelta(minutes=minutes)))
    assert replace(inner, time=elsewhere).encode() == inner.encode()


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    for whole in (data, SIGNED[:5] + data, b"\xd2\x84" + data):
        with pytest.raises(MalformedReceipt):
            parse_receipt(whole)


@given(at=st.integers(0, len(SIGNED) - 1), data=st.binary(max_size=8), cut=st.integers(0, 8))
def test_bytes_that_are_exchanged_are_refused_or_make_another_receipt(at: int, data: bytes, cut: int) -> None:
    changed = SIGNED[:at] + data + SIGNED[at + cut :]
    try:
        signed = parse_receipt(changed)
    except MalformedReceipt:
        return
    assert signed.encode() == changed


def test_the_largest_receipt_is_read_and_nothing_larger_is_looked_at() -> None:
    long = "\U00010000" * MAX_NAME
    largest = sign_receipt(replace(RECEIPT, kind=long, engine=long, release=long), KEY)
    assert len(largest) <= MAX_RECEIPT
    assert parse_receipt(largest).encode() == largest
    with pytest.raises(MalformedReceipt, match="too large"):
        parse_receipt(bytes(MAX_RECEIPT + 1))
    with pytest.raises(MalformedReceipt, match="COSE_Sign1"):
        parse_receipt(bytes(MAX_RECEIPT))


def cose(
    payload: object = None, *, header: object = None, unprotected: object = None, signature: bytes = bytes(64)
) -> bytes:
    """A message of the right shape, each part of which may be something else."""
    protected = {1: -19, 3: CONTENT_TYPE, 4: receipt_key_id(PUBLIC)} if header is None else header
    body = RECEIPT.encode() if payload is None else payload
    parts = [cbor2.dumps(protected, canonical=True), {} if unprotected is None else unprotected, body, signature]
    return cbor2.dumps(cbor2.CBORTag(18, parts), canonical=True)


def payload(**changes: object) -> bytes:
    """The vector's payload with other members; ``...`` leaves one out."""
    members = {**cbor2.loads(RECEIPT.encode()), **changes}
    return cbor2.dumps({name: value for name, value in members.items() if value is not ...}, canonical=True)


def test_the_shape_that_the_refusals_start_from_is_read() -> None:
    parse_receipt(cose())
    parse_receipt(cose(payload()))
    parse_receipt(cose(payload(conversation=...)))


OTHER_MESSAGES: dict[str, bytes] = {
    "empty": b"",
    "trailing bytes": SIGNED + b"\x00",
    "cut": SIGNED[:-1],
    "untagged": SIGNED[1:],
    "another tag": b"\xd1" + SIGNED[1:],
    "a tag in two bytes": b"\xd8\x12" + SIGNED[1:],
    "tagged twice": b"\xd9\xd9\xf7" + SIGNED,
    "an array of indefinite length": SIGNED[:1] + b"\x9f" + SIGNED[2:] + b"\xff",
    "a length in two bytes": SIGNED[:2] + b"\x59\x00" + SIGNED[3:],
    "an array in a tag that is no array": cbor2.dumps(cbor2.CBORTag(18, b"")),
    "five parts": cbor2.dumps(cbor2.CBORTag(18, [*cbor2.loads(SIGNED).value, b""])),
    "no payload": cbor2.dumps(cbor2.CBORTag(18, [cbor2.loads(SIGNED).value[0], {}, None, bytes(64)])),
    "a payload that is text": cose("text"),
    "unprotected headers": cose(unprotected={4: b"kid"}),
    "unprotected headers that are none": cose(unprotected=[]),
    "another algorithm": cose(header={1: -8, 3: CONTENT_TYPE, 4: receipt_key_id(PUBLIC)}),
    "no algorithm": cose(header={3: CONTENT_TYPE, 4: receipt_key_id(PUBLIC)}),
    "another content type": cose(header={1: -19, 3: "text/plain", 4: receipt_key_id(PUBLIC)}),
    "no content type": cose(header={1: -19, 4: receipt_key_id(PUBLIC)}),
    "no key id": cose(header={1: -19, 3: CONTENT_TYPE}),
    "a key id that is text": cose(header={1: -19, 3: CONTENT_TYPE, 4: "kidkidki"}),
    "a short key id": cose(header={1: -19, 3: CONTENT_TYPE, 4: bytes(7)}),
    "a critical header": cose(header={1: -19, 2: [3], 3: CONTENT_TYPE, 4: receipt_key_id(PUBLIC)}),
    "headers that are a list": cose(header=[1, -19]),
    "a short signature": cose(signature=bytes(63)),
    "a long signature": cose(signature=bytes(65)),
    "a payload that is a list": cose(cbor2.dumps([1])),
    "a payload that is no CBOR": cose(b"\xff"),
    "an empty payload": cose(b""),
    "bytes behind the payload": cose(RECEIPT.encode() + b"\x00"),
    "members in another order": cose(cbor2.dumps(dict(reversed(cbor2.loads(RECEIPT.encode()).items())))),
    "a member twice": cose(b"\xb0" + RECEIPT.encode()[1:] + b"\x67version\x01"),
    "a member of indefinite length": cose(RECEIPT.encode()[:1] + b"\x64kind\x7f\x69summarize\xff" + payload(kind=...)[1:]),
    "a number in eight bytes": cose(RECEIPT.encode().replace(b"version\x01", b"version\x1b" + bytes(7) + b"\x01")),
    "nested deeply": b"\xd2" + b"\x81" * 2000,
    "a reference to itself": b"\xd8\x1c\x81\xd8\x1d\x00",
    "a regular expression": cose(b"\xd8\x23\x63((("),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_MESSAGES)
def test_no_other_message_is_read(name: str) -> None:
    with pytest.raises(MalformedReceipt):
        parse_receipt(OTHER_MESSAGES[name])


OTHER_MEMBERS: list[tuple[str, object]] = [
    *((name, ...) for name in cbor2.loads(RECEIPT.encode()) if name != "conversation"),
    *((name, None) for name in cbor2.loads(RECEIPT.encode())),
    ("version", 2),
    ("version", 0),
    ("version", True),
    ("version", 1.0),
    ("version", "1"),
    ("kind", ""),
    ("kind", "a" * (MAX_NAME + 1)),
    ("kind", "line\nbreak"),
    ("kind", b"summarize"),
    ("engine", ""),
    ("engine", "\u202e"),
    ("release", "a" * (MAX_NAME + 1)),
    *((name, bytes(size)) for name in ("request", "answer", "conversation", "consents") for size in (0, 31, 33)),
    *((name, bytes(size)) for name in ("model", "instructions", "evidence") for size in (0, 31, 33)),
    ("request", "a" * 32),
    ("measurement", bytes(32)),
    ("measurement", bytes(49)),
    ("time", -1),
    ("time", 253_402_300_800),
    ("time", 2**64),
    ("time", 1.5),
    ("time", datetime(2026, 6, 1, tzinfo=UTC)),
    ("request_bucket", 0),
    ("request_bucket", 2**32),
    ("request_bucket", True),
    ("answer_bucket", -1),
    ("answer_bucket", 16384.0),
    ("more", 1),
]


@pytest.mark.parametrize(
    ("name", "value"), OTHER_MEMBERS, ids=[f"{name}={value!r:.20}" for name, value in OTHER_MEMBERS]
)
def test_a_member_that_is_missing_wrong_or_unknown_is_refused(name: str, value: object) -> None:
    with pytest.raises(MalformedReceipt):
        parse_receipt(cose(payload(**{name: value})))


@pytest.mark.parametrize("key", [1, b"kind", (1, 2)])
def test_keys_that_are_no_text_are_refused(key: object) -> None:
    members = {**cbor2.loads(RECEIPT.encode()), key: 1}
    with pytest.raises(MalformedReceipt):
        parse_receipt(cose(cbor2.dumps(members, canonical=True)))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": ""},
        {"engine": "a" * (MAX_NAME + 1)},
        {"release": "\x00"},
        {"request": bytes(31)},
        {"conversation": b""},
        {"measurement": bytes(32)},
        {"request_bucket": 0},
        {"answer_bucket": 2**32},
        {"time": RECEIPT.time.replace(tzinfo=None)},
        {"time": RECEIPT.time.replace(microsecond=1)},
        {"time": RECEIPT.time.replace(tzinfo=timezone(timedelta(microseconds=1)))},
        {"time": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)},
        {"time": datetime.max.replace(microsecond=0, tzinfo=timezone(timedelta(hours=-1)))},
    ],
)
def test_what_could_not_be_read_again_is_not_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="of a receipt"):
        replace(RECEIPT, **changes)


# --- whose it is --------------------------------------------------------------------------------------------------------


@cache
def enclave() -> tuple[Claims, bytes]:
    """What was proved of an enclave that has the vector's receipt key, and its evidence."""
    keys = KeySection(b"\x05" + bytes(32), PUBLIC, RECEIPT.release)
    document = SimulatedTee(RECEIPT.measurement).attest(machines.NONCE, keys)
    release = Release(name=RECEIPT.release, type=CpuType.SIMULATED, measurement=RECEIPT.measurement)
    policy = Policy(releases=(release,), unsafe=frozenset({UnsafeAcceptSimulated}))
    return appraise(document, nonce=machines.NONCE, policy=policy, now=machines.NOW), document


def genuine(**changes: Any) -> Receipt:
    """A receipt of that enclave."""
    return replace(RECEIPT, evidence=hashlib.sha256(enclave()[1]).digest(), **changes)


def test_a_receipt_of_the_proved_enclave_says_what_it_says() -> None:
    claims, document = enclave()
    assert verify_receipt(parse_receipt(sign_receipt(genuine(), KEY)), claims, document) == genuine()


def test_every_flipped_bit_is_refused() -> None:
    claims, document = enclave()
    data = sign_receipt(genuine(), KEY)
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            with pytest.raises((MalformedReceipt, InvalidReceiptSignature)):
                verify_receipt(parse_receipt(bytes(changed)), claims, document)


def others() -> Iterator[tuple[str, Any]]:
    """For each member of a receipt another value."""
    for name in (field.name for field in fields(Receipt)):
        match getattr(RECEIPT, name):
            case str() as text:
                yield name, text + "x"
            case bytes() as data:
                yield name, bytes(len(data))
            case int() as number:
                yield name, number + 1
            case datetime() as time:
                yield name, time + timedelta(seconds=1)
    yield "conversation", None


@pytest.mark.parametrize(("name", "value"), list(others()))
def test_every_member_is_under_the_signature(name: str, value: object) -> None:
    change: Any = {name: value}
    claims, document = enclave()
    signed = parse_receipt(sign_receipt(genuine(), KEY))
    changed = replace(signed, unverified=replace(signed.unverified, **change))
    assert changed.unverified != signed.unverified
    with pytest.raises(InvalidReceiptSignature):
        verify_receipt(parse_receipt(changed.encode()), claims, document)


def test_another_key_is_another_enclave_even_if_it_borrows_the_key_id() -> None:
    claims, document = enclave()
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    data = sign_receipt(genuine(), other)
    with pytest.raises(InvalidReceiptSignature, match="names another key"):
        verify_receipt(parse_receipt(data), claims, document)
    borrowed = SignedReceipt(genuine(), receipt_key_id(PUBLIC), b"")
    borrowed = replace(borrowed, signature=other.sign(borrowed.to_be_signed))
    with pytest.raises(InvalidReceiptSignature, match="did not sign"):
        verify_receipt(parse_receipt(borrowed.encode()), claims, document)


def test_a_signature_over_the_payload_for_another_purpose_is_none() -> None:
    claims, document = enclave()
    signed = parse_receipt(sign_receipt(genuine(), KEY))
    protected = cbor2.loads(signed.encode()).value[0]
    for made in (genuine().encode(), sig_structure(protected, b"", genuine().encode())):
        assert EXTERNAL_AAD not in made
        with pytest.raises(InvalidReceiptSignature):
            verify_receipt(replace(signed, signature=KEY.sign(made)), claims, document)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"evidence": bytes(32)}, ReceiptEvidenceMismatch),
        ({"release": "another release"}, ReceiptCodeMismatch),
        ({"measurement": bytes(48)}, ReceiptCodeMismatch),
    ],
)
def test_an_enclave_cannot_speak_for_other_evidence_or_code(
    changes: dict[str, Any], error: type[AttestationError]
) -> None:
    claims, document = enclave()
    receipt = replace(genuine(), **changes)
    with pytest.raises(error):
        verify_receipt(parse_receipt(sign_receipt(receipt, KEY)), claims, document)


def test_all_faults_are_told_at_once() -> None:
    trail = Trail()
    receipt = genuine(release="another release", measurement=bytes(48))
    signed = replace(parse_receipt(sign_receipt(receipt, KEY)), signature=bytes(64))
    check_receipt(trail, signed, Signer(PUBLIC, "a", bytes(48), bytes(32)))
    assert [type(step.error) for step in trail.steps if step.error] == [
        InvalidReceiptSignature,
        ReceiptEvidenceMismatch,
        ReceiptCodeMismatch,
    ]


def test_without_an_acceptance_the_document_says_itself_who_it_is() -> None:
    claims, document = enclave()
    assert Signer.claimed(document) == Signer.proved(claims, document)
    with pytest.raises(MalformedEvidence):
        Signer.claimed(document[:-1])


# --- the measurement ------------------------------------------------------------------------------------------------------

MACHINES: dict[str, Callable[[], machines.Machine]] = {
    "SEV-SNP": machines.snp_machine,
    "Azure": machines.azure_machine,
    "TDX": machines.tdx_machine,
    "simulated": machines.simulated_machine,
}


@pytest.mark.parametrize("name", MACHINES)
def test_an_enclave_reads_off_its_evidence_the_measurement_that_others_will_prove(name: str) -> None:
    machine = MACHINES[name]()
    assert measurement_of(machine.document) == machine.appraise().measurement


@pytest.mark.parametrize("name", MACHINES)
def test_a_measurement_that_cannot_be_read_is_none(name: str) -> None:
    machine = MACHINES[name]()
    cut = machine.presenting(lambda document: replace(document, cpu=replace(document.cpu, report=b"")))
    with pytest.raises(MalformedEvidence):
        measurement_of(cut.document)


# --- the consent set ------------------------------------------------------------------------------------------------------

entries = st.dictionaries(st.binary(min_size=1, max_size=20), digests, max_size=6)


def test_the_digest_of_a_consent_set_is_over_lengths_authors_and_statements() -> None:
    one, two = (b"\x02" * 16, b"\xaa" * 32), (b"\x01" * 17, b"\xbb" * 32)
    by_hand = b"subrosa consent set v1\x00" + b"\x11" + b"".join(two) + b"\x10" + b"".join(one)
    assert consent_set_digest([one, two]) == hashlib.sha256(by_hand).digest()
    assert consent_set_digest([]) == hashlib.sha256(b"subrosa consent set v1\x00").digest()


@given(entries, st.randoms())
def test_the_order_of_the_consents_does_not_matter(consents: dict[bytes, bytes], random: Random) -> None:
    shuffled = list(consents.items())
    random.shuffle(shuffled)
    assert consent_set_digest(shuffled) == consent_set_digest(consents.items())


@given(entries, entries)
def test_different_sets_have_different_digests(one: dict[bytes, bytes], other: dict[bytes, bytes]) -> None:
    assert (consent_set_digest(one.items()) == consent_set_digest(other.items())) == (one == other)


@pytest.mark.parametrize(
    "consents",
    [
        [(b"a", bytes(32)), (b"a", bytes(32))],
        [(b"", bytes(32))],
        [(bytes(256), bytes(32))],
        [(b"a", bytes(31))],
        [(b"a", bytes(33))],
    ],
)
def test_a_set_has_a_statement_once_and_of_somebody(consents: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ValueError, match=r"consent|statement"):
        consent_set_digest(consents)
    assert consent_set_digest([(bytes(255), bytes(32))])
