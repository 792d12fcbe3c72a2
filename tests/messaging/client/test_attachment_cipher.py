"""Signal's format of attachments: against a construction in one go, and against everything that a relay could give instead."""

import hmac
import math
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from hashlib import sha256
from io import BytesIO
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import example, given
from hypothesis.strategies import DataObject, binary, data, integers

from messaging.client.attachment_cipher import (
    CHUNK,
    IV,
    MAC,
    PIECE,
    SMALLEST_BUCKET,
    Survey,
    chunks_of,
    padded_size,
    seal,
    sealed_length,
    unseal,
)
from messaging.client.errors import AttachmentChanged, AttachmentCorrupt

SECRET = bytes(range(64))
IV_BYTES = bytes(range(100, 116))
LARGEST = 2**32  # a pointer names no larger file


def buckets() -> list[int]:
    """All buckets up to beyond the largest file, in exact arithmetic."""
    exact, found = Fraction(1), []
    while exact < 2 * LARGEST:
        exact *= Fraction(105, 100)
        found.append(math.floor(exact))
    return [bucket for bucket in found if bucket >= SMALLEST_BUCKET]


def authenticated(padded: bytes, secret: bytes = SECRET) -> bytes:
    """What a sender with the right keys uploads of these bytes, padding and all."""
    aes = Cipher(AES(secret[:32]), CBC(IV_BYTES)).encryptor()
    sent = IV_BYTES + aes.update(padded) + aes.finalize()
    return sent + hmac.digest(secret[32:], sent, "sha256")


def in_one_go(file: bytes, bucket: int) -> bytes:
    """The format, written down without streams."""
    padded = file + bytes(bucket - len(file))
    fill = 16 - len(padded) % 16
    return authenticated(padded + bytes([fill]) * fill)


def sealed(file: bytes) -> bytes:
    return b"".join(seal(chunks_of(BytesIO(file)), size=len(file), secret=SECRET, iv=IV_BYTES))


def opened(uploaded: bytes, size: int, *, secret: bytes = SECRET, digest: bytes | None = None) -> bytes:
    digest = sha256(uploaded).digest() if digest is None else digest
    return b"".join(unseal(BytesIO(uploaded), size=size, secret=secret, digest=digest))


# --- sizes ---


def test_a_bucket_ends_where_exact_arithmetic_says_and_the_next_one_begins_behind_it() -> None:
    known = buckets()
    assert known[0] == SMALLEST_BUCKET
    for bucket, following in pairwise(known):
        assert padded_size(bucket) == bucket
        assert padded_size(bucket + 1) == following
    assert len(known) > 300


@pytest.mark.parametrize(("size", "bucket"), [(0, 541), (1, 541), (541, 541), (542, 568), (568, 568), (569, 596)])
def test_small_files_have_one_bucket_and_others_grow_by_a_twentieth(size: int, bucket: int) -> None:
    assert padded_size(size) == bucket


@given(integers(0, LARGEST))
def test_no_bucket_is_smaller_than_its_file_or_larger_by_more_than_a_twentieth(size: int) -> None:
    assert max(size, SMALLEST_BUCKET) <= padded_size(size) <= max(SMALLEST_BUCKET, math.ceil(size * 1.05))


# --- sealing ---


@given(binary(max_size=2000))
@example(b"")
@example(bytes(541))
@example(bytes(542))
def test_a_file_is_sealed_as_the_format_says_and_opens_again(file: bytes) -> None:
    uploaded = sealed(file)
    assert uploaded == in_one_go(file, padded_size(len(file)))
    assert len(uploaded) == sealed_length(len(file))
    assert opened(uploaded, len(file)) == file


@pytest.mark.parametrize(
    "size",
    [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 17, *[b for b in buckets() if CHUNK / 2 < b < 3 * CHUNK][::9]],
)
def test_a_file_of_several_pieces_is_sealed_the_same(size: int) -> None:
    file = b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]
    pieces = list(seal(chunks_of(BytesIO(file)), size=size, secret=SECRET, iv=IV_BYTES))
    assert b"".join(pieces) == in_one_go(file, padded_size(size))
    assert max(map(len, pieces)) <= PIECE
    assert len(pieces) <= sealed_length(size) // CHUNK + 2
    assert opened(b"".join(pieces), size) == file


def test_what_is_to_be_one_request_is_one_piece() -> None:
    for size in (0, 1, 541, CHUNK // 2, math.floor(CHUNK / 1.06)):
        assert len(list(seal(chunks_of(BytesIO(bytes(size))), size=size, secret=SECRET, iv=IV_BYTES))) == 1


def test_a_file_of_another_size_than_was_said_is_an_error_before_its_end_is_out() -> None:
    for size in (9, 11):
        with pytest.raises(ValueError, match="size"):
            list(seal([b"0123456789"], size=size, secret=SECRET, iv=IV_BYTES))


@pytest.mark.parametrize("secret", [b"", SECRET[:-1], SECRET + b"x"])
def test_a_secret_of_another_size_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        list(seal([], size=0, secret=secret, iv=IV_BYTES))
    with pytest.raises(ValueError, match="64 bytes"):
        opened(sealed(b""), 0, secret=secret)


def test_sealing_and_opening_hold_a_few_pieces_at_a_time() -> None:
    size = 20 * PIECE

    def file() -> Iterator[bytes]:
        left = size
        while left:
            chunk = bytes(min(CHUNK, left))
            left -= len(chunk)
            yield chunk

    tracemalloc.start()
    try:
        digest = sha256()
        for piece in seal(file(), size=size, secret=SECRET, iv=IV_BYTES):
            digest.update(piece)
        assert tracemalloc.get_traced_memory()[1] < 8 * PIECE
    finally:
        tracemalloc.stop()


# --- opening ---


@given(binary(max_size=1500), data())
def test_one_changed_bit_anywhere_is_refused_by_the_mac_and_by_the_digest(file: bytes, draw: DataObject) -> None:
    uploaded = bytearray(sealed(file))
    digest = sha256(uploaded).digest()
    uploaded[draw.draw(integers(0, len(uploaded) - 1))] ^= 1 << draw.draw(integers(0, 7))
    with pytest.raises(AttachmentCorrupt):
        opened(bytes(uploaded), len(file), digest=digest)
    with pytest.raises(AttachmentCorrupt):  # the relay and the sender of the pointer agree, without the key
        opened(bytes(uploaded), len(file))


def test_the_right_file_under_a_wrong_digest_is_refused() -> None:
    with pytest.raises(AttachmentCorrupt):
        opened(sealed(b"file"), 4, digest=bytes(32))


@pytest.mark.parametrize("part", [slice(0, 32), slice(32, 64)])
def test_a_wrong_half_of_the_secret_never_opens_a_file(part: slice) -> None:
    secret = bytearray(SECRET)
    secret[part] = bytes(32)
    with pytest.raises(AttachmentCorrupt):
        opened(sealed(b"file"), 4, secret=bytes(secret))


@given(binary(max_size=800), integers(1, 700))
def test_more_or_less_than_there_has_to_be_is_refused(file: bytes, count: int) -> None:
    uploaded = sealed(file)
    for wrong in (uploaded + bytes(count), uploaded[:-count], uploaded[count:], b""):
        for digest in (sha256(wrong).digest(), sha256(uploaded).digest()):
            with pytest.raises(AttachmentCorrupt):
                opened(wrong, len(file), digest=digest)


def test_the_size_decides_where_the_file_ends_and_what_stands_behind_is_zero() -> None:
    assert opened(sealed(b"file\x00\x00"), 4) == b"file"  # a sender's zeros cannot be told from padding
    with pytest.raises(AttachmentCorrupt):
        opened(sealed(b"files"), 4)
    with pytest.raises(AttachmentCorrupt):
        opened(sealed(b"file" + bytes(536) + b"x"), 4)  # the last byte of the bucket
    with pytest.raises(AttachmentCorrupt):
        opened(sealed(b"file"), 542)  # another bucket


def test_padding_that_is_not_of_pkcs7_is_refused_although_it_is_authentic() -> None:
    bucket = bytes(541)  # three bytes short of a block
    assert opened(authenticated(bucket + b"\x03" * 3), 0) == b""
    for wrong in (b"\x03\x02\x03", b"\x02\x02\x02", b"\x00\x00\x00", b"\x00\x00\x01", b"\x11" * 3, b"\x04" * 3):
        with pytest.raises(AttachmentCorrupt):
            opened(authenticated(bucket + wrong), 0)


def test_nothing_is_given_out_before_all_of_it_is_proved() -> None:
    uploaded = bytearray(sealed(bytes(3 * CHUNK)))
    uploaded[-1] ^= 1
    digest = sha256(uploaded).digest()
    with pytest.raises(AttachmentCorrupt):
        next(unseal(BytesIO(uploaded), size=3 * CHUNK, secret=SECRET, digest=digest))


def test_a_sealed_file_begins_with_its_iv_and_ends_with_its_mac() -> None:
    uploaded = sealed(b"file")
    assert uploaded[:IV] == IV_BYTES
    assert uploaded[-MAC:] == hmac.digest(SECRET[32:], uploaded[:-MAC], "sha256")


# --- the same file again ---


@given(binary(max_size=100), binary(max_size=100))
def test_a_name_stands_for_one_content(one: bytes, other: bytes) -> None:
    names = [Survey.of(chunks_of(BytesIO(each))).name for each in (one, other)]
    assert (names[0] == names[1]) == (one == other)


def test_a_survey_knows_the_size_and_every_chunk() -> None:
    survey = Survey.of(chunks_of(BytesIO(bytes(2 * CHUNK + 5))))
    assert survey.size == 2 * CHUNK + 5
    assert len(survey.digests) == 3
    assert list(map(len, survey.check(chunks_of(BytesIO(bytes(survey.size)))))) == [CHUNK, CHUNK, 5]


@pytest.mark.parametrize("other", [b"x" + bytes(CHUNK + 4), bytes(CHUNK), bytes(CHUNK + 4), bytes(CHUNK + 6)])
def test_chunks_are_given_out_until_one_is_not_what_it_was(other: bytes) -> None:
    survey = Survey.of(chunks_of(BytesIO(bytes(2 * CHUNK + 5))))
    checked = survey.check(chunks_of(BytesIO(bytes(CHUNK) + other)))
    assert next(checked) == bytes(CHUNK)
    with pytest.raises(AttachmentChanged):
        list(checked)


def test_a_file_that_has_grown_has_changed() -> None:
    survey = Survey.of(chunks_of(BytesIO(bytes(CHUNK))))
    checked = survey.check(chunks_of(BytesIO(bytes(CHUNK + 1))))
    assert next(checked) == bytes(CHUNK)
    with pytest.raises(AttachmentChanged):
        next(checked)
