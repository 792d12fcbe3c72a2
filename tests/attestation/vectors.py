"""Recorded evidence of real machines: a folder beside the repository, or where SUBROSA_VECTORS says. Not part of the repository."""

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("SUBROSA_VECTORS") or Path(__file__).parents[3] / "shared" / "vectors")
MISSING = "recorded evidence is not here: set SUBROSA_VECTORS to its folder"
PRESENT = (FOLDER / "MANIFEST.json").is_file()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the manifest: files, a time to judge at, and the verdicts that are expected."""

    name: str
    kind: str
    files: tuple[tuple[str, str, str], ...]  # role, path, SHA-256
    time: datetime
    genuine: bool
    accepted: bool
    reason: str

    def read(self, role: str) -> bytes:
        """The one file of this role."""
        (data,) = self.read_all(role)
        return data

    def read_all(self, role: str) -> list[bytes]:
        """All files of this role, as the manifest knows them."""
        return [read(path, digest) for its_role, path, digest in self.files if its_role == role]


def read(path: str, digest: str | None = None) -> bytes:
    """One file of the folder, unchanged. Without the folder the test is skipped: here, so that pytest counts all in one line."""
    if not PRESENT:
        pytest.skip(MISSING)
    data = (FOLDER / path).read_bytes()
    assert digest is None or hashlib.sha256(data).hexdigest() == digest, f"{path} is not the file of the manifest"
    return data


def entries() -> dict[str, Entry]:
    """All entries about attestation by name."""
    manifest = json.loads(read("MANIFEST.json"))
    return {entry["name"]: _entry(entry) for entry in manifest["entries"] if entry["kind"] not in _OTHER}


_OTHER = {"merkle", "ohttp", "tlog"}  # of the transparency log and the network layer
_ANY_TIME = "2026-01-01T00:00:00+00:00"


def _entry(entry: dict[str, Any]) -> Entry:
    return Entry(
        name=entry["name"],
        kind=entry["kind"],
        files=tuple((file["role"], file["path"], file["sha256"]) for file in entry["files"]),
        time=datetime.fromisoformat(entry["freeze_time"] or _ANY_TIME).astimezone(UTC),
        genuine=entry["expected"]["crypto"] == "valid",
        accepted=entry["expected"]["policy"] == "accept",
        reason=entry["expected"]["reason"],
    )
