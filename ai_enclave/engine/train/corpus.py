"""The project's own chats, as they lie in ``engine/data``: what was written, and what people would want to be told of it.

One file for each setting, one chat a line, as JSON:

    {"id": "family-001", "lang": "en", "people": ["Ann", "Bob"], "messages": [["Ann", "Can you fetch Tim at 5?"],
     ["Bob", "Sure, I'll take the car", 0]], "summary": "Bob will fetch Tim at 5.", "key": [0, 1], "asks": [[0, "Bob"]],
     "questions": [[0, "Bob"]], "commitments": [1], "dates": [0], "decisions": [], "replies": [[1, "accept"]]}

A message is its author, its text, and, if it answers a certain message, that one's place. Every chat whose number ends in 0 or 5
is held out: nothing is trained on it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ai_enclave.engine.interface import INTENTS

DATA = Path(__file__).parents[1] / "data"
LANGUAGES: Final = ("en", "fr", "de", "es")
EVERYBODY: Final = "*"  # an ask or a question that goes to all others
MAX_PEOPLE, MAX_MESSAGES = 12, 400
_KEYS: Final = {
    "id", "lang", "people", "messages", "summary", "key", "asks", "questions", "commitments", "dates", "decisions", "replies",
}  # fmt: skip


class BadChat(Exception):
    """A chat is not as this module says; names the file, the line and the fault."""


@dataclass(frozen=True, slots=True)
class Said:
    """One message; ``answers`` is the place of the one that it replies to, if that is marked."""

    author: str
    text: str = field(repr=False)
    answers: int | None = None


@dataclass(frozen=True, slots=True)
class AnnotatedChat:
    """One chat, and what matters of it. Numbers are places in ``messages``, from 0."""

    id: str
    lang: str
    people: tuple[str, ...]
    messages: tuple[Said, ...]
    summary: str = field(repr=False)  # as somebody would tell it who read all of it
    key: frozenset[int]  # what the summary rests on
    asks: Mapping[int, frozenset[str]]  # who is asked to do something
    questions: Mapping[int, frozenset[str]]  # whose answer is wanted
    commitments: frozenset[int]
    dates: frozenset[int]  # something to come, and when
    decisions: frozenset[int]
    replies: Mapping[int, str]  # what a message does as a reply: one of ``engine.INTENTS``

    @property
    def held_out(self) -> bool:
        """Whether it is for measuring only."""
        return int(self.id.rsplit("-", 1)[1]) % 5 == 0


def read_corpus(folder: Path = DATA) -> tuple[AnnotatedChat, ...]:
    """All chats of a folder, in the order of their files and lines.

    Raises:
        BadChat: one of them is not as it should be.
    """
    chats = [chat for path in sorted(folder.glob("*.jsonl")) for chat in _read_file(path)]
    if len({chat.id for chat in chats}) != len(chats):
        raise BadChat("two chats have the same id")
    return tuple(chats)


def _read_file(path: Path) -> Iterator[AnnotatedChat]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            yield read_chat(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise BadChat(f"{path.name}, line {number}: {error}") from None


def read_chat(data: Mapping[str, Any]) -> AnnotatedChat:
    """One chat from its JSON.

    Raises:
        ValueError, KeyError, TypeError: it is not as this module says; the words say what is wrong.
    """
    if unknown := set(data) ^ _KEYS:
        raise ValueError(f"missing or unknown: {', '.join(sorted(unknown))}")
    people = tuple(data["people"])
    messages = tuple(Said(*message) for message in data["messages"])
    chat = AnnotatedChat(
        id=data["id"],
        lang=data["lang"],
        people=people,
        messages=messages,
        summary=data["summary"],
        key=frozenset(data["key"]),
        asks=_addressed(data["asks"], people, messages),
        questions=_addressed(data["questions"], people, messages),
        commitments=frozenset(data["commitments"]),
        dates=frozenset(data["dates"]),
        decisions=frozenset(data["decisions"]),
        replies=dict(data["replies"]),
    )
    _check(chat)
    return chat


def _addressed(
    marked: Sequence[Sequence[Any]], people: Sequence[str], messages: Sequence[Said]
) -> dict[int, frozenset[str]]:
    """Places with the people who are meant; ``EVERYBODY`` stands for all but the author."""
    found: dict[int, frozenset[str]] = {}
    for place, *names in marked:
        others = frozenset(people) - {messages[place].author}
        meant = others if names == [EVERYBODY] else frozenset(names)
        if not meant or not meant <= others:
            raise ValueError(f"message {place} goes to somebody who is not there, or to its own author")
        found[place] = meant
    return found


def _check(chat: AnnotatedChat) -> None:
    faults = [
        (chat.lang not in LANGUAGES, "an unknown language"),
        (not 2 <= len(set(chat.people)) == len(chat.people) <= MAX_PEOPLE, "too few or too many people, or one twice"),
        (not 2 <= len(chat.messages) <= MAX_MESSAGES, "too few or too many messages"),
        ({said.author for said in chat.messages} - set(chat.people), "an author who is not among the people"),
        (not all(said.text.strip() for said in chat.messages), "an empty message"),
        (not chat.summary.strip() or not chat.key, "no summary, or no key messages"),
        (set(chat.replies.values()) - set(INTENTS), "an unknown intent"),
        (0 in chat.replies, "the first message is no reply"),
        (
            not all(said.answers is None or 0 <= said.answers < place for place, said in enumerate(chat.messages)),
            "a message answers a later one",
        ),
    ]
    places = {*chat.key, *chat.asks, *chat.questions, *chat.commitments, *chat.dates, *chat.decisions, *chat.replies}
    faults.append((not all(0 <= place < len(chat.messages) for place in places), "a place that is no message's"))
    for fault, words in faults:
        if fault:
            raise ValueError(words)
