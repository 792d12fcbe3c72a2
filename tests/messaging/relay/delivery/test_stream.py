"""What a device is sent, and when an envelope is forgotten."""

from hypothesis import given
from hypothesis.strategies import DataObject, data, integers, lists

from messaging.relay.delivery.stream import (
    PAGE,
    Action,
    Answered,
    CountFailure,
    Delete,
    DeliveryStream,
    PageRead,
    Queued,
    ReadPage,
    Seen,
    SendEnvelope,
    SendQueueEmpty,
    StartAnew,
    Started,
)
from messaging.relay.messages.tables import StoredEnvelope


def envelopes(*sequences: int) -> list[StoredEnvelope]:
    return [StoredEnvelope(sequence, b"%d" % sequence) for sequence in sequences]


def test_an_empty_mailbox_is_said_to_be_empty_at_once() -> None:
    assert DeliveryStream().receive(Started(0)) == [SendQueueEmpty(1)]


def test_a_backlog_is_sent_in_order_and_then_said_to_be_all() -> None:
    stream = DeliveryStream(window=4, page=2)
    assert stream.receive(Started(2)) == [ReadPage(0, 2)]
    assert stream.receive(PageRead(envelopes(1, 2))) == [
        SendEnvelope(1, 1, b"1"),
        SendEnvelope(2, 2, b"2"),
        SendQueueEmpty(3),
    ]


def test_a_backlog_that_was_acknowledged_before_is_empty() -> None:
    stream = DeliveryStream()
    stream.receive(Started(9))
    assert stream.receive(PageRead([])) == [SendQueueEmpty(1)]


def test_the_queue_is_said_to_be_empty_only_once() -> None:
    stream = DeliveryStream()
    stream.receive(Started(0))
    stream.receive(Queued(1))
    assert stream.receive(PageRead(envelopes(1))) == [SendEnvelope(2, 1, b"1")]


def test_holds_back_beyond_the_window_until_an_acknowledgement() -> None:
    stream = DeliveryStream(window=1)
    stream.receive(Started(2))
    assert stream.receive(PageRead(envelopes(1))) == [SendEnvelope(1, 1, b"1")]
    assert stream.receive(Queued(3)) == []
    assert stream.receive(Answered(1, accepted=True)) == [Delete(1), ReadPage(1, 1)]


def test_what_the_device_does_not_accept_is_kept_and_frees_its_place() -> None:
    stream = DeliveryStream(window=1)
    stream.receive(Started(2))
    stream.receive(PageRead(envelopes(1)))
    assert stream.receive(Answered(1, accepted=False)) == [CountFailure(1), ReadPage(1, 1)]


def test_an_answer_to_nothing_is_ignored() -> None:
    stream = DeliveryStream()
    stream.receive(Started(1))
    stream.receive(PageRead(envelopes(1)))
    assert stream.receive(Answered(77, accepted=True)) == []
    assert stream.receive(Answered(1, accepted=True)) == [Delete(1)]
    assert stream.receive(Answered(1, accepted=True)) == []


def test_what_is_known_already_is_not_read_again() -> None:
    stream = DeliveryStream()
    stream.receive(Started(3))
    assert stream.receive(Queued(3)) == []
    stream.receive(PageRead(envelopes(1, 2, 3)))
    assert stream.receive(Queued(3)) == []


def test_what_arrives_while_a_page_is_read_is_read_next() -> None:
    stream = DeliveryStream()
    stream.receive(Started(1))
    assert stream.receive(Queued(2)) == []
    assert stream.receive(PageRead(envelopes(1)))[-1] == ReadPage(1, PAGE)


def test_a_notice_before_the_start_is_not_lost() -> None:
    stream = DeliveryStream()
    assert stream.receive(Queued(1)) == [ReadPage(0, PAGE)]
    assert stream.receive(Started(0)) == [SendQueueEmpty(1)]
    assert stream.receive(PageRead(envelopes(1))) == [SendEnvelope(2, 1, b"1")]


@given(
    data=data(),
    stored=lists(integers(1, 60), unique=True).map(sorted),
    later=integers(0, 20),
    window=integers(1, 9),
    page=integers(1, 9),
)
def test_any_mix_of_events_sends_each_envelope_once_in_order_within_the_window(
    data: DataObject, stored: list[int], later: int, window: int, page: int
) -> None:
    """A mailbox with gaps (acknowledged before, or expired), to which more is added while the device answers at will."""
    stream, mailbox = DeliveryStream(window, page), list(stored)
    waiting: dict[int, int] = {}
    sent: list[int] = []
    deleted: list[int] = []
    last = max(stored, default=0)
    pending: list[Action] = stream.receive(Started(last))
    empty_after: list[int] = []
    while pending or waiting or later:
        for action in pending[:1]:
            pending = pending[1:]
            match action:
                case ReadPage(after, limit):
                    found = [sequence for sequence in mailbox if sequence > after][:limit]
                    pending += stream.receive(PageRead(envelopes(*found)))
                case SendEnvelope(request_id, _, content):
                    assert request_id not in waiting
                    waiting[request_id] = int(content)
                    sent.append(int(content))
                    assert len(waiting) <= window
                case SendQueueEmpty():
                    empty_after.append(len(sent))
                case Delete(sequence):
                    deleted.append(sequence)
        if later and (not pending or data.draw(integers(0, 3)) == 0):
            later, last = later - 1, last + 1
            mailbox.append(last)
            pending += stream.receive(Queued(last))
        if waiting and not any(isinstance(action, SendEnvelope) for action in pending):
            request_id = data.draw(integers(0, len(waiting) - 1).map(sorted(waiting).__getitem__))
            del waiting[request_id]
            pending += stream.receive(Answered(request_id, accepted=True))
    assert sent == mailbox
    assert sorted(deleted) == mailbox
    assert len(empty_after) == 1
    assert empty_after[0] >= len(stored)


def test_a_look_at_the_database_is_as_good_as_a_notice() -> None:
    stream = DeliveryStream()
    stream.receive(Started(0))
    assert stream.receive(Seen(2)) == [ReadPage(0, PAGE)]


def test_a_look_that_a_push_has_overtaken_means_nothing() -> None:
    stream = DeliveryStream()
    stream.receive(Started(0))
    stream.receive(Queued(1, b"1"))
    assert stream.receive(Seen(0)) == []
    stream.receive(Queued(2, b"2"))
    assert stream.receive(Seen(1)) == []
    assert stream.receive(Seen(2)) == []


def test_who_stays_ahead_of_the_database_starts_anew() -> None:
    """As after a restored backup, or a notice that was wrong: else nothing would come until the mailbox is as far again."""
    stream = DeliveryStream()
    stream.receive(Started(10))
    stream.receive(PageRead([]))
    stream.receive(Queued(900))
    stream.receive(PageRead([]))
    assert stream.receive(Seen(12)) == []
    assert stream.receive(Seen(12)) == [StartAnew()]
