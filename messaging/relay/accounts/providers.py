"""How a verification code reaches the owner of a number.

``console`` prints it, ``file:PATH`` appends it as a JSON line: both for development and for tests, and for an operator
who hands codes out in person.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from messaging.relay.errors import StartupError


class CodeProvider(Protocol):
    """Delivers codes. ``deliver`` raises ``OSError`` if it could not."""

    async def deliver(self, number: str, code: str) -> None:
        """Bring ``code`` to the owner of ``number``."""


@dataclass(frozen=True, slots=True)
class ConsoleProvider:
    """Prints the code on standard output, which is no log."""

    write: Callable[[str], object] = sys.stdout.write

    async def deliver(self, number: str, code: str) -> None:
        """Print one line."""
        self.write(f"verification code for {number}: {code}\n")
        sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class FileProvider:
    """Appends ``{"number", "code"}`` to a file that its owner alone may read."""

    path: Path

    async def deliver(self, number: str, code: str) -> None:
        """Append one line."""
        await asyncio.to_thread(self._append, json.dumps({"number": number, "code": code}) + "\n")

    def _append(self, line: str) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(line)


def provider_of(name: str) -> CodeProvider:
    """The provider that ``--verification`` names.

    Raises:
        StartupError: there is no such provider.
    """
    kind, _, rest = name.partition(":")
    if name == "console":
        return ConsoleProvider()
    if kind == "file" and rest:
        return FileProvider(Path(rest))
    raise StartupError("verification must be console or file:PATH")
