"""Timers: things that a bot wants to be told of later, also after a restart. No I/O: ``Inbox`` keeps them."""

import hashlib
import heapq
import json
from dataclasses import dataclass, field
from typing import ClassVar

from messaging.client.events import Event
from messaging.wire.consent import conversation_id
from messaging.wire.identifiers import ServiceId
from messaging.wire.json import decode_base64, encode_base64

MAX_TIMERS = 10_000  # of one bot
MAX_TIMER_KEY = 64  # characters
MAX_TIMER_NAME = 64  # characters
MAX_TIMER_DATA = 4096  # characters

_TIMER = b"subrosa timer v1\x00"


@dataclass(frozen=True, slots=True)
class TimerDue(Event):
    """A time has come that this account set for itself; ``timestamp`` is when. ``key`` names the timer, ``name`` what is to be done.

    One that comes ``once`` does so whatever time is given when it is set again: its handler was interrupted, and is run once more.
    """

    kind: ClassVar[str] = "timer"
    key: str = field(repr=False)
    name: str = field(repr=False)
    data: str = field(default="", repr=False)
    once: bool = False

    @property
    def id(self) -> str:
        """As of any event, and two timers of the same millisecond are two."""
        named = f"once\n{self.key}" if self.once else f"{self.timestamp}\n{self.key}"
        return hashlib.sha256(_TIMER + conversation_id(self.conversation) + named.encode()).hexdigest()[:32]


def check_timer(timer: TimerDue) -> None:
    """See that it may be kept.

    Raises:
        ValueError: beyond a limit.
    """
    if not 1 <= len(timer.key) <= MAX_TIMER_KEY or not 1 <= len(timer.name) <= MAX_TIMER_NAME:
        raise ValueError(f"the key and the name of a timer have 1 to {MAX_TIMER_KEY} characters")
    if len(timer.data) > MAX_TIMER_DATA:
        raise ValueError(f"the data of a timer has at most {MAX_TIMER_DATA} characters: keep more elsewhere")


def encode_timer(timer: TimerDue) -> bytes:
    """For the store."""
    parts = [encode_base64(timer.conversation), str(timer.sender), timer.timestamp, timer.key, timer.name, timer.data]
    parts += [True] if timer.once else []
    return json.dumps(parts).encode()


def decode_timer(data: bytes) -> TimerDue:
    """Undo :func:`encode_timer`."""
    conversation, sender, timestamp, key, name, text, *once = json.loads(data)
    return TimerDue(decode_base64(conversation), ServiceId.parse(sender), timestamp, key, name, text, bool(once))


class Timers:
    """The timers that have not come yet."""

    def __init__(self) -> None:
        self._by_key: dict[str, TimerDue] = {}
        self._order: list[tuple[int, str]] = []  # a heap; an entry that is no timer's any more is passed over

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def all(self) -> list[TimerDue]:
        """In the order in which they come."""
        return sorted(self._by_key.values(), key=lambda timer: (timer.timestamp, timer.key))

    def put(self, timer: TimerDue) -> None:
        """Set one; another with the same key goes."""
        self._by_key[timer.key] = timer
        heapq.heappush(self._order, (timer.timestamp, timer.key))
        if len(self._order) > 2 * MAX_TIMERS:
            self._order = sorted((each.timestamp, each.key) for each in self._by_key.values())

    def remove(self, key: str) -> None:
        """Forget one."""
        self._by_key.pop(key, None)

    def next_at(self) -> int | None:
        """When the next one comes, milliseconds since 1970."""
        while self._order and not self._stands(*self._order[0]):
            heapq.heappop(self._order)
        return self._order[0][0] if self._order else None

    def due(self, now: int) -> list[TimerDue]:
        """Those whose time has come; they stay until they are removed."""
        return [timer for timer in self.all() if timer.timestamp <= now] if self._is_due(now) else []

    def _is_due(self, now: int) -> bool:
        at = self.next_at()
        return at is not None and at <= now

    def _stands(self, at: int, key: str) -> bool:
        timer = self._by_key.get(key)
        return timer is not None and timer.timestamp == at
