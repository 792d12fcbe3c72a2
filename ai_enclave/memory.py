"""What the enclave remembers: consented messages, in memory only, bounded by count, bytes and age.

Everything held belongs to one author in one conversation (``ai_enclave.share``): only whom that author counts among the members may
use it, see it or have it dropped. Who asks or tells something is an account under an identity key (``Member``): the same account under
another one has no part in it. What its author edits is used with its new text, and what they delete is gone and stays so. Where room is
short, those who take the most of it give way: no author can push out another who takes less. Nothing here reads a clock, a disk or a
network; there is no way to list more than a requester names. Times are milliseconds since 1970.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from ai_enclave.limits import (
    MAX_BYTES,
    MAX_BYTES_OF_AUTHOR,
    MAX_CONVERSATIONS,
    MAX_CONVERSATIONS_OF_AUTHOR,
    MAX_MESSAGES,
)
from ai_enclave.share import HeldMessage, Member, NotedConsent, Share
from messaging.wire.assistant import ConsentReference, RefusalCode
from messaging.wire.consent import ConsentScope
from messaging.wire.content import DataMessage, Deletion, Edit, Roster
from messaging.wire.identifiers import MessageId, ServiceId
from messaging.wire.limits import MAX_CONVERSATION_MEMBERS


class Denied(Exception):
    """Nothing of this conversation is for this requester; ``code`` says why."""

    def __init__(self, code: RefusalCode) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Recalled:
    """Messages that may be used, how many others were asked for, by reason, and whose consent the use rests on.

    ``not_opted_in`` counts what an author's consent or roster does not cover. It is the same for messages that are held and that are
    not, or not any more: nobody learns from it what exists. ``not_held`` counts the rest. ``consents`` names for each message the
    statement that its text was written under. ``members`` is how many members the conversation has by the requester's own roster; 0
    if there is none.
    """

    messages: tuple[HeldMessage, ...] = field(repr=False)
    not_opted_in: int
    not_held: int
    consents: tuple[ConsentReference, ...]
    members: int = 0


Shares = dict[ServiceId, Share]


class Memory:
    """The conversations of one enclave since its start."""

    def __init__(self) -> None:
        self._conversations: OrderedDict[bytes, Shares] = OrderedDict()  # the one that was silent longest first
        self._keys: dict[ServiceId, OrderedDict[bytes, None]] = {}  # conversations of an author; silent longest first
        self._bytes: Counter[ServiceId] = Counter()
        self._total = 0
        self._arrivals = count()

    @property
    def bytes_held(self) -> int:
        """What texts, statements and rosters are counted as, all together."""
        return self._total

    @property
    def conversations_held(self) -> int:
        """Of how many conversations anything is held."""
        return len(self._conversations)

    @property
    def messages_held(self) -> int:
        """How many messages are held."""
        return sum(len(share.messages) for shares in self._conversations.values() for share in shares.values())

    # --- what authors say ---

    def note_consent(self, author: Member, key: bytes, noted: NotedConsent, now: int) -> bool:
        """Remember what ``author`` decided, and drop what it no longer covers; says whether it is news.

        The signature was verified before, and that the statement is by this author about this conversation. Opting out is remembered
        of those, too, who were not opted in: an older statement may still be on its way.
        """
        shares = self._conversations.get(key, {})
        share = shares.get(author.service_id)
        if share is not None and share.author != author:
            self.forget_author(author.service_id)
            shares, share = self._conversations.get(key, {}), None
        if share is None:
            if len(shares) >= MAX_CONVERSATION_MEMBERS:
                return False
            self._enter(key, Share(author, [noted]))
            return True
        if noted.consent.timestamp <= share.latest.consent.timestamp:
            return False
        with self._counted(share):
            share.drop_old(now)
            share.take_statement(noted)
        self._heard(author.service_id, key)
        return True

    def note_roster(self, author: Member, roster: Roster) -> None:
        """Remember whom an author who has opted in counts among the members.

        The greatest revision stands; of two with the same one, that which came last: authors learn of other keys, and of other changes.
        """
        share = self._share(roster.conversation, author)
        if share is None or not share.latest.consent.opted_in or roster.revision < share.revision:
            return
        with self._counted(share):
            share.take_roster(roster, next(self._arrivals))
        self._heard(author.service_id, roster.conversation)

    def store(self, author: Member, message: DataMessage, now: int) -> bool:
        """Keep a message; says whether it is held now.

        It is not if it belongs to no conversation, if its author's statements do not cover it for any purpose, or if it was deleted.
        """
        key = message.conversation
        share = None if key is None else self._share(key, author)
        if key is None or share is None:
            return False
        with self._counted(share):
            share.drop_old(now)
            kept = share.take_message(message, now, next(self._arrivals))
        if kept is not None:
            self._heard(author.service_id, key)
        return message.timestamp in share.messages

    def edit(self, author: Member, edit: Edit, now: int) -> None:
        """Put another text in the place of a message of ``author``, as far as consent covers it; see ``Share.take_edit``."""
        key = edit.conversation
        share = None if key is None else self._share(key, author)
        if key is None or share is None:
            return
        with self._counted(share):
            share.drop_old(now)
            share.take_edit(edit, now)
        self._heard(author.service_id, key)

    def delete(self, author: Member, deletion: Deletion) -> None:
        """Drop a message of ``author``, and do not take it again for as long as anything is known of the author here."""
        key = deletion.conversation
        share = None if key is None else self._share(key, author)
        if key is None or share is None:
            return
        with self._counted(share):
            share.take_deletion(deletion.target)
        self._heard(author.service_id, key)

    # --- what requesters get ---

    def check_requester(self, requester: Member, key: bytes, scope: ConsentScope | None, now: int) -> None:
        """Check that ``requester`` has opted in here (for ``scope``, if one is needed) and is a member.

        Who is a member is for the others to say: all who have opted in, as far as the requester counts them as members in turn. So
        nobody who merely knows the key can have a member refused. Who is alone here asks about their own messages.

        Raises:
            Denied: they have not, or are not.
        """
        own = self._share(key, requester)
        if own is None or not own.in_force(now):
            raise Denied(RefusalCode.NOT_OPTED_IN)
        if scope is not None and scope not in own.latest.consent.scopes:
            raise Denied(RefusalCode.OUT_OF_SCOPE)
        shares, tag = self._conversations[key], requester.tag(key)
        others = [
            share for share in shares.values() if share is not own and share.revision >= 0 and share.in_force(now)
        ]
        if any(other.counts(tag) for other in others):
            return
        if any(own.revision < 0 or own.counts(other.author.tag(key)) for other in others):
            raise Denied(RefusalCode.NOT_A_MEMBER)

    def recall(
        self, requester: Member, key: bytes, wanted: Sequence[MessageId], scope: ConsentScope, now: int
    ) -> Recalled:
        """Those of the ``wanted`` messages that may be used for ``scope``, each once, in the order of their timestamps."""
        shares, tag = self._conversations.get(key, {}), requester.tag(key)
        asked = list(dict.fromkeys(wanted))
        for author in shares.keys() & {message.author for message in asked}:
            self._drop_old_of(shares[author], now)
        usable: list[HeldMessage] = []
        not_opted_in = 0
        for message in asked:
            share = shares.get(message.author)
            if share is None:
                continue  # that its author has opted in is the requester's word; here it is not held
            own, held = share.author == requester, share.messages.get(message.timestamp)
            # Decided without a look at what is held.
            if not share.opens(message.timestamp, scope, now) or not (own or share.counts(tag)):
                not_opted_in += 1
            elif held is not None and share.opens_held(held, scope, now) and (own or share.is_for(held, tag)):
                usable.append(held)
        return Recalled(
            tuple(sorted(usable, key=lambda held: (held.id.timestamp, held.id.author))),
            not_opted_in=not_opted_in,
            not_held=len(asked) - len(usable) - not_opted_in,
            consents=tuple(sorted({ConsentReference(held.id.author, held.text_under.digest) for held in usable})),
            members=0 if (mine := self._share(key, requester)) is None else len(mine.members),
        )

    def own_consent(self, author: Member, key: bytes) -> ConsentReference | None:
        """What names the latest statement of ``author``."""
        share = self._share(key, author)
        return None if share is None else ConsentReference(author.service_id, share.latest.digest)

    def opted_in(self, requester: Member, key: bytes, now: int) -> frozenset[ServiceId]:
        """The authors who have opted in and count ``requester`` among the members, and ``requester`` if they have."""
        return frozenset(share.author.service_id for share in self._open_to(requester, key) if share.in_force(now))

    def count_own(self, author: Member, key: bytes, now: int) -> int:
        """How many messages of ``author`` are held of a conversation."""
        share = self._share(key, author)
        if share is None:
            return 0
        self._drop_old_of(share, now)
        return len(share.messages)

    # --- forgetting ---

    def forget(self, author: Member, key: bytes | None) -> int:
        """Drop the messages of ``author`` in one conversation, or in all; returns how many there were. Consent stays."""
        keys = self._keys.get(author.service_id, ()) if key is None else [key]
        return sum(self._drop_all(share) for each in keys if (share := self._share(each, author)) is not None)

    def forget_whole(self, requester: Member, key: bytes) -> int:
        """Drop the messages of a conversation, of ``requester`` and of every author who counts them among the members.

        Returns how many there were. Consent stays.
        """
        return sum(self._drop_all(share) for share in self._open_to(requester, key))

    def forget_author(self, author: ServiceId) -> None:
        """Drop everything of an account, its statements too: somebody else has its number now."""
        for key in list(self._keys.get(author, ())):
            self._leave(author, key)

    def forget_old(self, now: int) -> None:
        """Drop every message that has been held for as long as it may be, or whose author's consent has expired."""
        for shares in self._conversations.values():
            for share in shares.values():
                self._drop_old_of(share, now)

    # --- inside ---

    def _share(self, key: bytes, author: Member) -> Share | None:
        share = self._conversations.get(key, {}).get(author.service_id)
        return share if share is not None and share.author == author else None

    def _open_to(self, requester: Member, key: bytes) -> list[Share]:
        tag = requester.tag(key)
        shares = self._conversations.get(key, {}).values()
        return [share for share in shares if share.author == requester or share.counts(tag)]

    def _drop_old_of(self, share: Share, now: int) -> None:
        before = share.size  # not by ``_counted``: this is called for every author of every conversation
        share.drop_old(now)
        if share.size != before:
            self._count(share.author.service_id, share.size - before)

    def _drop_all(self, share: Share) -> int:
        with self._counted(share):
            return share.drop_all()

    @contextmanager
    def _counted(self, share: Share) -> Iterator[None]:
        """Count what changes inside."""
        before = share.size
        yield
        self._count(share.author.service_id, share.size - before)

    def _count(self, author: ServiceId, more: int) -> None:
        self._total += more
        self._bytes[author] += more
        if not self._bytes[author]:
            del self._bytes[author]

    def _enter(self, key: bytes, share: Share) -> None:
        author = share.author.service_id
        self._conversations.setdefault(key, {})[author] = share
        self._keys.setdefault(author, OrderedDict())[key] = None
        self._count(author, share.size)
        if len(self._keys[author]) > MAX_CONVERSATIONS_OF_AUTHOR:
            self._leave(author, next(iter(self._keys[author])))
        if len(self._conversations) > MAX_CONVERSATIONS:
            self._close_one()
        self._heard(author, key)

    def _leave(self, author: ServiceId, key: bytes) -> None:
        shares, keys = self._conversations[key], self._keys[author]
        self._count(author, -shares.pop(author).size)
        del keys[key]
        if not shares:
            del self._conversations[key]
        if not keys:
            del self._keys[author]

    def _heard(self, author: ServiceId, key: bytes) -> None:
        """Neither the conversation nor its author was silent; and there may be too much now."""
        self._conversations.move_to_end(key)
        self._keys[author].move_to_end(key)
        shares = self._conversations[key]
        while sum(len(share.messages) for share in shares.values()) > MAX_MESSAGES:
            self._give_way(max(shares.values(), key=_room_taken))
        while self._bytes[author] > MAX_BYTES_OF_AUTHOR:
            self._shed(author)
        while self._total > MAX_BYTES:
            self._shed(max(self._bytes, key=self._bytes.__getitem__))

    def _give_way(self, share: Share) -> None:
        with self._counted(share):
            share.drop_oldest()

    def _shed(self, author: ServiceId) -> None:
        """Drop the author's oldest message; who has none loses the conversation in which they were silent longest."""
        shares = [self._conversations[key][author] for key in self._keys[author]]
        oldest = min((share for share in shares if share.messages), key=_first_arrival, default=None)
        if oldest is None:
            self._leave(author, next(iter(self._keys[author])))
        else:
            self._give_way(oldest)

    def _close_one(self) -> None:
        """A conversation counts as its first author's. Of who has most of them the one that was silent longest goes, consents too."""
        first = {key: next(iter(shares)) for key, shares in self._conversations.items()}
        most, _ = Counter(first.values()).most_common(1)[0]
        key = next(key for key, author in first.items() if author == most)
        for author in list(self._conversations[key]):
            self._leave(author, key)


def _first_arrival(share: Share) -> int:
    return 0 if share.oldest is None else share.oldest.arrival


def _room_taken(share: Share) -> tuple[int, int]:
    """By who has most messages; of two who have as many, by whose are older."""
    return len(share.messages), -_first_arrival(share)
