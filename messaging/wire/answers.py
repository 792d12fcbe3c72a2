"""An answer on its way: parts of it, joined, cut into frames of one size, in one of a few numbers.

What a relay sees of an answer is how many frames it had, a power of two, and when each came. Parts are protobuf ``Answer``s, each
after its length: text as the engine writes it, then the result with its receipt. Frames may overtake each other.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from messaging.wire.content import AnswerFrame
from messaging.wire.errors import MalformedField
from messaging.wire.limits import ANSWER_BUCKETS, FRAME_DATA
from messaging.wire.protobuf import assistant_pb2 as pb

MAX_ANSWER = ANSWER_BUCKETS[-1] * FRAME_DATA  # bytes of all parts of one answer, with their lengths
_LENGTH = 4  # bytes, big endian


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """Something of an answer: more ``text``, or at the end the ``result``, with a ``receipt`` for most of them."""

    text: str = field(default="", repr=False)
    result: bytes | None = field(default=None, repr=False)
    receipt: bytes | None = field(default=None, repr=False)

    def encode(self) -> bytes:
        """With its length before it."""
        part = pb.Answer(text=[self.text] if self.text else [], result=self.result, receipt=self.receipt)
        data = part.SerializeToString()
        return len(data).to_bytes(_LENGTH, "big") + data


def frames_for(sent: int, left: int) -> int:
    """How many frames an answer has in all, of which ``sent`` are out and ``left`` bytes still have to go.

    Raises:
        ValueError: more than any answer may have.
    """
    least = sent + max(1, -(-left // FRAME_DATA))
    for bucket in ANSWER_BUCKETS:
        if least <= bucket:
            return bucket
    raise ValueError("an answer is too large")


@dataclass(slots=True)
class FrameWriter:
    """Cuts one answer into frames. ``flush`` gives one frame now, whatever there is; ``finish`` all that are left."""

    request_id: bytes
    _index: int = 0
    _data: bytearray = field(default_factory=bytearray, repr=False)

    def write(self, part: AnswerPart) -> None:
        """Add a part."""
        self._data += part.encode()

    def flush(self) -> AnswerFrame:
        """The next frame of a stream: as much as there is, perhaps nothing; it looks like any other.

        Raises:
            ValueError: no frame would be left for the end of the answer.
        """
        frames_for(self._index + 1, len(self._data) - FRAME_DATA)
        return self._next(last=False)

    def finish(self, total: int = 0) -> Iterator[AnswerFrame]:
        """The rest, filled up to ``total`` frames or the next bucket.

        Raises:
            ValueError: more than any answer may have; nothing more is sent then.
        """
        total = max(total, self.total())
        while self._index < total:
            yield self._next(last=self._index == total - 1)

    @property
    def frames(self) -> int:
        """How many were given out."""
        return self._index

    def total(self, room: int = 0) -> int:
        """How many there will be, if at most ``room`` bytes more are written."""
        return frames_for(self._index, len(self._data) + room)

    def _next(self, *, last: bool) -> AnswerFrame:
        data = bytes(self._data[:FRAME_DATA])
        del self._data[:FRAME_DATA]
        frame = AnswerFrame(self.request_id, self._index, last, data)
        self._index += 1
        return frame


@dataclass(slots=True)
class FrameReader:
    """Joins the frames of one answer, in any order, each once. It never holds more than ``MAX_ANSWER`` bytes.

    The result is the last part. What comes behind the last frame is ignored. After an error the answer is lost.
    """

    _next: int = 0
    _early: dict[int, AnswerFrame] = field(default_factory=dict, repr=False)
    _data: bytearray = field(default_factory=bytearray, repr=False)
    _ended: bool = False
    _has_result: bool = False

    @property
    def ended(self) -> bool:
        """Whether the last frame has come, and all before it."""
        return self._ended

    def read(self, frame: AnswerFrame) -> list[AnswerPart]:
        """The parts that are whole now.

        Raises:
            MalformedField: parts that are none, parts behind the result, a part cut off at the end, or no result.
        """
        if frame.index < self._next or self._ended:
            return []
        self._early.setdefault(frame.index, frame)
        while not self._ended and (ready := self._early.pop(self._next, None)) is not None:
            self._data += ready.data
            self._next += 1
            self._ended = ready.last
        parts = list(self._whole())
        if self._ended:
            self._early.clear()
            if self._data or not self._has_result:
                raise MalformedField("answer")
        return parts

    def _whole(self) -> Iterable[AnswerPart]:
        while len(self._data) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._data[:_LENGTH], "big")
            if end > MAX_ANSWER:
                raise MalformedField("answer")
            if len(self._data) < end:
                return
            part = _part(bytes(self._data[_LENGTH:end]))
            del self._data[:end]
            if self._has_result or (part.result is None and part.receipt is not None):
                raise MalformedField("answer")
            self._has_result = part.result is not None
            yield part


def _part(data: bytes) -> AnswerPart:
    try:
        part = pb.Answer.FromString(data)
    except DecodeError:
        raise MalformedField("answer") from None
    return AnswerPart(
        "".join(part.text),
        part.result if part.HasField("result") else None,
        part.receipt if part.HasField("receipt") else None,
    )
