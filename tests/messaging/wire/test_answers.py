"""Frames of one size, in one of a few numbers, carry an answer; they come back in any order, and a hostile one is bounded."""

from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis.strategies import DataObject, binary, data, integers, lists, permutations, sampled_from

from messaging.wire.answers import MAX_ANSWER, AnswerPart, FrameReader, FrameWriter, frames_for
from messaging.wire.content import AnswerFrame, decode_content, encode_content
from messaging.wire.errors import MalformedField
from messaging.wire.limits import ANSWER_BUCKETS, FRAME, FRAME_DATA, REQUEST_ID
from messaging.wire.protobuf import assistant_pb2 as pb
from tests.messaging.wire.strategies import answers, broken

ID = bytes(REQUEST_ID)
END = AnswerPart(result=b"result", receipt=b"receipt")
MOST = ANSWER_BUCKETS[-1]


def framed(parts: Iterable[AnswerPart]) -> list[AnswerFrame]:
    writer = FrameWriter(ID)
    for part in parts:
        writer.write(part)
    return list(writer.finish())


def cut(joined: bytes, frames: int = 1) -> list[AnswerFrame]:
    """Any bytes in frames, as a hostile enclave could send them."""
    return [
        AnswerFrame(ID, index, index == frames - 1, joined[index * FRAME_DATA : (index + 1) * FRAME_DATA])
        for index in range(frames)
    ]


def read(frames: Iterable[AnswerFrame], reader: FrameReader | None = None) -> list[AnswerPart]:
    reader = reader or FrameReader()
    return [part for frame in frames for part in reader.read(frame)]


def held(reader: FrameReader) -> int:
    return len(reader._data) + sum(len(frame.data) for frame in reader._early.values())


def part_of(size: int) -> AnswerPart:
    """A result that takes ``size`` bytes with the length before it."""
    for header in (3, 4, 5, 6):
        part = AnswerPart(result=bytes(size - 4 - header)) if size >= 4 + header else AnswerPart()
        if len(part.encode()) == size:
            return part
    raise AssertionError("no part has this size")


# --- what is sent ---


@given(parts=answers)
def test_parts_come_back_from_their_frames(parts: list[AnswerPart]) -> None:
    reader = FrameReader()
    assert read(framed(parts), reader) == parts
    assert reader.ended


@given(parts=answers, streamed=integers(0, 20))
def test_the_number_of_frames_is_a_bucket_whatever_was_streamed(parts: list[AnswerPart], streamed: int) -> None:
    writer, frames = FrameWriter(ID), []
    for at in range(max(streamed, len(parts))):
        if at < len(parts):
            writer.write(parts[at])
        if at < streamed:
            frames.append(writer.flush())
    announced = writer.total()
    frames += writer.finish()
    assert len(frames) == writer.frames == announced
    assert len(frames) in ANSWER_BUCKETS
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert [frame.last for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert read(frames) == parts


@given(parts=answers)
def test_all_frames_look_alike_also_the_empty_ones(parts: list[AnswerPart]) -> None:
    writer = FrameWriter(ID)
    empty = writer.flush()
    for part in parts:
        writer.write(part)
    frames = [empty, *writer.finish()]
    assert empty.data == b""
    assert {len(encode_content(frame)) for frame in frames} == {FRAME}
    assert [decode_content(encode_content(frame)) for frame in frames] == frames


@pytest.mark.parametrize(
    ("sent", "left", "total"),
    [
        (0, 0, 1),
        (0, 1, 1),
        (0, FRAME_DATA, 1),
        (0, FRAME_DATA + 1, 2),
        (0, 2 * FRAME_DATA + 1, 4),
        (1, 0, 2),
        (2, 0, 4),
        (3, FRAME_DATA, 4),
        (3, FRAME_DATA + 1, 8),
        (MOST - 1, FRAME_DATA, MOST),
        (0, MAX_ANSWER, MOST),
    ],
)
def test_an_answer_takes_the_smallest_bucket_that_holds_what_is_out_and_what_is_left(
    sent: int, left: int, total: int
) -> None:
    assert frames_for(sent, left) == total


@pytest.mark.parametrize(("sent", "left"), [(0, MAX_ANSWER + 1), (MOST, 0), (MOST - 1, FRAME_DATA + 1)])
def test_beyond_the_last_bucket_there_is_no_answer(sent: int, left: int) -> None:
    with pytest.raises(ValueError, match="too large"):
        frames_for(sent, left)


def test_buckets_are_powers_of_two_so_that_at_most_half_is_filling() -> None:
    assert ANSWER_BUCKETS[0] == 1
    assert all(large == 2 * small for small, large in pairwise(ANSWER_BUCKETS))


def test_the_largest_answer_fits_to_the_byte_and_a_larger_one_is_not_begun() -> None:
    largest = part_of(MAX_ANSWER)
    frames = framed([largest])
    assert len(frames) == MOST
    assert read(frames) == [largest]

    writer = FrameWriter(ID)
    writer.write(part_of(MAX_ANSWER + 1))
    with pytest.raises(ValueError, match="too large"):
        next(writer.finish())
    assert writer.frames == 0


def test_room_that_is_kept_for_a_receipt_is_filled_up() -> None:
    writer = FrameWriter(ID)
    writer.write(part_of(FRAME_DATA - 10))
    assert (writer.total(room=10), writer.total(room=11)) == (1, 2)
    assert len(list(writer.finish(total=2))) == 2


def test_a_stream_keeps_a_frame_for_its_end() -> None:
    writer = FrameWriter(ID)
    frames = [writer.flush() for _ in range(MOST - 1)]
    with pytest.raises(ValueError, match="too large"):
        writer.flush()
    writer.write(END)
    frames += writer.finish()
    assert len(frames) == MOST
    assert read(frames) == [END]


def test_a_stream_does_not_begin_a_frame_that_leaves_no_room_for_what_was_written() -> None:
    writer = FrameWriter(ID)
    for _ in range(MOST - 2):
        writer.flush()
    writer.write(part_of(2 * FRAME_DATA))
    writer.flush()
    with pytest.raises(ValueError, match="too large"):
        writer.flush()
    assert len(list(writer.finish())) == 1


# --- what is read ---


@given(parts=answers, data=data())
def test_frames_join_in_any_order_and_each_counts_once(parts: list[AnswerPart], data: DataObject) -> None:
    frames = framed(parts)
    again = data.draw(lists(sampled_from(frames), max_size=5))
    shuffled = data.draw(permutations(frames + again))
    reader = FrameReader()
    assert read(shuffled, reader) == parts
    assert reader.ended


def test_text_is_there_as_soon_as_its_frames_are() -> None:
    writer, reader = FrameWriter(ID), FrameReader()
    writer.write(AnswerPart("first"))
    assert reader.read(writer.flush()) == [AnswerPart("first")]
    assert reader.read(writer.flush()) == []
    writer.write(AnswerPart("second"))
    writer.write(END)
    last = list(writer.finish())
    assert read(reversed(last), reader) == [AnswerPart("second"), END]


def test_it_has_not_ended_while_a_frame_is_missing() -> None:
    frames, reader = framed([part_of(3 * FRAME_DATA)]), FrameReader()
    assert read([frames[3], frames[0], frames[2]], reader) == []
    assert not reader.ended
    assert len(reader.read(frames[1])) == 1
    assert reader.ended


def test_the_first_frame_of_an_index_counts() -> None:
    early, other = AnswerFrame(ID, 1, True, b""), AnswerFrame(ID, 1, True, b"other")
    first = AnswerFrame(ID, 0, False, END.encode())
    assert read([early, other, first]) == [END]


@pytest.mark.parametrize("late", [False, True])
def test_what_comes_behind_the_last_frame_is_ignored_in_any_order(late: bool) -> None:
    last, behind = AnswerFrame(ID, 0, True, END.encode()), AnswerFrame(ID, 1, True, END.encode())
    reader = FrameReader()
    assert read([last, behind] if late else [behind, last], reader) == [END]
    assert held(reader) == 0


@pytest.mark.parametrize("missing", [1, 4, 10])
def test_a_part_that_is_cut_off_at_the_end_is_malformed(missing: int) -> None:
    joined = AnswerPart("text").encode() + END.encode()
    with pytest.raises(MalformedField, match="answer"):
        read(cut(joined[:-missing]))


@pytest.mark.parametrize(
    "parts",
    [[], [AnswerPart("text")], [END, END], [END, AnswerPart("text")], [AnswerPart(receipt=b"receipt"), END]],
    ids=["nothing", "text alone", "two results", "text behind the result", "a receipt of nothing"],
)
def test_the_result_is_there_once_and_last(parts: list[AnswerPart]) -> None:
    with pytest.raises(MalformedField, match="answer"):
        read(framed(parts))


def test_a_result_needs_no_receipt() -> None:
    assert read(framed([AnswerPart(result=b"")])) == [AnswerPart(result=b"")]


def test_several_texts_in_one_part_are_one() -> None:
    part = pb.Answer(text=["one ", "", "text"], result=b"").SerializeToString()
    joined = len(part).to_bytes(4, "big") + part
    assert read(cut(joined)) == [AnswerPart("one text", b"")]


@given(joined=broken(answers.map(lambda parts: b"".join(part.encode() for part in parts))))
def test_other_bytes_are_parts_or_malformed(joined: bytes) -> None:
    frames = min(MOST, len(joined) // FRAME_DATA + 1)
    with suppress(MalformedField):
        assert read(cut(joined, frames))[-1].result is not None


@given(joined=binary(max_size=50))
def test_what_is_read_does_not_depend_on_where_the_frames_are_cut(joined: bytes) -> None:
    def outcome(frames: list[AnswerFrame]) -> list[AnswerPart] | None:
        with suppress(MalformedField):
            return read(frames)
        return None

    bytewise = [AnswerFrame(ID, at, at == len(joined) - 1, joined[at : at + 1]) for at in range(len(joined))]
    assert outcome(bytewise or cut(b"")) == outcome(cut(joined))


# --- what a hostile enclave can do ---


def test_early_frames_are_held_up_to_the_largest_answer_and_no_further() -> None:
    reader = FrameReader()
    early = [AnswerFrame(ID, index, False, bytes(FRAME_DATA)) for index in reversed(range(1, MOST))]
    for frame in early * 3:
        reader.read(frame)
        assert held(reader) <= MAX_ANSWER
    assert held(reader) == MAX_ANSWER - FRAME_DATA


def test_a_part_that_never_ends_is_held_up_to_the_largest_answer_and_no_further() -> None:
    endless = (MAX_ANSWER - 4).to_bytes(4, "big") + bytes(MAX_ANSWER - 5)
    reader = FrameReader()
    frames = cut(endless, MOST)
    for frame in frames[:-1]:
        assert reader.read(frame) == []
        assert held(reader) <= MAX_ANSWER
    with pytest.raises(MalformedField):
        reader.read(frames[-1])


def test_a_part_larger_than_any_answer_is_refused_by_its_length() -> None:
    with pytest.raises(MalformedField, match="answer"):
        FrameReader().read(AnswerFrame(ID, 0, False, (MAX_ANSWER - 3).to_bytes(4, "big")))


def test_content_has_no_text_in_its_repr() -> None:
    reader, writer, part = FrameReader(), FrameWriter(ID), AnswerPart("CANARY", b"CANARY", b"CANARY")
    writer.write(part)
    reader.read(AnswerFrame(ID, 1, False, b"CANARY"))
    assert "CANARY" not in repr((reader, writer, part, AnswerFrame(ID, 0, True, b"CANARY")))
