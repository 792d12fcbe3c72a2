"""How a file becomes an attachment: encrypted, authenticated, and padded so that its length tells little of its size. No I/O.

Signal's format, made of AES-256-CBC with PKCS#7, HMAC-SHA256 and SHA-256: 16 random bytes of IV, the ciphertext of the file and of
zero bytes up to a bucket, and a MAC of both. The digest in an attachment's pointer is that of all three. Source: Signal-Android,
``AttachmentCipherOutputStream``, ``AttachmentCipherInputStream`` and ``PaddingInputStream``.

One secret and one IV are for one file. Whoever has to seal it twice, to send the rest of it, checks it piece by piece with a
:class:`Survey` of the first time, before anything is encrypted.
"""

import hmac
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import BinaryIO

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.padding import PKCS7

from messaging.client.errors import AttachmentChanged, AttachmentCorrupt
from messaging.wire.limits import ATTACHMENT_SECRET

IV = 16  # bytes, as all sizes here
MAC = 32
PIECE = 2 * 1024 * 1024  # at most, of what is sealed: what is in memory at once, and sent in one request
CHUNK = PIECE - 64  # of a file: with IV, padding and MAC it is one piece
SMALLEST_BUCKET = 541
_BLOCK = 16
_AES_KEY = 32
_GROWTH = 1.05  # from bucket to bucket


def padded_size(size: int) -> int:
    """The bucket of a file of ``size`` bytes: no less than its size, and at most a twentieth more where that is not too little."""
    if size <= SMALLEST_BUCKET:
        return SMALLEST_BUCKET
    return math.floor(_GROWTH ** math.ceil(math.log(size) / math.log(_GROWTH)))


def sealed_length(size: int) -> int:
    """How many bytes are uploaded of a file of ``size`` bytes."""
    return IV + (padded_size(size) // _BLOCK + 1) * _BLOCK + MAC


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """A file from its present position on, in pieces of ``CHUNK`` bytes; the last one may be shorter."""
    while chunk := file.read(CHUNK):
        yield chunk


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file is made of: its size, and a digest of each chunk."""

    size: int
    digests: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of(cls, chunks: Iterable[bytes]) -> "Survey":
        """Of a file in chunks."""
        size, digests = 0, []
        for chunk in chunks:
            size += len(chunk)
            digests.append(sha256(chunk).digest())
        return cls(size, tuple(digests))

    @property
    def name(self) -> str:
        """Stands for the content of the file: no other has the same name."""
        return sha256(b"".join(self.digests)).hexdigest()

    def check(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks, each proved to be what it was.

        Raises:
            AttachmentChanged: it is not; what comes before it was.
        """
        known = iter(self.digests)
        for chunk in chunks:
            if not hmac.compare_digest(sha256(chunk).digest(), next(known, b"")):
                raise AttachmentChanged
            yield chunk
        if next(known, None) is not None:
            raise AttachmentChanged


def seal(chunks: Iterable[bytes], *, size: int, secret: bytes, iv: bytes) -> Iterator[bytes]:
    """Encrypt a file of ``size`` bytes; gives out what to upload, in pieces of at most ``PIECE`` bytes.

    Args:
        chunks: the file, each of ``CHUNK`` bytes but the last one.
        secret: 64 bytes, a key for AES-256 and one for HMAC-SHA256.
        iv: 16 bytes that were never used with this secret for another file.

    Raises:
        ValueError: ``secret`` or ``iv`` is not of its size, or ``chunks`` are not of ``size`` bytes.
    """
    aes, mac = _aes(secret, iv).encryptor(), _mac(secret)
    padder = PKCS7(AES.block_size).padder()
    mac.update(iv)
    piece = iv
    for chunk in _with_zeros(chunks, size):
        ciphertext = aes.update(padder.update(chunk))
        mac.update(ciphertext)
        if len(piece) + len(ciphertext) > PIECE - _BLOCK - MAC:  # room for the end, if this is the last one
            yield piece
            piece = b""
        piece += ciphertext
    last = aes.update(padder.finalize()) + aes.finalize()
    mac.update(last)
    yield piece + last + mac.finalize()


def unseal(sealed: BinaryIO, *, size: int, secret: bytes, digest: bytes) -> Iterator[bytes]:
    """Decrypt what was uploaded, all of which is proved before the first byte is given out.

    Args:
        sealed: everything that was downloaded, read twice from its beginning.
        size: bytes of the file, from its pointer, as ``secret`` (64 bytes) and ``digest`` (32 bytes).

    Raises:
        AttachmentCorrupt: it is not what the pointer was made for, or was not padded as it has to be.
        ValueError: ``secret`` is not of its size.
    """
    _verify(sealed, size=size, secret=secret, digest=digest)
    sealed.seek(0)
    aes, unpadder = _aes(secret, sealed.read(IV)).decryptor(), PKCS7(AES.block_size).unpadder()
    left, zeros = size, padded_size(size) - size
    try:
        for some in _read(sealed, sealed_length(size) - IV - MAC):
            padded = unpadder.update(aes.update(some))
            plain, rest = padded[:left], padded[left:]
            left, zeros = left - len(plain), zeros - _count_zeros(rest)
            yield plain
        padded = unpadder.update(aes.finalize()) + unpadder.finalize()
    except ValueError:
        raise AttachmentCorrupt from None
    plain, rest = padded[:left], padded[left:]
    if zeros != _count_zeros(rest) or len(plain) != left:
        raise AttachmentCorrupt
    yield plain


def _verify(sealed: BinaryIO, *, size: int, secret: bytes, digest: bytes) -> None:
    """Check length, digest and MAC, the latter two whatever the other says."""
    sealed.seek(0)
    mac, everything = _mac(secret), sha256()
    for some in _read(sealed, sealed_length(size) - MAC):
        mac.update(some)
        everything.update(some)
    sent = sealed.read(MAC)
    everything.update(sent)
    is_digest = hmac.compare_digest(everything.digest(), digest)
    is_mac = hmac.compare_digest(mac.finalize(), sent)
    if not (is_digest and is_mac) or sealed.read(1):
        raise AttachmentCorrupt


def _read(sealed: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0:
        some = sealed.read(min(CHUNK, length))
        if not some:
            raise AttachmentCorrupt
        length -= len(some)
        yield some


def _with_zeros(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """A file and its padding, in chunks."""
    left, zeros = size, padded_size(size) - size
    for chunk in chunks:
        left -= len(chunk)
        fill = min(zeros, CHUNK - len(chunk)) if left == 0 else 0
        zeros -= fill
        yield chunk + bytes(fill)
    if left != 0:
        raise ValueError("a file is not of the size that was said")
    while zeros > 0:
        fill = min(zeros, CHUNK)
        zeros -= fill
        yield bytes(fill)


def _count_zeros(padding: bytes) -> int:
    if padding.count(0) != len(padding):
        raise AttachmentCorrupt
    return len(padding)


def _aes(secret: bytes, iv: bytes) -> Cipher[CBC]:
    if len(secret) != ATTACHMENT_SECRET:
        raise ValueError("the secret of an attachment is 64 bytes")
    return Cipher(AES(secret[:_AES_KEY]), CBC(iv))


def _mac(secret: bytes) -> HMAC:
    if len(secret) != ATTACHMENT_SECRET:
        raise ValueError("the secret of an attachment is 64 bytes")
    return HMAC(secret[_AES_KEY:], SHA256())
