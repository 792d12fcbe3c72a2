"""A stretch of conversation, as a feature sees it: ids and authors are opaque, names are what the requester calls people."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``sent_at`` is milliseconds since 1970."""

    id: str
    author: str
    sent_at: int
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Thread:
    """Messages in the order in which they were sent, and what to call their authors."""

    messages: tuple[Message, ...]
    names: Mapping[str, str] = field(repr=False)

    def name_of(self, author: str) -> str:
        """What to call an author."""
        return self.names.get(author, "Someone")

    def addressee(self, author: str) -> str | None:
        """Whom ``author`` means by "you": known only between two people."""
        others = {message.author for message in self.messages} - {author}
        return self.name_of(others.pop()) if len(others) == 1 else None
