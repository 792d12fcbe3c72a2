"""Which calls to send to the worker now, and whom to blame when it ends: decisions alone, no I/O.

The worker answers in order, one call at a time, but sends its answers in batches. When it ends, the culprit is therefore
only known to be among the calls in flight. They become suspects and are repeated one at a time, before anything else, so
that a second end names its culprit. Repeating is safe because calls have no effect.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Call:
    """One request and the future of its reply."""

    call_id: int
    operation: str
    frame: bytes = field(repr=False)
    reply: asyncio.Future[list[object]] = field(repr=False)
    suspect: bool = False


class CallQueue:
    """All calls that await a reply, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Call] = deque()
        self._sent: dict[int, Call] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    @property
    def bytes_held(self) -> int:
        """The sum of all frames."""
        return self._bytes

    @property
    def awaits_reply(self) -> bool:
        """Whether any call is with the worker."""
        return bool(self._sent)

    def add(self, call: Call) -> None:
        """Append a call."""
        self._waiting.append(call)
        self._bytes += len(call.frame)

    def take_ready(self) -> list[Call]:
        """Return the calls to send now: all, or while there are suspects, one suspect if none is out."""
        ready: list[Call] = []
        while self._waiting and not self._suspect_is_out():
            call = self._waiting[0]
            if call.suspect and self._sent:
                break
            self._waiting.popleft()
            if call.reply.done():  # its caller was cancelled meanwhile
                self._bytes -= len(call.frame)
                continue
            self._sent[call.call_id] = call
            ready.append(call)
        return ready

    def take_answered(self, call_id: int) -> Call | None:
        """Remove and return the call that a reply belongs to; ``None`` if it is no longer waited for."""
        call = self._sent.pop(call_id, None)
        if call is not None:
            self._bytes -= len(call.frame)
        return call

    def worker_ended(self) -> Call | None:
        """Put back what was sent, as suspects; remove and return the call that was alone with the worker again."""
        culprit = next(iter(self._sent.values())) if self._suspect_is_out() else None
        if culprit is not None:
            self.take_answered(culprit.call_id)
        for call in self._sent.values():
            call.suspect = True
        self.put_back()
        return culprit

    def worker_hung(self) -> Call | None:
        """As :meth:`worker_ended`, but the oldest call has had its time and is removed in any case."""
        oldest = next(iter(self._sent), None)
        late = None if oldest is None else self.take_answered(oldest)
        self.worker_ended()
        return late

    def put_back(self) -> None:
        """The worker was replaced through no call's fault: send again what it had not answered."""
        self._waiting.extendleft(reversed(self._sent.values()))
        self._sent.clear()

    def take_all(self) -> list[Call]:
        """Remove and return everything: nobody will answer."""
        calls = [*self._sent.values(), *self._waiting]
        self._sent.clear()
        self._waiting.clear()
        self._bytes = 0
        return calls

    def _suspect_is_out(self) -> bool:
        return bool(self._sent) and next(iter(self._sent.values())).suspect
