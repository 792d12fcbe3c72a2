"""What a bot's program has handled, written down before it says so: a SQLite file, each line committed with ``fsync``.

The bot that is written with the SDK and the target of a webhook use the same, and the test reads along.
"""

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

ANSWERED = 10  # every message with such a number is answered

_BUSY_SECONDS = 30
_SCHEMA = """
CREATE TABLE IF NOT EXISTS handled (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL,
    conversation TEXT NOT NULL,
    text TEXT NOT NULL,
    begun REAL NOT NULL,
    at REAL NOT NULL
)
"""


@dataclass(frozen=True, slots=True)
class Handled:
    """One message that was handled, once. ``event`` is the name that the bot was told.

    It was given to the bot's program at ``begun`` or later, and written down ``at``: seconds since 1970.
    """

    event: str
    conversation: str
    user: int
    number: int
    begun: float
    at: float


class Ledger:
    """The file. One process writes, one reads."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(_SCHEMA)
        self._read = 0

    def close(self) -> None:
        """Read and write no more."""
        self._db.close()

    def note(self, event: str, conversation: str, text: str, *, begun: float) -> None:
        """Write a message down; when this returns it is on the disk."""
        values = (event, conversation, text, begun, time.time())
        self._db.execute("INSERT INTO handled (event, conversation, text, begun, at) VALUES (?, ?, ?, ?, ?)", values)

    def news(self) -> list[Handled]:
        """What was written since this was called last, in order."""
        rows = self._db.execute("SELECT * FROM handled WHERE id > ? ORDER BY id", (self._read,)).fetchall()
        self._read = rows[-1][0] if rows else self._read
        return [
            Handled(event, conversation, *read(text), begun, at) for _, event, conversation, text, begun, at in rows
        ]


def write(user: int, number: int) -> str:
    """What a user says."""
    return f"{user} {number}"


def read(text: str) -> tuple[int, int]:
    """Undo :func:`write`."""
    user, number = map(int, text.split())
    return user, number


def answer_to(text: str) -> str | None:
    """What the bot answers, if it does."""
    return f"heard {text}" if read(text)[1] % ANSWERED == 0 else None
