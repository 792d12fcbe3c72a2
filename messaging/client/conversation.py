"""A conversation as one member knows it: who is in it, and whose messages the assistant may have. No I/O.

Consent is each author's own and counts from its timestamp on: an earlier message is not shared by a later consent.
Where it is enforced is not here: an author who has not opted in never encrypts a message to the assistant.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self

from messaging.wire.content import ConsentUpdate, ConversationUpdate, MessageId, Scope
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import MASTER_KEY


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation. ``key`` (32 random bytes) names it; only its members, and the assistant they add, know it."""

    key: bytes = field(repr=False)
    title: str = field(repr=False)
    members: tuple[ServiceId, ...]
    consents: Mapping[tuple[ServiceId, ServiceId], ConsentUpdate] = field(
        default_factory=lambda: MappingProxyType({}), repr=False
    )

    @classmethod
    def create(cls, title: str, members: Iterable[ServiceId]) -> Self:
        """A new conversation with a fresh key."""
        return cls(secrets.token_bytes(MASTER_KEY), title, tuple(members))

    @classmethod
    def from_update(cls, update: ConversationUpdate) -> Self:
        """The conversation that a member told us of."""
        return cls(update.conversation, update.title, update.members)

    def as_update(self) -> ConversationUpdate:
        """What tells another member of it."""
        return ConversationUpdate(self.key, self.title, self.members)

    def others(self, than: ServiceId) -> tuple[ServiceId, ...]:
        """All members but ``than``: whom ``than`` writes to."""
        return tuple(member for member in self.members if member != than)

    def with_consent(self, author: ServiceId, update: ConsentUpdate) -> Self:
        """Note what ``author`` decided; of several decisions the one with the latest timestamp stands.

        Raises:
            ValueError: another conversation, or not a member: nobody else can decide for an author.
        """
        if update.conversation != self.key or author not in self.members:
            raise ValueError("consent of a stranger, or for another conversation")
        known = self.consents.get((author, update.assistant))
        if known is not None and known.timestamp >= update.timestamp:
            return self
        return replace(self, consents=MappingProxyType({**self.consents, (author, update.assistant): update}))

    def opted_in(self, assistant: ServiceId) -> frozenset[ServiceId]:
        """The authors who let ``assistant`` have their messages now."""
        return frozenset(
            author for (author, to), consent in self.consents.items() if to == assistant and consent.opted_in
        )

    def is_shared(self, message: MessageId, assistant: ServiceId) -> bool:
        """Whether the author of ``message`` had opted in when writing it, and still is."""
        consent = self.consents.get((message.author, assistant))
        return consent is not None and consent.opted_in and message.timestamp >= consent.timestamp

    def scope(self, messages: Iterable[MessageId], assistant: ServiceId, names: Mapping[ServiceId, str]) -> Scope:
        """What to ask ``assistant`` about: of messages that are not shared with it, it learns only the number."""
        seen = tuple(messages)
        shared = tuple(message for message in seen if self.is_shared(message, assistant))
        known = self.opted_in(assistant)
        return Scope(
            conversation=self.key,
            messages=shared,
            not_opted_in=len(seen) - len(shared),
            names={author: name for author, name in names.items() if author in known},
        )
