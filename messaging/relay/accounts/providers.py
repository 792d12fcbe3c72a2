"""How a verification code reaches the owner of a number.

``console`` prints it, ``file:PATH`` appends it as a JSON line: both for development and for tests, and for an operator
who hands codes out in person. ``webhook:URL`` gives it to the operator's own sender (``accounts.webhook``). With
``invite``, and to numbers that no telephone has, the relay sends nothing: what proves something is an invite
(``accounts.invites``).
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class CodeMessage:
    """A code on its way. ``transport`` is ``sms`` or ``voice``; ``client`` is what the caller says it is, or empty."""

    number: str = field(repr=False)
    code: str = field(repr=False)
    transport: str
    client: str = field(repr=False)


class DeliveryFailed(Exception):
    """A code was not delivered.

    ``permanent`` says that trying again is no use; ``error`` (the name of a type) and ``status`` (of HTTP) are for the log.
    """

    def __init__(self, *, permanent: bool, error: str | None = None, status: int | None = None) -> None:
        super().__init__("the code was not delivered")
        self.permanent = permanent
        self.error = error
        self.status = status


class CodeProvider(Protocol):
    """Delivers codes."""

    async def deliver(self, message: CodeMessage) -> None:
        """Bring the code to the owner of the number.

        Raises:
            DeliveryFailed: it could not.
        """


@dataclass(frozen=True, slots=True)
class ConsoleProvider:
    """Prints the code on standard output, which is no log."""

    write: Callable[[str], object] = sys.stdout.write

    async def deliver(self, message: CodeMessage) -> None:
        """Print one line."""
        self.write(f"verification code for {message.number}: {message.code}\n")
        sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class FileProvider:
    """Appends ``{"number", "code"}`` to a file that its owner alone may read."""

    path: Path

    async def deliver(self, message: CodeMessage) -> None:
        """Append one line."""
        line = json.dumps({"number": message.number, "code": message.code}) + "\n"
        try:
            await asyncio.to_thread(self._append, line)
        except OSError as error:
            raise DeliveryFailed(permanent=False, error=type(error).__name__) from None

    def _append(self, line: str) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(line)
