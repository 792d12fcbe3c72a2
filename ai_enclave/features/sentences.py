"""Messages cut into sentences, which can each stand as one line: a message may say several things.

What is read is bounded, and what one sender repeats counts once.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from ai_enclave.features.conversation import Message, Thread
from ai_enclave.features.guard import Mark, is_instruction, marks_of
from ai_enclave.features.limits import (
    LEAST_READ,
    MAX_READ,
    MAX_READ_IN_ALL,
    MAX_UNIT_CHARACTERS,
    MAX_UNIT_WORDS,
    MAX_UNITS,
    MAX_UNITS_OF_A_MESSAGE,
    MAX_WORD_CHARACTERS,
)
from ai_enclave.features.text import harmless, visible, words_of

CUT = "…"

_SENTENCE_END = re.compile(r"(?<=[.!?…。！？؟])\s+|\n+")
_ASKS = re.compile(r"[?？؟][^\w?？؟]{0,8}$")


@dataclass(frozen=True, slots=True)
class Unit:
    """One candidate for a line: visible, harmless text. ``place`` is its message's position in the thread."""

    message: Message
    place: int
    text: str = field(repr=False)
    words: tuple[str, ...] = field(repr=False)  # in lower case
    marks: frozenset[Mark]

    @property
    def asks(self) -> bool:
        """Whether it ends as a question."""
        return is_question(self.text)


def is_question(text: str) -> bool:
    """Whether ``text`` ends with a question mark, perhaps in a quotation or before an emoji."""
    return _ASKS.search(text) is not None


def read_share(messages: int) -> int:
    """How many characters of each message are read in a thread of so many messages."""
    return max(LEAST_READ, min(MAX_READ, MAX_READ_IN_ALL // max(messages, 1)))


def read(text: str, share: int) -> str:
    """The visible part of ``text`` that is read: its first ``share`` characters, in whole words."""
    if len(text) <= share:
        return visible(text)
    whole_words = text[:share].rsplit(maxsplit=1)[:1]
    return f"{visible(''.join(whole_words))} {CUT}"


def units_of(thread: Thread, names: Collection[str] = ()) -> list[Unit]:
    """The units of a thread, in order; of what one sender says in the same words more than once, the last.

    ``names`` are those of the people in the conversation, as ``latin`` gives them.
    """
    share = read_share(len(thread.messages))
    found: dict[tuple[str, tuple[str, ...]], Unit] = {}
    for place, message in enumerate(thread.messages):
        for unit in _units(message, place, share, names):
            key = (message.author, unit.words)
            found.pop(key, None)  # and so to the end: the later word stands
            found[key] = unit
    return _in_equal_shares(list(found.values()))


def _units(message: Message, place: int, share: int, names: Collection[str]) -> Iterator[Unit]:
    text = read(message.text, share)
    whole = {Mark.INSTRUCTION} if is_instruction(text) else set()
    count = 0
    for piece in _texts(text):
        words = tuple(words_of(piece))
        if words:
            yield Unit(message, place, piece, words, marks_of(piece, names) | whole)
            count += 1
        if count == MAX_UNITS_OF_A_MESSAGE:
            return


def _texts(text: str) -> Iterator[str]:
    for part in _SENTENCE_END.split(text):
        yield from _pieces(harmless(part).split(" "))


def _pieces(words: Sequence[str]) -> Iterator[str]:
    """A sentence, or if it is too long, pieces of it that show where they were cut."""
    piece: list[str] = []
    size, cut = 0, ""
    for word in words:
        shown = word if len(word) <= MAX_WORD_CHARACTERS else CUT
        if piece and (len(piece) == MAX_UNIT_WORDS or size + len(shown) > MAX_UNIT_CHARACTERS):
            yield f"{cut}{' '.join(piece)} {CUT}"
            piece, size, cut = [], 0, f"{CUT} "
        piece.append(shown)
        size += len(shown) + 1
    yield cut + " ".join(piece)


def _in_equal_shares(units: list[Unit]) -> list[Unit]:
    """At most ``MAX_UNITS``: the latest of every sender."""
    if len(units) <= MAX_UNITS:
        return units
    share = max(1, MAX_UNITS // len({unit.message.author for unit in units}))
    taken: Counter[str] = Counter()
    kept = []
    for unit in reversed(units):
        taken[unit.message.author] += 1
        if taken[unit.message.author] <= share:
            kept.append(unit)
    return kept[:MAX_UNITS][::-1]
