"""Padding of plaintexts: the data, one byte 0x80, then zeros (Signal-Android, ``PushTransportDetails``)."""

from collections.abc import Sequence

from messaging.wire.errors import MalformedContent
from messaging.wire.limits import CONTENT_BLOCK


def pad(data: bytes) -> bytes:
    """To one byte less than a multiple of ``CONTENT_BLOCK``: lengths show only in steps."""
    blocks = -(-(len(data) + 2) // CONTENT_BLOCK)
    return (data + b"\x80").ljust(blocks * CONTENT_BLOCK - 1, b"\x00")


def pad_to_bucket(data: bytes, buckets: Sequence[int]) -> bytes:
    """To the smallest of ``buckets`` (lengths, ascending) that holds it.

    Raises:
        ValueError: none does.
    """
    for bucket in buckets:
        if len(data) < bucket:
            return (data + b"\x80").ljust(bucket, b"\x00")
    raise ValueError("content is too large for its padding")


def unpad(padded: bytes) -> bytes:
    """Undo either.

    Raises:
        MalformedContent: no 0x80 before the zeros.
    """
    data = padded.rstrip(b"\x00")
    if not data.endswith(b"\x80"):
        raise MalformedContent("content is not padded")
    return data[:-1]
