"""No block has two owners, and none gets lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_enclave.engine.local.ledger import PADDING_BLOCK, Ledger


@given(st.lists(st.integers(-6, 6), max_size=40))
def test_every_block_is_free_or_has_one_owner(moves: list[int]) -> None:
    """Positive: take so many; negative: the owner of that place gives back."""
    ledger, owned = Ledger(10, 4), []
    for move in moves:
        if 0 <= move <= ledger.free:
            owned.append(ledger.take(move))
        elif move < 0 and -move <= len(owned):
            ledger.give(owned.pop(move))
        taken = [block for blocks in owned for block in blocks]
        assert len(set(taken)) == len(taken)
        assert len(taken) + ledger.free == 10
        assert PADDING_BLOCK not in taken


def test_gives_no_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="not free"):
        Ledger(3, 4).take(4)


def test_takes_back_only_what_was_taken_and_once() -> None:
    ledger = Ledger(3, 4)
    blocks = ledger.take(2)
    for wrong in ([99], [blocks[0], blocks[0]]):
        with pytest.raises(ValueError, match="not taken"):
            ledger.give(wrong)
    ledger.give(blocks)
    with pytest.raises(ValueError, match="not taken"):
        ledger.give(blocks)


def test_counts_begun_blocks_as_whole_ones() -> None:
    assert [Ledger(3, 4).needed(tokens) for tokens in (0, 1, 4, 5)] == [0, 1, 1, 2]
