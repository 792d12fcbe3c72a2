"""Where weights come from, and that what is used is what was hashed.

Whoever holds the disk may change a file between two reads. So a file is read into our own memory, hashed there, and used from there; the
second read of a file must give what the first one gave. This is why there is no mapping of files into memory.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ai_enclave.engine.weights import EngineError

CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer.json"
WHOLE = "model.safetensors"
MAX_FILES = 1000  # that are used of one directory
MAX_JSON_BYTES = 64 * 1024 * 1024  # of one file that is no weights; the greatest known tokenizer has 33 MB
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".gguf")


class Files(Protocol):
    """A directory of weights. What stands behind it may be a folder, or something encrypted."""

    def names(self) -> list[str]:
        """The names of its files."""

    def read(self, name: str) -> bytes:
        """All of one file.

        Raises:
            OSError, EngineError: it cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder on a disk."""

    path: Path

    def names(self) -> list[str]:
        """The files that stand in it; folders in it are not looked at."""
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_file())

    def read(self, name: str) -> bytes:
        """All of one file."""
        return (self.path / name).read_bytes()


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file was when it was hashed."""

    size: int  # bytes
    digest: str  # SHA-256, hexadecimal


@dataclass(frozen=True, slots=True)
class VerifiedFiles:
    """The files of a directory that are used, each of them hashed. One file at a time is in memory."""

    source: Files
    manifest: Mapping[str, Entry]

    @classmethod
    def of(cls, source: Files, expected: bytes | None = None) -> "VerifiedFiles":
        """Hash what would be used, before any of it is parsed.

        Args:
            source: the directory.
            expected: the digest that it must have, 32 bytes; ``None`` takes any.

        Raises:
            EngineError: files are missing, are no safetensors, cannot be read, or have another digest.
        """
        try:
            names = used_names(source.names())
        except OSError:
            raise EngineError("the directory of the weights cannot be read") from None
        verified = cls(source, {name: _entry(_read(source, name)) for name in names})
        if expected is not None and not hmac.compare_digest(verified.digest, expected):
            raise EngineError("the weights are not the expected ones: their digest is another; they are not used")
        return verified

    @property
    def digest(self) -> bytes:
        """SHA-256 over one line ``digest size name`` for each used file, in the order of the names."""
        lines = (f"{entry.digest} {entry.size} {name}\n" for name, entry in sorted(self.manifest.items()))
        return hashlib.sha256("".join(lines).encode()).digest()

    @property
    def weights(self) -> list[str]:
        """The names of the files with tensors."""
        return sorted(name for name in self.manifest if name.endswith(".safetensors"))

    def has(self, name: str) -> bool:
        """Whether there is this file."""
        return name in self.manifest

    def read(self, name: str) -> bytes:
        """All of one file, which is what was hashed.

        Raises:
            EngineError: it is not in the manifest, or not what it was.
        """
        if name not in self.manifest:
            raise EngineError(f"the directory of the weights has no {name}")
        content = _read(self.source, name)
        if _entry(content) != self.manifest[name]:
            raise EngineError(f"{name} was changed while it was read; the weights are not used")
        return content

    def text(self, name: str) -> bytes:
        """A file that is no weights, of bounded size.

        Raises:
            EngineError: as ``read``, or it is far too large.
        """
        if name in self.manifest and self.manifest[name].size > MAX_JSON_BYTES:
            raise EngineError(f"{name} is too large to be what it should be")
        return self.read(name)


def used_names(names: list[str]) -> list[str]:
    """Which files of a directory are used. Nothing else in it is ever opened, programs least of all.

    Raises:
        EngineError: something is missing, or the weights are not safetensors.
    """
    there = set(names)
    shards = [WHOLE] if WHOLE in there else sorted(name for name in there if _SHARD.fullmatch(name))
    if not shards:
        if any(name.endswith(_OTHER_WEIGHTS) for name in there):
            raise EngineError(
                "the weights are not safetensors; other formats can run programs and are refused: convert them"
            )
        raise EngineError("the directory holds no weights: model.safetensors or its numbered parts are missing")
    if len(shards) > MAX_FILES:
        raise EngineError(f"the weights have more than {MAX_FILES} parts")
    for name in (CONFIG, TOKENIZER):
        if name not in there:
            raise EngineError(f"the directory of the weights has no {name}")
    optional = [GENERATION] if GENERATION in there else []
    return sorted([*shards, CONFIG, TOKENIZER, *optional])


def _entry(content: bytes) -> Entry:
    return Entry(len(content), hashlib.sha256(content).hexdigest())


def _read(source: Files, name: str) -> bytes:
    try:
        return source.read(name)
    except OSError:
        raise EngineError(f"{name} cannot be read") from None
