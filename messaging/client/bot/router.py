"""Which handler takes an event: the first one that matches, in the order in which they were defined. No I/O.

A handler for messages, edits and the like says of which it is; what nobody wants is over at once.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from messaging.client.bot.timers import TimerDue
from messaging.client.conversation import COMMAND
from messaging.client.events import (
    ConversationChanged,
    Event,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    MessagesRead,
    Reacted,
    TypingChanged,
)
from messaging.wire.identifiers import ServiceId

MAX_COMMAND = 32  # characters of a command's name

Handler = Callable[[Any], Awaitable[None]]

_COMMAND_NAME = re.compile(rf"[A-Za-z0-9_]{{1,{MAX_COMMAND}}}")
_CALL = re.compile(rf"{COMMAND}({_COMMAND_NAME.pattern})(?:@([\w-]{{1,64}}))?(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a match may depend on besides the event: who this is, and who is in the conversation now, if it is known.

    ``name`` is what follows ``@`` in a command that is for this bot alone.
    """

    me: ServiceId
    name: str
    members: Sequence[ServiceId] = ()
    bots: Sequence[ServiceId] = ()

    @property
    def private(self) -> bool:
        """Whether nobody else is there but one person."""
        return len(self.members) == 2


@dataclass(frozen=True, slots=True)
class Call:
    """A text that calls a command: ``/name arguments``, or ``/name@bot arguments``."""

    command: str
    addressee: str
    arguments: str = field(repr=False)


def read_call(text: str) -> Call | None:
    """The command that ``text`` calls; names are told apart without regard to case."""
    found = _CALL.match(text)
    if found is None:
        return None
    return Call(found[1].lower(), (found[2] or "").lower(), text[found.end() :].strip())


@dataclass(frozen=True, slots=True)
class OfMessages:
    """Of messages with these properties; ``None`` does not ask. ``pattern`` has to be found somewhere in the text."""

    pattern: re.Pattern[str] | None = None
    private: bool | None = None
    attachments: bool | None = None
    mentioned: bool | None = None
    from_bots: bool = False

    def match(self, event: Event, facts: Facts) -> "re.Match[str] | bool":
        """What was found, or whether it matches."""
        if not isinstance(event, MessageReceived) or (event.sender in facts.bots and not self.from_bots):
            return False
        asked = [
            (self.private, facts.private),
            (self.attachments, bool(event.attachments)),
            (self.mentioned, any(mention.who == facts.me for mention in event.mentions)),
        ]
        if any(wanted is not None and wanted is not is_so for wanted, is_so in asked):
            return False
        return True if self.pattern is None else self.pattern.search(event.text) or False


@dataclass(frozen=True, slots=True)
class OfCommands:
    """Of messages that call one of these commands."""

    names: tuple[str, ...]
    help: str = ""

    def match(self, event: Event, facts: Facts) -> "re.Match[str] | bool":
        """Whether it matches."""
        if not isinstance(event, MessageReceived) or event.sender in facts.bots:
            return False
        call = read_call(event.text)
        return call is not None and call.command in self.names


@dataclass(frozen=True, slots=True)
class OfKind:
    """Of events of one type; ``holds`` says of which of them."""

    kind: type[Event]
    holds: Callable[[Any, Facts], bool] = lambda _event, _facts: True

    def match(self, event: Event, facts: Facts) -> "re.Match[str] | bool":
        """Whether it matches."""
        return isinstance(event, self.kind) and self.holds(event, facts)


Wanted = OfMessages | OfCommands | OfKind


def others_changed(event: ConversationChanged, facts: Facts) -> bool:
    """Whether somebody else has come or gone."""
    return any(who != facts.me for who in (*event.joined, *event.left))


def has_joined(event: ConversationChanged, facts: Facts) -> bool:
    """Whether this account is in from now on."""
    return facts.me in event.joined


def has_left(event: ConversationChanged, facts: Facts) -> bool:
    """Whether this account is out from now on."""
    return facts.me in event.left


REACTIONS, EDITS, DELETIONS = OfKind(Reacted), OfKind(MessageEdited), OfKind(MessageDeleted)
MEMBERS, JOINED, LEFT = (OfKind(ConversationChanged, holds) for holds in (others_changed, has_joined, has_left))
CONVERSATIONS, READS, TYPING = OfKind(ConversationChanged), OfKind(MessagesRead), OfKind(TypingChanged)


def timers_named(name: str) -> OfKind:
    """Timers that were set under ``name``."""
    return OfKind(TimerDue, lambda event, _facts: event.name == name)


@dataclass(frozen=True, slots=True)
class Route:
    """A handler, and what it wants."""

    wanted: Wanted
    handler: Handler


@dataclass(frozen=True, slots=True)
class Found:
    """The handler of an event; the command that the event calls, and what the handler's pattern found."""

    handler: Handler
    call: Call | None = None
    match: "re.Match[str] | None" = field(default=None, repr=False)


class Router:
    """All handlers of a bot."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def add(self, wanted: Wanted, handler: Handler) -> None:
        """One more, behind all others.

        Raises:
            ValueError: another handler has one of these commands, or none can be called so.
        """
        if isinstance(wanted, OfCommands):
            self._check(wanted.names)
        self._routes.append(Route(wanted, handler))

    def handles(self, command: str) -> bool:
        """Whether a command has a handler."""
        return any(command in wanted.names for wanted in self.commands)

    @property
    def commands(self) -> list[OfCommands]:
        """All commands, in order."""
        return [route.wanted for route in self._routes if isinstance(route.wanted, OfCommands)]

    def find(self, event: Event, facts: Facts) -> Found | None:
        """Who takes it; nobody takes what this account wrote itself, or a command that is for another bot."""
        call = read_call(event.text) if isinstance(event, MessageReceived) else None
        if call is not None and call.addressee not in ("", facts.name.lower()):
            return None
        if event.sender == facts.me and not isinstance(event, ConversationChanged | TimerDue):
            return None
        for route in self._routes:
            found = route.wanted.match(event, facts)
            if found:
                match = found if isinstance(found, re.Match) else None
                return Found(route.handler, call if isinstance(route.wanted, OfCommands) else None, match)
        return None

    def _check(self, names: Sequence[str]) -> None:
        for name in names:
            if _COMMAND_NAME.fullmatch(name) is None:
                raise ValueError(
                    f"a command has 1 to {MAX_COMMAND} letters, digits and underscores, without the {COMMAND!r}: {name!r}"
                )
            if self.handles(name) or names.count(name) > 1:
                raise ValueError(f"the command {name!r} has a handler already")


def help_text(commands: Sequence[OfCommands]) -> str:
    """What the bot can do, a line for each command that has a text."""
    return "\n".join(f"{COMMAND}{each.names[0]}: {each.help}" for each in commands if each.help)
