"""Who hands the key of sealed weights to an enclave, and what it sees first: evidence that speaks for a fresh key of ours.

    enclave                                             key provider
      challenge?                                 ->
                                                 <-     32 random bytes
      makes an X25519 key, alone in its memory
      has its hardware sign a nonce of these
      evidence, public key, weights digest       ->     appraises the evidence as any client does, then decides
                                                 <-     the content key, encrypted to the public key (HPKE, RFC 9180)

The nonce is ``SHA-256("subrosa key release v1", 0x00, challenge, public key, weights digest)``: evidence of another enclave, for
other weights or for an older challenge does not fit. The key is good for these weights only as long as nobody else has it: what
a provider has to ask of the evidence (which release, which firmware, no debugging) is its policy, ``attestation.appraise``.
"""

import asyncio
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from ai_enclave.engine.sealed import KEY
from ai_enclave.engine.weights import EngineError
from attestation import AttestationError, CpuType, EvidenceDocument, KeySection
from attestation.binding import verify_binding
from attestation.simulated import verify_report

CHALLENGE = 32  # bytes, random, from the provider
RELEASE_SECONDS = 300.0  # for all of it; the hardware alone may take two minutes
MAX_KEY_FILE = 128  # bytes

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_LABEL = b"subrosa key release v1\x00"
_HEXADECIMAL = re.compile(rb"[0-9a-f]{%d}\n?" % (2 * KEY))

Attest = Callable[[bytes, KeySection], bytes]  # a nonce of 32 bytes, and keys: an evidence document; blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """What an enclave shows to get a key.

    ``evidence`` answers :attr:`nonce` and speaks for :data:`NO_KEYS`; ``public_key`` is X25519, 32 bytes; ``weights`` the weights
    digest, 32 bytes; ``challenge`` is the provider's own: it has to check that it is one that it gave, and once.
    """

    evidence: bytes = field(repr=False)
    challenge: bytes
    public_key: bytes
    weights: bytes

    @property
    def nonce(self) -> bytes:
        """The 32 bytes that the evidence has to answer."""
        return release_nonce(self.challenge, self.public_key, self.weights)


class KeyProvider(Protocol):
    """Who has the keys of weights."""

    async def challenge(self) -> bytes:
        """32 random bytes, for one release.

        Raises:
            EngineError: it cannot be reached.
        """

    async def release(self, request: ReleaseRequest) -> bytes:
        """The content key as :func:`encrypt_key` encrypts it, if the provider accepts the evidence.

        Raises:
            EngineError: it does not, or cannot be reached.
        """


# Evidence for a key release speaks for no Signal identity and no receipts: no client could take it for an assistant's.
NO_KEYS = KeySection(b"\x05" + bytes(32), bytes(32), "subrosa key release")


def release_nonce(challenge: bytes, public_key: bytes, weights: bytes) -> bytes:
    """What evidence for a release has to answer, 32 bytes, of three times 32 bytes.

    Raises:
        EngineError: one has another length.
    """
    if [len(part) for part in (challenge, public_key, weights)] != [CHALLENGE, 32, 32]:
        raise EngineError("the provider's challenge, the public key and the weights digest are 32 bytes each")
    return hashlib.sha256(_LABEL + challenge + public_key + weights).digest()


async def obtain_key(provider: KeyProvider, attest: Attest, weights: bytes, seconds: float = RELEASE_SECONDS) -> bytes:
    """Get the content key of weights, over whatever lies between: only this enclave can decrypt it.

    Args:
        provider: who has it.
        attest: this machine's, as ``Attester.attest``; called in a thread.
        weights: the weights digest (``sealed_digest``).
        seconds: for all of it.

    Raises:
        EngineError: it was not released in time, or is none.
        CollectionError: the hardware does not vouch for this enclave.
    """
    private_key = X25519PrivateKey.generate()
    try:
        async with asyncio.timeout(seconds):
            request = await _request(provider, attest, private_key, weights)
            encrypted = await provider.release(request)
    except TimeoutError:
        raise EngineError(f"the key of the weights was not released within {seconds:.0f} seconds") from None
    return _decrypt(encrypted, private_key, request)


async def _request(
    provider: KeyProvider, attest: Attest, private_key: X25519PrivateKey, weights: bytes
) -> ReleaseRequest:
    challenge, public_key = await provider.challenge(), private_key.public_key().public_bytes_raw()
    nonce = release_nonce(challenge, public_key, weights)
    evidence = await asyncio.to_thread(attest, nonce, NO_KEYS)
    return ReleaseRequest(evidence=evidence, challenge=challenge, public_key=public_key, weights=weights)


def encrypt_key(key: bytes, request: ReleaseRequest) -> bytes:
    """The provider's side: ``key`` (32 bytes) for whoever made ``request``. Its evidence has been appraised before.

    Raises:
        EngineError: the key, or what is to encrypt it, has another length, or is none.
    """
    if len(key) != KEY:
        raise EngineError(f"the key of sealed weights is {KEY} bytes")
    info = _LABEL + request.nonce
    try:
        return _SUITE.encrypt(key, X25519PublicKey.from_public_bytes(request.public_key), info=info)
    except ValueError:  # a point of low order
        raise EngineError("the public key of the request is none") from None


def _decrypt(encrypted: bytes, private_key: X25519PrivateKey, request: ReleaseRequest) -> bytes:
    try:
        key = _SUITE.decrypt(encrypted, private_key, info=_LABEL + request.nonce)
    except (InvalidTag, ValueError):
        raise EngineError("what the key provider released does not open: it was meant for another enclave") from None
    if len(key) != KEY:
        raise EngineError("what the key provider released is not the key of sealed weights")
    return key


class UnsafeFileKeyProvider:
    """For development: the key lies in a file beside the weights, so that nothing is secret.

    It accepts evidence of the simulated TEE and no other: on real hardware such a file would look like protection.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._challenge = b""

    async def challenge(self) -> bytes:
        """New random bytes; the last ones are the ones that count."""
        self._challenge = secrets.token_bytes(CHALLENGE)
        return self._challenge

    async def release(self, request: ReleaseRequest) -> bytes:
        """The key in the file.

        Raises:
            EngineError: the evidence is not simulated or does not fit, or the file holds no key.
        """
        challenge, self._challenge = self._challenge, b""
        if not challenge or request.challenge != challenge:
            raise EngineError("the evidence answers no challenge of this key provider")
        _check_simulated(request)
        return encrypt_key(await asyncio.to_thread(read_key_file, self._path), request)


def _check_simulated(request: ReleaseRequest) -> None:
    try:
        document = EvidenceDocument.parse(request.evidence)
        if document.cpu.type is not CpuType.SIMULATED:
            raise EngineError(
                "a key file is for the simulated TEE only: on hardware the key of the weights comes from a key provider"
            )
        reported = verify_report(document.cpu.report).report_data
        verify_binding(reported, nonce=request.nonce, keys=NO_KEYS, devices=document.devices)
    except AttestationError:
        raise EngineError("the evidence does not speak for this enclave's key") from None


def read_key_file(path: Path) -> bytes:
    """The key in a file: 64 hexadecimal digits.

    Raises:
        EngineError: it cannot be read, holds something else, or others than its owner may read or write it.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_KEY_FILE)
    except OSError as error:
        raise EngineError(f"the key file {path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise EngineError(f"the key file {path} can be read by others: chmod 600 it")
    if not _HEXADECIMAL.fullmatch(content):
        raise EngineError(f"the key file {path} does not hold a key: 64 hexadecimal digits, and nothing else")
    return bytes.fromhex(content.decode())


def write_key_file(path: Path) -> bytes:
    """Make a key, and a file that only its owner can read.

    Raises:
        EngineError: the file is there already, or cannot be made.
    """
    key = secrets.token_bytes(KEY)
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "w") as file:
            file.write(key.hex() + "\n")
            file.flush()
            os.fsync(number)
    except FileExistsError:
        raise EngineError(
            f"the key file {path} exists: it is not overwritten, as weights may be sealed with it"
        ) from None
    except OSError as error:
        raise EngineError(f"the key file {path} cannot be made: {error.strerror}") from None
    return key
