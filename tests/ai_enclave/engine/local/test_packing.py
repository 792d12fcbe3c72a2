"""A packed step says exactly what its pieces said, and fills up little."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_enclave.engine.local.ledger import PADDING_BLOCK
from ai_enclave.engine.local.packing import Piece, filled, pack

BLOCK = 4


def a_piece(start: int, count: int, first_block: int, *, samples: bool = True) -> Piece:
    blocks = list(range(first_block, first_block - (-(start + count) // BLOCK)))
    return Piece([1000 * first_block + place for place in range(count)], start, blocks, samples)


pieces = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9), st.booleans()), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(pieces)
def test_every_token_is_there_with_its_position_and_its_slot(drawn: list[tuple[int, int, bool]]) -> None:
    pieces = [
        a_piece(start, count, 1 + 20 * place, samples=samples) for place, (start, count, samples) in enumerate(drawn)
    ]
    packed = pack(pieces, BLOCK)
    tokens, positions, slots = packed.row[: 3 * packed.tokens].reshape(3, -1)
    expected = {
        (piece.tokens[place], at, piece.blocks[at // BLOCK] * BLOCK + at % BLOCK)
        for piece in pieces
        for place, at in enumerate(range(piece.start, piece.start + len(piece.tokens)))
    }
    assert set(zip(tokens.tolist(), positions.tolist(), slots.tolist(), strict=True)) == expected
    rows = packed.row[3 * packed.tokens :][: packed.samples]
    assert [int(tokens[row]) for row in rows] == [pieces[number].tokens[-1] for number in packed.order]
    assert sorted(packed.order) == [number for number, piece in enumerate(pieces) if piece.samples]


@settings(max_examples=150, deadline=None)
@given(pieces)
def test_a_group_reads_the_blocks_of_its_sequences_and_padding(drawn: list[tuple[int, int, bool]]) -> None:
    pieces = [a_piece(start, count, 1 + 20 * place) for place, (start, count, _) in enumerate(drawn)]
    packed = pack(pieces, BLOCK)
    tokens = packed.row[: packed.tokens]
    tables = packed.row[3 * packed.tokens + packed.samples :][: packed.table]
    row = place = 0
    for group in packed.groups:
        for _ in range(group.sequences):
            piece = pieces[(int(tokens[row]) // 1000 - 1) // 20]
            assert len(piece.tokens) == group.tokens
            assert (group.width == 0) == (piece.start == 0)
            table = tables[place : place + group.width].tolist()
            used = len(piece.blocks) if group.width else 0
            assert table == list(piece.blocks[:used]) + [PADDING_BLOCK] * (group.width - used)
            row, place = row + group.tokens, place + group.width
    assert (row, place) == (packed.tokens, packed.table)


def test_long_and_short_sequences_are_not_filled_up_to_one_length() -> None:
    pieces = [a_piece(4000, 1, 1), *(a_piece(40 + place, 1, 2000 + 20 * place) for place in range(20))]
    packed = pack(pieces, BLOCK)
    assert len(packed.groups) == 2
    really = sum(len(piece.blocks) for piece in pieces)
    assert packed.table <= 1.25 * really


def test_masks_stand_at_the_end_for_the_samples_that_have_one() -> None:
    free, bound = a_piece(8, 1, 1), Piece([7], 8, [9, 10, 11], samples=True, allowed=np.array([5, -1], np.int32))
    packed = pack([free, bound], BLOCK)
    [constrained] = packed.row[3 * packed.tokens + packed.samples :][: packed.constrained].tolist()
    assert packed.order[constrained] == 1
    assert packed.row[-2:].tolist() == [5, -1]


def test_rows_are_filled_up_to_a_few_numbers() -> None:
    assert [filled(rows) for rows in (0, 1, 2, 3, 5, 8, 9, 17, 33, 64, 65, 200)] == [
        1,
        1,
        2,
        4,
        8,
        8,
        16,
        24,
        40,
        64,
        128,
        256,
    ]
    assert len({filled(rows) for rows in range(1, 513)}) < 20
