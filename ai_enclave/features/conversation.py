"""A stretch of conversation, as a feature sees it: opaque ids and authors, and what the requester calls people."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``sent_at`` is milliseconds since 1970; ``kept`` has vectors of its units, by their texts, for the next time."""

    id: str
    author: str
    sent_at: int
    text: str = field(repr=False)
    kept: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Thread:
    """Messages in the order in which they were sent, and what the requester calls people, authors or not.

    ``members`` is how many the conversation has as the requester counts them, with those of whom nothing is here; 0 if that is not
    known, which is taken for a group.
    """

    messages: tuple[Message, ...]
    names: Mapping[str, str] = field(repr=False)
    members: int = 0
