"""Reading a file that a kernel or an operator fills, without trusting its size."""

import os
from pathlib import Path

from attestation.collecting.errors import OversizedAnswer

_CHUNK = 64 * 1024  # bytes


def read_bounded(path: Path, limit: int) -> bytes:
    """All of ``path``.

    Attributes of configfs and tables of ACPI say nothing true about their size beforehand, so it is read until it ends.

    Raises:
        OversizedAnswer: it has more than ``limit`` bytes.
        OSError: as the system says.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while chunk := os.read(descriptor, min(_CHUNK, limit + 1 - len(data))):
            data += chunk
            if len(data) > limit:
                raise OversizedAnswer(f"{path.name} has more than {limit} bytes")
    finally:
        os.close(descriptor)
    return data
