"""A conversation as one member knows it: who is in it, and what each author lets the assistant do. No I/O.

Consent is each author's own and counts from its timestamp on: an earlier message is not shared by a later consent. Where it
is enforced is not here: an author who has not opted in never encrypts a message to the assistant.

What members say arrives at each of them in another order. So which of two statements stands, or of two updates by members,
depends on what they say and who says it, and never on which came first.

Of two admins who change a conversation at the same time the one who stands earlier among the admins prevails, so that who has just
been removed by one who stands before them cannot undo that. Who leaves has left, whatever others change at that moment.
"""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self
from uuid import UUID

from messaging.wire.assistant import ConsentReference, Scope
from messaging.wire.consent import Consent, ConsentScope, SignedConsent, conversation_id, member_tag
from messaging.wire.content import ConversationUpdate, ListedBot, Roster
from messaging.wire.data import DataMessage, Deletion, Edit, Reaction, Said
from messaging.wire.identifiers import DeviceAddress, MessageId, ServiceId
from messaging.wire.limits import (
    MASTER_KEY,
    MAX_AUTHORS,
    MAX_BOTS,
    MAX_CONVERSATION_MEMBERS,
    MAX_EXPIRES_IN,
    MAX_REVISION,
    MAX_SCOPE,
)

MAX_STATEMENTS = 16  # of one author that are remembered: messages written under older ones are not shared any more
MAX_TITLE = 200  # characters; the rest of a longer one is cut
COMMAND = "/"  # begins a message that is meant for bots
MAX_REVISION_STEP = 10_000  # by which one update may be ahead of what is known: nobody uses revisions up at once
LEAVE_STEP = (
    100  # revisions that who leaves goes ahead: others may change so often before they hear of it, and it still counts
)
_DISTRIBUTION = b"subrosa distribution v1\x00"


class TooFarAhead(ValueError):
    """An update whose revision is far beyond the known one."""


class NotAdmin(ValueError):
    """A change by a member who may not make it, as far as is known: they may have become an admin meanwhile."""


@dataclass(frozen=True, slots=True, order=True)
class Precedence:
    """Of two updates the one with the greater one stands.

    That of the later revision; of the same one a change before what somebody who leaves knows. Where there were admins, or it names
    the first ones (``governed``), that of the admin, or member, who stood earlier then (``seniority``, from the end). Then a hash says.
    """

    revision: int
    stays: bool
    governed: bool
    seniority: int
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of consent: read, as it was signed, and the author's identity key (33 bytes) that it was verified with."""

    consent: Consent
    signed: SignedConsent = field(repr=False)
    identity_key: bytes = field(repr=False)

    @property
    def precedence(self) -> tuple[int, bool, bytes]:
        """The statement with the greatest one stands: the latest, and of the same millisecond one that says no."""
        return self.consent.timestamp, not self.consent.opted_in, self.signed.digest()


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation. ``key`` (32 random bytes) names it; only its members, and the assistants they add, know it.

    ``statements`` holds what each author said about the assistant, the one that stands last. ``admins`` may change who is in it and
    what it is; with none every member may. Messages are deleted ``expires_in`` seconds after they were read, with 0 never.

    ``revision`` is the latest that was heard of. The rest is how it came to be: ``standing`` is the precedence of the update that all
    this is from, but for who has ``left`` since, at which revision. ``admins_before`` are those of the state before, so that two who
    change it at the same time are judged alike by all; if there were none and there are now, ``members_before`` are its members.
    """

    key: bytes = field(repr=False)
    title: str = field(repr=False)
    members: tuple[ServiceId, ...]
    revision: int = 0
    admins: tuple[ServiceId, ...] = ()
    bots: tuple[ListedBot, ...] = ()
    expires_in: int = 0
    admins_before: tuple[ServiceId, ...] = field(default=(), compare=False)
    members_before: tuple[ServiceId, ...] = field(default=(), compare=False)
    left: Mapping[ServiceId, int] = field(default_factory=lambda: MappingProxyType({}), repr=False, compare=False)
    standing: Precedence = field(default=Precedence(-1, False, False, 0, b""), repr=False, compare=False)
    statements: Mapping[ServiceId, tuple[Statement, ...]] = field(
        default_factory=lambda: MappingProxyType({}), repr=False
    )

    def __post_init__(self) -> None:
        if self.standing.revision < 0:  # it is known by what it says alone
            object.__setattr__(self, "standing", self._precedence_by(None))

    @classmethod
    def create(
        cls,
        title: str,
        members: Iterable[ServiceId],
        *,
        admins: Iterable[ServiceId] = (),
        bots: Iterable[ListedBot] = (),
        key: bytes | None = None,
    ) -> Self:
        """A new conversation with a fresh key, or with one that nobody else can know; ``admins`` and ``bots`` that are not members are nobody.

        Raises:
            ValueError: too many members.
        """
        named = _members(members)
        listed = _of(named, admins)
        return cls(
            key or secrets.token_bytes(MASTER_KEY),
            title[:MAX_TITLE],
            named,
            admins=listed,
            bots=_listed(named, bots),
            admins_before=listed,
        )

    @classmethod
    def from_update(cls, update: ConversationUpdate, by: ServiceId | None = None) -> Self:
        """The conversation that a member told us of, who is believed as nothing else is known.

        Raises:
            ValueError: too many members.
        """
        members = _members(update.members)
        admins = _of(members, update.admins)
        told = cls(
            update.conversation,
            update.title[:MAX_TITLE],
            members,
            update.revision,
            admins,
            _listed(members, update.bots),
            update.expires_in,
            admins_before=admins,  # for all that is known: nobody else may change it at this revision
        )
        return replace(told, standing=told._precedence_by(by))

    @property
    def id(self) -> bytes:
        """32 bytes that name the conversation without giving its key away."""
        return conversation_id(self.key)

    def _precedence_by(self, author: ServiceId | None) -> Precedence:
        """Of this state, as ``author`` made it; ``None``: somebody whom all others believe."""
        judges, stays = self.admins_before or self.members_before, author is None or author in self.members
        return Precedence(self.revision, stays, bool(judges), _seniority(judges, author), self._digest())

    def _digest(self) -> bytes:
        parts = [self.title.encode(), *(member.to_bytes() for member in self.members)]
        if self.admins or self.bots or self.expires_in:  # or the hash is that of earlier versions
            parts += [b"", *(admin.to_bytes() for admin in self.admins), str(self.expires_in).encode()]
            parts += [bot.service_id.to_bytes() + bytes([bot.reads_all]) for bot in self.bots]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()

    def as_update(self) -> ConversationUpdate:
        """What tells another member of it."""
        return ConversationUpdate(
            self.key, self.title, self.members, self.revision, self.admins, self.bots, self.expires_in
        )

    def roster(self, identity_keys: Mapping[ServiceId, bytes]) -> Roster:
        """What tells the assistant who the members are, without naming them: those whose identity key is known."""
        known = [(member, identity_keys[member]) for member in self.members if member in identity_keys]
        return Roster(self.key, self.revision, frozenset(member_tag(self.key, *each) for each in known))

    def others(self, than: ServiceId) -> tuple[ServiceId, ...]:
        """All members but ``than``: whom ``than`` writes to."""
        return tuple(member for member in self.members if member != than)

    def distribution_id(self, sender: DeviceAddress) -> UUID:
        """What names the sender key of one device in this conversation."""
        return UUID(bytes=hashlib.sha256(_DISTRIBUTION + self.key + str(sender).encode()).digest()[:16], version=4)

    # --- who is in it, and what it is ---

    def may_change(self, member: ServiceId) -> bool:
        """Whether ``member`` may change the conversation."""
        return member in self.members and (not self.admins or member in self.admins)

    def changed(
        self,
        *,
        title: str | None = None,
        members: Iterable[ServiceId] | None = None,
        admins: Iterable[ServiceId] | None = None,
        bots: Iterable[ListedBot] | None = None,
        expires_in: int | None = None,
        by: ServiceId | None = None,
    ) -> Self:
        """The same conversation, changed ``by`` somebody, one revision on. Who is out is no admin and no bot of it any more.

        Raises:
            ValueError: too many members, no such time, or no revision is left.
        """
        if self.revision >= MAX_REVISION:
            raise ValueError("a conversation cannot be changed for ever")
        if expires_in is not None and not 0 <= expires_in <= MAX_EXPIRES_IN:
            raise ValueError("messages cannot be kept for such a time")
        named = self.members if members is None else _members(members)
        changed = replace(
            self,
            title=self.title if title is None else title[:MAX_TITLE],
            members=named,
            revision=self.revision + 1,
            admins=_of(named, self.admins if admins is None else admins),
            bots=_listed(named, self.bots if bots is None else bots),
            expires_in=self.expires_in if expires_in is None else expires_in,
            left=MappingProxyType({}),
        )._after(self.admins, self.members)
        return replace(changed, standing=changed._precedence_by(by))

    def _after(self, admins: tuple[ServiceId, ...], members: tuple[ServiceId, ...]) -> Self:
        """The same, after a state with these."""
        return replace(self, admins_before=admins, members_before=members if self.admins and not admins else ())

    def with_members(self, members: Iterable[ServiceId]) -> Self:
        """The same conversation with other members, one revision on. Raises as :meth:`changed`."""
        return self.changed(members=members)

    def without(self, member: ServiceId) -> Self:
        """The same conversation when ``member`` has left, ``LEAVE_STEP`` revisions on. If no admin is left, all may change it.

        Raises:
            ValueError: no revision is left.
        """
        if self.revision >= MAX_REVISION:
            raise ValueError("a conversation cannot be changed for ever")
        return self._without(member, min(self.revision + LEAVE_STEP, MAX_REVISION))

    def _without(self, member: ServiceId, revision: int) -> Self:
        others = self.others(member)
        return replace(
            self,
            members=others,
            admins=_of(others, self.admins),
            bots=_listed(others, self.bots),
            revision=max(self.revision, revision),
            left=MappingProxyType({**self.left, member: revision}),
        )

    def may_speak(self, author: ServiceId, revision: int) -> bool:
        """Whether an update of this revision by ``author`` may be news: by a member, or by who was one, or an admin, when it was made."""
        before = (self.admins_before or self.members_before) if revision == self.standing.revision else ()
        return author in self.members or author in before or revision <= self.left.get(author, -1)

    def with_update(self, author: ServiceId, update: ConversationUpdate) -> Self:
        """Note what a member says about the conversation; returns the same object if that is no news.

        Anybody may leave. If there are admins, other changes are theirs: of those that there are now, or were when the change
        was made.

        Raises:
            TooFarAhead: by more than ``MAX_REVISION_STEP``; see :meth:`caught_up`.
            NotAdmin: they may not change it, as far as is known.
            ValueError: another conversation, not a member, or beyond a limit.
        """
        if update.conversation != self.key or not self.may_speak(author, update.revision):
            raise ValueError("an update by a stranger, or of another conversation")
        told = Conversation.from_update(update)
        if author not in update.members:
            return self._with_leave(author, told)
        if update.revision < self.standing.revision:
            return self
        if not self._accepts(author, update.revision):
            if update == self.as_update():
                return self
            raise NotAdmin("a change by a member who is no admin")
        if update.revision > self.revision + MAX_REVISION_STEP:
            raise TooFarAhead("an update that is too far ahead")
        return self._as_told(author, told)

    def _with_leave(self, author: ServiceId, told: "Conversation") -> Self:
        """Who leaves takes nobody's change away: what they know is the state before, and counts less than any change to that."""
        if told.revision < self.standing.revision or self.left.get(author, -1) >= told.revision:
            return self  # they have been asked back since, or it is known
        revision = min(told.revision, self.revision + MAX_REVISION_STEP, MAX_REVISION)
        known = replace(told, revision=revision - LEAVE_STEP)
        believed = revision == told.revision and known.revision >= 0 and self._accepts(author, known.revision)
        return (self._as_told(author, known) if believed else self)._without(author, revision)

    def _as_told(self, author: ServiceId, told: "Conversation") -> Self:
        """What an author says who may, if it has precedence; without those who have left as late or later."""
        again = told.revision == self.standing.revision
        before = (self.admins_before, self.members_before or self.members) if again else (self.admins, self.members)
        told = told._after(*before)
        standing = told._precedence_by(author)
        if standing <= self.standing:
            return self
        left = {member: revision for member, revision in self.left.items() if revision >= told.revision}
        members = tuple(member for member in told.members if member not in left)
        return replace(
            self,
            title=told.title,
            members=members,
            revision=max(self.revision, told.revision),
            admins=_of(members, told.admins),
            bots=_listed(members, told.bots),
            expires_in=told.expires_in,
            admins_before=told.admins_before,
            members_before=told.members_before,
            left=MappingProxyType(left),
            standing=standing,
        )

    def _accepts(self, author: ServiceId, revision: int) -> bool:
        """Whether ``author`` might change it when an update of this revision was made."""
        judges = self.admins_before if revision == self.standing.revision else self.admins
        return not judges or author in judges

    def is_apart(self, author: ServiceId, revision: int) -> bool:
        """Whether ``author``, who has just been removed as an admin, has gone on without hearing of it, and others with them perhaps."""
        return author in self.admins_before and author not in self.admins and revision > self.revision

    def caught_up(self, revision: int = MAX_REVISION, *, by: ServiceId | None = None) -> Self:
        """The same state, said ``by`` somebody who may, at ``revision``, or as far ahead as one step goes.

        Who hears of a revision far beyond makes theirs greater and tells all: so those who have come apart, because somebody told one of
        them other things, meet again, and nobody can use all revisions up at once.
        """
        reached = min(revision, self.revision + MAX_REVISION_STEP, MAX_REVISION)
        caught_up = replace(self, revision=reached, left=MappingProxyType({}))._after(self.admins, self.members)
        return replace(caught_up, standing=caught_up._precedence_by(by))

    # --- what bots get ---

    def gets_all(self, member: ServiceId) -> bool:
        """Whether ``member`` gets all that is said: everybody but a bot that does not read all, among more than two."""
        bot = self.bot(member)
        return bot is None or bot.reads_all or len(self.members) <= 2

    def bot(self, member: ServiceId) -> ListedBot | None:
        """The entry of a member that is a bot."""
        return next((bot for bot in self.bots if bot.service_id == member), None)

    def with_unlisted_bots(self, bots: Iterable[ServiceId]) -> Self:
        """The same conversation as this device treats it: members that are bots, whoever has not said so, get what bots get."""
        unlisted = [ListedBot(each) for each in bots if each in self.members and self.bot(each) is None]
        return replace(self, bots=(*self.bots, *unlisted)) if unlisted else self

    def is_for(self, member: ServiceId, said: Said) -> bool:
        """Whether ``said`` is sent to ``member``: to a bot that does not read all, what is addressed to it.

        Addressed is a command ("/help"), what mentions the bot or answers it, a reaction to its message, a deletion, and between two
        members everything.
        """
        if self.gets_all(member):
            return True
        match said:
            case DataMessage():
                return _is_addressed(said, member)
            case Edit(_, message):
                return _is_addressed(message, member)
            case Reaction():
                return said.target.author == member
            case Deletion():
                return True

    # --- consent ---

    def with_statement(self, author: ServiceId, statement: Statement) -> Self:
        """Note what ``author`` decided; returns the same object if that is no news.

        The signature was verified before, with the identity key that is trusted now: statements under another one are dropped.

        Raises:
            ValueError: of another author or about another conversation, or by somebody who never was a member here: nobody
                else can decide for an author.
        """
        known = self.statements.get(author, ())
        said = statement.consent
        if (said.author, said.conversation_id) != (author, self.id) or not (known or author in self.members):
            raise ValueError("consent of a stranger, or for another conversation")
        kept = {each.signed.digest(): each for each in known if each.identity_key == statement.identity_key}
        kept[statement.signed.digest()] = statement
        mine = tuple(sorted(kept.values(), key=lambda each: each.precedence)[-MAX_STATEMENTS:])
        if mine == known:
            return self
        return replace(self, statements=MappingProxyType({**self.statements, author: mine}))

    def statement_of(self, author: ServiceId) -> Statement | None:
        """The statement of ``author`` that stands."""
        known = self.statements.get(author)
        return known[-1] if known else None

    def find_statement(self, reference: ConsentReference) -> Statement | None:
        """The statement that an answer refers to."""
        known = self.statements.get(reference.author, ())
        return next((each for each in known if each.signed.digest() == reference.digest), None)

    def has_opted_in(self, author: ServiceId, now: int) -> bool:
        """Whether ``author`` lets the assistant have their messages at ``now`` (milliseconds since 1970)."""
        latest = self.statement_of(author)
        return author in self.members and latest is not None and latest.consent.in_force(now)

    def opted_in(self, now: int) -> frozenset[ServiceId]:
        """The authors who let the assistant have their messages now."""
        return frozenset(author for author in self.members if self.has_opted_in(author, now))

    def is_shared(self, message: MessageId, scope: ConsentScope, now: int) -> bool:
        """Whether ``message`` was written under a consent for ``scope`` that still holds, and the latest one allows it too."""
        latest = self.statement_of(message.author)
        if latest is None or not latest.consent.in_force(now) or scope not in latest.consent.scopes:
            return False
        written = [
            each.consent for each in self.statements[message.author] if each.consent.timestamp <= message.timestamp
        ]
        return bool(written) and written[-1].covers(message.timestamp, scope) and written[-1].in_force(now)

    def scope(
        self, messages: Iterable[MessageId], purpose: ConsentScope, names: Mapping[ServiceId, str], now: int
    ) -> Scope:
        """What to ask the assistant about: of messages that are not shared with it, it learns only the number.

        Of more than ``MAX_SCOPE`` messages the latest are asked about, of at most ``MAX_AUTHORS`` authors.
        """
        seen = sorted(dict.fromkeys(messages), key=lambda message: (message.timestamp, message.author))
        shared = [message for message in seen if self.is_shared(message, purpose, now)]
        asked = shared[-MAX_SCOPE:]
        authors = list(dict.fromkeys(message.author for message in reversed(asked)))[:MAX_AUTHORS]
        asked = [message for message in asked if message.author in authors]
        known = [author for author in names if self.has_opted_in(author, now)]
        named = [*authors, *(author for author in known if author not in authors)][:MAX_AUTHORS]
        return Scope(
            conversation=self.key,
            messages=tuple(asked),
            not_opted_in=len(seen) - len(shared),
            not_asked=len(shared) - len(asked),
            names={author: names[author] for author in named if author in names},
        )


def _is_addressed(message: DataMessage, bot: ServiceId) -> bool:
    quoted = message.quote is not None and message.quote.message.author == bot
    return message.body.startswith(COMMAND) or quoted or any(mention.who == bot for mention in message.mentions)


def _seniority(judges: tuple[ServiceId, ...], author: ServiceId | None) -> int:
    """From the end, 0 for who is none of them. Nobody stands before whom all believe."""
    if author is None:
        return len(judges)
    return len(judges) - judges.index(author) if author in judges else 0


def _of(members: tuple[ServiceId, ...], named: Iterable[ServiceId]) -> tuple[ServiceId, ...]:
    return tuple(each for each in dict.fromkeys(named) if each in members)


def _listed(members: tuple[ServiceId, ...], bots: Iterable[ListedBot]) -> tuple[ListedBot, ...]:
    listed = {bot.service_id: bot for bot in bots if bot.service_id in members}
    if len(listed) > MAX_BOTS:
        raise ValueError("a conversation has too many bots")
    return tuple(listed.values())


def _members(members: Iterable[ServiceId]) -> tuple[ServiceId, ...]:
    """Each once, in the order in which they are named."""
    named = tuple(dict.fromkeys(members))
    if len(named) > MAX_CONVERSATION_MEMBERS:
        raise ValueError("a conversation has too many members")
    return named
