"""Small made-up things: keys, DER that is framed like a certificate, and the table that a host hands over."""

from collections.abc import Sequence

from attestation.document import KeySection

GUIDS = {
    "vcek": bytes.fromhex("63da758de6644564adc5f4b93be8accd"),
    "vlek": bytes.fromhex("a8074bc2a25a483eaae639c045a0b8a1"),
    "ask": bytes.fromhex("4ab7b379bbac4fe4a02f05aef327c782"),
    "ark": bytes.fromhex("c0b406a4a803495297433fb6014cd0ae"),
    "crl": bytes.fromhex("92f81bc358114d3d97ffd19f88dc67ea"),
}

KEYS = KeySection(b"\x05" + bytes(32), bytes(32), "subrosa 0.1.0")


def der(content: bytes) -> bytes:
    """A DER sequence: what a certificate looks like from outside."""
    size = len(content)
    if size < 0x80:
        return bytes([0x30, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x30, 0x80 | len(digits)]) + digits + content


def table(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The GHCB's certificate table: entries of GUID, offset and length, one of zeros, then what they point to."""
    offset = 24 * (len(entries) + 1)
    head, body = b"", b""
    for guid, content in entries:
        head += guid + (offset + len(body)).to_bytes(4, "little") + len(content).to_bytes(4, "little")
        body += content
    return head + bytes(24) + body
