"""The enclave remembers what its authors let it, within bounds, and nothing else."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_enclave import memory as memory_module
from ai_enclave.limits import MAX_AGE, MAX_CONVERSATIONS, MAX_MESSAGES
from ai_enclave.memory import Memory
from messaging.wire.content import ConsentUpdate, DataMessage, MessageId
from messaging.wire.identifiers import ServiceId

ANN, BOB, ASSISTANT = (ServiceId(uuid4()) for _ in range(3))
KEY = bytes(32)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def consent(opted_in: bool = True, at: int = 0, key: bytes = KEY) -> ConsentUpdate:
    return ConsentUpdate(key, ASSISTANT, opted_in, at)


def a_memory(*authors: ServiceId) -> Memory:
    memory = Memory()
    for author in authors:
        memory.note_consent(author, consent())
    return memory


def recalled(memory: Memory, *wanted: MessageId, now: datetime = NOW) -> list[str]:
    return [held.text for held in memory.recall(KEY, wanted, now)]


def test_keeps_what_an_author_who_opted_in_wrote() -> None:
    memory = a_memory(ANN)
    assert memory.store(ANN, DataMessage("hello", 1, KEY), NOW)
    assert recalled(memory, MessageId(ANN, 1)) == ["hello"]


def test_keeps_nothing_of_anybody_else() -> None:
    memory = a_memory(ANN)
    assert not memory.store(BOB, DataMessage("hello", 1, KEY), NOW)
    assert not memory.store(ANN, DataMessage("another conversation", 1, b"\x01" * 32), NOW)
    assert not memory.store(ANN, DataMessage("no conversation", 1), NOW)
    assert recalled(memory, MessageId(ANN, 1), MessageId(BOB, 1)) == []
    assert memory.bytes_held == 0


def test_consent_counts_from_its_time_on() -> None:
    memory = Memory()
    memory.note_consent(ANN, consent(at=100))
    assert not memory.store(ANN, DataMessage("before", 99, KEY), NOW)
    assert memory.store(ANN, DataMessage("after", 100, KEY), NOW)


def test_opting_out_drops_what_was_held_and_keeps_the_rest() -> None:
    memory = a_memory(ANN, BOB)
    memory.store(ANN, DataMessage("ann", 1, KEY), NOW)
    memory.store(BOB, DataMessage("bob", 2, KEY), NOW)
    memory.note_consent(ANN, consent(opted_in=False, at=10))
    assert recalled(memory, MessageId(ANN, 1), MessageId(BOB, 2)) == ["bob"]
    assert not memory.has_opted_in(ANN, KEY)
    assert not memory.store(ANN, DataMessage("later", 20, KEY), NOW)
    memory.note_consent(ANN, consent(opted_in=True, at=5))  # late, and older than the decision that stands
    assert not memory.has_opted_in(ANN, KEY)


def test_recalls_only_what_is_named_in_order_and_once() -> None:
    memory = a_memory(ANN)
    for at in (3, 1, 2):
        memory.store(ANN, DataMessage(str(at), at, KEY), NOW)
    assert recalled(memory, MessageId(ANN, 3), MessageId(ANN, 1), MessageId(ANN, 1), MessageId(BOB, 2)) == ["1", "3"]


def test_a_repeated_message_is_kept_once_and_first() -> None:
    memory = a_memory(ANN)
    assert memory.store(ANN, DataMessage("first", 1, KEY), NOW)
    assert memory.store(ANN, DataMessage("second", 1, KEY), NOW)
    assert recalled(memory, MessageId(ANN, 1)) == ["first"]
    assert memory.bytes_held == len("first")


def test_forgets_by_count_at_the_edge() -> None:
    memory = a_memory(ANN)
    for at in range(MAX_MESSAGES + 1):
        memory.store(ANN, DataMessage("x", at, KEY), NOW)
    held = memory.recall(KEY, [MessageId(ANN, at) for at in range(MAX_MESSAGES + 1)], NOW)
    assert [message.id.timestamp for message in held] == list(range(1, MAX_MESSAGES + 1))


def test_forgets_by_age_at_the_edge() -> None:
    memory = a_memory(ANN)
    memory.store(ANN, DataMessage("x", 1, KEY), NOW)
    assert recalled(memory, MessageId(ANN, 1), now=NOW + MAX_AGE - timedelta(seconds=1)) == ["x"]
    assert recalled(memory, MessageId(ANN, 1), now=NOW + MAX_AGE) == []
    assert memory.bytes_held == 0


def test_forgets_whole_conversations_beyond_their_number() -> None:
    memory = Memory()
    for number in range(MAX_CONVERSATIONS + 1):
        memory.note_consent(ANN, consent(key=number.to_bytes(32, "big")))
    assert not memory.has_opted_in(ANN, (0).to_bytes(32, "big"))
    assert memory.has_opted_in(ANN, (1).to_bytes(32, "big"))


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 5), st.sampled_from(["store", "in", "out"]), st.text(max_size=30)),
        max_size=60,
    )
)
def test_bytes_are_counted_right_and_bounded_whatever_happens(steps: list[tuple[int, int, str, str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_module, "MAX_BYTES", 64)
        memory = Memory()
        keys = [bytes([number]) * 32 for number in range(4)]
        for at, (conversation, author_number, what, text) in enumerate(steps):
            author, key = (ANN, BOB)[author_number % 2], keys[conversation]
            if what == "store":
                memory.store(author, DataMessage(text, at, key), NOW)
            else:
                memory.note_consent(author, consent(what == "in", at, key))
        everything = [MessageId(author, at) for author in (ANN, BOB) for at in range(len(steps))]
        held = [message for key in keys for message in memory.recall(key, everything, NOW)]
        assert memory.bytes_held == sum(message.size for message in held) <= 64
        assert all(
            memory.has_opted_in(message.id.author, key)
            for key in keys
            for message in memory.recall(key, everything, NOW)
        )
