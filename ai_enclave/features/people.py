"""The people of a conversation: what to call each, whom "you" means, and whom a sentence is addressed to."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property

from ai_enclave.features.conversation import Thread
from ai_enclave.features.names import UNNAMED, display_names, looks
from ai_enclave.features.score import STOP_WORDS
from ai_enclave.features.sentences import Unit
from ai_enclave.features.text import latin, word_set, words_of

EVERYONE = word_set(
    "all anybody anyone everybody everyone folks guys somebody someone team alle jemand tous quelqu'un todos alguien"
)
# Names that are also words: they call somebody only where the sentence sets them apart.
_ALSO_WORDS = word_set(
    "april art august bill chance dawn faith grace hope joy june mark max may pat penny ray rob rose sky sue will"
    " sunny summer autumn so an can do the you me"
)
_MIN_NAME = 2  # letters of a word by which somebody can be called
_LIKE_I_OR_A = "ail"  # letters that would be taken for these words


@dataclass(frozen=True)
class People:
    """Who is in ``thread``, for ``viewer`` (an author id, who need not have written)."""

    thread: Thread = field(repr=False)
    viewer: str | None = None

    @cached_property
    def everybody(self) -> tuple[str, ...]:
        """Ids: those whom the requester names, the authors, the viewer."""
        known = [*self.thread.names, *(message.author for message in self.thread.messages)]
        return tuple(dict.fromkeys(known if self.viewer is None else [*known, self.viewer]))

    @property
    def are_two(self) -> bool:
        """Whether it is between two people. That only two have written does not say so: others may be there of whom nothing is known."""
        return self.thread.members == 2 and len(self.everybody) <= 2

    @cached_property
    def names(self) -> dict[str, str]:
        """What to call each, no two confusable."""
        return display_names(self.everybody, self.thread.names)

    @cached_property
    def name_words(self) -> frozenset[str]:
        """Words by which people are called, in lower case."""
        return frozenset(self._called)

    @cached_property
    def name_looks(self) -> frozenset[str]:
        """How the words of all names look: family names, too, though nobody is called by these alone."""
        words = (word for name in self.names.values() if not name.startswith(UNNAMED) for word in words_of(name))
        return frozenset(look for word in words if _may_name(word) for look in looks(word))

    @cached_property
    def compared_names(self) -> frozenset[str]:
        """Names and first names as ``latin`` gives them."""
        return frozenset(latin(form) for name in self.names.values() for form in (name, name.split()[0]))

    @cached_property
    def _called(self) -> dict[str, set[str]]:
        called: defaultdict[str, set[str]] = defaultdict(set)
        for person, name in self.names.items():
            first = next(iter(words_of(name)), "")
            if _may_name(first) and not name.startswith(UNNAMED):
                called[first].add(person)
        return called

    @cached_property
    def _several_wrote(self) -> bool:
        """Of two, one always follows the other: that says nothing if there are others who are not heard here."""
        return len({message.author for message in self.thread.messages} | {self.viewer}) > 2

    @cached_property
    def _before(self) -> tuple[str | None, ...]:
        """For each message, who wrote last before its author began."""
        before: list[str | None] = []
        current: str | None = None
        previous: str | None = None
        for message in self.thread.messages:
            if message.author != current:
                previous, current = current, message.author
            before.append(previous)
        return tuple(before)

    def addressee(self, author: str) -> str | None:
        """What to call whom ``author`` means by "you": known only between two people, the other of them named."""
        if not self.are_two:
            return None
        name = next((self.names[person] for person in self.everybody if person != author), UNNAMED)
        return None if name.startswith(UNNAMED) else name

    def called_in(self, unit: Unit) -> set[str]:
        """Those whom a unit calls by name."""
        found: set[str] = set()
        for word in set(unit.words) & self.name_words:
            if word not in _ALSO_WORDS or _set_apart(word, unit.text):
                found |= self._called[word]
        return found - {unit.message.author}

    def is_to_all(self, unit: Unit) -> bool:
        """Whether a unit of somebody else speaks to everybody: "can anyone", or without "you" and without a name."""
        words = set(unit.words)
        to_all = bool(EVERYONE & words) or ("you" not in words and not self.called_in(unit))
        return to_all and unit.message.author != self.viewer

    def is_to_viewer(self, unit: Unit) -> bool:
        """Whether a unit speaks to the viewer: by name, between two people, or right after they spoke and to nobody else."""
        if self.viewer is None or unit.message.author == self.viewer:
            return False
        called = self.called_in(unit)
        if called:
            return self.viewer in called
        return self.are_two or (self._several_wrote and self._before[unit.place] == self.viewer)


def _may_name(word: str) -> bool:
    if word in STOP_WORDS - _ALSO_WORDS:
        return False
    return len(word) >= _MIN_NAME or (word.isalpha() and word not in _LIKE_I_OR_A)


def _set_apart(word: str, text: str) -> bool:
    name = re.escape(word)
    return re.search(rf"@{name}\b|^\W*{name}\s?[,:]|,\s?{name}\b\s?(?:[,.!?]|$)", text, re.IGNORECASE) is not None
