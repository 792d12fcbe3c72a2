"""How the entries of an inbox stand in its store. What decides about them stands in front, so that it is read without the event.

Waiting: attempts (1 byte), whether the last one has begun and nothing is known of its end (1), when the event came (8 bytes,
milliseconds since 1970), id (16), conversation (16), event. Parked: attempts (1),
when it was parked (8), id (16), length of the reason (1), reason, event. An event is JSON, behind one byte for its codec.
"""

import struct
from dataclasses import dataclass, field

from messaging.client.bot.timers import TimerDue, decode_timer, encode_timer
from messaging.client.bot.turns import Waiting
from messaging.client.events import Event, decode_event, encode_event
from messaging.wire.consent import conversation_id

MAX_REASON = 100  # characters of the name of a type
ID = 16  # bytes

_WAITING = struct.Struct(">B?Q16s16s")
_PARKED = struct.Struct(">BQ16sB")
_TIMER, _EVENT = b"T", b"E"


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in the store. So many ``attempts`` were made, or ``begun``: then nothing is known of how the last one ended."""

    waiting: Waiting
    attempts: int
    begun: bool
    event: bytes = field(repr=False)


def encode(event: Event) -> bytes:
    """An event of any kind that is kept.

    Raises:
        ValueError: of a kind that is not.
    """
    if isinstance(event, TimerDue):
        return _TIMER + encode_timer(event)
    return _EVENT + encode_event(event)


def decode(data: bytes) -> Event:
    """Undo :func:`encode`."""
    return decode_timer(data[1:]) if data[:1] == _TIMER else decode_event(data[1:])


def id_of(event: Event) -> bytes:
    """The id as bytes."""
    return bytes.fromhex(event.id)


def waiting_for(number: int, event: Event, received_at: int) -> Waiting:
    """What is to be known of an event while it waits."""
    return Waiting(number, id_of(event), conversation_id(event.conversation)[:ID], received_at)


def write_waiting(waiting: Waiting, attempts: int, event: bytes, *, begun: bool = False) -> bytes:
    """The entry of a waiting event, which :func:`encode` wrote."""
    return _WAITING.pack(attempts, begun, waiting.received_at, waiting.id, waiting.conversation) + event


def read_waiting(number: int, entry: bytes) -> Entry:
    """Undo :func:`write_waiting`."""
    attempts, begun, received_at, event_id, conversation = _WAITING.unpack_from(entry)
    return Entry(Waiting(number, event_id, conversation, received_at), attempts, begun, entry[_WAITING.size :])


def write_parked(event_id: bytes, attempts: int, parked_at: int, reason: str, event: bytes) -> bytes:
    """The entry of a parked event."""
    named = reason.encode("ascii", "replace")[:MAX_REASON]
    return _PARKED.pack(attempts, parked_at, event_id, len(named)) + named + event


def read_parked_id(entry: bytes) -> bytes:
    """The id alone."""
    event_id: bytes = _PARKED.unpack_from(entry)[2]
    return event_id


def read_parked(entry: bytes) -> tuple[int, int, str, bytes]:
    """Undo :func:`write_parked`: attempts, when, reason, event."""
    attempts, parked_at, _, length = _PARKED.unpack_from(entry)
    start = _PARKED.size
    return attempts, parked_at, entry[start : start + length].decode("ascii"), entry[start + length :]
