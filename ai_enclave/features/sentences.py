"""Messages cut into sentences, which can each stand as one line: a message may say several things."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ai_enclave.features.conversation import Message, Thread
from ai_enclave.features.guard import is_instruction, visible

MAX_WORDS = 32  # of one unit; the rest is cut, and shown to be

_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])\s+|\n+")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Unit:
    """One candidate for a line. ``place`` is its message's position in the thread."""

    message: Message
    place: int
    text: str = field(repr=False)
    suspicious: bool

    @property
    def words(self) -> list[str]:
        """Its words in lower case."""
        return words_of(self.text)


def units_of(thread: Thread) -> list[Unit]:
    """All units of a thread, in order."""
    return [
        Unit(message, place, text, is_instruction(message.text))
        for place, message in enumerate(thread.messages)
        for text in _texts(visible(message.text))
    ]


def words_of(text: str) -> list[str]:
    """The words of ``text`` in lower case; numbers count as words, emoji do not."""
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def _texts(text: str) -> Iterator[str]:
    for part in _SENTENCE_END.split(text):
        flat = " ".join(part.split())
        if words_of(flat):
            yield _cut(flat)


def _cut(text: str) -> str:
    words = text.split(" ")
    return text if len(words) <= MAX_WORDS else " ".join(words[:MAX_WORDS]) + " …"
