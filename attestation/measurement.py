"""The measurement of a release: one digest over its files, names included."""

import hashlib
from collections.abc import Mapping

MEASUREMENT = 48  # bytes, as in SEV-SNP and TDX


def measure(files: Mapping[str, bytes]) -> bytes:
    """SHA-384 over the files of a release, in the order of their names.

    Name and content enter with their lengths, so that bytes cannot move from one to the other.
    """
    digest = hashlib.sha384(b"subrosa measurement v1\x00")
    for name, content in sorted(files.items()):
        for part in (name.encode(), hashlib.sha384(content).digest()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
