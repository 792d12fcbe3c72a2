"""What a line of a generating engine has to pass before anybody sees it: nothing in it may come from nowhere.

It compares words, not meaning: a line that leaves out a "not" of its message, or joins two true halves to one false
whole, passes. The lines of our own rules pass by construction. Where a check fails the caller shows the quotation
instead.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from ai_enclave.features.conversation import Thread
from ai_enclave.features.limits import MAX_LINE_CHARACTERS
from ai_enclave.features.people import People
from ai_enclave.features.render import RULE_WORDS, inside_quotes, without_emoji
from ai_enclave.features.sentences import read, read_share
from ai_enclave.features.text import MARKUP, harmless, visible, word_set, words_of
from ai_enclave.features.verbs import with_ending

# Words that carry no content, and may join what is cited. No negation is among them: "not" has to be cited.
_JOINING = word_set(
    "a an the and or but of in on at for with from by as to that this these those there then he she it its his her they them their we"
    " our us is are was were be been being am do does did have has had will would can could should shall may might must who which"
)
# What is copied exactly or not at all: whatever has a digit, a currency, or the form of an address.
_EXACT = re.compile(r"\d|[$€£¥₹₿]|@|://|^www\.|\w\.(?:[a-z]{2,}\b|\w+/)", re.IGNORECASE)
_EDGES = ".,;:!?…()[]{}<>‹›\"'‘’“”„‟«»"


class Ungrounded(Exception):
    """A line says what the messages that it cites do not."""


def check_line(text: str, cites: Sequence[str], thread: Thread) -> None:
    """Check that ``text`` rests on the messages of ``thread`` that it cites.

    It begins with the name of an author of one of them. Every content word occurs in a cited message, is (part of)
    the name of one of their authors or of whom they address, or is one of the rules' own words. Numbers, amounts,
    codes, phone numbers and addresses occur exactly so, and in one run, in one cited message. There is no markup, no
    second line, nothing invisible, and not more than ``MAX_LINE_CHARACTERS``.

    Args:
        text: the line, as it would be shown.
        cites: labels of messages, at least one; only labels of this request count.
        thread: the request's messages.

    Raises:
        Ungrounded: it does not. The error says which rule is broken, and nothing of the text.
    """
    messages = {message.id: message for message in thread.messages}
    if not cites or not set(cites) <= messages.keys():
        raise Ungrounded("a line cites messages of its request")
    if len(text) > MAX_LINE_CHARACTERS or visible(text) != text or MARKUP.search(text) or "  " in text:
        raise Ungrounded("a line is one line of plain text")
    cited = [messages[cite] for cite in cites]
    share = read_share(len(thread.messages))
    said = [harmless(read(message.text, share)) for message in cited]
    people = People(thread)
    speakers = list(dict.fromkeys(message.author for message in cited))
    if not any(begins_with(text, people.names[author]) for author in speakers):
        raise Ungrounded("a line begins with who said it")
    names = [name for author in speakers for name in (people.names[author], people.addressee(author)) if name]
    if not set(_words([text])) <= _allowed(said, names):
        raise Ungrounded("every word of a line is in the messages that it cites")
    runs = [f" {' '.join(_exact_or_not(part))} " for part in (*said, *names)]
    if not all(any(f" {run} " in whole for whole in runs) for run in _exact_runs(text)):
        raise Ungrounded("numbers, codes and addresses are copied exactly")


def begins_with(text: str, name: str) -> bool:
    """Whether a line begins with a name, and not with a longer word: "Sam brings it" with Sam's, "Samantha brings it" not."""
    return text.startswith(name) and not text[len(name) : len(name) + 1].isalnum()


def _allowed(said: Iterable[str], names: Iterable[str]) -> set[str]:
    words = _words(said)
    return words | {with_ending(word) for word in words} | _words(names) | RULE_WORDS | _JOINING | {"s"}


def _words(texts: Iterable[str]) -> set[str]:
    """Words as they are compared: in one case, and without the 's of a genitive."""
    return {word.casefold().removesuffix("'s") for text in texts for word in words_of(inside_quotes(text))}


def _exact_or_not(text: str) -> list[str]:
    """The words of a text as lines show them, without the signs around them; empty where there are only signs."""
    shown = inside_quotes(without_emoji(text))
    return [word.strip(_EDGES) for word in shown.split()]


def _exact_runs(text: str) -> Iterator[str]:
    """What stands together of what has to be exact: "+49 170 123" is one run."""
    run: list[str] = []
    for word in [*_exact_or_not(text), ""]:
        if word and _EXACT.search(word):
            run.append(word)
        elif run:
            yield " ".join(run)
            run = []
