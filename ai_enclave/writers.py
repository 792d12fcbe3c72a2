"""Which engine writes, if any: weights in a folder, weights that only a key opens, or a model server on this machine.

A key is released to this enclave only after its evidence was seen. The simulated TEE's measurement names the weights; on hardware what
is measured is the image, so the weights have to be in it, or under a root hash that is.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ai_enclave.engine import Writer
from ai_enclave.engine.interface import WriterKind
from ai_enclave.engine.weights import EngineError
from attestation.collecting import Attester

_LABEL = b"subrosa weights v1\x00"


@dataclass(frozen=True, slots=True)
class PlainWeights:
    """A Hugging Face directory that anybody who has this machine's disk can read."""

    folder: Path
    int8: bool = False


@dataclass(frozen=True, slots=True)
class SealedWeights:
    """A directory made by ``python -m ai_enclave.engine.seal``, and for development the file with its key."""

    folder: Path
    unsafe_key_file: Path
    int8: bool = False


@dataclass(frozen=True, slots=True)
class ModelServer:
    """A server on loopback, the model that it serves, and the digest of the weights that it was started with."""

    url: str
    model: str
    digest: bytes
    api_key: str | None = field(default=None, repr=False)


WriterSettings = PlainWeights | SealedWeights | ModelServer


@dataclass(frozen=True, slots=True)
class Measured:
    """What the measurement says of a writer: which kind of engine, and the digest of its weights."""

    kind: WriterKind
    digest: bytes

    @classmethod
    def of(cls, writer: Writer | None) -> "Measured | None":
        """Of one that is loaded."""
        return None if writer is None else cls(writer.kind, writer.weights_digest)


def all_weights(reader: bytes, writer: Measured | None) -> bytes:
    """32 bytes that name everything that an enclave speaks with: the digest of its reader, and its writer."""
    if writer is None:
        return reader
    return hashlib.sha256(_LABEL + reader + writer.digest + writer.kind.encode()).digest()


def measured(settings: WriterSettings) -> Measured:
    """What the measurement will say of the writer that ``settings`` name.

    Raises:
        EngineError: see :func:`digest_of`.
    """
    match settings:
        case PlainWeights(int8=int8) | SealedWeights(int8=int8):
            return Measured(WriterKind.LOCAL_INT8 if int8 else WriterKind.LOCAL, digest_of(settings))
        case ModelServer():
            return Measured(WriterKind.SERVER, digest_of(settings))


def digest_of(settings: WriterSettings) -> bytes:
    """The digest of the weights that ``settings`` name, which needs no key. Reads a plain directory whole.

    Raises:
        EngineError: they are not there, or are no weights.
    """
    from ai_enclave.engine.local.files import Folder, VerifiedFiles
    from ai_enclave.engine.sealed import sealed_digest

    match settings:
        case PlainWeights(folder):
            return VerifiedFiles.of(Folder(folder)).digest
        case SealedWeights(folder):
            return sealed_digest(folder)
        case ModelServer(digest=digest):
            return digest


async def open_writer(settings: WriterSettings, attester: Callable[[Measured], Attester]) -> Writer:
    """The engine, ready to answer. ``attester`` gives this machine's, for an enclave with that writer.

    Raises:
        EngineError: it cannot be used, or its key was not released.
        CollectionError: the hardware does not vouch for this enclave.
    """
    writer = await _made(settings, attester)
    try:
        await writer.warm()
    except EngineError:
        await writer.close()
        raise
    return writer


async def _made(settings: WriterSettings, attester: Callable[[Measured], Attester]) -> Writer:
    # Imported late: torch takes seconds, and a server needs none.
    from ai_enclave.engine.keys import UnsafeFileKeyProvider, obtain_key
    from ai_enclave.engine.peer import PeerEngine, PeerSettings
    from ai_enclave.engine.sealed import SealedFiles

    match settings:
        case ModelServer(url, model, digest, api_key):
            return PeerEngine(PeerSettings(url=url, model=model, weights_digest=digest, api_key=api_key))
        case PlainWeights(folder, int8):
            from ai_enclave.engine.local.engine import LocalEngine
            from ai_enclave.engine.local.files import Folder

            return await asyncio.to_thread(LocalEngine.load, Folder(folder), name=folder.name, int8=int8)
        case SealedWeights(folder, key_file, int8):
            from ai_enclave.engine.local.engine import LocalEngine

            known = await asyncio.to_thread(measured, settings)
            digest = known.digest
            key = await obtain_key(UnsafeFileKeyProvider(key_file), attester(known).attest, digest)
            files = await asyncio.to_thread(SealedFiles.open, folder, key)
            return await asyncio.to_thread(LocalEngine.load, files, name=folder.name, expected=digest, int8=int8)
