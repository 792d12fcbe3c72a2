"""The key of weights goes to the enclave whose hardware signed for it, and is of no use on the way."""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from ai_enclave.engine import keys
from ai_enclave.engine.keys import (
    NO_KEYS,
    ReleaseRequest,
    UnsafeFileKeyProvider,
    encrypt_key,
    obtain_key,
    read_key_file,
    release_nonce,
    write_key_file,
)
from ai_enclave.engine.weights import EngineError
from attestation import CpuEvidence, CpuType, EvidenceDocument, KeySection, SimulatedTee
from attestation.collecting import Attester

CONTENT_KEY = bytes(range(32))
WEIGHTS = b"w" * 32
ATTEST = Attester(SimulatedTee(bytes(48))).attest


class Recorded:
    """A provider over another, that keeps what passes and may change it."""

    def __init__(self, inner: UnsafeFileKeyProvider) -> None:
        self.inner = inner
        self.requests: list[ReleaseRequest] = []
        self.released: list[bytes] = []

    async def challenge(self) -> bytes:
        return await self.inner.challenge()

    async def release(self, request: ReleaseRequest) -> bytes:
        self.requests.append(request)
        self.released.append(await self.inner.release(self.changed(request)))
        return self.received(self.released[-1])

    def changed(self, request: ReleaseRequest) -> ReleaseRequest:
        return request

    def received(self, encrypted: bytes) -> bytes:
        return encrypted


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.key"
    path.touch(0o600)
    path.write_text(CONTENT_KEY.hex() + "\n")
    return path


async def test_the_key_arrives_and_nothing_that_passes_is_it(key_file: Path) -> None:
    provider = Recorded(UnsafeFileKeyProvider(key_file))
    assert await obtain_key(provider, ATTEST, WEIGHTS) == CONTENT_KEY
    assert CONTENT_KEY not in provider.released[0]
    assert CONTENT_KEY.hex().encode() not in provider.released[0] + provider.requests[0].evidence


async def test_every_release_has_a_key_and_a_challenge_of_its_own(key_file: Path) -> None:
    provider = Recorded(UnsafeFileKeyProvider(key_file))
    for _ in range(2):
        await obtain_key(provider, ATTEST, WEIGHTS)
    one, other = provider.requests
    assert one.public_key != other.public_key
    assert one.challenge != other.challenge
    assert one.evidence != other.evidence


async def test_evidence_speaks_for_no_assistant(key_file: Path) -> None:
    provider = Recorded(UnsafeFileKeyProvider(key_file))
    await obtain_key(provider, ATTEST, WEIGHTS)
    assert EvidenceDocument.parse(provider.requests[0].evidence).keys == NO_KEYS


@pytest.mark.parametrize("member", ["challenge", "public_key", "weights"])
async def test_evidence_fits_one_challenge_one_key_and_one_model(key_file: Path, member: str) -> None:
    class Changed(Recorded):
        def changed(self, request: ReleaseRequest) -> ReleaseRequest:
            return replace(request, **{member: b"x" * 32})

    with pytest.raises(EngineError, match=r"does not speak|answers no challenge"):
        await obtain_key(Changed(UnsafeFileKeyProvider(key_file)), ATTEST, WEIGHTS)


async def test_a_request_is_good_for_one_release(key_file: Path) -> None:
    provider = Recorded(UnsafeFileKeyProvider(key_file))
    await obtain_key(provider, ATTEST, WEIGHTS)
    with pytest.raises(EngineError, match="answers no challenge"):
        await provider.inner.release(provider.requests[0])
    await provider.challenge()
    with pytest.raises(EngineError, match="answers no challenge"):
        await provider.inner.release(provider.requests[0])


async def test_a_key_for_another_enclave_does_not_open(key_file: Path) -> None:
    class Replayed(Recorded):
        def received(self, encrypted: bytes) -> bytes:
            return self.released[0]

    provider = Replayed(UnsafeFileKeyProvider(key_file))
    assert await obtain_key(provider, ATTEST, WEIGHTS) == CONTENT_KEY
    with pytest.raises(EngineError, match="another enclave"):
        await obtain_key(provider, ATTEST, WEIGHTS)


@pytest.mark.parametrize("encrypted", [b"", b"x" * 31, b"x" * 80, b"x" * 10_000])
async def test_what_is_no_encrypted_key_is_refused(key_file: Path, encrypted: bytes) -> None:
    class Nonsense(Recorded):
        def received(self, _: bytes) -> bytes:
            return encrypted

    with pytest.raises(EngineError, match="does not open"):
        await obtain_key(Nonsense(UnsafeFileKeyProvider(key_file)), ATTEST, WEIGHTS)


async def test_a_key_of_another_length_is_refused(key_file: Path) -> None:
    class Short(Recorded):
        def received(self, _: bytes) -> bytes:
            public_key = X25519PublicKey.from_public_bytes(self.requests[-1].public_key)
            return keys._SUITE.encrypt(b"short", public_key, info=keys._LABEL + self.requests[-1].nonce)

    with pytest.raises(EngineError, match="not the key"):
        await obtain_key(Short(UnsafeFileKeyProvider(key_file)), ATTEST, WEIGHTS)


class Hardware:
    """Claims to be a processor that it is not."""

    def collect(self, report_data: bytes) -> CpuEvidence:
        return CpuEvidence(CpuType.TDX, SimulatedTee(bytes(48)).collect(report_data).report)


async def test_a_key_file_is_refused_on_hardware(key_file: Path) -> None:
    with pytest.raises(EngineError, match="simulated TEE only"):
        await obtain_key(UnsafeFileKeyProvider(key_file), Attester(Hardware()).attest, WEIGHTS)


async def test_evidence_that_nobody_signed_is_refused(key_file: Path) -> None:
    def forged(nonce: bytes, section: KeySection) -> bytes:
        document = EvidenceDocument.parse(ATTEST(nonce, section))
        return replace(document, cpu=replace(document.cpu, report=document.cpu.report[:-1] + b"!")).encode()

    for attest in (
        forged,
        lambda _nonce, _keys: b"evidence",
        lambda nonce, _: ATTEST(nonce, replace(NO_KEYS, release="x")),
    ):
        with pytest.raises(EngineError, match="does not speak"):
            await obtain_key(UnsafeFileKeyProvider(key_file), attest, WEIGHTS)


async def test_a_provider_that_does_not_answer_is_not_waited_for_forever(key_file: Path) -> None:
    class Silent(Recorded):
        async def release(self, request: ReleaseRequest) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

    with pytest.raises(EngineError, match="not released within"):
        await obtain_key(Silent(UnsafeFileKeyProvider(key_file)), ATTEST, WEIGHTS, seconds=0.05)


def test_lengths_are_checked_before_anything_is_hashed_or_encrypted() -> None:
    request = ReleaseRequest(evidence=b"", challenge=b"c" * 32, public_key=b"p" * 32, weights=WEIGHTS)
    assert len(request.nonce) == 32
    for wrong in (partial(release_nonce, b"", b"p" * 32, WEIGHTS), partial(encrypt_key, b"short", request)):
        with pytest.raises(EngineError, match="32 bytes"):
            wrong()
    with pytest.raises(EngineError, match="public key"):
        encrypt_key(CONTENT_KEY, replace(request, public_key=bytes(32)))


def test_a_new_key_file_is_for_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    key = write_key_file(tmp_path / "new.key")
    assert (tmp_path / "new.key").stat().st_mode & 0o777 == 0o600
    assert read_key_file(tmp_path / "new.key") == key
    with pytest.raises(EngineError, match="not overwritten"):
        write_key_file(tmp_path / "new.key")
    assert read_key_file(tmp_path / "new.key") == key
    assert write_key_file(tmp_path / "other.key") != key
    with pytest.raises(EngineError, match="cannot be made"):
        write_key_file(tmp_path / "missing/new.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_file_that_others_can_read_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(EngineError, match="chmod 600"):
        read_key_file(key_file)


@pytest.mark.parametrize(
    "content", ["", "secret words", "ab" * 31, "ab" * 33, "AB" * 32, "ab" * 32 + "\n\n", "zz" * 32]
)
def test_what_is_no_key_is_refused_and_not_told(key_file: Path, content: str) -> None:
    key_file.write_text(content)
    with pytest.raises(EngineError, match="does not hold a key") as caught:
        read_key_file(key_file)
    assert not content or content not in str(caught.value)


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"missing\.key cannot be read"):
        read_key_file(tmp_path / "missing.key")
